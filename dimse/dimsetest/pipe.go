package dimsetest

import (
	"errors"
	"net"
	"time"
)

// PipeConn is one end of an in-memory connection, each of whose directions can
// be closed by itself, as TCP's can.
type PipeConn struct {
	in, out net.Conn // one end each of two net.Pipes
}

// Pipe returns the two ends of a connection without buffers: a Write waits for
// its Read.
func Pipe() (a, b *PipeConn) {
	toA, fromB := net.Pipe()
	toB, fromA := net.Pipe()
	return &PipeConn{toA, fromA}, &PipeConn{toB, fromB}
}

// CloseWrite ends what the other end reads.
func (c *PipeConn) CloseWrite() error { return c.out.Close() }

// Close closes both directions.
func (c *PipeConn) Close() error { return errors.Join(c.in.Close(), c.out.Close()) }

// Read reads what the other end wrote.
func (c *PipeConn) Read(b []byte) (int, error) { return c.in.Read(b) }

// Write writes to the other end.
func (c *PipeConn) Write(b []byte) (int, error) { return c.out.Write(b) }

// LocalAddr returns net.Pipe's address.
func (c *PipeConn) LocalAddr() net.Addr { return c.in.LocalAddr() }

// RemoteAddr returns net.Pipe's address.
func (c *PipeConn) RemoteAddr() net.Addr { return c.in.RemoteAddr() }

// SetDeadline bounds Read and Write.
func (c *PipeConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read.
func (c *PipeConn) SetReadDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }

// SetWriteDeadline bounds Write.
func (c *PipeConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }
