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

// evidenceRule has the class thresholds of rule, and one for the study.
func evidenceRule(threshold, power, thickness float64) *Rule {
	return NewRule(classes, map[infer.Class]float64{
		infer.Epidural: 0.5, infer.Subdural: 0.6, infer.Intraventricular: 0.7, infer.Intraparenchymal: 0.8, infer.Subarachnoid: 0.3,
	}, threshold, manifest.StudyRule{Kind: manifest.RuleEvidence, Power: power, SliceThickness: thickness, HeadHeight: thickness, MinimumSlices: 4, MaximumGap: 15})
}

// suspect gives p to one class, and the rest to normal.
func suspect(c infer.Class, p float32) []float32 {
	s := scores(c, p)
	s[infer.Normal] = 1 - p
	return s
}

// at lays slices of one class at positions.
func at(positions []float64, c infer.Class, p ...float32) []SliceEvidence {
	var e []SliceEvidence
	for i, z := range positions {
		s := SliceEvidence{Position: z}
		if p[i] >= 0 {
			s.Probabilities = suspect(c, p[i])
		}
		e = append(e, s)
	}
	return e
}

// By hand: odds of 0.5 are 1, of 0.8 are 4, of 0.2 are 1/4, of 0.9 are 9; the roots
// 1, 2, 1/2 and 3.
func TestEvidenceScore(t *testing.T) {
	every5 := []float64{0, 5, 10, 15, 20}
	for name, c := range map[string]struct {
		power, thickness float64
		positions        []float64
		p                []float32
		odds             float64 // of the study
	}{
		"one alone":                  {0.5, 5, []float64{7}, []float32{0.8}, 4},
		"two":                        {0.5, 5, every5[:2], []float32{0.8, 0.5}, 9},
		"five":                       {0.5, 5, every5, []float32{0.5, 0.2, 0.8, 0.2, 0.5}, 25},
		"odds added up":              {1, 5, every5, []float32{0.5, 0.2, 0.8, 0.2, 0.5}, 6.5},
		"squares added up":           {2, 5, every5[:2], []float32{0.75, 0.8}, 5},
		"far apart count no more":    {0.5, 5, []float64{0, 12, 24}, []float32{0.5, 0.5, 0.5}, 9},
		"half as thick":              {0.5, 5, []float64{0, 2.5, 5, 7.5}, []float32{0.5, 0.5, 0.8, 0.8}, 9},
		"the extent of each":         {0.5, 5, []float64{0, 1, 4, 14}, []float32{0.5, 0.8, 0.5, 0.5}, 9}, // 0.2*1 + 0.4*2 + 1 + 1
		"half the slice, half of it": {0.5, 10, every5[:4], []float32{0.5, 0.5, 0.8, 0.8}, 9},
		"one failed, which holds":    {0.5, 5, []float64{0, 2.5, 5}, []float32{0.8, -1, 0.8}, 4},   // 0.5*2 + 0.5*2
		"two at a place, the higher": {0.5, 5, []float64{0, 5, 5.02}, []float32{0.5, 0.2, 0.8}, 9}, // 1 + 2
		"certainty has its bounds":   {1, 5, every5[:2], []float32{1, 0.5}, 1 + (1-1e-6)/1e-6},
		"nothing has its bounds":     {1, 5, every5[:2], []float32{0, 0}, 2 * 1e-6 / (1 - 1e-6)},
		"only one that failed":       {0.5, 5, every5[:1], []float32{-1}, 0},
		"powers that are no root":    {0.25, 5, every5[:2], []float32{0.5, 0.5}, 16},                // (1+1)^4
		"nearly the highest":         {4, 5, every5[:2], []float32{0.9, 0.5}, math.Pow(6562, 1./4)}, // 9^4 + 1
	} {
		d := evidenceRule(0.9999, c.power, c.thickness).Evaluate(at(c.positions, infer.Subdural, c.p...))
		if want := c.odds / (1 + c.odds); math.Abs(d.Score-want) > 1e-6*want {
			t.Errorf("%s: %v, want %v", name, d.Score, want)
		}
	}
}

func TestEvidenceDecides(t *testing.T) {
	z := []float64{0, 5, 10, 15, 20}
	r := evidenceRule(0.9, 0.5, 5) // odds of 9: the roots add up to 3
	for name, c := range map[string]struct {
		evidence []SliceEvidence
		verdict  Verdict
		leading  infer.Class
		positive bool  // the leading finding
		slices   []int // of it
		says     string
	}{
		"many slices, none at its threshold": {
			at(z, infer.Subdural, 0.5, 0.5, 0.5, 0.2, 0.1), Positive, infer.Subdural, false,
			[]int{0},
			"suspected subdural hemorrhage: evidence over 5 slices 0.9363, threshold 0.9000; not for diagnosis",
		},
		"one slice alone":    {at(z, infer.Epidural, 0, 0.95, 0, 0, 0), Positive, infer.Epidural, true, []int{1}, "suspected epidural hemorrhage: evidence over 5 slices 0.95"},
		"some at it":         {at(z, infer.Subarachnoid, 0.3, 0.2, 0.6, 0.9, 0), Positive, infer.Subarachnoid, true, []int{0, 2, 3}, "suspected subarachnoid"},
		"too little":         {at(z, infer.Subdural, 0.1, 0.1, 0.6, 0.1, 0.1), Negative, infer.Subdural, false, nil, "evidence of any hemorrhage over 5 slices 0.8674, below the threshold 0.9000; not for diagnosis"},
		"few, but enough":    {at(z[:2], infer.Epidural, 0.9, 0.9), Positive, infer.Epidural, true, []int{0, 1}, "over 2 slices"},
		"too few":            {at(z[:3], infer.Epidural, 0.1, 0.1, 0.1), TooFewSlices, infer.Epidural, false, nil, "3 slices at distinct positions, at least 4 are needed for a negative"},
		"one failed":         {at(z, infer.Epidural, 0.1, -1, 0.1, 0.1, 0.1), SliceFailed, infer.Epidural, false, nil, "1 of 5 slices"},
		"failed, but enough": {at(z, infer.Epidural, 0.9, -1, 0.9, 0.1, 0.1), Positive, infer.Epidural, true, []int{0, 2}, "over 4 slices"},
		"a gap":              {at([]float64{0, 5, 10, 30}, infer.Epidural, 0.1, 0.1, 0.1, 0.1), Gap, infer.Epidural, false, nil, "up to 20.0 mm apart"},
		"a gap, but enough":  {at([]float64{0, 5, 10, 30}, infer.Epidural, 0.1, 0.1, 0.9, 0.1), Positive, infer.Epidural, true, []int{2}, "suspected"},
	} {
		d := r.Evaluate(c.evidence)
		if d.Verdict != c.verdict || d.Leading.Class != c.leading || d.Leading.Positive != c.positive || !slices.Equal(d.Leading.Slices, c.slices) {
			t.Errorf("%s: %v, %+v", name, d.Verdict, d.Leading)
		}
		if !strings.Contains(d.Reason, c.says) {
			t.Errorf("%s: reason %q, want %q", name, d.Reason, c.says)
		}
	}
	if d := r.Evaluate(nil); d.Verdict != TooFewSlices || d.Score != 0 || d.Leading.KeySlice != -1 {
		t.Errorf("nothing: %+v", d)
	}
}

// The class farthest above its own threshold is named, or the one that comes
// nearest to it.
func TestEvidenceLeading(t *testing.T) {
	e := at([]float64{0, 5, 10, 15}, infer.Intraparenchymal, 0.75, 0.7, 0, 0)
	e[2].Probabilities = suspect(infer.Subarachnoid, 0.28)
	e[3].Probabilities = suspect(infer.Subdural, 0.5)
	d := evidenceRule(0.9, 0.5, 5).Evaluate(e)
	if d.Verdict != Positive || d.Leading.Class != infer.Subarachnoid || d.Leading.Positive || d.Leading.KeySlice != 2 || d.Leading.Score != 0.28 {
		t.Errorf("none at its threshold: %+v", d)
	}
	e[0].Probabilities = suspect(infer.Intraparenchymal, 0.85)
	d = evidenceRule(0.9, 0.5, 5).Evaluate(e)
	if d.Leading.Class != infer.Intraparenchymal || !d.Leading.Positive || !slices.Equal(d.Leading.Slices, []int{0}) {
		t.Errorf("one at its threshold: %+v", d.Leading)
	}
	if f := d.Findings[1]; f.Class != infer.Subdural || f.Score != 0.5 || f.Positive || f.Slices != nil || f.KeySlice != 3 {
		t.Errorf("subdural: %+v", f)
	}
	// Not the sum of the classes, and not the highest: what is left beside normal.
	e = []SliceEvidence{{Probabilities: []float32{0.2, 0.2, 0.2, 0.2, 0.2, 0}}}
	if d := evidenceRule(0.8, 0.5, 5).Evaluate(e); math.Abs(d.Score-0.8) > 1e-7 {
		t.Errorf("score %v of a slice that is normal to 0.2", d.Score)
	}
	bare := NewRule(classes[1:], map[infer.Class]float64{}, 0.4, manifest.StudyRule{Kind: manifest.RuleEvidence, Power: 0.5, SliceThickness: 5, HeadHeight: 5, MinimumSlices: 1, MaximumGap: 15})
	if d := bare.Evaluate([]SliceEvidence{{Probabilities: []float32{0.1, 0.5, 0.25, 0, 0}}}); math.Abs(d.Score-0.5) > 1e-7 || !d.Positive() {
		t.Errorf("score %v of a model that does not know normal", d.Score)
	}
}

// anyEvidenceRule draws one whose study threshold evidence often comes near.
func anyEvidenceRule(t *rapid.T) *Rule {
	return evidenceRule(rapid.Float64Range(0.3, 0.999).Draw(t, "threshold"), rapid.SampledFrom([]float64{0.25, 0.5, 1, 2}).Draw(t, "power"),
		rapid.SampledFrom([]float64{0.5, 5, 20}).Draw(t, "thickness"))
}

// A positive study always names a class, a key slice and deciding ones among which
// it is; what is positive is so in a positive study alone.
func TestEvidenceAlwaysHasALeadingFinding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, e := anyEvidenceRule(t), evidence().Draw(t, "evidence")
		d := r.Evaluate(e)
		if d.Positive() != (d.Score >= r.study) || !(d.Score >= 0 && d.Score <= 1) {
			t.Fatalf("%v at %v", d.Verdict, d.Score)
		}
		if d.Positive() && (!d.Leading.Class.Hemorrhage() || d.Leading.KeySlice < 0 || !slices.Contains(d.Leading.Slices, d.Leading.KeySlice)) {
			t.Fatalf("positive with %+v", d.Leading)
		}
		for _, f := range d.Findings {
			if f.Positive != (d.Positive() && f.KeySlice >= 0 && f.Score >= r.threshold(f.Class)) {
				t.Fatalf("%+v in a study that is %v", f, d.Verdict)
			}
			if f.KeySlice >= 0 && e[f.KeySlice].Probabilities[f.Class] != f.Score {
				t.Fatalf("the key slice of %+v has another probability", f)
			}
		}
	})
}

func TestEvidenceIgnoresTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, e := anyEvidenceRule(t), evidence().Draw(t, "evidence")
		a, b := r.Evaluate(e), r.Evaluate(rapid.Permutation(e).Draw(t, "shuffled"))
		if !same(a, b) || a.Score != b.Score {
			t.Fatalf("%+v\nand in another order\n%+v", a, b)
		}
	})
}

// A slice that is sent twice says nothing new.
func TestEvidenceIgnoresDuplicates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, e := anyEvidenceRule(t), evidence().Draw(t, "evidence")
		e = slices.DeleteFunc(e, func(s SliceEvidence) bool { return s.Probabilities == nil || math.IsNaN(s.Position) }) // failures are counted
		if len(e) == 0 {
			return
		}
		again := rapid.SliceOf(rapid.SampledFrom(e)).Draw(t, "again")
		if a, b := r.Evaluate(e), r.Evaluate(append(slices.Clone(e), again...)); !same(a, b) || a.Score != b.Score {
			t.Fatalf("%+v\nand with some twice\n%+v", a, b)
		}
	})
}

// Where slices are no thinner than the rule's, each that arrives raises the score or
// leaves it, in whatever order they come: what was positive stays so.
func TestEvidenceGrowsWithTheSlices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyEvidenceRule(t)
		apart := r.rule.SliceThickness + rapid.Float64Range(samePlace, 5).Draw(t, "farther") // the grid may take 0.1 mm away
		var e []SliceEvidence
		for i, p := range rapid.SliceOfN(rapid.Float32Range(0, 1), 1, 12).Draw(t, "p") {
			e = append(e, SliceEvidence{Position: float64(i) * apart, Probabilities: suspect(infer.Subdural, p)})
		}
		e = rapid.Permutation(e).Draw(t, "order of arrival")
		before := Decision{}
		for n := range e {
			d := r.Evaluate(e[:n+1])
			if d.Score < before.Score-1e-12 || before.Positive() && !d.Positive() {
				t.Fatalf("slice %d: %v (%v), before %v (%v)", n, d.Score, d.Verdict, before.Score, before.Verdict)
			}
			before = d
		}
	})
}

// With thinner ones it may fall, as the documentation says.
func TestEvidenceOfThinSlicesMayFall(t *testing.T) {
	r := evidenceRule(0.9, 0.5, 5)
	e := at([]float64{0, 2, 1}, infer.Epidural, 0.9, 0.9, 0.1)
	if two, three := r.Evaluate(e[:2]), r.Evaluate(e); three.Score >= two.Score {
		t.Errorf("%v with the one in between, %v without", three.Score, two.Score)
	}
}
