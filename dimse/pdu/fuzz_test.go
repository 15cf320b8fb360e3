package pdu_test

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// Whatever arrives, decoding ends, costs no more memory than what arrived is
// worth, and what was decoded survives encoding and decoding unchanged.
func FuzzDecode(f *testing.F) {
	seeds := 0
	for _, c := range dimsetest.Conversations(f, goldenDir) {
		f.Add(c.Sent(true))
		f.Add(c.Sent(false))
		for _, p := range c.PDUs {
			f.Add(p.Bytes)
			seeds++
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Add(dimsetest.Encode(f, associateRQ()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 32<<10 {
			return // the default of item 51H may then not fit any more
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := decodeAll(t, b, false)
		runtime.ReadMemStats(&after)
		if n, limit := after.TotalAlloc-before.TotalAlloc, uint64(256<<10+64*len(b)); n > limit {
			t.Fatalf("%d bytes allocated for %d bytes of input", n, len(b))
		}

		var again bytes.Buffer
		for _, p := range got {
			encoded, err := pdu.Append(nil, p)
			if err != nil {
				t.Fatalf("%s was decoded and does not encode: %v", p.Type(), err)
			}
			again.Write(encoded)
		}
		if diff := cmp.Diff(got, decodeAll(t, again.Bytes(), true)); diff != "" {
			t.Fatalf("changed by encoding (-first +again):\n%s", diff)
		}
	})
}

// decodeAll returns the PDUs in b other than P-DATA-TF, up to the first error,
// having checked the PDVs of the others against the bytes.
func decodeAll(t *testing.T, b []byte, valid bool) (all []pdu.PDU) {
	in := bytes.NewReader(b)
	r := pdu.NewReader(in, 16384)
	for {
		p, err := r.Next()
		if err != nil {
			if valid && err != io.EOF {
				t.Fatalf("our own encoding: %v", err)
			}
			return all
		}
		if p, ok := p.(*pdu.PDataTF); ok {
			if p.Length == 0 || p.Length > 16384 {
				t.Fatalf("P-DATA-TF of %d bytes got through", p.Length)
			}
			total := uint64(0)
			for {
				v, err := r.NextPDV()
				if err == io.EOF && total != uint64(p.Length) {
					t.Fatalf("PDVs of %d bytes in a P-DATA-TF of %d", total, p.Length)
				}
				if err != nil {
					break
				}
				n, err := io.Copy(io.Discard, r)
				if err == nil && n != int64(v.Length) {
					t.Fatalf("a PDV of %d bytes yielded %d", v.Length, n)
				}
				total += pdu.PDVHeaderLength + uint64(n)
			}
			continue
		}
		all = append(all, p)
	}
}
