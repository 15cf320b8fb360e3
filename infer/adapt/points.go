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
}

// Goals are those of the recipes in models/train.
func Goals() []Goal {
	return []Goal{
		{Name: "sensitive", StudySensitivity: 0.97},
		{Name: DefaultGoal, StudySensitivity: 0.92},
		{Name: "specific", StudySpecificity: 0.95},
	}
}

// DefaultGoal is the operating point in use where a site names none.
const DefaultGoal = "balanced"

// String says what is wanted.
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

// Choose gives thresholds that serve the goal on d.
//
// One number moves all of them, the share of slices without a hemorrhage that each
// class may flag: where few patients show a class, a threshold that moved alone
// would be theirs. The number is the smallest that reaches the wanted sensitivity,
// or the largest that keeps the wanted specificity. choose_thresholds in
// models/train/ichtrain/metrics.py does the same. The error is a *NoStudiesError.
func (g Goal) Choose(d *assess.Data) (map[infer.Class]float64, error) {
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
		return nil, &e
	}
	var best map[infer.Class]float64
	for i := range numShares {
		share := lowestShare * math.Pow(highestShare/lowestShare, float64(i)/(numShares-1))
		t, next := map[infer.Class]float64{}, 0
		for _, c := range d.Classes {
			if c.Hemorrhage() {
				t[c] = min(max(math.RoundToEven(quantile(calm[next], 1-share)*1000)/1000, lowest), highest)
				next++
			}
		}
		found, quiet := 0, 0
		for _, s := range d.Studies {
			switch {
			case !analysed(s):
			case s.Truth.Any() && reaches(d.Classes, s.Scores, t):
				found++
			case !s.Truth.Any() && !reaches(d.Classes, s.Scores, t):
				quiet++
			}
		}
		if g.StudySensitivity > 0 {
			best = t
			if float64(found)/float64(e.With) >= g.StudySensitivity-1e-9 {
				break
			}
		} else if best == nil || float64(quiet)/float64(e.Without) >= g.StudySpecificity-1e-9 {
			best = t
		}
	}
	return best, nil
}

// Point chooses the thresholds of an operating point on d, and says what may be
// expected of them: the patients of each fold are judged by thresholds that the
// others chose. The outcomes of d's studies are those under thresholds that nothing
// reaches. The error is a *NoStudiesError.
func (g Goal) Point(d *assess.Data, fold map[int]int, protocol string) (manifest.OperatingPoint, error) {
	all, err := g.Choose(d)
	if err != nil {
		return manifest.OperatingPoint{}, err
	}
	slice, study := map[manifest.Question]*tally{manifest.AnyHemorrhage: {}}, &tally{}
	for k := range Folds {
		others := assess.Data{Classes: d.Classes}
		for _, s := range d.Slices {
			if fold[s.Patient] != k {
				others.Slices = append(others.Slices, s)
			}
		}
		for _, s := range d.Studies {
			if fold[s.Patient] != k {
				others.Studies = append(others.Studies, s)
			}
		}
		t, err := g.Choose(&others)
		if err != nil {
			return manifest.OperatingPoint{}, fmt.Errorf("without fold %d: %w", k+1, err)
		}
		for _, s := range d.Slices {
			if fold[s.Patient] != k {
				continue
			}
			slice[manifest.AnyHemorrhage].add(s.Truth.Any(), reaches(d.Classes, s.Probabilities, t))
			for i, c := range d.Classes {
				shown, known := s.Truth.Class(c)
				if !c.Hemorrhage() || !known {
					continue
				}
				q := manifest.Question(c.String())
				if slice[q] == nil {
					slice[q] = &tally{}
				}
				slice[q].add(shown, s.Probabilities[i] >= t[c])
			}
		}
		for _, s := range d.Studies {
			if positive := reaches(d.Classes, s.Scores, t); fold[s.Patient] == k && (positive || analysed(s)) {
				study.add(s.Truth.Any(), positive)
			}
		}
	}
	expected := &manifest.Expected{Protocol: protocol, Slice: map[manifest.Question]manifest.Figures{}}
	for q, t := range slice {
		if f, ok := t.figures(); ok {
			expected.Slice[q] = f
		}
	}
	expected.Study, _ = study.figures() // Choose found studies of both kinds
	return manifest.OperatingPoint{Name: g.Name, Thresholds: all, Expected: expected}, nil
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

// figures has none where one side is empty.
func (t *tally) figures() (f manifest.Figures, ok bool) {
	share := func(k, n float64) manifest.Figure {
		low, high := assess.WilsonInterval(k, n)
		out := manifest.Figure{k / n, low, high}
		for i, v := range out {
			out[i] = math.Round(v*1000) / 1000
		}
		return out
	}
	if t.yes == 0 || t.no == 0 {
		return f, false
	}
	return manifest.Figures{Sensitivity: share(t.hit, t.yes), Specificity: share(t.quiet, t.no)}, true
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
