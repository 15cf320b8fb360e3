package adapt

import (
	"encoding/json"
	"maps"
	"os"
	"testing"

	"ichwatch/infer"
	"ichwatch/infer/assess"
)

// half are thresholds that are to be exchanged.
func half() map[infer.Class]float64 {
	out := map[infer.Class]float64{}
	for _, c := range infer.Classes()[1:] {
		out[c] = 0.5
	}
	return out
}

// The training recipe, in Python, says the same (testdata/make_golden.py).
func TestThresholdsAreTheRecipes(t *testing.T) {
	text, err := os.ReadFile("testdata/thresholds.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		SliceSensitivity float64 `json:"slice_sensitivity"`
		StudySpecificity float64 `json:"study_specificity"`
		Labels           [][]int
		Probabilities    [][]float64
		Chosen, Raised   map[infer.Class]float64
		Bleeds           []bool
		Scores           [][]float64
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 5 {
		t.Fatalf("%d cases", len(cases))
	}
	for i, c := range cases {
		target := DefaultTarget
		target.SliceSensitivity, target.StudySpecificity = c.SliceSensitivity, c.StudySpecificity
		var s []assess.Slice
		for row, labels := range c.Labels {
			slice := assess.Slice{Probabilities: c.Probabilities[row]}
			for k, yes := range labels {
				slice.Truth.Shows[k] = yes == 1
			}
			s = append(s, slice)
		}
		chosen, err := ChooseThresholds(half(), infer.Classes(), infer.Classes()[1:], s, target)
		if err != nil || !maps.Equal(chosen, c.Chosen) {
			t.Errorf("case %d: chosen %v (%v), want %v", i, chosen, err, c.Chosen)
		}
		var studies []assess.Study
		for row, bleeds := range c.Bleeds {
			study := assess.Study{Scores: c.Scores[row]}
			study.Truth.Shows[infer.Epidural] = bleeds
			studies = append(studies, study)
		}
		if raised := RaiseThresholds(c.Chosen, infer.Classes(), studies, target); !maps.Equal(raised, c.Raised) {
			t.Errorf("case %d: raised %v, want %v", i, raised, c.Raised)
		}
	}
}

func TestThresholdsOfKeptClassesStay(t *testing.T) {
	s := []assess.Slice{{Probabilities: []float64{0.1, 0.3, 0.9, 0, 0, 0}}}
	s[0].Truth.Shows[infer.Epidural] = true
	got, err := ChooseThresholds(half(), infer.Classes(), []infer.Class{infer.Epidural}, s, DefaultTarget)
	want := half()
	want[infer.Epidural] = 0.3
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v (%v), want %v", got, err, want)
	}
	if _, err := ChooseThresholds(half(), infer.Classes(), []infer.Class{infer.Subdural}, s, DefaultTarget); err == nil {
		t.Error("a threshold was chosen from nothing")
	}
	odd := half()
	odd[infer.Subdural] = 0.996 // not in hundredths, and above what is raised to
	if got := RaiseThresholds(odd, infer.Classes(), nil, DefaultTarget); !maps.Equal(got, odd) {
		t.Errorf("%v, want %v", got, odd)
	}
}
