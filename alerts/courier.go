package alerts

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Courier takes entries from an outbox to a publisher until each is confirmed.
//
// Within a key the order of the outbox is kept: the next entry leaves when the
// one before it is confirmed. Between keys nothing waits: a key whose entry
// fails is held back alone, for a time that doubles from MinRetry to MaxRetry
// (less up to a quarter, by chance), and is never given up.
type Courier struct {
	Outbox    Outbox
	Publisher Publisher
	Log       *slog.Logger // required; sees entry ids, keys and attempts, never a payload

	Parallel int              // keys in flight at a time; default 8
	MinRetry time.Duration    // default 1 s
	MaxRetry time.Duration    // default 30 s
	Poll     time.Duration    // how often the outbox is looked at without a signal; default MinRetry
	Now      func() time.Time // default time.Now
}

// Run carries messages until ctx ends, then waits for those in flight and
// returns nil. What was confirmed is recorded even then. Errors of the outbox
// are logged and tried again: a courier that stopped would be a silent one.
func (c *Courier) Run(ctx context.Context) error {
	r := courierRun{Courier: c, busy: make(map[string]bool), idle: make(chan string)}
	defer r.workers.Wait()

	poll := time.NewTicker(r.poll())
	defer poll.Stop()
	for {
		r.dispatch(ctx)
		select {
		case <-ctx.Done():
			return nil
		case key := <-r.idle:
			delete(r.busy, key)
		case <-c.Outbox.MessagesAdded():
		case <-poll.C:
		}
	}
}

// courierRun is the state of one Run.
type courierRun struct {
	*Courier
	workers sync.WaitGroup
	busy    map[string]bool // keys in flight
	idle    chan string     // keys that are in flight no more
}

// dispatch starts a worker for every due key that has none, as far as Parallel allows.
func (r *courierRun) dispatch(ctx context.Context) {
	parallel := orDefault(r.Parallel, 8)
	if len(r.busy) >= parallel || ctx.Err() != nil {
		return
	}
	// Busy keys are still pending: room for all of them leaves room for each free worker.
	entries, err := r.Outbox.PendingMessages(ctx, r.now(), parallel)
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Error("cannot read the outbox; trying again", "err", err)
		}
		return
	}
	for _, e := range entries {
		if r.busy[e.Key] || len(r.busy) >= parallel {
			continue
		}
		r.busy[e.Key] = true
		r.workers.Go(func() {
			r.deliver(ctx, e)
			select {
			case r.idle <- e.Key:
			case <-ctx.Done():
			}
		})
	}
}

// deliver makes one attempt at e and records what came of it.
func (r *courierRun) deliver(ctx context.Context, e Entry) {
	log := r.Log.With("entry", e.ID, "topic", e.Topic, "study", e.Key)
	err := r.Publisher.Publish(ctx, e)
	if err != nil && ctx.Err() != nil {
		return // stopped, not failed; the entry stays as it is
	}
	// The broker has answered: record it even when told to stop just now.
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err != nil {
		wait := r.retryAfter(e.Attempts)
		// One line for each message and attempt would bury the alarm that the
		// publisher raises; what waits, and why, is in the outbox.
		log.Debug("message not delivered; trying again", "attempt", e.Attempts+1, "after", wait, "err", err)
		err = r.Outbox.MessageFailed(record, e.ID, err.Error(), r.now().Add(wait))
	} else {
		log.Debug("message delivered", "attempt", e.Attempts+1)
		err = r.Outbox.MessageDelivered(record, e.ID, r.now())
	}
	if err != nil {
		// The entry is still due. Without a pause it would be sent over and over.
		log.Error("cannot record what became of a message; it will be sent again", "err", err)
		pause(ctx, r.retryAfter(e.Attempts))
	}
}

// retryAfter returns how long an entry waits after its attempts+1st failure. What
// failed together does not try again together: it may be that one of them makes
// the others fail.
func (r *courierRun) retryAfter(attempts int) time.Duration {
	wait, limit := orDefault(r.MinRetry, time.Second), orDefault(r.MaxRetry, 30*time.Second)
	for ; attempts > 0 && wait < limit; attempts-- {
		wait *= 2
	}
	wait = min(wait, limit)
	return wait - rand.N(wait/4+1)
}

func (r *courierRun) poll() time.Duration {
	return orDefault(r.Poll, orDefault(r.MinRetry, time.Second))
}

func (r *courierRun) now() time.Time { return clock(r.Now) }

func clock(now func() time.Time) time.Time {
	if now == nil {
		return time.Now()
	}
	return now()
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
