// Package dimsetest tests DICOM network code as net/http/httptest tests HTTP: a
// [Peer] is the raw end of a connection that a test scripts byte by byte, and
// [NewServer] runs a dimse.Server for the length of a test.
package dimsetest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"ichwatch/dimse/pdu"
)

// Timeout bounds every wait of a Peer: long enough for a loaded machine, as it
// is only ever used up by a test that fails.
const Timeout = time.Minute

// Peer is a scripted peer: it sends the bytes it is told to and checks what
// comes back. Its methods fail the test.
type Peer struct {
	Conn net.Conn
	// Timeout bounds every wait; the default is the constant of the same name.
	Timeout time.Duration
	t       testing.TB
}

// NewPeer scripts the peer's end of a connection. It is closed with the test.
func NewPeer(t testing.TB, conn net.Conn) *Peer {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	return &Peer{Conn: conn, Timeout: Timeout, t: t}
}

// Dial connects a Peer to a server.
func Dial(t testing.TB, addr string) *Peer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, Timeout)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	return NewPeer(t, conn)
}

// Listen runs script as the acceptor of one connection and returns its address.
// The test waits for the script's end.
func Listen(t testing.TB, script func(*Peer)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return // the test ended first
		}
		defer conn.Close()
		script(&Peer{Conn: conn, Timeout: Timeout, t: t})
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

// Send writes bytes as they are.
func (p *Peer) Send(b ...[]byte) {
	p.t.Helper()
	_ = p.Conn.SetWriteDeadline(time.Now().Add(p.Timeout))
	if _, err := p.Conn.Write(bytes.Join(b, nil)); err != nil {
		p.t.Errorf("peer: send: %v", err)
	}
}

// SendPDU encodes and writes a PDU.
func (p *Peer) SendPDU(u pdu.PDU) {
	p.t.Helper()
	p.Send(Encode(p.t, u))
}

// Expect reads len(want) bytes and compares them.
func (p *Peer) Expect(want []byte) {
	p.t.Helper()
	got := make([]byte, len(want))
	_ = p.Conn.SetReadDeadline(time.Now().Add(p.Timeout))
	n, err := io.ReadFull(p.Conn, got)
	if err != nil || !bytes.Equal(got, want) {
		p.t.Errorf("peer: received %d bytes (error %v)\n%s\nwant\n%s", n, err, hex.Dump(got[:n]), hex.Dump(want))
	}
}

// ExpectPDU reads a whole PDU other than P-DATA-TF and returns it decoded; nil,
// with the test failed, where something else came.
func (p *Peer) ExpectPDU(want pdu.Type) pdu.PDU {
	p.t.Helper()
	_, raw := p.readPDU()
	if raw == nil {
		p.t.Errorf("peer: awaited %s", want)
		return nil
	}
	u, err := pdu.NewReader(bytes.NewReader(raw), 0).Next()
	if err != nil || u.Type() != want {
		p.t.Errorf("peer: received %v (error %v), want %s\n%s", u, err, want, hex.Dump(raw))
		return nil
	}
	return u
}

// ExpectPData reads a P-DATA-TF of one PDV and returns the PDV's header and
// value.
func (p *Peer) ExpectPData() (pdu.PDV, []byte) {
	p.t.Helper()
	_, raw := p.readPDU()
	r := pdu.NewReader(bytes.NewReader(raw), 0)
	u, err := r.Next()
	if err != nil || u.Type() != pdu.TypePDataTF {
		p.t.Errorf("peer: received %v (error %v), want P-DATA-TF\n%s", u, err, hex.Dump(raw))
		return pdu.PDV{}, nil
	}
	v, err := r.NextPDV()
	if err != nil {
		p.t.Errorf("peer: PDV: %v", err)
	}
	value, err := io.ReadAll(r)
	if err != nil {
		p.t.Errorf("peer: PDV: %v", err)
	}
	return v, value
}

// ExpectAbort reads an A-ABORT of the given source and reason.
func (p *Peer) ExpectAbort(source pdu.AbortSource, reason pdu.AbortReason) {
	p.t.Helper()
	u, _ := p.ExpectPDU(pdu.TypeAbort).(*pdu.Abort)
	if u != nil && (u.Source != source || u.Reason != reason) {
		p.t.Errorf("peer: A-ABORT (%s), want (%s)", u, pdu.Abort{Source: source, Reason: reason})
	}
}

// ExpectClosed waits for the other side to close; bytes that still come are an
// error, a reset is a close.
func (p *Peer) ExpectClosed() {
	p.t.Helper()
	_ = p.Conn.SetReadDeadline(time.Now().Add(p.Timeout))
	b, err := io.ReadAll(p.Conn)
	if len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Errorf("peer: received %d bytes and %v, want a close\n%s", len(b), err, hex.Dump(b))
	}
}

// Close closes the connection.
func (p *Peer) Close() { p.Conn.Close() }

func (p *Peer) readPDU() (pdu.Type, []byte) {
	p.t.Helper()
	_ = p.Conn.SetReadDeadline(time.Now().Add(p.Timeout))
	raw := make([]byte, pdu.HeaderLength)
	if n, err := io.ReadFull(p.Conn, raw); err != nil {
		p.t.Errorf("peer: received %d bytes of a PDU header, then %v", n, err)
		return 0, nil
	}
	length := int64(raw[2])<<24 | int64(raw[3])<<16 | int64(raw[4])<<8 | int64(raw[5])
	buf := bytes.NewBuffer(raw)
	if n, err := io.CopyN(buf, p.Conn, length); err != nil {
		p.t.Errorf("peer: received %d of a PDU's %d bytes, then %v", n, length, err)
		return 0, nil
	}
	return pdu.Type(raw[0]), buf.Bytes()
}

// Encode encodes a PDU.
func Encode(t testing.TB, u pdu.PDU) []byte {
	t.Helper()
	b, err := pdu.Append(nil, u)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return b
}

// PData is a P-DATA-TF of the given PDVs.
func PData(pdvs ...[]byte) []byte {
	body := bytes.Join(pdvs, nil)
	n := len(body)
	return append([]byte{4, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// Message control headers of a PDV (PS3.8 Annex E.2).
const (
	Data        = 0
	Command     = 1
	LastData    = 2
	LastCommand = 3
)

// PDV is a presentation data value item.
func PDV(contextID, control byte, value []byte) []byte {
	n := len(value) + 2
	return append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), contextID, control}, value...)
}

// Hex decodes bytes written in hexadecimal, with white space between them and
// comments from # to the end of a line: the form of the files in testdata/pdu.
func Hex(t testing.TB, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("hex: %v", err)
	}
	return b
}
