package adapt

import (
	"fmt"
	"math"
	"slices"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// Goal is what the thresholds of an operating point are chosen for: a sensitivity
// of studies or, where that is 0, a specificity of studies.
type Goal struct {
	Name                               string
	StudySensitivity, StudySpecificity float64
	// SliceSpecificity is what the thresholds of slices keep where a threshold of its
	// own decides about the study; otherwise it is not read.
	SliceSpecificity float64
}

// Goals are those of the recipes in models/train, by rising thresholds.
func Goals() []Goal {
	return []Goal{
		{Name: "sensitive", StudySensitivity: 0.97, SliceSpecificity: 0.85},
		{Name: DefaultGoal, StudySensitivity: 0.92, SliceSpecificity: 0.90},
		{Name: "specific", StudySpecificity: 0.95, SliceSpecificity: 0.95},
	}
}

// DefaultGoal is the operating point in use where a site names none.
const DefaultGoal = "balanced"

// String says what is wanted of studies.
func (g Goal) String() string {
	if g.StudySensitivity > 0 {
		return fmt.Sprintf("a study sensitivity of %g", g.StudySensitivity)
	}
	return fmt.Sprintf("a study specificity of %g", g.StudySpecificity)
}

// shares are the choices of Choose: of the slices without a hemorrhage, how many
// each class may flag.
const (
	numShares                 = 120
	lowestShare, highestShare = 0.0005, 0.4
	lowest, highest           = 0.02, 0.98 // of a threshold
)

// NoStudiesError is a set whose studies no threshold can be chosen from.
type NoStudiesError struct {
	With, Without int // studies with and without a hemorrhage that could be analysed
}

// Error tells what is missing.
func (e *NoStudiesError) Error() string {
	return fmt.Sprintf("thresholds serve whole studies, and of those that could be analysed %d have a hemorrhage and %d have none; wanted are some of both, with slices whose order is known", e.With, e.Without)
}

// Choose gives an operating point whose thresholds serve the goal on d, with nothing
// expected of it yet.
//
// One number moves those of all classes, the share of slices without a hemorrhage
// that each class may flag: where few patients show a class, a threshold that moved
// alone would be theirs. Where d has no StudyThreshold, the number is the smallest
// that reaches the wanted sensitivity of studies, or the largest that keeps their
// specificity. Where it has one, that threshold is chosen anew for the studies, and
// the number is the largest that keeps the wanted specificity of slices.
// choose_point in models/train/ichtrain/metrics.py does the same. The error is a
// *NoStudiesError. Points puts those of several goals in order.
func (g Goal) Choose(d *assess.Data) (manifest.OperatingPoint, error) {
	o := manifest.OperatingPoint{Name: g.Name}
	var calm [][]float64 // of each hemorrhage class, sorted
	for k, c := range d.Classes {
		if !c.Hemorrhage() {
			continue
		}
		var p []float64
		for _, s := range d.Slices {
			if !s.Truth.Any() {
				p = append(p, s.Probabilities[k])
			}
		}
		slices.Sort(p)
		calm = append(calm, p)
	}
	e := NoStudiesError{}
	for _, s := range d.Studies {
		switch {
		case !analysed(s):
		case s.Truth.Any():
			e.With++
		default:
			e.Without++
		}
	}
	if e.With == 0 || e.Without == 0 || len(calm) == 0 || len(calm[0]) == 0 {
		return o, &e
	}
	if d.StudyThreshold > 0 {
		o.StudyThreshold = g.studyThreshold(d)
	}
	for i := range numShares {
		share := lowestShare * math.Pow(highestShare/lowestShare, float64(i)/(numShares-1))
		t, next := map[infer.Class]float64{}, 0
		for _, c := range d.Classes {
			if c.Hemorrhage() {
				t[c] = min(max(math.RoundToEven(quantile(calm[next], 1-share)*1000)/1000, lowest), highest)
				next++
			}
		}
		of := asked(d, t)
		if d.StudyThreshold == 0 && g.StudySensitivity > 0 {
			o.Thresholds = t
			if of.hit/of.yes >= g.StudySensitivity-1e-9 {
				break
			}
			continue
		}
		keep := g.StudySpecificity
		if d.StudyThreshold > 0 {
			keep = g.SliceSpecificity
		}
		if o.Thresholds == nil || of.quiet/of.no >= keep-1e-9 {
			o.Thresholds = t
		}
	}
	return o, nil
}

// asked counts what the thresholds of slices are chosen for: the studies or, where
// these have a threshold of their own, the slices.
func asked(d *assess.Data, thresholds map[infer.Class]float64) (t tally) {
	if d.StudyThreshold > 0 {
		for _, s := range d.Slices {
			t.add(s.Truth.Any(), reaches(d.Classes, s.Probabilities, thresholds))
		}
		return t
	}
	for _, s := range d.Studies {
		if analysed(s) {
			t.add(s.Truth.Any(), reaches(d.Classes, s.Scores, thresholds))
		}
	}
	return t
}

// studyThreshold is the highest that reaches the wanted sensitivity, rounded down,
// or the lowest that keeps the wanted specificity, rounded up; to 4 decimals, and
// never 0 or 1.
func (g Goal) studyThreshold(d *assess.Data) float64 {
	const steps = 1e4
	var with, without []float64
	for _, s := range d.Studies {
		switch {
		case !analysed(s):
		case s.Truth.Any():
			with = append(with, s.Score)
		default:
			without = append(without, s.Score)
		}
	}
	least := func(share float64, of []float64) int { return max(int(math.Ceil(share*float64(len(of))-1e-9)), 1) }
	var step float64
	if g.StudySensitivity > 0 {
		slices.Sort(with)
		step = math.Floor(with[len(with)-least(g.StudySensitivity, with)] * steps)
	} else {
		slices.Sort(without)
		highest := without[least(g.StudySpecificity, without)-1]
		step = math.Floor(highest*steps) + 1
		if step/steps <= highest { // the product was rounded
			step++
		}
	}
	return min(max(step, 1), steps-1) / steps
}

// tally counts answers to a question.
type tally struct{ yes, hit, no, quiet float64 }

func (t *tally) add(shown, said bool) {
	switch {
	case shown && said:
		t.yes++
		t.hit++
	case shown:
		t.yes++
	case said:
		t.no++
	default:
		t.no++
		t.quiet++
	}
}

// analysed studies were judged, whatever was found.
func analysed(s assess.Study) bool {
	return s.Outcome == assess.Positive || s.Outcome == assess.Negative
}

// reaches reports whether a class is at its threshold or above it.
func reaches(classes []infer.Class, scores []float64, thresholds map[infer.Class]float64) bool {
	for k, c := range classes {
		if c.Hemorrhage() && float32(scores[k]) >= float32(thresholds[c]) { // as the study rule compares them
			return true
		}
	}
	return false
}

// quantile of sorted values, interpolated between neighbours, as numpy does.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
