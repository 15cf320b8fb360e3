package rle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"testing"
)

// Frames that DCMTK 3.6.7 compressed (dcmcrle), from two slices of the
// repository's own phantom, and the SHA-256 of their little-endian words.
var vectors = []struct{ file, sha256 string }{
	{"unsigned.rle", "461643c4d038380ac6d3f93d703c10b98a24daf675adead10d8eebb81e4d1a1c"},
	{"signed.rle", "10575a8a867827af307cb17812b183c393e7419b202a7d7ce843b8bcfd6d715c"},
}

const pixels = 75 * 64

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for _, v := range vectors {
		dst := make([]uint16, pixels)
		if err := Decode(dst, vector(t, v.file), 2); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := binary.Write(&b, binary.LittleEndian, dst); err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(b.Bytes()); hex.EncodeToString(got[:]) != v.sha256 {
			t.Errorf("%s: words have SHA-256 %x, want %s", v.file, got, v.sha256)
		}
	}
}

// frame is a header for segments of these lengths, and the segments.
func frame(segments ...[]byte) []byte {
	b := make([]byte, headerSize)
	binary.LittleEndian.PutUint32(b, uint32(len(segments)))
	for i, s := range segments {
		binary.LittleEndian.PutUint32(b[4+4*i:], uint32(len(b)))
		b = append(b, s...)
	}
	return b
}

func TestDecodeByHand(t *testing.T) {
	for name, c := range map[string]struct {
		src   []byte
		bytes int
		want  []uint16 // nil: malformed
	}{
		"literal and run":    {frame([]byte{1, 0xAB, 0xCD, 0xFE, 0x12}, []byte{0xFC, 7}), 2, []uint16{0xAB07, 0xCD07, 0x1207, 0x1207, 0x1207}},
		"8 bits":             {frame([]byte{0xFC, 9}), 1, []uint16{9, 9, 9, 9, 9}},
		"no operation":       {frame([]byte{0x80, 0xFC, 9}), 1, []uint16{9, 9, 9, 9, 9}},
		"padding behind":     {frame([]byte{4, 1, 2, 3, 4, 5, 0}), 1, []uint16{1, 2, 3, 4, 5}},
		"a run too long":     {frame([]byte{0xF0, 3}), 1, []uint16{3, 3, 3, 3, 3}},
		"too few":            {frame([]byte{0xFD, 9}), 1, nil},
		"literal cut":        {frame([]byte{4, 1, 2, 3}), 1, nil},
		"run cut":            {frame([]byte{0xFC}), 1, nil},
		"a segment too many": {frame([]byte{0xFC, 9}, []byte{0xFC, 9}), 1, nil},
		"one too few":        {frame([]byte{0xFC, 9}), 2, nil},
		"cut in the header":  {frame([]byte{0xFC, 9})[:40], 1, nil},
		"offset past the end": {func() []byte {
			b := frame([]byte{0xFC, 9})
			binary.LittleEndian.PutUint32(b[4:], 1<<31)
			return b
		}(), 1, nil},
		"offset in the header": {func() []byte {
			b := frame([]byte{0xFC, 9})
			binary.LittleEndian.PutUint32(b[4:], 4)
			return b
		}(), 1, nil},
	} {
		got := make([]uint16, 5)
		err := Decode(got, c.src, c.bytes)
		if c.want == nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		} else if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %04X, %v; want %04X", name, got, err, c.want)
		}
	}
}

// FuzzDecode: whatever comes, either all pixels, the same a second time into
// memory that held others, or ErrMalformed.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		f.Add(vector(f, v.file), pixels, true)
	}
	f.Add(frame([]byte{0xFC, 9}), 5, false)
	f.Fuzz(func(t *testing.T, src []byte, n int, wide bool) {
		if n < 1 || n > 1<<16 {
			t.Skip()
		}
		bytes := 1
		if wide {
			bytes = 2
		}
		first, second := make([]uint16, n), slices.Repeat([]uint16{0xFFFF}, n)
		err := Decode(first, src, bytes)
		if err2 := Decode(second, src, bytes); (err == nil) != (err2 == nil) || err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("%v, then %v", err, err2)
		}
		if err == nil && (!slices.Equal(first, second) || !wide && slices.Max(first) > 0xFF) {
			t.Fatal("two decodings differ, or a byte is none")
		}
	})
}
