package jpeg

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

	"pgregory.net/rapid"
)

// Frames that DCMTK 3.6.7 compressed (dcmcjpeg), from two slices of the
// repository's own phantom, and the SHA-256 of the little-endian samples that it
// decompresses them to (dcmdjpeg).
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
	{"lossless-1.jpg", 16, unsigned},
	{"lossless-2.jpg", 16, signed},
	{"lossless-3.jpg", 16, unsigned},
	{"lossless-4.jpg", 16, signed},
	{"lossless-5.jpg", 16, unsigned},
	{"lossless-6.jpg", 16, signed},
	{"lossless-7.jpg", 16, unsigned},
	{"lossless-4-shifted-2.jpg", 16, "961aba744da57806a1f52840ca1205c1e200dc3825bd844c99e564a059444628"},
	{"baseline.jpg", 8, "a7be7ddee5e80e1b1dea278b9b056eae2a0b8e1aa14efed8f180313c1a41972c"},
	{"extended-12.jpg", 12, "7805cf8ee985ff985cd1045eddf6394541ec6739161f14654c0865be6d3a5120"},
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
			if err != nil {
				t.Fatal(err)
			}
			if precision != v.precision {
				t.Errorf("%d bits, want %d", precision, v.precision)
			}
			h := sha256.New()
			for _, s := range dst {
				if v.precision == 8 {
					h.Write([]byte{byte(s)})
				} else {
					h.Write(binary.LittleEndian.AppendUint16(nil, s))
				}
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != v.sha256 {
				t.Errorf("samples have SHA-256 %s, want %s", got, v.sha256)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	sound := vector(t, "lossless-1.jpg")
	frame := bytes.Index(sound, []byte{0xFF, sof3})
	scan := bytes.Index(sound, []byte{0xFF, sos})
	tables := bytes.Index(sound, []byte{0xFF, dht})
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
		"no JPEG":             {[]byte("DICM, but no JPEG"), ErrMalformed},
		"the marker alone":    {sound[:2], ErrMalformed},
		"cut in the header":   {sound[:frame+5], ErrMalformed},
		"cut in the scan":     {sound[:len(sound)/2], ErrMalformed},
		"progressive":         {vector(t, "progressive.jpg"), ErrUnsupported},
		"arithmetic":          {with(frame+1, 0xCB), ErrUnsupported},
		"17 bits":             {with(frame+4, 17), ErrMalformed},
		"1 bit":               {with(frame+4, 1), ErrMalformed},
		"other width":         {with(frame+7, 0, 76), ErrMalformed},
		"lines to be told":    {with(frame+5, 0, 0), ErrUnsupported},
		"predictor 0":         {with(scan+7, 0), ErrMalformed},
		"predictor 8":         {with(scan+7, 8), ErrMalformed},
		"another component":   {with(scan+5, 99), ErrMalformed},
		"another table":       {with(scan+6, 0x30), ErrMalformed},
		"too many codes":      {with(tables+5, 255), ErrMalformed},
		"lossless as DCT":     {with(frame+1, sof1), ErrMalformed},
		"the end in between":  {with(frame, 0xFF, eoi), ErrMalformed},
		"restart inside line": {slices.Concat(sound[:frame], []byte{0xFF, dri, 0, 4, 0, 7}, sound[frame:]), ErrMalformed},
		"no restart marker":   {slices.Concat(sound[:frame], []byte{0xFF, dri, 0, 4, 0, width}, sound[frame:]), ErrMalformed},
	} {
		if _, err := Decode(make([]uint16, width*height), c.src, width, height); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Decode(make([]uint16, 1), sound, width, height); !errors.Is(err, ErrMalformed) {
		t.Errorf("too little room: %v", err)
	}
}

// encoder writes what no program at hand does: restart intervals, and every
// precision. All its Huffman codes have five bits, and stand for their number.
type encoder struct {
	bytes.Buffer
	acc, n uint
}

func (e *encoder) segment(marker byte, body ...byte) {
	e.Write([]byte{0xFF, marker, 0, byte(len(body) + 2)})
	e.Write(body)
}

func (e *encoder) bits(v uint, n uint) {
	for ; n > 0; n-- {
		e.acc = e.acc<<1 | v>>(n-1)&1
		if e.n++; e.n == 8 {
			e.WriteByte(byte(e.acc))
			if byte(e.acc) == 0xFF {
				e.WriteByte(0)
			}
			e.acc, e.n = 0, 0
		}
	}
}

func (e *encoder) flush() {
	for e.n > 0 {
		e.bits(1, 1)
	}
}

// number writes a difference, or a coefficient, of so many bits at most.
func (e *encoder) number(v int, code func(size uint)) {
	size := uint(0)
	for abs := max(v, -v); abs>>size > 0; size++ {
	}
	code(size)
	if v < 0 {
		v += 1<<size - 1
	}
	if size < 16 {
		e.bits(uint(v), size)
	}
}

func (e *encoder) header(process byte, precision, width, height, interval int, selection, last byte) {
	e.Write([]byte{0xFF, soi})
	table := append([]byte{0x00, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
	e.segment(dht, table...)
	table[0] = 0x10
	e.segment(dht, table...)
	e.segment(dqt, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)
	if interval > 0 {
		e.segment(dri, byte(interval>>8), byte(interval))
	}
	e.segment(process, byte(precision), byte(height>>8), byte(height), byte(width>>8), byte(width), 1, 1, 0x11, 0)
	e.segment(sos, 1, 1, 0, selection, 0, last)
}

func TestLosslessOfEveryKind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width, height := rapid.IntRange(1, 20).Draw(t, "width"), rapid.IntRange(1, 20).Draw(t, "height")
		precision := rapid.IntRange(2, 16).Draw(t, "precision")
		shift := rapid.IntRange(0, precision-1).Draw(t, "point transform")
		predictor := rapid.IntRange(1, 7).Draw(t, "predictor")
		lines := rapid.IntRange(0, height).Draw(t, "lines between restarts")
		want := make([]uint16, width*height)
		for i := range want {
			want[i] = uint16(rapid.IntRange(0, 1<<(precision-shift)-1).Draw(t, "sample"))
		}
		var e encoder
		e.header(sof3, precision, width, height, lines*width, byte(predictor), byte(shift))
		for i, s := range want {
			x, y := i%width, i/width
			first := y == 0 || lines > 0 && y%lines == 0
			if first && x == 0 && y > 0 {
				e.flush()
				e.Write([]byte{0xFF, rst0 + byte((y/lines-1)%8)})
			}
			at := func(dx, dy int) int { return int(want[i-dy*width-dx]) }
			var p int
			switch {
			case x == 0 && first:
				p = 1 << (precision - shift - 1)
			case x == 0:
				p = at(0, 1)
			case first || predictor == 1:
				p = at(1, 0)
			default:
				p = map[int]int{
					2: at(0, 1), 3: at(1, 1), 4: at(1, 0) + at(0, 1) - at(1, 1),
					5: at(1, 0) + (at(0, 1)-at(1, 1))>>1, 6: at(0, 1) + (at(1, 0)-at(1, 1))>>1, 7: (at(1, 0) + at(0, 1)) >> 1,
				}[predictor]
			}
			d := int(int16(int(s) - p)) // modulo 65536
			e.number(d, func(size uint) { e.bits(size, 5) })
		}
		e.flush()
		e.Write([]byte{0xFF, eoi})
		got := make([]uint16, len(want))
		if n, err := Decode(got, e.Bytes(), width, height); err != nil || n != precision {
			t.Fatalf("%d bits, %v", n, err)
		}
		for i := range want {
			if want[i]<<shift != got[i] {
				t.Fatalf("sample %d is %d, want %d", i, got[i], want[i]<<shift)
			}
		}
	})
}

// Blocks of one value each, with restarts.
func TestSequentialRestarts(t *testing.T) {
	const width, height, interval = 21, 17, 2 // three blocks by three
	for _, precision := range []int{8, 12} {
		var e encoder
		e.header(sof1, precision, width, height, interval, 0, 0)
		levels := []int{10, -20, 30, 0, 100, -100, 7, 8, 9}
		last := 0
		for i, level := range levels {
			if i > 0 && i%interval == 0 {
				e.flush()
				e.Write([]byte{0xFF, rst0 + byte(i/interval-1)})
				last = 0
			}
			e.number(8*level-last, func(size uint) { e.bits(size, 5) })
			last = 8 * level
			e.bits(0, 5) // end of block
		}
		e.flush()
		e.Write([]byte{0xFF, eoi})
		got := make([]uint16, width*height)
		if _, err := Decode(got, e.Bytes(), width, height); err != nil {
			t.Fatal(err)
		}
		for i, s := range got {
			if want := levels[i/width/8*3+i%width/8] + 1<<(precision-1); int(s) != want {
				t.Fatalf("%d bits: sample %d is %d, want %d", precision, i, s, want)
			}
		}
	}
}

// FuzzDecode: whatever comes, either every sample is within the precision, and
// the same a second time, or the error is of a known kind.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.jpg")
	if err != nil || len(files) < len(vectors) {
		f.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		f.Add(vector(f, filepath.Base(file)), width, height)
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
		switch {
		case err != nil:
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("an error of no kind: %v", err)
			}
		case !slices.Equal(first, second):
			t.Fatal("two decodings differ")
		case precision < 2 || precision > 16:
			t.Fatalf("%d bits", precision)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, v := range vectors {
		b.Run(v.file, func(b *testing.B) {
			src, dst := vector(b, v.file), make([]uint16, width*height)
			b.ReportAllocs()
			b.SetBytes(2 * width * height)
			for b.Loop() {
				if _, err := Decode(dst, src, width, height); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
