package dimse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// serve runs the acceptor's side of a connection from Evt5 to its close.
func (s *Server) serve(ctx context.Context, a *Association) {
	s.repeats.sweep(time.Now())
	if err := s.accept(ctx, a); err != nil {
		s.tell(ctx, a, Refusal{
			AssociateRequestInfo: AssociateRequestInfo{
				RemoteAddr: a.RemoteAddr(), CallingAETitle: a.calling, CalledAETitle: a.called, CertificateNames: a.names,
			},
			Cause: unrequested(err), Err: err,
		})
		return
	}
	if a.machine.state != sta6 { // rejected
		a.linger()
		return
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	observer, _ := s.Handler.(AssociationObserver)
	if observer != nil {
		a.guard(func() { observer.AssociationOpened(a) })
	}
	counts, err := s.converse(ctx, a)
	cancel()
	a.abandonReport(err)
	if observer != nil {
		a.guard(func() { observer.AssociationClosed(a, err) })
	}
	s.freeSlot(a)
	level, attrs := s.levelOf(a), []slog.Attr{
		slog.Int("messages", counts.messages), slog.Int("objects", counts.objects), slog.Int64("bytes", counts.bytes),
		slog.Duration("lasted", time.Since(a.opened)),
	}
	if err != nil {
		level, attrs = slog.LevelWarn, append(attrs, slog.Any("reason", err))
	}
	a.log.LogAttrs(ctx, level, "association closed", attrs...)
	a.linger()
}

// accept awaits the A-ASSOCIATE-RQ and answers it. It leaves the machine in
// Sta6, or in Sta13 after a rejection.
func (s *Server) accept(ctx context.Context, a *Association) error {
	if _, err := a.fire(evt5, nil); err != nil {
		return a.fail(err)
	}
	if err := a.secure(ctx); err != nil {
		return a.fail(err)
	}
	p, err := a.reader.Next()
	if err != nil {
		return a.fail(err)
	}
	rq, ok := p.(*pdu.AssociateRQ)
	if !ok {
		if abort, ok := p.(*pdu.Abort); ok {
			return a.failOn(evt16, &AbortedError{abort.Source, abort.Reason})
		}
		return a.failOn(eventOf(p), breachf(breachUnexpectedPDU, "%s in %s", p.Type(), a.machine.state))
	}
	if err := checkContexts(rq); err != nil {
		return a.fail(err)
	}
	a.calling, a.called = titleOf(rq.CallingAETitle), titleOf(rq.CalledAETitle)
	a.log = a.log.With("calling", printable(string(a.calling), 16), "called", printable(string(a.called), 16))

	if c := providerRefuses(rq); c != 0 {
		return s.reject(ctx, a, evt6, Refusal{AssociateRequestInfo: requestInfo(a, rq), Cause: c, Rejection: causes[c].rejection})
	}
	if _, err := a.fire(evt6, nil); err != nil {
		return a.fail(err)
	}
	switch refusal, err := s.admit(ctx, a, rq); {
	case err != nil:
		return err // it is over: finish forgets it, and its slot
	case refusal.Cause != 0:
		s.freeSlot(a)
		return s.reject(ctx, a, evt8, refusal)
	}
	ac, contexts := s.answer(rq, &a.rule.peer)
	ac.UserInformation.UserIdentityResponse = a.identityResponse
	a.roles = ac.UserInformation.RoleSelections
	err = a.negotiated(contexts, rq.UserInformation)
	if err == nil {
		_, err = a.fire(evt7, ac)
	}
	if err != nil {
		s.freeSlot(a)
		return a.fail(err)
	}
	attrs := []slog.Attr{
		slog.Int("contexts", len(contexts)), slog.Int("accepted", countAccepted(contexts)),
		slog.Uint64("peerMaxPDU", uint64(a.PeerMaxPDU())),
		slog.String("implementation", printable(a.PeerImplementationVersionName(), 16)), slog.Group("", s.origin(a)...),
	}
	if refused := refusedClasses(contexts); len(refused) > 0 {
		attrs = append(attrs, slog.Any("refused", refused))
	}
	a.log.LogAttrs(ctx, s.levelOf(a), "association opened", attrs...)
	return nil
}

// levelOf is that of a line about an association that is as it should be.
func (s *Server) levelOf(a *Association) slog.Level {
	if a.rule == &s.own {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func countAccepted(contexts []PresentationContext) (n int) {
	for _, pc := range contexts {
		if pc.Result == pdu.Acceptance {
			n++
		}
	}
	return n
}

// reject sends an A-ASSOCIATE-RJ.
func (s *Server) reject(ctx context.Context, a *Association, e event, r Refusal) error {
	s.tell(ctx, a, r)
	if _, err := a.fire(e, &pdu.AssociateRJ{Result: r.Rejection.Result, Source: r.Rejection.Source, Reason: r.Rejection.Reason}); err != nil {
		return a.fail(err)
	}
	return nil
}

// tally counts what an association brought.
type tally struct {
	messages, objects int
	bytes             int64
}

// converse answers messages until the association ends: with nil after an
// orderly release.
func (s *Server) converse(ctx context.Context, a *Association) (t tally, err error) {
	quiet := s.isForCommitment(a)
	for {
		if err := s.sendReport(a); err != nil {
			return t, err
		}
		switch err := s.await(a, quiet); {
		case err == errWoken:
			continue
		case err == errQuiet:
			quiet = false
			s.seekReport(ctx, a)
			continue
		case err != nil:
			return t, a.fail(err)
		}
		pc, m, err := a.readCommand()
		if err == errReleaseRequested {
			_, err = a.fire(evt14, &pdu.ReleaseRP{})
			if err != nil {
				return t, a.fail(err)
			}
			a.err = ErrAssociationClosed
			return t, nil
		}
		if err == nil {
			t.messages++
			err = s.dispatch(ctx, a, pc, m, &t)
		}
		if err != nil {
			return t, err
		}
	}
}

// errQuiet: the peer says nothing.
var errQuiet = errors.New("dimse: the peer is silent")

// await waits for the next message to begin, or a report to be ready; quiet: no
// longer than for errQuiet.
func (s *Server) await(a *Association, quiet bool) error {
	if !quiet || s.idleTimeout() < reportQuiet {
		return a.conn.await(s.idleTimeout(), a.reader.Await)
	}
	err := a.conn.await(reportQuiet, a.reader.Await)
	if errors.Is(err, ErrTimeout) {
		return errQuiet
	}
	return err
}

// dispatch answers one message.
func (s *Server) dispatch(ctx context.Context, a *Association, pc *PresentationContext, m command.Message, t *tally) error {
	if pc.AbstractSyntax == dicom.StorageCommitmentPushModel {
		a.reports.spoken = pc
	}
	switch m := m.(type) {
	case *command.CEchoRQ:
		return s.echo(ctx, a, pc, m)
	case *command.CStoreRQ:
		return s.store(ctx, a, pc, m, t)
	case *command.NActionRQ:
		if err := a.takeAction(ctx, pc, m, s.actionsOf(&a.rule.peer)); err != nil {
			return err
		}
		s.seekReport(ctx, a)
		return nil
	case *command.NEventReportRQ:
		return a.takeEventReport(ctx, pc, m, s.EventReports)
	case *command.NEventReportRSP:
		if err := a.takeReportResponse(pc, m); err != nil {
			return err
		}
		s.seekReport(ctx, a)
		return nil
	}
	return a.refuse(ctx, pc, m, s.maxObjectOf(a))
}

// refuse answers a request that nobody serves, when its data set is over.
func (a *Association) refuse(ctx context.Context, pc *PresentationContext, m command.Message, maxDataSet int64) error {
	if m.Field() == command.FieldCCancelRQ && !m.HasDataSet() {
		return nil // of an operation that is over or never was: no answer (PS3.7 9.3.2.3)
	}
	generic, ok := m.(*command.Generic)
	if !ok || generic.CommandField.IsResponse() {
		return a.fail(breachf(breachResponse, "%s that answers nothing we asked", m.Field()))
	}
	if m.HasDataSet() {
		if err := a.newDataSet(pc.ID, maxDataSet).drain(); err != nil {
			return err
		}
	}
	if m.Field() == command.FieldCCancelRQ {
		return nil
	}
	a.tellUnsupported(ctx, m)
	return a.send(pc.ID, generic.Refuse(StatusUnrecognizedOperation, ""))
}

// tellUnsupported logs a command that nobody serves: one line, however many follow.
func (a *Association) tellUnsupported(ctx context.Context, m command.Message) {
	if a.unsupported++; a.unsupported == 1 {
		a.log.LogAttrs(ctx, slog.LevelWarn, "unsupported command refused", slog.String("command", m.Field().String()))
	}
}

func (s *Server) echo(ctx context.Context, a *Association, pc *PresentationContext, m *command.CEchoRQ) error {
	status := s.checkClass(a, pc, m.AffectedSOPClassUID)
	if status == StatusSuccess && pc.AbstractSyntax != dicom.Verification {
		status = StatusUnrecognizedOperation
	}
	if status == StatusSuccess {
		if err := a.guard(func() { status = s.Handler.Echo(ctx, a) }); err != nil {
			return err
		}
	}
	return a.send(pc.ID, &command.CEchoRSP{
		AffectedSOPClassUID:       m.AffectedSOPClassUID,
		MessageIDBeingRespondedTo: m.MessageID,
		Status:                    status,
	})
}

func (s *Server) store(ctx context.Context, a *Association, pc *PresentationContext, m *command.CStoreRQ, t *tally) error {
	result := s.checkStore(a, pc, m)
	if m.DataSet {
		data := a.newDataSet(pc.ID, s.maxObjectOf(a))
		s.paceObject(ctx, a)
		if result.Status == StatusSuccess {
			ts, stream := syntaxOf(pc.TransferSyntax, data)
			rq := CStoreRQ{
				SOPClassUID:             m.AffectedSOPClassUID,
				SOPInstanceUID:          m.AffectedSOPInstanceUID,
				TransferSyntax:          ts,
				Priority:                m.Priority,
				MoveOriginatorAETitle:   m.MoveOriginatorAETitle,
				MoveOriginatorMessageID: m.MoveOriginatorMessageID,
				MessageID:               m.MessageID,
			}
			err := a.guard(func() { result = s.Handler.Store(ctx, a, rq, stream) })
			if err != nil {
				return err
			}
		}
		if err := data.drain(); err != nil {
			return err
		}
		t.objects++
		t.bytes += data.size
	}
	if result.Status == StatusSuccess {
		result.ErrorComment = ""
	}
	return a.send(pc.ID, &command.CStoreRSP{
		AffectedSOPClassUID:       m.AffectedSOPClassUID,
		MessageIDBeingRespondedTo: m.MessageID,
		Status:                    result.Status,
		ErrorComment:              result.ErrorComment,
		AffectedSOPInstanceUID:    m.AffectedSOPInstanceUID,
	})
}

// checkStore judges a C-STORE-RQ by its command set alone.
func (s *Server) checkStore(a *Association, pc *PresentationContext, m *command.CStoreRQ) Result {
	if status := s.checkClass(a, pc, m.AffectedSOPClassUID); status != StatusSuccess {
		return Result{Status: status, ErrorComment: "SOP class is not that of the presentation context"}
	}
	switch {
	case pc.AbstractSyntax == dicom.Verification, pc.AbstractSyntax == dicom.StorageCommitmentPushModel:
		return Result{Status: StatusUnrecognizedOperation}
	case m.AffectedSOPInstanceUID == "":
		return Result{Status: StatusMissingAttribute, ErrorComment: "no Affected SOP Instance UID"}
	case m.AffectedSOPInstanceUID.Valid() != nil:
		return Result{Status: StatusInvalidObjectInstance, ErrorComment: "Affected SOP Instance UID is not a UID"}
	case !m.DataSet:
		return Result{Status: StatusCannotUnderstand, ErrorComment: "no data set"}
	}
	return Result{Status: StatusSuccess}
}

// checkClass compares a message's SOP class with the abstract syntax of the
// context that it came on.
func (s *Server) checkClass(a *Association, pc *PresentationContext, class dicom.UID) Status {
	switch {
	case class == pc.AbstractSyntax:
		return StatusSuccess
	case s.acceptsAbstract(class, &a.rule.peer):
		return StatusSOPClassNotSupported
	}
	return StatusNoSuchSOPClass
}

// errHandlerPanic is why an association ends whose Handler panicked.
var errHandlerPanic = errors.New("dimse: the handler panicked")

// guard calls f, a call of the Handler or of Admit. A panic costs the association.
func (a *Association) guard(f func()) error {
	if err := a.caught(f); err != nil {
		return a.fail(err)
	}
	return nil
}

// caught calls f and returns errHandlerPanic if it panics. The value stays out of
// the log, as it may hold what an object holds.
func (a *Association) caught(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			a.log.Error("handler panicked; association aborted",
				"type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
			err = errHandlerPanic
		}
	}()
	f()
	return nil
}
