package onnx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

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

// Options of a classifier; the zero value suits an appliance.
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
}

// Classifier is a model that runs. It implements infer.Classifier.
type Classifier struct {
	model      infer.ModelRef
	preprocess *pixel.Preprocessor
	activation manifest.Activation
	session    *session

	runners chan *runner  // those at rest
	count   int           // of all
	closed  chan struct{} // no new work from here on
	close   func() error
}

var _ infer.Classifier = (*Classifier)(nil)

// NewClassifier makes a session for the model of m on the CPU, runs it once and
// is then ready. It keeps nothing of m.
func (r *Runtime) NewClassifier(m *manifest.Manifest, o Options) (*Classifier, error) {
	if o.Runners <= 0 {
		o.Runners = runtime.GOMAXPROCS(0)
	}
	c := &Classifier{
		model:      m.Ref(),
		preprocess: pixel.NewPreprocessor(m),
		activation: m.Activation,
		runners:    make(chan *runner, o.Runners),
		closed:     make(chan struct{}),
	}
	c.close = sync.OnceValue(c.shutDown)
	var err error
	if c.session, err = newSession(cpu, m, o); err != nil {
		return nil, err
	}
	if err := c.session.warmUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("model %s on %s: %w", c.model, c.session.provider, err), c.Close())
	}
	for range o.Runners {
		r, err := c.session.newRunner()
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.runners <- r
		c.count++
	}
	return c, nil
}

// Models says which model answers.
func (c *Classifier) Models() infer.Models { return infer.Models{c.model} }

// Provider says what computes it.
func (c *Classifier) Provider() string { return c.session.provider }

// Preprocessor gives the one in use, to map what the model says back onto the
// slice.
func (c *Classifier) Preprocessor() *pixel.Preprocessor { return c.preprocess }

// Classify scores one slice; it waits while all runners are busy. Its error wraps
// pixel.ErrNoHead, ErrNotFinite, ErrClosed, the context's, or is the runtime's.
func (c *Classifier) Classify(ctx context.Context, img *infer.Image) (infer.Scores, error) {
	s, err := c.classify(ctx, img, nil)
	if err != nil {
		return infer.Scores{}, fmt.Errorf("classify with %s: %w", c.model, err)
	}
	return s, nil
}

// classify takes the activation maps too, where they are asked for.
func (c *Classifier) classify(ctx context.Context, img *infer.Image, maps *Maps) (infer.Scores, error) {
	r, err := c.acquire(ctx)
	if err != nil {
		return infer.Scores{}, err
	}
	defer func() { c.runners <- r }()
	if err := c.preprocess.Input(img, r.input); err != nil {
		return infer.Scores{}, err
	}
	if i := notFinite(r.input); i >= 0 {
		return infer.Scores{}, fmt.Errorf("input value %d: %w", i, ErrNotFinite)
	}
	if err := r.run(ctx, c.session); err != nil {
		return infer.Scores{}, err
	}
	if i := notFinite(r.logits); i >= 0 {
		return infer.Scores{}, fmt.Errorf("logit %d: %w", i, ErrNotFinite)
	}
	if maps != nil {
		if i := notFinite(r.maps); i >= 0 {
			return infer.Scores{}, fmt.Errorf("activation map value %d: %w", i, ErrNotFinite)
		}
		maps.Values = slices.Clone(r.maps)
	}
	if i := notFinite(r.features); i >= 0 {
		return infer.Scores{}, fmt.Errorf("feature %d: %w", i, ErrNotFinite)
	}
	s := activate(c.activation, r.logits)
	s.Features = slices.Clone(r.features)
	return s, nil
}

// acquire takes a runner that rests.
func (c *Classifier) acquire(ctx context.Context) (*runner, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-c.closed:
		return nil, ErrClosed
	default:
	}
	select {
	case r := <-c.runners:
		return r, nil
	case <-c.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Close lets running slices end, turns away those that wait, and gives the
// model's memory back. It may be called more than once.
func (c *Classifier) Close() error { return c.close() }

func (c *Classifier) shutDown() error {
	close(c.closed)
	var errs []error
	for range c.count { // a runner that works comes back first
		errs = append(errs, (<-c.runners).destroy())
	}
	errs = append(errs, c.session.destroy())
	return errors.Join(errs...)
}

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
