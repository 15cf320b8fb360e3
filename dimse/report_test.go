package dimse_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// workshop makes reports as slowly as it is told.
type workshop struct {
	begun   chan context.Context    // a report is being made
	results chan *commitment.Result // what comes of it; nil: nothing
	ended   chan error              // of those made
	panics  bool
}

func newWorkshop() *workshop {
	return &workshop{begun: make(chan context.Context, 8), results: make(chan *commitment.Result), ended: make(chan error, 8)}
}

func (*workshop) Action(_ context.Context, _ *dimse.Association, _ dimse.NActionRQ, data io.Reader) dimse.Result {
	if _, err := io.Copy(io.Discard, data); err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	return dimse.Result{Status: dimse.StatusSuccess}
}

func (w *workshop) NextEventReport(ctx context.Context, _ *dimse.Association) *dimse.EventReport {
	w.begun <- ctx
	result := <-w.results
	if w.panics {
		panic("no report")
	}
	if result == nil {
		return nil
	}
	return &dimse.EventReport{
		NEventReportRQ: eventReport(result), Information: result.Encode,
		Done: func(_ dimse.Status, err error) { w.ended <- err },
	}
}

func reportOn(transaction dicom.UID) *commitment.Result {
	return &commitment.Result{TransactionUID: transaction, Committed: request(transaction, 1).References}
}

// A report may take long to make. Meanwhile the association goes on, and what is asked on it is answered; when the report
// is ready it is sent, whether or not the peer speaks.
func TestReportIsMadeBesideItsAssociation(t *testing.T) {
	plain := func(w *workshop) *dimsetest.Server {
		return dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) { s.Actions = w })
	}
	w := newWorkshop()
	p, _ := establish(t, plain(w), withCommitment())
	sendAction(t, p, 1, request("1.2.1", 1))
	expectAction(t, p, 1, dimse.StatusSuccess)
	<-w.begun
	expectEcho(t, p)
	sendAction(t, p, 2, request("1.2.2", 1))
	expectAction(t, p, 2, dimse.StatusSuccess)
	w.results <- nil // the second request came too late for that look
	<-w.begun
	w.results <- reportOn("1.2.2")
	m, result := expectReport(t, p)
	if result.TransactionUID != "1.2.2" {
		t.Errorf("report %+v", result)
	}
	p.Send(commandPDU(t, 9, reportRSP(m, dimse.StatusSuccess)))
	if err := <-w.ended; err != nil {
		t.Errorf("the report ended with %v", err)
	}
	<-w.begun
	w.results <- nil
	release(t, p)
}

// The same in TLS, which must survive that a read is broken off.
func TestReportWakesAnAssociationInTLS(t *testing.T) {
	site, w := newSite(t), newWorkshop()
	s, _ := site.secureServer(t, newRecorder(), func(s *dimse.Server) { s.Actions = w })
	d := secureDialer(t, site.scanner)
	d.Contexts = append(d.Contexts, dimse.ProposedContext{AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: bothSyntaxes})
	a, err := d.Dial(t.Context(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if result, err := a.Action(t.Context(), actionRequest, request("1.2.1", 1).Encode); err != nil || result.Status != dimse.StatusSuccess {
			t.Fatalf("Action: %+v, %v", result, err)
		}
		<-w.begun
		came := make(chan error, 1)
		go func() {
			_, err := a.AwaitEventReport(context.Background(), dimsetest.Timeout, newCommitter())
			came <- err
		}()
		w.results <- reportOn("1.2.1")
		if err := <-came; err != nil {
			t.Fatal(err)
		}
		if err := <-w.ended; err != nil {
			t.Errorf("the report ended with %v", err)
		}
		<-w.begun
		w.results <- nil
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// Who makes a report learns at once that its peer has gone, and that the report went nowhere.
func TestPromise6_ReportIsGivenUpWithItsAssociation(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *dimsetest.Peer){
		"release": func(t *testing.T, p *dimsetest.Peer) { release(t, p) },
		"abort":   func(_ *testing.T, p *dimsetest.Peer) { p.SendPDU(&pdu.Abort{}) },
		"close":   func(_ *testing.T, p *dimsetest.Peer) { p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkshop()
			p, _ := establish(t, dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) { s.Actions = w }), withCommitment())
			sendAction(t, p, 1, request("1.2.1", 1))
			expectAction(t, p, 1, dimse.StatusSuccess)
			ctx := <-w.begun
			end(t, p)
			select {
			case <-ctx.Done():
			case <-time.After(dimsetest.Timeout):
				t.Error("the work goes on")
			}
			w.results <- reportOn("1.2.1")
			if err := <-w.ended; err == nil {
				t.Error("the report has arrived")
			}
		})
	}
}

// A panic in it costs the association, as any other of a handler does.
func TestPromise6_PanicBesideAnAssociation(t *testing.T) {
	w := newWorkshop()
	w.panics = true
	p, _ := establish(t, dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) { s.Actions = w }), withCommitment())
	sendAction(t, p, 1, request("1.2.1", 1))
	expectAction(t, p, 1, dimse.StatusSuccess)
	<-w.begun
	w.results <- nil
	p.ExpectAbort(pdu.AbortServiceUser, 0)
	p.ExpectClosed()
}

// Checklist: "N-EVENT-REPORT out, on a later association". A peer that opens one for storage commitment alone, in which we
// may be the SCP, and says nothing, gets what it has not got yet; any other does not, as it may await an answer.
func TestChecklist_ReportOnALaterAssociation(t *testing.T) {
	alone := func(rq *pdu.AssociateRQ) { rq.PresentationContexts = rq.PresentationContexts[:1] }
	for _, test := range []struct {
		name    string
		change  []func(*pdu.AssociateRQ)
		server  func(*dimse.Server)
		reports bool
	}{
		{"for commitment", []func(*pdu.AssociateRQ){alone, withCommitment()}, nil, true},
		{"in both roles", []func(*pdu.AssociateRQ){alone, withCommitment(role(true, true))}, nil, true},
		{"in the role of an SCP", []func(*pdu.AssociateRQ){alone, withCommitment(role(false, true))}, nil, false},
		{"for storage too", []func(*pdu.AssociateRQ){withCommitment()}, nil, false},
		{"under a rule that lets nobody ask", []func(*pdu.AssociateRQ){alone, withCommitment()}, func(s *dimse.Server) { s.Peers = []dimse.Peer{{RefuseActions: true}} }, false},
		{"for storage that is refused", []func(*pdu.AssociateRQ){withCommitment()}, func(s *dimse.Server) {
			s.AbstractSyntaxes = []dicom.UID{dicom.Verification, dicom.StorageCommitmentPushModel}
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			configure := func(s *dimse.Server) {
				c := newCommitter()
				c.requests = make(chan *commitment.Request, 8) // of this bubble
				c.requests <- request("1.2.1", 1)
				s.Actions, s.EventReports = c, c
				if test.server != nil {
					test.server(s)
				}
			}
			bubble(t, nil, configure, func(t *testing.T, _ *dimse.Server, connect func() *dimsetest.Peer) {
				p, rq := connect(), associateRQ()
				for _, change := range test.change {
					change(rq)
				}
				p.SendPDU(rq)
				p.ExpectPDU(pdu.TypeAssociateAC)
				for range 3 { // as long as it speaks, it is left in peace
					time.Sleep(900 * time.Millisecond)
					expectEcho(t, p)
				}
				if !test.reports {
					time.Sleep(time.Minute)
					synctest.Wait()
					expectEcho(t, p)
					release(t, p)
					return
				}
				begun := time.Now()
				m, result := expectReport(t, p)
				if d := time.Since(begun); d != time.Second || result.TransactionUID != "1.2.1" {
					t.Errorf("report %+v after %v", result, d)
				}
				p.Send(commandPDU(t, 9, reportRSP(m, dimse.StatusSuccess)))
				expectEcho(t, p)
				release(t, p)
			})
		})
	}
}
