package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/pdu"
)

// Forwarder walks the legs to one destination. Zero durations mean the defaults
// named beside them.
type Forwarder struct {
	Spool       *spool.Spool
	Destination string // its name in the spool
	Sender      Sender
	Log         *slog.Logger // nil discards

	// Commit is true where the destination has to commit itself to what it has
	// stored before the leg is done; it is asked after Collect, together with
	// what was sent meanwhile. Package commit does that.
	Commit  bool
	Collect time.Duration

	Idle     time.Duration // after which an unused association is released; 10 s
	MinRetry time.Duration // wait after a first failure; 1 s
	MaxRetry time.Duration // longest wait; 1 min
	Grace    time.Duration // for the instance under way when Run's context ends; 5 s

	mu     sync.Mutex
	status Status
	nudge  chan struct{}
}

// TryNow ends the waiting after a failure, as if there had been none, and lets the
// order of legs be looked up anew: a person has mended or changed something.
func (f *Forwarder) TryNow() {
	select {
	case f.nudges() <- struct{}{}:
	default: // one is waiting to be seen already
	}
}

func (f *Forwarder) nudges() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nudge == nil {
		f.nudge = make(chan struct{}, 1)
	}
	return f.nudge
}

// Status is how a Forwarder gets on with its destination.
type Status struct {
	Failing     bool      // the last thing tried did not work
	Failures    int       // in a row
	Since       time.Time // of the first of them
	Reason      string    // of the last of them
	NextAttempt time.Time
	LastDone    time.Time // when the destination last confirmed an instance
}

// Status tells how it goes, at any time.
func (f *Forwarder) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// batch is how many legs are looked up at a time. It is small because the order
// may change at any moment: an alert makes a study urgent.
const batch = 16

// Run forwards until ctx ends. An instance that is under way then has the time
// of Grace to get its answer.
func (f *Forwarder) Run(ctx context.Context) error {
	r := f.begin(ctx)
	defer r.end()
	for ctx.Err() == nil {
		legs, err := f.Spool.DueLegs(ctx, f.Destination, time.Now(), batch+len(r.unrecorded))
		if err != nil {
			r.failed(ctx, "cannot read the ledger; trying again", err)
			continue
		}
		if len(legs) == 0 {
			r.rest(ctx)
			continue
		}
		if legs, err = r.record(legs); err != nil && len(legs) == 0 {
			r.failed(ctx, "instances that the destination has cannot be recorded as sent; trying again", err)
			continue
		}
		for _, leg := range legs {
			if ctx.Err() != nil || r.nudged() || !r.walk(ctx, leg) {
				break // and look again: the order may be another by now
			}
		}
	}
	return nil
}

// run is the state of one Run.
type run struct {
	*Forwarder
	log     *slog.Logger
	sending context.Context // outlives Run's context by Grace
	cancel  context.CancelFunc
	circuit *backoff.ExponentialBackOff // the destination's, over failures in a row
	alarmed map[string]time.Time        // by reason for parking: when the log last had an alarm

	// unrecorded are legs, by id, that the destination has confirmed and the ledger
	// would not take: the disk is read-only or fails. They are not walked again, and
	// hold up no other.
	unrecorded map[int64]func() error
}

// alarmAgain is after how long the same reason for parking is worth another
// alarm: a study of 300 slices refused for one reason is one alarm.
const alarmAgain = time.Hour

func (f *Forwarder) begin(ctx context.Context) *run {
	r := &run{Forwarder: f, log: f.Log, alarmed: make(map[string]time.Time), unrecorded: make(map[int64]func() error)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.log = r.log.With("destination", f.Destination)
	r.circuit = f.newBackoff()
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

func (r *run) end() {
	if err := r.Sender.Release(r.sending); err != nil {
		r.log.Info("the association did not end in good order", "err", err)
	}
	r.cancel()
}

// newBackoff waits twice as long each time, give or take a half: many devices
// that lost the same PACS do not come back to it at once.
func (f *Forwarder) newBackoff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval:     orDefault(f.MinRetry, time.Second),
		MaxInterval:         orDefault(f.MaxRetry, time.Minute),
		Multiplier:          2,
		RandomizationFactor: 0.5,
	}
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// legDelay is how long a leg waits after so many failed attempts.
func (f *Forwarder) legDelay(attempts int) time.Duration {
	b := f.newBackoff()
	delay := b.NextBackOff()
	for range min(attempts, 32) {
		delay = b.NextBackOff()
	}
	return delay
}

// walk takes one instance to the destination. It returns false if something
// failed that may be over after a while, which has then passed.
func (r *run) walk(ctx context.Context, leg spool.Leg) bool {
	if err := r.Sender.Connect(r.sending, leg.Instance); err != nil {
		// Nothing was said about this instance: its leg is as it was.
		return r.failed(ctx, "the destination cannot be reached; instances are kept and tried again", err)
	}
	result, err := r.send(leg)
	switch {
	case errors.Is(err, dimse.ErrNoPresentationContext):
		return r.park(ctx, leg, 0, "the destination does not accept "+leg.Instance.SOPClassUID.Name()+" in "+leg.Instance.TransferSyntaxUID.Name())
	case errors.Is(err, spool.ErrMissing):
		return r.park(ctx, leg, 0, "its file is gone from the spool, or cut short")
	case errors.Is(err, spool.ErrDamaged):
		return r.park(ctx, leg, 0, "its file is damaged: the disk gave back other bytes than arrived")
	case errors.Is(err, pdu.ErrOddLength):
		return r.park(ctx, leg, 0, "its data set has an odd length, which no message can carry")
	case err != nil && r.sending.Err() != nil:
		return false // cut off by our own end; it is as it was
	case err != nil:
		return r.postpone(ctx, leg, 0, err)
	}
	switch judge(result.Status, leg.Contested) {
	case done:
		r.confirm(leg, result.Status)
		return true
	case again:
		return r.postpone(ctx, leg, result.Status, fmt.Errorf("answered %v", result.Status))
	default:
		return r.park(ctx, leg, result.Status, fmt.Sprintf("the destination answered %v", result.Status))
	}
}

func (r *run) send(leg spool.Leg) (dimse.Result, error) {
	data, err := r.Spool.OpenDataSet(r.sending, leg.Instance.ID)
	if err != nil {
		return dimse.Result{}, err
	}
	defer data.Close()
	return r.Sender.Send(r.sending, leg.Instance, data.Verified())
}

// confirm records that the destination has the instance. Should that fail, it is
// tried again with the next legs; after a start without it the leg is walked once
// more, and the destination meets a duplicate.
func (r *run) confirm(leg spool.Leg, status dimse.Status) {
	now := time.Now()
	record := func() error {
		if r.Commit {
			return r.Spool.LegSent(r.sending, leg.ID, uint16(status), now, now.Add(r.Collect))
		}
		return r.Spool.LegDone(r.sending, leg.ID, uint16(status), now)
	}
	if err := record(); err != nil {
		if len(r.unrecorded) == 0 {
			r.log.Error("an instance that the destination has cannot be recorded as sent; the others are sent, and this is tried again; look at the disk", "err", err)
		}
		r.unrecorded[leg.ID] = record
	}
	r.mu.Lock()
	failures := r.status.Failures
	r.status = Status{LastDone: now}
	r.mu.Unlock()
	r.circuit.Reset()
	if failures > 0 {
		r.log.Info("the destination takes instances again", "failures", failures)
	}
}

// record records what could not be recorded before, and returns the legs that are
// still to be walked. Where one cannot be, the others are not tried.
func (r *run) record(legs []spool.Leg) (walk []spool.Leg, err error) {
	for _, leg := range legs {
		record, confirmed := r.unrecorded[leg.ID]
		if !confirmed {
			walk = append(walk, leg)
		} else if err == nil {
			if err = record(); err == nil {
				delete(r.unrecorded, leg.ID)
			}
		}
	}
	return walk, err
}

// park lets a person decide about the leg, and says so once for each reason.
func (r *run) park(ctx context.Context, leg spool.Leg, status dimse.Status, reason string) bool {
	err := r.Spool.LegParked(r.sending, leg.ID, uint16(status), reason)
	if errors.Is(err, spool.ErrLegSettled) {
		return true // a person was faster
	}
	if err != nil {
		return r.failed(ctx, "a refused instance cannot be recorded; it will be sent again", err)
	}
	level := slog.LevelDebug
	if now := time.Now(); now.Sub(r.alarmed[reason]) > alarmAgain {
		level = slog.LevelError
		r.alarmed[reason] = now
	}
	r.log.Log(ctx, level, "the destination refuses instances for good; they are kept, and tried again when the daemon starts anew or by ichwatch queue retry",
		"study", leg.Instance.Study, "instance", leg.Instance.ID, "reason", reason)
	return true
}

// postpone lets the leg wait, and the destination.
func (r *run) postpone(ctx context.Context, leg spool.Leg, status dimse.Status, cause error) bool {
	next := time.Now().Add(r.legDelay(leg.Attempts))
	err := r.Spool.LegFailed(r.sending, leg.ID, uint16(status), cause.Error(), next)
	if err != nil && !errors.Is(err, spool.ErrLegSettled) { // that is a person's doing, meanwhile
		cause = errors.Join(cause, err)
	}
	return r.failed(ctx, "an instance could not be sent; it is kept and tried again", cause)
}

// failed counts a failure and waits. It always returns false.
func (r *run) failed(ctx context.Context, what string, cause error) bool {
	if ctx.Err() != nil {
		return false
	}
	delay := r.circuit.NextBackOff()
	now := time.Now()
	r.mu.Lock()
	if r.status.Failures == 0 {
		r.status.Since = now
	}
	r.status.Failing = true
	r.status.Failures++
	r.status.Reason = cause.Error()
	r.status.NextAttempt = now.Add(delay)
	failures := r.status.Failures
	r.mu.Unlock()

	// The first is told, and then ever more rarely: the reason may have become another one.
	level := slog.LevelDebug
	if failures&(failures-1) == 0 {
		level = slog.LevelWarn
	}
	r.log.Log(ctx, level, what, "err", cause, "failures", failures, "wait", delay)
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.nudges():
		r.circuit.Reset()
	case <-t.C:
	}
	return false
}

// nudged reports whether TryNow was called since somebody last looked.
func (r *run) nudged() bool {
	select {
	case <-r.nudges():
		return true
	default:
		return false
	}
}

// rest waits for work: a new leg, or one whose time comes. An association that
// nobody has used for Idle is released meanwhile.
func (r *run) rest(ctx context.Context) {
	var due <-chan time.Time
	next, ok, err := r.Spool.NextLegDue(ctx, r.Destination)
	if err != nil {
		r.failed(ctx, "cannot read the ledger; trying again", err)
		return
	}
	if ok {
		due = time.After(time.Until(next))
	}
	idle := time.After(orDefault(r.Idle, 10*time.Second))
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.Spool.LegsAdded(r.Destination):
			return
		case <-r.nudges():
			return
		case <-due:
			return
		case <-idle:
			idle = nil
			if err := r.Sender.Release(r.sending); err != nil {
				r.log.Info("the idle association did not end in good order", "err", err)
			}
		}
	}
}
