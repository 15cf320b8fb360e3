// Package send stores DICOM files at a peer, as a person does who tries a line or
// loads an archive: it is the inside of `ichwatch send`.
//
// Each object goes as it lies in its file, in its own transfer syntax, over one
// of several associations. An association proposes one context for each pair of
// SOP class and transfer syntax, so that the peer has nothing to choose; where
// there are more pairs than contexts, the objects go in several turns.
//
// Every object gets one Result: the peer's answer, or why there was none. An
// association that breaks costs the object that was under way; the next one is
// dialled for those that follow. Only a peer with which no association can be had
// ends the work.
package send

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// Result is what became of an object.
type Result struct {
	Object
	Outcome     Outcome
	Status      dimse.Status // the answer, where the outcome is one
	Comment     string       // that came with it
	Err         error        // why there was no answer
	Association int          // on which it went, from 1
	Took        time.Duration
}

// Outcome sorts results.
type Outcome int

// Outcomes, the good ones first.
const (
	Stored  Outcome = iota // answered with success
	Warned                 // stored, with a remark
	Refused                // answered with a failure
	Failed                 // no answer, or no context for it
	Unsent                 // never tried: there was no association
)

// String is the outcome in a word or two.
func (o Outcome) String() string {
	return [...]string{"stored", "stored with a warning", "refused", "failed", "not sent"}[o]
}

// Sender sends objects to one peer.
type Sender struct {
	Addr string // host:port
	// Dialer has AE titles and time-outs; Contexts are set here.
	Dialer dimse.Dialer
	// Associations at a time; 0 is 1.
	Associations int
	// Retries is how often an object is tried again that could not be sent, or was
	// refused for a reason that may pass. RetryWait is the pause before; default 1 s.
	Retries   int
	RetryWait time.Duration
	// Report gets each object's result as it comes, from one goroutine.
	Report func(Result)
}

// maxLost is how many associations in a row may break before one of their objects
// was answered; then no more are tried.
const maxLost = 3

// Send sends the objects. Its error says why some of them were never tried;
// everything else is in the results.
func (s *Sender) Send(ctx context.Context, objects []Object) error {
	results := make(chan Result)
	failed := make(chan error, 1)
	go func() {
		defer close(results)
		var err error
		for _, t := range turns(objects) {
			if err == nil {
				err = s.turn(ctx, t, results)
				continue
			}
			for _, o := range t.objects {
				results <- Result{Object: o, Outcome: Unsent, Err: err}
			}
		}
		failed <- err
	}()
	for r := range results {
		s.Report(r)
	}
	return <-failed
}

// turn is objects that fit on one association's contexts.
type turn struct {
	contexts []dimse.ProposedContext
	objects  []Object
}

// turns cuts the objects, in their order, where the contexts run out.
func turns(objects []Object) []turn {
	type pair struct{ class, syntax dicom.UID }
	var all []turn
	var seen map[pair]bool
	for _, o := range objects {
		p := pair{o.SOPClassUID, o.TransferSyntax.UID}
		if len(all) == 0 || !seen[p] && len(seen) == pdu.MaxPresentationContexts {
			all, seen = append(all, turn{}), make(map[pair]bool)
		}
		t := &all[len(all)-1]
		if !seen[p] {
			seen[p] = true
			t.contexts = append(t.contexts, dimse.ProposedContext{AbstractSyntax: p.class, TransferSyntaxes: []dicom.UID{p.syntax}})
		}
		t.objects = append(t.objects, o)
	}
	return all
}

// turn sends one turn's objects over the associations. It fails where some of
// them are left because no association could be had.
func (s *Sender) turn(ctx context.Context, t turn, results chan<- Result) error {
	jobs := make(chan Object)
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		last    error // why a worker ended early
	)
	for i := range min(max(s.Associations, 1), len(t.objects)) {
		w := &worker{Sender: s, number: i + 1, dialer: s.Dialer}
		w.dialer.Contexts = t.contexts
		workers.Go(func() {
			if err := w.run(ctx, jobs, results); err != nil {
				mu.Lock()
				defer mu.Unlock()
				last = err
			}
		})
	}
	over := make(chan struct{})
	go func() {
		workers.Wait()
		close(over)
	}()
	left := t.objects
	for alive := true; alive && len(left) > 0; {
		select {
		case jobs <- left[0]:
			left = left[1:]
		case <-over:
			alive = false
		}
	}
	close(jobs)
	<-over
	if len(left) == 0 {
		return nil
	}
	for _, o := range left {
		results <- Result{Object: o, Outcome: Unsent, Err: last}
	}
	return last
}

// worker has one association at a time.
type worker struct {
	*Sender
	number      int
	dialer      dimse.Dialer
	association *dimse.Association
	lost        int   // associations in a row, without an answer
	why         error // the last of them
}

// run takes objects until there are no more, or no association can be had for
// them: then it returns why.
func (w *worker) run(ctx context.Context, jobs <-chan Object, results chan<- Result) error {
	defer w.release(ctx)
	for {
		// First the association: who has none takes no object from those who have.
		if err := w.connectAgain(ctx); err != nil {
			return err
		}
		select {
		case o, more := <-jobs:
			if !more {
				return nil
			}
			results <- w.deliver(ctx, o)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// connectAgain makes sure of an association, trying as often as it may.
func (w *worker) connectAgain(ctx context.Context) error {
	if w.lost >= maxLost {
		return fmt.Errorf("%d associations in a row were lost: %w", w.lost, w.why)
	}
	for attempt := 0; ; attempt++ {
		err := w.connect(ctx)
		if err == nil || attempt == w.Retries || !w.pause(ctx) {
			return err
		}
	}
}

// deliver tries an object as often as it may.
func (w *worker) deliver(ctx context.Context, o Object) Result {
	for attempt := 0; ; attempt++ {
		r := w.store(ctx, o)
		if attempt == w.Retries || !passes(r) || !w.pause(ctx) {
			return r
		}
	}
}

// pause waits before another try; false where there is to be none.
func (w *worker) pause(ctx context.Context) bool {
	select {
	case <-time.After(cmp.Or(w.RetryWait, time.Second)):
		return true
	case <-ctx.Done():
		return false
	}
}

// passes says whether a result may be another one next time.
func passes(r Result) bool {
	switch r.Outcome {
	case Failed:
		return !errors.Is(r.Err, dimse.ErrNoPresentationContext) && !isLocal(r.Err)
	case Refused:
		return r.Status&0xFF00 == dimse.StatusOutOfResources || r.Status == dimse.StatusProcessingFailure || r.Status == command.StatusResourceLimitation
	}
	return false
}

// isLocal says whether the file is to blame and not the peer.
func isLocal(err error) bool {
	_, local := errors.AsType[*pdu.SourceError](err)
	return local
}

// store sends one object.
func (w *worker) store(ctx context.Context, o Object) Result {
	r := Result{Object: o, Outcome: Failed, Association: w.number}
	if r.Err = w.connect(ctx); r.Err != nil {
		return r
	}
	data, err := o.dataSet()
	if err != nil {
		r.Err = &pdu.SourceError{Err: err}
		return r
	}
	defer data.Close()
	begun := time.Now()
	answer, err := w.association.Store(ctx, dimse.CStoreRQ{
		SOPClassUID: o.SOPClassUID, SOPInstanceUID: o.SOPInstanceUID, TransferSyntax: o.TransferSyntax,
	}, data)
	r.Took = time.Since(begun)
	if r.Err = err; err != nil {
		if !errors.Is(err, dimse.ErrNoPresentationContext) {
			w.drop(err)
		}
		return r
	}
	w.lost = 0
	r.Status, r.Comment = answer.Status, answer.ErrorComment
	switch {
	case answer.Status == dimse.StatusSuccess:
		r.Outcome = Stored
	case answer.Status.IsWarning():
		r.Outcome = Warned
	default:
		r.Outcome = Refused
	}
	return r
}

// connect makes sure of an association.
func (w *worker) connect(ctx context.Context) error {
	if w.association != nil {
		return nil
	}
	a, err := w.dialer.Dial(ctx, w.Addr)
	if err != nil {
		return err
	}
	w.association = a
	return nil
}

// drop forgets an association that broke.
func (w *worker) drop(why error) {
	_ = w.association.Abort() // Store has done so already
	w.association = nil
	if !isLocal(why) {
		w.lost++
		w.why = why
	}
}

// release ends the association in good order; where that fails all objects have
// their answers all the same.
func (w *worker) release(ctx context.Context) {
	if w.association == nil {
		return
	}
	if err := w.association.Release(ctx); err != nil {
		_ = w.association.Abort()
	}
	w.association = nil
}
