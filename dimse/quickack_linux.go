package dimse

import (
	"net"

	"golang.org/x/sys/unix"
)

// quickAcknowledge returns a function that has the kernel acknowledge what was
// received so far at once, or nil where conn is not TCP.
//
// Scanners leave Nagle's algorithm on: the last, short segment of a PDU then
// waits for the acknowledgement of the one before, which the kernel withholds
// for 40 ms in the hope of an answer to carry it. The setting does not last, so
// it is renewed after every read. It takes a stock storescu from 22 slices a
// second to several hundred.
func quickAcknowledge(conn net.Conn) func() {
	// A TLS connection names the one below it.
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	set := func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // speed only
	}
	return func() { _ = raw.Control(set) }
}
