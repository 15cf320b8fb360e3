package assess

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"ichwatch/infer"
)

// NumClasses is how many classes there are.
const NumClasses = 6

// Truth says what a slice or a study shows.
type Truth struct {
	// Shows says it by infer.Class. Normal is not read: what shows no hemorrhage is
	// normal.
	Shows [NumClasses]bool
	// Unclassified: there is a hemorrhage, and of which classes is not known. It
	// counts for any hemorrhage and for no class; Shows is not read.
	Unclassified bool
}

// Any reports whether there is a hemorrhage.
func (t Truth) Any() bool {
	for _, c := range infer.Classes() {
		if c.Hemorrhage() && t.Shows[c] {
			return true
		}
	}
	return t.Unclassified
}

// Class reports whether the class is there, and whether that is known.
func (t Truth) Class(c infer.Class) (shown, known bool) {
	if c == infer.Normal {
		return !t.Any(), true
	}
	return t.Shows[c], !t.Unclassified
}

// Classes lists what is there; Normal alone where there is no hemorrhage, nothing
// where it is not known.
func (t Truth) Classes() []infer.Class {
	var out []infer.Class
	for _, c := range infer.Classes() {
		if shown, known := t.Class(c); shown && known {
			out = append(out, c)
		}
	}
	return out
}

// Slice is one classified slice.
type Slice struct {
	Patient       int // any number that tells patients apart
	Truth         Truth
	Probabilities []float64 // 0..1, in the order of Data.Classes
}

// Outcome is how a study ended.
type Outcome int

// The outcomes, as alerts name them.
const (
	NotAnalysed Outcome = iota
	Failed
	Negative
	Positive
)

var outcomeNames = [...]string{"NOT-ANALYSED", "FAILED", "NEGATIVE", "POSITIVE"}

// String gives the outcome's name.
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
	return outcomeNames[o]
}

// ParseOutcome is the inverse of String.
func ParseOutcome(name string) (Outcome, error) {
	if i := slices.Index(outcomeNames[:], name); i >= 0 {
		return Outcome(i), nil
	}
	return 0, fmt.Errorf("outcome %q is not known", name)
}

// Study is what became of one study under the study rule.
type Study struct {
	Patient int // as in Slice
	Truth   Truth
	Outcome Outcome
	// Score is that of the study as a whole; read only beside Data.StudyThreshold.
	Score float64
	// Scores are, in the order of Data.Classes, the highest threshold at which the
	// class would still have met the rule, 0 where the rule could not be asked.
	// That of Normal is not read.
	Scores []float64
	// Named is the class that the alert names; read only where Outcome is Positive.
	Named infer.Class
}

// Data is what is assessed.
type Data struct {
	Classes    []infer.Class           // of the model, in the order of its manifest
	Thresholds map[infer.Class]float64 // from which on a slice counts, for each hemorrhage class
	// StudyThreshold is that of Study.Score, from which on a study is positive. 0: the
	// study rule has none, and Thresholds decide about studies as well.
	StudyThreshold float64
	Slices         []Slice
	Studies        []Study
}

// Options of an assessment. The zero value of a field is its default.
type Options struct {
	Rounds        int       // draws for the intervals; default 2000
	Seed          uint64    // of the draws
	Workers       int       // default: as many as cores
	Sensitivities []float64 // operating points to look for; default 0.90 and 0.95
	// Unit is what a Patient number stands for, in words: "patient" (default) or
	// "study".
	Unit string
}

func (o Options) orDefault() Options {
	o.Rounds = cmp.Or(o.Rounds, 2000)
	o.Unit = cmp.Or(o.Unit, "patient")
	if len(o.Sensitivities) == 0 {
		o.Sensitivities = []float64{0.90, 0.95}
	}
	return o
}

// Assess computes every figure. Its error is a mistake in the data's form.
func Assess(d Data, o Options) (*Figures, error) {
	o = o.orDefault()
	if err := d.check(o); err != nil {
		return nil, fmt.Errorf("assess: %w", err)
	}
	patients := d.number()
	f := &Figures{
		Intervals: Intervals{Level: 0.95, Rounds: o.Rounds, Seed: o.Seed, Unit: o.Unit, Units: patients},
		Slices:    SliceFigures{Total: len(d.Slices)},
		Studies:   StudyFigures{Total: len(d.Studies)},
	}
	slice := d.sliceQuestions(o)
	study := d.studyQuestions(o)
	var measurers []measurer
	for _, asked := range [][]asked{slice, study} {
		for _, a := range asked {
			measurers = append(measurers, a.question)
		}
	}
	mix := d.confusion(o)
	if mix != nil {
		measurers = append(measurers, mix)
	}
	named := d.named(o)
	estimates := estimate(patients, o, append(measurers, named))
	for i, a := range slice {
		b := a.binary(estimates[i])
		if i == 0 {
			f.Slices.Any = b
		} else {
			f.Slices.Classes = append(f.Slices.Classes, b)
		}
	}
	for i, a := range study {
		b := a.binary(estimates[len(slice)+i])
		if i == 0 {
			f.Studies.Any = b
		} else {
			f.Studies.Classes = append(f.Studies.Classes, b)
		}
	}
	if mix != nil {
		mix.Accuracy = estimates[len(measurers)-1][0]
		f.Slices.SixWay = &mix.Confusion
	}
	f.Studies.Named = named.count(estimates[len(measurers)][0])
	d.outcomes(&f.Studies)
	return f, nil
}

func (d *Data) check(o Options) error {
	if len(d.Classes) == 0 {
		return errors.New("no classes")
	}
	if o.Rounds < 0 || o.Rounds > 1_000_000 {
		return fmt.Errorf("%d rounds", o.Rounds)
	}
	for _, s := range o.Sensitivities {
		if !(s > 0 && s <= 1) {
			return fmt.Errorf("sensitivity %v; wanted is one above 0 and up to 1", s)
		}
	}
	for _, c := range d.Classes {
		if t, ok := d.Thresholds[c]; c.Hemorrhage() && (!ok || !(t > 0 && t < 1)) {
			return fmt.Errorf("threshold of %v is %v", c, t)
		}
	}
	if t := d.StudyThreshold; !(t >= 0 && t < 1) {
		return fmt.Errorf("threshold of studies is %v", t)
	}
	proper := func(values []float64) bool {
		for _, v := range values {
			if !(v >= 0 && v <= 1) {
				return false
			}
		}
		return len(values) == len(d.Classes)
	}
	for i, s := range d.Slices {
		if !proper(s.Probabilities) {
			return fmt.Errorf("slice %d: %v are not the probabilities of %d classes", i, s.Probabilities, len(d.Classes))
		}
	}
	for i, s := range d.Studies {
		if !proper(s.Scores) {
			return fmt.Errorf("study %d: %v are not the scores of %d classes", i, s.Scores, len(d.Classes))
		}
		if !(s.Score >= 0 && s.Score <= 1) {
			return fmt.Errorf("study %d: %v is no score", i, s.Score)
		}
	}
	return nil
}

// number makes patients count from 0, and returns how many there are. d's slices
// and studies are changed in a copy.
func (d *Data) number() int {
	numbers := map[int]int{}
	of := func(patient int) int {
		n, ok := numbers[patient]
		if !ok {
			n = len(numbers)
			numbers[patient] = n
		}
		return n
	}
	d.Slices, d.Studies = slices.Clone(d.Slices), slices.Clone(d.Studies)
	for i := range d.Slices {
		d.Slices[i].Patient = of(d.Slices[i].Patient)
	}
	for i := range d.Studies {
		d.Studies[i].Patient = of(d.Studies[i].Patient)
	}
	return len(numbers)
}

// AnyScore is how much speaks for some hemorrhage in a slice: what is left beside
// the probability of normal or, in a model without that class, the highest
// probability.
func AnyScore(classes []infer.Class, probabilities []float64) float64 {
	if i := slices.Index(classes, infer.Normal); i >= 0 {
		return 1 - probabilities[i]
	}
	return slices.Max(probabilities)
}

// Excess is how far the hemorrhage class that is nearest to its threshold, or
// farthest above it, lies above it, in log-odds. Not below 0: the slice is positive
// and, where StudyThreshold is 0, so is a study with these scores.
func (d *Data) Excess(scores []float64) float64 {
	highest := math.Inf(-1)
	for i, c := range d.Classes {
		if c.Hemorrhage() {
			highest = max(highest, d.ClassExcess(i, scores[i]))
		}
	}
	return highest
}

// ClassExcess is how far the score of one hemorrhage class, by its index in
// Classes, lies above the class's threshold, in log-odds.
func (d *Data) ClassExcess(class int, score float64) float64 {
	return infer.LogOdds(score) - infer.LogOdds(d.Thresholds[d.Classes[class]])
}

// reaches reports whether some hemorrhage class is at or above its threshold.
func (d *Data) reaches(scores []float64, thresholds map[infer.Class]float64) bool {
	for i, c := range d.Classes {
		// As the study rule compares them.
		if c.Hemorrhage() && float32(scores[i]) >= float32(thresholds[c]) {
			return true
		}
	}
	return false
}
