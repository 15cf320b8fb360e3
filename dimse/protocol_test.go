package dimse_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// associateRQ proposes Verification on context 1, CT on 3 and 5.
func associateRQ() *pdu.AssociateRQ {
	return &pdu.AssociateRQ{
		Associate: pdu.Associate{
			ProtocolVersion:    1,
			CalledAETitle:      pdu.AETitleField(dimsetest.AETitle),
			CallingAETitle:     pdu.AETitleField("SCANNER"),
			ApplicationContext: dicom.ApplicationContext,
		},
		PresentationContexts: []pdu.PresentationContextRQ{
			{ID: 1, AbstractSyntax: dicom.Verification, TransferSyntaxes: bothSyntaxes},
			{ID: 3, AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: bothSyntaxes},
			{ID: 5, AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
			{ID: 7, AbstractSyntax: "1.2.3.999", TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
		},
		UserInformation: pdu.UserInformation{MaximumLength: 16384, ImplementationClassUID: "1.2.3"},
	}
}

// establish opens an association by hand.
func establish(t testing.TB, s *dimsetest.Server, change ...func(*pdu.AssociateRQ)) (*dimsetest.Peer, *pdu.AssociateAC) {
	t.Helper()
	rq := associateRQ()
	for _, f := range change {
		f(rq)
	}
	p := dimsetest.Dial(t, s.Addr)
	p.SendPDU(rq)
	ac, ok := p.ExpectPDU(pdu.TypeAssociateAC).(*pdu.AssociateAC)
	if !ok {
		t.FailNow()
	}
	return p, ac
}

func marshal(t testing.TB, m command.Message) []byte {
	t.Helper()
	set, err := command.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// commandPDU is a P-DATA-TF with a whole command set.
func commandPDU(t testing.TB, contextID byte, m command.Message) []byte {
	t.Helper()
	return dimsetest.PData(dimsetest.PDV(contextID, dimsetest.LastCommand, marshal(t, m)))
}

// expectMessage reads a command set.
func expectMessage(t testing.TB, p *dimsetest.Peer, contextID byte) command.Message {
	t.Helper()
	v, set := p.ExpectPData()
	if !v.Command || !v.Last || v.ContextID != contextID {
		t.Fatalf("PDV %+v, want a whole command on context %d", v, contextID)
	}
	m, err := command.Unmarshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// expectEcho checks that the association still works.
func expectEcho(t testing.TB, p *dimsetest.Peer) {
	t.Helper()
	p.Send(commandPDU(t, 1, &command.CEchoRQ{AffectedSOPClassUID: dicom.Verification, MessageID: 77}))
	rsp, ok := expectMessage(t, p, 1).(*command.CEchoRSP)
	if !ok || rsp.MessageIDBeingRespondedTo != 77 || rsp.Status != dimse.StatusSuccess {
		t.Errorf("C-ECHO answered with %+v", rsp)
	}
}

func release(t testing.TB, p *dimsetest.Peer) {
	t.Helper()
	p.SendPDU(&pdu.ReleaseRQ{})
	p.ExpectPDU(pdu.TypeReleaseRP)
	p.Close()
}

// storeRQ is a C-STORE-RQ for a CT image.
func storeRQ() *command.CStoreRQ {
	return &command.CStoreRQ{AffectedSOPClassUID: dicom.CTImageStorage, MessageID: 5, AffectedSOPInstanceUID: "1.2.3.4", DataSet: true}
}

func TestRejections(t *testing.T) {
	congested := dimse.RejectTemporaryCongestion
	tests := []struct {
		name   string
		change func(*pdu.AssociateRQ)
		server func(*dimse.Server)
		want   dimse.Rejection
	}{
		{"protocol version 2 only", func(rq *pdu.AssociateRQ) { rq.ProtocolVersion = 2 }, nil, dimse.RejectProtocolVersion},
		{"application context", func(rq *pdu.AssociateRQ) { rq.ApplicationContext = "1.2.3" }, nil, dimse.RejectApplicationContext},
		{"called AE title", func(rq *pdu.AssociateRQ) { rq.CalledAETitle = pdu.AETitleField("OTHER") }, nil, dimse.RejectCalledAETitle},
		{"blank called AE title", func(rq *pdu.AssociateRQ) { rq.CalledAETitle = pdu.AETitleField("") }, nil, dimse.RejectCalledAETitle},
		{"calling AE title", nil, func(s *dimse.Server) { s.Peers = []dimse.Peer{{CallingAETitle: "CT1"}, {CallingAETitle: "CT2"}} }, dimse.RejectCallingAETitle},
		{"blank calling AE title", func(rq *pdu.AssociateRQ) { rq.CallingAETitle = pdu.AETitleField("") }, nil, dimse.RejectCallingAETitle},
		{"calling AE title with a control character", func(rq *pdu.AssociateRQ) { rq.CallingAETitle = pdu.AETitleField("A\nB") }, nil, dimse.RejectCallingAETitle},
		{"disk full", nil, func(s *dimse.Server) {
			s.Admit = func(_ context.Context, rq dimse.AssociateRequestInfo) *dimse.Rejection {
				if rq.CallingAETitle == "SCANNER" && len(rq.Contexts) == 4 {
					return &congested
				}
				return nil
			}
		}, dimse.RejectTemporaryCongestion},
		{"maximum length too short for an answer", func(rq *pdu.AssociateRQ) { rq.UserInformation.MaximumLength = 6 }, nil, dimse.RejectACSE},
		{"maximum length for one byte of it", func(rq *pdu.AssociateRQ) { rq.UserInformation.MaximumLength = 7 }, nil, dimse.RejectACSE},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var configure []func(*dimse.Server)
			if test.server != nil {
				configure = append(configure, test.server)
			}
			s := dimsetest.NewServer(t, newRecorder(), configure...)
			rq := associateRQ()
			if test.change != nil {
				test.change(rq)
			}
			p := dimsetest.Dial(t, s.Addr)
			p.SendPDU(rq)
			rj, ok := p.ExpectPDU(pdu.TypeAssociateRJ).(*pdu.AssociateRJ)
			if got := (dimse.Rejection{Result: rj.Result, Source: rj.Source, Reason: rj.Reason}); !ok || got != test.want {
				t.Errorf("rejected as %s, want %s", got, test.want)
			}
			p.SendPDU(&pdu.ReleaseRQ{}) // in Sta13: ignored (AA-6)
			p.SendPDU(rq)               // in Sta13: aborted (AA-7)
			p.ExpectAbort(pdu.AbortServiceProvider, pdu.AbortUnexpectedPDU)
			p.Close()
		})
	}
}

// Bit 0 of the protocol version alone counts, the reserved bytes do not, titles
// come padded with NUL, and the answer echoes what came.
func TestAnswer(t *testing.T) {
	r := newRecorder()
	s := dimsetest.NewServer(t, r, func(s *dimse.Server) { s.Peers = []dimse.Peer{{CallingAETitle: "OTHER"}, {CallingAETitle: "SCANNER"}} })
	p, ac := establish(t, s, func(rq *pdu.AssociateRQ) {
		rq.ProtocolVersion = 0xFFFF
		rq.CalledAETitle = [16]byte{'I', 'C', 'H', 'W', 'A', 'T', 'C', 'H'}
		rq.Reserved[31] = 0x5A
		rq.UserInformation.AsynchronousOperations = &pdu.AsynchronousOperations{}
		rq.UserInformation.RoleSelections = []pdu.RoleSelection{
			{SOPClassUID: dicom.CTImageStorage, SCU: true, SCP: true},
			{SOPClassUID: "1.2.3.999", SCU: true},
		}
		rq.UserInformation.ExtendedNegotiations = []pdu.ExtendedNegotiation{{SOPClassUID: dicom.CTImageStorage, Information: []byte{2}}}
		rq.UserInformation.CommonExtended = []pdu.CommonExtendedNegotiation{{SOPClassUID: dicom.CTImageStorage, ServiceClassUID: "1.2.840.10008.4.2"}}
		rq.UserInformation.UserIdentity = &pdu.UserIdentity{Type: pdu.IdentityUsername, PrimaryField: []byte("somebody")}
	})
	if ac.ProtocolVersion != 1 || ac.CalledAETitle != [16]byte{'I', 'C', 'H', 'W', 'A', 'T', 'C', 'H'} ||
		ac.CallingAETitle != pdu.AETitleField("SCANNER") || ac.Reserved[31] != 0x5A || ac.ApplicationContext != dicom.ApplicationContext {
		t.Errorf("fixed fields %+v are not the request's", ac.Associate)
	}
	wantContexts := []pdu.PresentationContextAC{
		{ID: 1, Result: pdu.Acceptance, TransferSyntax: dicom.ExplicitVRLittleEndian},
		{ID: 3, Result: pdu.Acceptance, TransferSyntax: dicom.ExplicitVRLittleEndian},
		{ID: 5, Result: pdu.Acceptance, TransferSyntax: dicom.ImplicitVRLittleEndian},
		{ID: 7, Result: pdu.AbstractSyntaxNotSupported, TransferSyntax: dicom.ImplicitVRLittleEndian},
	}
	equal(t, "contexts", ac.PresentationContexts, wantContexts)
	equal(t, "user information", ac.UserInformation, pdu.UserInformation{
		MaximumLength:             131072,
		ImplementationClassUID:    dicom.ImplementationClassUID,
		ImplementationVersionName: dicom.ImplementationVersionName,
		AsynchronousOperations:    &pdu.AsynchronousOperations{Invoked: 1, Performed: 1},
		RoleSelections:            []pdu.RoleSelection{{SOPClassUID: dicom.CTImageStorage, SCU: true}},
	})
	expectEcho(t, p)
	release(t, p)
	if err := r.awaitClosed(t, 1); err != nil {
		t.Errorf("association ended with %v", err)
	}
}

func TestTransferSyntaxPreference(t *testing.T) {
	for _, test := range []struct {
		name       string
		configured []dicom.UID
		proposed   []dicom.UID
		want       pdu.PresentationContextAC
	}{
		{"the peer's order by default", nil, []dicom.UID{"1.2.3", dicom.JPEG2000, dicom.ImplicitVRLittleEndian}, pdu.PresentationContextAC{ID: 9, TransferSyntax: dicom.JPEG2000}},
		{"ours when configured", []dicom.UID{dicom.ImplicitVRLittleEndian, dicom.JPEG2000}, []dicom.UID{dicom.JPEG2000, dicom.ImplicitVRLittleEndian}, pdu.PresentationContextAC{ID: 9, TransferSyntax: dicom.ImplicitVRLittleEndian}},
		{"a private one when configured", []dicom.UID{"1.2.3"}, []dicom.UID{"1.2.3"}, pdu.PresentationContextAC{ID: 9, TransferSyntax: "1.2.3"}},
		{"none known", nil, []dicom.UID{"1.2.3"}, pdu.PresentationContextAC{ID: 9, Result: pdu.TransferSyntaxesNotSupported, TransferSyntax: "1.2.3"}},
		{"none proposed", nil, nil, pdu.PresentationContextAC{ID: 9, Result: pdu.TransferSyntaxesNotSupported, TransferSyntax: dicom.ImplicitVRLittleEndian}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) { s.TransferSyntaxes = test.configured })
			p, ac := establish(t, s, func(rq *pdu.AssociateRQ) {
				rq.PresentationContexts = []pdu.PresentationContextRQ{{ID: 9, AbstractSyntax: dicom.MRImageStorage, TransferSyntaxes: test.proposed}}
			})
			equal(t, "contexts", ac.PresentationContexts, []pdu.PresentationContextAC{test.want})
			release(t, p)
		})
	}
}

// A private transfer syntax is for what is stored as it came. Storage commitment,
// whose data sets we read and write, travels in one that we know.
func TestCommitmentInNoPrivateTransferSyntax(t *testing.T) {
	s := dimsetest.NewServer(t, newRecorder(), serving(newCommitter()), func(s *dimse.Server) {
		s.TransferSyntaxes = []dicom.UID{"1.2.3", dicom.ImplicitVRLittleEndian}
	})
	p, ac := establish(t, s, func(rq *pdu.AssociateRQ) {
		rq.PresentationContexts = nil
		for i, class := range []dicom.UID{dicom.MRImageStorage, dicom.StorageCommitmentPushModel} {
			rq.PresentationContexts = append(rq.PresentationContexts, pdu.PresentationContextRQ{
				ID: byte(2*i + 1), AbstractSyntax: class, TransferSyntaxes: []dicom.UID{"1.2.3", dicom.ImplicitVRLittleEndian},
			})
		}
		rq.PresentationContexts = append(rq.PresentationContexts, pdu.PresentationContextRQ{
			ID: 5, AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: []dicom.UID{"1.2.3"},
		})
	})
	equal(t, "contexts", ac.PresentationContexts, []pdu.PresentationContextAC{
		{ID: 1, TransferSyntax: "1.2.3"},
		{ID: 3, TransferSyntax: dicom.ImplicitVRLittleEndian},
		{ID: 5, Result: pdu.TransferSyntaxesNotSupported, TransferSyntax: "1.2.3"},
	})
	release(t, p)
}

// However many commands come that nobody serves, they are one line in the log.
func TestPromise6_UnsupportedCommandsDoNotFillTheLog(t *testing.T) {
	log := new(dimsetest.Output)
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) { s.Log = slog.New(slog.NewTextHandler(log, nil)) })
	p, _ := establish(t, s)
	for range 10 {
		for _, m := range []command.Message{
			&command.Generic{CommandField: command.FieldCFindRQ, AffectedSOPClassUID: "1.2.840.10008.5.1.4.1.2.2.1", MessageID: 5},
			&command.NActionRQ{RequestedSOPClassUID: dicom.StorageCommitmentPushModel, MessageID: 5},
			&command.NEventReportRQ{AffectedSOPClassUID: dicom.StorageCommitmentPushModel, MessageID: 5},
		} {
			p.Send(commandPDU(t, 3, m))
			expectMessage(t, p, 3)
		}
	}
	release(t, p)
	if n := strings.Count(log.String(), "unsupported command"); n != 1 {
		t.Errorf("%d lines about 30 commands:\n%s", n, log)
	}
}

// What no table has is accepted as Storage where the configuration says so, what
// is known to be something else never.
func TestUnknownSOPClasses(t *testing.T) {
	const private, later, query = "1.2.840.113619.4.30", "1.2.840.10008.5.1.4.1.1.999", "1.2.840.10008.5.1.4.1.2.2.1"
	for _, test := range []struct {
		name      string
		configure func(*dimse.Server)
		want      [3]bool // whether private, later and query are accepted
	}{
		{"refused by default", func(*dimse.Server) {}, [3]bool{}},
		{"a private one by name", func(s *dimse.Server) { s.PrivateStorage = []dicom.UID{private} }, [3]bool{true, false, false}},
		{"all that may be", func(s *dimse.Server) { s.UnknownStorage = true }, [3]bool{true, true, false}},
		{"all that may be, and few others", func(s *dimse.Server) {
			s.UnknownStorage, s.AbstractSyntaxes = true, []dicom.UID{dicom.Verification}
		}, [3]bool{true, true, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRecorder()
			s := dimsetest.NewServer(t, r, test.configure)
			d := dialer()
			d.Contexts = nil
			for _, class := range []dicom.UID{private, later, query} {
				d.Contexts = append(d.Contexts, dimse.ProposedContext{AbstractSyntax: class, TransferSyntaxes: bothSyntaxes})
			}
			a, err := d.Dial(t.Context(), s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			for i, pc := range a.Contexts() {
				if accepted := pc.Result == pdu.Acceptance; accepted != test.want[i] {
					t.Errorf("%s: %v", pc.AbstractSyntax, pc.Result)
				}
				if !test.want[i] {
					continue
				}
				rq, data := ctRequest(), ctDataSet("1.2.3.4", 8, 8)
				rq.SOPClassUID = pc.AbstractSyntax
				if result, err := a.Store(t.Context(), rq, bytes.NewReader(data)); err != nil || result.Status != dimse.StatusSuccess {
					t.Errorf("%s: %v, %v", pc.AbstractSyntax, result, err)
				}
				if got := r.only(t); got.rq.SOPClassUID != pc.AbstractSyntax || !bytes.Equal(got.data, data) {
					t.Errorf("%s: received %d bytes as %s", pc.AbstractSyntax, len(got.data), got.rq.SOPClassUID)
				}
				r.update(func() { r.objects = nil })
			}
			if err := a.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A data set in a private transfer syntax reaches the Handler whole, with what
// its first bytes tell of the encoding.
func TestPrivateTransferSyntaxIsStored(t *testing.T) {
	const private dicom.UID = "1.2.840.113619.5.2"
	r := newRecorder()
	s := dimsetest.NewServer(t, r, func(s *dimse.Server) { s.TransferSyntaxes = []dicom.UID{private} })
	d := dialer()
	d.Contexts = []dimse.ProposedContext{{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{private}}}
	a, err := d.Dial(t.Context(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for data, explicit := range map[string]bool{
		string(ctDataSet("1.2.3.4", 8, 8)):   true,
		"\x08\x00\x05\x00\x02\x00\x00\x00ab": false,
		"\x08\x00":                           false, // shorter than what is looked at
	} {
		rq := ctRequest()
		rq.TransferSyntax = dicom.TransferSyntax{UID: private}
		if result, err := a.Store(t.Context(), rq, strings.NewReader(data)); err != nil || result.Status != dimse.StatusSuccess {
			t.Fatalf("%d bytes: %v, %v", len(data), result, err)
		}
		got := r.only(t)
		if string(got.data) != data || got.rq.TransferSyntax.UID != private || got.rq.TransferSyntax.ExplicitVR != explicit {
			t.Errorf("%d bytes of %d in %+v", len(got.data), len(data), got.rq.TransferSyntax)
		}
		r.update(func() { r.objects = nil })
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// Every storage SOP class in every known transfer syntax is accepted, 128
// contexts at a time.
func TestEveryContextIsAccepted(t *testing.T) {
	s := dimsetest.NewServer(t, newRecorder())
	accepted := 0
	for classes := range slices.Chunk(dicom.StorageSOPClasses(), 128) {
		for _, ts := range dicom.TransferSyntaxes() {
			p, ac := establish(t, s, func(rq *pdu.AssociateRQ) {
				rq.PresentationContexts = nil
				for i, class := range classes {
					rq.PresentationContexts = append(rq.PresentationContexts, pdu.PresentationContextRQ{
						ID: uint8(2*i + 1), AbstractSyntax: class, TransferSyntaxes: []dicom.UID{ts.UID},
					})
				}
			})
			for _, pc := range ac.PresentationContexts {
				if pc.Result != pdu.Acceptance || pc.TransferSyntax != ts.UID {
					t.Errorf("%s, context %d: %s", ts.Name, pc.ID, pc.Result)
				}
				accepted++
			}
			release(t, p)
		}
	}
	if want := len(dicom.StorageSOPClasses()) * len(dicom.TransferSyntaxes()); accepted != want {
		t.Errorf("%d contexts answered, want %d", accepted, want)
	}
}

func TestStore(t *testing.T) {
	r := newRecorder()
	s := dimsetest.NewServer(t, r)
	p, _ := establish(t, s)
	rq := storeRQ()
	rq.Priority, rq.MoveOriginatorAETitle, rq.MoveOriginatorMessageID = 2, "MOVER", 12
	set, data := marshal(t, rq), ctDataSet("1.2.3.4", 8, 8)
	// Command and data in one PDU, cut where no sane sender would.
	p.Send(dimsetest.PData(
		dimsetest.PDV(3, dimsetest.Command, set[:1]), dimsetest.PDV(3, dimsetest.Command, nil),
		dimsetest.PDV(3, dimsetest.LastCommand, set[1:]), dimsetest.PDV(3, dimsetest.Data, data[:3]),
	), dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, nil)),
		dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, data[3:]), dimsetest.PDV(3, dimsetest.LastData, nil)))
	equal(t, "answer", expectMessage(t, p, 3), command.Message(&command.CStoreRSP{
		AffectedSOPClassUID: dicom.CTImageStorage, MessageIDBeingRespondedTo: 5, AffectedSOPInstanceUID: "1.2.3.4",
	}))
	got := r.only(t)
	if !bytes.Equal(got.data, data) || got.err != nil {
		t.Errorf("received %d bytes of %d (error %v)", len(got.data), len(data), got.err)
	}
	equal(t, "request", got.rq, dimse.CStoreRQ{
		SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2.3.4", TransferSyntax: mustSyntax(dicom.ExplicitVRLittleEndian),
		Priority: 2, MoveOriginatorAETitle: "MOVER", MoveOriginatorMessageID: 12, MessageID: 5,
	})
	expectEcho(t, p)
	release(t, p)
}

// What the Handler leaves unread is drained, and its answer reaches the peer.
func TestStoreRefusedByHandler(t *testing.T) {
	r := newRecorder()
	r.store = func(dimse.CStoreRQ, io.Reader) dimse.Result {
		return dimse.Result{Status: dimse.StatusOutOfResources, ErrorComment: strings.Repeat("disk full ", 10)}
	}
	a := dial(t, dimsetest.NewServer(t, r))
	for range 3 {
		result, err := a.Store(t.Context(), ctRequest(), bytes.NewReader(make([]byte, 1<<20)))
		if err != nil || result.Status != dimse.StatusOutOfResources || len(result.ErrorComment) > 64 || !strings.HasPrefix(result.ErrorComment, "disk full") {
			t.Fatalf("Store: %+v, %v", result, err)
		}
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
}

// Messages that are understood and refused: the association goes on.
func TestRefusedMessages(t *testing.T) {
	data := dimsetest.PData(dimsetest.PDV(3, dimsetest.LastData, make([]byte, 100)))
	changed := func(f func(*command.CStoreRQ)) *command.CStoreRQ {
		rq := storeRQ()
		f(rq)
		return rq
	}
	for _, test := range []struct {
		name    string
		context byte
		m       command.Message
		data    []byte
		want    dimse.Status
	}{
		{"C-FIND", 3, &command.Generic{CommandField: command.FieldCFindRQ, AffectedSOPClassUID: "1.2.840.10008.5.1.4.1.2.2.1", MessageID: 5, DataSet: true}, data, dimse.StatusUnrecognizedOperation},
		{"N-SET", 3, &command.Generic{CommandField: command.FieldNSetRQ, RequestedSOPClassUID: "1.2.840.10008.3.1.2.3.3", MessageID: 5}, nil, dimse.StatusUnrecognizedOperation},
		{"N-ACTION", 3, &command.NActionRQ{RequestedSOPClassUID: dicom.StorageCommitmentPushModel, MessageID: 5, DataSet: true}, data, dimse.StatusUnrecognizedOperation},
		{"N-EVENT-REPORT", 3, &command.NEventReportRQ{AffectedSOPClassUID: dicom.StorageCommitmentPushModel, MessageID: 5}, nil, dimse.StatusUnrecognizedOperation},
		{"a command of the future", 3, &command.Generic{CommandField: 0x0777, MessageID: 5}, nil, dimse.StatusUnrecognizedOperation},
		{"C-STORE on Verification", 1, changed(func(rq *command.CStoreRQ) { rq.AffectedSOPClassUID, rq.DataSet = dicom.Verification, false }), nil, dimse.StatusUnrecognizedOperation},
		{"SOP class of another context", 3, changed(func(rq *command.CStoreRQ) { rq.AffectedSOPClassUID = dicom.MRImageStorage }), data, dimse.StatusSOPClassNotSupported},
		{"unknown SOP class", 3, changed(func(rq *command.CStoreRQ) { rq.AffectedSOPClassUID = "1.2.3" }), data, dimse.StatusNoSuchSOPClass},
		{"no SOP instance", 3, changed(func(rq *command.CStoreRQ) { rq.AffectedSOPInstanceUID = "" }), data, dimse.StatusMissingAttribute},
		{"SOP instance that is no UID", 3, changed(func(rq *command.CStoreRQ) { rq.AffectedSOPInstanceUID = "../../etc" }), data, dimse.StatusInvalidObjectInstance},
		{"no data set", 3, changed(func(rq *command.CStoreRQ) { rq.DataSet = false }), nil, dimse.StatusCannotUnderstand},
		{"C-ECHO of a storage SOP class", 3, &command.CEchoRQ{AffectedSOPClassUID: dicom.CTImageStorage, MessageID: 5}, nil, dimse.StatusUnrecognizedOperation},
		{"C-ECHO on a storage context", 3, &command.CEchoRQ{AffectedSOPClassUID: dicom.Verification, MessageID: 5}, nil, dimse.StatusSOPClassNotSupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRecorder()
			p, _ := establish(t, dimsetest.NewServer(t, r))
			p.Send(commandPDU(t, test.context, test.m), test.data)
			var got dimse.Status
			var id uint16
			rsp := expectMessage(t, p, test.context)
			switch rsp := rsp.(type) {
			case *command.CStoreRSP:
				got, id = rsp.Status, rsp.MessageIDBeingRespondedTo
			case *command.CEchoRSP:
				got, id = rsp.Status, rsp.MessageIDBeingRespondedTo
			case *command.NActionRSP:
				got, id = rsp.Status, rsp.MessageIDBeingRespondedTo
			case *command.NEventReportRSP:
				got, id = rsp.Status, rsp.MessageIDBeingRespondedTo
			case *command.Generic:
				got, id = rsp.Status, rsp.MessageIDBeingRespondedTo
			}
			if got != test.want || id != 5 || rsp.Field() != test.m.Field().Response() {
				t.Errorf("%s of status %s to message %d, want %s", rsp.Field(), got, id, test.want)
			}
			expectEcho(t, p)
			release(t, p)
			if len(r.objects) > 0 {
				t.Error("the Handler was asked")
			}
		})
	}
}

func TestCancelOfSomethingUnknownIsIgnored(t *testing.T) {
	p, _ := establish(t, dimsetest.NewServer(t, newRecorder()))
	p.Send(commandPDU(t, 3, &command.CCancelRQ{MessageIDBeingRespondedTo: 99}))
	expectEcho(t, p)
	release(t, p)
}

// Breaches of the protocol: A-ABORT with the right source and reason, a close,
// and nothing of the object kept.
func TestBreaches(t *testing.T) {
	set := marshal(t, storeRQ())
	store := dimsetest.PData(dimsetest.PDV(3, dimsetest.LastCommand, set))
	fragment := dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, make([]byte, 10)))
	invalid, unexpected := pdu.AbortInvalidPDUParameterValue, pdu.AbortUnexpectedPDUParameter
	for _, test := range []struct {
		name   string
		send   []byte
		reason pdu.AbortReason
	}{
		{"second A-ASSOCIATE-RQ", dimsetest.Encode(t, associateRQ()), pdu.AbortUnexpectedPDU},
		{"A-ASSOCIATE-AC", dimsetest.Encode(t, &pdu.AssociateAC{}), pdu.AbortUnexpectedPDU},
		{"A-ASSOCIATE-RJ", dimsetest.Encode(t, &pdu.AssociateRJ{}), pdu.AbortUnexpectedPDU},
		{"A-RELEASE-RP", dimsetest.Encode(t, &pdu.ReleaseRP{}), pdu.AbortUnexpectedPDU},
		{"second A-ASSOCIATE-RQ within an object", append(append(bytes.Clone(store), fragment...), dimsetest.Encode(t, associateRQ())...), pdu.AbortUnexpectedPDU},
		{"A-RELEASE-RQ within an object", append(append(bytes.Clone(store), fragment...), dimsetest.Encode(t, &pdu.ReleaseRQ{})...), pdu.AbortUnexpectedPDU},
		{"A-RELEASE-RQ within a command", append(dimsetest.PData(dimsetest.PDV(3, dimsetest.Command, set[:10])), dimsetest.Encode(t, &pdu.ReleaseRQ{})...), pdu.AbortUnexpectedPDU},
		{"unknown PDU type", []byte{9, 0, 0, 0, 0, 4, 0, 0, 0, 0}, pdu.AbortUnrecognizedPDU},
		{"PDU longer than offered", []byte{4, 0, 0, 2, 0, 1}, invalid},
		{"PDU claims 4 GiB", []byte{4, 0, 0xff, 0xff, 0xff, 0xff}, invalid},
		{"PDV claims 4 GiB", dimsetest.PData([]byte{0xff, 0xff, 0xff, 0xff, 3, 3}), invalid},
		{"PDV on a context never proposed", dimsetest.PData(dimsetest.PDV(9, dimsetest.LastCommand, set)), invalid},
		{"PDV on a rejected context", dimsetest.PData(dimsetest.PDV(7, dimsetest.LastCommand, set)), invalid},
		{"PDV on an even context", dimsetest.PData(dimsetest.PDV(2, dimsetest.LastCommand, set)), invalid},
		{"command on two contexts", dimsetest.PData(dimsetest.PDV(3, dimsetest.Command, set[:10]), dimsetest.PDV(5, dimsetest.LastCommand, set[10:])), invalid},
		{"object on two contexts", append(bytes.Clone(store), dimsetest.PData(dimsetest.PDV(5, dimsetest.LastData, nil))...), invalid},
		{"data where a command is due", fragment, unexpected},
		{"command within an object", append(append(bytes.Clone(store), fragment...), store...), unexpected},
		{"a response to nothing", commandPDU(t, 3, &command.CStoreRSP{}), pdu.AbortReasonNotSpecified},
		{"no command set", dimsetest.PData(dimsetest.PDV(3, dimsetest.LastCommand, nil)), invalid},
		{"command set of 5 KiB", dimsetest.PData(dimsetest.PDV(3, dimsetest.Command, make([]byte, 5<<10))), invalid},
		{"command set without end", bytes.Repeat(dimsetest.PData(dimsetest.PDV(3, dimsetest.Command, nil)), 300), invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRecorder()
			s := dimsetest.NewServer(t, r)
			p, _ := establish(t, s)
			p.Send(test.send)
			p.ExpectAbort(pdu.AbortServiceProvider, test.reason)
			p.Close()
			if err := r.awaitClosed(t, 1); !errors.Is(err, dimse.ErrProtocol) {
				t.Errorf("association ended with %v, want ErrProtocol", err)
			}
			for _, o := range r.objects {
				if o.err == nil {
					t.Error("a partial object reached its end")
				}
			}
			other, _ := establish(t, s) // the server does not notice
			expectEcho(t, other)
			release(t, other)
		})
	}
}

// Before an association there is only one thing to say.
func TestBreachesBeforeAssociation(t *testing.T) {
	evenContext, twice := associateRQ(), associateRQ()
	evenContext.PresentationContexts[1].ID = 2
	twice.PresentationContexts[1].ID = 1
	for _, test := range []struct {
		name string
		send []byte
	}{
		{"P-DATA-TF", dimsetest.PData(dimsetest.PDV(1, dimsetest.LastCommand, nil))},
		{"A-RELEASE-RQ", dimsetest.Encode(t, &pdu.ReleaseRQ{})},
		{"A-ASSOCIATE-AC", dimsetest.Encode(t, &pdu.AssociateAC{})},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		{"A-ASSOCIATE-RQ of 4 GiB", []byte{1, 0, 0xff, 0xff, 0xff, 0xff}},
		{"even context id", dimsetest.Encode(t, evenContext)},
		{"context id used twice", dimsetest.Encode(t, twice)},
	} {
		p := dimsetest.Dial(t, dimsetest.NewServer(t, newRecorder()).Addr)
		p.Send(test.send)
		t.Log(test.name)
		p.ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified) // AA-1
		p.Close()
	}
	// An A-ABORT is answered with a close (AA-2).
	p := dimsetest.Dial(t, dimsetest.NewServer(t, newRecorder()).Addr)
	p.SendPDU(&pdu.Abort{})
	p.ExpectClosed()
}

// The peer ends it in mid-object: by A-ABORT, or by closing.
func TestEndInMidObject(t *testing.T) {
	for _, abort := range []bool{true, false} {
		r := newRecorder()
		p, _ := establish(t, dimsetest.NewServer(t, r))
		p.Send(commandPDU(t, 3, storeRQ()), dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, make([]byte, 1000))))
		if abort {
			p.SendPDU(&pdu.Abort{})
			p.ExpectClosed()
		}
		p.Close()
		err := r.awaitClosed(t, 1)
		var aborted *dimse.AbortedError
		if errors.As(err, &aborted) != abort || err == nil {
			t.Errorf("abort %t: association ended with %v", abort, err)
		}
		if got := r.only(t); got.err == nil || len(got.data) != 1000 {
			t.Errorf("abort %t: the Handler read %d bytes and %v", abort, len(got.data), got.err)
		}
	}
}

func TestCloseWithoutRelease(t *testing.T) {
	r := newRecorder()
	p, _ := establish(t, dimsetest.NewServer(t, r))
	p.Close()
	if err := r.awaitClosed(t, 1); err == nil {
		t.Error("a lost connection was taken for a release")
	}
}

// The peer's maximum bounds our answers, which are cut to fit.
func TestAnswerKeepsToThePeersMaximum(t *testing.T) {
	p, _ := establish(t, dimsetest.NewServer(t, newRecorder()), func(rq *pdu.AssociateRQ) { rq.UserInformation.MaximumLength = 20 })
	p.Send(commandPDU(t, 1, &command.CEchoRQ{AffectedSOPClassUID: dicom.Verification, MessageID: 5}))
	var set []byte
	for last := false; !last; {
		v, b := p.ExpectPData()
		if len(b) > 14 || !v.Command || t.Failed() {
			t.Fatalf("PDV %+v of %d bytes", v, len(b))
		}
		set, last = append(set, b...), v.Last
	}
	if m, err := command.Unmarshal(set); err != nil || m.Field() != command.FieldCEchoRSP {
		t.Errorf("%v, %v", m, err)
	}
	release(t, p)
}
