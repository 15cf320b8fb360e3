package commit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
)

// Requester is the SCU of storage commitment towards one destination. Its
// exported fields are its configuration and must not change once it is in use.
// Zero values mean the defaults named beside them.
type Requester struct {
	Spool       *spool.Spool
	Destination string       // its name in the spool
	Log         *slog.Logger // nil discards

	// Addr is where the destination is asked, "host:port", and Dialer has the AE
	// titles and time-outs. The destination reports under the called AE title.
	Addr   string
	Dialer dimse.Dialer
	// Batch is how many instances one request asks for at most; 1000.
	Batch int
	// Wait is how long the association of a request is kept open for the report;
	// 0 ends it at once.
	Wait time.Duration
	// Timeout is how long a report may take, over whichever association; 1 h.
	Timeout time.Duration

	MinRetry time.Duration // wait after a first failure; 10 s
	MaxRetry time.Duration // longest wait; 10 min

	begin   sync.Once
	circuit *circuit
	refused refusals // of reports
	mu      sync.Mutex
	alarmed time.Time // when parked instances were last worth an alarm
}

// keepRequests is how long the transactions of old requests are known, so that a
// late report counts.
const (
	keepRequests   = 90 * 24 * time.Hour
	forgetInterval = 24 * time.Hour
)

// alarmAgain is after how long parked instances are worth another alarm.
const alarmAgain = time.Hour

func (r *Requester) state() *circuit {
	r.begin.Do(func() {
		r.circuit = newCircuit(orDiscard(r.Log).With("destination", r.Destination), r.MinRetry, r.MaxRetry)
	})
	return r.circuit
}

// Status tells how it goes with the destination.
func (r *Requester) Status() Status { return r.state().now() }

// Run asks for the commitment of what was sent until ctx ends.
func (r *Requester) Run(ctx context.Context) error {
	c := r.state()
	for err := r.Spool.InterruptedRequests(ctx, r.Destination); err != nil && ctx.Err() == nil; {
		wait(ctx, c.failed(ctx, "cannot take up storage commitment; trying again", err), nil)
		err = r.Spool.InterruptedRequests(ctx, r.Destination)
	}
	var forgotten time.Time
	for ctx.Err() == nil {
		if now := time.Now(); now.Sub(forgotten) > forgetInterval {
			if err := r.Spool.ForgetRequests(ctx, now.Add(-keepRequests)); err != nil && ctx.Err() == nil {
				c.log.Warn("old requests for storage commitment stay in the ledger", "err", err)
			}
			forgotten = now
		}
		switch rq, err := r.next(ctx); {
		case err != nil && ctx.Err() == nil:
			wait(ctx, c.failed(ctx, "cannot ask for storage commitment; trying again", err), nil)
		case rq != nil:
			r.ask(ctx, rq)
		default:
			r.rest(ctx)
		}
	}
	return nil
}

// next gives up what is overdue and returns the next request, nil for none.
func (r *Requester) next(ctx context.Context) (*commitment.Request, error) {
	now := time.Now()
	overdue, err := r.Spool.OverdueRequests(ctx, r.Destination, now)
	if err != nil {
		return nil, err
	}
	for _, o := range overdue {
		cause := fmt.Errorf("no report came since %s; check the address and AE title that the destination has for us", o.RequestedAt.Format(time.RFC3339))
		if err := r.failed(ctx, o.TransactionUID, cause); err != nil {
			return nil, err
		}
	}
	return r.Spool.RequestCommitment(ctx, r.Destination, now, now.Add(orDefault(r.Timeout, time.Hour)), orDefault(r.Batch, 1000))
}

// failed gives a request up. Its instances are asked for again, later.
func (r *Requester) failed(ctx context.Context, transactionUID dicom.UID, cause error) error {
	c := r.state()
	delay := c.failed(ctx, "the destination has not committed itself to what it has stored; it is asked again", cause)
	legs, err := r.Spool.CommitmentFailed(ctx, transactionUID, cause.Error(), time.Now().Add(delay))
	if err == nil && legs == 0 {
		c.worked() // a late report to another request was faster
	}
	return err
}

// ask sends a request, and may wait for its report.
func (r *Requester) ask(ctx context.Context, rq *commitment.Request) {
	log := r.state().log.With("transaction", rq.TransactionUID)
	a, err := r.request(ctx, rq)
	if err != nil {
		if ctx.Err() != nil {
			return // our own end: the next start asks anew
		}
		if err := r.failed(ctx, rq.TransactionUID, err); err != nil {
			log.Error("cannot record that a request for storage commitment failed; it is awaited in vain until commitment.timeout", "err", err)
		}
		return
	}
	log.Info("the destination is asked for storage commitment", "instances", len(rq.References))
	if err := r.await(ctx, a, rq.TransactionUID); err != nil {
		log.Debug("the association of the request ended; the report may come over another one", "err", err)
	}
	release(ctx, a)
}

// request sends an N-ACTION-RQ and returns the association once it was accepted.
func (r *Requester) request(ctx context.Context, rq *commitment.Request) (_ *dimse.Association, err error) {
	dialer := r.Dialer
	dialer.Contexts = contexts()
	a, err := dialer.Dial(ctx, r.Addr)
	if err != nil {
		return nil, err
	}
	result, err := a.Action(ctx, dimse.NActionRQ{
		SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest,
	}, rq.Encode)
	if err == nil && !result.Status.IsDone() {
		err = &refusedError{result.Status}
	}
	if err == nil {
		err = r.Spool.CommitmentAsked(ctx, rq.TransactionUID)
	}
	if err != nil {
		release(ctx, a)
		return nil, err
	}
	return a, nil
}

// await takes reports over the association until that of the transaction has
// come, or Wait is over.
func (r *Requester) await(ctx context.Context, a *dimse.Association, transactionUID dicom.UID) error {
	o := &own{Requester: r}
	for until := time.Now().Add(r.Wait); r.Wait > 0 && o.transactionUID != transactionUID; {
		if came, err := a.AwaitEventReport(ctx, time.Until(until), o); !came || err != nil {
			return err
		}
	}
	return nil
}

// rest waits until there is something to ask for, or a report is overdue.
func (r *Requester) rest(ctx context.Context) {
	due, ok, err := r.Spool.NextCommitmentDue(ctx, r.Destination)
	delay := time.Duration(-1)
	switch {
	case err != nil && ctx.Err() == nil:
		delay = r.state().failed(ctx, "cannot read the ledger; trying again", err)
	case ok:
		delay = max(0, time.Until(due))
	}
	wait(ctx, delay, r.Spool.CommitmentsDue(r.Destination))
}

// delay is how long that part of a report waits for another attempt which was not
// committed: longer each time where that is all of it.
func (r *Requester) delay(ctx context.Context, report *commitment.Result) time.Duration {
	if len(report.Committed) == 0 && len(report.Failed) > 0 {
		return r.state().failed(ctx, "the destination commits itself to nothing of what it has stored",
			fmt.Errorf("failure reason %v", report.Failed[0].Reason))
	}
	return orDefault(r.MinRetry, minRetry)
}

// tell logs what a report has come to; of what is parked, once in a while.
func (r *Requester) tell(ctx context.Context, log *slog.Logger, report *commitment.Result, s spool.Settled) {
	log.Info("the destination has reported on storage commitment",
		"committed", len(report.Committed), "failed", len(report.Failed), "done", s.Done, "again", s.Again, "parked", s.Parked)
	if len(report.Committed) > 0 {
		r.state().worked()
	}
	if s.Parked == 0 {
		return
	}
	level := slog.LevelDebug
	r.mu.Lock()
	if now := time.Now(); now.Sub(r.alarmed) > alarmAgain {
		level, r.alarmed = slog.LevelError, now
	}
	r.mu.Unlock()
	log.Log(ctx, level, "the destination does not commit itself to instances that it has stored; they are kept, and sent again when the daemon starts anew",
		"instances", s.Parked, "reason", report.Failed[0].Reason.String())
}
