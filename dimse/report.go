package dimse

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// reportQuiet is how long a peer has to be silent on an association for storage
// commitment before it gets a report that it has not asked for there: one that is
// about to send an N-ACTION-RQ would take it for the answer.
const reportQuiet = time.Second

// reports are those that an acceptor's association brings to its peer, one at a
// time (PS3.7 section D.3.3.3). Each is made beside the association, for that may
// take long, and sent by it, between two messages.
type reports struct {
	mu     sync.Mutex
	making bool         // by a goroutine of its own
	again  bool         // there is a reason to look once more
	made   *EventReport // and not sent yet
	err    error        // of the handler that should have made it
	ended  error        // why nothing is sent any more

	// Of the association's own goroutine.
	sent   *outstanding
	spoken *PresentationContext // on which the peer has last spoken of it
}

// outstanding is a report of ours that the peer has not answered yet.
type outstanding struct {
	*EventReport
	contextID uint8
	messageID uint16
}

// servesCommitment says whether we may report on an association: we are the SCP
// on it, by the roles as negotiated.
func (s *Server) servesCommitment(a *Association) bool {
	const class = dicom.StorageCommitmentPushModel
	return s.actionsOf(&a.rule.peer) != nil && a.contextFor(class, "") != nil && a.isSCP(class)
}

// isForCommitment says whether a peer may have come for reports alone: nothing
// else but a C-ECHO can go over the association. Between the C-STOREs of one that
// stores, a report that it has not asked for there could be taken for an answer.
func (s *Server) isForCommitment(a *Association) bool {
	return s.servesCommitment(a) && !slices.ContainsFunc(a.contexts, func(pc PresentationContext) bool {
		return pc.Result == pdu.Acceptance && pc.AbstractSyntax != dicom.StorageCommitmentPushModel && pc.AbstractSyntax != dicom.Verification
	})
}

// seekReport has the next report made, if none is under way.
func (s *Server) seekReport(ctx context.Context, a *Association) {
	if !s.servesCommitment(a) || a.reports.sent != nil || !a.reports.begin() {
		return
	}
	actions := s.actionsOf(&a.rule.peer)
	s.running.Go(func() {
		for done := false; !done; {
			var next *EventReport
			err := a.caught(func() { next = actions.NextEventReport(ctx, a) })
			done = a.reports.keep(next, err)
		}
		a.conn.wake()
	})
}

// begin says whether there is a report to be made; where one is being made, it is
// looked for another afterwards.
func (r *reports) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.making || r.made != nil || r.err != nil {
		r.again = true
		return false
	}
	r.making = true
	return true
}

// keep takes what was made. It returns false if that was nothing, and there was
// a reason meanwhile to look again.
func (r *reports) keep(next *EventReport, err error) bool {
	r.mu.Lock()
	ended := r.ended
	if next == nil && err == nil && r.again && ended == nil {
		r.again = false
		r.mu.Unlock()
		return false
	}
	r.making, r.again = false, false
	if ended == nil {
		r.made, r.err = next, err
	}
	r.mu.Unlock()
	if ended != nil && next != nil {
		next.Done(0, ended)
	}
	return true
}

// take returns what is to be sent.
func (r *reports) take() (*EventReport, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	made, err := r.made, r.err
	r.made, r.err = nil, nil
	return made, err
}

// sendReport sends the report that was made, if there is one: on the context on
// which the peer has last spoken of storage commitment, or else the first. Its
// answer is read by converse, as what the peer asks in the meantime may come
// before it.
func (s *Server) sendReport(a *Association) error {
	next, err := a.reports.take()
	switch {
	case err != nil:
		return a.fail(err)
	case next == nil:
		return nil
	}
	pc := a.reports.spoken
	if pc == nil {
		pc = a.contextFor(dicom.StorageCommitmentPushModel, "")
	}
	if next.SOPClassUID != pc.AbstractSyntax {
		return a.reported(next, 0, fmt.Errorf("%w for %s", ErrNoPresentationContext, next.SOPClassUID.Name()))
	}
	id := a.nextMessageID()
	a.reports.sent = &outstanding{next, pc.ID, id}
	var information []byte
	if err := a.guard(func() { information = next.Information(negotiatedSyntax(pc)) }); err != nil {
		return err
	}
	return a.sendWith(pc, eventReportRQ(next.NEventReportRQ, id), information)
}

// reported tells the handler how a report of ours has ended.
func (a *Association) reported(r *EventReport, status Status, err error) error {
	return a.guard(func() { r.Done(status, err) })
}

// takeReportResponse ends the report under way.
func (a *Association) takeReportResponse(pc *PresentationContext, m *command.NEventReportRSP) error {
	r := a.reports.sent
	if r == nil || r.messageID != m.MessageIDBeingRespondedTo || r.contextID != pc.ID {
		return a.fail(breachf(breachResponse, "%s that answers nothing we asked", m.Field()))
	}
	if m.DataSet {
		if err := a.newDataSet(pc.ID, maxReply).drain(); err != nil {
			return err
		}
	}
	a.reports.sent = nil
	return a.reported(r.EventReport, m.Status, nil)
}

// abandonReport tells the handler that the association ended with a report under
// way; cause is nil after an orderly release. One that is still being made, and
// is not given up at the end of the association's context, is told then.
func (a *Association) abandonReport(cause error) {
	if cause == nil {
		cause = ErrReleased
	}
	a.reports.mu.Lock()
	a.reports.ended = cause
	a.reports.mu.Unlock()
	made, _ := a.reports.take()
	if made != nil {
		_ = a.reported(made, 0, cause)
	}
	if sent := a.reports.sent; sent != nil {
		a.reports.sent = nil
		_ = a.reported(sent.EventReport, 0, cause)
	}
}
