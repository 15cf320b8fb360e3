package pixel

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"ichwatch/infer"
)

// row describes one row of n 16-bit pixels at the start of the data set.
func row(n int, change func(*Description)) Description {
	d := Description{
		Rows: 1, Columns: n, BitsAllocated: 16, BitsStored: 16, HighBit: 15, Photometric: "MONOCHROME2",
		Rescaled: true, Slope: 1, Length: uint32(2 * n), Syntax: "1.2.840.10008.1.2.1",
	}
	if change != nil {
		change(&d)
	}
	return d
}

func words(order binary.AppendByteOrder, w ...uint16) []byte {
	var b []byte
	for _, v := range w {
		b = order.AppendUint16(b, v)
	}
	return b
}

func little(w ...uint16) []byte { return words(binary.LittleEndian, w...) }

func deflated(b []byte) []byte {
	var z bytes.Buffer
	w, _ := flate.NewWriter(&z, flate.BestSpeed)
	_, _ = w.Write(b)
	_ = w.Close()
	return z.Bytes()
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name  string
		d     Description
		bytes []byte
		want  []int16
	}{
		{
			"unsigned, 12 bits of 16, intercept -1024",
			row(3, func(d *Description) { d.BitsStored, d.HighBit, d.Intercept = 12, 11, -1024 }),
			little(0, 1064, 4095),
			[]int16{-1024, 40, 3071},
		},
		{
			"signed, 16 bits",
			row(3, func(d *Description) { d.Signed = true }),
			little(0xFC18, 40, 0x8000),
			[]int16{-1000, 40, -32768},
		},
		{
			"signed, 12 bits, overlay bits above them",
			row(4, func(d *Description) { d.Signed, d.BitsStored, d.HighBit = true, 12, 11 }),
			little(0x0FFF, 0xF028, 0x0800, 0x87FF),
			[]int16{-1, 40, -2048, 2047},
		},
		{
			"unsigned, 12 bits in the upper part of the word",
			row(2, func(d *Description) { d.BitsStored, d.HighBit = 12, 15 }),
			little(40<<4|0xF, 0xFFFF),
			[]int16{40, 4095},
		},
		{
			"8 bits with a slope",
			row(3, func(d *Description) {
				d.BitsAllocated, d.BitsStored, d.HighBit, d.Length = 8, 8, 7, 4
				d.Slope, d.Intercept = 16, -1024
			}),
			[]byte{0, 64, 255, 0},
			[]int16{-1024, 0, 3056},
		},
		{
			"8 bits signed",
			row(2, func(d *Description) {
				d.BitsAllocated, d.BitsStored, d.HighBit, d.Length, d.Signed = 8, 8, 7, 2, true
			}),
			[]byte{0xFF, 0x7F},
			[]int16{-1, 127},
		},
		{
			"big endian",
			row(2, func(d *Description) { d.BigEndian = true }),
			words(binary.BigEndian, 1, 0x0102),
			[]int16{1, 258},
		},
		{
			"deflated, behind a header",
			row(2, func(d *Description) { d.Deflated, d.Offset = true, 5 }),
			deflated(append([]byte("hello"), little(7, 8)...)),
			[]int16{7, 8},
		},
		{
			"MONOCHROME1 shows inverted and means the same",
			row(2, func(d *Description) { d.Photometric, d.Intercept = "MONOCHROME1", -1024 }),
			little(0, 1064),
			[]int16{-1024, 40},
		},
		{
			"an inverting slope",
			row(2, func(d *Description) { d.Slope, d.Intercept = -1, 3071 }),
			little(0, 4095),
			[]int16{3071, -1024},
		},
		{
			"a fractional slope rounds to the nearest, halves up",
			row(4, func(d *Description) { d.Slope, d.Intercept = 0.5, -10 }),
			little(1, 2, 3, 19),
			[]int16{-9, -9, -8, 0},
		},
		{
			"HU beyond 16 bits stay at their end",
			row(2, func(d *Description) { d.Slope, d.Intercept = 2, -1024 }),
			little(65535, 0),
			[]int16{32767, -1024},
		},
		{
			"padding, signed",
			row(3, func(d *Description) { d.Signed, d.Padding = true, Padding{Set: true, Value: 0xF830} }),
			little(0xF830, 0xF831, 0),
			[]int16{Air, -1999, 0},
		},
		{
			"padding outside the stored bits is compared as a word, and bone of the same low bits stays",
			row(2, func(d *Description) {
				d.BitsStored, d.HighBit, d.Intercept, d.Padding = 12, 11, -1024, Padding{Set: true, Value: 0xF830}
			}),
			little(0xF830, 0x0830),
			[]int16{Air, 1072},
		},
		{
			"padding range, its ends in either order",
			row(5, func(d *Description) {
				d.Intercept, d.Padding = -1024, Padding{Set: true, Value: 10, Limit: 2, Ranged: true}
			}),
			little(1, 2, 6, 10, 11),
			[]int16{-1023, Air, Air, Air, -1013},
		},
		{
			"padding range, signed",
			row(4, func(d *Description) {
				d.Signed, d.Padding = true, Padding{Set: true, Value: 0xF000, Limit: 0xFFFE, Ranged: true}
			}),
			little(0xEFFF, 0xF800, 0xFFFE, 0xFFFF),
			[]int16{-4097, Air, Air, -1},
		},
		{
			"no padding declared: 0 is a value",
			row(1, func(d *Description) { d.Intercept = -1000 }),
			little(0),
			[]int16{-1000},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var img infer.Image
			if err := Decode(t.Context(), c.d, bytes.NewReader(c.bytes), &img); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(img.HU, c.want) || img.Rows != 1 || img.Columns != len(c.want) {
				t.Errorf("HU %v in %d x %d, want %v", img.HU, img.Rows, img.Columns, c.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	pixels := little(1, 2, 3, 4)
	isUnsupported := func(err error) bool {
		var u *UnsupportedError
		return errors.As(err, &u)
	}
	is := func(target error) func(error) bool {
		return func(err error) bool { return errors.Is(err, target) }
	}
	for _, c := range []struct {
		name   string
		change func(*Description)
		want   func(error) bool
	}{
		{"encapsulated", func(d *Description) { d.Encapsulated = true }, isUnsupported},
		{"two frames", func(d *Description) { d.Frames = 2 }, isUnsupported},
		{"colour", func(d *Description) { d.SamplesPerPixel = 3 }, isUnsupported},
		{"palette", func(d *Description) { d.Photometric = "PALETTE COLOR" }, isUnsupported},
		{"12 bits allocated", func(d *Description) { d.BitsAllocated, d.BitsStored, d.HighBit = 12, 12, 11 }, isUnsupported},
		{"32 bits allocated", func(d *Description) { d.BitsAllocated = 32 }, isUnsupported},
		{"negative frames", func(d *Description) { d.Frames = -1 }, is(ErrMalformed)},
		{"no rows", func(d *Description) { d.Rows = 0 }, is(ErrMalformed)},
		{"rows past the limit", func(d *Description) { d.Rows, d.Length = 4097, 1<<32-2 }, is(ErrMalformed)},
		{"columns below zero", func(d *Description) { d.Columns = -4 }, is(ErrMalformed)},
		{"no bits stored", func(d *Description) { d.BitsStored = 0 }, is(ErrMalformed)},
		{"more bits stored than allocated", func(d *Description) { d.BitsStored = 17 }, is(ErrMalformed)},
		{"high bit past the word", func(d *Description) { d.HighBit = 16 }, is(ErrMalformed)},
		{"high bit below the stored bits", func(d *Description) { d.HighBit = 14 }, is(ErrMalformed)},
		{"element shorter than the matrix", func(d *Description) { d.Length = 6 }, is(ErrMalformed)},
		{"undefined length", func(d *Description) { d.Length = 1<<32 - 1 }, is(ErrMalformed)},
		{"bytes missing", func(d *Description) { d.Rows, d.Length = 4, 32 }, is(ErrMalformed)},
		{"data set ends before the pixels", func(d *Description) { d.Offset = 100 }, is(ErrMalformed)},
		{"offset below zero", func(d *Description) { d.Offset = -1 }, is(ErrMalformed)},
		{"not deflated", func(d *Description) { d.Deflated = true }, is(ErrMalformed)},
		{"no rescale", func(d *Description) { d.Rescaled = false }, is(ErrNoRescale)},
		{"slope of nothing", func(d *Description) { d.Slope = 0 }, is(ErrNoRescale)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var img infer.Image
			err := Decode(t.Context(), row(4, c.change), bytes.NewReader(pixels), &img)
			if err == nil || !c.want(err) {
				t.Errorf("Decode: %v", err)
			}
			if img.Rows != 0 || img.Columns != 0 || len(img.HU) != 0 {
				t.Errorf("an image of %d x %d is left", img.Rows, img.Columns)
			}
		})
	}
}

func TestDecodeKeepsTheReadersError(t *testing.T) {
	broken := errors.New("disk")
	err := Decode(t.Context(), row(4, nil), seekable{io.MultiReader(bytes.NewReader(little(1)), iotest.ErrReader(broken))}, new(infer.Image))
	if !errors.Is(err, broken) || errors.Is(err, ErrMalformed) {
		t.Errorf("Decode: %v, want the reader's own error", err)
	}
}

// seekable is a reader that is where it is to be.
type seekable struct{ io.Reader }

func (seekable) Seek(offset int64, _ int) (int64, error) { return offset, nil }

// The table is kept between slices; it must never be another slice's.
func TestDecodeForgetsTheLastSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var img infer.Image
		for range 3 {
			stored := rapid.IntRange(1, 16).Draw(t, "stored")
			d := row(1, func(d *Description) {
				d.BitsStored, d.HighBit = stored, rapid.IntRange(stored-1, 15).Draw(t, "high")
				d.Signed = rapid.Bool().Draw(t, "signed")
				d.Intercept = float64(rapid.IntRange(-2000, 2000).Draw(t, "intercept"))
			})
			word := rapid.Uint16().Draw(t, "word")
			if err := Decode(context.Background(), d, bytes.NewReader(little(word)), &img); err != nil {
				t.Fatal(err)
			}
			value := int(word) >> (d.HighBit + 1 - stored) % (1 << 16) & (1<<stored - 1)
			if d.Signed && value >= 1<<(stored-1) {
				value -= 1 << stored
			}
			if want := min(max(value+int(d.Intercept), -32768), 32767); int(img.HU[0]) != want {
				t.Fatalf("word %04X as %+v is %d HU, want %d", word, d, img.HU[0], want)
			}
		}
	})
}

// A header may claim the largest matrix over a few bytes.
func TestDecodeAllocatesForWhatIsThere(t *testing.T) {
	d := row(4096, func(d *Description) { d.Rows, d.Length = 4096, 2*4096*4096 })
	few := make([]byte, 3*2*4096)
	r := bytes.NewReader(few)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Decode(context.Background(), d, r, new(infer.Image)); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 2<<20 {
		t.Errorf("%d bytes were allocated over %d bytes of pixels", got, len(few))
	}
}

// FuzzDecode: whatever the header claims, a whole image or an error of a known
// kind.
func FuzzDecode(f *testing.F) {
	f.Add(2, 2, 0, 0, 16, 12, 11, false, false, false, int64(0), uint32(8), 1.0, -1024.0, uint16(0), little(1, 2, 3, 4))
	f.Add(1, 4, 1, 1, 8, 8, 7, true, false, false, int64(1), uint32(4), 16.0, 0.5, uint16(9), []byte{0, 1, 2, 3, 4})
	f.Add(1, 2, 0, 0, 16, 16, 15, true, true, false, int64(0), uint32(4), 1.0, 0.0, uint16(0xF830), little(0xF830, 1))
	f.Add(1, 2, 0, 0, 16, 16, 15, true, false, true, int64(3), uint32(4), 1.0, 0.0, uint16(0), deflated([]byte("abc\x01\x00\x02\x00")))
	f.Add(4096, 4096, 0, 0, 16, 16, 15, true, false, false, int64(0), uint32(1<<25), 1.0, 0.0, uint16(0), []byte{1})
	f.Fuzz(func(t *testing.T, rows, columns, frames, samples, allocated, stored, high int, signed, big, deflate bool,
		offset int64, length uint32, slope, intercept float64, padding uint16, data []byte,
	) {
		d := Description{
			Rows: rows, Columns: columns, Frames: frames, SamplesPerPixel: samples,
			BitsAllocated: allocated, BitsStored: stored, HighBit: high, Signed: signed, Photometric: "MONOCHROME2",
			Rescaled: true, Slope: slope, Intercept: intercept, Padding: Padding{Set: padding != 0, Value: padding},
			BigEndian: big, Deflated: deflate, Offset: offset, Length: length,
		}
		var img infer.Image
		err := Decode(context.Background(), d, bytes.NewReader(data), &img)
		if err == nil {
			if img.Rows != rows || img.Columns != columns || len(img.HU) != rows*columns || rows*columns == 0 {
				t.Fatalf("%d pixels in %d x %d", len(img.HU), img.Rows, img.Columns)
			}
			if need := rows * columns * allocated / 8; !deflate && int64(need)+offset > int64(len(data)) {
				t.Fatalf("%d bytes of pixels at %d were found in %d", need, offset, len(data))
			}
			return
		}
		var u *UnsupportedError
		if !errors.As(err, &u) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNoRescale) {
			t.Fatalf("an error of no kind: %v", err)
		}
		if len(img.HU) != 0 || img.Rows != 0 || img.Columns != 0 {
			t.Fatalf("an image of %d x %d beside %v", img.Rows, img.Columns, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d := row(512, func(d *Description) {
		d.Rows, d.Length, d.Intercept, d.BitsStored, d.HighBit = 512, 2*512*512, -1024, 12, 11
	})
	pixels := make([]byte, d.Length)
	r := bytes.NewReader(pixels)
	var img infer.Image
	b.ReportAllocs()
	b.SetBytes(int64(d.Length))
	for b.Loop() {
		r.Reset(pixels)
		if err := Decode(context.Background(), d, r, &img); err != nil {
			b.Fatal(err)
		}
	}
}
