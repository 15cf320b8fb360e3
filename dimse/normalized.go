package dimse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// maxReply bounds the data set of an N-ACTION-RSP or N-EVENT-REPORT-RSP, which
// is read and dropped: no service here defines one.
const maxReply = 1 << 20

// ActionHandler performs actions and reports their events: the service class
// provider of Storage Commitment (PS3.4 Annex J). The rules of [Handler] hold
// for it too.
type ActionHandler interface {
	// Action answers an N-ACTION-RQ (PS3.7 section 10.1.4) on a presentation
	// context of its SOP class. data yields the Action Information, and is at
	// its end at once where none came. The peer waits for the answer and nothing
	// else of a goes on: what takes long belongs into NextEventReport.
	Action(ctx context.Context, a *Association, rq NActionRQ, data io.Reader) Result

	// NextEventReport is asked for a report to send on a: when the peer has got
	// its answer to an N-ACTION-RQ or has answered a report; and where a is for
	// storage commitment alone, when the peer has been silent on it for a while,
	// as it may have come for reports on what it asked before. It is called
	// beside a, which goes on, and not again before it has returned. ctx ends
	// with a. nil: there is none.
	NextEventReport(ctx context.Context, a *Association) *EventReport
}

// EventReportHandler takes the reports of events: the service class user of
// Storage Commitment. The rules of [Handler] hold for it too.
type EventReportHandler interface {
	// EventReport answers an N-EVENT-REPORT-RQ (PS3.7 section 10.1.1).
	EventReport(ctx context.Context, a *Association, rq NEventReportRQ, data io.Reader) Result
}

// NActionRQ is an N-ACTION request (PS3.7 section 10.1.4).
type NActionRQ struct {
	SOPClassUID    dicom.UID // Requested SOP Class UID
	SOPInstanceUID dicom.UID // Requested SOP Instance UID
	ActionTypeID   uint16
	// TransferSyntax of the data set is set on receipt; on sending it is that
	// of the presentation context.
	TransferSyntax dicom.TransferSyntax
	MessageID      uint16 // as CStoreRQ.MessageID
}

// NEventReportRQ is an N-EVENT-REPORT request (PS3.7 section 10.1.1).
type NEventReportRQ struct {
	SOPClassUID    dicom.UID // Affected SOP Class UID
	SOPInstanceUID dicom.UID // Affected SOP Instance UID
	EventTypeID    uint16
	TransferSyntax dicom.TransferSyntax // as NActionRQ.TransferSyntax
	MessageID      uint16               // as CStoreRQ.MessageID
}

// Information encodes the data set of a message in the transfer syntax of its
// presentation context.
type Information func(ts dicom.TransferSyntax) []byte

// EventReport is a report on its way from an [ActionHandler] to the peer.
type EventReport struct {
	NEventReportRQ
	Information Information
	// Done is called once: with the peer's status, or with why there is none. It
	// may be that the association has ended before the report was sent.
	Done func(Status, error)
}

// ErrRoleRefused: the peer has refused us the role in which we would have sent
// the message (PS3.7 section D.3.3.4).
var ErrRoleRefused = errors.New("dimse: the peer refused us the SCP role")

// isSCP says whether we may be the SCP of a SOP class on this association. An
// acceptor is, unless the requestor took that role alone; a requestor is where
// the acceptor granted it. An answer without the item means that it did not, to
// the letter; but acceptors that forget it and take reports are many, and one
// that does not take them says so in its response.
func (a *Association) isSCP(class dicom.UID) bool {
	i := slices.IndexFunc(a.roles, func(r pdu.RoleSelection) bool { return r.SOPClassUID == class })
	switch {
	case i < 0:
		return true
	case a.machine.requestor:
		return a.roles[i].SCP
	}
	return a.roles[i].SCU
}

// Action sends an N-ACTION-RQ with its Action Information and waits for the
// answer (PS3.7 section 10.1.4). Errors are those of Store.
func (a *Association) Action(ctx context.Context, rq NActionRQ, information Information) (Result, error) {
	return a.invoke(ctx, rq.SOPClassUID, information, func(id uint16) command.Message {
		return &command.NActionRQ{
			RequestedSOPClassUID: rq.SOPClassUID, MessageID: id, DataSet: true,
			RequestedSOPInstanceUID: rq.SOPInstanceUID, ActionTypeID: rq.ActionTypeID,
		}
	})
}

// EventReport sends an N-EVENT-REPORT-RQ with its Event Information and waits
// for the answer (PS3.7 section 10.1.1). Errors are those of Store, and
// ErrRoleRefused, which leaves the association as it was too.
func (a *Association) EventReport(ctx context.Context, rq NEventReportRQ, information Information) (Result, error) {
	if !a.isSCP(rq.SOPClassUID) {
		return Result{}, fmt.Errorf("%w of %s", ErrRoleRefused, rq.SOPClassUID.Name())
	}
	return a.invoke(ctx, rq.SOPClassUID, information, func(id uint16) command.Message {
		return eventReportRQ(rq, id)
	})
}

func eventReportRQ(rq NEventReportRQ, id uint16) *command.NEventReportRQ {
	return &command.NEventReportRQ{
		AffectedSOPClassUID: rq.SOPClassUID, MessageID: id, DataSet: true,
		AffectedSOPInstanceUID: rq.SOPInstanceUID, EventTypeID: rq.EventTypeID,
	}
}

// invoke sends a request of the DIMSE-N services and reads its response.
func (a *Association) invoke(ctx context.Context, class dicom.UID, information Information, message func(id uint16) command.Message) (Result, error) {
	end, err := a.begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer end()
	pc := a.contextFor(class, "")
	if pc == nil {
		return Result{}, fmt.Errorf("%w for %s", ErrNoPresentationContext, class.Name())
	}
	id := a.nextMessageID()
	m := message(id)
	if err := a.sendWith(pc, m, information(negotiatedSyntax(pc))); err != nil {
		return Result{}, err
	}
	rsp, err := a.response(pc)
	if err != nil {
		return Result{}, err
	}
	result, answered, ok := normalizedResponse(rsp)
	if !ok || rsp.Field() != m.Field().Response() || answered != id {
		return Result{}, a.fail(breachf(breachResponse, "%s where the %s to message %d was due", rsp.Field(), m.Field().Response(), id))
	}
	return result, nil
}

// normalizedResponse takes a response apart; ok is false for any other message.
func normalizedResponse(m command.Message) (_ Result, answered uint16, ok bool) {
	switch m := m.(type) {
	case *command.NActionRSP:
		return Result{m.Status, comment(m.ErrorComment)}, m.MessageIDBeingRespondedTo, true
	case *command.NEventReportRSP:
		return Result{m.Status, comment(m.ErrorComment)}, m.MessageIDBeingRespondedTo, true
	}
	return Result{}, 0, false
}

// sendWith sends a message with its data set.
func (a *Association) sendWith(pc *PresentationContext, m command.Message, dataSet []byte) error {
	if err := a.gather(pc.ID, m); err != nil {
		return err
	}
	if _, err := a.writer.WriteDataSet(pc.ID, bytes.NewReader(dataSet)); err != nil {
		return a.failSending(err)
	}
	return a.flush()
}

// AwaitEventReport waits for an N-EVENT-REPORT-RQ on an association that we
// requested, up to patience, and answers it with what h says. It reports whether
// one came; if none did the association stays open. Other requests are refused.
// The error is ErrReleased where the peer ends the association in good order.
func (a *Association) AwaitEventReport(ctx context.Context, patience time.Duration, h EventReportHandler) (bool, error) {
	end, err := a.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	until := time.Now().Add(patience)
	for {
		a.conn.idle(time.Until(until))
		err := a.reader.Await()
		if errors.Is(err, ErrTimeout) {
			return false, nil
		}
		if err != nil {
			return false, a.fail(err)
		}
		pc, m, err := a.readCommand()
		if err == errReleaseRequested {
			return false, a.releasedByPeer()
		}
		if err != nil {
			return false, err
		}
		if rq, ok := m.(*command.NEventReportRQ); ok {
			return true, a.takeEventReport(ctx, pc, rq, h)
		}
		if err := a.refuse(ctx, pc, m, maxReply); err != nil {
			return false, err
		}
	}
}

// takeEventReport answers an N-EVENT-REPORT-RQ, in either role. h is nil where
// none are taken.
func (a *Association) takeEventReport(ctx context.Context, pc *PresentationContext, m *command.NEventReportRQ, h EventReportHandler) error {
	rq := NEventReportRQ{m.AffectedSOPClassUID, m.AffectedSOPInstanceUID, m.EventTypeID, negotiatedSyntax(pc), m.MessageID}
	result, err := a.hand(ctx, pc, m, h != nil, m.AffectedSOPClassUID, func(data io.Reader) Result {
		return h.EventReport(ctx, a, rq, data)
	})
	if err != nil {
		return err
	}
	return a.send(pc.ID, &command.NEventReportRSP{
		AffectedSOPClassUID:       m.AffectedSOPClassUID,
		MessageIDBeingRespondedTo: m.MessageID,
		Status:                    result.Status,
		ErrorComment:              result.ErrorComment,
		AffectedSOPInstanceUID:    m.AffectedSOPInstanceUID,
		EventTypeID:               m.EventTypeID,
	})
}

// takeAction answers an N-ACTION-RQ.
func (a *Association) takeAction(ctx context.Context, pc *PresentationContext, m *command.NActionRQ, h ActionHandler) error {
	rq := NActionRQ{m.RequestedSOPClassUID, m.RequestedSOPInstanceUID, m.ActionTypeID, negotiatedSyntax(pc), m.MessageID}
	// A requestor that took the SCP role alone has nothing to ask of us.
	performs := h != nil && a.isSCP(pc.AbstractSyntax)
	result, err := a.hand(ctx, pc, m, performs, m.RequestedSOPClassUID, func(data io.Reader) Result {
		return h.Action(ctx, a, rq, data)
	})
	if err != nil {
		return err
	}
	return a.send(pc.ID, &command.NActionRSP{
		AffectedSOPClassUID:       m.RequestedSOPClassUID,
		MessageIDBeingRespondedTo: m.MessageID,
		Status:                    result.Status,
		ErrorComment:              result.ErrorComment,
		AffectedSOPInstanceUID:    m.RequestedSOPInstanceUID,
		ActionTypeID:              m.ActionTypeID,
	})
}

// hand gives the data set of a DIMSE-N request to its handler, where there is
// one and the request is of its context's SOP class, and reads what it leaves.
func (a *Association) hand(ctx context.Context, pc *PresentationContext, m command.Message, served bool, class dicom.UID, handle func(io.Reader) Result) (Result, error) {
	var result Result
	var data io.Reader = bytes.NewReader(nil)
	set := a.newDataSet(pc.ID, maxInformation)
	if m.HasDataSet() {
		data = set
	}
	switch {
	case !served:
		a.tellUnsupported(ctx, m)
		result.Status = StatusUnrecognizedOperation
	case class != pc.AbstractSyntax:
		result = Result{StatusNoSuchSOPClass, "SOP class is not that of the presentation context"}
	case class != dicom.StorageCommitmentPushModel:
		result.Status = StatusUnrecognizedOperation
	default:
		if err := a.guard(func() { result = handle(data) }); err != nil {
			return result, err
		}
	}
	if m.HasDataSet() {
		if err := set.drain(); err != nil {
			return result, err
		}
	}
	if result.Status == StatusSuccess {
		result.ErrorComment = ""
	}
	return result, nil
}

// maxInformation bounds the data set of an N-ACTION-RQ or N-EVENT-REPORT-RQ, by
// which an association ends. Whoever reads it has a bound of their own, by which
// it is refused.
const maxInformation = 256 << 20

// negotiatedSyntax is the transfer syntax of an accepted context of storage
// commitment, which is one that we know: see choose and Dialer.Contexts.
func negotiatedSyntax(pc *PresentationContext) dicom.TransferSyntax {
	ts, _ := dicom.LookupTransferSyntax(pc.TransferSyntax)
	return ts
}
