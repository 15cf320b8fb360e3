package dicom_test

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"ichwatch/dimse/dicom"
)

// allocated returns how many bytes f allocates in total, freed or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// What a scan may allocate whatever it is given: a buffer, a decompressor, the
// first elements.
const fixedCost = 256 << 10

// repeated yields s again and again, for data sets too large to build.
func repeated(s string, times int) io.Reader {
	return &repeater{s: s, left: times * len(s)}
}

type repeater struct {
	s         string
	pos, left int
}

func (r *repeater) Read(p []byte) (n int, err error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	for n < len(p) && r.left > 0 {
		k := min(copy(p[n:], r.s[r.pos:]), r.left)
		n, r.left = n+k, r.left-k
		r.pos = (r.pos + k) % len(r.s)
	}
	return n, nil
}

// Inputs that end other parsers, and what becomes of them here. Each is given
// to Scan as if it came from the network.
func TestPromise6_HostileDataSets(t *testing.T) {
	const (
		uids = "\x08\x00\x18\x00" + "UI\x04\x00" + "1.2\x00" // SOP Instance UID
		sq   = "\x08\x00\x40\x11" + "SQ\x00\x00\xff\xff\xff\xff"
		item = "\xfe\xff\x00\xe0\xff\xff\xff\xff"
	)
	nested := func(times int) io.Reader {
		return io.MultiReader(strings.NewReader(uids), repeated(sq+item, times))
	}
	s := func(parts ...string) io.Reader { return strings.NewReader(strings.Join(parts, "")) }
	ele, ile, ebe := dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian, dicom.ExplicitVRBigEndian

	for _, tc := range []struct {
		name string
		ts   dicom.UID
		in   io.Reader
		want error // nil: scans
	}{
		// Nesting.
		{"64 nested sequences, unfinished", ele, nested(64), dicom.ErrTruncated},
		{"65 nested sequences", ele, nested(65), dicom.ErrTooDeep},
		{"10,000 nested sequences", ele, nested(10_000), dicom.ErrTooDeep},
		{"1,000,000 nested sequences, 20 MB", ele, nested(1_000_000), dicom.ErrTooDeep},
		{"1,000,000 nested sequences in implicit VR", ile, repeated("\x08\x00\x40\x11\xff\xff\xff\xff"+item, 1_000_000), dicom.ErrTooDeep},
		{"nested UN of undefined length", ele, s(uids, "\x09\x00\x01\x10UN\x00\x00\xff\xff\xff\xff", strings.Repeat(item+"\x09\x00\x01\x10\xff\xff\xff\xff", 100)), dicom.ErrTooDeep},

		// Lengths that are not there.
		{"OB of 4 GiB in 200 bytes", ele, s(uids, "\x09\x00\x01\x10OB\x00\x00\xfe\xff\xff\xff", strings.Repeat("x", 180)), dicom.ErrTooLarge},
		{"UT of 4 GiB in 200 bytes", ele, s(uids, "\x09\x00\x01\x10UT\x00\x00\xfe\xff\xff\xff", strings.Repeat("x", 180)), dicom.ErrTooLarge},
		{"OW of 4 GiB in 200 bytes", ele, s(uids, "\x09\x00\x01\x10OW\x00\x00\xfe\xff\xff\xff", strings.Repeat("x", 180)), dicom.ErrTooLarge},
		{"SQ of 4 GiB in 200 bytes", ele, s(uids, "\x08\x00\x40\x11SQ\x00\x00\xfe\xff\xff\xff", strings.Repeat("x", 180)), dicom.ErrTooLarge},
		{"4 GiB in implicit VR", ile, s("\x08\x00\x18\x00\xfe\xff\xff\xff1.2"), dicom.ErrTooLarge},
		{"4 GiB in big endian", ebe, s("\x00\x08\x00\x18OB\x00\x00\xff\xff\xff\xfe1.2"), dicom.ErrTooLarge},
		{"15 MiB in 200 bytes", ele, s(uids, "\x09\x00\x01\x10OB\x00\x00\x00\x00\xf0\x00", strings.Repeat("x", 180)), dicom.ErrTruncated},
		{"60 KiB in 200 bytes", ele, s(uids, "\x09\x00\x01\x10LT\x00\xf0", strings.Repeat("x", 180)), dicom.ErrTruncated},
		{"an item of 4 GiB", ele, s(uids, sq, "\xfe\xff\x00\xe0\xfe\xff\xff\xff"), dicom.ErrTooLarge},
		{"pixels of 4 GiB", ele, s(uids, "\xe0\x7f\x10\x00OW\x00\x00\xfe\xff\xff\xff", "xx"), nil}, // not ours to read
		{"a pixel item of 4 GiB", dicom.JPEGBaseline8Bit, s(uids, "\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff", "\xfe\xff\x00\xe0\xfe\xff\xff\xff"), nil},
		{"an icon's fragment of 4 GiB", dicom.JPEGBaseline8Bit, s(uids, "\x88\x00\x00\x02SQ\x00\x00\xff\xff\xff\xff", item, "\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff", "\xfe\xff\x00\xe0\xfe\xff\xff\xff"), dicom.ErrTooLarge},
		{"native pixels of undefined length", ele, s(uids, "\xe0\x7f\x10\x00OW\x00\x00\xff\xff\xff\xff"), dicom.ErrLength},
		{"text of undefined length", ele, s(uids, "\x09\x00\x01\x10UT\x00\x00\xff\xff\xff\xff"), dicom.ErrLength},
		{"text of undefined length in an item", ele, s(uids, sq, item, "\x09\x00\x01\x10UC\x00\x00\xff\xff\xff\xff"), dicom.ErrLength},

		// Bytes without end.
		{"1 GiB of empty private elements", ele, repeated(explicit(0x0009_1001, "OB", ""), 1<<30/12), dicom.ErrOrder},
		{"1 GiB of items", ele, io.MultiReader(s(sq), repeated("\xfe\xff\x00\xe0\x00\x00\x00\x00", 1<<27)), dicom.ErrTooLarge},
		{"1 GiB of NUL", ile, repeated("\x00", 1<<30), dicom.ErrTag},
		{"1 GiB of FFH", ele, repeated("\xff", 1<<30), dicom.ErrVR},
		{"a deflate bomb, below 100 KiB to 17 MiB", dicom.DeflatedExplicitVRLittleEndian, s(deflated(sq + strings.Repeat("\xfe\xff\x00\xe0\x00\x00\x00\x00", 17<<17))), dicom.ErrTooLarge},

		// Structure.
		{"tags descend", ele, s(explicit(dicom.TagModality, "CS", "CT"), uids), dicom.ErrOrder},
		{"a tag twice", ele, s(uids, uids), dicom.ErrOrder},
		{"group 0000", ele, s(explicit(0x0000_0002, "UI", "1.2\x00")), dicom.ErrTag},
		{"file meta information in the data set", ele, s(explicit(0x0002_0010, "UI", "1.2\x00")), dicom.ErrTag},
		{"a Part 10 file as the data set", ele, s(fileMeta), dicom.ErrVR},
		{"an item at the top", ele, s(uids, item), dicom.ErrTag},
		{"a delimiter at the top", ele, s(uids, "\xfe\xff\xdd\xe0\x00\x00\x00\x00"), dicom.ErrTag},
		{"group FFFF", ile, s("\xff\xff\x01\x00\x00\x00\x00\x00"), dicom.ErrTag},
		{"an element between items", ele, s(sq, explicit(0x0009_1001, "SH", "x ")), dicom.ErrTag},
		{"an item in an item", ele, s(sq, item, item), dicom.ErrTag},
		{"a sequence's end in an item", ele, s(sq, item, "\xfe\xff\xdd\xe0\x00\x00\x00\x00"), dicom.ErrTag},
		{"an item's end between items", ele, s(sq, "\xfe\xff\x0d\xe0\x00\x00\x00\x00"), dicom.ErrTag},
		{"a delimiter with a length", ele, s(sq, item, "\xfe\xff\x0d\xe0\x02\x00\x00\x00xx"), dicom.ErrTag},
		{"a sequence without end", ele, s(sq, item, explicit(0x0009_1001, "SH", "x ")), dicom.ErrTruncated},

		// The wrong encoding for the transfer syntax.
		{"implicit VR announced as explicit", ele, s(implicit(dicom.TagSpecificCharacterSet, "ISO_IR 100"), implicit(dicom.TagSOPClassUID, "1.2\x00")), dicom.ErrVR},
		{"explicit VR announced as implicit", ile, s(uids, explicit(dicom.TagModality, "CS", "CT")), dicom.ErrTruncated},
		{"big endian announced as little", ele, s(goldenExplicitBE), dicom.ErrTruncated},
		{"deflated announced as plain", ele, s(deflated(goldenExplicitLE)), dicom.ErrMalformed},
		{"plain announced as deflated", dicom.DeflatedExplicitVRLittleEndian, s(goldenExplicitLE), dicom.ErrMalformed},
		{"VR of NULs", ele, s(uids, "\x09\x00\x01\x10\x00\x00\x02\x00xx"), dicom.ErrVR},
		{"VR in small letters", ele, s(uids, "\x09\x00\x01\x10sh\x02\x00xx"), dicom.ErrVR},

		// Values that hurt whoever believes them: kept as they are.
		{"NumberOfFrames 4294967297", ele, s(uids, explicit(dicom.TagNumberOfFrames, "IS", "4294967297"), explicit(dicom.TagPixelData, "OW", "xx")), nil},
		{"NumberOfFrames -1", ele, s(uids, explicit(dicom.TagNumberOfFrames, "IS", "-1")), nil},
		{"Rows as text", ele, s(uids, explicit(dicom.TagRows, "CS", "512 ")), nil},
		{"Rows of no bytes", ele, s(uids, explicit(dicom.TagRows, "US", "")), nil},
		{"BitsAllocated as text", ele, s(uids, explicit(dicom.TagBitsAllocated, "LO", "sixteen ")), nil},
		{"a character set that is none", ele, s(explicit(dicom.TagSpecificCharacterSet, "CS", `\\ISO 2022 IR 999\`), uids), nil},

		// Cut short in the pixels: what the pixels' length shows, no fault here.
		{"cut inside native pixels", ele, s(goldenExplicitLE[:len(goldenExplicitLE)-2]), nil},
		{"cut inside fragments", dicom.JPEGBaseline8Bit, s(goldenEncapsulated[:len(goldenEncapsulated)-9]), nil},
		{"cut inside the deflate stream", dicom.DeflatedExplicitVRLittleEndian, s(deflated(goldenExplicitLE)[:20]), dicom.ErrTruncated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var h *dicom.Header
			var err error
			spent := allocated(func() { h, err = dicom.Scan(tc.in, syntax(tc.ts), dicom.ScanOptions{}) })
			if h == nil {
				t.Fatal("no header")
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if err != nil {
				var where *dicom.MalformedError
				if !errors.As(err, &where) || !errors.Is(err, dicom.ErrMalformed) {
					t.Errorf("%v does not say where", err)
				}
			}
			if spent > fixedCost {
				t.Errorf("%d KiB allocated", spent>>10)
			}
		})
	}
}

// What came before the fault is kept: the receiver needs it to decide between
// refusing an object and storing it unanalysed.
func TestScanKeepsTheHeaderBeforeTheFault(t *testing.T) {
	in := explicit(dicom.TagSOPClassUID, "UI", "1.2.840.10008.5.1.4.1.1.2\x00") +
		explicit(dicom.TagStudyInstanceUID, "UI", "1.2.3\x00") +
		explicit(dicom.TagSeriesInstanceUID, "UI", "1.2.4\x00") +
		"\x28\x00\x10\x00" + "OB\x00\x00\xfe\xff\xff\xff"
	h, err := dicom.Scan(strings.NewReader(in), syntax(dicom.ExplicitVRLittleEndian), dicom.ScanOptions{})
	var where *dicom.MalformedError
	if !errors.As(err, &where) {
		t.Fatalf("error is %v", err)
	}
	if where.Tag != dicom.TagRows || where.Offset != int64(len(in)-12) || where.Reason != dicom.ErrTooLarge {
		t.Errorf("fault at %v, offset %d: %v", where.Tag, where.Offset, where.Reason)
	}
	if h.UID(dicom.TagSOPClassUID) != dicom.CTImageStorage || h.UID(dicom.TagStudyInstanceUID) != "1.2.3" || h.UID(dicom.TagSeriesInstanceUID) != "1.2.4" {
		t.Errorf("kept %v", h.Elements)
	}
}

func TestScanMaxHeader(t *testing.T) {
	pixels := explicit(dicom.TagPixelData, "OW", "xxxx")
	in := explicit(0x0009_1001, "OB", strings.Repeat("x", 88)) + pixels // pixels' element at 100
	for limit, want := range map[int64]error{
		99:  dicom.ErrTooLarge, // the value passes it
		100: dicom.ErrTooLarge, // the pixels begin behind it
		101: nil,
	} {
		_, err := scanEveryWay(t, in, syntax(dicom.ExplicitVRLittleEndian), dicom.ScanOptions{MaxHeader: limit})
		if !errors.Is(err, want) {
			t.Errorf("MaxHeader %d: %v, want %v", limit, err, want)
		}
	}
}
