package dimsetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// Program returns the path of a peer program. Without it the test is skipped,
// or fails where ICHWATCH_REQUIRE_PEERS is set, as it is in CI.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	missing(t, "the peer %s is not installed: make peers", name)
	return ""
}

// Run runs a peer program to its end and returns what it printed; it must
// succeed within a minute.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := RunError(t, name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

// RunError is Run for a program that may fail: its error is returned.
func RunError(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, Program(t, name), args...).CombinedOutput()
	return string(out), err
}

// Start starts a peer program that runs until the test ends and listens on the
// port it was given, and waits until it does. It answers a C-ECHO there, or
// refuses the association: either will do.
func Start(t testing.TB, port string, name string, args ...string) {
	t.Helper()
	StartWith(t, nil, port, name, args...)
}

// NetDial connects to a program, as that of dimse.Dialer does.
type NetDial func(ctx context.Context, network, addr string) (net.Conn, error)

// StartWith is Start for a program that is not reached by TCP alone. port is one
// of FreePort's, or one that the program has had before.
func StartWith(t testing.TB, connect NetDial, port string, name string, args ...string) {
	t.Helper()
	path := Program(t, name)
	awaitFree(t, port) // so that whoever answers there is the program
	var out Output
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a child that it forked may hold on to them
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s %v:\n%s", name, args, out.String())
		}
	})

	d := &dimse.Dialer{
		CallingAETitle: AETitle, CalledAETitle: "ANY-SCP", NetDial: connect,
		Contexts: []dimse.ProposedContext{{
			AbstractSyntax:   dicom.Verification,
			TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian},
		}},
	}
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		a, err := d.Dial(ctx, net.JoinHostPort("127.0.0.1", port))
		var rejected *dimse.RejectedError
		switch {
		case err == nil:
			_ = a.Release(ctx) // it only was to see that somebody answers
			return
		case errors.As(err, &rejected):
			return
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", name, err, out.String())
		case <-ctx.Done():
			t.Fatalf("%s does not answer on port %s: %v\n%s", name, port, err, out.String())
		}
	}
}

// FreePort returns a port that is free, and reserved until the test ends: no
// other FreePort returns it, in whichever process, and no connection or listener
// that leaves the choice to the system gets it.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(lowestPort + rand.IntN(highestPort-lowestPort))
		// The same number of UDP, which nobody here speaks, is the reservation.
		reservation, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			continue
		}
		if !isFree(port) {
			reservation.Close()
			continue
		}
		t.Cleanup(func() { reservation.Close() })
		return port
	}
	t.Fatalf("no port from %d to %d is free", lowestPort, highestPort)
	return ""
}

// The ports of FreePort lie below those from which systems choose: 32768 and
// above with Linux, 49152 elsewhere.
const lowestPort, highestPort = 20000, 32000

// isFree says whether nobody listens on a port, on whichever address.
func isFree(port string) bool {
	ln, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// awaitFree waits until a program that was killed has let go of its port: those
// that it has forked may hold it for a moment.
func awaitFree(t testing.TB, port string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Timeout); !isFree(port); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("somebody else listens on port %s", port)
		}
	}
}
