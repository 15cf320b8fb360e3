// Package report writes an assessment down: as JSON for programs, as Markdown for
// a model card, and as one HTML page for people, which needs nothing beside it.
//
// A report names slices and studies by their place in the table of labels, never
// by anything that a header or a file name says. Its pictures are pictures of
// somebody's head all the same, and are to be kept like them.
package report

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"time"

	"ichwatch/infer"
	"ichwatch/infer/assess"
)

// Schema is the JSON's schema id.
const Schema = "ichwatch.assessment/v1"

// Disclaimer stands in every form of a report.
const Disclaimer = "Suspected findings, not for diagnosis. Not a medical device."

// Report is an assessment with what it was made of.
type Report struct {
	Schema     string    `json:"schema"`
	Disclaimer string    `json:"disclaimer"`
	Program    string    `json:"program"` // name and version
	Created    time.Time `json:"created"`
	Model      Model     `json:"model"`
	Data       Data      `json:"data"`
	Speed      Speed     `json:"speed"`
	// Expected is nil where the manifest states nothing of the operating point.
	Expected *Expected `json:"expected,omitempty"`

	*assess.Figures

	Pictures []Picture `json:"-"`
}

// Model says what was assessed: one model, or several that answer as one.
type Model struct {
	Name           string                  `json:"name"`    // of all of them
	Members        []Member                `json:"members"` // one, or those of an ensemble
	Provider       string                  `json:"provider"`
	OperatingPoint string                  `json:"operating_point"`
	Thresholds     map[infer.Class]float64 `json:"thresholds"` // of the operating point; of several models, their common ones
	StudyRule      string                  `json:"study_rule"` // in words
	// StudyThreshold is that of studies where the rule has one.
	StudyThreshold float64 `json:"study_threshold,omitempty"`
}

// Member is a model by itself.
type Member struct {
	infer.ModelRef
	Architecture string `json:"architecture"`
	Activation   string `json:"activation"`
	IntendedUse  string `json:"intended_use"`
}

// Data counts what was looked at.
type Data struct {
	Format     string         `json:"format"`
	Labels     int            `json:"labels"`     // rows of the table
	Examined   int            `json:"examined"`   // slices with a label and a file
	Classified int            `json:"classified"` // of them, by the model
	Ineligible map[string]int `json:"ineligible"` // of them, not for the model: how many for each reason
	Failed     map[string]int `json:"failed"`     // of them, that could not be judged
	Studies    int            `json:"studies"`
	Patients   int            `json:"patients"`
	NoFile     int            `json:"labels_without_file"`
	NoLabel    int            `json:"files_without_label"`
	Unread     int            `json:"files_unreadable"`  // below the folder, of another kind
	Doubtful   int            `json:"doubtful_slices"`   // classified, too little to be called either way: in no figure of slices
	Unclear    int            `json:"unclear_studies"`   // that show nothing else: in no figure of studies
	Unordered  int            `json:"unordered_studies"` // of which nobody knows how their slices lie: in no figure of studies
	// Unclassified slices show a hemorrhage whose classes are not stated: in the
	// figures of any hemorrhage alone.
	Unclassified int `json:"unclassified_slices"`
	// Undecided studies are in the figures: they raise no alert.
	Undecided []Undecided `json:"undecided_studies,omitempty"`
	Window    string      `json:"window,omitempty"` // centre/width in HU, of images in one window
	NoBone    int         `json:"slices_without_bone_window"`
	Ignored   []string    `json:"columns_ignored"`
}

// Undecided is a study that ended as NOT-ANALYSED or FAILED.
type Undecided struct {
	Study    int    `json:"study"` // by first appearance in the table of labels, from 1 on; as in slices.csv
	Line     int    `json:"line"`  // of the table, its first
	Bleeding bool   `json:"bleeding"`
	Outcome  string `json:"outcome"`
	Reason   string `json:"reason"` // never identity
}

// Name says which study it is, by its place in the table.
func (u Undecided) Name() string {
	return fmt.Sprintf("study %d (line %d of the labels)", u.Study, u.Line)
}

// String says what became of it.
func (u Undecided) String() string {
	what := ""
	if u.Bleeding {
		what = ", which bleeds"
	}
	return fmt.Sprintf("%s%s: %s, %s", u.Name(), what, u.Outcome, u.Reason)
}

// Speed is how fast the slices went through, from file to finding.
type Speed struct {
	Slices          int     `json:"slices"`
	Seconds         float64 `json:"seconds"`
	SlicesPerSecond float64 `json:"slices_per_second"`
	Workers         int     `json:"workers"` // slices under way at a time
}

// Picture shows one slice that was judged wrongly.
type Picture struct {
	Slice   string // "line 12 of the labels"
	Missed  bool   // it shows a bleed and was not found; otherwise it was a false alarm
	Truth   assess.Truth
	Class   infer.Class // whose activation map is laid over it
	Score   float64     // its probability
	Any     float64     // what speaks for any hemorrhage
	Peak    float64     // highest value of the map, in the units of the logit
	Plain   []byte      // PNG
	Overlay []byte      // PNG; nil where the model has no maps
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the assessment: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

//go:embed page.gohtml
var pageText string

//go:embed page.css
var pageStyle string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":       func() template.CSS { return template.CSS(pageStyle) },
	"estimate":    estimateHTML,
	"stated":      statedHTML,
	"short":       short,
	"bar":         intervalBar,
	"roc":         rocPlot,
	"pr":          prPlot,
	"reliability": reliabilityPlot,
	"bleeds":      bleeds,
	"heat":        heat,
	"part":        part,
	"total":       total,
	"percent":     func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) },
	"number":      func(v float64) string { return fmt.Sprintf("%.3f", v) },
	"signed":      func(v float64) string { return fmt.Sprintf("%+.2f", v) },
	"threshold":   thresholdText,
	"in":          func(t *float64) string { return fmt.Sprintf("%.4g", *t) },
	"reasons":     reasons,
	"row":         func(unit string, b assess.Binary) row { return row{b, fewPatients(b, unit)} },
	"units":       func(unit string) string { return plural(unit, 2) },
	"shows":       shows,
	"format":      func(d Data) string { return d.format() },
	"studies":     func(d Data, unit string) string { return d.studies(unit) },
	"undecided":   func(r *Report) string { return r.undecided() },
	"classes":     func(r *Report) string { return r.classWords() },
	"rule":        func(m Model) string { return m.rule() },
	"series":      func(i int) string { return fmt.Sprintf("s%d", i) },
	"png": func(b []byte) template.URL {
		return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b))
	},
	"missed": func(p []Picture) []Picture { return only(p, true) },
	"alarms": func(p []Picture) []Picture { return only(p, false) },
}).Parse(pageText))

// HTML writes the page.
func (r *Report) HTML(w io.Writer) error {
	if err := page.Execute(w, r); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// row is one of a table of questions.
type row struct {
	assess.Binary
	Warning string
}

func only(pictures []Picture, missed bool) (out []Picture) {
	for _, p := range pictures {
		if p.Missed == missed {
			out = append(out, p)
		}
	}
	return out
}

// bleeds are the questions that curves are drawn for: any hemorrhage first, then
// the classes. Normal is the mirror of the first.
func bleeds(first assess.Binary, classes []assess.Binary) []assess.Binary {
	out := []assess.Binary{first}
	for _, b := range classes {
		if b.Name != infer.Normal.String() {
			out = append(out, b)
		}
	}
	return out
}
