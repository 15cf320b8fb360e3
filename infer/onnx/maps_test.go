package onnx

import (
	"errors"
	"math"
	"testing"

	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// The tiny model's logit is the mean of its map plus k/8.
func TestExplain(t *testing.T) {
	c := classifier(t, "tiny", Options{Runners: 1, Maps: true})
	img := head(60)
	want, err := classifier(t, "tiny", Options{Runners: 1}).Classify(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	s, m, err := c.Explain(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	if m.Classes != 6 || m.Rows != 32 || m.Columns != 32 || len(m.Values) != 6*32*32 {
		t.Fatalf("%d maps of %d x %d, %d values", m.Classes, m.Rows, m.Columns, len(m.Values))
	}
	if sq, err := c.Preprocessor().Square(img); err != nil || sq != m.Square {
		t.Errorf("square %v, want %v (%v)", m.Square, sq, err)
	}
	for k := range m.Classes {
		mean := 0.0
		for _, v := range m.Map(k) {
			mean += float64(v) / (32 * 32)
		}
		if logit := mean + float64(k)/8; math.Abs(logit-float64(s.Logits[k])) > 1e-4 || math.Abs(float64(s.Logits[k]-want.Logits[k])) > 1e-5 {
			t.Errorf("class %d: the map says %v, the model %v, without maps %v", k, logit, s.Logits[k], want.Logits[k])
		}
	}
	if again, err := c.Classify(t.Context(), head(20)); err != nil || again.Logits[5] == s.Logits[5] {
		t.Errorf("Classify beside Explain: %v, %v", again, err)
	}
	small := &infer.Image{Rows: 50, Columns: 50, HU: make([]int16, 2500)}
	small.HU[0] = -1000
	if _, _, err := c.Explain(t.Context(), small); err != nil {
		t.Errorf("another size: %v", err)
	}
	air := head(-1000)
	if _, _, err := c.Explain(t.Context(), air); !errors.Is(err, pixel.ErrNoHead) {
		t.Errorf("without a head: %v", err)
	}
}

func TestExplainNeedsMaps(t *testing.T) {
	for name, c := range map[string]*Classifier{
		"not asked for":  classifier(t, "tiny", Options{Runners: 1}),
		"model has none": classifier(t, "slow", Options{Runners: 1, Maps: true}),
	} {
		if _, _, err := c.Explain(t.Context(), head(40)); !errors.Is(err, ErrNoMaps) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Cells are put back where the crop was, their values at their centres.
func TestMapsAt(t *testing.T) {
	m := &Maps{Classes: 2, Rows: 2, Columns: 2, Values: []float32{0, 0, 0, 0, 0, 4, 8, 12}, Square: pixel.Square{Top: 10, Left: -4, Side: 8}}
	for _, c := range []struct {
		row, column int
		want        float32
		inside      bool
	}{
		{9, 0, 0, false},
		{18, 0, 0, false},
		{10, 4, 0, false},
		{10, -5, 0, false},
		{10, -4, 0, true}, // beyond the first centre: its value
		{17, 3, 12, true},
		{10, 3, 4, true},
		{17, -4, 8, true},
		{13, -1, 1.5 + 3, true}, // 3/8 of the way from each first centre to the second
	} {
		if got, inside := m.At(1, c.row, c.column); inside != c.inside || math.Abs(float64(got-c.want)) > 1e-5 {
			t.Errorf("at %d, %d: %v, %t; want %v, %t", c.row, c.column, got, inside, c.want, c.inside)
		}
	}
	if v, _ := m.At(0, 13, -1); v != 0 {
		t.Errorf("the other class: %v", v)
	}
}
