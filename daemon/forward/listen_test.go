package forward

import (
	"context"
	"errors"
	"net"
	"testing"

	"ichwatch/dimse"
	"ichwatch/dimse/dimsetest"
)

// listenOn runs a destination at a given address until the test ends.
func listenOn(t *testing.T, h dimse.Handler, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &dimse.Server{AETitle: dimsetest.AETitle, Handler: h}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ended; !errors.Is(err, dimse.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}
