package ensemble

import (
	"math"
	"slices"
	"testing"

	"ichwatch/infer/onnx"
	"ichwatch/infer/pixel"
)

// two answer in the same order of two classes.
func two() *Classifier {
	return &Classifier{members: []member{{at: []int{0, 1}}, {at: []int{0, 1}}}}
}

func near(got, want []float32, by float64) bool {
	return slices.EqualFunc(got, want, func(g, w float32) bool { return math.Abs(float64(g-w)) <= by })
}

func TestBlend(t *testing.T) {
	square := pixel.Square{Top: 10, Left: -4, Side: 8}
	m := &onnx.Maps{Classes: 2, Rows: 2, Columns: 2, Values: []float32{0, 0, 0, 4, 1, 2, 3, 4}, Square: square}
	times := func(f float32, m *onnx.Maps) *onnx.Maps {
		out := *m
		out.Values = slices.Clone(m.Values)
		for i := range out.Values {
			out.Values[i] *= f
		}
		return &out
	}
	flat := times(0, m)
	for name, c := range map[string]struct {
		a, b *onnx.Maps
		want []float32
	}{
		"the same twice":        {m, m, m.Values},
		"of louder networks":    {m, times(3, m), times(2, m).Values}, // and not nearer to the louder one
		"one that sees nothing": {m, flat, []float32{0.25, 0.25, 0.25, 1.25, 0.875, 1.125, 1.375, 1.625}},
		"neither sees anything": {flat, flat, flat.Values},
		"against each other":    {m, times(-1, m), make([]float32, 8)},
	} {
		got := two().blend([]*onnx.Maps{c.a, c.b})
		if got.Square != square || got.Rows != 2 || got.Columns != 2 || got.Classes != 2 || !near(got.Values, c.want, 1e-5) {
			t.Errorf("%s: %+v, want %v", name, got, c.want)
		}
	}
	// Classes in another order find each other.
	c := two()
	c.members[1].at = []int{1, 0}
	swapped := *m
	swapped.Values = slices.Concat(m.Values[4:], m.Values[:4])
	if got := c.blend([]*onnx.Maps{m, &swapped}); !near(got.Values, m.Values, 1e-5) {
		t.Errorf("swapped: %v, want %v", got.Values, m.Values)
	}
}

// Maps of different cells over different parts: the blend covers both, as finely
// as the finer.
func TestBlendOfDifferentShapes(t *testing.T) {
	narrow := &onnx.Maps{Classes: 2, Rows: 4, Columns: 4, Values: make([]float32, 32), Square: pixel.Square{Top: 20, Left: 20, Side: 40}}
	wide := &onnx.Maps{Classes: 2, Rows: 2, Columns: 2, Values: make([]float32, 8), Square: pixel.Square{Top: 0, Left: 0, Side: 80}}
	narrow.Values[5], wide.Values[3] = 8, 8 // at 35, 35 and at 60, 60
	got := two().blend([]*onnx.Maps{narrow, wide})
	if got.Square != wide.Square || got.Rows != 8 || got.Columns != 8 || len(got.Values) != 128 {
		t.Fatalf("%+v", got)
	}
	class := got.Map(0)
	if peak := slices.Index(class, slices.Max(class)); peak != 3*8+3 && peak != 5*8+5 && peak < 6*8+6 {
		t.Errorf("the peak is in cell %d of %v", peak, class)
	}
	if in, out := class[3*8+3], class[3*8+5]; in <= out {
		t.Errorf("what the narrow one sees at 35, 35 is lost: %v, beside it %v", in, out)
	}
	if in, out := class[7*8+7], class[0]; in <= out {
		t.Errorf("what the wide one sees at 60, 60 is lost: %v, in the other corner %v", in, out)
	}
	for _, v := range got.Map(1) {
		if v != 0 {
			t.Fatalf("the other class: %v", got.Map(1))
		}
	}
}

func TestAround(t *testing.T) {
	for _, c := range []struct {
		squares []pixel.Square
		want    pixel.Square
	}{
		{[]pixel.Square{{Top: 3, Left: 4, Side: 5}}, pixel.Square{Top: 3, Left: 4, Side: 5}},
		{[]pixel.Square{{Top: 3, Left: 4, Side: 5}, {Top: 4, Left: 5, Side: 2}}, pixel.Square{Top: 3, Left: 4, Side: 5}},
		{[]pixel.Square{{Top: 0, Left: 0, Side: 10}, {Top: -6, Left: 0, Side: 10}}, pixel.Square{Top: -6, Left: -3, Side: 16}},
	} {
		if got := around(c.squares); got != c.want {
			t.Errorf("around %v: %v, want %v", c.squares, got, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	a, b := load(t, "tiny", "a"), load(t, "tiny", "b", turned...)
	c := classifier(t, onnx.Options{Runners: 1, Maps: true}, a, b)
	want, err := c.Classify(t.Context(), head(60))
	if err != nil {
		t.Fatal(err)
	}
	s, maps, err := c.Explain(t.Context(), head(60))
	if err != nil || !near(s.Probabilities, want.Probabilities, 1e-6) {
		t.Fatalf("%v, %v; want %v", s, err, want)
	}
	square, err := c.Square(head(60))
	if err != nil || maps.Square != square || maps.Rows != 36 || maps.Columns != 36 || maps.Classes != 6 { // 32 cells of b, which sees less, are 36 here
		t.Errorf("%d maps of %d x %d over %v, want %v (%v)", maps.Classes, maps.Rows, maps.Columns, maps.Square, square, err)
	}
	one, err := classifier(t, onnx.Options{Runners: 1}, a).Square(head(60))
	if err != nil || one != square {
		t.Errorf("the wider of the two sees %v, both %v (%v)", one, square, err)
	}
}
