package forward

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ichwatch/daemon/spool"
)

// batch is how many legs are looked up at a time, and fresh for how long their
// order holds: it may change at any moment, for an alert makes a study urgent.
const (
	batch = 16
	fresh = time.Second
)

// run is the state of one Run: who hands legs to the associations.
type run struct {
	*Forwarder
	log     *slog.Logger
	circuit *circuit
	sending context.Context // outlives Run's context by Grace
	cancel  context.CancelFunc

	dialling sync.Mutex // held by the worker that opens an association

	jobs     chan spool.Leg
	finished chan struct{} // signalled after each leg

	mu        sync.Mutex
	underWay  map[int64]bool // legs
	connected int            // workers with an association

	// unrecorded are legs that the destination has confirmed and the ledger would
	// not take: the disk is read-only or fails. They are not walked again, and hold
	// up no other.
	unrecorded map[int64]func() error
}

func (f *Forwarder) begin(ctx context.Context) *run {
	r := &run{
		Forwarder: f, circuit: f.state(), log: f.logger(),
		jobs: make(chan spool.Leg), finished: make(chan struct{}, 1), underWay: make(map[int64]bool), unrecorded: make(map[int64]func() error),
	}
	r.sending, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		select {
		case <-time.After(orDefault(f.Grace, 5*time.Second)):
			r.cancel()
		case <-r.sending.Done():
		}
	})
	return r
}

// dispatch hands out what is due until ctx ends.
func (r *run) dispatch(ctx context.Context) {
	prober := r.NewSender()
	for ctx.Err() == nil {
		state, until := r.circuit.look()
		switch {
		case state == open && time.Until(until) > 0:
			r.wait(ctx, time.Until(until))
			continue
		case state == open:
			if err := prober.Probe(r.sending); err != nil {
				r.unreachable(ctx, err)
			} else {
				r.anew.Add(1) // what answers may not be what has failed
				r.circuit.greeted()
			}
			continue
		case state == halfOpen && r.working() > 0:
			r.rest(ctx, -1)
			continue
		}
		now := time.Now()
		legs, err := r.due(ctx, now)
		if err != nil {
			r.localFault(ctx, "legs cannot be looked up, or instances that the destination has cannot be recorded as sent; trying again; look at the disk", err)
			continue
		}
		if len(legs) == 0 {
			r.restUntilDue(ctx, now)
			continue
		}
		if state == halfOpen {
			legs = legs[:1]
		}
		r.hand(ctx, legs, now)
	}
}

// due looks up what is due and not under way. What could not be recorded before is
// recorded with that; where one cannot be still, the others are not tried.
func (r *run) due(ctx context.Context, now time.Time) (walk []spool.Leg, err error) {
	r.mu.Lock()
	defer r.mu.Unlock() // lest one ends between looking it up and leaving it out
	legs, err := r.Spool.DueLegs(ctx, r.Destination, now, batch+len(r.underWay)+len(r.unrecorded))
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	for _, leg := range legs {
		record, confirmed := r.unrecorded[leg.ID]
		switch {
		case r.underWay[leg.ID]:
		case !confirmed:
			walk = append(walk, leg)
		case err == nil:
			if err = record(); err == nil {
				delete(r.unrecorded, leg.ID)
			}
		}
	}
	if len(walk) > 0 {
		return walk, nil
	}
	return nil, err
}

// hand gives out legs as long as their order holds.
func (r *run) hand(ctx context.Context, legs []spool.Leg, looked time.Time) {
	stale := time.NewTimer(time.Until(looked.Add(fresh)))
	defer stale.Stop()
	for _, leg := range legs {
		r.begun(leg.ID)
		select {
		case r.jobs <- leg:
			continue
		case <-ctx.Done():
		case <-stale.C:
		case <-r.circuit.changed:
		case <-r.nudges():
			r.circuit.retry()
		}
		r.ended(leg.ID)
		return
	}
}

func (r *run) begun(leg int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.underWay[leg] = true
}

func (r *run) ended(leg int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.underWay, leg)
	signal(r.finished)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting to be seen already
	}
}

func (r *run) working() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.underWay)
}

// restUntilDue waits for work: a new leg, one that comes back, or one whose time
// comes.
func (r *run) restUntilDue(ctx context.Context, looked time.Time) {
	next, ok, err := r.Spool.NextLegDue(ctx, r.Destination, looked)
	switch {
	case err != nil:
		r.localFault(ctx, "cannot read the ledger; trying again", err)
	case ok:
		r.rest(ctx, max(0, time.Until(next)))
	default:
		r.rest(ctx, -1)
	}
}

// rest waits until something may be to be done, or for so long where that is not
// negative.
func (r *run) rest(ctx context.Context, d time.Duration) {
	var over <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-ctx.Done():
	case <-over:
	case <-r.finished:
	case <-r.circuit.changed:
	case <-r.nudges():
		r.circuit.retry()
	case <-r.Spool.LegsAdded(r.Destination):
	}
}

// wait waits until the destination may be asked again. An answer that comes late,
// over an association that was open still, ends it too, and so does TryNow.
func (r *run) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-r.circuit.changed:
	case <-r.nudges():
		r.circuit.retry()
	}
}

// unreachable notes that no association could be had. Nothing was said of any
// instance: the legs are as they were.
func (r *run) unreachable(ctx context.Context, err error) {
	if ctx.Err() == nil {
		r.circuit.failed(ctx, "the destination takes no instances; they are kept and tried again", err, true)
	}
}

// localFault tells of what is wrong here and not there, and waits a little.
func (r *run) localFault(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	r.circuit.alarm(ctx, what, what, "err", err)
	t := time.NewTimer(orDefault(r.MinRetry, time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
