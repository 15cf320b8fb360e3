package onnx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ichwatch/infer"
)

// Acceleration says which providers are tried besides the CPU, and how.
type Acceleration struct {
	// Order of preference. What stands behind the CPU is not tried.
	Order []string
	// Libraries are those of the providers, by file name, with their SHA-256 in
	// lower-case hex. One that is neither here nor known to this release is not
	// loaded.
	Libraries map[string]string
	// Engines is the folder of what providers compile; made where it is missing.
	Engines string
	// Prove tries a provider where it can do no harm: in a process of its own, see
	// Child.
	Prove func(context.Context, Trial) (Proof, error)
	// Log is told of every change; required.
	Log *slog.Logger

	open func(ctx context.Context, name string) (backend, Proof, error) // by tests
}

// State is how far a provider has come.
type State string

// The states.
const (
	Waiting  State = "waiting"   // for those before it
	Proving  State = "proving"   // being built, warmed and compared
	Serving  State = "serving"   // answers
	Standby  State = "standby"   // the CPU while another answers
	Refused  State = "refused"   // did not come into service; Reason says why
	TakenOut State = "taken out" // failed in service; Reason says how. Until the next start
)

// Level is one provider of a classifier, in the order of preference.
type Level struct {
	Provider string
	State    State
	Reason   string // for people; empty where there is none to give
	Since    time.Time
	Proof    Proof // of one that came into service
}

// chain is the providers of a classifier: the best one that is proven serves, the
// CPU until then and whenever that one fails.
type chain struct {
	model infer.ModelRef
	cpu   backend
	log   *slog.Logger

	mu      sync.Mutex
	current backend
	levels  []Level // the CPU last

	cancel  context.CancelFunc
	climbed chan struct{} // nothing more will come into service
}

func newChain(cpu backend, model infer.ModelRef) *chain {
	c := &chain{
		model: model, cpu: cpu, current: cpu, log: slog.New(slog.DiscardHandler), cancel: func() {}, climbed: make(chan struct{}),
		levels: []Level{{Provider: cpu.provider(), State: Serving, Since: time.Now()}},
	}
	close(c.climbed)
	return c
}

// serving is what the next slice is given to.
func (c *chain) serving() backend {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// Levels lists the providers that are wanted, the preferred first, the CPU last.
func (c *Classifier) Levels() []Level {
	c.chain.mu.Lock()
	defer c.chain.mu.Unlock()
	return slices.Clone(c.chain.levels)
}

// climb tries the providers in their order, beside what serves, until one is
// proven.
func (c *chain) climb(a *Acceleration, with *climber) {
	var order []string
	for _, name := range a.Order {
		if name == CPU {
			break
		}
		order = append(order, name)
	}
	if len(order) == 0 {
		return
	}
	open := with.open
	if a.open != nil {
		open = a.open
	}
	cpuLevel := c.levels[0]
	c.levels = nil
	for _, name := range order {
		c.levels = append(c.levels, Level{Provider: name, State: Waiting, Since: time.Now()})
	}
	c.levels = append(c.levels, cpuLevel)
	c.log = a.Log.With("model", c.model.String())
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.climbed = cancel, make(chan struct{})
	go func() {
		defer close(c.climbed)
		for _, name := range order {
			c.mark(name, Level{State: Proving})
			b, proof, err := open(ctx, name)
			if ctx.Err() != nil {
				if err == nil {
					_ = b.close() // nobody has used it
				}
				return
			}
			if err == nil {
				c.bringIn(b, proof)
				return
			}
			c.log.Warn("a provider does not come into service; the next one is tried", "provider", name, "err", err)
			c.mark(name, Level{State: Refused, Reason: err.Error()})
		}
	}()
}

// mark gives a level its state and what belongs to it.
func (c *chain) mark(name string, l Level) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(name, l)
}

func (c *chain) set(name string, l Level) {
	for i := range c.levels {
		if c.levels[i].Provider == name {
			l.Provider, l.Since = name, time.Now()
			c.levels[i] = l
		}
	}
}

func (c *chain) bringIn(b backend, proof Proof) {
	c.mu.Lock()
	c.current = b
	c.set(b.provider(), Level{State: Serving, Proof: proof})
	c.set(c.cpu.provider(), Level{State: Standby})
	c.mu.Unlock()
	c.log.Info("a provider is proven and answers from now on", "provider", b.provider(), "nodes", proof.Nodes, "slowest_run", proof.Slowest)
}

// takeOut lets the CPU go on where b serves. The backend is not closed: what hangs
// in it may still use it, and a session that failed is not to be touched.
func (c *chain) takeOut(b backend, why error) {
	c.mu.Lock()
	if c.current != b || b == c.cpu {
		c.mu.Unlock()
		return
	}
	c.current = c.cpu
	c.set(b.provider(), Level{State: TakenOut, Reason: why.Error()})
	c.set(c.cpu.provider(), Level{State: Serving})
	c.mu.Unlock()
	if failing, ok := b.(interface{ abandon(why error) }); ok {
		failing.abandon(why)
	}
	c.log.Error("a provider failed in service and is taken out until the next start; the CPU goes on", "provider", b.provider(), "err", why)
}

func (c *chain) close() error {
	c.cancel()
	<-c.climbed
	if b := c.serving(); b != c.cpu {
		return b.close()
	}
	return nil
}

// Distrust takes what serves out of service, unless it is the CPU, and reports
// whether it did.
func (c *Classifier) Distrust(why error) bool {
	b := c.chain.serving()
	if b == backend(c.cpu) {
		return false
	}
	c.chain.takeOut(b, why)
	return true
}

// Check holds what serves against the CPU on the golden inputs, as when it came
// into service. What differs, or fails, is taken out, and the error says why.
func (c *Classifier) Check(ctx context.Context) error {
	b := c.chain.serving()
	if b == backend(c.cpu) {
		return nil
	}
	inputs, err := goldenInputs(c.preprocess)
	if err != nil {
		return err
	}
	for i, input := range inputs {
		want, err := answerOf(ctx, c.cpu, input)
		if err != nil {
			return fmt.Errorf("check %s: the CPU: %w", c.model, err)
		}
		got, err := answerOf(ctx, b, input)
		if err == nil {
			err = compare(got, want)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrClosed):
			return err
		case err != nil:
			err = fmt.Errorf("golden input %d: %w", i, err)
			c.chain.takeOut(b, err)
			return fmt.Errorf("check %s on %s: %w", c.model, b.provider(), err)
		}
	}
	return nil
}

// answerOf gives the logits of an input.
func answerOf(ctx context.Context, b backend, input []float32) ([]float32, error) {
	j, err := b.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { b.release(j) }()
	copy(j.input, input)
	if err := compute(ctx, b, j); err != nil {
		return nil, err
	}
	return slices.Clone(j.logits), nil
}
