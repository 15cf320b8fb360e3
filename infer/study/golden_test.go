package study

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
)

// The training recipe, in Python, decides the same (testdata/make_golden.py).
func TestDecisionsAreTheRecipes(t *testing.T) {
	text, err := os.ReadFile("testdata/decisions.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Rule struct {
			Kind           manifest.RuleKind
			Slices, Of     int
			Power          float64
			SliceThickness float64 `json:"slice_mm"`
			HeadHeight     float64 `json:"head_mm"`
			MinimumSlices  int     `json:"minimum_slices"`
			MaximumGap     float64 `json:"maximum_gap_mm"`
		}
		Thresholds     map[infer.Class]float64
		StudyThreshold float64 `json:"study_threshold"`
		Positions      []float64
		Probabilities  [][]float32
		Verdict        string
		Finding        infer.Class
		Score          float64
		Scores         []float64 // of the hemorrhage classes
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[manifest.RuleKind]map[Verdict]bool{manifest.RuleAdjacent: {}, manifest.RuleEvidence: {}}
	for i, c := range cases {
		var e []SliceEvidence
		for k, z := range c.Positions {
			e = append(e, SliceEvidence{Position: z, Probabilities: c.Probabilities[k]})
		}
		d := NewRule(infer.Classes(), c.Thresholds, c.StudyThreshold, manifest.StudyRule(c.Rule)).Evaluate(e)
		seen[c.Rule.Kind][d.Verdict] = true
		if d.Verdict.String() != c.Verdict || d.Leading.Class != c.Finding || !(math.Abs(d.Score-c.Score) <= 1e-9) {
			t.Errorf("case %d: %v of %v, %.12f; want %s of %v, %.12f", i, d.Verdict, d.Leading.Class, d.Score, c.Verdict, c.Finding, c.Score)
		}
		for k, f := range d.Findings {
			if want := max(c.Scores[k], 0); math.Abs(float64(f.Score)-want) > 1e-9 { // -1: no group is large enough
				t.Errorf("case %d, %v: %v, want %v", i, f.Class, f.Score, want)
			}
		}
	}
	for kind, verdicts := range seen {
		for _, v := range []Verdict{Positive, Negative, TooFewSlices, Gap} {
			if !verdicts[v] {
				t.Errorf("no case of kind %s is %v", kind, v)
			}
		}
	}
}
