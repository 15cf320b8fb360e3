package dimse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// committer serves storage commitment in both roles and commits to everything.
type committer struct {
	limits   commitment.Limits
	requests chan *commitment.Request // what was asked, to be reported next
	ended    chan ending              // how reports ended
	results  chan *commitment.Result  // what was reported to us
}

type ending struct {
	status dimse.Status
	err    error
}

func newCommitter() *committer {
	return &committer{commitment.Limits{References: 10}, make(chan *commitment.Request, 8), make(chan ending, 8), make(chan *commitment.Result, 8)}
}

func (c *committer) Action(_ context.Context, _ *dimse.Association, rq dimse.NActionRQ, data io.Reader) dimse.Result {
	request, err := commitment.ReadRequest(rq, data, c.limits)
	if err != nil {
		return response(err)
	}
	select {
	case c.requests <- request:
		return dimse.Result{Status: dimse.StatusSuccess}
	default:
		return dimse.Result{Status: command.StatusResourceLimitation}
	}
}

func (c *committer) NextEventReport(context.Context, *dimse.Association) *dimse.EventReport {
	select {
	case rq := <-c.requests:
		result := &commitment.Result{TransactionUID: rq.TransactionUID, Committed: rq.References}
		return &dimse.EventReport{
			NEventReportRQ: eventReport(result), Information: result.Encode,
			Done: func(s dimse.Status, err error) {
				select {
				case c.ended <- ending{s, err}:
				default: // nobody looks
				}
			},
		}
	default:
		return nil
	}
}

func (c *committer) EventReport(_ context.Context, _ *dimse.Association, rq dimse.NEventReportRQ, data io.Reader) dimse.Result {
	result, err := commitment.ReadResult(rq, data, c.limits)
	if err != nil {
		return response(err)
	}
	select {
	case c.results <- result:
	default: // nobody looks
	}
	return dimse.Result{Status: dimse.StatusSuccess}
}

func response(err error) dimse.Result {
	var refused *commitment.RefusedError
	if errors.As(err, &refused) {
		return refused.Response()
	}
	return dimse.Result{Status: dimse.StatusProcessingFailure}
}

func eventReport(r *commitment.Result) dimse.NEventReportRQ {
	return dimse.NEventReportRQ{
		SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, EventTypeID: r.EventTypeID(),
	}
}

var actionRequest = dimse.NActionRQ{
	SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest,
}

func request(transaction dicom.UID, references int) *commitment.Request {
	rq := &commitment.Request{TransactionUID: transaction}
	for i := range references {
		rq.References = append(rq.References, commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: dicom.UID(fmt.Sprintf("1.2.3.%d", 4+i))})
	}
	return rq
}

// serving is a server's configuration to serve storage commitment.
func serving(c *committer) func(*dimse.Server) {
	return func(s *dimse.Server) { s.Actions, s.EventReports = c, c }
}

// withCommitment proposes storage commitment on context 9, in the given roles of
// the requestor, if any.
func withCommitment(roles ...pdu.RoleSelection) func(*pdu.AssociateRQ) {
	return func(rq *pdu.AssociateRQ) {
		rq.PresentationContexts = append(rq.PresentationContexts, pdu.PresentationContextRQ{
			ID: 9, AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: bothSyntaxes,
		})
		rq.UserInformation.RoleSelections = roles
	}
}

func role(scu, scp bool) pdu.RoleSelection {
	return pdu.RoleSelection{SOPClassUID: dicom.StorageCommitmentPushModel, SCU: scu, SCP: scp}
}

func sendAction(t testing.TB, p *dimsetest.Peer, id uint16, rq *commitment.Request) {
	t.Helper()
	p.Send(commandPDU(t, 9, nActionRQ(id)), dimsetest.PData(dimsetest.PDV(9, dimsetest.LastData, rq.Encode(mustSyntax(dicom.ExplicitVRLittleEndian)))))
}

func nActionRQ(id uint16) *command.NActionRQ {
	return &command.NActionRQ{
		RequestedSOPClassUID: dicom.StorageCommitmentPushModel, MessageID: id, DataSet: true,
		RequestedSOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: 1,
	}
}

// actionInformation is a request for commitment as it goes over the wire.
func actionInformation(transaction dicom.UID, references int) []byte {
	return request(transaction, references).Encode(mustSyntax(dicom.ExplicitVRLittleEndian))
}

func eventReportRQ(id uint16) *command.NEventReportRQ {
	return &command.NEventReportRQ{
		AffectedSOPClassUID: dicom.StorageCommitmentPushModel, MessageID: id, DataSet: true,
		AffectedSOPInstanceUID: dicom.StorageCommitmentPushModelInstance, EventTypeID: 1,
	}
}

// expectAction reads the answer to an N-ACTION-RQ.
func expectAction(t testing.TB, p *dimsetest.Peer, id uint16, want dimse.Status) {
	t.Helper()
	rsp, ok := expectMessage(t, p, 9).(*command.NActionRSP)
	if !ok || rsp.Status != want || rsp.MessageIDBeingRespondedTo != id || rsp.HasDataSet() {
		t.Fatalf("%+v, want an N-ACTION-RSP of %v to message %d", rsp, want, id)
	}
	if want == dimse.StatusSuccess && (rsp.AffectedSOPClassUID != dicom.StorageCommitmentPushModel ||
		rsp.AffectedSOPInstanceUID != dicom.StorageCommitmentPushModelInstance || rsp.ErrorComment != "") {
		t.Errorf("answer %+v", rsp)
	}
}

// expectReport reads a report and its data set.
func expectReport(t testing.TB, p *dimsetest.Peer) (*command.NEventReportRQ, *commitment.Result) {
	t.Helper()
	m, ok := expectMessage(t, p, 9).(*command.NEventReportRQ)
	if !ok || !m.DataSet {
		t.Fatalf("%+v, want an N-EVENT-REPORT-RQ", m)
	}
	v, data := p.ExpectPData()
	if v.Command || !v.Last {
		t.Fatalf("PDV %+v, want a whole data set", v)
	}
	result, err := commitment.ReadResult(dimse.NEventReportRQ{
		SOPInstanceUID: m.AffectedSOPInstanceUID, EventTypeID: m.EventTypeID, TransferSyntax: mustSyntax(dicom.ExplicitVRLittleEndian),
	}, bytes.NewReader(data), commitment.Limits{References: 10})
	if err != nil {
		t.Fatal(err)
	}
	return m, result
}

func reportRSP(m *command.NEventReportRQ, status dimse.Status) *command.NEventReportRSP {
	return &command.NEventReportRSP{
		AffectedSOPClassUID: m.AffectedSOPClassUID, MessageIDBeingRespondedTo: m.MessageID, Status: status,
		AffectedSOPInstanceUID: m.AffectedSOPInstanceUID, EventTypeID: m.EventTypeID,
	}
}

// Checklist: "Role selection (54H)": what the acceptor grants of it.
func TestChecklist_RoleSelection(t *testing.T) {
	both, scp, scu := serving(newCommitter()), func(s *dimse.Server) { s.Actions = newCommitter() }, func(s *dimse.Server) { s.EventReports = newCommitter() }
	listing := func(classes ...dicom.UID) func(*dimse.Server) {
		return func(s *dimse.Server) { both(s); s.AbstractSyntaxes = classes }
	}
	refusing := func(served func(*dimse.Server)) func(*dimse.Server) {
		return func(s *dimse.Server) { served(s); s.Peers = []dimse.Peer{{RefuseActions: true}} }
	}
	for _, test := range []struct {
		name           string
		server         func(*dimse.Server)
		proposed, want []pdu.RoleSelection
		accepted       bool
	}{
		{"none proposed", both, nil, nil, true},
		{"both roles", both, []pdu.RoleSelection{role(true, true)}, []pdu.RoleSelection{role(true, true)}, true},
		{"a PACS that reports", both, []pdu.RoleSelection{role(false, true)}, []pdu.RoleSelection{role(false, true)}, true},
		{"a scanner that asks", both, []pdu.RoleSelection{role(true, false)}, []pdu.RoleSelection{role(true, false)}, true},
		{"neither", both, []pdu.RoleSelection{role(false, false)}, []pdu.RoleSelection{role(false, false)}, true},
		{"we are the SCP only", scp, []pdu.RoleSelection{role(true, true)}, []pdu.RoleSelection{role(true, false)}, true},
		{"we are the SCU only", scu, []pdu.RoleSelection{role(true, true)}, []pdu.RoleSelection{role(false, true)}, true},
		{"a list of SOP classes that names it", listing(dicom.Verification, dicom.StorageCommitmentPushModel), []pdu.RoleSelection{role(true, true)}, []pdu.RoleSelection{role(true, true)}, true},
		{"a list of SOP classes without it", listing(dicom.Verification, dicom.CTImageStorage), []pdu.RoleSelection{role(true, true)}, nil, false},
		{"a rule that lets nobody ask", refusing(both), []pdu.RoleSelection{role(true, true)}, []pdu.RoleSelection{role(false, true)}, true},
		{"a rule that lets nobody ask, and nobody to report to", refusing(scp), []pdu.RoleSelection{role(true, true)}, nil, false},
		{"not served", func(*dimse.Server) {}, []pdu.RoleSelection{role(true, true)}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, ac := establish(t, dimsetest.NewServer(t, newRecorder(), test.server), withCommitment(test.proposed...))
			equal(t, "roles", ac.UserInformation.RoleSelections, test.want)
			if got := ac.PresentationContexts[len(ac.PresentationContexts)-1].Result == pdu.Acceptance; got != test.accepted {
				t.Errorf("accepted %t, want %t", got, test.accepted)
			}
			release(t, p)
		})
	}
}

// Checklist: "N-ACTION in"; "anything unsupported gets 0211H"; "the message's SOP class is the context's abstract
// syntax". Each refusal leaves the association open.
func TestChecklist_ActionIn(t *testing.T) {
	ele := mustSyntax(dicom.ExplicitVRLittleEndian)
	sound := request("1.2.3", 2).Encode(ele)
	changed := func(f func(*command.NActionRQ)) *command.NActionRQ {
		rq := nActionRQ(5)
		f(rq)
		return rq
	}
	for _, test := range []struct {
		name    string
		roles   []pdu.RoleSelection
		context byte
		m       *command.NActionRQ
		data    []byte
		want    dimse.Status
	}{
		{"sound", nil, 9, nActionRQ(5), sound, dimse.StatusSuccess},
		{"sound, in both roles", []pdu.RoleSelection{role(true, true)}, 9, nActionRQ(5), sound, dimse.StatusSuccess},
		{"the peer is the SCP alone", []pdu.RoleSelection{role(false, true)}, 9, nActionRQ(5), sound, dimse.StatusUnrecognizedOperation},
		{"another SOP class", nil, 9, changed(func(m *command.NActionRQ) { m.RequestedSOPClassUID = "1.2.840.10008.1.20.2" }), sound, dimse.StatusNoSuchSOPClass},
		{"another SOP instance", nil, 9, changed(func(m *command.NActionRQ) { m.RequestedSOPInstanceUID = "1.2.3" }), sound, command.StatusNoSuchSOPInstance},
		{"no SOP instance", nil, 9, changed(func(m *command.NActionRQ) { m.RequestedSOPInstanceUID = "" }), sound, command.StatusInvalidObjectInstance},
		{"another action", nil, 9, changed(func(m *command.NActionRQ) { m.ActionTypeID = 2 }), sound, command.StatusNoSuchActionType},
		{"no data set", nil, 9, changed(func(m *command.NActionRQ) { m.DataSet = false }), nil, command.StatusInvalidArgumentValue},
		{"an empty data set", nil, 9, nActionRQ(5), []byte{}, command.StatusInvalidArgumentValue},
		{"no references", nil, 9, nActionRQ(5), request("1.2.3", 0).Encode(ele), command.StatusInvalidArgumentValue},
		{"no transaction", nil, 9, nActionRQ(5), request("", 1).Encode(ele), command.StatusInvalidArgumentValue},
		{"transaction that is no UID", nil, 9, nActionRQ(5), request("1.2.x", 1).Encode(ele), command.StatusInvalidArgumentValue},
		{"malformed", nil, 9, nActionRQ(5), sound[:len(sound)-2], command.StatusInvalidArgumentValue},
		{"a result", nil, 9, nActionRQ(5), (&commitment.Result{
			TransactionUID: "1.2.3", Failed: []commitment.Failure{{Reference: request("", 1).References[0], Reason: 0x0112}},
		}).Encode(ele), command.StatusInvalidArgumentValue},
		{"too many references", nil, 9, nActionRQ(5), request("1.2.3", 11).Encode(ele), command.StatusResourceLimitation},
		{"too long", nil, 9, nActionRQ(5), append(sound[:len(sound):len(sound)], "\x09\x00\x10\x00LT\x00\x80"+string(make([]byte, 0x8000))...), command.StatusResourceLimitation},
		{"on the context of CT", nil, 3, nActionRQ(5), sound, dimse.StatusNoSuchSOPClass},
		{"of CT", nil, 3, changed(func(m *command.NActionRQ) { m.RequestedSOPClassUID = dicom.CTImageStorage }), sound, dimse.StatusUnrecognizedOperation},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCommitter()
			p, _ := establish(t, dimsetest.NewServer(t, newRecorder(), serving(c)), withCommitment(test.roles...))
			p.Send(commandPDU(t, test.context, test.m))
			for rest := test.data; test.data != nil; {
				n := min(len(rest), 8<<10)
				control := byte(dimsetest.Data)
				if n == len(rest) {
					control = dimsetest.LastData
				}
				p.Send(dimsetest.PData(dimsetest.PDV(test.context, control, rest[:n])))
				if rest = rest[n:]; len(rest) == 0 {
					break
				}
			}
			rsp, ok := expectMessage(t, p, test.context).(*command.NActionRSP)
			if !ok || rsp.Status != test.want || rsp.MessageIDBeingRespondedTo != 5 || len(rsp.ErrorComment) > 64 {
				t.Fatalf("%+v, want an N-ACTION-RSP of %v", rsp, test.want)
			}
			if test.want == dimse.StatusSuccess {
				m, result := expectReport(t, p)
				equal(t, "result", result, &commitment.Result{TransactionUID: "1.2.3", Committed: request("", 2).References})
				p.Send(commandPDU(t, 9, reportRSP(m, dimse.StatusSuccess)))
			}
			expectEcho(t, p)
			release(t, p)
		})
	}
}

// A rule that lets nobody ask has an N-ACTION answered as if nobody performed any, and keeps no report from coming in.
func TestRuleThatRefusesActions(t *testing.T) {
	c := newCommitter()
	p, _ := establish(t, dimsetest.NewServer(t, newRecorder(), serving(c), func(s *dimse.Server) { s.Peers = []dimse.Peer{{RefuseActions: true}} }), withCommitment())
	sendAction(t, p, 5, request("1.2.3", 1))
	expectAction(t, p, 5, dimse.StatusUnrecognizedOperation)
	rq := storeRQ()
	rq.AffectedSOPClassUID, rq.MessageID = dicom.StorageCommitmentPushModel, 6
	p.Send(commandPDU(t, 9, rq), dimsetest.PData(dimsetest.PDV(9, dimsetest.LastData, make([]byte, 100))))
	if rsp, ok := expectMessage(t, p, 9).(*command.CStoreRSP); !ok || rsp.Status != dimse.StatusUnrecognizedOperation {
		t.Errorf("a C-STORE of storage commitment: %+v", rsp)
	}
	result := &commitment.Result{TransactionUID: "1.2.3", Committed: request("", 1).References}
	p.Send(commandPDU(t, 9, eventReportRQ(7)), dimsetest.PData(dimsetest.PDV(9, dimsetest.LastData, result.Encode(mustSyntax(dicom.ExplicitVRLittleEndian)))))
	if rsp, ok := expectMessage(t, p, 9).(*command.NEventReportRSP); !ok || rsp.Status != dimse.StatusSuccess {
		t.Errorf("an N-EVENT-REPORT: %+v", rsp)
	}
	equal(t, "taken", <-c.results, result)
	release(t, p)
}

// Checklist: "N-EVENT-REPORT out on the same association". Reports come one at a time, and what the peer asks while one
// is under way is answered: the two operations cross each other.
func TestChecklist_ReportOnTheSameAssociation(t *testing.T) {
	c := newCommitter()
	p, _ := establish(t, dimsetest.NewServer(t, newRecorder(), serving(c)), withCommitment())
	sendAction(t, p, 1, request("1.2.1", 1))
	expectAction(t, p, 1, dimse.StatusSuccess)
	first, result := expectReport(t, p)
	if first.AffectedSOPClassUID != dicom.StorageCommitmentPushModel || first.AffectedSOPInstanceUID != dicom.StorageCommitmentPushModelInstance ||
		first.EventTypeID != 1 || result.TransactionUID != "1.2.1" {
		t.Errorf("report %+v of %+v", first, result)
	}
	expectEcho(t, p)
	sendAction(t, p, 2, request("1.2.2", 1))
	expectAction(t, p, 2, dimse.StatusSuccess)
	expectEcho(t, p) // and no second report yet
	p.Send(commandPDU(t, 9, reportRSP(first, dimse.StatusProcessingFailure)))
	second, result := expectReport(t, p)
	if second.MessageID == first.MessageID || result.TransactionUID != "1.2.2" {
		t.Errorf("report %+v of %+v", second, result)
	}
	p.Send(commandPDU(t, 9, reportRSP(second, dimse.StatusSuccess)))
	expectEcho(t, p)
	release(t, p)
	equal(t, "first", (<-c.ended).status, dimse.StatusProcessingFailure)
	equal(t, "second", (<-c.ended).status, dimse.StatusSuccess)
}

// However an association ends under a report, whoever made it is told.
func TestReportOnAnAssociationThatEnds(t *testing.T) {
	aborted := &dimse.AbortedError{}
	for _, test := range []struct {
		name string
		end  func(t *testing.T, p *dimsetest.Peer, m *command.NEventReportRQ)
		want error
	}{
		{"release", func(t *testing.T, p *dimsetest.Peer, _ *command.NEventReportRQ) { release(t, p) }, dimse.ErrReleased},
		{"abort", func(t *testing.T, p *dimsetest.Peer, _ *command.NEventReportRQ) {
			p.SendPDU(&pdu.Abort{})
			p.ExpectClosed()
		}, aborted},
		{"close", func(_ *testing.T, p *dimsetest.Peer, _ *command.NEventReportRQ) { p.Close() }, io.EOF},
		{"answer to another message", func(t *testing.T, p *dimsetest.Peer, m *command.NEventReportRQ) {
			m.MessageID++
			p.Send(commandPDU(t, 9, reportRSP(m, dimse.StatusSuccess)))
			p.ExpectAbort(pdu.AbortServiceProvider, pdu.AbortReasonNotSpecified)
			p.ExpectClosed()
		}, dimse.ErrProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCommitter()
			p, _ := establish(t, dimsetest.NewServer(t, newRecorder(), serving(c)), withCommitment())
			sendAction(t, p, 1, request("1.2.1", 1))
			expectAction(t, p, 1, dimse.StatusSuccess)
			m, _ := expectReport(t, p)
			test.end(t, p, m)
			var abort *dimse.AbortedError
			if got := <-c.ended; !errors.Is(got.err, test.want) && (test.want != error(aborted) || !errors.As(got.err, &abort)) {
				t.Errorf("the report ended with %v, %v, want %v", got.status, got.err, test.want)
			}
		})
	}
	t.Run("an answer to nothing", func(t *testing.T) {
		p, _ := establish(t, dimsetest.NewServer(t, newRecorder(), serving(newCommitter())), withCommitment())
		p.Send(commandPDU(t, 9, reportRSP(&command.NEventReportRQ{MessageID: 1}, dimse.StatusSuccess)))
		p.ExpectAbort(pdu.AbortServiceProvider, pdu.AbortReasonNotSpecified)
	})
}

// committing is dialer for storage commitment.
func committing(roles ...pdu.RoleSelection) *dimse.Dialer {
	d := dialer()
	d.Contexts = []dimse.ProposedContext{{AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: bothSyntaxes}}
	d.RoleSelections = roles
	return d
}

// Our requestor and our acceptor in both roles: request, report on the same association, report on a new one with
// role reversal.
func TestChecklist_RoleReversalOnANewAssociation(t *testing.T) {
	scanner, pacs := newCommitter(), newCommitter()
	at := dimsetest.NewServer(t, newRecorder(), serving(pacs))
	a, err := committing().Dial(t.Context(), at.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 { // fragments: the second one fills several PDUs
		rq := request("1.2.3", 1+9*n)
		if result, err := a.Action(t.Context(), actionRequest, rq.Encode); err != nil || result.Status != dimse.StatusSuccess {
			t.Fatalf("Action: %+v, %v", result, err)
		}
		if came, err := a.AwaitEventReport(t.Context(), dimsetest.Timeout, scanner); !came || err != nil {
			t.Fatalf("AwaitEventReport: %t, %v", came, err)
		}
		equal(t, "result", <-scanner.results, &commitment.Result{TransactionUID: "1.2.3", Committed: rq.References})
		equal(t, "ended", (<-pacs.ended).status, dimse.StatusSuccess)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}

	b, err := committing(role(false, true)).Dial(t.Context(), dimsetest.NewServer(t, newRecorder(), serving(scanner)).Addr)
	if err != nil {
		t.Fatal(err)
	}
	want := &commitment.Result{TransactionUID: "1.2.4", Committed: request("", 2).References, Failed: []commitment.Failure{
		{Reference: commitment.Reference{SOPClassUID: dicom.MRImageStorage, SOPInstanceUID: "1.2.5"}, Reason: command.StatusNoSuchSOPInstance},
	}}
	if result, err := b.EventReport(t.Context(), eventReport(want), want.Encode); err != nil || result.Status != dimse.StatusSuccess {
		t.Fatalf("EventReport: %+v, %v", result, err)
	}
	equal(t, "result", <-scanner.results, want)
	for _, test := range []struct {
		name   string
		change func(*dimse.NEventReportRQ)
		want   dimse.Status
	}{
		{"event 3", func(rq *dimse.NEventReportRQ) { rq.EventTypeID = 3 }, command.StatusNoSuchEventType},
		{"another instance", func(rq *dimse.NEventReportRQ) { rq.SOPInstanceUID = "1.2.3" }, command.StatusNoSuchSOPInstance},
	} {
		rq := eventReport(want)
		test.change(&rq)
		if result, err := b.EventReport(t.Context(), rq, want.Encode); err != nil || result.Status != test.want {
			t.Errorf("%s: %+v, %v, want %v", test.name, result, err, test.want)
		}
	}
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// What the acceptor says of the SCP role that we propose.
func TestReportNeedsItsRole(t *testing.T) {
	for _, test := range []struct {
		name    string
		answer  []pdu.RoleSelection
		refused bool
	}{
		{"granted", []pdu.RoleSelection{role(false, true)}, false},
		{"refused", []pdu.RoleSelection{role(false, false)}, true},
		{"SCU granted, which was not asked for", []pdu.RoleSelection{role(true, false)}, true},
		{"not mentioned", nil, false}, // and the report may still be refused by its response
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := dimsetest.Listen(t, func(p *dimsetest.Peer) {
				accept(p, func(ac *pdu.AssociateAC) { ac.UserInformation.RoleSelections = test.answer })
				if !test.refused {
					_, set := p.ExpectPData()
					m, err := command.Unmarshal(set)
					if err != nil || m.Field() != command.FieldNEventReportRQ {
						t.Errorf("%v, %v", m, err)
						return
					}
					p.ExpectPData()
					rsp := reportRSP(m.(*command.NEventReportRQ), dimse.StatusUnrecognizedOperation)
					rsp.DataSet = true // an Event Reply, which nobody here needs
					p.Send(commandPDU(t, 1, rsp), dimsetest.PData(dimsetest.PDV(1, dimsetest.LastData, []byte("whatever"))))
				}
				p.ExpectPDU(pdu.TypeReleaseRQ)
				p.SendPDU(&pdu.ReleaseRP{})
			})
			a, err := committing(role(false, true)).Dial(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			r := &commitment.Result{TransactionUID: "1.2"}
			result, err := a.EventReport(t.Context(), eventReport(r), r.Encode)
			if errors.Is(err, dimse.ErrRoleRefused) != test.refused || !test.refused && (err != nil || result.Status != dimse.StatusUnrecognizedOperation) {
				t.Errorf("%+v, %v", result, err)
			}
			if err := a.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A report that does not come leaves an association that can still be used, or released.
func TestAwaitEventReportInVain(t *testing.T) {
	for _, test := range []struct {
		name   string
		script func(p *dimsetest.Peer)
		want   error
	}{
		{"silence", func(p *dimsetest.Peer) {
			p.ExpectPDU(pdu.TypeReleaseRQ)
			p.SendPDU(&pdu.ReleaseRP{})
		}, nil},
		{"other requests", func(p *dimsetest.Peer) {
			set, err := command.Marshal(&command.Generic{CommandField: command.FieldNSetRQ, MessageID: 3, DataSet: true})
			if err != nil {
				t.Error(err)
			}
			p.Send(dimsetest.PData(dimsetest.PDV(1, dimsetest.LastCommand, set), dimsetest.PDV(1, dimsetest.LastData, []byte("data"))))
			_, set = p.ExpectPData()
			if m, err := command.Unmarshal(set); err != nil || m.(*command.Generic).Status != dimse.StatusUnrecognizedOperation {
				t.Errorf("answered %+v, %v", m, err)
			}
			p.ExpectPDU(pdu.TypeReleaseRQ)
			p.SendPDU(&pdu.ReleaseRP{})
		}, nil},
		{"release", func(p *dimsetest.Peer) {
			p.SendPDU(&pdu.ReleaseRQ{})
			p.ExpectPDU(pdu.TypeReleaseRP)
		}, dimse.ErrReleased},
		{"response", func(p *dimsetest.Peer) {
			p.Send(dimsetest.PData(dimsetest.PDV(1, dimsetest.LastCommand, marshal(t, reportRSP(&command.NEventReportRQ{}, 0)))))
			p.ExpectAbort(pdu.AbortServiceProvider, pdu.AbortReasonNotSpecified)
		}, dimse.ErrProtocol},
		{"close", func(p *dimsetest.Peer) {}, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := dimsetest.Listen(t, func(p *dimsetest.Peer) {
				accept(p)
				test.script(p)
			})
			a, err := committing().Dial(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			patience := dimsetest.Timeout
			if test.want == nil {
				patience = 50 * time.Millisecond
			}
			came, err := a.AwaitEventReport(t.Context(), patience, newCommitter())
			if came || !errors.Is(err, test.want) {
				t.Errorf("%t, %v, want %v", came, err, test.want)
			}
			if err := a.Release(t.Context()); test.want == nil && err != nil {
				t.Errorf("Release: %v", err)
			}
			a.Abort()
		})
	}
}

// The report goes out on the context on which it was asked for, in its transfer syntax, though another one would do.
func TestReportComesOnTheContextOfItsRequest(t *testing.T) {
	p, _ := establish(t, dimsetest.NewServer(t, newRecorder(), serving(newCommitter())), withCommitment(), func(rq *pdu.AssociateRQ) {
		rq.PresentationContexts = append(rq.PresentationContexts, pdu.PresentationContextRQ{
			ID: 11, AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian},
		})
	})
	implicit := mustSyntax(dicom.ImplicitVRLittleEndian)
	p.Send(commandPDU(t, 11, nActionRQ(1)), dimsetest.PData(dimsetest.PDV(11, dimsetest.LastData, request("1.2.3", 1).Encode(implicit))))
	if rsp, ok := expectMessage(t, p, 11).(*command.NActionRSP); !ok || rsp.Status != dimse.StatusSuccess {
		t.Fatalf("answered %+v", rsp)
	}
	m := expectMessage(t, p, 11)
	_, data := p.ExpectPData()
	want := (&commitment.Result{TransactionUID: "1.2.3", Committed: request("", 1).References}).Encode(implicit)
	if m.Field() != command.FieldNEventReportRQ || !bytes.Equal(data, want) {
		t.Errorf("%s of\n%x, want\n%x", m.Field(), data, want)
	}
}
