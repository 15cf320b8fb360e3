// Package study decides about a study from the scores of its slices.
//
// A single slice says little: at 95 % specificity a slice, four of five normal
// studies of 32 slices would be called positive. A rule therefore takes several
// together, ordered by their position along the normal. Of kind adjacent, it asks
// for neighbouring slices that reach the threshold of one class. Of kind evidence,
// it adds up what all of them say of any hemorrhage, and holds the sum against a
// threshold of the study.
//
// What cannot be decided is said so: too few slices, a gap between them, a slice
// that failed are verdicts of their own. Silence never reads as negative.
package study

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
)

// samePlace is how near, in mm along the normal, two slices are taken as one:
// the same object sent twice, or two kernels of one acquisition. Scanners do not
// cut finer than 0.2 mm.
const samePlace = 0.1

// Rule decides; NewRule makes it from what a manifest says. It is safe for concurrent use.
type Rule struct {
	classes    []infer.Class // order of SliceEvidence.Probabilities
	normal     int           // index of Normal in classes; -1 where the model does not have it
	thresholds []float32     // for each of classes; 0 for Normal, which is never found
	study      float64       // threshold of the study; kind evidence
	rule       manifest.StudyRule
	maximumGap float64 // mm, with the tolerance of positions on the grid
}

// NewRule takes the classes in the order of the probabilities to come, the
// thresholds of an operating point (of slices: 0..1, every hemorrhage class; of the
// study: 0..1, not read but by a rule of kind evidence) and the rule.
func NewRule(classes []infer.Class, thresholds map[infer.Class]float64, study float64, m manifest.StudyRule) *Rule {
	r := &Rule{
		classes:    slices.Clone(classes),
		normal:     slices.Index(classes, infer.Normal),
		thresholds: make([]float32, len(classes)),
		study:      study,
		rule:       m,
		maximumGap: m.MaximumGap + samePlace,
	}
	for i, c := range classes {
		r.thresholds[i] = float32(thresholds[c])
	}
	return r
}

// Classes gives the order of SliceEvidence.Probabilities.
func (r *Rule) Classes() []infer.Class { return slices.Clone(r.classes) }

// SliceEvidence is what is known of one slice of a stack. The slices of a stack
// share their orientation; those of another reconstruction plane are a stack of
// their own.
type SliceEvidence struct {
	// Position is where the slice lies along the stack's normal, in mm; NaN where
	// it is not known.
	Position float64
	// Probabilities are the classifier's, in the order of Classes. Nil, or
	// anything but one number in 0..1 for each class, is a slice that failed.
	Probabilities []float32
}

// Verdict is how a stack was decided.
type Verdict int

// The verdicts. The zero value claims nothing.
const (
	TooFewSlices Verdict = iota // not enough of the head was seen to call it negative
	Gap                         // a part of the head was not seen
	SliceFailed                 // a slice could not be judged or placed
	Negative                    // all was seen, nothing reached the rule
	Positive                    // suspected; holds however incomplete the stack is
)

// String gives the verdict in words.
func (v Verdict) String() string {
	switch v {
	case TooFewSlices:
		return "too few slices"
	case Gap:
		return "gap"
	case SliceFailed:
		return "slice failed"
	case Negative:
		return "negative"
	case Positive:
		return "positive"
	}
	return fmt.Sprintf("Verdict(%d)", int(v))
}

// Decision is what the rule makes of a stack.
type Decision struct {
	Verdict Verdict
	Reason  string // one sentence for people, no identity in it

	// Score is that of the study, 0..1: of kind adjacent Leading's, of kind evidence
	// the probability of any hemorrhage that all slices together amount to.
	Score float64
	// Threshold is what Score was held against: that of the study or, of kind adjacent,
	// that of Leading's class.
	Threshold float64
	// Leading is the finding farthest above its threshold or, when none is
	// positive, the one nearest to it. Its KeySlice is -1 where nothing was seen. Of a
	// positive study it always has a class and a key slice; of kind evidence it need
	// not be Positive itself: the slices together say that there is a hemorrhage, and
	// no slice alone which.
	Leading Finding
	// Findings has every hemorrhage class, in the order of the manifest.
	Findings []Finding

	Places     int     // distinct positions that were classified
	Failed     int     // slices without usable scores or position
	LargestGap float64 // mm between neighbouring places, to 0.1 mm
}

// Positive reports whether the rule was reached.
func (d Decision) Positive() bool { return d.Verdict == Positive }

// Finding is what the rule found for one class.
type Finding struct {
	Class infer.Class
	// Score of kind adjacent is the highest threshold at which the class would still
	// meet the rule: the largest, over all groups of neighbours, of their n-th
	// largest probability (n: how many slices the rule asks for). Of kind evidence it
	// is the highest probability.
	Score float32
	// Positive: the class meets the rule; of kind evidence, the study does and a
	// slice reaches the class's threshold.
	Positive bool
	// Slices are the deciding ones, by position: indices into the evidence. Empty
	// unless positive; Decision.Leading of a positive study has its key slice at least.
	Slices []int
	// KeySlice is the one with the highest probability, of kind adjacent of the best
	// group: an index into the evidence, -1 where there is none.
	KeySlice int
}

// place is what was seen at one position: the highest probability of each class
// over the slices that lie there.
type place struct {
	position      float64   // mm, on the grid
	seen          bool      // false: only slices that failed lie here
	probabilities []float32 // by class
	slice         []int     // by class: whose probability it is
	any           float64   // of any hemorrhage, the highest likewise
}

// Evaluate decides about a stack from what is known of it so far. The order of
// the evidence does not matter. It keeps nothing and costs little beside a run of
// a model: it is meant to be called after every slice.
func (r *Rule) Evaluate(evidence []SliceEvidence) Decision {
	places, failed := r.places(evidence)
	d := Decision{Failed: failed, Leading: Finding{KeySlice: -1}}
	positive := false
	for i, p := range places {
		if p.seen {
			d.Places++
		}
		if i > 0 {
			d.LargestGap = max(d.LargestGap, p.position-places[i-1].position)
		}
	}
	if r.rule.Kind == manifest.RuleEvidence {
		positive = r.evidence(&d, places)
	} else {
		positive = r.adjacent(&d, places)
	}
	d.Verdict, d.Reason = r.verdict(d, positive)
	return d
}

func (r *Rule) verdict(d Decision, positive bool) (Verdict, string) {
	switch {
	case positive:
		return Positive, r.reason(d, true)
	case d.Failed > 0:
		return SliceFailed, fmt.Sprintf("%d of %s could not be judged or placed", d.Failed, counted(d.Failed+d.Places))
	case d.Places < r.rule.MinimumSlices:
		return TooFewSlices, fmt.Sprintf("%s at distinct positions, at least %d are needed for a negative", counted(d.Places), r.rule.MinimumSlices)
	case d.LargestGap > r.maximumGap:
		return Gap, fmt.Sprintf("neighbouring slices are up to %.1f mm apart, at most %.1f mm is accepted", d.LargestGap, r.rule.MaximumGap)
	}
	return Negative, r.reason(d, false)
}

// reason says what was found, or that nothing was.
func (r *Rule) reason(d Decision, positive bool) string {
	if r.rule.Kind == manifest.RuleEvidence {
		return evidenceReason(d, positive, r.study)
	}
	if positive {
		return fmt.Sprintf("suspected %s hemorrhage in %d of %d neighbouring slices at or above %.4g; not for diagnosis",
			d.Leading.Class, len(d.Leading.Slices), r.rule.Of, r.threshold(d.Leading.Class))
	}
	return fmt.Sprintf("no class reached its threshold in %d of %d neighbouring slices among %d; not for diagnosis", r.rule.Slices, r.rule.Of, d.Places)
}

// find gives each hemorrhage class its finding, and names the leading one.
func (r *Rule) find(d *Decision, of func(class int) Finding) {
	d.Findings = make([]Finding, 0, len(r.classes))
	lead := -1
	for class, c := range r.classes {
		if !c.Hemorrhage() {
			continue
		}
		f := of(class)
		d.Findings = append(d.Findings, f)
		if lead < 0 || r.leads(f, d.Findings[lead]) {
			lead = len(d.Findings) - 1
		}
	}
	if lead >= 0 {
		d.Leading = d.Findings[lead]
	}
}

// counted writes a number of slices: "1 slice", "7 slices".
func counted(n int) string {
	if n == 1 {
		return "1 slice"
	}
	return strconv.Itoa(n) + " slices"
}

// places sorts the usable evidence into distinct positions and counts what is
// not usable. A slice that failed still holds its place among its neighbours.
func (r *Rule) places(evidence []SliceEvidence) (places []place, failed int) {
	type located struct {
		cell  int64 // of a grid as fine as samePlace
		slice int   // index into the evidence
	}
	order := make([]located, 0, len(evidence))
	for i, e := range evidence {
		// A fixed grid, so that where a slice lies, and what shares its place, never
		// depends on what else is there; its offset keeps the edges away from the
		// round positions in use.
		if math.Abs(e.Position) < 1e6 { // false for NaN
			order = append(order, located{int64(math.Floor(e.Position/samePlace + 0.37)), i})
		} else {
			failed++
		}
	}
	slices.SortFunc(order, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.cell, b.cell), cmp.Compare(a.slice, b.slice))
	})
	places = make([]place, 0, len(order))
	probabilities := make([]float32, len(order)*len(r.classes))
	owners := make([]int, len(order)*len(r.classes))
	for i, o := range order {
		e := evidence[o.slice]
		if i == 0 || o.cell != order[i-1].cell {
			n := len(places) * len(r.classes)
			places = append(places, place{
				position:      float64(o.cell) * samePlace,
				probabilities: probabilities[n : n+len(r.classes)],
				slice:         owners[n : n+len(r.classes)],
			})
		}
		p := &places[len(places)-1]
		if !r.usable(e.Probabilities) {
			failed++
			continue
		}
		for class, probability := range e.Probabilities {
			if !p.seen || probability > p.probabilities[class] {
				p.probabilities[class], p.slice[class] = probability, o.slice
			}
		}
		p.any, p.seen = max(p.any, r.any(e.Probabilities)), true
	}
	return places, failed
}

// any is how much speaks for some hemorrhage in a slice: assess.AnyScore, on which
// this package does not depend.
func (r *Rule) any(probabilities []float32) float64 {
	if r.normal >= 0 {
		return 1 - float64(probabilities[r.normal])
	}
	return float64(slices.Max(probabilities))
}

func (r *Rule) usable(probabilities []float32) bool {
	if len(probabilities) != len(r.classes) {
		return false
	}
	for _, p := range probabilities {
		if !(p >= 0 && p <= 1) { // NaN too
			return false
		}
	}
	return true
}

// leads reports whether f is to be named before g: a positive one always is.
func (r *Rule) leads(f, g Finding) bool {
	if f.Positive != g.Positive {
		return f.Positive
	}
	return r.excess(f) > r.excess(g)
}

// excess is how far a finding lies above its class's threshold, in log-odds, so
// that classes with different thresholds compare.
func (r *Rule) excess(f Finding) float64 {
	if f.KeySlice < 0 {
		return math.Inf(-1)
	}
	return infer.LogOdds(float64(f.Score)) - infer.LogOdds(float64(r.threshold(f.Class)))
}

func (r *Rule) threshold(c infer.Class) float32 {
	return r.thresholds[slices.Index(r.classes, c)]
}

// Thresholds gives the probability from which on a slice counts, by class.
func (r *Rule) Thresholds() map[infer.Class]float32 {
	t := map[infer.Class]float32{}
	for i, c := range r.classes {
		if c.Hemorrhage() {
			t[c] = r.thresholds[i]
		}
	}
	return t
}
