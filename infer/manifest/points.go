package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"ichwatch/infer"
)

// OperatingPoint is a set of thresholds under a name, and how well the model did
// with them. A model may have several: a site chooses between missing less and
// alarming less.
type OperatingPoint struct {
	Name string `yaml:"name" json:"name"`
	// Thresholds has, for every hemorrhage class, the probability from which on a
	// slice counts.
	Thresholds map[infer.Class]float64 `yaml:"thresholds,flow" json:"thresholds"`
	// StudyThreshold is the probability from which on a study is positive under a
	// rule of kind evidence; 0 under any other.
	StudyThreshold float64   `yaml:"study_threshold,omitempty" json:"study_threshold,omitempty"`
	Expected       *Expected `yaml:"expected,omitempty" json:"expected,omitempty"` // nil: not stated
}

// Expected is how well a model did at an operating point on slices that neither
// trained it nor chose its thresholds.
type Expected struct {
	Protocol string               `yaml:"protocol" json:"protocol"` // on what, and how it was kept apart; one line
	Slice    map[Question]Figures `yaml:"slice" json:"slice"`       // may lack questions
	Study    Figures              `yaml:"study" json:"study"`       // any hemorrhage, under the study rule
}

// Question is what is asked of a slice: AnyHemorrhage, or a hemorrhage class by
// its name.
type Question string

// AnyHemorrhage is answered with yes where some class reaches its threshold.
const AnyHemorrhage Question = "any"

// UnmarshalText takes the names that a manifest may use.
func (q *Question) UnmarshalText(text []byte) error {
	*q = Question(text)
	if *q == AnyHemorrhage {
		return nil
	}
	c, err := infer.ParseClass(string(text))
	if err == nil && !c.Hemorrhage() {
		return fmt.Errorf("%s is never found; known are %s and the hemorrhage classes", c, AnyHemorrhage)
	}
	return err
}

// Figures are what an alert rests on.
type Figures struct {
	Sensitivity Figure `yaml:"sensitivity,flow" json:"sensitivity"`
	Specificity Figure `yaml:"specificity,flow" json:"specificity"`
}

// String gives both with their intervals.
func (f Figures) String() string {
	return fmt.Sprintf("sensitivity %v, specificity %v", f.Sensitivity, f.Specificity)
}

// Figure is a share with its 95 % interval: value, low end, high end.
type Figure [3]float64

// Value is the share itself.
func (f Figure) Value() float64 { return f[0] }

// Low is the lower end of the interval.
func (f Figure) Low() float64 { return f[1] }

// High is its upper end.
func (f Figure) High() float64 { return f[2] }

// String writes the value and, in brackets, the interval.
func (f Figure) String() string {
	return fmt.Sprintf("%.3f (%.3f-%.3f)", f.Value(), f.Low(), f.High())
}

// Describe says what may be expected of the point, for whoever has to choose one.
func (o *OperatingPoint) Describe() string {
	if o.Expected == nil {
		return "expected figures are not stated"
	}
	return fmt.Sprintf("expected of studies: %v, by %s", o.Expected.Study, o.Expected.Protocol)
}

// UnknownPointError is an operating point that a model does not have.
type UnknownPointError struct {
	Where  string // the manifest
	Name   string
	Points []OperatingPoint // those that there are
}

// Error names the points that there are; what may be expected of each stands in the
// manifest and on the card.
func (e *UnknownPointError) Error() string {
	return fmt.Sprintf("%s has no operating point %q; it has %s", e.Where, e.Name, strings.Join(PointNames(e.Points), ", "))
}

// PointNames are the names of operating points, in their order.
func PointNames(points []OperatingPoint) []string {
	var names []string
	for _, o := range points {
		names = append(names, o.Name)
	}
	return names
}

// Point finds an operating point by its name; the empty name is the model's
// default. Its error is an *UnknownPointError.
func (m *Manifest) Point(name string) (*OperatingPoint, error) {
	wanted := name
	if name == "" {
		wanted = m.DefaultPoint
	}
	for i := range m.OperatingPoints {
		if o := &m.OperatingPoints[i]; o.Name == wanted {
			return o, nil
		}
	}
	return nil, &UnknownPointError{Where: m.Where(), Name: wanted, Points: m.OperatingPoints}
}

// points checks the operating points.
func (p *problems) points(m *Manifest) {
	if len(m.OperatingPoints) == 0 && !p.has("operating_points") {
		p.add("operating_points", "is missing; wanted is at least one, with a name and thresholds")
	}
	var names []string
	for i, o := range m.OperatingPoints {
		key := fmt.Sprintf("operating_points[%d]", i)
		p.pointName(key+".name", o.Name, names)
		names = append(names, o.Name)
		p.thresholds(key+".thresholds", m, o.Thresholds)
		p.studyThreshold(key+".study_threshold", m.StudyRule.Kind, o.StudyThreshold)
		if o.Expected != nil {
			p.expected(key+".expected", m, o.Expected)
		}
	}
	p.text("operating_point", m.DefaultPoint)
	if m.DefaultPoint != "" && !slices.Contains(names, m.DefaultPoint) && !p.has("operating_points") {
		p.add("operating_point", "is %q, there are %s", m.DefaultPoint, strings.Join(names, ", "))
	}
}

// pointName checks a name that people type into a configuration.
func (p *problems) pointName(key, name string, before []string) {
	p.text(key, name)
	const known = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	switch {
	case p.has(key):
	case strings.Trim(name, known) != "" || len(name) > 32:
		p.add(key, "is %q, wanted are 1 to 32 of A-Z a-z 0-9 . _ -", name)
	case slices.Contains(before, name):
		p.add(key, "%s is there twice", name)
	}
}

func (p *problems) thresholds(key string, m *Manifest, thresholds map[infer.Class]float64) {
	whole := !p.has("classes")
	for c, t := range thresholds {
		key := key + "." + c.String()
		switch {
		case !c.Hemorrhage():
			p.add(key, "is the threshold of a class that is never found")
		case whole && !slices.Contains(m.Classes, c):
			p.add(key, "is the threshold of a class that the model does not have")
		case !(t > 0 && t < 1):
			p.add(key, "is %v, wanted is a probability between 0 and 1", t)
		}
	}
	for _, c := range m.Classes {
		key := key + "." + c.String()
		if _, there := thresholds[c]; whole && c.Hemorrhage() && !there && !p.has(key) {
			p.add(key, "is missing")
		}
	}
}

// studyThreshold belongs to rules of kind evidence. Of a kind that is not known
// nothing is said here.
func (p *problems) studyThreshold(key string, kind RuleKind, t float64) {
	_, there := p.lines[key]
	switch {
	case p.has(key):
	case kind == RuleAdjacent && there:
		p.add(key, "belongs to a study rule of kind %s, this one is %s", RuleEvidence, kind)
	case kind == RuleEvidence && !there:
		p.add(key, "is missing; a study rule of kind %s needs it", kind)
	case kind == RuleEvidence && !(t > 0 && t < 1):
		p.add(key, "is %v, wanted is a probability between 0 and 1", t)
	}
}

func (p *problems) expected(key string, m *Manifest, e *Expected) {
	p.text(key+".protocol", e.Protocol)
	if strings.ContainsAny(e.Protocol, "\r\n") {
		p.add(key+".protocol", "has several lines, wanted is one")
	}
	for _, q := range slices.Sorted(maps.Keys(e.Slice)) {
		key := key + ".slice." + string(q)
		c, err := infer.ParseClass(string(q))
		if err == nil && !slices.Contains(m.Classes, c) && !p.has("classes") {
			p.add(key, "is about a class that the model does not have")
		}
		p.figures(key, e.Slice[q])
	}
	p.figures(key+".study", e.Study)
}

func (p *problems) figures(key string, f Figures) {
	p.figure(key+".sensitivity", f.Sensitivity)
	p.figure(key+".specificity", f.Specificity)
}

func (p *problems) figure(key string, f Figure) {
	_, there := p.lines[key]
	ordered := 0 <= f.Low() && f.Low() <= f.Value() && f.Value() <= f.High() && f.High() <= 1 // false for NaN
	switch {
	case p.has(key):
	case !there:
		p.add(key, "is missing")
	case !ordered:
		p.add(key, "is %v, wanted are a value and the low and the high end of its 95 %% interval, within 0 to 1", [3]float64(f))
	}
}
