package adapt

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"ichwatch/infer"
	"ichwatch/infer/assess"
)

// Target says which thresholds are looked for. The training recipes have the same
// numbers under thresholds.
type Target struct {
	SliceSensitivity float64 // of each class
	Floor, Ceiling   float64 // between which a threshold is kept for that
	StudySpecificity float64 // for which thresholds are raised, beyond Ceiling if need be
}

// DefaultTarget is that of the recipes in models/train.
var DefaultTarget = Target{SliceSensitivity: 0.90, Floor: 0.20, Ceiling: 0.50, StudySpecificity: 0.95}

// ChooseThresholds gives old with another threshold for each class in adapted:
// the highest, in hundredths, that finds the wanted share of the slices that show
// the class, within floor and ceiling. choose_thresholds in
// models/train/ichtrain/metrics.py does the same.
func ChooseThresholds(old map[infer.Class]float64, classes, adapted []infer.Class, s []assess.Slice, t Target) (map[infer.Class]float64, error) {
	out := maps.Clone(old)
	for k, c := range classes {
		if !slices.Contains(adapted, c) {
			continue
		}
		var p []float64
		for _, slice := range s {
			if shown, known := slice.Truth.Class(c); shown && known {
				p = append(p, slice.Probabilities[k])
			}
		}
		if len(p) == 0 {
			return nil, fmt.Errorf("no slice of class %s to choose a threshold from", c)
		}
		slices.Sort(p)
		at := p[int(math.Floor(float64(len(p))*(1-t.SliceSensitivity)+1e-9))]
		out[c] = max(t.Floor, min(t.Ceiling, math.Floor(at*100)/100))
	}
	return out, nil
}

// RaiseThresholds raises thresholds until whole studies without a hemorrhage reach
// the wanted specificity, at the least cost in study sensitivity: those that may
// stay positive are chosen one by one, each time the one whose exclusion keeps
// most bleeding studies positive. raise_thresholds in
// models/train/ichtrain/metrics.py does the same.
func RaiseThresholds(thresholds map[infer.Class]float64, classes []infer.Class, studies []assess.Study, t Target) map[infer.Class]float64 {
	var columns []int // of hemorrhage classes
	for k, c := range classes {
		if c.Hemorrhage() {
			columns = append(columns, k)
		}
	}
	var calm, bleeding []assess.Study
	for _, s := range studies {
		if s.Truth.Any() {
			bleeding = append(bleeding, s)
		} else {
			calm = append(calm, s)
		}
	}
	// needed are the thresholds at which none of the studies kept is positive.
	needed := func(kept []bool, without int) []float64 {
		out := make([]float64, len(columns))
		for i, k := range columns {
			highest := 0.0
			for j, s := range calm {
				if kept[j] && j != without {
					highest = max(highest, s.Scores[k])
				}
			}
			above := math.Ceil(math.Nextafter(highest, 1)*100) / 100
			out[i] = max(thresholds[classes[k]], min(above, 0.99))
		}
		return out
	}
	found := func(at []float64) (n int) {
		for _, s := range bleeding {
			for i, k := range columns {
				if s.Scores[k] >= at[i] {
					n++
					break
				}
			}
		}
		return n
	}
	kept := slices.Repeat([]bool{true}, len(calm))
	for range int(math.Floor(float64(len(calm))*(1-t.StudySpecificity) + 1e-9)) {
		best, most, lowest := -1, 0, 0.0
		for j := range calm {
			if !kept[j] {
				continue
			}
			at := needed(kept, j)
			n, sum := found(at), 0.0
			for _, v := range at {
				sum += v
			}
			// Among equals the lowest thresholds, then the last study.
			if best < 0 || cmp.Or(cmp.Compare(n, most), cmp.Compare(lowest, sum)) >= 0 {
				best, most, lowest = j, n, sum
			}
		}
		kept[best] = false
	}
	out := maps.Clone(thresholds)
	for i, v := range needed(kept, -1) {
		if c := classes[columns[i]]; v > out[c] {
			out[c] = math.Round(v*100) / 100
		}
	}
	return out
}
