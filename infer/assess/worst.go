package assess

import (
	"cmp"
	"slices"
)

// Worst gives the slices that were judged most wrongly, as indices, the worst
// first: bleeding ones below every threshold (missed), and calm ones above some
// threshold (alarms). At most n of each, and at most two of a patient, whose
// slices tend to fail alike.
func (d *Data) Worst(n int) (missed, alarms []int) {
	excess := make([]float64, len(d.Slices))
	order := make([]int, len(d.Slices))
	for i, s := range d.Slices {
		order[i] = i
		excess[i] = d.Excess(s.Probabilities)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(excess[a], excess[b]) })
	const ofPatient = 2
	pick := func(order []int, bleeds bool) (out []int) {
		taken := map[int]int{}
		for _, i := range order {
			s := d.Slices[i]
			wrong := s.Truth.Any() == bleeds && d.reaches(s.Probabilities, d.Thresholds) != bleeds
			if !wrong || taken[s.Patient] == ofPatient {
				continue
			}
			if len(out) == n {
				break
			}
			taken[s.Patient]++
			out = append(out, i)
		}
		return out
	}
	missed = pick(order, true)
	slices.Reverse(order)
	return missed, pick(order, false)
}
