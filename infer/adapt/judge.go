package adapt

import (
	"fmt"
	"math"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// Held is what operating points are chosen from and judged by: what was said of
// each patient by fits that never saw that patient. The outcomes of its studies are
// those under thresholds that nothing reaches; a StudyThreshold is not read but for
// whether there is one.
type Held struct {
	All *assess.Data
	// Without has for each fold what was said by fits that know nothing of that fold
	// either: the thresholds that it is judged by are chosen there. The fold's own
	// slices and studies are not read.
	Without [Folds]*assess.Data
	Fold    map[int]int // of each patient with slices that were classified
	Options assess.Options
}

// Lift is a threshold that was raised to keep operating points in order.
type Lift struct {
	Point string `json:"operating_point"`
	// Of is what it is a threshold of: "studies", or the name of a class.
	Of    string  `json:"of"`
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Below string  `json:"below"` // the operating point whose threshold it is now
}

// String says it for people.
func (l Lift) String() string {
	return fmt.Sprintf("%s: the threshold of %s would be %.4g, below that of %s; raised to it, %.4g", l.Point, l.Of, l.From, l.Below, l.To)
}

// ofStudies is what Lift.Of says of the study threshold.
const ofStudies = "studies"

// choose gives each goal its operating point, in order: no threshold lies below that
// of the point before. Where few studies look alike a specificity may be kept by a
// threshold below one that reaches a sensitivity; who asks for fewer alerts must
// not get more.
func choose(goals []Goal, d *assess.Data) (points []manifest.OperatingPoint, lifted []Lift, err error) {
	for _, g := range goals {
		o, err := g.Choose(d)
		if err != nil {
			return nil, nil, err
		}
		points = append(points, o)
	}
	for i := range points[1:] {
		lifted = append(lifted, lift(&points[i+1], points[i], d.Classes)...)
	}
	return points, lifted, nil
}

// lift raises the thresholds of an operating point that lie below those of the one
// before. raise_in_order in models/train/ichtrain/metrics.py does the same.
func lift(o *manifest.OperatingPoint, before manifest.OperatingPoint, classes []infer.Class) (lifted []Lift) {
	if to := before.StudyThreshold; o.StudyThreshold < to {
		lifted = append(lifted, Lift{o.Name, ofStudies, o.StudyThreshold, to, before.Name})
		o.StudyThreshold = to
	}
	for _, c := range classes {
		if to, from := before.Thresholds[c], o.Thresholds[c]; from < to {
			lifted = append(lifted, Lift{o.Name, c.String(), from, to, before.Name})
			o.Thresholds[c] = to
		}
	}
	return lifted
}

// Points chooses the operating points of goals, which come by rising thresholds, and
// says what may be expected of each: the patients of each fold are judged by
// thresholds that others chose, as fits say them that did not know the fold. A study
// that could not be decided raises no alert, and counts as missed where it bleeds.
// The error is a *NoStudiesError.
func (h *Held) Points(goals []Goal, protocol string) ([]manifest.OperatingPoint, []Lift, error) {
	points, lifted, err := choose(goals, h.All)
	if err != nil {
		return nil, nil, err
	}
	var chosen [Folds][]manifest.OperatingPoint
	for k := range chosen {
		if chosen[k], _, err = choose(goals, h.others(k)); err != nil {
			return nil, nil, fmt.Errorf("without fold %d: %w", k+1, err)
		}
	}
	for i := range points {
		points[i].Expected = h.expected(protocol, func(patient int) *manifest.OperatingPoint {
			// Who has no slice that was classified has no fold, and did not choose either.
			return &chosen[h.Fold[patient]][i]
		})
	}
	return points, lifted, nil
}

// others are the slices and studies of all folds but one, from fits without it.
func (h *Held) others(k int) *assess.Data {
	d := h.Without[k]
	out := &assess.Data{Classes: d.Classes, StudyThreshold: d.StudyThreshold}
	for _, s := range d.Slices {
		if h.Fold[s.Patient] != k {
			out.Slices = append(out.Slices, s)
		}
	}
	for _, s := range d.Studies {
		if h.Fold[s.Patient] != k {
			out.Studies = append(out.Studies, s)
		}
	}
	return out
}

// expected judges every patient by the operating point that others chose.
func (h *Held) expected(protocol string, of func(patient int) *manifest.OperatingPoint) *manifest.Expected {
	d := h.All
	slice, study := map[manifest.Question]*judged{manifest.AnyHemorrhage: {}}, &judged{}
	for _, s := range d.Slices {
		t := of(s.Patient).Thresholds
		slice[manifest.AnyHemorrhage].add(s.Patient, s.Truth.Any(), reaches(d.Classes, s.Probabilities, t))
		for i, c := range d.Classes {
			shown, known := s.Truth.Class(c)
			if !c.Hemorrhage() || !known {
				continue
			}
			q := manifest.Question(c.String())
			if slice[q] == nil {
				slice[q] = &judged{}
			}
			slice[q].add(s.Patient, shown, float32(s.Probabilities[i]) >= float32(t[c]))
		}
	}
	for _, s := range d.Studies {
		o := of(s.Patient)
		positive := reaches(d.Classes, s.Scores, o.Thresholds)
		if d.StudyThreshold > 0 {
			positive = s.Score >= o.StudyThreshold
		}
		study.add(s.Patient, s.Truth.Any(), positive)
	}
	e := &manifest.Expected{Protocol: protocol, Slice: map[manifest.Question]manifest.Figures{}}
	for q, j := range slice {
		if f, ok := j.figures(h.Options); ok {
			e.Slice[q] = f
		}
	}
	e.Study, _ = study.figures(h.Options) // choose found studies of both kinds
	return e
}

// judged are answers to a question, apart by what is true.
type judged struct{ yes, no answered }

// answered is whose item it was and whether the answer is right.
type answered struct {
	patient []int
	right   []bool
}

func (j *judged) add(patient int, shown, said bool) {
	a := &j.no
	if shown {
		a = &j.yes
	}
	a.patient, a.right = append(a.patient, patient), append(a.right, shown == said)
}

// figures has none where one side is empty.
func (j *judged) figures(o assess.Options) (f manifest.Figures, ok bool) {
	if len(j.yes.right) == 0 || len(j.no.right) == 0 {
		return f, false
	}
	return manifest.Figures{Sensitivity: j.yes.figure(o), Specificity: j.no.figure(o)}, true
}

func (a *answered) figure(o assess.Options) manifest.Figure {
	e := assess.Share(a.patient, a.right, o)
	if e.Method == "" { // a single patient, who is a single trial
		e.Low, e.High = assess.WilsonInterval(e.Value, 1)
	}
	out := manifest.Figure{e.Value, e.Low, e.High}
	for i, v := range out {
		out[i] = math.Round(v*1000) / 1000
	}
	return out
}
