// Package infer says what ichwatch looks for in a slice, and in which terms.
//
// A slice arrives as stored pixels. [ichwatch/infer/pixel] turns them into an
// [Image] in Hounsfield units and that into a model's input; a [Classifier]
// (ichwatch/infer/onnx) gives [Scores] for it; the study rule
// (ichwatch/infer/study) decides from the scores of a stack of slices. All
// three take their parameters from one verified model folder
// (ichwatch/infer/manifest).
//
// Everything here is about suspected findings and not for diagnosis.
package infer

import (
	"context"
	"fmt"
	"math"
	"strings"
)

// Class is what a slice may show: nothing of note, or one of the five kinds of
// intracranial hemorrhage.
type Class int

// The classes, in the order in which manifests commonly list them. A manifest
// may order its outputs otherwise: Scores follow the manifest.
const (
	Normal Class = iota
	Epidural
	Subdural
	Intraventricular
	Intraparenchymal
	Subarachnoid
)

var classNames = [...]string{
	Normal:           "normal",
	Epidural:         "epidural",
	Subdural:         "subdural",
	Intraventricular: "intraventricular",
	Intraparenchymal: "intraparenchymal",
	Subarachnoid:     "subarachnoid",
}

// Classes lists every class.
func Classes() []Class {
	return []Class{Normal, Epidural, Subdural, Intraventricular, Intraparenchymal, Subarachnoid}
}

// ParseClass is the inverse of String.
func ParseClass(name string) (Class, error) {
	for c, n := range classNames {
		if n == name {
			return Class(c), nil
		}
	}
	return 0, fmt.Errorf("class %q is not known", name)
}

// String gives the name used in manifests and alerts, such as "epidural".
func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return fmt.Sprintf("Class(%d)", int(c))
	}
	return classNames[c]
}

// Hemorrhage reports whether c is one of the five kinds of bleed.
func (c Class) Hemorrhage() bool { return c > Normal && int(c) < len(classNames) }

// MarshalText gives the class its name in JSON and YAML.
func (c Class) MarshalText() ([]byte, error) {
	if c < 0 || int(c) >= len(classNames) {
		return nil, fmt.Errorf("class %d is not known", int(c))
	}
	return []byte(classNames[c]), nil
}

// UnmarshalText is the inverse of MarshalText.
func (c *Class) UnmarshalText(text []byte) (err error) {
	*c, err = ParseClass(string(text))
	return err
}

// Image is one axial slice in Hounsfield units.
type Image struct {
	Rows, Columns int
	HU            []int16    // row by row, Rows*Columns of them; air is about -1000
	PixelSpacing  [2]float64 // mm between rows, between columns; 0 where unknown
}

// Scores is what a model says of one slice, a number for each class in the
// order of its manifest.
type Scores struct {
	Logits        []float32 // as the model gave them; of several models, the log-odds of Probabilities
	Probabilities []float32 // after the manifest's activation, 0..1; all finite
	// Features are what goes into the model's last layer; nil unless the classifier
	// was made to give them. They serve to fit that layer anew.
	Features []float32
	// Provider computed them: "cpu", "cuda", "tensorrt"; of several models, each that did.
	Provider string
}

// certain bounds log-odds: what lies nearer to 0 or 1 is taken for this.
const certain = 1e-9

// LogOdds gives log(p/(1-p)), the scale on which probabilities of different
// thresholds and models compare. It is finite for every p in 0..1.
func LogOdds(p float64) float64 {
	p = min(max(p, certain), 1-certain)
	return math.Log(p / (1 - p))
}

// Probability is the inverse of LogOdds.
func Probability(logOdds float64) float64 { return 1 / (1 + math.Exp(-logOdds)) }

// ModelRef names a model beyond doubt.
type ModelRef struct {
	Name   string `json:"name"`   // as its manifest calls it
	SHA256 string `json:"sha256"` // of the model file, lower-case hex
}

// Models names what answers together: one model, or the members of an ensemble in
// their order.
type Models []ModelRef

// String gives each with the first digits of its hash.
func (m Models) String() string {
	names := make([]string, len(m))
	for i, ref := range m {
		names[i] = ref.String()
	}
	return strings.Join(names, " + ")
}

// String gives the name with the first digits of the hash.
func (m ModelRef) String() string {
	return m.Name + "@" + m.SHA256[:min(12, len(m.SHA256))]
}

// Classifier is a loaded and verified model, or several that answer as one. It is
// safe for concurrent use.
type Classifier interface {
	// Models says who answers.
	Models() Models
	// Provider says what computes it: "cpu", "cuda", "tensorrt".
	Provider() string
	// Classify scores one slice. Its errors are the slice's (no head in it), the
	// model's (an answer that is no number) or the context's.
	Classify(ctx context.Context, img *Image) (Scores, error)
}
