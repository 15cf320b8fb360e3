package pixel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"ichwatch/infer"
)

const (
	uidRLE          = "1.2.840.10008.1.2.5"
	uidJPEGLossless = "1.2.840.10008.1.2.4.70"
)

// rleFrame is a frame of two pixels in RLE.
func rleFrame(a, b uint16) []byte {
	f := make([]byte, 64)
	binary.LittleEndian.PutUint32(f, 2)
	binary.LittleEndian.PutUint32(f[4:], 64)
	binary.LittleEndian.PutUint32(f[8:], 67)
	return append(f, 1, byte(a>>8), byte(b>>8), 1, byte(a), byte(b))
}

func item(tag uint32, value []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(tag>>16))
	b = binary.LittleEndian.AppendUint16(b, uint16(tag))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// encapsulated is a data set of five bytes, a basic offset table and fragments.
func encapsulated(table []uint32, fragments ...[]byte) []byte {
	var offsets []byte
	for _, o := range table {
		offsets = binary.LittleEndian.AppendUint32(offsets, o)
	}
	b := append([]byte("hello"), item(itemTag, offsets)...)
	for _, f := range fragments {
		b = append(b, item(itemTag, f)...)
	}
	return append(b, item(sequenceDelimiterTag, nil)...)
}

// coded describes frames of two pixels in RLE.
func coded(frames int, change func(*Description)) Description {
	return row(2, func(d *Description) {
		d.Frames, d.Encapsulated, d.SyntaxUID, d.Offset, d.Length = frames, true, uidRLE, 5, math.MaxUint32
		if change != nil {
			change(d)
		}
	})
}

// all reads every frame.
func all(t *testing.T, d Description, data []byte) (hu [][]int16, err error) {
	t.Helper()
	f, err := Open(d, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var img infer.Image
	for {
		if err := f.Next(t.Context(), d, &img); errors.Is(err, io.EOF) {
			return hu, nil
		} else if err != nil {
			return hu, err
		}
		if img.Rows != d.Rows || img.Columns != d.Columns || len(img.HU) != d.Rows*d.Columns {
			t.Fatalf("%d pixels in %d x %d", len(img.HU), img.Rows, img.Columns)
		}
		hu = append(hu, slices.Clone(img.HU))
	}
}

func TestFrames(t *testing.T) {
	a, b := rleFrame(1, 2), rleFrame(3, 4)
	size := uint32(len(a) + 8)
	both := [][]int16{{1, 2}, {3, 4}}
	jpegs := func(change func(*Description)) Description {
		return coded(2, func(d *Description) {
			d.SyntaxUID, d.Rows, d.Columns = uidJPEGLossless, 64, 75
			if change != nil {
				change(d)
			}
		})
	}
	stream, err := os.ReadFile("jpeg/testdata/lossless-1.jpg")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		d    Description
		data []byte
		want [][]int16 // nil: as first is
	}{
		"native, the length padded": {row(2, func(d *Description) { d.Frames, d.Length = 2, 10 }), little(1, 2, 3, 4, 0), both},
		"deflated":                  {row(2, func(d *Description) { d.Frames, d.Length, d.Deflated = 2, 8, true }), deflated(little(1, 2, 3, 4)), both},
		"a table":                   {coded(2, nil), encapsulated([]uint32{0, size}, a, b), both},
		"an empty table":            {coded(2, nil), encapsulated(nil, a, b), both},
		"one frame in fragments":    {coded(0, nil), encapsulated(nil, a[:10], a[10:10], a[10:64], a[64:]), both[:1]},
		"fragments and a table":     {coded(2, nil), encapsulated([]uint32{0, size + 8}, a[:30], a[30:], b), both},
		"padding behind the frame":  {coded(1, nil), encapsulated([]uint32{0}, append(slices.Clone(a), 0, 0, 0)), both[:1]},
		"JPEG in fragments, no table": {
			jpegs(nil), encapsulated(nil, stream[:1000], stream[1000:], stream[:77], stream[77:2000], stream[2000:]), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := all(t, c.d, c.data)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == nil {
				if len(got) != 2 || !slices.Equal(got[0], got[1]) || slices.Max(got[0]) == slices.Min(got[0]) {
					t.Errorf("%d frames, or not the same", len(got))
				}
				return
			}
			if !slices.EqualFunc(got, c.want, slices.Equal) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestFramesRefuses(t *testing.T) {
	a, b := rleFrame(1, 2), rleFrame(3, 4)
	size := uint32(len(a) + 8)
	sound := encapsulated([]uint32{0, size}, a, b)
	var unsupported *UnsupportedError
	for name, c := range map[string]struct {
		d         Description
		data      []byte
		malformed bool
	}{
		"another syntax":          {coded(2, func(d *Description) { d.SyntaxUID = "1.2.840.10008.1.2.4.201" }), sound, false},
		"more frames than bounds": {coded(MaxFrames+1, nil), sound, false},
		"more pixels than bounds": {coded(200, func(d *Description) { d.Rows, d.Columns = 4096, 4096 }), sound, false},
		"no end":                  {coded(2, nil), sound[:len(sound)-8], true},
		"cut in a fragment":       {coded(2, nil), sound[:len(sound)-20], true},
		"cut in the table":        {coded(2, nil), sound[:15], true},
		"no items":                {coded(2, nil), []byte("hello, this is no item"), true},
		"fewer fragments":         {coded(3, nil), encapsulated(nil, a, b), true},
		"which is whose":          {coded(2, nil), encapsulated(nil, a[:10], a[10:], b), false},
		"a table of three":        {coded(2, nil), encapsulated([]uint32{0, size, size}, a, b), true},
		"a table beside it":       {coded(2, nil), encapsulated([]uint32{0, size + 1}, a, b), true},
		"a table past the end":    {coded(2, nil), encapsulated([]uint32{0, 1 << 31}, a, b), true},
		"a table backwards":       {coded(2, nil), encapsulated([]uint32{size, 0}, a, b), true},
		"one place twice":         {coded(2, nil), encapsulated([]uint32{0, 0}, a, b), true},
		"a fragment too long":     {coded(1, nil), encapsulated(nil, make([]byte, 80<<10)), true},
		"no RLE":                  {coded(1, nil), encapsulated(nil, []byte("no RLE")), true},
		"no JPEG":                 {coded(1, func(d *Description) { d.SyntaxUID = uidJPEGLossless }), encapsulated(nil, a), true},
		"one native frame of two": {row(2, func(d *Description) { d.Frames = 2 }), little(1, 2), true},
		"native, cut":             {row(2, func(d *Description) { d.Frames, d.Length = 2, 8 }), little(1, 2, 3), true},
	} {
		got, err := all(t, c.d, c.data)
		if c.malformed && !errors.Is(err, ErrMalformed) || !c.malformed && !errors.As(err, &unsupported) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// Without OpenJPEG a slice in JPEG 2000 is sound, and the reason tells what to
// install.
func TestJPEG2000NeedsOpenJPEG(t *testing.T) {
	stream, err := os.ReadFile("openjpeg/testdata/unsigned-16.j2k")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	d := coded(1, func(d *Description) { d.SyntaxUID, d.Rows, d.Columns = "1.2.840.10008.1.2.4.90", 64, 75 })
	_, err = all(t, d, encapsulated(nil, stream))
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || !strings.Contains(unsupported.Reason, "libopenjp2-tools") {
		t.Errorf("%v", err)
	}
}

// Where header and frame contradict each other, nobody knows the Hounsfield
// units.
func TestFrameAgreesWithItsHeader(t *testing.T) {
	for name, c := range map[string]struct {
		precision int
		inFrame   bool // signed
		d         Description
		fine      bool
	}{
		"alike":                      {12, false, Description{BitsAllocated: 16, BitsStored: 12, HighBit: 11}, true},
		"whole words":                {16, false, Description{BitsAllocated: 16, BitsStored: 12, HighBit: 11, Signed: true}, true},
		"fewer bits, unsigned":       {10, false, Description{BitsAllocated: 16, BitsStored: 12, HighBit: 11}, true},
		"fewer bits, signed":         {12, false, Description{BitsAllocated: 16, BitsStored: 16, HighBit: 15, Signed: true}, false},
		"fewer bits, a sign of them": {12, true, Description{BitsAllocated: 16, BitsStored: 16, HighBit: 15, Signed: true}, true},
		"a sign in the frame alone":  {16, true, Description{BitsAllocated: 16, BitsStored: 16, HighBit: 15}, false},
		"stored bits far up":         {12, false, Description{BitsAllocated: 16, BitsStored: 12, HighBit: 15}, false},
		"far up, and there":          {16, false, Description{BitsAllocated: 16, BitsStored: 12, HighBit: 15}, true},
		"more than allocated":        {12, false, Description{BitsAllocated: 8, BitsStored: 8, HighBit: 7}, false},
	} {
		if err := c.d.agrees(c.precision, c.inFrame); (err == nil) != c.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each frame has its own slope and intercept, and one that is refused or skipped
// does not move the next.
func TestFramesAreEachTheirOwn(t *testing.T) {
	d := row(2, func(d *Description) { d.Frames, d.Length = 5, 20 })
	for name, data := range map[string]struct {
		d    Description
		data []byte
	}{
		"native": {d, little(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)},
		"encapsulated": {
			coded(5, nil), encapsulated(nil, rleFrame(1, 2), rleFrame(3, 4), rleFrame(5, 6), []byte("damaged"), rleFrame(9, 10)),
		},
	} {
		f, err := Open(data.d, bytes.NewReader(data.data))
		if err != nil {
			t.Fatal(err)
		}
		var img infer.Image
		next := func(intercept float64, rescaled bool) error {
			d := data.d
			d.Intercept, d.Rescaled, d.PixelSpacing = intercept, rescaled, [2]float64{intercept, 1}
			return f.Next(t.Context(), d, &img)
		}
		if err := next(-10, true); err != nil || !slices.Equal(img.HU, []int16{-9, -8}) || img.PixelSpacing[0] != -10 {
			t.Errorf("%s: first %v, %v", name, img, err)
		}
		if err := next(0, false); !errors.Is(err, ErrNoRescale) || len(img.HU) != 0 {
			t.Errorf("%s: second %v, %v", name, img, err)
		}
		if err := f.Skip(); err != nil {
			t.Errorf("%s: third %v", name, err)
		}
		if err := next(0, true); name == "encapsulated" && (!errors.Is(err, ErrMalformed) || img.Rows != 0) || name == "native" && err != nil {
			t.Errorf("%s: fourth %v, %v", name, img, err)
		}
		if err := next(100, true); err != nil || !slices.Equal(img.HU, []int16{109, 110}) {
			t.Errorf("%s: fifth %v, %v", name, img, err)
		}
		if err := next(0, true); !errors.Is(err, io.EOF) {
			t.Errorf("%s: sixth: %v", name, err)
		}
		if err := f.Skip(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: sixth, skipped: %v", name, err)
		}
	}
}

// FuzzFrames: whatever the fragments hold, whole frames and errors of a known
// kind, no more frames than the header says, and no memory beyond them.
func FuzzFrames(f *testing.F) {
	a, b := rleFrame(1, 2), rleFrame(3, 4)
	f.Add(2, 1, 2, uint8(0), encapsulated([]uint32{0, uint32(len(a) + 8)}, a, b))
	f.Add(2, 1, 2, uint8(0), encapsulated(nil, a, b))
	f.Add(1, 1, 2, uint8(0), encapsulated(nil, a[:30], a[30:]))
	for i, file := range []string{"jpeg/testdata/lossless-1.jpg", "jpeg/testdata/baseline.jpg", "jpegls/testdata/lossless-12.jls"} {
		stream, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(1, 64, 75, uint8(1+i/2), encapsulated(nil, stream))
		f.Add(2, 64, 75, uint8(1+i/2), encapsulated(nil, stream[:500], stream[500:], stream))
	}
	f.Fuzz(func(t *testing.T, frames, rows, columns int, syntax uint8, data []byte) {
		if rows > 128 || columns > 128 {
			t.Skip()
		}
		d := coded(frames, func(d *Description) {
			d.Rows, d.Columns = rows, columns
			d.SyntaxUID = []string{uidRLE, uidJPEGLossless, "1.2.840.10008.1.2.4.80"}[syntax%3]
		})
		known := func(err error) bool {
			var u *UnsupportedError
			return errors.As(err, &u) || errors.Is(err, ErrMalformed)
		}
		object, err := Open(d, bytes.NewReader(data))
		if err != nil {
			if !known(err) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		var img infer.Image
		for n := 0; ; n++ {
			err := object.Next(t.Context(), d, &img)
			switch {
			case errors.Is(err, io.EOF):
				if n != max(frames, 1) {
					t.Fatalf("%d frames of %d", n, frames)
				}
				return
			case err == nil && (img.Rows != rows || img.Columns != columns || len(img.HU) != rows*columns):
				t.Fatalf("%d pixels in %d x %d", len(img.HU), img.Rows, img.Columns)
			case err != nil && (!known(err) || len(img.HU) != 0):
				t.Fatalf("%d pixels beside %v", len(img.HU), err)
			}
		}
	})
}
