package pixel

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
)

func testManifest(height, width int) *manifest.Manifest {
	return &manifest.Manifest{
		Input:         manifest.Input{Name: "image", Height: height, Width: width},
		Windows:       []manifest.Window{{Centre: 40, Width: 80}, {Centre: 80, Width: 200}, {Centre: 600, Width: 2800}},
		Crop:          manifest.Crop{Threshold: -300, Margin: 0.06, MinimumArea: 0.04},
		Normalisation: manifest.Normalisation{Mean: []float64{0.5, 0.5, 0.5}, Std: []float64{0.25, 0.25, 0.25}},
	}
}

// ellipse is a head of water in a skull, with texture, in air.
func ellipse(rows, columns int, cy, cx, ry, rx float64) *infer.Image {
	img := &infer.Image{Rows: rows, Columns: columns, HU: make([]int16, rows*columns)}
	noise := uint32(1)
	for y := range rows {
		for x := range columns {
			noise = noise*1664525 + 1013904223
			dy, dx := (float64(y)-cy)/ry, (float64(x)-cx)/rx
			hu := -1000
			switch d := dy*dy + dx*dx; {
			case d < 0.85:
				hu = 35
			case d < 1:
				hu = 900
			}
			img.HU[y*columns+x] = int16(hu + int(noise>>27) - 16)
		}
	}
	return img
}

// Whatever the slice's and the input's sizes: an input that is finite and within
// what the windows allow, or a refusal.
func TestInputAlwaysWithinTheWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, columns := rapid.IntRange(1, 300).Draw(t, "rows"), rapid.IntRange(1, 300).Draw(t, "columns")
		img := ellipse(rows, columns,
			rapid.Float64Range(0, float64(rows)).Draw(t, "cy"), rapid.Float64Range(0, float64(columns)).Draw(t, "cx"),
			rapid.Float64Range(1, 200).Draw(t, "ry"), rapid.Float64Range(1, 200).Draw(t, "rx"))
		p := NewPreprocessor(testManifest(rapid.IntRange(16, 70).Draw(t, "height"), rapid.IntRange(16, 70).Draw(t, "width")))
		shape := p.Shape()
		dst := make([]float32, shape[0]*shape[1]*shape[2])
		for i := range dst {
			dst[i] = float32(math.NaN()) // every value must be written
		}
		if err := p.Input(img, dst); err != nil {
			if !errors.Is(err, ErrNoHead) {
				t.Fatal(err)
			}
			return
		}
		for i, v := range dst {
			if !(v >= -2.0001 && v <= 2.0001) { // (0-0.5)/0.25 to (1-0.5)/0.25
				t.Fatalf("value %d is %v", i, v)
			}
		}
		b, err := FindHead(img, p.crop)
		if err != nil || b.Top < 0 || b.Left < 0 || b.Bottom >= rows || b.Right >= columns || b.Top > b.Bottom || b.Left > b.Right {
			t.Fatalf("box %v in %d x %d, %v", b, rows, columns, err)
		}
	})
}

// What lies around the head, a table or a larger field of view, does not change
// the input as long as the grid stays the same.
func TestInputIgnoresTheSurroundings(t *testing.T) {
	p := NewPreprocessor(testManifest(64, 64))
	plain := ellipse(200, 200, 90, 100, 60, 50)
	table := ellipse(200, 200, 90, 100, 60, 50)
	for i := 180 * 200; i < 183*200; i++ {
		table.HU[i] = 100
	}
	shifted := &infer.Image{Rows: 210, Columns: 230, HU: make([]int16, 210*230)}
	for i := range shifted.HU {
		shifted.HU[i] = Air
	}
	for y := range 200 {
		copy(shifted.HU[(y+10)*230+20:], plain.HU[y*200:(y+1)*200])
	}
	want, got := make([]float32, 3*64*64), make([]float32, 3*64*64)
	if err := p.Input(plain, want); err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]*infer.Image{"table": table, "shifted": shifted} {
		if err := p.Input(img, got); err != nil {
			t.Fatal(name, err)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s: value %d is %v, want %v", name, i, got[i], want[i])
			}
		}
	}
}

// Slices exported in one window have no air; its lower end stands for it. The
// same cases hold in models/train/ichtrain/selftest.py.
func TestFindHeadWhereAirIsClipped(t *testing.T) {
	crop := testManifest(16, 16).Crop
	clipped := func(low, high int16) *infer.Image {
		img := ellipse(512, 512, 250, 260, 200, 160)
		for i, hu := range img.HU {
			img.HU[i] = min(max(hu, low), high)
		}
		return img
	}
	level := func(outside, inside, corner int16) *infer.Image {
		img := &infer.Image{Rows: 128, Columns: 128, HU: slices.Repeat([]int16{outside}, 128*128)}
		for y := 30; y < 90; y++ {
			copy(img.HU[y*128+30:], slices.Repeat([]int16{inside}, 60))
		}
		img.HU[0] = corner
		return img
	}
	whole, err := FindHead(clipped(-1024, 3000), crop)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		img  *infer.Image
		want Box // zero: no head
	}{
		"window 40/80":                 {clipped(0, 80), whole},
		"window 40/120":                {clipped(-20, 100), whole},
		"just above the threshold":     {clipped(-299, 500), whole},
		"noise below what stands out":  {level(9, 40, 0), Box{30, 30, 89, 89}},
		"at the threshold is no air":   {level(-300, -290, -300), Box{30, 30, 89, 89}},
		"a single pixel below it is":   {level(-300, -290, -301), Box{0, 0, 127, 127}},
		"nothing stands out":           {level(-300, -291, -300), Box{}},
		"one value":                    {level(40, 40, 40), Box{}},
		"one value, nothing above it":  {level(math.MaxInt16, math.MaxInt16, math.MaxInt16), Box{}},
		"the densest that can be told": {level(math.MaxInt16-10, math.MaxInt16, math.MaxInt16-10), Box{30, 30, 89, 89}},
	} {
		got, err := FindHead(c.img, crop)
		if got != c.want || errors.Is(err, ErrNoHead) != (c.want == Box{}) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

func TestInputConcurrent(t *testing.T) {
	p := NewPreprocessor(testManifest(48, 48))
	small, large := ellipse(100, 120, 50, 60, 40, 35), ellipse(260, 240, 130, 120, 110, 90)
	want := map[*infer.Image][]float32{}
	for _, img := range []*infer.Image{small, large} {
		want[img] = make([]float32, 3*48*48)
		if err := p.Input(img, want[img]); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		for img, w := range want {
			wg.Go(func() {
				got := make([]float32, len(w))
				for range 20 {
					if err := p.Input(img, got); err != nil {
						t.Error(err)
						return
					}
					for i := range got {
						if got[i] != w[i] {
							t.Errorf("value %d is %v, want %v", i, got[i], w[i])
							return
						}
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestInputAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools at random")
	}
	p := NewPreprocessor(testManifest(64, 64))
	img := ellipse(256, 256, 128, 128, 100, 80)
	dst := make([]float32, 3*64*64)
	if n := testing.AllocsPerRun(50, func() {
		if err := p.Input(img, dst); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a slice", n)
	}
}

func TestInputRefusesWrongSizes(t *testing.T) {
	p := NewPreprocessor(testManifest(16, 16))
	img := ellipse(64, 64, 32, 32, 25, 25)
	if err := p.Input(img, make([]float32, 3*16*16-1)); err == nil {
		t.Error("too little room was taken")
	}
	short := *img
	short.HU = short.HU[1:]
	if err := p.Input(&short, make([]float32, 3*16*16)); err == nil {
		t.Error("an image with a pixel missing was taken")
	}
}

func BenchmarkInput(b *testing.B) {
	p := NewPreprocessor(testManifest(224, 224))
	img := ellipse(512, 512, 250, 256, 215, 170) // side 482: as large as heads come
	dst := make([]float32, 3*224*224)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Input(img, dst); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFindHead(b *testing.B) {
	img := ellipse(512, 512, 250, 256, 215, 170)
	crop := testManifest(224, 224).Crop
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FindHead(img, crop); err != nil {
			b.Fatal(err)
		}
	}
}
