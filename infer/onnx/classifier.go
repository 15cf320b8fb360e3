package onnx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
	"ichwatch/infer/pixel"
)

var (
	// ErrClosed: the classifier was closed.
	ErrClosed = errors.New("the classifier is closed")
	// ErrNotFinite: the model's input or answer is no number. Never an outcome.
	ErrNotFinite = errors.New("not a finite number")
)

// Options of a classifier; the zero value suits an appliance without a GPU.
type Options struct {
	// Runners is how many slices are computed at once; 0: as many as cores.
	Runners int
	// Maps makes Explain possible, where the model has activation maps. Each run
	// computes them then.
	Maps bool
	// Features puts the input of the model's last layer into the scores. What runs
	// is a copy of the verified model with one more output; a model whose end is not
	// understood is refused (graph.HeadError).
	Features bool
	// Acceleration brings other providers than the CPU into service; nil: none.
	Acceleration *Acceleration
}

// Classifier is a model that runs. It implements infer.Classifier.
type Classifier struct {
	model      infer.ModelRef
	preprocess *pixel.Preprocessor
	activation manifest.Activation
	maps       ort.Shape // of the activation maps of one slice; nil where there are none

	cpu   *pool // always there: it judges the others, and answers where none of them does
	chain *chain
	close func() error
}

var _ infer.Classifier = (*Classifier)(nil)

// NewClassifier makes a session for the model of m on the CPU, runs it once and
// is then ready. Other providers come into service when they are proven. It keeps
// nothing of m beyond the time in which others are proven.
func (r *Runtime) NewClassifier(m *manifest.Manifest, o Options) (*Classifier, error) {
	if o.Runners <= 0 {
		o.Runners = runtime.GOMAXPROCS(0)
	}
	c := &Classifier{
		model:      m.Ref(),
		preprocess: pixel.NewPreprocessor(m),
		activation: m.Activation,
	}
	s, err := newSession(cpu, m, configuration{Options: o})
	if err != nil {
		return nil, err
	}
	if err := s.warmUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("model %s on %s: %w", c.model, s.provider, err), s.destroy())
	}
	if c.cpu, err = newPool(s, o.Runners); err != nil {
		return nil, err
	}
	c.maps = s.maps
	c.chain = newChain(c.cpu, c.model)
	if a := o.Acceleration; a != nil {
		kept := *m // whose bytes may be given back meanwhile
		c.chain.climb(a, &climber{Acceleration: a, runtime: r, manifest: &kept, options: o, preprocess: c.preprocess, cpu: c.cpu})
	}
	c.close = sync.OnceValue(func() error { return errors.Join(c.chain.close(), c.cpu.close()) })
	return c, nil
}

// Models says which model answers.
func (c *Classifier) Models() infer.Models { return infer.Models{c.model} }

// Provider says what computes it now.
func (c *Classifier) Provider() string { return c.chain.serving().provider() }

// Preprocessor gives the one in use, to map what the model says back onto the
// slice.
func (c *Classifier) Preprocessor() *pixel.Preprocessor { return c.preprocess }

// Classify scores one slice; it waits while all runners are busy. Its error wraps
// pixel.ErrNoHead, ErrNotFinite, ErrClosed, the context's, or is the runtime's.
//
// A provider that gives an error, does not come back, or gives no number where the
// CPU gives one, is taken out of service; the CPU computes the slice then, and
// those after it.
func (c *Classifier) Classify(ctx context.Context, img *infer.Image) (infer.Scores, error) {
	s, err := c.classify(ctx, img, nil)
	if err != nil {
		return infer.Scores{}, fmt.Errorf("classify with %s: %w", c.model, err)
	}
	return s, nil
}

// classify takes the activation maps too, where they are asked for.
func (c *Classifier) classify(ctx context.Context, img *infer.Image, maps *Maps) (infer.Scores, error) {
	b, j, err := c.acquire(ctx)
	if err != nil {
		return infer.Scores{}, err
	}
	defer func() { b.release(j) }()
	if err := c.preprocess.Input(img, j.input); err != nil {
		return infer.Scores{}, err
	}
	if i := notFinite(j.input); i >= 0 {
		return infer.Scores{}, fmt.Errorf("input value %d: %w", i, ErrNotFinite)
	}
	err = compute(ctx, b, j)
	if err != nil && b != backend(c.cpu) && ctx.Err() == nil {
		failed, why := b, err
		if !errors.Is(why, ErrNotFinite) {
			c.chain.takeOut(failed, why)
		}
		again, acquired := c.cpu.acquire(ctx)
		if acquired != nil {
			return infer.Scores{}, acquired
		}
		copy(again.input, j.input)
		b.release(j)
		b, j = c.cpu, again
		err = compute(ctx, b, j)
		if err == nil {
			c.chain.takeOut(failed, why) // it is not the model that has no number for this slice
		}
	}
	if err != nil {
		return infer.Scores{}, err
	}
	if maps != nil {
		maps.Values = slices.Clone(j.maps)
	}
	s := activate(c.activation, j.logits)
	s.Provider = b.provider()
	s.Features = slices.Clone(j.features)
	return s, nil
}

// acquire takes the memory of a slice from what serves.
func (c *Classifier) acquire(ctx context.Context) (backend, *job, error) {
	for {
		b := c.chain.serving()
		j, err := b.acquire(ctx)
		if errors.Is(err, errGone) {
			c.chain.takeOut(b, err)
			continue
		}
		return b, j, err
	}
}

// compute runs a backend and looks at what it says.
func compute(ctx context.Context, b backend, j *job) error {
	if err := b.run(ctx, j); err != nil {
		return err
	}
	return j.check()
}

// Close lets running slices end, turns away those that wait, and gives the
// model's memory back. It may be called more than once.
func (c *Classifier) Close() error { return c.close() }

// activate turns logits into scores, in memory of their own.
func activate(a manifest.Activation, logits []float32) infer.Scores {
	n := len(logits)
	memory := make([]float32, 2*n)
	s := infer.Scores{Logits: memory[:n:n], Probabilities: memory[n:]}
	copy(s.Logits, logits)
	if a == manifest.Sigmoid {
		for i, l := range logits {
			s.Probabilities[i] = float32(1 / (1 + math.Exp(-float64(l))))
		}
		return s
	}
	highest := float64(logits[0])
	for _, l := range logits {
		highest = max(highest, float64(l))
	}
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) - highest)
	}
	for i, l := range logits {
		s.Probabilities[i] = float32(math.Exp(float64(l)-highest) / sum)
	}
	return s
}
