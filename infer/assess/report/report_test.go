package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// stated is what a manifest expects, in vain.
var stated = &manifest.Expected{
	Protocol: "five folds <by> patient",
	Slice: map[manifest.Question]manifest.Figures{
		manifest.AnyHemorrhage: {Sensitivity: manifest.Figure{1, 0.999, 1}, Specificity: manifest.Figure{0.5, 0, 1}},
	},
	Study: manifest.Figures{Sensitivity: manifest.Figure{0.001, 0, 0.002}, Specificity: manifest.Figure{0.5, 0, 1}},
}

// made is a report of a few slices; change may alter the data.
func made(t *testing.T, change func(*assess.Data)) *Report {
	t.Helper()
	d := assess.Data{Classes: infer.Classes(), Thresholds: map[infer.Class]float64{}}
	for _, c := range infer.Classes()[1:] {
		d.Thresholds[c] = 0.5
	}
	for i := range 40 {
		c := infer.Class(i % 6)
		s := assess.Slice{Patient: i / 4, Probabilities: []float64{0.4, 0.1, 0.1, 0.1, 0.1, 0.1}}
		s.Truth.Shows[c] = c.Hemorrhage()
		s.Probabilities[(i+i/7)%6] += 0.1 + float64(i)/100
		d.Slices = append(d.Slices, s)
	}
	for i := range 10 {
		s := assess.Study{Patient: i, Outcome: assess.Negative, Scores: make([]float64, 6)}
		s.Truth.Shows[infer.Subdural] = i%2 == 0
		if i%3 == 0 {
			s.Outcome, s.Named, s.Scores[infer.Subdural] = assess.Positive, infer.Subdural, 0.8
		}
		d.Studies = append(d.Studies, s)
	}
	if change != nil {
		change(&d)
	}
	f, err := assess.Assess(d, assess.Options{Rounds: 50, Unit: "study"})
	if err != nil {
		t.Fatal(err)
	}
	return &Report{
		Schema: Schema, Disclaimer: Disclaimer, Program: "ichwatch test", Created: time.Date(2026, 2, 3, 4, 5, 0, 0, time.UTC),
		Model: Model{Name: "<b>tiny</b> + other", Thresholds: d.Thresholds, Provider: "cpu", OperatingPoint: "half", Members: []Member{
			{ModelRef: infer.ModelRef{Name: "<b>tiny</b>", SHA256: strings.Repeat("ab", 32)}, Architecture: "small", Activation: "softmax"},
			{ModelRef: infer.ModelRef{Name: "other", SHA256: strings.Repeat("cd", 32)}, Architecture: "large", Activation: "sigmoid"},
		}},
		Data:     Data{Format: "images", Window: "40/80", Unclassified: 7, Unordered: 8, Studies: 10, Patients: 10, Classified: len(d.Slices), Undecided: []Undecided{{3, 42, true, "NOT-ANALYSED", "too <few>"}}, Ineligible: map[string]int{"no head in the slice": 3}},
		Speed:    Speed{SlicesPerSecond: 12.5, Workers: 2},
		Expected: Compare(stated, f),
		Figures:  f,
		Pictures: []Picture{
			{Slice: "line 7 of the labels", Missed: true, Truth: assess.Truth{Unclassified: true}, Class: infer.Subdural, Plain: []byte("P"), Overlay: []byte("O")},
			{Slice: "line 9 of the labels", Class: infer.Epidural, Plain: []byte("P")},
		},
	}
}

func write(t *testing.T, to func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := to(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The page needs nothing beside it, is well-formed, and names everything for who
// does not see it.
func TestPage(t *testing.T) {
	text := write(t, made(t, nil).HTML)
	for _, part := range []string{
		Disclaimer, "&lt;b&gt;tiny&lt;/b&gt;", strings.Repeat("ab", 32), strings.Repeat("cd", 32), "other, large, sigmoid, on cpu", "the 2 models below", "data:image/png;base64,UA==", "line 7 of the labels",
		"five folds &lt;by&gt; patient", "format images in window 40/80 HU", "Shows a hemorrhage whose classes are not stated.", "Shows normal.", "; 7 show a", "of 8 studies", "1.000<small>0.999–1.000</small>", `class="worse"`, "Named class right in",
		"<li>study 3 (line 42 of the labels), which bleeds: NOT-ANALYSED, too &lt;few&gt;</li>", "40 slices of 10 studies,",
		"no head in the slice", "prefers-color-scheme: dark", "@media print", "12.5 slices/s", "only 5 studies with it",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in the page", part)
		}
	}
	for _, part := range []string{"http://", "https://", "<script", "<link", "@import", "NaN", "ZgotmplZ", "Inf", "%!"} {
		if strings.Contains(text, part) {
			t.Errorf("%q is in the page", part)
		}
	}
	// It is XML as well, so that a tag left open is seen.
	d := xml.NewDecoder(strings.NewReader(text))
	drawings, named := 0, 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attributes := map[string]string{}
		for _, a := range start.Attr {
			attributes[a.Name.Local] = a.Value
		}
		switch start.Name.Local {
		case "svg":
			drawings++
			if attributes["aria-label"] != "" || attributes["aria-hidden"] == "true" {
				named++
			}
		case "img":
			if attributes["alt"] == "" {
				t.Error("a picture without words")
			}
		}
	}
	if drawings < 10 || drawings != named {
		t.Errorf("%d drawings, %d of them named or hidden", drawings, named)
	}
}

func TestMarkdownAndJSON(t *testing.T) {
	r := made(t, nil)
	text := write(t, r.Markdown)
	for _, part := range []string{
		Disclaimer, "Ensemble of 2 models, `<b>tiny</b>` (small, SHA-256 `abab", "`other` (large, SHA-256 `cdcd", "| any hemorrhage | ", "| subdural | ", "| POSITIVE | ", "only 5 studies with it", "Not for the model: 3", "format images in window 40/80 HU", "alone: 7 slices", "8 studies", "## Expected and measured", "| slices, any hemorrhage | sensitivity | 1.000 (0.999-1.000) | ",
		"on 40 slices of 10 studies, 2026-02-03", "- study 3 (line 42 of the labels), which bleeds: NOT-ANALYSED, too <few>.\n", "Named class right in",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in the Markdown", part)
		}
	}
	var back Report
	if err := json.Unmarshal([]byte(write(t, r.JSON)), &back); err != nil {
		t.Fatal(err)
	}
	if back.Schema != "ichwatch.assessment/v1" || back.Disclaimer != Disclaimer || back.Figures == nil || back.Slices.Total != 40 || back.Model.Thresholds[infer.Epidural] != 0.5 || len(back.Model.Members) != 2 || back.Model.Members[1].Name != "other" {
		t.Errorf("read back: %+v", back)
	}
	if len(back.Slices.Classes) != 6 || back.Slices.Classes[2].Name != "subdural" {
		t.Errorf("classes: %+v", back.Slices.Classes)
	}
}

func TestCompare(t *testing.T) {
	wide := manifest.Figure{0.9, 0.8, 0.95}
	binary := func(name string, sensitivity, specificity assess.Estimate) assess.Binary {
		return assess.Binary{Name: name, Sensitivity: sensitivity, Specificity: specificity}
	}
	measured := func(value, low, high float64) assess.Estimate {
		return assess.Estimate{Value: value, Low: low, High: high, Method: assess.Wilson}
	}
	f := &assess.Figures{
		Studies: assess.StudyFigures{Any: binary("any hemorrhage", measured(0.8, 0.5, 0.9), measured(0.79, 0.7, 0.85))},
		Slices: assess.SliceFigures{
			Any:     binary("any hemorrhage", measured(0.96, 0.955, 0.97), measured(0.99, 0.94, 1)),
			Classes: []assess.Binary{binary("epidural", assess.Estimate{Undefined: "none"}, measured(0.7, 0.6, 0.79)), binary("subdural", measured(0, 0, 0), measured(0, 0, 0))},
		},
	}
	figures := manifest.Figures{Sensitivity: wide, Specificity: wide}
	e := Compare(&manifest.Expected{Protocol: "p", Study: figures, Slice: map[manifest.Question]manifest.Figures{"any": figures, "epidural": figures}}, f)
	var got []string
	for _, c := range e.Figures {
		got = append(got, strings.Join([]string{c.Items, c.Question, c.Figure, c.Words()}, " "))
	}
	want := []string{
		"studies any hemorrhage sensitivity within",
		"studies any hemorrhage specificity below, perhaps by chance",
		"slices any hemorrhage sensitivity clearly above",
		"slices any hemorrhage specificity clearly above",
		"slices epidural sensitivity not measured",
		"slices epidural specificity clearly below",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := e.Summary(); got != "of 5 measured figures 1 lie clearly below and 2 clearly above what the manifest states; by chance alone it would be about 0.2 in all" {
		t.Error(got)
	}
	var b strings.Builder
	e.markdown(&b, "half")
	if text := b.String(); !strings.Contains(text, "| **clearly below** |") || strings.Contains(text, "**clearly above") || strings.Contains(text, "**below") {
		t.Errorf("what is better is not to look bad:\n%s", text)
	}
	f.Slices.Any, f.Slices.Classes = binary("any hemorrhage", measured(0.85, 0.8, 0.9), assess.Estimate{Value: 0.1, Unknown: "one patient"}), nil
	if got := Compare(&manifest.Expected{Protocol: "p", Study: figures, Slice: map[manifest.Question]manifest.Figures{"any": figures}}, f).Summary(); !strings.HasPrefix(got, "none of 4 measured figures lies clearly") {
		t.Error(got)
	}
	if e := Compare(nil, f); e != nil || !strings.Contains(e.Summary(), "not stated") {
		t.Errorf("of nothing: %+v, %s", e, e.Summary())
	}
}

// Two samples of one truth differ clearly about once in twenty times, however
// unequal their sizes.
func TestClearIsSeldomChance(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	draw := func(n int, p float64) (value, low, high float64) {
		k := 0.0
		for range n {
			if r.Float64() < p {
				k++
			}
		}
		low, high = assess.WilsonInterval(k, float64(n))
		return k / float64(n), low, high
	}
	for _, c := range []struct {
		stated, measured int
		p                float64
	}{{80, 80, 0.8}, {200, 30, 0.7}, {40, 400, 0.9}, {46, 12, 0.67}} {
		clear := 0
		const rounds = 4000
		for range rounds {
			v, low, high := draw(c.stated, c.p)
			w, from, to := draw(c.measured, c.p)
			if differs(manifest.Figure{v, low, high}, assess.Estimate{Value: w, Low: from, High: to, Method: assess.Wilson}) {
				clear++
			}
		}
		if share := float64(clear) / rounds; share < 0.02 || share > 0.07 {
			t.Errorf("%+v: %.3f of the draws", c, share)
		}
	}
}

// The page and the Markdown say what the rows of classes mean under either rule.
func TestClassRowsAreExplained(t *testing.T) {
	for _, threshold := range []float64{0, 0.4} {
		r := made(t, nil)
		r.Model.StudyThreshold = threshold
		r.Studies.Named = assess.Named{Right: 3, Of: 4, Share: assess.Estimate{Value: 0.75, Low: 0.3, High: 0.95, Method: assess.Wilson}}
		for form, text := range map[string]string{"Markdown": write(t, r.Markdown), "HTML": write(t, r.HTML)} {
			if !strings.Contains(text, "Named class right in 3 of 4 alerts about studies that bleed: 0.750 (0.300–0.950)") {
				t.Errorf("%s: nothing of the named class", form)
			}
			if strings.Contains(text, "several may be called, or none") != (threshold > 0) {
				t.Errorf("%s, study threshold %v: the rows are not explained", form, threshold)
			}
		}
	}
}

// What is not defined is said, in each form, whatever is missing.
func TestReportsOfLittle(t *testing.T) {
	for name, change := range map[string]func(*assess.Data){
		"nothing":    func(d *assess.Data) { d.Slices, d.Studies = nil, nil },
		"calm only":  func(d *assess.Data) { d.Slices = d.Slices[:1]; d.Studies = d.Studies[1:2] },
		"one class":  func(d *assess.Data) { d.Slices = d.Slices[1:2] },
		"no studies": func(d *assess.Data) { d.Studies = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := made(t, change)
			r.Pictures = nil
			for form, text := range map[string]string{"page": write(t, r.HTML), "markdown": write(t, r.Markdown), "json": write(t, r.JSON)} {
				if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
					t.Errorf("%s: a figure is no number", form)
				}
				if !strings.Contains(text, "shows it") && !strings.Contains(text, "there is no slice") && !strings.Contains(text, "there is no study") {
					t.Errorf("%s does not say what is missing", form)
				}
			}
		})
	}
}

// The study rule stands in the report, with the threshold of studies where there is
// one.
func TestRuleIsNamed(t *testing.T) {
	for _, threshold := range []float64{0, 0.9965} {
		r := made(t, func(d *assess.Data) { d.StudyThreshold = threshold })
		r.Model.StudyRule, r.Model.StudyThreshold = "positive where it is", threshold
		for form, text := range map[string]string{"Markdown": write(t, r.Markdown), "HTML": write(t, r.HTML)} {
			says := strings.Contains(text, "Under the study rule: positive where it is. The study threshold is 0.9965. Sensitivity")
			if says != (threshold > 0) || !says && !strings.Contains(text, "Under the study rule: positive where it is. Sensitivity") {
				t.Errorf("threshold %v: not in the %s", threshold, form)
			}
		}
		if page := write(t, r.HTML); strings.Contains(page, "scored by the score of the study") != (threshold > 0) || strings.Contains(page, "<td>0.9965</td>") != (threshold > 0) {
			t.Errorf("threshold %v: the page does not say how studies are scored", threshold)
		}
		if json := write(t, r.JSON); strings.Contains(json, `"study_threshold": 0.9965`) != (threshold > 0) {
			t.Errorf("threshold %v: not in the JSON", threshold)
		}
	}
}
