package adapt

import (
	"cmp"
	"slices"

	"ichwatch/infer"
	"ichwatch/infer/assess"
)

// census is who shows what.
type census struct {
	patients      []patient
	number        map[int]int // of Slice.Patient in patients
	classes       []ClassCount
	with, without int
}

type patient struct {
	shows    assess.Truth
	doubtful bool
}

func (d *Data) census() *census {
	c := &census{number: map[int]int{}}
	shown := map[infer.Class]int{}
	for _, s := range d.Slices {
		i, known := c.number[s.Patient]
		if !known {
			i = len(c.patients)
			c.number[s.Patient] = i
			c.patients = append(c.patients, patient{})
		}
		p := &c.patients[i]
		if s.Doubtful {
			p.doubtful = true
			continue
		}
		p.shows.Unclassified = p.shows.Unclassified || s.Truth.Unclassified
		for _, class := range s.Truth.Classes() {
			p.shows.Shows[class] = true
			shown[class]++
		}
	}
	for _, class := range d.Classes {
		if !class.Hemorrhage() {
			continue
		}
		count := ClassCount{Class: class, Slices: shown[class]}
		for _, p := range c.patients {
			if p.shows.Shows[class] {
				count.Patients++
			}
		}
		count.Adapted = count.Patients >= MinimumPatients
		c.classes = append(c.classes, count)
	}
	for _, p := range c.patients {
		switch {
		case p.shows.Any():
			c.with++
		case !p.doubtful:
			c.without++
		}
	}
	return c
}

// deal gives each slice the fold of its patient. Patients are dealt out by the
// rarest class that they show, so that each fold gets its share of each class.
func (c *census) deal(d *Data) []int {
	rarest := slices.Clone(c.classes)
	slices.SortStableFunc(rarest, func(a, b ClassCount) int { return cmp.Compare(a.Patients, b.Patients) })
	kind := func(p patient) int {
		if k := slices.IndexFunc(rarest, func(r ClassCount) bool { return p.shows.Shows[r.Class] }); k >= 0 {
			return k
		}
		return len(rarest)
	}
	fold := make([]int, len(c.patients))
	all := [Folds]int{}
	for k := range len(rarest) + 1 {
		have := [Folds]int{}
		for i, p := range c.patients {
			if kind(p) != k {
				continue
			}
			least := 0
			for f := range Folds {
				if cmp.Or(cmp.Compare(have[f], have[least]), cmp.Compare(all[f], all[least])) < 0 {
					least = f
				}
			}
			fold[i] = least
			have[least]++
			all[least]++
		}
	}
	out := make([]int, len(d.Slices))
	for i, s := range d.Slices {
		out[i] = fold[c.number[s.Patient]]
	}
	return out
}
