package forward

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ichwatch/daemon/spool"
)

// Forwarder walks the legs to one destination. Zero durations mean the defaults
// named beside them.
type Forwarder struct {
	Spool       *spool.Spool
	Destination string        // its name in the spool
	NewSender   func() Sender // for one association
	Log         *slog.Logger  // nil discards

	// Associations is how many are open at a time at most; 0 is 1.
	Associations int

	// Transcode allows to send what the destination does not take in its transfer
	// syntax in Explicit VR Little Endian, decompressed. The senders must propose that.
	Transcode bool

	// Commit is true where the destination has to commit itself to what it has
	// stored before the leg is done; it is asked after Collect, together with
	// what was sent meanwhile. Package commit does that.
	Commit  bool
	Collect time.Duration

	Idle     time.Duration // after which an unused association is released; 10 s
	MinRetry time.Duration // wait after a first failure; 1 s
	MaxRetry time.Duration // longest wait; 1 min
	Grace    time.Duration // for the instances under way when Run's context ends; 5 s

	anew    atomic.Int64 // how often no association of before was to be used any more
	mu      sync.Mutex
	nudge   chan struct{}
	circuit *circuit
}

// TryNow ends the waiting after a failure, as if there had been none, and lets the
// order of legs be looked up anew: a person has mended or changed something. What
// is sent after it goes over associations that were opened after it: another one
// may have been negotiated before the destination was mended.
func (f *Forwarder) TryNow() {
	f.anew.Add(1)
	signal(f.nudges())
}

func (f *Forwarder) nudges() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nudge == nil {
		f.nudge = make(chan struct{}, 1)
	}
	return f.nudge
}

// state makes the circuit when it is first needed.
func (f *Forwarder) state() *circuit {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.circuit == nil {
		f.circuit = &circuit{
			log: f.logger(), changed: make(chan struct{}, 1),
			backoff: newBackoff(f.MinRetry, f.MaxRetry), alarmed: make(map[string]time.Time),
		}
	}
	return f.circuit
}

func (f *Forwarder) logger() *slog.Logger {
	if f.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return f.Log.With("destination", f.Destination)
}

// Status tells how it goes, at any time.
func (f *Forwarder) Status() Status {
	c := f.state()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Run forwards until ctx ends. Instances that are under way then have the time
// of Grace to get their answer.
func (f *Forwarder) Run(ctx context.Context) error {
	r := f.begin(ctx)
	defer r.cancel()
	var workers sync.WaitGroup
	for range max(f.Associations, 1) {
		w := &worker{run: r, sender: f.NewSender()}
		workers.Go(func() { w.work(ctx) })
	}
	r.dispatch(ctx)
	close(r.jobs)
	workers.Wait()
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
