package mqtt

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// packet makes an MQTT packet: fixed header and body.
func packet(kind byte, body []byte) []byte {
	return append(appendRemainingLength([]byte{kind}, len(body)), body...)
}

// over is a connection that reads from a reader.
type over struct {
	net.Conn
	r io.Reader
}

func (o over) Read(p []byte) (int, error) { return o.r.Read(p) }

func TestBoundedConnCutsPackets(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var wire, want []byte
		for _, n := range rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(maxPacket-2, maxPacket+70000)), 0, 6).Draw(r, "sizes") {
			body := bytes.Repeat([]byte{byte(n), 0x30, 0xFF}, n/3+1)[:n]
			wire = append(wire, packet(0x32, body)...)
			want = append(want, packet(0x32, body[:min(n, maxPacket)])...)
		}
		var source io.Reader = bytes.NewReader(wire)
		if rapid.Bool().Draw(r, "one byte at a time") {
			source = iotest.OneByteReader(source)
		}
		got, err := io.ReadAll(newBoundedConn(over{r: source}))
		if err != nil {
			r.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			r.Fatalf("%d bytes of %d passed, want %d", len(got), len(wire), len(want))
		}
	})
}

func TestPromise6_HostileBroker(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"SUBACK with more answers than questions": {packet(0x90, []byte{0, 1, 1, 1, 1}), errProtocol},
		"SUBACK without an answer":                {packet(0x90, []byte{0, 1}), errProtocol},
		"length of five bytes":                    {[]byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1}, errProtocol},
		"cut in the length":                       {[]byte{0x30, 0xFF}, io.EOF},
		"cut in what is dropped":                  {append([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, make([]byte, maxPacket+10)...), io.EOF},
	} {
		conn := newBoundedConn(over{r: bytes.NewReader(c.in)})
		var err error
		passed := 0
		for buf := make([]byte, 4096); err == nil; {
			var n int
			n, err = conn.Read(buf)
			passed += n
		}
		if !errors.Is(err, c.want) || passed > maxPacket+5 {
			t.Errorf("%s: %d bytes passed, then %v; want %v", name, passed, err, c.want)
		}
	}
}

func FuzzBoundedConn(f *testing.F) {
	f.Add(packet(0x90, []byte{0, 1, 1}))
	f.Add(append(packet(0x32, make([]byte, maxPacket+5)), packet(0x40, []byte{0, 1})...))
	f.Add([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 2})
	f.Fuzz(func(t *testing.T, in []byte) {
		got, _ := io.ReadAll(newBoundedConn(over{r: bytes.NewReader(in)}))
		if len(got) > len(in) {
			t.Fatalf("%d bytes became %d", len(in), len(got))
		}
		// What passes is a row of packets, none above the limit, the last one perhaps cut.
		for rest := got; len(rest) > 0; {
			length, used := 0, 1
			for shift := 0; used < len(rest); shift += 7 {
				b := rest[used]
				used++
				length |= int(b&0x7F) << shift
				if b < 0x80 {
					break
				}
			}
			if length > maxPacket {
				t.Fatalf("a packet of %d bytes passed", length)
			}
			rest = rest[min(len(rest), used+length):]
		}
	})
}
