package jpegls

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Frames that DCMTK 3.6.7 compressed (dcmcjpls), from two slices of the
// repository's own phantom, and the SHA-256 of the little-endian samples that it
// decompresses them to (dcmdjpls).
const (
	width, height = 75, 64
	unsigned      = "461643c4d038380ac6d3f93d703c10b98a24daf675adead10d8eebb81e4d1a1c"
	signed        = "10575a8a867827af307cb17812b183c393e7419b202a7d7ce843b8bcfd6d715c"
)

var vectors = []struct {
	file      string
	precision int
	sha256    string
}{
	{"lossless-12.jls", 12, unsigned},
	{"lossless-16.jls", 16, signed},
	{"thresholds.jls", 16, unsigned},
	{"near-2.jls", 12, "192e3f377f6e3ef4c985c3f7b52048997ad7c0ef5d90954558f4543e0d789b7e"},
}

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.file, func(t *testing.T) {
			dst := make([]uint16, width*height)
			precision, err := Decode(dst, vector(t, v.file), width, height)
			if err != nil || precision != v.precision {
				t.Fatalf("%d bits, %v; want %d", precision, err, v.precision)
			}
			var b bytes.Buffer
			if err := binary.Write(&b, binary.LittleEndian, dst); err != nil {
				t.Fatal(err)
			}
			if got := sha256.Sum256(b.Bytes()); hex.EncodeToString(got[:]) != v.sha256 {
				t.Errorf("samples have SHA-256 %x, want %s", got, v.sha256)
			}
		})
	}
}

// The example that the standard codes by hand (section H.3).
func TestDecodeTheStandardsExample(t *testing.T) {
	src := []byte{
		0xFF, 0xD8, 0xFF, 0xF7, 0x00, 0x0B, 0x08, 0x00, 0x04, 0x00, 0x04, 0x01, 0x01, 0x11, 0x00,
		0xFF, 0xDA, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00,
		0xC0, 0x00, 0x00, 0x6C, 0x80, 0x20, 0x8E, 0x01, 0xC0, 0x00, 0x00, 0x57, 0x40, 0x00, 0x00, 0x6E, 0xE6, 0x00,
		0x00, 0x01, 0xBC, 0x18, 0x00, 0x00, 0x05, 0xD8, 0x00, 0x00, 0x91, 0x60, 0xFF, 0xD9,
	}
	want := []uint16{0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145}
	got := make([]uint16, 16)
	if precision, err := Decode(got, src, 4, 4); err != nil || precision != 8 || !slices.Equal(got, want) {
		t.Errorf("%v of %d bits, %v; want %v", got, precision, err, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	sound := vector(t, "thresholds.jls")
	frame := bytes.Index(sound, []byte{0xFF, sof55})
	preset := bytes.Index(sound, []byte{0xFF, lse})
	scan := bytes.Index(sound, []byte{0xFF, sos})
	with := func(at int, b ...byte) []byte {
		out := slices.Clone(sound)
		copy(out[at:], b)
		return out
	}
	for name, c := range map[string]struct {
		src  []byte
		want error
	}{
		"nothing":             {nil, ErrMalformed},
		"no JPEG-LS":          {[]byte("DICM, but no JPEG-LS"), ErrMalformed},
		"cut in the header":   {sound[:frame+5], ErrMalformed},
		"cut in the scan":     {sound[:len(sound)/2], ErrMalformed},
		"baseline":            {with(frame+1, 0xC0), ErrUnsupported},
		"1 bit":               {with(frame+4, 1), ErrMalformed},
		"17 bits":             {with(frame+4, 17), ErrMalformed},
		"other height":        {with(frame+5, 0, 65), ErrMalformed},
		"mapping table":       {with(preset+4, 2), ErrUnsupported},
		"thresholds reversed": {with(preset+7, 0xF, 0xFF), ErrMalformed},
		"near beyond":         {with(scan+7, 255), ErrMalformed},
		"interleaved":         {with(scan+4, 3), ErrMalformed},
		"point transform":     {with(scan+9, 1), ErrUnsupported},
		"restart intervals":   {slices.Concat(sound[:frame], []byte{0xFF, dri, 0, 4, 0, 1}, sound[frame:]), ErrUnsupported},
		"the end in between":  {with(frame, 0xFF, eoi), ErrMalformed},
	} {
		if _, err := Decode(make([]uint16, width*height), c.src, width, height); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Decode(make([]uint16, 1), sound, width, height); !errors.Is(err, ErrMalformed) {
		t.Errorf("too little room: %v", err)
	}
}

// FuzzDecode: whatever comes, either every sample is within the precision, and
// the same a second time, or the error is of a known kind.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		f.Add(vector(f, v.file), width, height)
	}
	f.Fuzz(func(t *testing.T, src []byte, width, height int) {
		if width < 1 || height < 1 || width > 200 || height > 200 {
			t.Skip()
		}
		first, second := make([]uint16, width*height), make([]uint16, width*height)
		precision, err := Decode(first, src, width, height)
		if again, err2 := Decode(second, src, width, height); again != precision || (err == nil) != (err2 == nil) {
			t.Fatalf("%d bits, %v; then %d bits, %v", precision, err, again, err2)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if !slices.Equal(first, second) {
			t.Fatal("two decodings differ")
		}
		if most := slices.Max(first); precision < 2 || precision > 16 || int(most) >= 1<<precision {
			t.Fatalf("a sample %d of %d bits", most, precision)
		}
	})
}
