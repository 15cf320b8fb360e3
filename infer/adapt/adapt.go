// Package adapt fits the last layer of a model anew to the slices of one site:
// transfer learning with everything before that layer frozen.
//
// In go the features that the frozen layers make of each slice and what the slice
// shows; out comes another head, and what fits that never saw a patient say of
// that patient's slices. It reads and writes no files and runs no model.
//
// The head is pulled towards the one that it starts from, by a penalty on the
// squared change. How strongly, cross-validation says whose folds are made of
// whole patients: once for the head that is kept, and once more for each fold
// without that fold, so that no out-of-fold prediction had a say in how it came
// about. An infinite pull is among the choices, and leaves the head as it was.
package adapt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// Slice is one slice, its truth and what the frozen layers make of it.
type Slice struct {
	Patient int // any number that tells patients apart
	Truth   assess.Truth
	// Doubtful slices show too little to be called either way. They are answered
	// and nothing is learnt from them.
	Doubtful bool
	Features []float32
}

// Data is what there is to learn from.
type Data struct {
	Classes    []infer.Class // in the order of the head
	Activation manifest.Activation
	Slices     []Slice
}

// Options of an adaptation. The zero value of a field is its default.
type Options struct {
	Unit     string                // what a Patient number stands for: "patient" (default) or "study"
	Workers  int                   // fits at a time; default: as many as cores
	Progress func(done, total int) // called after each part of the work; calls do not overlap
}

// Folds is how many parts the patients are dealt to.
const Folds = 5

// MinimumPatients is how many patients there must be with a hemorrhage, as many
// without one, and as many with a class for it to be fitted. Below that a fold
// would hold one patient, or none.
const MinimumPatients = 10

// MostNumbers is how many features there may be, of all slices together: they are
// kept in memory twice, in 12 bytes. Of a ResNet-18 those of 260,000 slices.
const MostNumbers = 1 << 27

// Strength is how strongly the head is pulled towards where it starts: the
// factor of half the squared change, the change being measured as what it does to
// the logits of features of typical length, beside the mean loss of a slice.
type Strength float64

// String gives the number, or "infinite".
func (s Strength) String() string {
	if math.IsInf(float64(s), 1) {
		return "infinite"
	}
	return strconv.FormatFloat(float64(s), 'g', -1, 64)
}

// MarshalText is String: JSON knows no infinite number.
func (s Strength) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// strengths are the choices, the strongest first.
var strengths = []Strength{Strength(math.Inf(1)), 10, 3, 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003}

// Result is an adapted head and how it came about.
type Result struct {
	Head Head
	// Classes are the hemorrhage classes of the model, in its order.
	Classes       []ClassCount
	Unit          string     // what is counted as a patient, of Options
	Patients      int        // all of them
	With, Without int        // with a hemorrhage; surely without one
	Learnt        int        // slices that were learnt from
	Strength      Strength   // of Head
	FoldStrengths []Strength // of the fits behind OutOfFold
	Tried         []Trial
	OutOfFold     [][]float64 // probabilities of each slice, from fits without its patient
	// WithoutFold has for each fold k what fits without its patient and without fold k
	// say of each slice; of the slices of k itself it has what OutOfFold has. What
	// fold k is judged by, and OutOfFold is not without it, comes from here.
	WithoutFold [Folds][][]float64
	Fold        map[int]int // of each patient, 0 to Folds-1
}

// ClassCount is how often a class is there.
type ClassCount struct {
	Class    infer.Class `json:"class"`
	Patients int         `json:"patients"` // that show it
	Slices   int         `json:"slices"`   // that show it, without doubt
	Adapted  bool        `json:"adapted"`  // false: too few patients, its weights are the old ones
}

// Trial is what came of one strength.
type Trial struct {
	Strength Strength `json:"strength"`
	Loss     float64  `json:"loss"` // mean loss of a slice out of fold, balanced; of the strengths the lowest is taken
}

// Adapted lists the classes that were fitted.
func (r *Result) Adapted() []infer.Class {
	var out []infer.Class
	for _, c := range r.Classes {
		if c.Adapted {
			out = append(out, c.Class)
		}
	}
	return out
}

// TooLittleError is data that no head should be fitted to.
type TooLittleError struct {
	Unit          string // "patient" or "study"
	With, Without int
	Classes       []ClassCount
}

// Error tells what is missing.
func (e *TooLittleError) Error() string {
	units := plural(e.Unit)
	text := fmt.Sprintf("too little to adapt to: wanted are at least %d %s with a hemorrhage and %d without one, and %d that show the same class; there are %d with and %d without",
		MinimumPatients, units, MinimumPatients, MinimumPatients, e.With, e.Without)
	for _, c := range e.Classes {
		text += fmt.Sprintf(", %s %d", c.Class, c.Patients)
	}
	return text
}

func plural(unit string) string {
	if unit == "study" {
		return "studies"
	}
	return unit + "s"
}

// Adapt fits a head to d, starting from start. Its errors are a *TooLittleError,
// ctx's, or a mistake in the form of the data.
func Adapt(ctx context.Context, d *Data, start Head, o Options) (*Result, error) {
	o.Unit = cmp.Or(o.Unit, "patient")
	if o.Workers < 1 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if err := d.check(start); err != nil {
		return nil, fmt.Errorf("adapt: %w", err)
	}
	census := d.census()
	r := &Result{Unit: o.Unit, Classes: census.classes, Patients: len(census.patients), With: census.with, Without: census.without}
	if r.With < MinimumPatients || r.Without < MinimumPatients || len(r.Adapted()) == 0 {
		return nil, &TooLittleError{Unit: o.Unit, With: r.With, Without: r.Without, Classes: r.Classes}
	}
	t := newTable(d, start, r.Adapted())
	fold := census.deal(d)
	parts := make([][]int, Folds) // rows of each fold to learn from
	for _, row := range t.learnt {
		parts[fold[row]] = append(parts[fold[row]], row)
	}
	r.Learnt = len(t.learnt)

	v := &validation{table: t, parts: parts}
	if err := v.run(ctx, o); err != nil {
		return nil, fmt.Errorf("adapt: %w", err)
	}
	var best int
	best, r.Tried = v.choose()
	r.Strength = strengths[best]
	err := t.alongStrengths(ctx, t.learnt, best, func(s int, p []float64) {
		if s == best {
			r.Head = t.head(p)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("adapt: %w", err)
	}
	r.Fold = map[int]int{}
	for i, s := range d.Slices {
		r.Fold[s.Patient] = fold[i]
	}
	var heads [Folds]int // strengths
	for k := range heads {
		heads[k] = v.chooseFor(k)
		r.FoldStrengths = append(r.FoldStrengths, strengths[heads[k]])
	}
	r.OutOfFold = d.predict(fold, func(own int) Head { return t.head(v.changes[own][own][heads[own]]) })
	for k := range r.WithoutFold {
		r.WithoutFold[k] = d.predict(fold, func(own int) Head { return t.head(v.changes[own][k][heads[k]]) })
	}
	return r, nil
}

// predict asks for each slice the head of its fold.
func (d *Data) predict(fold []int, head func(own int) Head) [][]float64 {
	var heads [Folds]Head
	for k := range heads {
		heads[k] = head(k)
	}
	out := make([][]float64, len(d.Slices))
	for i, s := range d.Slices {
		out[i] = heads[fold[i]].Probabilities(d.Activation, s.Features)
	}
	return out
}

func (d *Data) check(h Head) error {
	n := len(d.Classes)
	if n == 0 || len(h.Bias) != n || len(h.Weight)%n != 0 || len(h.Weight) == 0 {
		return fmt.Errorf("%d weights and %d biases are no head for %d classes", len(h.Weight), len(h.Bias), n)
	}
	if len(d.Slices) == 0 {
		return errors.New("there are no slices")
	}
	for i, s := range d.Slices {
		if len(s.Features) != len(h.Weight)/n {
			return fmt.Errorf("slice %d has %d features, the head takes %d", i, len(s.Features), len(h.Weight)/n)
		}
		for j, f := range s.Features {
			if v := float64(f); math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("feature %d of slice %d is %v", j, i, f)
			}
		}
	}
	return nil
}

// validation tries every strength without each fold, and without each two. Of a
// thousand features it keeps some 6 MB.
type validation struct {
	table *table
	parts [][]int
	// changes[j][k] are those of the fits without folds j and k, by strength.
	changes [Folds][Folds][][]float64
	// loss[j][k] is what the fits without folds j and k lose on fold j, by strength;
	// loss[j][j] that of the fits without j alone.
	loss [Folds][Folds][]float64
}

func (v *validation) run(ctx context.Context, o Options) error {
	const total = Folds * (Folds + 1) / 2
	done := 0
	var mu sync.Mutex
	group, failing := errgroup.WithContext(ctx)
	group.SetLimit(o.Workers)
	for j := range Folds {
		for k := j; k < Folds; k++ {
			group.Go(func() error {
				if err := v.without(failing, j, k); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				if done++; o.Progress != nil {
					o.Progress(done, total)
				}
				return nil
			})
		}
	}
	return cmp.Or(group.Wait(), context.Cause(ctx))
}

// without fits to all folds but j and k, which may be the same.
func (v *validation) without(ctx context.Context, j, k int) error {
	var rows []int
	for i, part := range v.parts {
		if i != j && i != k {
			rows = append(rows, part...)
		}
	}
	return v.table.alongStrengths(ctx, rows, len(strengths)-1, func(_ int, p []float64) {
		v.loss[j][k] = append(v.loss[j][k], v.table.lost(v.parts[j], p))
		p = slices.Clone(p)
		v.changes[j][k] = append(v.changes[j][k], p)
		if j != k {
			v.changes[k][j] = append(v.changes[k][j], p)
			v.loss[k][j] = append(v.loss[k][j], v.table.lost(v.parts[k], p))
		}
	})
}

// choose finds the strength that loses least over all folds.
func (v *validation) choose() (best int, tried []Trial) {
	for s, strength := range strengths {
		sum := 0.0
		for k := range Folds {
			sum += v.loss[k][k][s]
		}
		tried = append(tried, Trial{strength, sum})
		if sum < tried[best].Loss {
			best = s
		}
	}
	return best, tried
}

// chooseFor finds the strength that loses least over the other folds, in fits
// that did not know fold k either.
func (v *validation) chooseFor(k int) (best int) {
	least := math.Inf(1)
	for s := range strengths {
		sum := 0.0
		for j := range Folds {
			if j != k {
				sum += v.loss[j][k][s]
			}
		}
		if sum < least {
			best, least = s, sum
		}
	}
	return best
}
