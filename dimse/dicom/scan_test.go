package dicom_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"ichwatch/dimse/dicom"
)

// syntax returns the transfer syntax of a UID that is known to be known.
func syntax(uid dicom.UID) dicom.TransferSyntax {
	ts, ok := dicom.LookupTransferSyntax(uid)
	if !ok {
		panic("unknown transfer syntax " + uid)
	}
	return ts
}

// element writes one element by the rules of PS3.5 Section 7.1; n is the length
// that it claims.
func element(ts dicom.TransferSyntax, tag dicom.Tag, vr string, n uint32, value string) string {
	var order binary.AppendByteOrder = binary.LittleEndian
	if ts.BigEndian {
		order = binary.BigEndian
	}
	b := order.AppendUint16(nil, tag.Group())
	b = order.AppendUint16(b, tag.Element())
	switch {
	case !ts.ExplicitVR || tag.Group() == 0xFFFE:
		b = order.AppendUint32(b, n)
	case strings.Contains("AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US", vr):
		b = append(b, vr...)
		b = order.AppendUint16(b, uint16(n))
	default:
		b = append(b, vr...)
		b = append(b, 0, 0)
		b = order.AppendUint32(b, n)
	}
	return string(b) + value
}

// explicit and implicit write an element in little endian.
func explicit(tag dicom.Tag, vr, value string) string {
	return element(syntax(dicom.ExplicitVRLittleEndian), tag, vr, uint32(len(value)), value)
}

func implicit(tag dicom.Tag, value string) string {
	return element(syntax(dicom.ImplicitVRLittleEndian), tag, "", uint32(len(value)), value)
}

func deflated(s string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = io.WriteString(w, s)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.String()
}

func inflate(r io.Reader) io.Reader { return flate.NewReader(r) }

const undefined = dicom.UndefinedLength

// The same small data set in every encoding: Modality CT, a sequence of
// undefined length, Rows 512, and 4 bytes of pixels.
var (
	goldenExplicitLE = "\x08\x00\x60\x00" + "CS\x02\x00" + "CT" +
		"\x08\x00\x40\x11" + "SQ\x00\x00\xff\xff\xff\xff" + // Referenced Image Sequence
		"\xfe\xff\x00\xe0\xff\xff\xff\xff" + // item of undefined length
		"\x08\x00\x55\x11" + "UI\x04\x00" + "1.2\x00" + // Referenced SOP Instance UID
		"\xfe\xff\x0d\xe0\x00\x00\x00\x00" + // item delimitation item
		"\xfe\xff\x00\xe0\x0c\x00\x00\x00" + // item of 12 bytes
		"\x08\x00\x55\x11" + "UI\x04\x00" + "1.3\x00" +
		"\xfe\xff\xdd\xe0\x00\x00\x00\x00" + // sequence delimitation item
		"\x28\x00\x10\x00" + "US\x02\x00" + "\x00\x02" + // Rows
		"\xe0\x7f\x10\x00" + "OW\x00\x00\x04\x00\x00\x00" + "\x01\x00\x02\x00" // at 100

	goldenImplicitLE = "\x08\x00\x60\x00" + "\x02\x00\x00\x00" + "CT" +
		"\x08\x00\x40\x11" + "\xff\xff\xff\xff" +
		"\xfe\xff\x00\xe0\xff\xff\xff\xff" +
		"\x08\x00\x55\x11" + "\x04\x00\x00\x00" + "1.2\x00" +
		"\xfe\xff\x0d\xe0\x00\x00\x00\x00" +
		"\xfe\xff\xdd\xe0\x00\x00\x00\x00" +
		"\x28\x00\x10\x00" + "\x02\x00\x00\x00" + "\x00\x02" +
		"\xe0\x7f\x10\x00" + "\x04\x00\x00\x00" + "\x01\x00\x02\x00" // at 72

	goldenExplicitBE = "\x00\x08\x00\x60" + "CS\x00\x02" + "CT" +
		"\x00\x08\x11\x40" + "SQ\x00\x00\xff\xff\xff\xff" +
		"\xff\xfe\xe0\x00\xff\xff\xff\xff" +
		"\x00\x08\x11\x55" + "UI\x00\x04" + "1.2\x00" +
		"\xff\xfe\xe0\x0d\x00\x00\x00\x00" +
		"\xff\xfe\xe0\xdd\x00\x00\x00\x00" +
		"\x00\x28\x00\x10" + "US\x00\x02" + "\x02\x00" +
		"\x7f\xe0\x00\x10" + "OW\x00\x00\x00\x00\x00\x04" + "\x00\x01\x00\x02" // at 80

	// PS3.5 Section A.4: pixels in fragments.
	goldenEncapsulated = "\x28\x00\x10\x00" + "US\x02\x00" + "\x00\x02" +
		"\xe0\x7f\x10\x00" + "OB\x00\x00\xff\xff\xff\xff" +
		"\xfe\xff\x00\xe0\x00\x00\x00\x00" + // empty basic offset table, at 22
		"\xfe\xff\x00\xe0\x02\x00\x00\x00" + "\xff\xd8" +
		"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
)

// golden tests run over Scan, in one piece and byte by byte, and ScanBytes.
func scanEveryWay(t *testing.T, in string, ts dicom.TransferSyntax, o dicom.ScanOptions) (*dicom.Header, error) {
	t.Helper()
	h, err := dicom.ScanBytes([]byte(in), ts, o)
	for how, r := range map[string]io.Reader{
		"whole":       strings.NewReader(in),
		"by the byte": iotest.OneByteReader(strings.NewReader(in)),
		"EOF early":   iotest.DataErrReader(strings.NewReader(in)),
	} {
		streamed, serr := dicom.Scan(r, ts, o)
		if diff := cmp.Diff(h, streamed); diff != "" {
			t.Errorf("Scan %s differs from ScanBytes (-bytes +scan):\n%s", how, diff)
		}
		if (err == nil) != (serr == nil) || err != nil && err.Error() != serr.Error() {
			t.Errorf("Scan %s says %v, ScanBytes %v", how, serr, err)
		}
	}
	return h, err
}

func TestScanGolden(t *testing.T) {
	modality := func(vr string) dicom.Element {
		return dicom.Element{Tag: dicom.TagModality, VR: vr, Value: []byte("CT"), Length: 2}
	}
	sequence := func(vr string) dicom.Element {
		return dicom.Element{Tag: 0x0008_1140, VR: vr, Length: undefined}
	}
	rows := func(vr, value string) dicom.Element {
		return dicom.Element{Tag: dicom.TagRows, VR: vr, Value: []byte(value), Length: 2}
	}
	for _, tc := range []struct {
		name string
		ts   dicom.UID
		in   string
		want dicom.Header
	}{
		{"explicit LE", dicom.ExplicitVRLittleEndian, goldenExplicitLE, dicom.Header{
			Elements:  []dicom.Element{modality("CS"), sequence("SQ"), rows("US", "\x00\x02")},
			PixelData: dicom.TagPixelData, PixelDataOffset: 100, PixelDataLength: 4,
		}},
		{"implicit LE", dicom.ImplicitVRLittleEndian, goldenImplicitLE, dicom.Header{
			Elements:  []dicom.Element{modality(""), sequence(""), rows("", "\x00\x02")},
			PixelData: dicom.TagPixelData, PixelDataOffset: 72, PixelDataLength: 4,
		}},
		{"explicit BE", dicom.ExplicitVRBigEndian, goldenExplicitBE, dicom.Header{
			Elements:  []dicom.Element{modality("CS"), sequence("SQ"), rows("US", "\x02\x00")},
			PixelData: dicom.TagPixelData, PixelDataOffset: 80, PixelDataLength: 4,
		}},
		{"deflated", dicom.DeflatedExplicitVRLittleEndian, deflated(goldenExplicitLE), dicom.Header{
			Elements:  []dicom.Element{modality("CS"), sequence("SQ"), rows("US", "\x00\x02")},
			PixelData: dicom.TagPixelData, PixelDataOffset: 100, PixelDataLength: 4,
		}},
		{"encapsulated", dicom.JPEGBaseline8Bit, goldenEncapsulated, dicom.Header{
			Elements:  []dicom.Element{rows("US", "\x00\x02")},
			PixelData: dicom.TagPixelData, PixelDataOffset: 22, PixelDataLength: undefined,
		}},
		{"empty", dicom.ExplicitVRLittleEndian, "", dicom.Header{Elements: []dicom.Element{}}},
		{"no pixels", dicom.ExplicitVRLittleEndian, goldenExplicitLE[:88], dicom.Header{
			Elements: []dicom.Element{modality("CS"), sequence("SQ"), rows("US", "\x00\x02")},
		}},
		{"no pixels, deflated", dicom.DeflatedExplicitVRLittleEndian, deflated(goldenExplicitLE[:88]), dicom.Header{
			Elements: []dicom.Element{modality("CS"), sequence("SQ"), rows("US", "\x00\x02")},
		}},
		// PS3.5 Section A.5: a NUL after a stream of odd length is no data.
		{"padding after the deflate stream", dicom.DeflatedExplicitVRLittleEndian, deflated(goldenExplicitLE[:10]) + "\x00", dicom.Header{
			Elements: []dicom.Element{modality("CS")},
		}},
		{"float pixels", dicom.ExplicitVRLittleEndian, explicit(dicom.TagFloatPixelData, "OF", "\x00\x00\x80\x3f"), dicom.Header{
			Elements:  []dicom.Element{},
			PixelData: dicom.TagFloatPixelData, PixelDataOffset: 12, PixelDataLength: 4,
		}},
		{"double float pixels", dicom.ExplicitVRLittleEndian, explicit(dicom.TagDoubleFloatPixelData, "OD", "12345678"), dicom.Header{
			Elements:  []dicom.Element{},
			PixelData: dicom.TagDoubleFloatPixelData, PixelDataOffset: 12, PixelDataLength: 8,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.TransferSyntax = syntax(tc.ts)
			h, err := scanEveryWay(t, tc.in, syntax(tc.ts), dicom.ScanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, h); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if rows, ok := h.Uint16(dicom.TagRows); ok && rows != 512 {
				t.Errorf("Rows = %d", rows)
			}
		})
	}
}

// Every value representation, with the length where PS3.5 Table 7.1-1 and 7.1-2
// have it; what follows is found only if the length was read right.
func TestScanValueRepresentations(t *testing.T) {
	const after = "\x99\x00\x00\x10" + "US\x02\x00" + "\x34\x12"
	for _, vr := range []string{
		"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO",
		"LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US",
	} {
		in := "\x09\x00\x01\x10" + vr + "\x08\x00" + "12345678" + after
		checkVR(t, vr, in)
	}
	for _, vr := range []string{
		"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV",
		"ZZ", // one that the standard may yet define: long, by the rule of Section 7.1.2
	} {
		in := "\x09\x00\x01\x10" + vr + "\x00\x00" + "\x08\x00\x00\x00" + "12345678" + after
		checkVR(t, vr, in)
	}
}

func checkVR(t *testing.T, vr, in string) {
	t.Helper()
	h, err := dicom.ScanBytes([]byte(in), syntax(dicom.ExplicitVRLittleEndian), dicom.ScanOptions{})
	if err != nil {
		t.Errorf("%s: %v", vr, err)
		return
	}
	if e, _ := h.Lookup(0x0009_1001); e.VR != vr || string(e.Value) != "12345678" {
		t.Errorf("%s: read as %s %q", vr, e.VR, e.Value)
	}
	if n, _ := h.Uint16(0x0099_1000); n != 0x1234 {
		t.Errorf("%s: what follows is read as %#x", vr, n)
	}
}

func TestScanSequences(t *testing.T) {
	ele := syntax(dicom.ExplicitVRLittleEndian)
	item := element(ele, 0xFFFE_E000, "", undefined, "")
	endItem := element(ele, 0xFFFE_E00D, "", 0, "")
	end := element(ele, 0xFFFE_E0DD, "", 0, "")
	sq := element(ele, 0x0008_1140, "SQ", undefined, "")
	un := element(ele, 0x0009_1001, "UN", undefined, "")
	icon := element(ele, 0x0088_0200, "SQ", undefined, "")
	isq := element(syntax(dicom.ImplicitVRLittleEndian), 0x0009_1002, "", undefined, "")
	sop := explicit(0x0008_1155, "UI", "1.2\x00")
	defined := func(content string) string {
		return element(ele, 0xFFFE_E000, "", uint32(len(content)), content)
	}
	be := func(s string) string { // the delimiters again, in big endian
		return strings.NewReplacer(
			item, element(syntax(dicom.ExplicitVRBigEndian), 0xFFFE_E000, "", undefined, ""),
			endItem, element(syntax(dicom.ExplicitVRBigEndian), 0xFFFE_E00D, "", 0, ""),
			end, element(syntax(dicom.ExplicitVRBigEndian), 0xFFFE_E0DD, "", 0, ""),
		).Replace(s)
	}
	beSQ := element(syntax(dicom.ExplicitVRBigEndian), 0x0008_1140, "SQ", undefined, "")
	beUN := element(syntax(dicom.ExplicitVRBigEndian), 0x0009_1001, "UN", undefined, "")
	beSOP := element(syntax(dicom.ExplicitVRBigEndian), 0x0008_1155, "UI", 4, "1.2\x00")

	for _, tc := range []struct {
		name string
		ts   dicom.UID
		in   string
	}{
		{"no items", dicom.ExplicitVRLittleEndian, sq + end},
		{"empty items", dicom.ExplicitVRLittleEndian, sq + item + endItem + defined("") + item + endItem + end},
		{"of defined length", dicom.ExplicitVRLittleEndian, explicit(0x0008_1140, "SQ", defined(sop)+item+sop+endItem)},
		{"nested, mixed", dicom.ExplicitVRLittleEndian, sq + item + sop + sq + item + sop + endItem + defined(sop) + end + sop + endItem + end},
		{"defined within undefined", dicom.ExplicitVRLittleEndian, sq + item + explicit(0x0008_1140, "SQ", defined(sop)) + endItem + end},
		// The standard asks for order within items too, but nothing here hangs on it.
		{"tags of an item out of order", dicom.ExplicitVRLittleEndian, sq + item + sop + explicit(dicom.TagModality, "CS", "CT") + endItem + end},
		{"unknown of undefined length", dicom.ExplicitVRLittleEndian, un + item + implicit(0x0009_1003, "CSXX") + endItem + end},
		{"unknown, nested in itself", dicom.ExplicitVRLittleEndian, un + item + isq + item + implicit(0x0009_1003, "x ") + endItem + end + implicit(0x0009_1004, "y ") + endItem + end},
		{"unknown in a sequence, explicit after it", dicom.ExplicitVRLittleEndian, sq + item + un + item + implicit(0x0009_1003, "x ") + endItem + end + sop + endItem + end},
		{"unknown in big endian", dicom.ExplicitVRBigEndian, beUN + item + implicit(0x0009_1003, "x ") + endItem + end},
		{"unknown in a sequence in big endian", dicom.ExplicitVRBigEndian, beSQ + be(item) + beUN + item + implicit(0x0009_1003, "x ") + endItem + end + beSOP + be(endItem+end)},
		{"encapsulated icon", dicom.JPEGLSLossless, icon + item + element(ele, dicom.TagPixelData, "OB", undefined, "") + defined("") + defined("\xff\xd8") + end + endItem + end},
	} {
		t.Run(tc.name, func(t *testing.T) {
			after := element(syntax(tc.ts), 0x0099_1001, "LO", 2, "OK") + element(syntax(tc.ts), dicom.TagPixelData, "OW", 2, "xx")
			h, err := scanEveryWay(t, tc.in+after, syntax(tc.ts), dicom.ScanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := h.String(0x0099_1001); got != "OK" {
				t.Errorf("what follows reads %q", got)
			}
			if len(h.Elements) != 2 {
				t.Errorf("%d elements at the top level: %v", len(h.Elements), h.Elements)
			}
			if want := int64(len(tc.in) + len(after) - 2); h.PixelDataOffset != want {
				t.Errorf("pixels at %d, want %d", h.PixelDataOffset, want)
			}
		})
	}
}

func TestScanKeepsWhatIsWanted(t *testing.T) {
	long := strings.Repeat("x", 100)
	in := explicit(dicom.TagImageType, "CS", "ORIGINAL") + explicit(dicom.TagModality, "CS", "CT") +
		explicit(0x0009_1001, "OB", long) + explicit(0x0009_1002, "SH", "") + explicit(0x0009_1003, "OB", long[:64])
	h, err := scanEveryWay(t, in, syntax(dicom.ExplicitVRLittleEndian), dicom.ScanOptions{
		Want:     func(t dicom.Tag) bool { return t != dicom.TagImageType },
		MaxValue: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []dicom.Element{
		{Tag: dicom.TagModality, VR: "CS", Value: []byte("CT"), Length: 2},
		{Tag: 0x0009_1001, VR: "OB", Length: 100}, // longer than MaxValue
		{Tag: 0x0009_1002, VR: "SH", Value: []byte{}},
		{Tag: 0x0009_1003, VR: "OB", Value: []byte(long[:64]), Length: 64},
	}
	if diff := cmp.Diff(want, h.Elements, cmp.Transformer("string", func(b []byte) string { return string(b) })); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
}

// The values that Scan keeps must survive the buffer that they came through.
func TestScanValuesOutliveTheBuffer(t *testing.T) {
	var in strings.Builder
	var values []string
	for i := range 200 {
		v := strings.Repeat(string(rune('a'+i%26)), 2*(i*37%1200))
		values = append(values, v)
		in.WriteString(explicit(dicom.Tag(0x0009_1000+i), "OB", v))
	}
	in.WriteString(explicit(0x0010_0010, "OB", strings.Repeat("v", 40_000)))
	first, err := dicom.Scan(strings.NewReader(in.String()), syntax(dicom.ExplicitVRLittleEndian), dicom.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Another scan reuses the buffer.
	if _, err := dicom.Scan(strings.NewReader(strings.Repeat("\x01", 1<<16)), syntax(dicom.ImplicitVRLittleEndian), dicom.ScanOptions{}); err == nil {
		t.Error("nonsense scans")
	}
	for i, v := range values {
		if got := first.Value(dicom.Tag(0x0009_1000 + i)); string(got) != v {
			t.Fatalf("value %d of %d bytes changed", i, len(v))
		}
		// Appending to one value must not reach into the next.
		if got := first.Value(dicom.Tag(0x0009_1000 + i)); cap(got) != len(got) {
			t.Fatalf("value %d has room for %d bytes and %d", i, cap(got), len(got))
		}
	}
	if got := len(first.Value(0x0010_0010)); got != 40_000 {
		t.Errorf("the long value has %d bytes", got)
	}
}

func TestScanReadsNotFarBeyondThePixels(t *testing.T) {
	in := goldenExplicitLE + strings.Repeat("\x00", 1<<20)
	r := strings.NewReader(in)
	if _, err := dicom.Scan(r, syntax(dicom.ExplicitVRLittleEndian), dicom.ScanOptions{}); err != nil {
		t.Fatal(err)
	}
	if read := len(in) - r.Len(); read > 16<<10 {
		t.Errorf("%d bytes read for a header of 100", read)
	}
}

func TestScanPassesOnTheReadersError(t *testing.T) {
	// An association that dies says so with io.ErrUnexpectedEOF; that is not the
	// data set's fault.
	for _, dead := range []error{errors.New("connection reset"), io.ErrUnexpectedEOF} {
		for _, uid := range []dicom.UID{dicom.ExplicitVRLittleEndian, dicom.DeflatedExplicitVRLittleEndian} {
			whole := goldenExplicitLE
			if syntax(uid).Deflated {
				whole = deflated(whole)
			}
			for n := range len(whole) {
				r := io.MultiReader(strings.NewReader(whole[:n]), iotest.ErrReader(dead))
				h, err := dicom.Scan(r, syntax(uid), dicom.ScanOptions{})
				if h == nil {
					t.Fatal("no header")
				}
				if err == nil && h.PixelData != 0 {
					continue // it had seen all it needed
				}
				if !errors.Is(err, dead) || errors.Is(err, dicom.ErrMalformed) {
					t.Fatalf("%s cut at %d: %v, want %v", syntax(uid), n, err, dead)
				}
			}
		}
	}
	if _, err := dicom.Scan(idleReader{}, syntax(dicom.ExplicitVRLittleEndian), dicom.ScanOptions{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that yields nothing gives %v", err)
	}
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

func TestHeaderAccessors(t *testing.T) {
	h := &dicom.Header{TransferSyntax: syntax(dicom.ExplicitVRLittleEndian), Elements: []dicom.Element{
		{Tag: dicom.TagImageType, Value: []byte("ORIGINAL\\ PRIMARY \\\\AXIAL ")},
		{Tag: dicom.TagSOPClassUID, Value: []byte("1.2.840.10008.5.1.4.1.1.2\x00")},
		{Tag: dicom.TagKVP, Value: []byte("  ")},
		{Tag: dicom.TagInstanceNumber, Value: []byte(" -7 ")},
		{Tag: dicom.TagImagePositionPatient, Value: []byte("-120.5\\+3e1 \\ .25")},
		{Tag: dicom.TagRows, Value: []byte("\x00\x02")},
		{Tag: dicom.TagColumns, Value: []byte("\x00")},
		{Tag: dicom.TagRescaleSlope, Value: []byte("NaN ")},
		{Tag: dicom.TagModalityLUTSequence, Length: undefined},
	}}
	if got := h.UID(dicom.TagSOPClassUID); got != dicom.CTImageStorage {
		t.Errorf("UID = %q", got)
	}
	if got, want := h.Strings(dicom.TagImageType), []string{"ORIGINAL", "PRIMARY", "", "AXIAL"}; !slices.Equal(got, want) {
		t.Errorf("Strings = %q", got)
	}
	if got := h.Strings(dicom.TagKVP); got != nil {
		t.Errorf("Strings of blanks = %q", got)
	}
	if n, err := h.Int(dicom.TagInstanceNumber); n != -7 || err != nil {
		t.Errorf("Int = %d, %v", n, err)
	}
	if got, err := h.Floats(dicom.TagImagePositionPatient); !slices.Equal(got, []float64{-120.5, 30, .25}) || err != nil {
		t.Errorf("Floats = %v, %v", got, err)
	}
	if n, ok := h.Uint16(dicom.TagRows); n != 512 || !ok {
		t.Errorf("Uint16 = %d, %v", n, ok)
	}
	if _, ok := h.Uint16(dicom.TagColumns); ok {
		t.Error("Uint16 of one byte")
	}
	if e, ok := h.Lookup(dicom.TagModalityLUTSequence); !ok || e.Length != undefined {
		t.Errorf("Lookup of a sequence = %+v, %v", e, ok)
	}
	if _, ok := h.Lookup(dicom.TagModality); ok || h.String(dicom.TagModality) != "" || h.Value(dicom.TagModality) != nil {
		t.Error("an absent attribute is there")
	}
	for _, tag := range []dicom.Tag{dicom.TagModality, dicom.TagKVP} {
		if _, err := h.Int(tag); !errors.Is(err, dicom.ErrAbsent) {
			t.Errorf("Int(%v) = %v", tag, err)
		}
		if _, err := h.Floats(tag); !errors.Is(err, dicom.ErrAbsent) {
			t.Errorf("Floats(%v) = %v", tag, err)
		}
	}
	if got := dicom.TagPixelData.String(); got != "(7FE0,0010)" {
		t.Errorf("Tag.String = %s", got)
	}
}

func TestHeaderRefusesWhatIsNoNumber(t *testing.T) {
	for _, s := range []string{"NaN", "Inf", "-Inf", "0x10", "1_0", "1e999", "1,5", "abc", "1\\\\2", "--1"} {
		h := &dicom.Header{Elements: []dicom.Element{{Tag: dicom.TagRescaleSlope, Value: []byte(s)}}}
		if f, err := h.Floats(dicom.TagRescaleSlope); err == nil || errors.Is(err, dicom.ErrAbsent) {
			t.Errorf("Floats of %q = %v, %v", s, f, err)
		}
	}
	for _, s := range []string{"1.5", "0x10", "1_0", "99999999999", "2147483648", "abc"} {
		h := &dicom.Header{Elements: []dicom.Element{{Tag: dicom.TagInstanceNumber, Value: []byte(s)}}}
		if n, err := h.Int(dicom.TagInstanceNumber); err == nil || errors.Is(err, dicom.ErrAbsent) {
			t.Errorf("Int of %q = %v, %v", s, n, err)
		}
	}
}
