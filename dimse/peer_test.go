package dimse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// loopback and elsewhere are networks that a test's peer is in and is not.
var (
	loopback  = netip.MustParsePrefix("127.0.0.0/8")
	elsewhere = netip.MustParsePrefix("192.0.2.0/24")
)

// Who may speak: PS3.8 section 9.3.4, Table 9-21, each rule refused with the
// result, source and reason that fit, and let in by the first rule that is about
// the request.
func TestPeers(t *testing.T) {
	for _, test := range []struct {
		name  string
		peers []dimse.Peer
		want  dimse.Cause // 0: let in
	}{
		{"no rules", nil, 0},
		{"a rule about everybody", []dimse.Peer{{}}, 0},
		{"calling AE title", []dimse.Peer{{CallingAETitle: "OTHER"}, {CallingAETitle: "SCANNER"}}, 0},
		{"another calling AE title", []dimse.Peer{{CallingAETitle: "OTHER"}}, dimse.CauseCallingAETitle},
		{"calling AE title in small letters", []dimse.Peer{{CallingAETitle: "scanner"}}, dimse.CauseCallingAETitle},
		{"address", []dimse.Peer{{CallingAETitle: "SCANNER", Addresses: []netip.Prefix{elsewhere, loopback}}}, 0},
		{"another address", []dimse.Peer{{CallingAETitle: "OTHER"}, {CallingAETitle: "SCANNER", Addresses: []netip.Prefix{elsewhere}}, {CallingAETitle: "OTHER"}}, dimse.CauseAddress},
		{"another address, in a second rule", []dimse.Peer{{CallingAETitle: "SCANNER", Addresses: []netip.Prefix{elsewhere}}, {CallingAETitle: "SCANNER", Addresses: []netip.Prefix{loopback}}}, 0},
		{"a certificate, without TLS", []dimse.Peer{{CallingAETitle: "SCANNER", CertificateNames: []string{"ct1.example.org"}}}, dimse.CauseCertificate},
		{"called AE title of a rule", []dimse.Peer{{CallingAETitle: "SCANNER", CalledAETitle: dimsetest.AETitle}}, 0},
		{"another called AE title of a rule", []dimse.Peer{{CallingAETitle: "SCANNER", CalledAETitle: "OLDPACS"}}, dimse.CauseCalledAETitle},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := new(dimsetest.Output)
			s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) {
				s.Peers, s.Log = test.peers, slog.New(slog.NewTextHandler(log, nil))
				s.Advise = func(r dimse.Refusal) string { return fmt.Sprintf("cause-%d of %s", r.Cause, r.CallingAETitle) }
			})
			a, err := dialer().Dial(t.Context(), s.Addr)
			if err == nil {
				defer a.Abort()
			}
			if test.want == 0 {
				if err != nil {
					t.Errorf("Dial: %v", err)
				}
				return
			}
			want := dimse.RejectCallingAETitle
			if test.want == dimse.CauseCalledAETitle {
				want = dimse.RejectCalledAETitle
			}
			var rejected *dimse.RejectedError
			if !errors.As(err, &rejected) || rejected.Rejection != want {
				t.Fatalf("Dial: %v, want %s", err, want)
			}
			awaitLine(t, log, "association refused", "calling=SCANNER", "called=ICHWATCH", "peer=127.0.0.1:",
				test.want.String(), want.String(), fmt.Sprintf("cause-%d of SCANNER", test.want), "implementation=ICHWATCH_010")
		})
	}
}

// A rule may let one peer call us by another title, and nobody else.
func TestPeerCallsAnotherTitle(t *testing.T) {
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) {
		s.Peers = []dimse.Peer{{CallingAETitle: "OLD", CalledAETitle: "OLDPACS"}, {CallingAETitle: "SCANNER"}}
	})
	call := func(calling, called string) error {
		d := dialer()
		p := dimsetest.Dial(t, s.Addr)
		rq := associateRQ()
		rq.CallingAETitle, rq.CalledAETitle = pdu.AETitleField(d.CallingAETitle), pdu.AETitleField(d.CalledAETitle)
		copy(rq.CallingAETitle[:], calling+"                ")
		copy(rq.CalledAETitle[:], called+"                ")
		p.SendPDU(rq)
		b := make([]byte, 10)
		if _, err := p.Conn.Read(b); err != nil {
			return err
		}
		if b[0] == byte(pdu.TypeAssociateRJ) {
			return fmt.Errorf("rejected %d/%d/%d", b[7], b[8], b[9])
		}
		return nil
	}
	for _, test := range []struct{ calling, called, want string }{
		{"OLD", "OLDPACS", "<nil>"},
		{"SCANNER", "ICHWATCH", "<nil>"},
		{"OLD", "ICHWATCH", "rejected 1/1/7"},
		{"SCANNER", "OLDPACS", "rejected 1/1/7"},
		{"NEW", "OLDPACS", "rejected 1/1/3"},
	} {
		if got := fmt.Sprint(call(test.calling, test.called)); got != test.want {
			t.Errorf("%s calls %s: %s, want %s", test.calling, test.called, got, test.want)
		}
	}
}

// Names of a certificate, over TLS: one of those that the site's authority has
// confirmed, in any case of letters.
func TestPeerByCertificate(t *testing.T) {
	site := newSite(t)
	for name, want := range map[string]bool{"ct1.example.org": true, "CT1.Example.Org": true, "ct2.example.org": false, "*.example.org": false} {
		s, log := site.secureServer(t, newRecorder(), func(s *dimse.Server) {
			s.Peers = []dimse.Peer{{Name: "ct1", CallingAETitle: "SCANNER", CertificateNames: []string{"other", name}}}
		})
		a, err := secureDialer(t, site.scanner).Dial(t.Context(), s.Addr)
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			a.Abort()
			awaitLine(t, log, "association opened", "rule=ct1", "ct1.example.org")
		} else {
			awaitLine(t, log, "association refused", dimse.CauseCertificate.String(), "ct1.example.org")
		}
	}
}

// Limits: transient, local-limit-exceeded (PS3.8 Table 9-21, 2/3/2).
func TestLimitsOfAPeer(t *testing.T) {
	log := new(dimsetest.Output)
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) {
		s.Peers = []dimse.Peer{{CallingAETitle: "SCANNER", MaxAssociations: 2}, {CallingAETitle: "OTHER"}}
		s.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	dial(t, s)
	dial(t, s)
	var rejected *dimse.RejectedError
	if _, err := dialer().Dial(t.Context(), s.Addr); !errors.As(err, &rejected) || rejected.Rejection != dimse.RejectLocalLimitExceeded {
		t.Errorf("third association: %v", err)
	}
	awaitLine(t, log, dimse.CauseAssociationsOfPeer.String(), "rejected-transient, service-provider (presentation), local-limit-exceeded")
	other := dialer()
	other.CallingAETitle = "OTHER"
	a, err := other.Dial(t.Context(), s.Addr)
	if err != nil {
		t.Fatalf("another peer: %v", err)
	}
	a.Abort()
}

func TestRateOfAssociations(t *testing.T) {
	for _, test := range []struct {
		cause     dimse.Cause
		configure func(*dimse.Server)
	}{
		{dimse.CauseRate, func(s *dimse.Server) { s.Rates.AssociationsPerMinute = 6 }},
		{dimse.CauseRateOfPeer, func(s *dimse.Server) {
			s.Peers = []dimse.Peer{{CallingAETitle: "SCANNER", Rates: dimse.Rates{AssociationsPerMinute: 6}}}
		}},
	} {
		var refusals []dimse.Cause
		configure := func(s *dimse.Server) {
			test.configure(s)
			s.Log = slog.New(slog.DiscardHandler)
			s.Advise = func(r dimse.Refusal) string { refusals = append(refusals, r.Cause); return "" }
		}
		bubble(t, nil, configure, func(t *testing.T, _ *dimse.Server, connect func() *dimsetest.Peer) {
			open := func(want pdu.Type) {
				t.Helper()
				p := connect()
				p.SendPDU(associateRQ())
				u := p.ExpectPDU(want)
				if rj, ok := u.(*pdu.AssociateRJ); ok && (rj.Result != 2 || rj.Source != 3 || rj.Reason != 2) {
					t.Errorf("rejected as %s, want 2/3/2", rj)
				}
				p.Close()
				synctest.Wait()
			}
			for range 6 {
				open(pdu.TypeAssociateAC)
			}
			open(pdu.TypeAssociateRJ)
			time.Sleep(10 * time.Second)
			open(pdu.TypeAssociateAC)
			open(pdu.TypeAssociateRJ)
		})
		if len(refusals) == 0 || refusals[0] != test.cause {
			t.Errorf("causes %v, want %v", refusals, test.cause)
		}
	}
}

// A rate of bytes or objects makes the peer wait, at no cost to its deadlines,
// and refuses nothing.
func TestRateOfBytesAndObjects(t *testing.T) {
	for _, test := range []struct {
		name    string
		rates   dimse.Rates
		objects int
		size    int
		least   time.Duration
	}{
		{"64 KiB a second", dimse.Rates{BytesPerSecond: 64 << 10}, 1, 8 << 20, 126 * time.Second},
		{"one object a second", dimse.Rates{ObjectsPerSecond: 1}, 90, 1000, 89 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, ofPeer := range []bool{false, true} {
				r := newRecorder()
				configure := func(s *dimse.Server) {
					s.ReadTimeout, s.IdleTimeout = 5*time.Second, 5*time.Second
					if s.Rates = test.rates; ofPeer {
						s.Rates, s.Peers = dimse.Rates{}, []dimse.Peer{{Rates: test.rates}}
					}
				}
				bubble(t, r, configure, func(t *testing.T, _ *dimse.Server, connect func() *dimsetest.Peer) {
					p, begun := associated(t, connect()), time.Now()
					for range test.objects {
						p.Send(commandPDU(t, 3, storeRQ()))
						for left := test.size; left > 0; left -= 1 << 16 {
							p.Send(dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, make([]byte, min(left, 1<<16)))))
						}
						p.Send(dimsetest.PData(dimsetest.PDV(3, dimsetest.LastData, nil)))
						if rsp, ok := expectMessage(t, p, 3).(*command.CStoreRSP); !ok || rsp.Status != dimse.StatusSuccess {
							t.Fatalf("answer %+v", rsp)
						}
					}
					if d := time.Since(begun); d < test.least || d > test.least+5*time.Second {
						t.Errorf("it took %v, want %v", d, test.least)
					}
					release(t, p)
				})
			}
		})
	}
}

// A peer that waits for its rate does not hold up the end of the server.
func TestCloseWhilePaced(t *testing.T) {
	r := newRecorder()
	bubble(t, r, func(s *dimse.Server) { s.Rates.BytesPerSecond = 64 << 10 }, func(t *testing.T, s *dimse.Server, connect func() *dimsetest.Peer) {
		p := associated(t, connect())
		begun := time.Now()
		go func() {
			for err := error(nil); err == nil; {
				_, err = p.Conn.Write(append(commandPDU(t, 3, storeRQ()), dimsetest.PData(dimsetest.PDV(3, dimsetest.LastData, make([]byte, 1<<16)))...))
			}
		}()
		time.Sleep(10 * time.Second)
		s.Close()
		r.awaitClosed(t, 1)
		if d := time.Since(begun); d > 11*time.Second {
			t.Errorf("closed after %v, want at once", d)
		}
		p.Close()
	})
}

func TestMaxObjectOfAPeer(t *testing.T) {
	r := newRecorder()
	s := dimsetest.NewServer(t, r, func(s *dimse.Server) { s.Peers = []dimse.Peer{{CallingAETitle: "SCANNER", MaxObject: 1 << 20}} })
	a := dial(t, s)
	if _, err := a.Store(t.Context(), ctRequest(), bytes.NewReader(make([]byte, 1<<19))); err != nil {
		t.Errorf("an object below the bound: %v", err)
	}
	if _, err := a.Store(t.Context(), ctRequest(), bytes.NewReader(make([]byte, 1<<21))); err == nil {
		t.Error("an object above the bound was taken")
	}
	if err := r.awaitClosed(t, 1); !errors.Is(err, dimse.ErrObjectTooLarge) {
		t.Errorf("association ended with %v", err)
	}
}

// A peer that tries again and again, with the same or with ever another title,
// cannot fill the log; how often it tried is told.
func TestPromise6_RefusalsDoNotFillTheLog(t *testing.T) {
	log := new(dimsetest.Output)
	configure := func(s *dimse.Server) {
		s.Peers = []dimse.Peer{{CallingAETitle: "NOBODY"}}
		s.Log = slog.New(slog.NewTextHandler(log, nil))
	}
	bubble(t, nil, configure, func(t *testing.T, _ *dimse.Server, connect func() *dimsetest.Peer) {
		try := func(title string) {
			p := connect()
			rq := associateRQ()
			copy(rq.CallingAETitle[:], title)
			p.SendPDU(rq)
			p.ExpectPDU(pdu.TypeAssociateRJ)
			p.Close()
			synctest.Wait()
		}
		lines := func() int { return strings.Count(log.String(), "\n") }
		for range 500 {
			try("SCANNER")
		}
		if n := lines(); n != 1 {
			t.Errorf("%d lines about 500 refusals of one title, want 1:\n%s", n, log.String())
		}
		for i := range 500 {
			try(fmt.Sprintf("S%06d", i))
		}
		if n := lines(); n > 10 {
			t.Errorf("%d lines about 500 titles, want 10 at most:\n%s", n, log.String())
		}
		time.Sleep(2 * time.Minute)
		connect().Close() // any connection will do
		synctest.Wait()
		if text := log.String(); !strings.Contains(text, "times=499") || !strings.Contains(text, "times=49") {
			t.Errorf("how often it was is not told:\n%s", text)
		}
		try("SCANNER")
		if n := strings.Count(log.String(), `"association refused"`); n != 10 {
			t.Errorf("%d refusals are told, want 10: the same again after a while", n)
		}
	})
}

// What a peer puts into a line of the log is printable, and short.
func TestPromise6_LogIsPrintable(t *testing.T) {
	log := new(dimsetest.Output)
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) {
		s.AcceptAnyCalledAETitle = true
		s.Log = slog.New(slog.NewJSONHandler(log, nil))
	})
	p, _ := establish(t, s, func(rq *pdu.AssociateRQ) {
		copy(rq.CalledAETitle[:], "\x1b[2J\r\n\xff\u202e")
		rq.UserInformation.ImplementationVersionName = strings.Repeat("\x1b]0;x\a", 1000)
	})
	release(t, p)
	p = dimsetest.Dial(t, s.Addr)
	rq := associateRQ()
	copy(rq.CallingAETitle[:], "A\nB\x00\xfe")
	p.SendPDU(rq)
	p.ExpectPDU(pdu.TypeAssociateRJ)
	p.Close()
	awaitLine(t, log, "association opened")
	awaitLine(t, log, "association refused", `A\\nB`, dimse.CauseInvalidCallingAETitle.String())
	for line := range strings.Lines(log.String()) {
		if len(line) > 1000 || strings.Contains(line, `\u001b`) || strings.ContainsFunc(strings.TrimSpace(line), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("not printable, or long: %q", line)
		}
	}
}

// authenticator lets in whom it knows.
type authenticator map[string]string

var errWrong = errors.New("wrong")

func (a authenticator) Authenticate(ctx context.Context, username string, passcode []byte) error {
	switch want, ok := a[username]; {
	case username == "slow":
		<-ctx.Done()
		return ctx.Err()
	case !ok, passcode == nil && want != "", passcode != nil && string(passcode) != want:
		return errWrong
	}
	return nil
}

// User identity negotiation, PS3.7 section D.3.3.7: what is asked for is checked;
// what is not is ignored, without an answer.
func TestUserIdentity(t *testing.T) {
	identity := func(typ pdu.UserIdentityType, name, passcode string, response bool) *pdu.UserIdentity {
		return &pdu.UserIdentity{Type: typ, PositiveResponseRequested: response, PrimaryField: []byte(name), SecondaryField: []byte(passcode)}
	}
	for _, test := range []struct {
		name     string
		ignore   bool
		identity *pdu.UserIdentity
		cause    dimse.Cause
		want     dimse.Rejection // zero: let in
		response []byte
	}{
		{"username and passcode", false, identity(2, "ct1", "secret", false), 0, dimse.Rejection{}, nil},
		{"username and passcode, response requested", false, identity(2, "ct1", "secret", true), 0, dimse.Rejection{}, []byte{}},
		{"username", false, identity(1, "ct2", "", true), 0, dimse.Rejection{}, []byte{}},
		{"wrong passcode", false, identity(2, "ct1", "guess", true), dimse.CauseUserIdentity, dimse.RejectNoReason, nil},
		{"username alone where a passcode is due", false, identity(1, "ct1", "", false), dimse.CauseUserIdentity, dimse.RejectNoReason, nil},
		{"unknown user", false, identity(2, "ct9", "secret", false), dimse.CauseUserIdentity, dimse.RejectNoReason, nil},
		{"none", false, nil, dimse.CauseNoUserIdentity, dimse.RejectNoReason, nil},
		{"Kerberos", false, identity(3, "ticket", "", true), dimse.CauseUserIdentityType, dimse.RejectNoReason, nil},
		{"SAML", false, identity(4, "assertion", "", true), dimse.CauseUserIdentityType, dimse.RejectNoReason, nil},
		{"JSON Web Token", false, identity(5, "token", "", true), dimse.CauseUserIdentityType, dimse.RejectNoReason, nil},
		{"no time to check", false, identity(2, "slow", "secret", true), dimse.CauseUserIdentityUnchecked, dimse.RejectTemporaryCongestion, nil},
		{"ignored", true, identity(2, "ct1", "guess", true), 0, dimse.Rejection{}, nil},
		{"Kerberos, ignored", true, identity(3, "ticket", "", true), 0, dimse.Rejection{}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := new(dimsetest.Output)
			s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) {
				s.Peers = []dimse.Peer{{RequireUserIdentity: !test.ignore}}
				s.Authenticator = authenticator{"ct1": "secret", "ct2": ""}
				s.ARTIM = time.Second
				s.Log = slog.New(slog.NewTextHandler(log, nil))
			})
			p := dimsetest.Dial(t, s.Addr)
			rq := associateRQ()
			rq.UserInformation.UserIdentity = test.identity
			p.SendPDU(rq)
			if test.want != (dimse.Rejection{}) {
				rj, _ := p.ExpectPDU(pdu.TypeAssociateRJ).(*pdu.AssociateRJ)
				if rj != nil && (dimse.Rejection{Result: rj.Result, Source: rj.Source, Reason: rj.Reason}) != test.want {
					t.Errorf("rejected as %s, want %s", rj, test.want)
				}
				awaitLine(t, log, "association refused", test.cause.String())
				p.Close()
			} else {
				ac, _ := p.ExpectPDU(pdu.TypeAssociateAC).(*pdu.AssociateAC)
				if ac != nil {
					equal(t, "response", ac.UserInformation.UserIdentityResponse, test.response)
				}
				release(t, p)
			}
			if text := log.String(); strings.Contains(text, "secret") || strings.Contains(text, "guess") || strings.Contains(text, "ticket") {
				t.Errorf("the log has what is secret:\n%s", text)
			}
		})
	}
}

// storescu tells who it is, and asks for the answer.
func TestUserIdentityOfStoreSCU(t *testing.T) {
	r := newRecorder()
	s := dimsetest.NewServer(t, r, func(s *dimse.Server) {
		s.Peers, s.Authenticator = []dimse.Peer{{RequireUserIdentity: true}}, authenticator{"ct1": "secret", "ct2": ""}
	})
	host, port, _ := net.SplitHostPort(s.Addr)
	file := writeFile(t, t.TempDir(), "1.2.3.4", ctDataSet("1.2.3.4", 8, 8))
	send := func(args ...string) error {
		_, err := dimsetest.RunError(t, "storescu", append(args, "-R", "-aec", string(dimsetest.AETitle), host, port, file)...)
		return err
	}
	for _, good := range [][]string{{"-usr", "ct1", "-pwd", "secret", "-rsp"}, {"-usr", "ct2", "-epw", "-rsp"}, {"-usr", "ct1", "-pwd", "secret"}} {
		if err := send(good...); err != nil {
			t.Errorf("storescu %v: %v", good, err)
		}
	}
	for _, bad := range [][]string{nil, {"-usr", "ct1", "-pwd", "guess"}, {"-usr", "ct1", "-epw"}} {
		if err := send(bad...); err == nil {
			t.Errorf("storescu %v succeeded", bad)
		}
	}
	if len(r.objects) != 3 {
		t.Errorf("%d objects, want 3", len(r.objects))
	}
}

// A rule may keep its peers to some SOP classes: the contexts and the roles of
// others are answered as those of a class that the server does not know.
func TestPeerWithSomeSOPClasses(t *testing.T) {
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) {
		s.Peers = []dimse.Peer{{CallingAETitle: "SCANNER", AbstractSyntaxes: []dicom.UID{dicom.Verification, dicom.MRImageStorage}}, {}}
	})
	for title, want := range map[dicom.AETitle][]pdu.ContextResult{
		"SCANNER": {pdu.Acceptance, pdu.AbstractSyntaxNotSupported, pdu.Acceptance, pdu.AbstractSyntaxNotSupported},
		"OTHER":   {pdu.Acceptance, pdu.Acceptance, pdu.Acceptance, pdu.AbstractSyntaxNotSupported},
	} {
		d := dialer()
		d.CallingAETitle, d.Contexts = title, nil
		for _, class := range []dicom.UID{dicom.Verification, dicom.CTImageStorage, dicom.MRImageStorage, dicom.StorageCommitmentPushModel} {
			d.Contexts = append(d.Contexts, dimse.ProposedContext{AbstractSyntax: class, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}})
		}
		a, err := d.Dial(t.Context(), s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		for i, pc := range a.Contexts() {
			if pc.Result != want[i] {
				t.Errorf("%s: %s: %v, want %v", title, pc.AbstractSyntax.Name(), pc.Result, want[i])
			}
		}
		a.Abort()
	}
}

// waitingRoom is an Authenticator that knows nobody and takes its time.
type waitingRoom struct {
	mu          sync.Mutex
	in, most    int
	came, ended chan struct{}
}

func (w *waitingRoom) Authenticate(ctx context.Context, _ string, _ []byte) error {
	w.mu.Lock()
	w.in++
	w.most = max(w.most, w.in)
	w.mu.Unlock()
	w.came <- struct{}{}
	<-ctx.Done()
	w.mu.Lock()
	w.in--
	w.mu.Unlock()
	w.ended <- struct{}{}
	return ctx.Err()
}

// Who has to prove who it is takes no slot before, and costs the others none of their rate; and of such there cannot be
// more than of silent connections: one more, and one of them goes.
func TestPromise6_StrangersTakeNoPlaces(t *testing.T) {
	const strangers = 60
	const most = 2 + 32 // MaxAssociations, and some
	room := new(waitingRoom)
	configure := func(s *dimse.Server) {
		room.came, room.ended = make(chan struct{}, strangers), make(chan struct{}, strangers) // of the bubble
		s.Peers = []dimse.Peer{{CallingAETitle: "SCANNER"}, {CallingAETitle: "STRANGER", RequireUserIdentity: true}}
		s.MaxAssociations, s.Rates.AssociationsPerMinute = 2, 2
		s.Authenticator = room
	}
	bubble(t, nil, configure, func(t *testing.T, _ *dimse.Server, connect func() *dimsetest.Peer) {
		for range strangers {
			rq := associateRQ()
			rq.CallingAETitle = pdu.AETitleField("STRANGER")
			rq.UserInformation.UserIdentity = &pdu.UserIdentity{Type: pdu.IdentityUsernamePasscode, PrimaryField: []byte("ct1"), SecondaryField: []byte("guess")}
			connect().SendPDU(rq)
			<-room.came
			synctest.Wait()
		}
		time.Sleep(5 * time.Second) // for those that go to have gone
		if len(room.ended) != strangers-most || room.most > most+1 {
			t.Errorf("%d strangers had to go, and %d were there at a time, want %d and %d", len(room.ended), room.most, strangers-most, most+1)
		}
		for range 2 {
			expectEcho(t, associated(t, connect()))
		}
	})
}

// What the program asks of itself is let in by no rule and refused by none, takes nobody's place, gets Verification and
// nothing else, and is no line of the log.
func TestOwn(t *testing.T) {
	log := new(dimsetest.Output)
	own := make(chan string, 1)
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) {
		s.Peers, s.MaxAssociations = []dimse.Peer{{CallingAETitle: "OTHER"}}, 1
		s.Log = slog.New(slog.NewTextHandler(log, nil))
		s.Admit = func(context.Context, dimse.AssociateRequestInfo) *dimse.Rejection {
			return &dimse.RejectTemporaryCongestion
		}
		s.Own = func(_, remote net.Addr) bool {
			select {
			case known := <-own:
				return known == remote.String()
			default:
				return false
			}
		}
	})
	d := dialer()
	d.Contexts = append(d.Contexts, dimse.ProposedContext{AbstractSyntax: dicom.Verification, TransferSyntaxes: bothSyntaxes})
	d.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			own <- conn.LocalAddr().String()
		}
		return conn, err
	}
	for range 3 {
		a, err := d.Dial(t.Context(), s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Abort()
		if status, err := a.Echo(t.Context()); err != nil || status != dimse.StatusSuccess {
			t.Errorf("C-ECHO: %v, %v", status, err)
		}
		for _, pc := range a.Contexts() {
			if accepted := pc.Result == pdu.Acceptance; accepted != (pc.AbstractSyntax == dicom.Verification) {
				t.Errorf("%s: %v", pc.AbstractSyntax.Name(), pc.Result)
			}
		}
	}
	if text := log.String(); text != "" {
		t.Errorf("the log has\n%s", text)
	}
	var rejected *dimse.RejectedError
	if _, err := dialer().Dial(t.Context(), s.Addr); !errors.As(err, &rejected) {
		t.Errorf("somebody else: %v", err)
	}
}
