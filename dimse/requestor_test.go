package dimse_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// accept plays the acceptor's part up to the A-ASSOCIATE-AC, which accepts
// everything in the first transfer syntax proposed.
func accept(p *dimsetest.Peer, change ...func(*pdu.AssociateAC)) *pdu.AssociateRQ {
	rq, ok := p.ExpectPDU(pdu.TypeAssociateRQ).(*pdu.AssociateRQ)
	if !ok {
		return nil
	}
	ac := &pdu.AssociateAC{Associate: rq.Associate, UserInformation: pdu.UserInformation{MaximumLength: 16384, ImplementationClassUID: "1.2.3", ImplementationVersionName: "SCRIPT"}}
	for _, pc := range rq.PresentationContexts {
		ac.PresentationContexts = append(ac.PresentationContexts, pdu.PresentationContextAC{ID: pc.ID, TransferSyntax: pc.TransferSyntaxes[0]})
	}
	for _, f := range change {
		f(ac)
	}
	p.SendPDU(ac)
	return rq
}

func TestDialNegotiates(t *testing.T) {
	requests := make(chan *pdu.AssociateRQ, 1)
	addr := dimsetest.Listen(t, func(p *dimsetest.Peer) {
		requests <- accept(p, func(ac *pdu.AssociateAC) {
			ac.PresentationContexts[0].TransferSyntax = "1.2.3.999"            // not proposed
			ac.PresentationContexts[1].Result = pdu.AbstractSyntaxNotSupported // rejected
			ac.UserInformation.MaximumLength = 0
		})
		p.ExpectPDU(pdu.TypeReleaseRQ)
		p.SendPDU(&pdu.ReleaseRP{})
		p.ExpectClosed()
	})
	d := dialer()
	d.RoleSelections = []pdu.RoleSelection{{SOPClassUID: dicom.CTImageStorage, SCU: true}}
	d.UserIdentity = &pdu.UserIdentity{Type: pdu.IdentityUsername, PrimaryField: []byte("ichwatch"), SecondaryField: []byte{}}
	a, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	rq := <-requests
	equal(t, "fixed fields", rq.Associate, pdu.Associate{
		ProtocolVersion: 1, CalledAETitle: pdu.AETitleField(dimsetest.AETitle), CallingAETitle: pdu.AETitleField("SCANNER"),
		ApplicationContext: dicom.ApplicationContext,
	})
	equal(t, "user information", rq.UserInformation, pdu.UserInformation{
		MaximumLength: 131072, ImplementationClassUID: dicom.ImplementationClassUID, ImplementationVersionName: dicom.ImplementationVersionName,
		RoleSelections: d.RoleSelections, UserIdentity: d.UserIdentity,
	})
	equal(t, "contexts", a.Contexts(), []dimse.PresentationContext{
		{ID: 1, AbstractSyntax: dicom.Verification, Result: pdu.TransferSyntaxesNotSupported, TransferSyntax: "1.2.3.999"},
		{ID: 3, AbstractSyntax: dicom.CTImageStorage, Result: pdu.AbstractSyntaxNotSupported, TransferSyntax: dicom.ExplicitVRLittleEndian},
		{ID: 5, AbstractSyntax: dicom.CTImageStorage, TransferSyntax: dicom.ImplicitVRLittleEndian},
	})
	if a.PeerMaxPDU() != 0 || a.PeerImplementationClassUID() != "1.2.3" || a.PeerImplementationVersionName() != "SCRIPT" ||
		a.CallingAETitle() != "SCANNER" || a.CalledAETitle() != dimsetest.AETitle || len(a.ID()) != 26 || a.RemoteAddr().String() != addr {
		t.Errorf("getters: %d %s %s %s %s %s %s", a.PeerMaxPDU(), a.PeerImplementationClassUID(), a.PeerImplementationVersionName(), a.CallingAETitle(), a.CalledAETitle(), a.ID(), a.RemoteAddr())
	}
	if a.Accepts(dicom.CTImageStorage, dicom.ExplicitVRLittleEndian) || !a.Accepts(dicom.CTImageStorage, dicom.ImplicitVRLittleEndian) {
		t.Error("Accepts is wrong about CT")
	}
	for range 2 { // the association survives it
		if _, err := a.Store(t.Context(), ctRequest(), nil); !errors.Is(err, dimse.ErrNoPresentationContext) {
			t.Errorf("Store in a syntax that was not accepted: %v", err)
		}
		if _, err := a.Echo(t.Context()); !errors.Is(err, dimse.ErrNoPresentationContext) {
			t.Errorf("Echo without a context: %v", err)
		}
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("second Release: %v", err)
	}
	if _, err := a.Echo(t.Context()); !errors.Is(err, dimse.ErrAssociationClosed) {
		t.Errorf("Echo after Release: %v", err)
	}
}

func TestDialErrors(t *testing.T) {
	var rejected *dimse.RejectedError
	var aborted *dimse.AbortedError
	for _, test := range []struct {
		name   string
		script func(p *dimsetest.Peer)
		check  func(error) bool
	}{
		{"rejected", func(p *dimsetest.Peer) {
			p.ExpectPDU(pdu.TypeAssociateRQ)
			p.SendPDU(&pdu.AssociateRJ{Result: pdu.RejectedTransient, Source: pdu.SourceServiceProviderPresentation, Reason: pdu.ReasonLocalLimitExceeded})
			p.ExpectClosed()
		}, func(err error) bool {
			return errors.As(err, &rejected) && rejected.Rejection == dimse.RejectLocalLimitExceeded && rejected.Transient()
		}},
		{"aborted", func(p *dimsetest.Peer) {
			p.ExpectPDU(pdu.TypeAssociateRQ)
			p.SendPDU(&pdu.Abort{Source: pdu.AbortServiceProvider, Reason: pdu.AbortInvalidPDUParameterValue})
			p.ExpectClosed()
		}, func(err error) bool {
			return errors.As(err, &aborted) && aborted.Reason == pdu.AbortInvalidPDUParameterValue
		}},
		{"closed", func(p *dimsetest.Peer) { p.ExpectPDU(pdu.TypeAssociateRQ) }, func(err error) bool { return errors.Is(err, io.EOF) }},
		{"data before the answer", func(p *dimsetest.Peer) {
			p.ExpectPDU(pdu.TypeAssociateRQ)
			p.Send(dimsetest.PData(dimsetest.PDV(1, 3, nil)))
			p.ExpectAbort(pdu.AbortServiceProvider, pdu.AbortUnexpectedPDU)
		}, func(err error) bool { return errors.Is(err, dimse.ErrProtocol) }},
		{"HTTP", func(p *dimsetest.Peer) {
			p.ExpectPDU(pdu.TypeAssociateRQ)
			p.Send([]byte("HTTP/1.1 400 Bad Request\r\n"))
			p.ExpectAbort(pdu.AbortServiceProvider, pdu.AbortUnrecognizedPDU)
		}, func(err error) bool { return errors.Is(err, dimse.ErrProtocol) }},
		{"a maximum length without room", func(p *dimsetest.Peer) {
			accept(p, func(ac *pdu.AssociateAC) { ac.UserInformation.MaximumLength = 6 })
			p.ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified)
		}, func(err error) bool { return err != nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := dialer().Dial(t.Context(), dimsetest.Listen(t, test.script))
			if !test.check(err) {
				t.Errorf("Dial: %v", err)
			}
		})
	}
	if _, err := dialer().Dial(t.Context(), "127.0.0.1:"+dimsetest.FreePort(t)); err == nil {
		t.Error("Dial to a port where nobody listens succeeded")
	}
	for name, change := range map[string]func(*dimse.Dialer){
		"no context":         func(d *dimse.Dialer) { d.Contexts = nil },
		"129 contexts":       func(d *dimse.Dialer) { d.Contexts = make([]dimse.ProposedContext, 129) },
		"no transfer syntax": func(d *dimse.Dialer) { d.Contexts[0].TransferSyntaxes = nil },
		"long AE title":      func(d *dimse.Dialer) { d.CallingAETitle = "SEVENTEEN-LETTERS" },
		"no AE title":        func(d *dimse.Dialer) { d.CalledAETitle = "" },
	} {
		d := dialer()
		change(d)
		if _, err := d.Dial(t.Context(), "127.0.0.1:1"); err == nil || errors.As(err, new(*net.OpError)) {
			t.Errorf("%s: %v, want an error before any connection", name, err)
		}
	}
}

// What Store writes: command and data on the accepted context, within the
// peer's maximum; and what comes back.
func TestStoreOnTheWire(t *testing.T) {
	data := ctDataSet("1.2.3.4", 64, 64)
	for _, maximum := range []uint32{0, 4096, 1000} {
		addr := dimsetest.Listen(t, func(p *dimsetest.Peer) {
			accept(p, func(ac *pdu.AssociateAC) { ac.UserInformation.MaximumLength = maximum })
			v, set := p.ExpectPData()
			m, err := command.Unmarshal(set)
			if err != nil || v.ContextID != 3 || !v.Last {
				t.Errorf("command PDV %+v, %v", v, err)
			}
			equal(t, "C-STORE-RQ", m, command.Message(&command.CStoreRQ{
				AffectedSOPClassUID: dicom.CTImageStorage, MessageID: 1, AffectedSOPInstanceUID: "1.2.3.4", DataSet: true,
				MoveOriginatorAETitle: "MOVER", MoveOriginatorMessageID: 3,
			}))
			var got []byte
			for last := false; !last && !t.Failed(); {
				v, b := p.ExpectPData()
				if v.Command || v.ContextID != 3 || maximum > 0 && uint32(len(b))+6 > maximum {
					t.Errorf("data PDV %+v of %d bytes", v, len(b))
				}
				got, last = append(got, b...), v.Last
			}
			if !bytes.Equal(got, data) {
				t.Errorf("maximum %d: %d bytes arrived of %d", maximum, len(got), len(data))
			}
			answer := commandPDU(t, 3, &command.CStoreRSP{MessageIDBeingRespondedTo: 1, Status: dimse.StatusElementsDiscarded, ErrorComment: "dropped|[2J"})
			p.Send(bytes.Replace(answer, []byte("|"), []byte("\x1b"), 1)) // which we do not send ourselves
			p.ExpectPDU(pdu.TypeReleaseRQ)
			p.SendPDU(&pdu.ReleaseRP{})
		})
		a, err := dialer().Dial(t.Context(), addr)
		if err != nil {
			t.Fatalf("Dial: %v", err)
		}
		rq := ctRequest()
		rq.MoveOriginatorAETitle, rq.MoveOriginatorMessageID, rq.MessageID = "MOVER", 3, 999
		result, err := a.Store(t.Context(), rq, iotest.OneByteReader(bytes.NewReader(data)))
		if err != nil || result != (dimse.Result{Status: dimse.StatusElementsDiscarded, ErrorComment: `dropped\x1b[2J`}) {
			t.Errorf("Store: %+v, %v", result, err)
		}
		if err := a.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
	}
}

// An answer that is none: the association is aborted, and says so from then on.
func TestWrongAnswers(t *testing.T) {
	var aborted *dimse.AbortedError
	for _, test := range []struct {
		name   string
		answer func(p *dimsetest.Peer)
		check  func(error) bool
	}{
		{"to another message", func(p *dimsetest.Peer) { p.Send(commandPDU(t, 1, &command.CEchoRSP{MessageIDBeingRespondedTo: 2})) }, isBreach},
		{"of another kind", func(p *dimsetest.Peer) { p.Send(commandPDU(t, 1, &command.CStoreRSP{MessageIDBeingRespondedTo: 1})) }, isBreach},
		{"on another context", func(p *dimsetest.Peer) { p.Send(commandPDU(t, 3, &command.CEchoRSP{MessageIDBeingRespondedTo: 1})) }, isBreach},
		{"a request", func(p *dimsetest.Peer) { p.Send(commandPDU(t, 1, &command.CEchoRQ{})) }, isBreach},
		{"with a data set", func(p *dimsetest.Peer) {
			p.Send(commandPDU(t, 1, &command.Generic{CommandField: command.FieldCEchoRSP, MessageIDBeingRespondedTo: 1, DataSet: true}))
		}, isBreach},
		{"A-ABORT", func(p *dimsetest.Peer) { p.SendPDU(&pdu.Abort{}) }, func(err error) bool { return errors.As(err, &aborted) }},
		{"A-RELEASE-RQ", func(p *dimsetest.Peer) {
			p.SendPDU(&pdu.ReleaseRQ{})
			p.ExpectPDU(pdu.TypeReleaseRP)
			p.Close()
		}, func(err error) bool { return errors.Is(err, dimse.ErrReleased) }},
		{"a close", func(p *dimsetest.Peer) { p.Close() }, func(err error) bool { return errors.Is(err, io.EOF) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, err := dialer().Dial(t.Context(), dimsetest.Listen(t, func(p *dimsetest.Peer) {
				accept(p)
				p.ExpectPData()
				test.answer(p)
				_, _ = p.Conn.Read(make([]byte, 10)) // the A-ABORT; then a close
			}))
			if err != nil {
				t.Fatalf("Dial: %v", err)
			}
			if _, err := a.Echo(t.Context()); !test.check(err) {
				t.Errorf("Echo: %v", err)
			}
			if _, err := a.Echo(t.Context()); !errors.Is(err, dimse.ErrAssociationClosed) || !test.check(err) {
				t.Errorf("Echo again: %v, want ErrAssociationClosed with its cause", err)
			}
		})
	}
}

func isBreach(err error) bool { return errors.Is(err, dimse.ErrProtocol) }

// Both sides ask for release at once; data that was under way is dropped
// (PS3.8 section 9.2.3, Sta7, Sta9, Sta11).
func TestReleaseCollision(t *testing.T) {
	a, err := dialer().Dial(t.Context(), dimsetest.Listen(t, func(p *dimsetest.Peer) {
		accept(p)
		p.ExpectPDU(pdu.TypeReleaseRQ)
		p.Send(dimsetest.PData(dimsetest.PDV(1, dimsetest.LastCommand, []byte("late"))))
		p.SendPDU(&pdu.ReleaseRQ{})
		p.ExpectPDU(pdu.TypeReleaseRP) // the requestor answers first
		p.SendPDU(&pdu.ReleaseRP{})
		p.ExpectClosed()
	}))
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
}

// The deadlines of a requestor, and its contexts.
func TestRequestorDeadlines(t *testing.T) {
	dialPipe := func(t *testing.T, script func(*dimsetest.Peer)) (*dimse.Association, error) {
		d := dialer()
		d.NetDial = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			done := make(chan struct{})
			t.Cleanup(func() { <-done })
			p := dimsetest.NewPeer(t, theirs) // closed before the wait
			p.Timeout = 24 * time.Hour
			go func() {
				defer close(done)
				script(p)
			}()
			return ours, nil
		}
		return d.Dial(t.Context(), "pipe")
	}
	await := func(p *dimsetest.Peer) { _, _ = io.Copy(io.Discard, p.Conn) }
	for _, test := range []struct {
		name   string
		script func(*dimsetest.Peer)
		want   time.Duration // and a second at most for the A-ABORT
	}{
		{"no answer to A-ASSOCIATE-RQ", func(p *dimsetest.Peer) { await(p) }, 30 * time.Second},
		{"no response", func(p *dimsetest.Peer) { accept(p); await(p) }, time.Minute},
		{"a response at a byte a second", func(p *dimsetest.Peer) {
			accept(p)
			p.ExpectPData()
			go await(p)
			dribble(p, commandPDU(t, 1, &command.CEchoRSP{AffectedSOPClassUID: dicom.Verification}))
		}, time.Minute + time.Second},
		{"nothing taken", func(p *dimsetest.Peer) { accept(p) }, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				a, err := dialPipe(t, test.script)
				if err == nil {
					_, err = a.Echo(t.Context())
				}
				if d := time.Since(begun); !errors.Is(err, dimse.ErrTimeout) || d < test.want || d > test.want+2*time.Second {
					t.Errorf("%v after %v, want ErrTimeout after %v", err, d, test.want)
				}
			})
		})
	}
	t.Run("the context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, err := dialPipe(t, func(p *dimsetest.Peer) {
				accept(p)
				p.ExpectPData()
				p.ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified)
				p.ExpectClosed()
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			begun := time.Now()
			if _, err := a.Echo(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 6*time.Second {
				t.Errorf("Echo: %v after %v", err, time.Since(begun))
			}
		})
	})
}

func TestAbortFromElsewhere(t *testing.T) {
	waiting := make(chan struct{})
	a, err := dialer().Dial(t.Context(), dimsetest.Listen(t, func(p *dimsetest.Peer) {
		accept(p)
		p.ExpectPData()
		close(waiting)
		p.ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified)
	}))
	if err != nil {
		t.Fatal(err)
	}
	aborted := make(chan error)
	go func() {
		<-waiting
		aborted <- a.Abort()
	}()
	if _, err := a.Echo(t.Context()); !errors.Is(err, dimse.ErrAssociationClosed) {
		t.Errorf("Echo: %v", err)
	}
	if err := <-aborted; err != nil {
		t.Errorf("Abort: %v", err)
	}
}

// A source that fails in mid-object, or that has an odd length, costs the
// association: the peer must not take a part for the whole.
func TestStoreFromABadSource(t *testing.T) {
	r := newRecorder()
	s := dimsetest.NewServer(t, r)
	for i, source := range []io.Reader{
		io.MultiReader(bytes.NewReader(make([]byte, 300_000)), iotest.ErrReader(os.ErrClosed)),
		bytes.NewReader(make([]byte, 300_001)),
		io.MultiReader(bytes.NewReader(make([]byte, 300_000)), iotest.ErrReader(io.ErrUnexpectedEOF)), // a file cut short
	} {
		a := dial(t, s)
		_, err := a.Store(t.Context(), ctRequest(), source)
		if want := []error{os.ErrClosed, pdu.ErrOddLength, io.ErrUnexpectedEOF}[i]; !errors.Is(err, want) {
			t.Errorf("Store: %v, want %v", err, want)
		}
		var aborted *dimse.AbortedError
		if err := r.awaitClosed(t, i+1); !errors.As(err, &aborted) {
			t.Errorf("the server saw %v, want an abort", err)
		}
	}
	for _, o := range r.objects {
		if o.err == nil {
			t.Error("a part was taken for the whole")
		}
	}
	// Odd lengths are for deflated data sets, and they are padded (PS3.5 A.5).
	d := dialer()
	d.Contexts = []dimse.ProposedContext{{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.DeflatedExplicitVRLittleEndian}}}
	for _, length := range []int{0, 1, 2, 131066, 131067, 131068} {
		r.update(func() { r.objects = nil })
		a, err := d.Dial(t.Context(), s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		rq := ctRequest()
		rq.TransferSyntax = mustSyntax(dicom.DeflatedExplicitVRLittleEndian)
		data := bytes.Repeat([]byte{0x55}, length)
		if _, err := a.Store(t.Context(), rq, bytes.NewReader(data)); err != nil {
			t.Fatalf("Store of %d bytes: %v", length, err)
		}
		if length%2 == 1 {
			data = append(data, 0)
		}
		if got := r.only(t); !bytes.Equal(got.data, data) {
			t.Errorf("%d bytes sent, %d arrived", length, len(got.data))
		}
		if err := a.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
	}
}
