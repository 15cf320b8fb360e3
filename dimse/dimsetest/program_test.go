package dimsetest

import (
	"net"
	"testing"
)

// Tests, and the packages of one run, start their peers side by side: a port that one of them was given must be had by no
// other, nor by a connection that the system gives some port to.
func TestFreePortIsReserved(t *testing.T) {
	given := map[string]bool{}
	for range 300 {
		port := FreePort(t)
		if given[port] {
			t.Fatalf("port %s is given twice", port)
		}
		given[port] = true
		if ln, err := net.Listen("tcp", ":"+port); err != nil {
			t.Errorf("port %s cannot be listened on: %v", port, err)
		} else {
			ln.Close()
		}
	}
	for range 300 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		if given[port] {
			t.Errorf("the system gives port %s, which is reserved", port)
		}
	}
}

// The reservation ends with the test.
func TestFreePortIsGivenBack(t *testing.T) {
	var port string
	t.Run("reserved", func(t *testing.T) { port = FreePort(t) })
	reservation, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	reservation.Close()
}
