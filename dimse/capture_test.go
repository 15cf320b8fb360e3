package dimse_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

var update = flag.Bool("update", false, "rewrite ../testdata/pdu from what DCMTK's programs say to each other")

const goldenDir = "../testdata/pdu"

// captures are conversations between DCMTK's programs. FILE stands for a small
// CT image.
var captures = []struct {
	name string
	scu  []string // and host, port, FILE
	scp  []string // options of storescp
	fail bool     // the SCU reports an error
}{
	{name: "echo", scu: []string{"echoscu", "-aet", "SCANNER", "-aec", "ARCHIVE"}},
	{name: "echo-abort", scu: []string{"echoscu", "--abort"}},
	{name: "refused", scu: []string{"echoscu"}, scp: []string{"--refuse"}, fail: true},
	{name: "store", scu: []string{"storescu", "-R", "-aet", "SCANNER", "-aec", "ARCHIVE", "FILE"}},
	{name: "store-implicit-two", scu: []string{"storescu", "-xi", "-R", "--repeat", "2", "FILE"}},
	{name: "store-all-contexts", scu: []string{"storescu", "FILE"}},
	{name: "store-user-identity", scu: []string{"storescu", "-R", "-usr", "scanner", "-pwd", "secret", "-rsp", "FILE"}, fail: true},
	{name: "store-aborted", scu: []string{"storescu", "-R", "FILE"}, scp: []string{"--abort-after"}, fail: true},
	{name: "dcmsend", scu: []string{"dcmsend", "FILE"}},
	{name: "get-role-selection", scu: []string{"getscu", "-S", "-k", "0008,0052=STUDY", "-k", "0020,000d=1.2.3"}, fail: true},
}

// DCMTK's programs talk to each other through a proxy that records them. With
// -update the golden files are written from it; without, they must show the
// same PDUs in the same order as DCMTK sends now.
func TestCapture(t *testing.T) {
	file := writeFile(t, t.TempDir(), "1.2.3.4", ctDataSet("1.2.3.4", 4, 4))
	golden := map[string]dimsetest.Conversation{}
	if !*update {
		for _, c := range dimsetest.Conversations(t, goldenDir) {
			golden[c.Name] = c
		}
		if len(golden) != len(captures) {
			t.Errorf("%d golden files for %d captures", len(golden), len(captures))
		}
	}
	for _, c := range captures {
		t.Run(c.name, func(t *testing.T) {
			scp := dimsetest.FreePort(t)
			dimsetest.Start(t, scp, "storescp", append(slices.Clone(c.scp), "--ignore", scp)...)
			rec := newProxy(t, net.JoinHostPort("127.0.0.1", scp))
			host, port, _ := net.SplitHostPort(rec.addr)
			args := []string{host, port}
			for _, a := range c.scu[1:] {
				if a == "FILE" {
					args = append(args, file)
				} else {
					args = append(args[:len(args)-2], a, host, port)
				}
			}
			out, err := dimsetest.RunError(t, c.scu[0], args...)
			if (err != nil) != c.fail {
				t.Fatalf("%v: %v\n%s", c.scu, err, out)
			}
			pdus := rec.wait()
			if *update {
				text := fmt.Sprintf("# %s\n# to %s\n# DCMTK 3.6.7, recorded on loopback; see dimse/capture_test.go.\n%s",
					strings.Join(c.scu, " "), strings.Join(append([]string{"storescp"}, c.scp...), " "), describeAll(pdus))
				if err := os.WriteFile(filepath.Join(goldenDir, c.name+".hex"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got, want := outline(pdus), outline(golden[c.name].PDUs); !slices.Equal(got, want) {
				t.Errorf("DCMTK sent %v, the golden file has %v", got, want)
			}
		})
	}
}

func outline(pdus []dimsetest.RecordedPDU) (lines []string) {
	for _, p := range pdus {
		lines = append(lines, fmt.Sprintf("%t %s", p.FromRequestor, p.Type()))
	}
	return lines
}

// proxy forwards one connection and records its PDUs.
type proxy struct {
	addr string
	done sync.WaitGroup

	mu   sync.Mutex
	pdus []dimsetest.RecordedPDU
}

func newProxy(t *testing.T, to string) *proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	p := &proxy{addr: ln.Addr().String()}
	p.done.Go(func() {
		requestor, err := ln.Accept()
		if err != nil {
			t.Errorf("proxy: %v", err)
			return
		}
		acceptor, err := net.Dial("tcp", to)
		if err != nil {
			requestor.Close()
			t.Errorf("proxy: %v", err)
			return
		}
		p.done.Go(func() { p.pass(acceptor, requestor, true) })
		p.pass(requestor, acceptor, false)
	})
	return p
}

// pass forwards PDU by PDU until the sender closes, and closes the receiver.
func (p *proxy) pass(to, from net.Conn, fromRequestor bool) {
	defer to.Close()
	for {
		b := make([]byte, pdu.HeaderLength)
		if _, err := io.ReadFull(from, b); err != nil {
			return
		}
		b = append(b, make([]byte, binary.BigEndian.Uint32(b[2:]))...)
		if _, err := io.ReadFull(from, b[pdu.HeaderLength:]); err != nil {
			return
		}
		p.mu.Lock()
		p.pdus = append(p.pdus, dimsetest.RecordedPDU{FromRequestor: fromRequestor, Bytes: b})
		p.mu.Unlock()
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

func (p *proxy) wait() []dimsetest.RecordedPDU {
	p.done.Wait()
	return p.pdus
}

// describeAll renders PDUs as golden files have them: every field or item on a
// line of its own with its meaning behind it.
func describeAll(pdus []dimsetest.RecordedPDU) string {
	var b strings.Builder
	for _, p := range pdus {
		from := dimsetest.FromAcceptor
		if p.FromRequestor {
			from = dimsetest.FromRequestor
		}
		fmt.Fprintf(&b, "\n%s%s\n", from, p.Type())
		d := describer{out: &b, b: p.Bytes}
		d.line(6, "type, reserved, length")
		switch p.Type() {
		case pdu.TypeAssociateRQ, pdu.TypeAssociateAC:
			d.line(4, "protocol version, reserved")
			d.line(16, "called AE title "+printable(d.b[:16]))
			d.line(16, "calling AE title "+printable(d.b[:16]))
			d.line(32, "reserved")
			d.items()
		case pdu.TypeAssociateRJ:
			d.line(4, "reserved, result, source, reason")
		case pdu.TypeAbort:
			d.line(4, "reserved, reserved, source, reason")
		case pdu.TypePDataTF:
			d.pdvs()
		default:
			d.line(len(d.b), "reserved")
		}
	}
	return b.String()
}

type describer struct {
	out io.Writer
	b   []byte
}

func (d *describer) line(n int, meaning string) {
	n = min(n, len(d.b))
	for ; n > 32; n -= 32 {
		fmt.Fprintf(d.out, "%x\n", d.b[:32])
		d.b = d.b[32:]
	}
	fmt.Fprintf(d.out, "%x # %s\n", d.b[:n], meaning)
	d.b = d.b[n:]
}

var itemNames = map[byte]string{
	0x10: "application context", 0x20: "presentation context, proposed", 0x21: "presentation context, answer",
	0x30: "abstract syntax", 0x40: "transfer syntax", 0x50: "user information", 0x51: "maximum length",
	0x52: "implementation class UID", 0x53: "asynchronous operations window", 0x54: "role selection",
	0x55: "implementation version name", 0x58: "user identity", 0x59: "user identity, answer",
}

func (d *describer) items() {
	for len(d.b) >= 4 {
		typ, n := d.b[0], int(binary.BigEndian.Uint16(d.b[2:]))
		name := fmt.Sprintf("item %02XH %s", typ, itemNames[typ])
		switch typ {
		case 0x20, 0x21:
			d.line(8, fmt.Sprintf("%s, id %d", name, d.b[4]))
		case 0x50:
			d.line(4, name)
		case 0x51, 0x53, 0x54, 0x58, 0x59:
			d.line(4+n, name)
		default:
			d.line(4+n, name+" "+printable(d.b[4:4+n]))
		}
	}
}

func (d *describer) pdvs() {
	for len(d.b) >= 6 {
		n, control := int(binary.BigEndian.Uint32(d.b))-2, d.b[5]
		kind := "data set"
		if control&1 != 0 {
			kind = "command"
		}
		d.line(6, fmt.Sprintf("PDV of %d bytes on context %d: %s, last fragment %t", n, d.b[4], kind, control&2 != 0))
		if kind == "data set" {
			d.line(n, "data set fragment")
			continue
		}
		for end := len(d.b) - n; len(d.b) > end; {
			length := int(binary.LittleEndian.Uint32(d.b[4:]))
			value := printable(d.b[8 : 8+length])
			switch length {
			case 2:
				value = fmt.Sprintf("%04XH", binary.LittleEndian.Uint16(d.b[8:]))
			case 4:
				value = fmt.Sprint(binary.LittleEndian.Uint32(d.b[8:]))
			}
			d.line(8+length, fmt.Sprintf("(0000,%04X) %s", binary.LittleEndian.Uint16(d.b[2:]), value))
		}
	}
}

func printable(b []byte) string {
	for _, c := range bytes.Trim(b, "\x00 ") {
		if c < ' ' || c > '~' {
			return fmt.Sprintf("%x", b)
		}
	}
	return string(bytes.Trim(b, "\x00 "))
}
