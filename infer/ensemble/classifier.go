package ensemble

import (
	"context"
	"errors"
	"slices"
	"strings"

	"ichwatch/infer"
	"ichwatch/infer/onnx"
	"ichwatch/infer/pixel"
)

// Classifier is an ensemble that runs. It implements infer.Classifier.
type Classifier struct {
	models  infer.Models
	members []member
}

var _ infer.Classifier = (*Classifier)(nil)

// member is a model that runs.
type member struct {
	*onnx.Classifier
	at []int // where each class of the ensemble stands in its answer
}

// NewClassifier loads every member into the runtime. Where one does not load,
// none stays.
func (e *Ensemble) NewClassifier(r *onnx.Runtime, o onnx.Options) (*Classifier, error) {
	c := &Classifier{models: e.Models()}
	for _, m := range e.Members {
		running, err := r.NewClassifier(m, o)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		at := make([]int, len(e.Classes))
		for k, class := range e.Classes {
			at[k] = slices.Index(m.Classes, class)
		}
		c.members = append(c.members, member{running, at})
	}
	return c, nil
}

// Models names the members.
func (c *Classifier) Models() infer.Models { return slices.Clone(c.models) }

// Provider says what computes them.
func (c *Classifier) Provider() string {
	return each(c.members, func(m member) string { return m.Provider() })
}

// each joins what is said of members, once each.
func each[T any](of []T, say func(T) string) string {
	var said []string
	for _, one := range of {
		if s := say(one); !slices.Contains(said, s) {
			said = append(said, s)
		}
	}
	return strings.Join(said, "+")
}

// Levels says of every member how its providers are; see onnx.Classifier.Levels.
func (c *Classifier) Levels() []Levels {
	out := make([]Levels, len(c.members))
	for i, m := range c.members {
		out[i] = Levels{Model: c.models[i], Levels: m.Levels()}
	}
	return out
}

// Distrust takes every provider out of service but the CPU, and reports whether
// there was one.
func (c *Classifier) Distrust(why error) bool {
	taken := false
	for _, m := range c.members {
		taken = m.Distrust(why) || taken
	}
	return taken
}

// Levels is how the providers of a member are.
type Levels struct {
	Model  infer.ModelRef
	Levels []onnx.Level
}

// Check holds what serves against the CPU, and takes out of service what differs;
// see onnx.Classifier.Check.
func (c *Classifier) Check(ctx context.Context) error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.Check(ctx))
	}
	return errors.Join(errs...)
}

// Classify asks every member, one after the other: there are as many slices under
// way as there are cores. The first error is the slice's; it names the member.
// The scores are in the order of Ensemble.Classes.
func (c *Classifier) Classify(ctx context.Context, img *infer.Image) (infer.Scores, error) {
	answers := make([]infer.Scores, len(c.members))
	for i, m := range c.members {
		var err error
		if answers[i], err = m.Classify(ctx, img); err != nil {
			return infer.Scores{}, err
		}
	}
	return c.together(answers), nil
}

// Close closes every member.
func (c *Classifier) Close() error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.Classifier.Close())
	}
	return errors.Join(errs...)
}

// together gives the answer of all members. One alone keeps its own.
func (c *Classifier) together(answers []infer.Scores) infer.Scores {
	if len(answers) == 1 {
		return answers[0]
	}
	n := len(c.members[0].at)
	memory := make([]float32, 2*n)
	s := infer.Scores{Logits: memory[:n:n], Probabilities: memory[n:]}
	s.Provider = each(answers, func(a infer.Scores) string { return a.Provider })
	for k := range n {
		sum := 0.0
		for i, m := range c.members {
			sum += infer.LogOdds(float64(answers[i].Probabilities[m.at[k]]))
		}
		mean := sum / float64(len(c.members))
		s.Logits[k], s.Probabilities[k] = float32(mean), float32(infer.Probability(mean))
	}
	return s
}

// Explain is Classify with activation maps: see blend. Its error is
// onnx.ErrNoMaps where a member has none, since the others' would not explain the
// answer.
func (c *Classifier) Explain(ctx context.Context, img *infer.Image) (infer.Scores, *onnx.Maps, error) {
	answers := make([]infer.Scores, len(c.members))
	maps := make([]*onnx.Maps, len(c.members))
	for i, m := range c.members {
		var err error
		if answers[i], maps[i], err = m.Explain(ctx, img); err != nil {
			return infer.Scores{}, nil, err
		}
	}
	return c.together(answers), c.blend(maps), nil
}

// Square gives the part of the slice that the members see between them.
func (c *Classifier) Square(img *infer.Image) (pixel.Square, error) {
	squares := make([]pixel.Square, len(c.members))
	for i, m := range c.members {
		var err error
		if squares[i], err = m.Preprocessor().Square(img); err != nil {
			return pixel.Square{}, err
		}
	}
	return around(squares), nil
}
