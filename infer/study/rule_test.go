package study

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
)

var classes = infer.Classes()

func rule(k, of, minimum int, gap float64) *Rule {
	return NewRule(classes, map[infer.Class]float64{
		infer.Epidural: 0.5, infer.Subdural: 0.6, infer.Intraventricular: 0.7, infer.Intraparenchymal: 0.8, infer.Subarachnoid: 0.3,
	}, 0, manifest.StudyRule{Kind: manifest.RuleAdjacent, Slices: k, Of: of, MinimumSlices: minimum, MaximumGap: gap})
}

// scores gives p to one class and nothing to the others.
func scores(c infer.Class, p float32) []float32 {
	s := make([]float32, len(classes))
	s[c] = p
	return s
}

// stack lays slices 5 mm apart: + is epidural at 0.9, - shows nothing, x failed.
func stack(pattern string) []SliceEvidence {
	var e []SliceEvidence
	for i, c := range pattern {
		s := SliceEvidence{Position: 5 * float64(i)}
		switch c {
		case '+':
			s.Probabilities = scores(infer.Epidural, 0.9)
		case '-':
			s.Probabilities = scores(infer.Normal, 1)
		case ' ':
			continue
		}
		e = append(e, s)
	}
	return e
}

func TestEvaluate(t *testing.T) {
	for _, c := range []struct {
		pattern string
		want    Verdict
		slices  []int
	}{
		{"", TooFewSlices, nil},
		{"-------", TooFewSlices, nil},
		{"--------", Negative, nil},
		{"---+----", Negative, nil},
		{"---++---", Positive, []int{3, 4}},
		{"---+-+--", Positive, []int{3, 5}},
		{"---+--+-", Negative, nil},
		{"------++", Positive, []int{6, 7}},
		{"++------", Positive, []int{0, 1}},
		{"++", Positive, []int{0, 1}}, // however little was seen
		{"----x---", SliceFailed, nil},
		{"---+x+--", Positive, []int{3, 5}}, // a slice that failed holds its place
		{"---+xx+-", SliceFailed, nil},
		{"x", SliceFailed, nil},
		{"----    ----", Gap, nil},
		{"---+    +---", Gap, nil}, // 25 mm apart are no neighbours
		{"---+  +----", Positive, []int{3, 4}},
		{"-----++    ----", Positive, []int{5, 6}},
	} {
		d := rule(2, 3, 8, 15).Evaluate(stack(c.pattern))
		if d.Verdict != c.want || !slices.Equal(d.Leading.Slices, c.slices) {
			t.Errorf("%q: %v in %v, want %v in %v", c.pattern, d.Verdict, d.Leading.Slices, c.want, c.slices)
		}
		if d.Reason == "" || (d.Positive() && !(strings.Contains(d.Reason, "suspected epidural") && strings.Contains(d.Reason, "not for diagnosis"))) {
			t.Errorf("%q: reason %q", c.pattern, d.Reason)
		}
		if len(d.Findings) != 5 {
			t.Errorf("%q: %d findings", c.pattern, len(d.Findings))
		}
	}
}

func TestEvaluateLeading(t *testing.T) {
	e := stack("---------")
	e[2].Probabilities[infer.Epidural] = 0.95 // alone
	e[4].Probabilities[infer.Subdural] = 0.85
	e[5].Probabilities[infer.Subdural] = 0.75
	e[6].Probabilities[infer.Subdural] = 0.65
	e[7].Probabilities[infer.Subarachnoid] = 0.31
	e[8].Probabilities[infer.Subarachnoid] = 0.32
	d := rule(2, 3, 8, 15).Evaluate(e)
	lead := d.Leading
	if lead.Class != infer.Subdural || lead.Score != 0.75 || lead.KeySlice != 4 || !slices.Equal(lead.Slices, []int{4, 5, 6}) {
		t.Errorf("leading is %+v", lead)
	}
	if !strings.Contains(d.Reason, "3 of 3 neighbouring slices at or above 0.6;") || d.Threshold != float64(float32(0.6)) || d.Score != 0.75 {
		t.Errorf("reason %q", d.Reason)
	}
	if sah := d.Findings[4]; !sah.Positive || sah.Score != 0.31 || sah.KeySlice != 8 {
		t.Errorf("subarachnoid is %+v", sah)
	}
	if edh := d.Findings[0]; edh.Positive || edh.Score != 0 || edh.Slices != nil {
		t.Errorf("epidural is %+v", edh)
	}
}

// A threshold is reached at the value itself, in the classifier's precision.
func TestEvaluateAtTheThreshold(t *testing.T) {
	r := rule(1, 1, 1, 15)
	at := []SliceEvidence{{Probabilities: scores(infer.Intraventricular, float32(0.7))}}
	below := []SliceEvidence{{Probabilities: scores(infer.Intraventricular, math.Nextafter32(0.7, 0))}}
	if d := r.Evaluate(at); !d.Positive() {
		t.Errorf("at the threshold: %v", d.Verdict)
	}
	if d := r.Evaluate(below); d.Verdict != Negative {
		t.Errorf("below the threshold: %v", d.Verdict)
	}
}

// Two kernels of one acquisition, or a slice sent twice, are one place.
func TestEvaluateCountsAPlaceOnce(t *testing.T) {
	e := stack("---+----")
	d := rule(2, 3, 8, 15).Evaluate(append(e, e...))
	if d.Verdict != Negative || d.Places != 8 {
		t.Errorf("%v over %d places, want negative over 8", d.Verdict, d.Places)
	}
	if d := rule(2, 3, 9, 15).Evaluate(append(e, e...)); d.Verdict != TooFewSlices {
		t.Errorf("%v, want too few slices", d.Verdict)
	}
}

// Slices exactly as far apart as is accepted are neighbours, wherever the stack
// begins.
func TestEvaluateAcceptsTheLargestGap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Float64Range(-500, 500).Draw(t, "start")
		var near, far []SliceEvidence
		for i := range 8 {
			near = append(near, SliceEvidence{Position: start + 15*float64(i), Probabilities: scores(infer.Normal, 1)})
			far = append(far, SliceEvidence{Position: start + 15.25*float64(i), Probabilities: scores(infer.Normal, 1)})
		}
		r := rule(2, 3, 8, 15)
		if d := r.Evaluate(near); d.Verdict != Negative {
			t.Fatalf("15 mm apart: %s", d.Reason)
		}
		if d := r.Evaluate(far); d.Verdict != Gap {
			t.Fatalf("15.25 mm apart: %s", d.Reason)
		}
	})
}

// A third slice in the place of one of two must not move them apart.
func TestEvaluateHoldsPlacesStill(t *testing.T) {
	r := rule(2, 2, 1, 10)
	p := scores(infer.Epidural, 1)
	e := []SliceEvidence{{10, p}, {0.0625, p}, {-0.03125, p}}
	if d := r.Evaluate(e[:2]); !d.Positive() {
		t.Errorf("two: %s", d.Reason)
	}
	if d := r.Evaluate(e); !d.Positive() {
		t.Errorf("three: %s", d.Reason)
	}
}

// Promise 4: what could not be judged never ends as negative.
func TestPromise4_WhatWasNotJudgedIsNeverNegative(t *testing.T) {
	r := rule(2, 3, 8, 15)
	for name, broken := range map[string]SliceEvidence{
		"no scores":           {Position: 20},
		"a score missing":     {Position: 20, Probabilities: make([]float32, 5)},
		"a score too many":    {Position: 20, Probabilities: make([]float32, 7)},
		"a score no number":   {Position: 20, Probabilities: scores(infer.Epidural, float32(math.NaN()))},
		"a score above 1":     {Position: 20, Probabilities: scores(infer.Epidural, 1.5)},
		"a score below 0":     {Position: 20, Probabilities: scores(infer.Epidural, -0.5)},
		"no position":         {Position: math.NaN(), Probabilities: scores(infer.Normal, 1)},
		"an endless position": {Position: math.Inf(1), Probabilities: scores(infer.Normal, 1)},
	} {
		d := r.Evaluate(append(stack("----------"), broken))
		if d.Verdict != SliceFailed || d.Failed != 1 {
			t.Errorf("%s: %v with %d failed", name, d.Verdict, d.Failed)
		}
	}
	var nothing Decision
	if nothing.Verdict == Negative || nothing.Positive() {
		t.Error("a decision that was not made reads as one")
	}
}

// evidence draws stacks that are hard on the rule: few positions, many of them
// near each other, scores at and around the thresholds.
func evidence() *rapid.Generator[[]SliceEvidence] {
	one := rapid.Custom(func(t *rapid.T) SliceEvidence {
		s := SliceEvidence{Position: rapid.OneOf(
			rapid.SampledFrom([]float64{-10, -5, -2.5, 0, 0.05, 0.1, 0.15, 1.25, 2.5, 5, 10, 30, math.NaN()}),
			rapid.Float64Range(-40, 40)).Draw(t, "position")}
		if rapid.IntRange(0, 9).Draw(t, "failed") == 0 {
			return s
		}
		s.Probabilities = make([]float32, len(classes))
		for i := range s.Probabilities {
			s.Probabilities[i] = rapid.SampledFrom([]float32{0, 0.2, 0.3, 0.5, 0.55, 0.6, 0.7, 0.75, 0.8, 1}).Draw(t, "p")
		}
		return s
	})
	return rapid.SliceOfN(one, 0, 14)
}

func anyRule(t *rapid.T) *Rule {
	k := rapid.IntRange(1, 3).Draw(t, "k")
	return rule(k, rapid.IntRange(k, 5).Draw(t, "of"), rapid.IntRange(1, 6).Draw(t, "minimum"), rapid.SampledFrom([]float64{3, 10, 100}).Draw(t, "gap"))
}

// same compares decisions but for the indices, which are the caller's order.
func same(a, b Decision) bool {
	strip := func(f Finding) Finding {
		f.Slices, f.KeySlice = nil, 0
		return f
	}
	for i := range a.Findings {
		x, y := strip(a.Findings[i]), strip(b.Findings[i])
		if x.Class != y.Class || x.Score != y.Score || x.Positive != y.Positive || len(a.Findings[i].Slices) != len(b.Findings[i].Slices) {
			return false
		}
	}
	return a.Verdict == b.Verdict && a.Reason == b.Reason && a.Leading.Class == b.Leading.Class &&
		a.Places == b.Places && a.Failed == b.Failed && a.LargestGap == b.LargestGap
}

func TestEvaluateIgnoresTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, e := anyRule(t), evidence().Draw(t, "evidence")
		shuffled := rapid.Permutation(e).Draw(t, "shuffled")
		if a, b := r.Evaluate(e), r.Evaluate(shuffled); !same(a, b) {
			t.Fatalf("%+v\nand in another order\n%+v", a, b)
		}
	})
}

func TestEvaluateIgnoresTheDirection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, e := anyRule(t), evidence().Draw(t, "evidence")
		mirrored := slices.Clone(e)
		for i := range mirrored {
			e[i].Position = math.Round(e[i].Position) // so that places mirror onto places
			mirrored[i].Position = -e[i].Position
		}
		a, b := r.Evaluate(e), r.Evaluate(mirrored)
		if a.Verdict != b.Verdict || a.Leading.Score != b.Leading.Score {
			t.Fatalf("%+v\nand mirrored\n%+v", a, b)
		}
	})
}

// A further slice that is positive for the leading class never takes a suspicion
// back, wherever it lies.
func TestEvaluateNeverWithdrawsForAPositiveSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, e := anyRule(t), evidence().Draw(t, "evidence")
		before := r.Evaluate(e)
		for _, f := range before.Findings {
			if !f.Positive {
				continue
			}
			further := SliceEvidence{Position: rapid.Float64Range(-40, 40).Draw(t, "position"), Probabilities: scores(f.Class, 1)}
			after := r.Evaluate(append(slices.Clone(e), further))
			if !after.Positive() {
				t.Fatalf("%v became %v with %v at %v", before.Reason, after.Reason, f.Class, further.Position)
			}
		}
	})
}

// Raising a probability never turns positive into anything else.
func TestEvaluateIsMonotoneInTheScores(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, e := anyRule(t), evidence().Draw(t, "evidence")
		before := r.Evaluate(e)
		if !before.Positive() {
			return
		}
		i := rapid.IntRange(0, len(e)-1).Draw(t, "slice")
		if e[i].Probabilities == nil {
			return
		}
		raised := slices.Clone(e)
		raised[i].Probabilities = slices.Clone(e[i].Probabilities)
		raised[i].Probabilities[rapid.IntRange(1, 5).Draw(t, "class")] = 1
		if after := r.Evaluate(raised); !after.Positive() || after.Leading.Score < 0 {
			t.Fatalf("%s became %s", before.Reason, after.Reason)
		}
	})
}

// The decision agrees with a plain reading of the rule, and the indices point at
// slices that are what they are said to be.
func TestEvaluateAgreesWithThePlainReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(1, 3).Draw(t, "k")
		of := rapid.IntRange(k, 5).Draw(t, "of")
		r := rule(k, of, 1, 7)
		e := stack(rapid.StringMatching(`[-+x]{1,12}`).Draw(t, "pattern"))
		want := false
		for i := range e {
			n := 0
			for _, s := range e[i:min(i+of, len(e))] {
				if s.Probabilities != nil && s.Probabilities[infer.Epidural] >= 0.5 {
					n++
				}
			}
			want = want || n >= k
		}
		d := r.Evaluate(e)
		if d.Positive() != want {
			t.Fatalf("%v, want positive: %v", d.Verdict, want)
		}
		if len(d.Leading.Slices) < k && d.Positive() {
			t.Fatalf("deciding slices %v, at least %d are needed", d.Leading.Slices, k)
		}
		for _, i := range d.Leading.Slices {
			if e[i].Probabilities[infer.Epidural] < 0.5 {
				t.Fatalf("slice %d is named and is not positive", i)
			}
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	r := rule(2, 3, 8, 15)
	e := stack(strings.Repeat("-", 300) + "++" + strings.Repeat("-", 18))
	b.ReportAllocs()
	for b.Loop() {
		if !r.Evaluate(e).Positive() {
			b.Fatal("not positive")
		}
	}
}
