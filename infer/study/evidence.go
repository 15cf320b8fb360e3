package study

import (
	"fmt"
	"math"
)

// doubt bounds the probabilities of slices before their odds are taken: one slice
// says at most a million to one, for a hemorrhage or against it.
const doubt = 1e-6

// evidence decides by the rule of that kind: the study is positive where its score
// reaches its threshold.
//
// Where slices are no thinner than the rule's each counts in full, and the score
// never falls when one is added: an alert may leave at the deciding slice.
// A slice that comes to lie between thinner ones makes its neighbours count for
// less, so that the score of an incomplete stack may fall as well. What holds is the
// decision about the complete one.
func (r *Rule) evidence(d *Decision, places []place) (positive bool) {
	d.Score, d.Threshold = r.score(places), r.study
	positive = d.Places > 0 && d.Score >= r.study
	r.find(d, func(class int) Finding { return r.highest(class, places, positive) })
	if positive && len(d.Leading.Slices) == 0 {
		d.Leading.Slices = []int{d.Leading.KeySlice}
	}
	return positive
}

// score is the probability of any hemorrhage that the slices of all places amount
// to: S/(1+S), where S is the mean of their odds to the power of the rule's over the
// height of a head, to the power of its inverse. study_scores in models/train/ichtrain/metrics.py does
// the same.
func (r *Rule) score(places []place) float64 {
	sum := 0.0
	for i, p := range places {
		if !p.seen {
			continue
		}
		probability := min(max(p.any, doubt), 1-doubt)
		sum += r.weight(places, i) * math.Pow(probability/(1-probability), r.rule.Power)
	}
	s := math.Pow(sum, 1/r.rule.Power)
	return s / (1 + s)
}

// weight is what share of a head a place stands for: from the middle between it and
// the place before to the middle between it and the next, at either end the one
// distance that there is, but no more than a slice of the rule's thickness. A single
// place stands for such a slice.
func (r *Rule) weight(places []place, i int) float64 {
	if len(places) == 1 {
		return r.rule.SliceThickness / r.rule.HeadHeight
	}
	before, after := max(i-1, 0), min(i+1, len(places)-1)
	extent := (places[after].position - places[before].position) / float64(after-before)
	return min(extent, r.rule.SliceThickness) / r.rule.HeadHeight
}

// highest is the finding of a class: its highest probability of all places, and the
// places where it reaches its threshold. It is positive only in a positive study.
func (r *Rule) highest(class int, places []place, positive bool) Finding {
	f := Finding{Class: r.classes[class], KeySlice: -1}
	for _, p := range places {
		if p.seen && (f.KeySlice < 0 || p.probabilities[class] > f.Score) {
			f.Score, f.KeySlice = p.probabilities[class], p.slice[class]
		}
	}
	f.Positive = positive && f.Score >= r.thresholds[class]
	if !f.Positive {
		return f
	}
	for _, p := range places {
		if p.seen && p.probabilities[class] >= r.thresholds[class] {
			f.Slices = append(f.Slices, p.slice[class])
		}
	}
	return f
}

// evidenceReason has as many digits as a threshold that was chosen for a goal.
func evidenceReason(d Decision, positive bool, threshold float64) string {
	if positive {
		return fmt.Sprintf("suspected %s hemorrhage: evidence over %s %.4f, threshold %.4f; not for diagnosis", d.Leading.Class, counted(d.Places), d.Score, threshold)
	}
	return fmt.Sprintf("evidence of any hemorrhage over %s %.4f, below the threshold %.4f; not for diagnosis", counted(d.Places), d.Score, threshold)
}
