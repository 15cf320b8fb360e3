package dicom_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"ichwatch/dimse/dicom"
)

// FuzzScan holds the scanner to what its documentation promises, in every
// transfer syntax.
func FuzzScan(f *testing.F) {
	syntaxes := dicom.TransferSyntaxes()
	number := func(uid dicom.UID) uint8 {
		return uint8(slices.IndexFunc(syntaxes, func(ts dicom.TransferSyntax) bool { return ts.UID == uid }))
	}
	ele := number(dicom.ExplicitVRLittleEndian)
	f.Add(ele, []byte(goldenExplicitLE))
	f.Add(number(dicom.ImplicitVRLittleEndian), []byte(goldenImplicitLE))
	f.Add(number(dicom.ExplicitVRBigEndian), []byte(goldenExplicitBE))
	f.Add(number(dicom.DeflatedExplicitVRLittleEndian), []byte(deflated(goldenExplicitLE)))
	f.Add(number(dicom.JPEGBaseline8Bit), []byte(goldenEncapsulated))
	f.Add(ele, ctHeader()[:4096])
	f.Add(ele, bytes.Repeat([]byte("\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"), 70))
	f.Add(ele, []byte("\x09\x00\x01\x10UN\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff\x09\x00\x03\x10\x02\x00\x00\x00xx\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"))
	f.Add(ele, []byte("\x09\x00\x01\x10OB\x00\x00\xfe\xff\xff\xff"))
	f.Add(ele, []byte(explicit(0x0009_1001, "AS", ""))) // empty, and never nil
	for _, name := range sampleFiles(f)[:min(3, len(sampleFiles(f)))] {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		m, n, err := dicom.ReadFileMeta(bytes.NewReader(b))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(number(m.TransferSyntaxUID), b[n:min(n+4096, int64(len(b)))])
	}

	f.Fuzz(func(t *testing.T, n uint8, in []byte) {
		ts := syntaxes[int(n)%len(syntaxes)]
		options := dicom.ScanOptions{MaxHeader: 1 << 20}

		var h *dicom.Header
		var err error
		// An element of 8 bytes costs 56 to keep, growing slices twice that.
		most := uint64(fixedCost + 32*len(in))
		if ts.Deflated {
			most = fixedCost + 32<<20 // of what the input inflates to
		}
		if spent := allocated(func() { h, err = dicom.ScanBytes(in, ts, options) }); spent > most {
			t.Fatalf("%d bytes allocated for %d bytes of input", spent, len(in))
		}
		if h == nil {
			t.Fatal("no header")
		}
		if err != nil {
			var where *dicom.MalformedError
			if !errors.As(err, &where) || !errors.Is(err, dicom.ErrMalformed) {
				t.Fatalf("%v is no MalformedError", err)
			}
			if !ts.Deflated && (where.Offset < 0 || where.Offset > int64(len(in))) {
				t.Fatalf("%v: offset beyond %d bytes of input", err, len(in))
			}
		}

		// The values are the input's own bytes, in ascending order of tag.
		end, last := 0, int64(-1)
		for _, e := range h.Elements {
			if int64(e.Tag) <= last {
				t.Fatalf("%v after %v", e.Tag, dicom.Tag(last))
			}
			last = int64(e.Tag)
			if len(e.Value) != 0 && len(e.Value) != int(e.Length) {
				t.Fatalf("%v: %d bytes of %d", e.Tag, len(e.Value), e.Length)
			}
			if len(e.Value) == 0 || ts.Deflated {
				continue
			}
			at := offsetIn(in, e.Value)
			if at < end || at+len(e.Value) > len(in) {
				t.Fatalf("%v: value at %d, the one before ends at %d of %d", e.Tag, at, end, len(in))
			}
			end = at + len(e.Value)
		}
		if h.PixelData != 0 && (err != nil || !ts.Deflated && (h.PixelDataOffset < int64(end) || h.PixelDataOffset > int64(len(in)))) {
			t.Fatalf("%v at %d after values to %d of %d, %v", h.PixelData, h.PixelDataOffset, end, len(in), err)
		}

		// The same bytes in pieces give the same header, and nobody reads more
		// than there is.
		again, errAgain := dicom.Scan(&chunkReader{b: in, n: 1 + int(n)%17}, ts, options)
		if diff := cmp.Diff(h, again); diff != "" {
			t.Fatalf("second scan differs:\n%s", diff)
		}
		if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
			t.Fatalf("second scan says %v, first %v", errAgain, err)
		}

		// The accessors stand what they are given.
		for _, e := range h.Elements {
			h.Strings(e.Tag)
			h.Uint16(e.Tag)
			_ = h.UID(e.Tag).Valid()
			if fs, err := h.Floats(e.Tag); err == nil && (len(fs) == 0 || slices.ContainsFunc(fs, func(f float64) bool { return f != f || f-f != 0 })) {
				t.Fatalf("%v: floats %v", e.Tag, fs)
			}
			if n, err := h.Int(e.Tag); err == nil && int64(int32(n)) != int64(n) {
				t.Fatalf("%v: integer %d", e.Tag, n)
			}
		}
	})
}

// offsetIn returns where the memory of part begins in whole, -1 if it is none of
// it.
func offsetIn(whole, part []byte) int {
	if len(whole) == 0 {
		return -1
	}
	d := uintptr(unsafe.Pointer(&part[0])) - uintptr(unsafe.Pointer(&whole[0]))
	if d >= uintptr(len(whole)) {
		return -1
	}
	return int(d)
}

// chunkReader yields n bytes at a time.
type chunkReader struct {
	b []byte
	n int
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n)], r.b)
	r.b = r.b[n:]
	return n, nil
}

// FuzzReadFileMeta: bounded, exact about what it takes, and stable: what it
// accepts can be written and reads the same.
func FuzzReadFileMeta(f *testing.F) {
	f.Add([]byte(fileMeta + "data set"))
	f.Add([]byte(fileMeta[:132] + "\x02\x00\x00\x00UL\x04\x00\xff\xff\xff\xff"))
	f.Add([]byte(fileMeta[:150]))
	for _, name := range sampleFiles(f)[:min(3, len(sampleFiles(f)))] {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(1024, len(b))])
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var m dicom.FileMeta
		var n int64
		var err error
		if spent := allocated(func() { m, n, err = dicom.ReadFileMeta(r) }); spent > uint64(fixedCost+32*len(in)) {
			t.Fatalf("%d bytes allocated for %d bytes of input", spent, len(in))
		}
		if n != int64(len(in)-r.Len()) {
			t.Fatalf("%d bytes reported, %d taken", n, len(in)-r.Len())
		}
		if err != nil {
			return
		}
		var b bytes.Buffer
		written, err := dicom.WriteFileMeta(&b, m)
		if err != nil {
			return // it holds what may be read and not written, such as a long version name
		}
		again, n, err := dicom.ReadFileMeta(&b)
		if err != nil || n != written {
			t.Fatalf("written %d bytes, read %d: %v", written, n, err)
		}
		if m.ImplementationClassUID == "" {
			m.ImplementationClassUID = dicom.ImplementationClassUID
		}
		if m.ImplementationVersionName == "" {
			m.ImplementationVersionName = dicom.ImplementationVersionName
		}
		if again.SOPClassUID != m.SOPClassUID || again.SOPInstanceUID != m.SOPInstanceUID || again.TransferSyntaxUID != m.TransferSyntaxUID || again.ImplementationClassUID != m.ImplementationClassUID {
			t.Fatalf("read %+v, then %+v", m, again)
		}
	})
}

// FuzzWriteFileMeta: what is written is read back as it was.
func FuzzWriteFileMeta(f *testing.F) {
	f.Add("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1", "CT01", "ICHWATCH")
	f.Add("1.2", "2.25.329800735698586629295641978511506172918", "1.2.840.10008.1.2", "", "SIXTEEN_LETTERS_")
	f.Add("", "1..2", "1.2\x00", `A\B`, " ")
	f.Fuzz(func(t *testing.T, class, instance, syntax, source, receiving string) {
		m := dicom.FileMeta{
			SOPClassUID: dicom.UID(class), SOPInstanceUID: dicom.UID(instance), TransferSyntaxUID: dicom.UID(syntax),
			ImplementationClassUID: dicom.ImplementationClassUID, ImplementationVersionName: dicom.ImplementationVersionName,
			SourceAETitle: dicom.AETitle(source), ReceivingAETitle: dicom.AETitle(receiving),
		}
		var b bytes.Buffer
		n, err := dicom.WriteFileMeta(&b, m)
		if err != nil {
			if n != 0 || b.Len() != 0 {
				t.Fatalf("%d bytes written with %v", b.Len(), err)
			}
			return
		}
		if n != int64(b.Len()) || n%2 != 0 {
			t.Fatalf("%d bytes reported, %d written", n, b.Len())
		}
		got, _, err := dicom.ReadFileMeta(&b)
		if err != nil {
			t.Fatal(err)
		}
		for _, title := range []*dicom.AETitle{&m.SourceAETitle, &m.ReceivingAETitle} {
			if *title != "" {
				*title, _ = dicom.ParseAETitle(string(*title)) // padding goes
			}
		}
		if got != m {
			t.Fatalf("read %+v, written %+v", got, m)
		}
	})
}

// FuzzParseAETitle: what is accepted is short, printable, and parses to itself.
func FuzzParseAETitle(f *testing.F) {
	for _, s := range []string{"CT01", "  CT01\x00", "", "SEVENTEEN_LETTERS", "A\\B", "\x1b[2J"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		title, err := dicom.ParseAETitle(s)
		if err != nil {
			if title != "" {
				t.Fatalf("%q with %v", title, err)
			}
			return
		}
		if n := len(title); n < 1 || n > 16 {
			t.Fatalf("%q has %d characters", title, n)
		}
		for _, c := range []byte(title) {
			if c < ' ' || c > '~' || c == '\\' {
				t.Fatalf("%q has character %#x", title, c)
			}
		}
		if again, err := dicom.ParseAETitle(string(title)); err != nil || again != title {
			t.Fatalf("%q parses to %q, %v", title, again, err)
		}
	})
}
