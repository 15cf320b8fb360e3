package dimsetest

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// AETitle is the title of a server started by NewServer.
const AETitle dicom.AETitle = "ICHWATCH"

// Server is a running dimse.Server.
type Server struct {
	*dimse.Server
	Addr string // "127.0.0.1:port"
}

// NewServer runs a server with handler on a free loopback port until the test
// ends, and then checks that it closes. configure, if given, sets its fields
// before it starts.
func NewServer(t testing.TB, handler dimse.Handler, configure ...func(*dimse.Server)) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return &Server{serve(t, ln, nil, handler, configure), ln.Addr().String()}
}

// NewTLSServer is NewServer with TLS.
func NewTLSServer(t testing.TB, handler dimse.Handler, config *tls.Config, configure ...func(*dimse.Server)) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return &Server{serve(t, ln, config, handler, configure), ln.Addr().String()}
}

// NewPipeServer runs a server that is reached through the function returned, by
// a [Pipe]: it may run in a testing/synctest bubble, where an hour passes at
// once.
func NewPipeServer(t testing.TB, handler dimse.Handler, configure ...func(*dimse.Server)) (*dimse.Server, func() *PipeConn) {
	t.Helper()
	return NewTLSPipeServer(t, handler, nil, configure...)
}

// NewTLSPipeServer is NewPipeServer with TLS.
func NewTLSPipeServer(t testing.TB, handler dimse.Handler, config *tls.Config, configure ...func(*dimse.Server)) (*dimse.Server, func() *PipeConn) {
	t.Helper()
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := serve(t, ln, config, handler, configure)
	return s, func() *PipeConn {
		ours, theirs := Pipe()
		select {
		case ln.conns <- ours:
		case <-ln.closed:
			ours.Close()
		}
		return theirs
	}
}

func serve(t testing.TB, ln net.Listener, config *tls.Config, handler dimse.Handler, configure []func(*dimse.Server)) *dimse.Server {
	t.Helper()
	s := &dimse.Server{AETitle: AETitle, Handler: handler}
	for _, f := range configure {
		f(s)
	}
	served := make(chan error, 1)
	go func() {
		if config != nil {
			served <- s.ServeTLS(context.Background(), ln, config)
			return
		}
		served <- s.Serve(context.Background(), ln)
	}()
	t.Cleanup(func() {
		s.Close()
		select {
		case err := <-served:
			if !errors.Is(err, dimse.ErrServerClosed) {
				t.Errorf("Serve returned %v", err)
			}
		case <-time.After(Timeout):
			t.Error("server did not end: an association or a Handler hangs")
		}
	})
	return s
}

// pipeListener accepts the connections that it is sent.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }
