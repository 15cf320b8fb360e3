package dimse_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// bubble runs f with a server behind a pipe in a bubble whose clock jumps.
func bubble(t *testing.T, r *recorder, configure func(*dimse.Server), f func(t *testing.T, s *dimse.Server, connect func() *dimsetest.Peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if r != nil {
			r.changed = make(chan struct{}) // a channel of this bubble
		} else {
			r = newRecorder()
		}
		if configure == nil {
			configure = func(*dimse.Server) {}
		}
		s, dialPipe := dimsetest.NewPipeServer(t, r, configure)
		f(t, s, func() *dimsetest.Peer {
			p := dimsetest.NewPeer(t, dialPipe())
			p.Timeout = 24 * time.Hour
			return p
		})
	})
}

// associated sends the request and reads the answer.
func associated(t *testing.T, p *dimsetest.Peer) *dimsetest.Peer {
	t.Helper()
	p.SendPDU(associateRQ())
	p.ExpectPDU(pdu.TypeAssociateAC)
	return p
}

// dribble sends b one byte a second until the other side closes.
func dribble(p *dimsetest.Peer, b []byte) {
	for i := range b {
		time.Sleep(time.Second) // in a bubble: no time passes outside
		if _, err := p.Conn.Write(b[i : i+1]); err != nil {
			return
		}
	}
}

func TestPromise6_DeadlinesHold(t *testing.T) {
	for _, test := range []struct {
		name        string
		script      func(t *testing.T, p *dimsetest.Peer)
		least, most time.Duration
	}{
		{"silent socket", func(t *testing.T, p *dimsetest.Peer) { p.ExpectClosed() }, 30 * time.Second, 30 * time.Second},
		{"A-ASSOCIATE-RQ at a byte a second", func(t *testing.T, p *dimsetest.Peer) {
			dribble(p, dimsetest.Encode(t, associateRQ()))
			p.ExpectClosed()
		}, 30 * time.Second, 31 * time.Second},
		{"idle association", func(t *testing.T, p *dimsetest.Peer) {
			associated(t, p).ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified)
			p.ExpectClosed()
		}, 5 * time.Minute, 5*time.Minute + time.Second},
		{"idle association that never closes after the A-ABORT", func(t *testing.T, p *dimsetest.Peer) {
			associated(t, p).ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified)
			p.ExpectClosed()
		}, 5*time.Minute + time.Second, 5*time.Minute + time.Second},
		{"stall within a PDU header", func(t *testing.T, p *dimsetest.Peer) {
			associated(t, p).Send([]byte{4, 0, 0})
			p.ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified)
			p.ExpectClosed()
		}, 30 * time.Second, 31 * time.Second},
		{"object at a byte a second", func(t *testing.T, p *dimsetest.Peer) {
			associated(t, p).Send(commandPDU(t, 3, storeRQ()))
			done := make(chan struct{})
			go func() {
				p.ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified)
				p.ExpectClosed()
				close(done)
			}()
			dribble(p, dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, make([]byte, 100_000))))
			<-done
		}, 30 * time.Second, 35 * time.Second},
		{"peer that takes no answer", func(t *testing.T, p *dimsetest.Peer) {
			associated(t, p).Send(commandPDU(t, 1, &command.CEchoRQ{AffectedSOPClassUID: dicom.Verification}))
			time.Sleep(32 * time.Second)
			p.ExpectClosed()
		}, 32 * time.Second, 32 * time.Second},
		{"no close after a rejection", func(t *testing.T, p *dimsetest.Peer) {
			rq := associateRQ()
			rq.ApplicationContext = "1.2"
			p.SendPDU(rq)
			p.ExpectPDU(pdu.TypeAssociateRJ)
			p.ExpectClosed()
		}, 30 * time.Second, 30 * time.Second},
		{"no close after a release", func(t *testing.T, p *dimsetest.Peer) {
			associated(t, p).SendPDU(&pdu.ReleaseRQ{})
			p.ExpectPDU(pdu.TypeReleaseRP)
			p.ExpectClosed()
		}, 30 * time.Second, 30 * time.Second},
		{"requests for ever after a rejection", func(t *testing.T, p *dimsetest.Peer) {
			rq := associateRQ()
			rq.ApplicationContext = "1.2"
			p.SendPDU(rq)
			p.ExpectPDU(pdu.TypeAssociateRJ)
			go func() { _, _ = io.Copy(io.Discard, p.Conn) }() // A-ABORTs, then the close
			for err := error(nil); err == nil; _, err = p.Conn.Write(dimsetest.Encode(t, rq)) {
				time.Sleep(900 * time.Millisecond)
			}
		}, 30 * time.Second, 31 * time.Second},
		// PS3.8 section 9.1.4: ARTIM is not restarted in Sta13, whatever comes, and
		// however long the peer takes over what it brings about.
		{"requests for ever after a rejection, their A-ABORTs taken late", func(t *testing.T, p *dimsetest.Peer) {
			rq := associateRQ()
			rq.ApplicationContext = "1.2"
			p.SendPDU(rq)
			p.ExpectPDU(pdu.TypeAssociateRJ)
			closed := make(chan struct{})
			go func() {
				for b := make([]byte, 10); ; {
					if _, err := io.ReadFull(p.Conn, b); err != nil {
						return
					}
					select {
					case <-closed:
						return
					case <-time.After(20 * time.Second):
					}
				}
			}()
			for err := error(nil); err == nil; {
				_, err = p.Conn.Write(dimsetest.Encode(t, rq))
			}
			close(closed)
		}, 30 * time.Second, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, nil, nil, func(t *testing.T, _ *dimse.Server, connect func() *dimsetest.Peer) {
				p, begun := connect(), time.Now()
				test.script(t, p)
				if d := time.Since(begun); d < test.least || d > test.most {
					t.Errorf("closed after %v, want %v to %v", d, test.least, test.most)
				}
			})
		})
	}
}

// An honest sender on a slow line, 8 KiB a second with pauses, is never cut off;
// nor is one whose receiver is slow.
func TestSlowButHonest(t *testing.T) {
	r := newRecorder()
	r.store = func(_ dimse.CStoreRQ, data io.Reader) dimse.Result {
		buf := make([]byte, 1<<20)
		for {
			if _, err := io.ReadFull(data, buf); err != nil {
				return dimse.Result{Status: dimse.StatusSuccess}
			}
			time.Sleep(10 * time.Minute) // a disk in trouble
		}
	}
	bubble(t, r, nil, func(t *testing.T, _ *dimse.Server, connect func() *dimsetest.Peer) {
		p, begun := associated(t, connect()), time.Now()
		p.Send(commandPDU(t, 3, storeRQ()))
		for i := range 300 {
			time.Sleep(time.Second)
			if i%100 == 50 {
				time.Sleep(25 * time.Second)
			}
			p.Send(dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, make([]byte, 8<<10))))
		}
		p.Send(dimsetest.PData(dimsetest.PDV(3, dimsetest.LastData, nil)))
		if rsp, ok := expectMessage(t, p, 3).(*command.CStoreRSP); !ok || rsp.Status != dimse.StatusSuccess {
			t.Errorf("answer %+v", rsp)
		}
		if d := time.Since(begun); d < 25*time.Minute {
			t.Errorf("it took %v only: the test tests nothing", d)
		}
		p.Close()
	})
}

// A chain of fragments that never ends is cut off at MaxObject, empty ones too.
func TestPromise6_EndlessFragments(t *testing.T) {
	for _, fragment := range [][]byte{make([]byte, 4096), nil} {
		r := newRecorder()
		r.store = func(_ dimse.CStoreRQ, data io.Reader) dimse.Result {
			_, err := io.Copy(io.Discard, data)
			if !errors.Is(err, dimse.ErrObjectTooLarge) {
				t.Errorf("the Handler read to %v, want ErrObjectTooLarge", err)
			}
			return dimse.Result{Status: dimse.StatusProcessingFailure}
		}
		p, _ := establish(t, dimsetest.NewServer(t, r, func(s *dimse.Server) { s.MaxObject = 1 << 20 }))
		p.Send(commandPDU(t, 3, storeRQ()))
		chunk := bytes.Repeat(dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, fragment)), 16)
		sent := 0
		for {
			_ = p.Conn.SetWriteDeadline(time.Now().Add(dimsetest.Timeout))
			n, err := p.Conn.Write(chunk)
			if sent += n; err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the server neither reads nor closes")
				}
				break
			}
		}
		t.Logf("cut off after %d bytes", sent)
		if err := r.awaitClosed(t, 1); !errors.Is(err, dimse.ErrObjectTooLarge) {
			t.Errorf("association ended with %v", err)
		}
	}
}

// With twice the maximum of silent sockets open, C-ECHO succeeds at once.
func TestPromise6_SilentSocketsTakeNoSlot(t *testing.T) {
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) { s.MaxAssociations = 20 })
	for range 2*20 + 40 { // past the bound on silent ones as well
		dimsetest.Dial(t, s.Addr)
	}
	begun := time.Now()
	a := dial(t, s)
	if status, err := a.Echo(t.Context()); err != nil || status != dimse.StatusSuccess {
		t.Errorf("Echo: %v, %v", status, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
	if d := time.Since(begun); d > dimsetest.Timeout/2 {
		t.Errorf("it took %v", d)
	}
}

// Connections that stay open after a rejection or a release hold no slot; they
// are bounded all the same, and who has stayed longest goes first.
func TestPromise6_LingeringConnectionsAreBounded(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(t *testing.T, p *dimsetest.Peer)
	}{
		{"rejected", func(t *testing.T, p *dimsetest.Peer) {
			rq := associateRQ()
			rq.ApplicationContext = "1.2"
			p.SendPDU(rq)
			p.ExpectPDU(pdu.TypeAssociateRJ)
		}},
		{"released", func(t *testing.T, p *dimsetest.Peer) {
			associated(t, p).SendPDU(&pdu.ReleaseRQ{})
			p.ExpectPDU(pdu.TypeReleaseRP)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			configure := func(s *dimse.Server) { s.MaxAssociations = 4 }
			bubble(t, nil, configure, func(t *testing.T, _ *dimse.Server, connect func() *dimsetest.Peer) {
				begun := time.Now()
				peers := make([]*dimsetest.Peer, 100)
				for i := range peers {
					peers[i] = connect()
					test.end(t, peers[i])
					synctest.Wait()
				}
				peers[0].ExpectClosed()
				if d := time.Since(begun); d != 0 {
					t.Errorf("the first of %d was closed after %v, want at once", len(peers), d)
				}
				peers[len(peers)-1].ExpectClosed()
				if d := time.Since(begun); d != 30*time.Second {
					t.Errorf("the last was closed after %v, want ARTIM", d)
				}
			})
		})
	}
}

// A panic in Admit costs the connection, and no slot.
func TestPromise6_AdmitPanics(t *testing.T) {
	panics := true
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) {
		s.MaxAssociations = 1
		s.Admit = func(context.Context, dimse.AssociateRequestInfo) *dimse.Rejection {
			if panics {
				panics = false
				panic("PATIENT^NAME")
			}
			return nil
		}
	})
	var aborted *dimse.AbortedError
	if _, err := dialer().Dial(t.Context(), s.Addr); !errors.As(err, &aborted) {
		t.Errorf("Dial: %v, want the peer's abort", err)
	}
	// The slot comes free when the server has seen the abort through.
	var rejected *dimse.RejectedError
	a, err := dialer().Dial(t.Context(), s.Addr)
	for begun := time.Now(); errors.As(err, &rejected) && time.Since(begun) < dimsetest.Timeout; {
		a, err = dialer().Dial(t.Context(), s.Addr)
	}
	if err != nil {
		t.Fatalf("after the panic: %v", err)
	}
	if _, err := a.Echo(t.Context()); err != nil {
		t.Errorf("Echo: %v", err)
	}
	a.Abort()
}

func TestLimits(t *testing.T) {
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) { s.MaxAssociations, s.MaxAssociationsPerHost = 3, 2 })
	first, second := dial(t, s), dial(t, s)
	var rejected *dimse.RejectedError
	if _, err := dialer().Dial(t.Context(), s.Addr); !errors.As(err, &rejected) || rejected.Rejection != dimse.RejectLocalLimitExceeded || !rejected.Transient() {
		t.Errorf("third association of one host: %v", err)
	}
	if err := first.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
	// The slot comes free when the server has seen the release through.
	third, err := dialer().Dial(t.Context(), s.Addr)
	for begun := time.Now(); errors.As(err, &rejected) && time.Since(begun) < dimsetest.Timeout; {
		third, err = dialer().Dial(t.Context(), s.Addr)
	}
	if err != nil {
		t.Fatalf("after a release: %v", err)
	}
	if _, err := second.Echo(t.Context()); err != nil {
		t.Errorf("Echo: %v", err)
	}
	third.Abort()
	second.Abort()
}

// A panic costs its association; what it said stays out of the log.
func TestPromise6_HandlerPanics(t *testing.T) {
	var log dimsetest.Output
	r := newRecorder()
	r.store = func(dimse.CStoreRQ, io.Reader) dimse.Result { panic("PATIENT^NAME") }
	s := dimsetest.NewServer(t, r, func(s *dimse.Server) { s.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	other := dial(t, s)
	a := dial(t, s)
	_, err := a.Store(t.Context(), ctRequest(), bytes.NewReader(make([]byte, 1<<20)))
	var aborted *dimse.AbortedError
	if !errors.As(err, &aborted) {
		t.Errorf("Store: %v, want the peer's abort", err)
	}
	if status, err := other.Echo(t.Context()); err != nil || status != dimse.StatusSuccess {
		t.Errorf("Echo on another association: %v, %v", status, err)
	}
	if err := other.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
	r.awaitClosed(t, 2)
	s.Close()
	if text := log.String(); !strings.Contains(text, "handler panicked") || strings.Contains(text, "PATIENT") {
		t.Errorf("log:\n%s", text)
	}
}

func TestShutdownDrains(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	r := newRecorder()
	r.store = func(_ dimse.CStoreRQ, data io.Reader) dimse.Result {
		close(started)
		<-finish
		n, err := io.Copy(io.Discard, data)
		if n != 1000 || err != nil {
			t.Errorf("Store read %d bytes and %v", n, err)
		}
		return dimse.Result{Status: dimse.StatusSuccess}
	}
	s := dimsetest.NewServer(t, r)
	idle, busy := dial(t, s), dial(t, s)
	stored := make(chan error, 1)
	go func() {
		result, err := busy.Store(t.Context(), ctRequest(), bytes.NewReader(make([]byte, 1000)))
		if err == nil && result.Status != dimse.StatusSuccess {
			err = errors.New(result.Status.String())
		}
		if err == nil {
			err = busy.Release(t.Context())
		}
		stored <- err
	}()
	<-started
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	r.awaitClosed(t, 1) // the idle one
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned (%v) with a message in progress", err)
	default:
	}
	if _, err := dialer().Dial(t.Context(), s.Addr); err == nil {
		t.Error("an association was accepted during Shutdown")
	}
	close(finish)
	if err := <-stored; err != nil {
		t.Errorf("the message in progress: %v", err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := idle.Echo(t.Context()); err == nil {
		t.Error("the idle association lived on")
	}
}

func TestShutdownCutsOffAtItsDeadline(t *testing.T) {
	r := newRecorder()
	bubble(t, r, nil, func(t *testing.T, s *dimse.Server, connect func() *dimsetest.Peer) {
		p := associated(t, connect())
		p.Send(commandPDU(t, 3, storeRQ()), dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, make([]byte, 10))))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		go func() {
			p.ExpectAbort(pdu.AbortServiceUser, pdu.AbortReasonNotSpecified)
			p.Close()
		}()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if err := r.awaitClosed(t, 1); !errors.Is(err, dimse.ErrServerClosed) {
			t.Errorf("association ended with %v", err)
		}
	})
}

// A connection that is lost at any byte of a session: the association ends, and
// an object is whole only where all of it came.
func TestPromise6_LostAtEveryByte(t *testing.T) {
	data := ctDataSet("1.2.3.4", 4, 4)
	session := bytes.Join([][]byte{
		commandPDU(t, 3, storeRQ()),
		dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, data[:100])), dimsetest.PData(dimsetest.PDV(3, dimsetest.LastData, data[100:])),
	}, nil)
	r := newRecorder()
	s, connect := dimsetest.NewPipeServer(t, r)
	for n := range len(session) + 1 {
		p := dimsetest.NewPeer(t, connect())
		associated(t, p).Send(session[:n])
		p.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), dimsetest.Timeout)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatalf("Shutdown: %v: an association outlived its connection", err)
	}
	whole := 0
	for _, o := range r.objects {
		if o.err == nil {
			whole++
		}
	}
	if whole != 1 || len(r.objects) < len(data) || r.opened != len(r.closed) {
		t.Errorf("%d whole objects of %d, %d associations opened, %d closed", whole, len(r.objects), r.opened, len(r.closed))
	}
}

// A TCP reset at every byte of a session, its association request included: the
// associations end, one beside them goes on, and an object is whole only where all
// of it came.
func TestPromise6_ResetAtEveryByte(t *testing.T) {
	data := ctDataSet("1.2.3.4", 4, 4)
	request := dimsetest.Encode(t, associateRQ())
	session := bytes.Join([][]byte{
		request, commandPDU(t, 3, storeRQ()),
		dimsetest.PData(dimsetest.PDV(3, dimsetest.Data, data[:100])), dimsetest.PData(dimsetest.PDV(3, dimsetest.LastData, data[100:])),
	}, nil)
	r := newRecorder()
	s := dimsetest.NewServer(t, r)
	beside, err := dialer().Dial(t.Context(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(session) {
		conn, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatalf("byte %d: %v", n, err)
		}
		p := dimsetest.NewPeer(t, conn)
		if n < len(request) {
			p.Send(session[:n])
		} else {
			p.Send(request)
			p.ExpectPDU(pdu.TypeAssociateAC)
			p.Send(session[len(request):n])
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // closing resets
			t.Fatal(err)
		}
		p.Close()
		if n%100 == 0 {
			if status, err := beside.Echo(t.Context()); err != nil || status != dimse.StatusSuccess {
				t.Fatalf("byte %d: the association beside it: %v, %v", n, status, err)
			}
		}
	}
	if err := beside.Release(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), dimsetest.Timeout)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatalf("Shutdown: %v: an association outlived its connection", err)
	}
	r.awaitClosed(t, r.opened)
	for i, o := range r.objects {
		if o.err == nil {
			t.Errorf("object %d of %d is whole although its last byte never came", i, len(r.objects))
		}
	}
	// A reset may overtake bytes that were sent before it, so not every session gets
	// as far as its request.
	if r.opened < len(session)/4 || r.opened != len(r.closed) {
		t.Errorf("%d sessions, %d associations opened, %d closed", len(session), r.opened, len(r.closed))
	}
}

// 10,000 associations, in every way they can end, leave nothing behind: neither
// goroutines nor memory.
func TestPromise6_TenThousandAssociations(t *testing.T) {
	const all, first = 10_000, 1000
	r := newRecorder()
	s := dimsetest.NewServer(t, r)
	var goroutines int
	var memory uint64
	for i := range all {
		if i == first { // what a process needs once has been taken
			r.awaitClosed(t, first)
			r.forget()
			goroutines, memory = runtime.NumGoroutine(), resident()
		}
		a, err := dialer().Dial(t.Context(), s.Addr)
		if err != nil {
			t.Fatalf("association %d: %v", i, err)
		}
		if i%10 == 0 {
			if _, err := a.Store(t.Context(), ctRequest(), bytes.NewReader(make([]byte, 10_000))); err != nil {
				t.Fatalf("Store: %v", err)
			}
		}
		switch i % 3 {
		case 0:
			err = a.Release(t.Context())
		case 1:
			err = a.Abort()
		case 2:
			_, err = a.Store(t.Context(), ctRequest(), failingReader{})
			if errors.Is(err, errSource) {
				err = nil
			}
		}
		if err != nil {
			t.Fatalf("association %d: %v", i, err)
		}
	}
	r.awaitClosed(t, all)
	if r.opened != all || len(r.closed) != all {
		t.Errorf("%d opened, %d closed", r.opened, len(r.closed))
	}
	r.forget()
	now, left := resident(), runtime.NumGoroutine()
	t.Logf("after %d associations %d goroutines and %d MiB, after %d %d and %d", first, goroutines, memory>>20, all, left, now>>20)
	// A leak of a kilobyte an association would be 9 MiB; the Go heap breathes as much.
	if now > memory+6<<20 {
		t.Errorf("%d MiB resident after %d associations, %d after %d", memory>>20, first, now>>20, all)
	}
	if left > goroutines+5 {
		t.Errorf("%d goroutines after %d associations, %d after %d", goroutines, first, left, all)
	}
	ctx, cancel := context.WithTimeout(t.Context(), dimsetest.Timeout)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v: associations are left", err)
	}
	if err := goleakFind(); err != nil {
		t.Error(err)
	}
}

// resident is how much memory the Go runtime holds once it has given back what it
// can, in bytes. The race detector's own, which grows with every goroutine there
// was, is not in it.
func resident() uint64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys - m.HeapReleased
}

var errSource = errors.New("source failed")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errSource }

// The accept loop survives errors that pass.
func TestAcceptErrorsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &failingListener{left: 5, done: make(chan struct{})}
		s := &dimse.Server{AETitle: dimsetest.AETitle, Handler: newRecorder()}
		err := s.Serve(t.Context(), ln)
		if !errors.Is(err, net.ErrClosed) || ln.left != 0 {
			t.Errorf("Serve gave up with %v, %d errors before the end", err, ln.left)
		}
	})
}

type failingListener struct {
	left int
	done chan struct{}
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left == 0 {
		return nil, net.ErrClosed
	}
	l.left--
	return nil, errors.New("too many open files")
}
func (l *failingListener) Close() error   { return nil }
func (l *failingListener) Addr() net.Addr { return &net.TCPAddr{} }
