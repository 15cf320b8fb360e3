package pixel

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
)

// golden is testdata/golden.json; testdata/make_golden.py made it by other means.
type golden struct {
	Windows []struct{ Centre, Width float64 }
	Crop    struct {
		Threshold, Margin float64
		MinimumArea       float64 `json:"minimum_area"`
	}
	Mean, Std []float64
	Cases     []struct {
		Name          string
		Rows, Columns int
		Height, Width int
		Stride        int
		Box, Square   []int // absent: no head
	}
}

func TestPreprocessorGolden(t *testing.T) {
	var g golden
	text, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	data := gunzip(t, "testdata/golden.bin.gz")
	for _, c := range g.Cases {
		t.Run(c.Name, func(t *testing.T) {
			m := &manifest.Manifest{
				Input:         manifest.Input{Height: c.Height, Width: c.Width},
				Crop:          manifest.Crop(g.Crop),
				Normalisation: manifest.Normalisation{Mean: g.Mean, Std: g.Std},
			}
			for _, w := range g.Windows {
				m.Windows = append(m.Windows, manifest.Window(w))
			}
			img := &infer.Image{Rows: c.Rows, Columns: c.Columns, HU: take[int16](t, data, c.Rows*c.Columns)}
			p := NewPreprocessor(m)
			got := make([]float32, len(m.Windows)*c.Height*c.Width)
			err := p.Input(img, got)
			if c.Box == nil {
				if !errors.Is(err, ErrNoHead) {
					t.Fatalf("Input: %v, want ErrNoHead", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b, err := FindHead(img, m.Crop); err != nil || b != (Box{c.Box[0], c.Box[1], c.Box[2], c.Box[3]}) {
				t.Errorf("FindHead: %v, %v, want %v", b, err, c.Box)
			}
			if s, err := p.Square(img); err != nil || s != (Square{c.Square[0], c.Square[1], c.Square[2]}) {
				t.Errorf("Square: %v, %v, want %v", s, err, c.Square)
			}
			worst := 0.0
			for channel := range m.Windows {
				for y := 0; y < c.Height; y += c.Stride {
					want := take[float32](t, data, (c.Width+c.Stride-1)/c.Stride)
					for i, w := range want {
						v := got[(channel*c.Height+y)*c.Width+i*c.Stride]
						worst = max(worst, math.Abs(float64(v-w)))
					}
				}
			}
			if !(worst <= 1e-4) {
				t.Errorf("input differs by up to %g, want at most 1e-4", worst)
			}
		})
	}
	if n := data.Len(); n != 0 {
		t.Errorf("%d golden bytes are left over", n)
	}
}

// TestDecodeRealSlices compares with what pydicom and numpy make of the same
// files (testdata/make_hu.py).
func TestDecodeRealSlices(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "shared", "data", "dicom")
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the DICOM samples are not there: ", folder)
	}
	var slices []struct {
		File, SHA256 string
		Dataset      int64
		Description  Description
	}
	text, err := os.ReadFile("testdata/hu.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &slices); err != nil {
		t.Fatal(err)
	}
	var img infer.Image
	for _, s := range slices {
		f, err := os.Open(filepath.Join(folder, s.File))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Seek(s.Dataset, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if err := Decode(t.Context(), s.Description, f, &img); err != nil {
			t.Fatalf("%s: %v", s.File, err)
		}
		h := sha256.New()
		if err := binary.Write(h, binary.LittleEndian, img.HU); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != s.SHA256 {
			t.Errorf("%s: HU have SHA-256 %s, want %s", s.File, got, s.SHA256)
		}
	}
}

func gunzip(t *testing.T, name string) *bytes.Buffer {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewBuffer(b)
}

func take[T int16 | float32](t *testing.T, r io.Reader, n int) []T {
	t.Helper()
	v := make([]T, n)
	if err := binary.Read(r, binary.LittleEndian, v); err != nil {
		t.Fatal(err)
	}
	return v
}
