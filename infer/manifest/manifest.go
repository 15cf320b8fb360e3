// Package manifest reads a model folder: manifest.yaml and the model file that
// it names.
//
// The manifest is the only place where a model's preprocessing, classes,
// thresholds and study rule are written down; training and the daemon both
// follow it. A manifest that leaves anything open or says anything unknown is
// refused, with every mistake at once.
//
// The model file is read once. The bytes that were hashed and compared with the
// manifest are the bytes that run: nothing reads the file a second time, and a
// model whose weights lie in further files is refused.
package manifest

import (
	"fmt"

	"ichwatch/infer"
)

// Schema is the version of the manifest that this package reads.
const Schema = 1

// FileName is the manifest's name in its folder.
const FileName = "manifest.yaml"

// Manifest describes one model. Load alone makes valid ones.
type Manifest struct {
	Schema          int              `yaml:"schema"`
	Name            string           `yaml:"name"`
	Architecture    string           `yaml:"architecture"`
	File            File             `yaml:"model"`
	Input           Input            `yaml:"input"`
	Windows         []Window         `yaml:"windows"`
	Crop            Crop             `yaml:"crop"`
	Resample        string           `yaml:"resample"`
	Normalisation   Normalisation    `yaml:"normalisation"`
	Outputs         Outputs          `yaml:"outputs"`
	Classes         []infer.Class    `yaml:"classes"`
	Activation      Activation       `yaml:"activation"`
	Precisions      []string         `yaml:"precisions"`      // below float32; may be left out
	DefaultPoint    string           `yaml:"operating_point"` // of OperatingPoints, by its name
	OperatingPoints []OperatingPoint `yaml:"operating_points"`
	StudyRule       StudyRule        `yaml:"study_rule"`
	Usual           *Usual           `yaml:"usual"` // nil: learned at each site
	Provenance      map[string]any   `yaml:"provenance"`
	IntendedUse     string           `yaml:"intended_use"`

	where string
	text  []byte // as it was read
	model []byte
}

// File names the model file and its hash.
type File struct {
	Name   string `yaml:"file"`   // beside the manifest; no path
	SHA256 string `yaml:"sha256"` // lower-case hex
}

// Input is the model's only input: float32, [slices, windows, height, width].
type Input struct {
	Name   string `yaml:"name"`
	Height int    `yaml:"height"` // pixels
	Width  int    `yaml:"width"`  // pixels
}

// Window is a range of Hounsfield units; each is one channel of the input, in
// order.
type Window struct {
	Centre float64 `yaml:"centre"` // HU
	Width  float64 `yaml:"width"`  // HU
}

// Crop tells how the head is found and how much is kept around it.
//
// A slice that was exported in one window has no air: whatever lies below the
// window shows its lower end. So where no value of the head finder's grid lies
// below Threshold, the lowest of them is taken for air, and the threshold of this
// slice is that value + 10 HU.
type Crop struct {
	Threshold   float64 `yaml:"threshold"`    // HU at and above which a pixel may belong to the head
	Margin      float64 `yaml:"margin"`       // kept on each side, as a part of the head's longer side
	MinimumArea float64 `yaml:"minimum_area"` // of the slice, below which there is no head in it; 0..1
}

// Normalisation is applied last: (v-mean)/std, a value for each window.
type Normalisation struct {
	Mean []float64 `yaml:"mean"`
	Std  []float64 `yaml:"std"`
}

// Outputs names the model's outputs.
type Outputs struct {
	Logits string `yaml:"logits"` // float32, [slices, classes]
	CAM    string `yaml:"cam"`    // class activation maps, float32, [slices, classes, h, w]; empty: none
}

// Activation turns logits into probabilities.
type Activation string

// The activations.
const (
	Softmax Activation = "softmax" // the classes exclude each other
	Sigmoid Activation = "sigmoid" // each class stands for itself
)

// Precisions below float32 in which a provider may compute: the model was assessed
// in them, or consists of them. The default is none, since what a model loses is
// not known beforehand.
const (
	Float16 = "fp16"
	Int8    = "int8" // of a model that is quantised (QDQ)
)

// ResampleTriangle is the only filter of schema 1: separable triangle, widened
// (antialiased) when shrinking. It is torch's interpolate with
// mode="bilinear", antialias=True, align_corners=False, and Pillow's BILINEAR.
const ResampleTriangle = "triangle"

// RuleKind is how slices make a study positive.
type RuleKind string

// The kinds of study rule.
const (
	// RuleAdjacent: at least Slices of any Of neighbouring slices at or above the
	// threshold of one class.
	RuleAdjacent RuleKind = "adjacent"
	// RuleEvidence: the odds of any hemorrhage of all slices, each to the power of
	// Power, are averaged over the height of a head; the average, to the power of
	// 1/Power, are the odds of the study, whose probability reaches the study
	// threshold of the operating point.
	RuleEvidence RuleKind = "evidence"
)

// StudyRule says when slices make a study positive. The keys of another kind than
// Kind are not there, and 0. Rules compare with ==.
type StudyRule struct {
	Kind RuleKind `yaml:"kind"`

	Slices int `yaml:"slices"` // adjacent
	Of     int `yaml:"of"`     // adjacent

	// Power says how much many slices with little in them weigh beside one with
	// much: above 1 nearly the highest alone counts, below 1 all of them do.
	Power float64 `yaml:"power"` // evidence
	// SliceThickness is that of a slice whose evidence counts in full; where slices
	// lie nearer to each other they count by their distance.
	SliceThickness float64 `yaml:"slice_mm"` // evidence, mm
	// HeadHeight is over how much the evidence is averaged, however much of the
	// head was scanned: more slices never mean less evidence.
	HeadHeight float64 `yaml:"head_mm"` // evidence, mm

	MinimumSlices int     `yaml:"minimum_slices"` // below this a study that is not positive is not analysed rather than negative
	MaximumGap    float64 `yaml:"maximum_gap_mm"` // between neighbouring slices, along the normal
}

// Usual is what studies are like at the sites that a model is meant for, to know
// drift by. What it leaves out is learned.
type Usual struct {
	TissueHU     *Spread     `yaml:"tissue_hu"`     // mean HU of soft tissue (-50..150) of a study
	TissueSD     *Spread     `yaml:"tissue_sd_hu"`  // its standard deviation
	Pixel        *Spread     `yaml:"pixel_mm"`      // pixel spacing
	Thickness    *Spread     `yaml:"slice_mm"`      // slice thickness
	PositiveRate *[2]float64 `yaml:"positive_rate"` // share of positive studies, from and to
}

// Spread of a number between studies.
type Spread struct {
	Mean float64 `yaml:"mean"`
	SD   float64 `yaml:"sd"`
}

// String says the rule in words.
func (r StudyRule) String() string {
	how := fmt.Sprintf("at least %d of %d neighbouring slices reach the threshold of the same class", r.Slices, r.Of)
	if r.Kind == RuleEvidence {
		how = fmt.Sprintf("the evidence of any hemorrhage reaches the study threshold: the mean of the odds of all slices, to the power of %g, over %g mm of head, a slice counting for %g mm at most", r.Power, r.HeadHeight, r.SliceThickness)
	}
	return fmt.Sprintf("positive where %s, however few slices there are; otherwise negative from %d slices on without gaps above %g mm, and not analysed with less", how, r.MinimumSlices, r.MaximumGap)
}

// Where is the path of the manifest, for errors.
func (m *Manifest) Where() string { return m.where }

// Model gives the bytes of the model file whose hash was verified. They are not
// to be changed.
func (m *Manifest) Model() []byte { return m.model }

// Release gives the bytes of the model back, once they are loaded; Model gives none
// from then on.
func (m *Manifest) Release() { m.model = nil }

// Text is the manifest as it was read, for signatures. It is not to be changed.
func (m *Manifest) Text() []byte { return m.text }

// SHA256 is the verified hash of the model file, lower-case hex.
func (m *Manifest) SHA256() string { return m.File.SHA256 }

// Ref names the model.
func (m *Manifest) Ref() infer.ModelRef {
	return infer.ModelRef{Name: m.Name, SHA256: m.File.SHA256}
}
