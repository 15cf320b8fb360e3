package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"net"
)

// maxPacket bounds the packets that the client library gets to see. It allocates
// what a packet's header claims, up to 256 MiB; what we have a use for is an
// acknowledgement behind its topic (at most alerts.MaxAckSize) and our own
// messages.
const maxPacket = 64 << 10

// maxReturned bounds topic and payload together of a message that can be read
// back: before them stand the topic's length and the packet's identifier
// (MQTT 3.1.1 section 3.3.2).
const maxReturned = maxPacket - 4

// errProtocol is a broker that does not speak MQTT as it should.
var errProtocol = errors.New("the broker broke the MQTT protocol")

// boundedConn hands a broker's packets to the client library, cut off after
// maxPacket bytes. Cutting, not closing: an oversized message on the ack topic
// waits in the broker's session, and closing would mean to meet it again after
// every reconnect. Cut, it is refused for its size and confirmed, and is gone.
type boundedConn struct {
	net.Conn
	in *bufio.Reader

	header []byte // of the current packet, still to hand out (MQTT 3.1.1 section 2.2)
	pass   int    // bytes of its body still to hand out
	drop   int    // bytes after those, not to hand out
}

func newBoundedConn(c net.Conn) *boundedConn {
	return &boundedConn{Conn: c, in: bufio.NewReader(c)}
}

// Read implements net.Conn.
func (c *boundedConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.header) == 0 && c.pass == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.header) > 0 {
		n := copy(p, c.header)
		c.header = c.header[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.pass)])
	c.pass -= n
	return n, err
}

// next goes on to the next packet: reads its fixed header and decides how much
// of it is handed out.
func (c *boundedConn) next() error {
	if _, err := c.in.Discard(c.drop); err != nil {
		return err
	}
	c.drop = 0
	kind, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	length, err := readRemainingLength(c.in)
	if err != nil {
		return err
	}
	// The library indexes its one subscription by what a SUBACK (9) answers,
	// unchecked: message id and one return code.
	if kind>>4 == 9 && length != 3 {
		return fmt.Errorf("%w: SUBACK of %d bytes for one subscription", errProtocol, length)
	}
	c.pass = min(length, maxPacket)
	c.drop = length - c.pass
	c.header = appendRemainingLength([]byte{kind}, c.pass)
	return nil
}

// readRemainingLength reads MQTT 3.1.1 section 2.2.3: seven bits a byte, lowest
// first, at most four bytes.
func readRemainingLength(r *bufio.Reader) (int, error) {
	length := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		length |= int(b&0x7F) << shift
		if b&0x80 == 0 {
			return length, nil
		}
	}
	return 0, fmt.Errorf("%w: remaining length of more than four bytes", errProtocol)
}

func appendRemainingLength(b []byte, length int) []byte {
	for length > 0x7F {
		b = append(b, byte(length)|0x80)
		length >>= 7
	}
	return append(b, byte(length))
}
