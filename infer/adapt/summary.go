package adapt

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// Schema is the summary's schema id.
const Schema = "ichwatch.adaptation/v1"

// Summary is an adaptation as it is written down beside the adapted model.
type Summary struct {
	Schema     string    `json:"schema"`
	Disclaimer string    `json:"disclaimer"`
	Program    string    `json:"program"` // name and version
	Created    time.Time `json:"created"`
	From       Ref       `json:"adapted_from"`
	To         Ref       `json:"model"`

	Unit     string       `json:"unit"` // what Patients counts: "patient" or "study"
	Patients int          `json:"patients"`
	With     int          `json:"patients_with_hemorrhage"`
	Without  int          `json:"patients_without_hemorrhage"`
	Slices   int          `json:"slices"` // that were learnt from
	Classes  []ClassCount `json:"classes"`

	Strength      Strength   `json:"strength"`
	FoldStrengths []Strength `json:"strengths_of_folds"`
	Tried         []Trial    `json:"strengths_tried"`

	ThresholdsBefore map[infer.Class]float64 `json:"thresholds_before"` // those in use
	// StudyThresholdBefore is 0 where the study rule has no threshold of its own.
	StudyThresholdBefore float64                   `json:"study_threshold_before,omitempty"`
	Points               []manifest.OperatingPoint `json:"operating_points"`
	DefaultPoint         string                    `json:"operating_point"` // of Points, by its name
	// Lifted are thresholds that were raised to keep Points in order.
	Lifted []Lift `json:"lifted,omitempty"`
	// Undecided are the studies that raise no alert because nothing can be said of
	// them, before and after; they count as missed where they bleed.
	Undecided []Undecided `json:"undecided_studies,omitempty"`

	// Before is the model that the adaptation started from, After what fits without
	// the patient in question say, at the default operating point, both on the same
	// slices. Curves are left out. What is to be expected of sensitivity and
	// specificity afterwards stands in Points: thresholds were chosen on these slices.
	Before *assess.Figures `json:"before"`
	After  *assess.Figures `json:"after_out_of_fold"`
	Worse  []string        `json:"worse"` // what is worse after than before; empty where nothing is that counts

	Recomputed Recomputed `json:"recomputed"`
}

// Undecided is a study that was not decided.
type Undecided struct {
	Study    string `json:"study"` // where the table of labels has it: "study 3 (from line 42 on)"
	Why      string `json:"why"`   // outcome and reason, without identity
	Bleeding bool   `json:"bleeding"`
	Before   bool   `json:"before"`
	After    bool   `json:"after"` // of the adapted model, at its default operating point
}

// String says which study it is and what became of it.
func (u Undecided) String() string {
	text := u.Study
	if u.Bleeding {
		text += ", which bleeds"
	}
	switch {
	case !u.After:
		text += ", before only"
	case !u.Before:
		text += ", after only"
	}
	return text + ": " + u.Why
}

// Ref names a model.
type Ref struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Recomputed says how far the adapted model, run through the runtime, lies from
// what its head and features ask for: largest differences of logits.
type Recomputed struct {
	Slices int     `json:"slices"`
	Logits float64 `json:"logits"` // from head x features
	Maps   float64 `json:"maps"`   // of the mean of each activation map plus the bias from the logit
}

// Describe takes what a result knows into the summary.
func (s *Summary) Describe(r *Result) {
	s.Patients, s.With, s.Without, s.Slices, s.Classes = r.Patients, r.With, r.Without, r.Learnt, r.Classes
	s.Strength, s.FoldStrengths, s.Tried = r.Strength, r.FoldStrengths, r.Tried
}

// LiftedWords says which thresholds were raised to keep the operating points in
// order, in a sentence for each point.
func (s *Summary) LiftedWords() []string {
	var words []string
	point := ""
	for _, l := range s.Lifted {
		what := fmt.Sprintf("%s %.4g in place of %.4g", l.Of, l.To, l.From)
		if l.Point == point {
			words[len(words)-1] += ", " + what
			continue
		}
		point = l.Point
		words = append(words, fmt.Sprintf("%s takes thresholds of %s that lie above its own: %s", l.Point, l.Below, what))
	}
	return words
}

// UndecidedWords says which studies could not be decided, and what that means for
// the figures; empty where all were.
func (s *Summary) UndecidedWords() string {
	const most = 8
	var named []string
	for _, u := range s.Undecided[:min(len(s.Undecided), most)] {
		named = append(named, u.String())
	}
	if len(named) == 0 {
		return ""
	}
	if more := len(s.Undecided) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("and %d more in adaptation.json", more))
	}
	return fmt.Sprintf("%d of the studies could not be decided; they raise no alert, and count as missed where they bleed: %s", len(s.Undecided), strings.Join(named, "; "))
}

// Default is the default operating point.
func (s *Summary) Default() *manifest.OperatingPoint {
	for i := range s.Points {
		if s.Points[i].Name == s.DefaultPoint {
			return &s.Points[i]
		}
	}
	return nil
}

// Compare takes the figures of both into the summary, and says what is worse: the
// area under the ROC curve of any hemorrhage, of slices or of studies, or the mean
// of the adapted classes' over slices.
func (s *Summary) Compare(before, after *assess.Figures, adapted []infer.Class) {
	s.Before, s.After = withoutCurves(before), withoutCurves(after)
	s.Worse = []string{}
	compare := func(what string, before, after float64) {
		if after < before {
			s.Worse = append(s.Worse, fmt.Sprintf("AUC of %s %.4f, before %.4f", what, after, before))
		}
	}
	compare("any hemorrhage in slices", before.Slices.Any.AUC.Value, after.Slices.Any.AUC.Value)
	compare("any hemorrhage in studies", before.Studies.Any.AUC.Value, after.Studies.Any.AUC.Value)
	compare("the adapted classes in slices, on average,", mean(before.Slices.Classes, adapted), mean(after.Slices.Classes, adapted))
}

func mean(classes []assess.Binary, of []infer.Class) float64 {
	sum := 0.0
	for _, c := range of {
		k := slices.IndexFunc(classes, func(b assess.Binary) bool { return b.Name == c.String() })
		sum += classes[k].AUC.Value / float64(len(of))
	}
	return sum
}

// withoutCurves leaves what a person reads as numbers.
func withoutCurves(f *assess.Figures) *assess.Figures {
	bare := func(b assess.Binary) assess.Binary {
		b.ROC, b.PR, b.OperatingPoints, b.Calibration = nil, nil, nil, nil
		return b
	}
	all := func(in []assess.Binary) (out []assess.Binary) {
		for _, b := range in {
			out = append(out, bare(b))
		}
		return out
	}
	out := *f
	out.Slices.Any, out.Slices.Classes = bare(f.Slices.Any), all(f.Slices.Classes)
	out.Studies.Any, out.Studies.Classes = bare(f.Studies.Any), all(f.Studies.Classes)
	return &out
}

// JSON writes the summary for programs.
func (s *Summary) JSON(w io.Writer) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}
