package report

import (
	"fmt"

	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// Expected holds what was measured against what the model's manifest states of
// the operating point.
type Expected struct {
	Protocol string       `json:"protocol"` // of the stated figures
	Figures  []Comparison `json:"figures"`
}

// Comparison is one figure of the manifest beside the measured one.
type Comparison struct {
	Items    string          `json:"items"`    // "slices" or "studies"
	Question string          `json:"question"` // "any hemorrhage" or a class
	Figure   string          `json:"figure"`   // "sensitivity" or "specificity"
	Stated   manifest.Figure `json:"stated"`   // value, low and high end of the interval
	Measured assess.Estimate `json:"measured"`
	Verdict  Verdict         `json:"verdict"`
	// Overlap: outside as the measured value lies, the two intervals have a part in
	// common; it may be chance.
	Overlap bool `json:"overlap,omitempty"`
}

// Verdict says where a measured value lies.
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
			c.Verdict, c.Overlap = Below, m.Method != "" && m.High >= c.Stated.Low()
		case v > c.Stated.High():
			c.Verdict, c.Overlap = Above, m.Method != "" && m.Low <= c.Stated.High()
		default:
			c.Verdict = Within
		}
		e.Figures = append(e.Figures, c)
	}
}

// Outside reports whether the measured value lies outside the stated interval.
func (c Comparison) Outside() bool { return c.Verdict == Below || c.Verdict == Above }

// Words gives the verdict for people.
func (c Comparison) Words() string {
	if c.Overlap {
		return string(c.Verdict) + ", perhaps by chance"
	}
	return string(c.Verdict)
}

// Summary counts what lies outside.
func (e *Expected) Summary() string {
	if e == nil {
		return "expected figures are not stated"
	}
	outside, measured := 0, 0
	for _, c := range e.Figures {
		if c.Verdict != NotMeasured {
			measured++
		}
		if c.Outside() {
			outside++
		}
	}
	if outside == 0 {
		return fmt.Sprintf("all of %d measured figures lie within the intervals that the manifest states", measured)
	}
	return fmt.Sprintf("%d of %d measured figures lie outside the intervals that the manifest states", outside, measured)
}
