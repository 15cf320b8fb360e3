package dimsetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ichwatch/dimse/pdu"
)

// A Conversation is an association between two programs that are not ours, as
// recorded on the wire, in order of arrival.
type Conversation struct {
	Name string // of its file, without extension
	PDUs []RecordedPDU
}

// RecordedPDU is one PDU of a Conversation.
type RecordedPDU struct {
	FromRequestor bool
	Bytes         []byte
}

// Type is the type of the PDU.
func (p RecordedPDU) Type() pdu.Type { return pdu.Type(p.Bytes[0]) }

// Sent joins what the requestor sent, or the acceptor.
func (c Conversation) Sent(byRequestor bool) []byte {
	var b []byte
	for _, p := range c.PDUs {
		if p.FromRequestor == byRequestor {
			b = append(b, p.Bytes...)
		}
	}
	return b
}

// The lines that begin a PDU in a golden file.
const (
	FromRequestor = "# >> "
	FromAcceptor  = "# << "
)

// Conversations reads the golden files (*.hex) of dir; there must be some.
func Conversations(t testing.TB, dir string) []Conversation {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.hex"))
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %d in %s, error %v", len(files), dir, err)
	}
	var all []Conversation
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("golden file: %v", err)
		}
		c := Conversation{Name: strings.TrimSuffix(filepath.Base(file), ".hex")}
		var section strings.Builder
		var requestor, begun bool
		end := func() {
			if begun {
				c.PDUs = append(c.PDUs, RecordedPDU{requestor, Hex(t, section.String())})
			}
			section.Reset()
		}
		for line := range strings.Lines(string(text)) {
			if r := strings.HasPrefix(line, FromRequestor); r || strings.HasPrefix(line, FromAcceptor) {
				end()
				requestor, begun = r, true
			}
			section.WriteString(line)
		}
		end()
		all = append(all, c)
	}
	return all
}
