package study

import "slices"

// adjacent decides by the rule of that kind: the study is positive where a class is.
func (r *Rule) adjacent(d *Decision, places []place) (positive bool) {
	r.find(d, func(class int) Finding { return r.group(class, places) })
	d.Score, d.Threshold = float64(d.Leading.Score), float64(r.threshold(d.Leading.Class))
	return d.Leading.Positive
}

// group looks for the best group of neighbours for one class: at most `of` places
// in a row with no gap between them.
func (r *Rule) group(class int, places []place) Finding {
	f := Finding{Class: r.classes[class], KeySlice: -1}
	best, bestEnd, bestSum := -1, -1, float32(0)
	group := make([]float32, 0, r.rule.Of)
	for start := range places {
		group = group[:0]
		end := start
		for ; end < len(places) && end-start < r.rule.Of; end++ {
			if end > start && places[end].position-places[end-1].position > r.maximumGap {
				break
			}
			if places[end].seen {
				group = append(group, places[end].probabilities[class])
			}
		}
		if len(group) < r.rule.Slices {
			continue
		}
		slices.Sort(group)
		sum := float32(0) // decides among equals
		for _, p := range group {
			sum += p
		}
		if score := group[len(group)-r.rule.Slices]; best < 0 || score > f.Score || score == f.Score && sum > bestSum {
			f.Score, best, bestEnd, bestSum = score, start, end, sum
		}
	}
	if best < 0 {
		return f
	}
	f.Positive = f.Score >= r.thresholds[class]
	highest := float32(-1)
	for _, p := range places[best:bestEnd] {
		if !p.seen {
			continue
		}
		if p.probabilities[class] > highest {
			highest, f.KeySlice = p.probabilities[class], p.slice[class]
		}
		if f.Positive && p.probabilities[class] >= r.thresholds[class] {
			f.Slices = append(f.Slices, p.slice[class])
		}
	}
	return f
}
