package dimse

import (
	"bytes"
	"log/slog"
	"net"
	"testing"
	"time"

	"ichwatch/dimse/pdu"
)

// An acceptor that releases: Sta7, Sta10 and Sta12, which our Server never
// enters but the table has.
func TestReleaseCollisionAsAcceptor(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	a := newAssociation(ours, false, 16384, time.Minute, time.Minute, slog.New(slog.DiscardHandler))
	a.artim = time.Minute
	a.machine.state = sta6
	released := make(chan error, 1)
	go func() { released <- a.Release(t.Context()) }()

	r, w := pdu.NewReader(theirs, 0), pdu.NewWriter(theirs)
	expect := func(want pdu.Type) {
		t.Helper()
		p, err := r.Next()
		if err != nil || p.Type() != want {
			t.Fatalf("received %v, %v, want %s", p, err, want)
		}
	}
	send := func(p pdu.PDU) {
		t.Helper()
		if err := w.WritePDU(p); err != nil {
			t.Fatal(err)
		}
	}
	expect(pdu.TypeReleaseRQ)
	send(&pdu.ReleaseRQ{}) // AR-8: Sta10
	send(&pdu.ReleaseRP{}) // AR-10: Sta12
	expect(pdu.TypeReleaseRP)
	theirs.Close()
	if err := <-released; err != nil {
		t.Errorf("Release: %v", err)
	}
	if a.machine.state != sta1 {
		t.Errorf("the machine ended in %s", a.machine.state)
	}
}

func TestEvenReader(t *testing.T) {
	for n := range 6 {
		for size := 1; size < 5; size++ {
			e := &evenReader{r: bytes.NewReader(make([]byte, n))}
			total, buf := 0, make([]byte, size)
			for {
				m, err := e.Read(buf)
				total += m
				if err != nil {
					break
				}
			}
			if want := n + n%2; total != want {
				t.Errorf("%d bytes by %d: %d, want %d", n, size, total, want)
			}
		}
	}
}
