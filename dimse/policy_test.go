package dimse_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// Each rejection of which people are told happens, and for its reason.
func TestRejectionsAreAsTold(t *testing.T) {
	congested := dimse.RejectTemporaryCongestion
	causes := map[dimse.Rejection]struct {
		server  func(*dimse.Server)
		request func(*pdu.AssociateRQ)
	}{
		dimse.RejectProtocolVersion:    {request: func(rq *pdu.AssociateRQ) { rq.ProtocolVersion = 2 }},
		dimse.RejectACSE:               {request: func(rq *pdu.AssociateRQ) { rq.UserInformation.MaximumLength = 6 }},
		dimse.RejectApplicationContext: {request: func(rq *pdu.AssociateRQ) { rq.ApplicationContext = "1.2.3" }},
		dimse.RejectCalledAETitle:      {request: func(rq *pdu.AssociateRQ) { rq.CalledAETitle = pdu.AETitleField("OTHER") }},
		dimse.RejectCallingAETitle:     {server: func(s *dimse.Server) { s.Peers = []dimse.Peer{{CallingAETitle: "CT1"}} }},
		dimse.RejectNoReason:           {server: func(s *dimse.Server) { s.Peers = []dimse.Peer{{RequireUserIdentity: true}} }},
		dimse.RejectLocalLimitExceeded: {server: func(s *dimse.Server) { s.MaxAssociations = 1 }},
		dimse.RejectTemporaryCongestion: {server: func(s *dimse.Server) {
			s.Admit = func(context.Context, dimse.AssociateRequestInfo) *dimse.Rejection { return &congested }
		}},
	}
	for _, policy := range dimse.Rejections() {
		cause, ok := causes[policy.Answer]
		if !ok || policy.When == "" {
			t.Errorf("%s is told of (%q), and nobody knows how to bring it about", policy.Answer, policy.When)
			continue
		}
		var configure []func(*dimse.Server)
		if cause.server != nil {
			configure = append(configure, cause.server)
		}
		s := dimsetest.NewServer(t, newRecorder(), configure...)
		if policy.Answer == dimse.RejectLocalLimitExceeded {
			establish(t, s)
		}
		rq := associateRQ()
		if cause.request != nil {
			cause.request(rq)
		}
		p := dimsetest.Dial(t, s.Addr)
		p.SendPDU(rq)
		rj, ok := p.ExpectPDU(pdu.TypeAssociateRJ).(*pdu.AssociateRJ)
		if got := (dimse.Rejection{Result: rj.Result, Source: rj.Source, Reason: rj.Reason}); !ok || got != policy.Answer {
			t.Errorf("%s: rejected as %s", policy.When, got)
		}
		p.Close()
		delete(causes, policy.Answer)
	}
	for r := range causes {
		t.Errorf("%s happens and is not told of", r)
	}
}

// Each status with which a Server answers by itself is told of.
func TestStoreRefusalsAreAsTold(t *testing.T) {
	s := dimsetest.NewServer(t, newRecorder())
	p, _ := establish(t, s)
	got := map[dimse.Status]bool{}
	for _, change := range []func(rq *command.CStoreRQ) (context byte){
		func(rq *command.CStoreRQ) byte { rq.AffectedSOPClassUID = "1.2.3"; return 3 },
		func(rq *command.CStoreRQ) byte { rq.AffectedSOPClassUID = dicom.MRImageStorage; return 3 },
		func(rq *command.CStoreRQ) byte { rq.AffectedSOPInstanceUID = ""; return 3 },
		func(rq *command.CStoreRQ) byte { rq.AffectedSOPInstanceUID = "x"; return 3 },
		func(rq *command.CStoreRQ) byte { return 3 },
		func(rq *command.CStoreRQ) byte { rq.AffectedSOPClassUID = dicom.Verification; return 1 },
	} {
		rq := storeRQ()
		rq.DataSet = false
		on := change(rq)
		p.Send(commandPDU(t, on, rq))
		rsp, ok := expectMessage(t, p, on).(*command.CStoreRSP)
		if !ok {
			t.Fatal("no C-STORE-RSP")
		}
		got[rsp.Status] = true
	}
	release(t, p)
	told := map[dimse.Status]bool{}
	for _, r := range dimse.StoreRefusals() {
		told[r.Answer] = r.When != ""
	}
	if !maps.Equal(got, told) {
		t.Errorf("answered %v, told %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(told)))
	}
}

// Dialer.MaxSendPDU holds towards a peer that has no limit of its own.
func TestMaxSendPDU(t *testing.T) {
	const most = 4096
	addr := dimsetest.Listen(t, func(p *dimsetest.Peer) {
		accept(p, func(ac *pdu.AssociateAC) { ac.UserInformation.MaximumLength = 0 })
		v, _ := p.ExpectPData()
		fragments := 0
		for !v.Last || v.Command {
			v, _ = p.ExpectPData()
			if fragments++; v.Length == 0 || v.Length+pdu.PDVHeaderLength > most {
				t.Errorf("a fragment of %d bytes", v.Length)
				return
			}
		}
		if fragments < 2 {
			t.Errorf("%d fragments", fragments)
		}
		p.Send(commandPDU(t, 3, &command.CStoreRSP{AffectedSOPClassUID: dicom.CTImageStorage, MessageIDBeingRespondedTo: 1, AffectedSOPInstanceUID: "1.2.3.4"}))
		p.ExpectPDU(pdu.TypeReleaseRQ)
		p.SendPDU(&pdu.ReleaseRP{})
	})
	d := dialer()
	d.MaxSendPDU = most
	a, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := a.Store(t.Context(), ctRequest(), bytes.NewReader(ctDataSet("1.2.3.4", 64, 64))); err != nil || result.Status != dimse.StatusSuccess {
		t.Errorf("%v, %v", result, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// Each abort of which people are told happens, with the source and reason that they are told.
func TestAbortsAreAsTold(t *testing.T) {
	short := 50 * time.Millisecond
	set := marshal(t, storeRQ())
	store := dimsetest.PData(dimsetest.PDV(3, dimsetest.LastCommand, set))
	twice := associateRQ()
	twice.PresentationContexts[1].ID = 1
	room := &waitingRoom{came: make(chan struct{}, 100), ended: make(chan struct{}, 100)}
	stranger := func() []byte {
		rq := associateRQ()
		rq.UserInformation.UserIdentity = &pdu.UserIdentity{Type: pdu.IdentityUsername, PrimaryField: []byte("ct1")}
		return dimsetest.Encode(t, rq)
	}()
	scenarios := []struct {
		when    string // is in the policy
		server  func(*dimse.Server)
		request []byte                    // nil: a sound one, which is accepted
		then    func(*dimsetest.Peer)     // nil: nothing
		end     func(s *dimsetest.Server) // nil: nothing
	}{
		{when: "in place of an association request", request: []byte("GET / HTTP/1.1\r\n\r\n")},
		{when: "in place of an association request", request: dimsetest.Encode(t, twice)},
		{when: "cannot be read, whose lengths", then: func(p *dimsetest.Peer) { p.Send([]byte{4, 0, 0xff, 0xff, 0xff, 0xff}) }},
		{when: "of a type that", then: func(p *dimsetest.Peer) { p.Send([]byte{9, 0, 0, 0, 0, 0}) }},
		{when: "a PDU that is not due", then: func(p *dimsetest.Peer) { p.SendPDU(associateRQ()) }},
		{when: "a fragment of a data set", then: func(p *dimsetest.Peer) { p.Send(dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, nil))) }},
		{when: "on a presentation context", then: func(p *dimsetest.Peer) { p.Send(dimsetest.PData(dimsetest.PDV(7, dimsetest.LastCommand, set))) }},
		{when: "a command set", then: func(p *dimsetest.Peer) { p.Send(dimsetest.PData(dimsetest.PDV(3, dimsetest.LastCommand, nil))) }},
		{when: "a response to nothing", then: func(p *dimsetest.Peer) { p.Send(commandPDU(t, 3, &command.CStoreRSP{})) }},
		{when: "silence", server: func(s *dimse.Server) { s.IdleTimeout = short }},
		{when: "a stall", server: func(s *dimse.Server) { s.ReadTimeout = short }, then: func(p *dimsetest.Peer) { p.Send(store[:20]) }},
		{when: "larger than the maximum", server: func(s *dimse.Server) { s.MaxObject = 10 }, then: func(p *dimsetest.Peer) {
			p.Send(store, dimsetest.PData(dimsetest.PDV(3, dimsetest.LastData, make([]byte, 100))))
		}},
		{when: "a fault of ours", server: func(s *dimse.Server) { s.Handler = faulty{s.Handler} }, then: func(p *dimsetest.Peer) {
			p.Send(commandPDU(t, 1, &command.CEchoRQ{AffectedSOPClassUID: dicom.Verification, MessageID: 1}))
		}},
		{when: "too many connections", request: stranger, server: func(s *dimse.Server) {
			s.Peers, s.MaxAssociations, s.Authenticator = []dimse.Peer{{RequireUserIdentity: true}}, 1, room
		}, end: func(s *dimsetest.Server) {
			<-room.came
			for range 1 + 32 {
				dimsetest.Dial(t, s.Addr).Send(stranger)
			}
		}},
		{when: "the end of the program", end: func(s *dimsetest.Server) { s.Close() }},
	}
	for _, policy := range dimse.Aborts() {
		found := false
		for _, test := range scenarios {
			if !strings.Contains(policy.When, test.when) {
				continue
			}
			found = true
			var configure []func(*dimse.Server)
			if test.server != nil {
				configure = append(configure, test.server)
			}
			s := dimsetest.NewServer(t, newRecorder(), configure...)
			var p *dimsetest.Peer
			if test.request == nil {
				p, _ = establish(t, s)
			} else {
				p = dimsetest.Dial(t, s.Addr)
				p.Send(test.request)
			}
			if test.then != nil {
				test.then(p)
			}
			if test.end != nil {
				test.end(s)
			}
			t.Log(policy.When)
			p.ExpectAbort(policy.Answer.Source, policy.Answer.Reason)
			p.Close()
		}
		// The A-ABORT waits behind the answer that is not taken: TestPromise6_DeadlinesHold has that.
		if !found && !strings.Contains(policy.When, "that the peer does not take") {
			t.Errorf("%q is told of, and nobody knows how to bring it about", policy.When)
		}
	}
}

// faulty panics at a C-ECHO.
type faulty struct{ dimse.Handler }

func (faulty) Echo(context.Context, *dimse.Association) dimse.Status { panic("no echo") }
