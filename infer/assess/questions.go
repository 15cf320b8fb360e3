package assess

import (
	"fmt"
	"math"
	"slices"

	"ichwatch/infer"
)

// anyHemorrhage is the name of the question that comes first.
const anyHemorrhage = "any hemorrhage"

// asked is a question with what the report says around it.
type asked struct {
	name      string
	threshold *float64 // in use; nil where several thresholds answer it
	points    []OperatingPoint
	*question
}

func (a *asked) binary(e []Estimate) Binary {
	b := a.question.binary(a.name, e)
	b.Threshold = a.threshold
	k := numFigures
	for _, p := range a.points {
		if p.Unreachable == "" {
			s, t := e[k], e[k+1]
			p.Sensitivity, p.Specificity = &s, &t
			k += 2
		}
		b.OperatingPoints = append(b.OperatingPoints, p)
	}
	return b
}

// choose looks for the highest threshold at which the stated share of the
// positive items is found. floor is the score below which nothing was seen.
// answers gives every item's answer at a threshold.
func (a *asked) choose(sensitivities []float64, floor float64, answers func(threshold float64) (OperatingPoint, []bool)) {
	var positive []float64
	for i, yes := range a.truth {
		if yes {
			positive = append(positive, a.score[i])
		}
	}
	slices.Sort(positive)
	slices.Reverse(positive)
	for _, s := range sensitivities {
		p := OperatingPoint{Asked: s}
		if len(positive) == 0 || len(positive) == len(a.truth) {
			p.Unreachable = "needs both kinds of " + a.item
			a.points = append(a.points, p)
			continue
		}
		at := positive[max(int(math.Ceil(s*float64(len(positive))-1e-9)), 1)-1]
		if at <= floor {
			p.Unreachable = fmt.Sprintf("too many of the %d positive ones score nothing at all", len(positive))
			a.points = append(a.points, p)
			continue
		}
		point, called := answers(at)
		point.Asked = s
		a.points = append(a.points, point)
		a.chosen = append(a.chosen, choice{called})
	}
}

// down rounds a threshold in a way that finds no fewer.
func down(t float64) float64 {
	if r := math.Floor(t*1e4) / 1e4; r > 0 {
		return r
	}
	return t
}

// anyOf asks for any hemorrhage, which is always known; Truth.Class for one class.
func anyOf(t Truth) (shown, known bool) { return t.Any(), true }

// add takes an item into the question.
func (q *question) add(patient int, shown bool, score float64, called bool) {
	q.patient, q.truth, q.score, q.called = append(q.patient, patient), append(q.truth, shown), append(q.score, score), append(q.called, called)
}

// sliceQuestions asks each question of the slices whose answer is known.
func (d *Data) sliceQuestions(o Options) []asked {
	ask := func(name string, threshold *float64, truth func(Truth) (shown, known bool), score func([]float64) float64, called func([]float64) bool) asked {
		q := &question{item: "slice", unit: o.Unit, probability: true}
		for _, s := range d.Slices {
			if shown, known := truth(s.Truth); known {
				q.add(s.Patient, shown, score(s.Probabilities), called(s.Probabilities))
			}
		}
		q.prepare()
		a := asked{name: name, threshold: threshold, question: q}
		a.choose(o.Sensitivities, 0, func(at float64) (OperatingPoint, []bool) {
			at = down(at)
			called := make([]bool, len(q.score))
			for i, score := range q.score {
				called[i] = score >= at
			}
			return OperatingPoint{Threshold: &at}, called
		})
		return a
	}
	reaches := func(p []float64) bool { return d.reaches(p, d.Thresholds) }
	out := []asked{ask(anyHemorrhage, nil, anyOf, func(p []float64) float64 { return AnyScore(d.Classes, p) }, reaches)}
	for i, c := range d.Classes {
		score := func(p []float64) float64 { return p[i] }
		truth := func(t Truth) (shown, known bool) { return t.Class(c) }
		if c == infer.Normal {
			// Normal has no threshold: what reaches none of the others is normal.
			out = append(out, ask(c.String(), nil, truth, score, func(p []float64) bool { return !reaches(p) }))
			continue
		}
		t := d.Thresholds[c]
		out = append(out, ask(c.String(), &t, truth, score, func(p []float64) bool { return float32(p[i]) >= float32(t) }))
	}
	return out
}

// studyQuestions asks of each study what it would be asked of as a whole. A study
// is called positive where it raised an alert; one that was not analysed raises
// none.
func (d *Data) studyQuestions(o Options) []asked {
	ask := func(name string, threshold *float64, truth func(Truth) (shown, known bool), score func(*Study) float64, called func(*Study) bool) asked {
		q := &question{item: "study", unit: o.Unit}
		for i := range d.Studies {
			s := &d.Studies[i]
			if shown, known := truth(s.Truth); known {
				q.add(s.Patient, shown, score(s), s.Outcome == Positive && called(s))
			}
		}
		q.prepare()
		return asked{name: name, threshold: threshold, question: q}
	}
	positive := func(*Study) bool { return true }
	var whole asked
	if d.StudyThreshold > 0 {
		t := d.StudyThreshold
		whole = ask(anyHemorrhage, &t, anyOf, func(s *Study) float64 { return s.Score }, positive)
		whole.choose(o.Sensitivities, 0, func(at float64) (OperatingPoint, []bool) {
			at = down(at)
			called := make([]bool, len(d.Studies))
			for i, s := range d.Studies {
				called[i] = s.Score >= at
			}
			return OperatingPoint{Threshold: &at}, called
		})
	} else {
		whole = ask(anyHemorrhage, nil, anyOf, func(s *Study) float64 { return d.Excess(s.Scores) }, positive)
		d.moveAll(&whole, o.Sensitivities)
	}
	out := []asked{whole}
	for k, c := range d.Classes {
		if !c.Hemorrhage() {
			continue
		}
		t := d.Thresholds[c]
		out = append(out, ask(c.String(), &t, func(t Truth) (shown, known bool) { return t.Class(c) }, func(s *Study) float64 { return s.Scores[k] },
			func(s *Study) bool { return float32(s.Scores[k]) >= float32(t) }))
	}
	return out
}

// moveAll looks for the operating points of studies that the thresholds of slices
// decide about: all of them move by the same log-odds.
func (d *Data) moveAll(whole *asked, sensitivities []float64) {
	nothing := d.Excess(make([]float64, len(d.Classes)))
	whole.choose(sensitivities, nothing, func(at float64) (OperatingPoint, []bool) {
		thresholds := map[infer.Class]float64{}
		for _, c := range d.Classes {
			if c.Hemorrhage() {
				thresholds[c] = down(infer.Probability(infer.LogOdds(d.Thresholds[c]) + at))
			}
		}
		called := make([]bool, len(d.Studies))
		for i, s := range d.Studies {
			called[i] = d.reaches(s.Scores, thresholds)
		}
		return OperatingPoint{Thresholds: thresholds}, called
	})
}

// naming is the question whether alerts name the right class.
type naming struct{ *answers }

// named asks it of the studies that bleed and raised an alert.
func (d *Data) named(o Options) naming {
	n := naming{newAnswers("alert about a study with stated classes", o.Unit)}
	for _, s := range d.Studies {
		if s.Outcome == Positive && s.Truth.Any() && !s.Truth.Unclassified && s.Named.Hemorrhage() {
			n.add(s.Patient, s.Truth.Shows[s.Named])
		}
	}
	return n
}

func (n naming) count(share Estimate) Named {
	out := Named{Of: n.items, Share: share}
	for _, right := range n.right {
		out.Right += int(right)
	}
	return out
}

// outcomes counts how studies ended and what that means for a hospital.
func (d *Data) outcomes(f *StudyFigures) {
	count := map[Outcome]*OutcomeCount{}
	for o := Positive; o >= NotAnalysed; o-- {
		f.Outcomes = append(f.Outcomes, OutcomeCount{Outcome: o.String()})
	}
	for i := range f.Outcomes {
		count[Positive-Outcome(i)] = &f.Outcomes[i]
	}
	for _, s := range d.Studies {
		if s.Truth.Any() {
			count[s.Outcome].Bleeding++
		} else {
			count[s.Outcome].Calm++
		}
	}
	f.Undecided = count[NotAnalysed].Bleeding + count[NotAnalysed].Calm + count[Failed].Bleeding + count[Failed].Calm
	if !f.Any.Sensitivity.Defined() || !f.Any.Specificity.Defined() {
		return
	}
	for _, prevalence := range []float64{0.02, 0.10, 0.30} {
		hits := prevalence * f.Any.Sensitivity.Value
		alarms := (1 - prevalence) * (1 - f.Any.Specificity.Value)
		if hits+alarms > 0 {
			f.Predictive = append(f.Predictive, Predictive{prevalence, *rounded(hits / (hits + alarms))})
		}
	}
}

// confused is the question which class a slice shows most, for slices of one class.
type confused struct {
	Confusion
	*answers
}

// confusion is nil for a model that has no class Normal: it does not tell normal
// slices from others by its highest probability.
func (d *Data) confusion(o Options) *confused {
	if !slices.Contains(d.Classes, infer.Normal) {
		return nil
	}
	m := &confused{answers: newAnswers("slice of one class", o.Unit)}
	m.Classes = d.Classes
	m.Counts = make([][]int, len(d.Classes))
	for i := range m.Counts {
		m.Counts[i] = make([]int, len(d.Classes))
	}
	for _, s := range d.Slices {
		if s.Truth.Unclassified {
			continue
		}
		highest := slices.Index(s.Probabilities, slices.Max(s.Probabilities))
		classes := s.Truth.Classes()
		if len(classes) > 1 {
			m.Several++
			if slices.Contains(classes, d.Classes[highest]) {
				m.SeveralRight++
			}
			continue
		}
		truth := slices.Index(d.Classes, classes[0])
		if truth < 0 {
			m.Foreign++
			continue
		}
		m.Counts[truth][highest]++
		m.add(s.Patient, truth == highest)
	}
	return m
}
