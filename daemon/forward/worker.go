package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/daemon/transcode"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// retirement is for how long a destination that rejects an association beside
// others is not asked for it again.
const retirement = time.Minute

// worker has one of the associations with the destination.
type worker struct {
	*run
	sender Sender
	linked bool  // it is open, and counted
	anew   int64 // of the Forwarder, when it was opened
}

// work walks the legs that it is handed until there are no more.
func (w *worker) work(ctx context.Context) {
	defer w.release()
	for {
		var idle <-chan time.Time
		if w.linked {
			idle = time.After(orDefault(w.Idle, 10*time.Second))
		}
		select {
		case leg, more := <-w.jobs:
			if !more {
				return
			}
			if err := w.connect(leg.Instance); err != nil {
				w.ended(leg.ID)
				w.rejected(ctx, err)
				continue
			}
			w.walk(ctx, leg)
			w.ended(leg.ID)
		case <-idle:
			w.release()
		}
	}
}

func (w *worker) connect(i spool.Instance) error {
	if anew := w.Forwarder.anew.Load(); anew != w.anew {
		w.release()
		w.anew = anew
	}
	if !w.linked {
		// One at a time: whether one is too many shows only beside those that are open.
		w.dialling.Lock()
		defer w.dialling.Unlock()
		if state, _ := w.circuit.look(); state == open {
			return errOpen
		}
	}
	err := w.sender.Connect(w.sending, i)
	w.link(err == nil)
	return err
}

// errOpen: another worker has found meanwhile that nothing can be sent.
var errOpen = errors.New("the circuit is open")

// link counts the association, or what was one.
func (w *worker) link(linked bool) {
	if linked == w.linked {
		return
	}
	w.linked = linked
	w.mu.Lock()
	defer w.mu.Unlock()
	if linked {
		w.run.connected++
	} else {
		w.run.connected--
	}
}

func (w *worker) release() {
	if err := w.sender.Release(w.sending); err != nil {
		w.log.Info("an association did not end in good order", "err", err)
	}
	w.link(false)
}

// rejected is what follows where no association could be had. One that is rejected
// beside others is one too many, and no failure of the destination.
func (w *worker) rejected(ctx context.Context, err error) {
	w.mu.Lock()
	others := w.run.connected
	w.mu.Unlock()
	if errors.Is(err, errOpen) {
		return
	}
	if _, ok := errors.AsType[*dimse.RejectedError](err); !ok || others == 0 {
		w.unreachable(ctx, err)
		return
	}
	w.log.Info("the destination takes no more associations at a time; going on with fewer", "associations", others, "err", err)
	t := time.NewTimer(retirement)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// walk takes one instance to the destination.
func (w *worker) walk(ctx context.Context, leg spool.Leg) {
	result, sentAs, err := w.send(leg)
	switch {
	case errors.Is(err, transcode.ErrImpossible):
		w.refused(ctx, leg, 0, w.unaccepted(leg.Instance)+", and it "+err.Error())
	case errors.Is(err, dimse.ErrNoPresentationContext):
		w.refused(ctx, leg, 0, w.unaccepted(leg.Instance))
	case errors.Is(err, spool.ErrMissing):
		w.park(ctx, leg, 0, "its file is gone from the spool, or cut short")
	case errors.Is(err, spool.ErrDamaged):
		w.park(ctx, leg, 0, "its file is damaged: the disk gave back other bytes than arrived")
	case errors.Is(err, pdu.ErrOddLength):
		w.park(ctx, leg, 0, "its data set has an odd length, which no message can carry")
	case err != nil && w.sending.Err() != nil: // cut off by our own end; it is as it was
	case err != nil:
		w.postpone(ctx, leg, 0, err)
	default:
		w.judge(ctx, leg, result.Status, sentAs)
	}
}

func (w *worker) judge(ctx context.Context, leg spool.Leg, status dimse.Status, sentAs dicom.UID) {
	switch judge(status, leg.Contested) {
	case done:
		w.confirm(ctx, leg, status, sentAs)
	case again:
		w.postpone(ctx, leg, status, &answeredError{status})
	default:
		w.refused(ctx, leg, status, "answered "+status.String())
	}
}

// unaccepted says what the destination does not take, and what would help.
func (w *worker) unaccepted(i spool.Instance) string {
	text := "does not accept " + i.SOPClassUID.Name() + " in " + i.TransferSyntaxUID.Name()
	switch {
	case !transcode.Takes(i.TransferSyntaxUID):
		return text
	case !w.Transcode:
		return text + "; transcode: explicit-vr-le in its entry of destinations would have it sent decompressed"
	case !w.sender.Accepts(i.SOPClassUID, transcode.Target):
		return text + ", nor in " + transcode.Target.Name()
	}
	return text
}

// send stores an instance as it lies there; where the destination does not take
// it so and the site allows it, rewritten: sentAs is that transfer syntax then.
func (w *worker) send(leg spool.Leg) (result dimse.Result, sentAs dicom.UID, err error) {
	data, err := w.Spool.OpenDataSet(w.sending, leg.Instance.ID)
	if err != nil {
		return result, "", err
	}
	defer data.Close()
	i, content := leg.Instance, data.Verified()
	if w.rewrites(i) {
		if content, err = w.rewritten(data); err != nil {
			return result, "", err
		}
		sentAs, i.TransferSyntaxUID = transcode.Target, transcode.Target
	}
	result, err = w.sender.Send(w.sending, i, content)
	if err != nil && !errors.Is(err, dimse.ErrNoPresentationContext) {
		w.link(false)
	}
	return result, sentAs, err
}

// rewrites says whether an instance is to be sent in another transfer syntax.
func (w *worker) rewrites(i spool.Instance) bool {
	return w.Transcode && transcode.Takes(i.TransferSyntaxUID) &&
		!w.sender.Accepts(i.SOPClassUID, i.TransferSyntaxUID) && w.sender.Accepts(i.SOPClassUID, transcode.Target)
}

// rewritten reads the file twice: nothing of it is decompressed that is not what
// has arrived.
func (w *worker) rewritten(data *spool.DataSet) (io.Reader, error) {
	if _, err := io.Copy(io.Discard, data.Verified()); err != nil {
		return nil, err
	}
	syntax, _ := dicom.LookupTransferSyntax(data.Instance.TransferSyntaxUID) // Takes knows it
	return transcode.New(w.sending, data.SectionReader, syntax)
}

// confirm records that the destination has the instance. Should that fail, it is
// tried again with the next legs; after a start without it the leg is walked once
// more, and the destination meets a duplicate.
func (w *worker) confirm(ctx context.Context, leg spool.Leg, status dimse.Status, sentAs dicom.UID) {
	now := time.Now()
	record := func() error {
		if sentAs != leg.SentAs {
			if err := w.Spool.LegSentAs(w.sending, leg.ID, sentAs); err != nil {
				return err
			}
		}
		if w.Commit {
			return w.Spool.LegSent(w.sending, leg.ID, uint16(status), now, now.Add(w.Collect))
		}
		return w.Spool.LegDone(w.sending, leg.ID, uint16(status), now)
	}
	if err := record(); err != nil {
		w.mu.Lock()
		w.unrecorded[leg.ID] = record
		w.mu.Unlock()
		w.circuit.alarm(ctx, "an instance that the destination has cannot be recorded as sent; the others are sent, and this is tried again; look at the disk",
			"the ledger takes nothing", "err", err)
	}
	w.decided(ctx, true)
}

// refused parks a leg by the destination's own word.
func (w *worker) refused(ctx context.Context, leg spool.Leg, status dimse.Status, reason string) {
	w.park(ctx, leg, status, "the destination "+reason)
	w.decided(ctx, false)
}

// decided notes that the destination is at work. What failed while it was not need
// not wait any longer.
func (w *worker) decided(ctx context.Context, done bool) {
	if !w.circuit.answered(done) {
		return
	}
	if err := w.Spool.ResumeLegs(w.sending, w.Destination); err != nil {
		w.localFault(ctx, "legs that wait for their next try cannot be brought forward; they go in their time", err)
	}
}

// park lets a person decide about the leg, and says so once for each reason.
func (w *worker) park(ctx context.Context, leg spool.Leg, status dimse.Status, reason string) {
	err := w.Spool.LegParked(w.sending, leg.ID, uint16(status), reason)
	switch {
	case errors.Is(err, spool.ErrLegSettled): // a person was faster
	case err != nil:
		w.localFault(ctx, "a refused instance cannot be recorded; it will be sent again", err)
	default:
		w.circuit.alarm(ctx, "instances are refused for good; they are kept, and tried again when the daemon starts anew or by ichwatch queue retry",
			reason, "study", leg.Instance.Study, "instance", leg.Instance.ID)
	}
}

// postpone lets the leg wait, and after some failures the destination.
func (w *worker) postpone(ctx context.Context, leg spool.Leg, status dimse.Status, cause error) {
	next := time.Now().Add(w.legDelay(leg.Attempts))
	err := w.Spool.LegFailed(w.sending, leg.ID, uint16(status), cause.Error(), next)
	if err != nil && !errors.Is(err, spool.ErrLegSettled) { // that is a person's doing, meanwhile
		w.localFault(ctx, "an instance that could not be sent cannot be recorded as such; it will be sent again", fmt.Errorf("%w; it failed: %w", err, cause))
	}
	if ctx.Err() == nil {
		w.circuit.failed(ctx, "instances cannot be sent; they are kept and tried again", cause, false)
	}
}

// legDelay is how long a leg waits after so many failed attempts.
func (f *Forwarder) legDelay(attempts int) time.Duration {
	b := newBackoff(f.MinRetry, f.MaxRetry)
	delay := b.NextBackOff()
	for range min(attempts, 32) {
		delay = b.NextBackOff()
	}
	return delay
}
