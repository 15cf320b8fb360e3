package report

import (
	"fmt"
	"math"

	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// Expected holds what was measured against what the model's manifest states of
// the operating point.
type Expected struct {
	Protocol string       `json:"protocol"` // of the stated figures
	Figures  []Comparison `json:"figures"`
	// Of the measured ones, how many differ clearly, and how many would if nothing
	// were different.
	Measured     int     `json:"measured"`
	ClearlyBelow int     `json:"clearly_below"`
	ClearlyAbove int     `json:"clearly_above"`
	ByChance     float64 `json:"expected_by_chance"`
}

// byChance is how often a figure differs clearly from a stated one that is as good:
// a part of those measured.
const byChance = 0.05

// Comparison is one figure of the manifest beside the measured one.
type Comparison struct {
	Items    string          `json:"items"`    // "slices" or "studies"
	Question string          `json:"question"` // "any hemorrhage" or a class
	Figure   string          `json:"figure"`   // "sensitivity" or "specificity"
	Stated   manifest.Figure `json:"stated"`   // value, low and high end of the interval
	Measured assess.Estimate `json:"measured"`
	Verdict  Verdict         `json:"verdict"`
	// Clear: the 95 % interval of the difference does not hold 0. Otherwise a value
	// outside the stated interval may be there by chance: it has an interval too.
	Clear bool `json:"clear,omitempty"`
}

// Verdict says where a measured value lies, beside the stated interval.
type Verdict string

// The verdicts.
const (
	Within      Verdict = "within"
	Below       Verdict = "below"
	Above       Verdict = "above"
	NotMeasured Verdict = "not measured"
)

// Compare puts the measured figures beside those of a manifest; nil where it
// states none.
func Compare(e *manifest.Expected, f *assess.Figures) *Expected {
	if e == nil {
		return nil
	}
	out := &Expected{Protocol: e.Protocol}
	out.add("studies", f.Studies.Any, e.Study)
	out.slices(f.Slices.Any, manifest.AnyHemorrhage, e)
	for _, b := range f.Slices.Classes {
		out.slices(b, manifest.Question(b.Name), e)
	}
	for _, c := range out.Figures {
		switch {
		case c.Verdict == NotMeasured:
			continue
		case c.Clear && c.Verdict == Below:
			out.ClearlyBelow++
		case c.Clear:
			out.ClearlyAbove++
		}
		out.Measured++
	}
	out.ByChance = math.Round(byChance*float64(out.Measured)*100) / 100
	return out
}

func (e *Expected) slices(b assess.Binary, q manifest.Question, stated *manifest.Expected) {
	if s, there := stated.Slice[q]; there {
		e.add("slices", b, s)
	}
}

func (e *Expected) add(items string, b assess.Binary, stated manifest.Figures) {
	for _, c := range []Comparison{
		{Figure: "sensitivity", Stated: stated.Sensitivity, Measured: b.Sensitivity},
		{Figure: "specificity", Stated: stated.Specificity, Measured: b.Specificity},
	} {
		c.Items, c.Question = items, b.Name
		m := c.Measured
		switch v := m.Value; {
		case !m.Defined():
			c.Verdict = NotMeasured
		case v < c.Stated.Low():
			c.Verdict = Below
		case v > c.Stated.High():
			c.Verdict = Above
		default:
			c.Verdict = Within
		}
		c.Clear = m.Defined() && m.Method != "" && differs(c.Stated, m)
		e.Figures = append(e.Figures, c)
	}
}

// differs reports whether the 95 % interval of the difference between two estimates
// lies on one side of 0. The interval is made of theirs: from the difference as far
// as the two distances to their ends, squared and added (Zou and Donner, Statistics
// in Medicine 2008;27:1693). What differs lies outside the stated interval.
func differs(stated manifest.Figure, m assess.Estimate) bool {
	difference := m.Value - stated.Value()
	if difference < 0 {
		return difference+math.Hypot(m.High-m.Value, stated.Value()-stated.Low()) < 0
	}
	return difference-math.Hypot(m.Value-m.Low, stated.High()-stated.Value()) > 0
}

// Worse reports whether the measured value lies clearly below the stated one.
func (c Comparison) Worse() bool { return c.Clear && c.Verdict == Below }

// Words gives the verdict for people.
func (c Comparison) Words() string {
	switch {
	case c.Clear:
		return "clearly " + string(c.Verdict)
	case c.Verdict == Below || c.Verdict == Above:
		return string(c.Verdict) + ", perhaps by chance"
	}
	return string(c.Verdict)
}

// Summary counts what differs.
func (e *Expected) Summary() string {
	switch {
	case e == nil:
		return "expected figures are not stated"
	case e.Measured == 0:
		return "none of the figures that the manifest states could be measured"
	case e.ClearlyBelow+e.ClearlyAbove == 0:
		return fmt.Sprintf("none of %d measured figures lies clearly below or above what the manifest states", e.Measured)
	}
	return fmt.Sprintf("of %d measured figures %d lie clearly below and %d clearly above what the manifest states; by chance alone it would be about %.1f in all",
		e.Measured, e.ClearlyBelow, e.ClearlyAbove, e.ByChance)
}
