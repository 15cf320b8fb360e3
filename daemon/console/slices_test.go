package console

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"ichwatch/infer"
)

func noise(rows, columns int) *Slice {
	r := rand.New(rand.NewPCG(1, 2))
	img := &Slice{Image: infer.Image{Rows: rows, Columns: columns, HU: make([]int16, rows*columns)}}
	for i := range img.HU {
		img.HU[i] = int16(r.IntN(1 << 16))
	}
	img.HU[0], img.HU[len(img.HU)-1] = math.MinInt16, math.MaxInt16
	return img
}

// What the browser gets is what was stored, to the last bit. undo is the twin of
// that in slices.js.
func TestEncodeHU(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {1, 7}, {7, 1}, {16, 33}} {
		img := noise(size[0], size[1])
		img.PixelSpacing = [2]float64{1, 0.5}
		e, err := encodeHU(img)
		if err != nil {
			t.Fatal(err)
		}
		var head sliceHead
		if err := json.Unmarshal([]byte(e.head), &head); err != nil || head.Rows != size[0] || head.Columns != size[1] || head.Aspect != 2 {
			t.Errorf("%s, %v", e.head, err)
		}
		z, err := gzip.NewReader(bytes.NewReader(e.body))
		if err != nil {
			t.Fatal(err)
		}
		planes, err := io.ReadAll(z)
		if err != nil || len(planes) != 2*len(img.HU) {
			t.Fatalf("%d bytes, %v", len(planes), err)
		}
		for i, v := range undo(planes, head.Rows, head.Columns) {
			if v != img.HU[i] {
				t.Fatalf("%v: pixel %d is %d, was %d", size, i, v, img.HU[i])
			}
		}
	}
}

func undo(planes []byte, rows, columns int) []int16 {
	n := rows * columns
	hu := make([]int16, n)
	for i := range hu {
		before := int16(0)
		switch {
		case i%columns > 0:
			before = hu[i-1]
		case i > 0:
			before = hu[i-columns]
		}
		hu[i] = int16(uint16(before) + (uint16(planes[i]) | uint16(planes[n+i])<<8))
	}
	return hu
}

func TestEncodePNG(t *testing.T) {
	for _, c := range []struct {
		rows, columns int
		spacing       [2]float64
		width, height int
	}{
		{512, 512, [2]float64{0.5, 0.5}, 320, 320},
		{256, 256, [2]float64{}, 256, 256},
		{100, 200, [2]float64{2, 1}, 200, 200},
		{512, 512, [2]float64{1e9, 1}, 320, 320}, // a header may say anything
		{1, 1, [2]float64{}, 1, 1},
	} {
		img := &Slice{Image: infer.Image{Rows: c.rows, Columns: c.columns, HU: make([]int16, c.rows*c.columns), PixelSpacing: c.spacing}}
		for i := range img.HU {
			img.HU[i] = 40 // the middle of the brain window
		}
		e, err := encodePNG(img, windows[0])
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(bytes.NewReader(e.body))
		if err != nil {
			t.Fatal(err)
		}
		if b := picture.Bounds(); b.Dx() != c.width || b.Dy() != c.height {
			t.Errorf("%+v: %v", c, b)
		}
		if r, _, _, _ := picture.At(0, 0).RGBA(); r>>8 != 128 {
			t.Errorf("%+v: grey %d", c, r>>8)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	c.init()
	for i := range 40 {
		c.put(fmt.Sprint(i), encoded{body: make([]byte, maxCache/16)})
		c.get("0")
	}
	if c.size > maxCache || len(c.byKey) != c.order.Len() || len(c.byKey) != 16 {
		t.Errorf("%d bytes of %d slices", c.size, len(c.byKey))
	}
	if _, ok := c.get("0"); !ok {
		t.Error("the one that is used most was dropped")
	}
	if c.put("huge", encoded{body: make([]byte, maxCache/2)}); c.size > maxCache {
		t.Error("a huge one was kept")
	}
}

func TestParseSlice(t *testing.T) {
	for id, want := range map[string]bool{
		"12.0": true, "12.3": true, "12": false, "": false, "0.0": false, "-1.0": false, "12.-1": false, "+12.0": false, "012.0": false,
		"12.0.0": false, "99999999999999999999.0": false,
	} {
		if _, _, ok := parseSlice(id); ok != want {
			t.Errorf("%q: %v", id, ok)
		}
	}
}
