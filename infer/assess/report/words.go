package report

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// few is how many patients are too few to say more than the interval does.
const few = 10

// fewPatients warns of a figure that rests on few patients; empty otherwise.
func fewPatients(b assess.Binary, unit string) string {
	n, what := b.Positive.Patients, "with it"
	if b.Negative.Patients < n {
		n, what = b.Negative.Patients, "without it"
	}
	if n == 0 || n >= few {
		return ""
	}
	return fmt.Sprintf("only %d %s %s", n, plural(unit, n), what)
}

func plural(word string, n int) string {
	switch {
	case n == 1:
		return word
	case word == "study":
		return "studies"
	}
	return word + "s"
}

// text gives an estimate as words.
func text(e assess.Estimate) string {
	switch {
	case !e.Defined():
		return "not defined: " + e.Undefined
	case e.Method == "":
		return fmt.Sprintf("%.3f (no interval: %s)", e.Value, e.Unknown)
	}
	return fmt.Sprintf("%.3f (%.3f–%.3f)", e.Value, e.Low, e.High)
}

// short gives the value alone.
func short(e assess.Estimate) string {
	if !e.Defined() {
		return "—"
	}
	return fmt.Sprintf("%.3f", e.Value)
}

// estimateHTML sets the interval smaller than the value.
func estimateHTML(e assess.Estimate) template.HTML {
	escape := template.HTMLEscapeString
	switch {
	case !e.Defined():
		return template.HTML(`<span class="none">—<small>` + escape(e.Undefined) + `</small></span>`)
	case e.Method == "":
		return template.HTML(fmt.Sprintf(`%.3f<small>%s</small>`, e.Value, escape(e.Unknown)))
	}
	mark := ""
	if e.Method == assess.Wilson {
		mark = `<abbr title="Wilson's interval">w</abbr>`
	}
	return template.HTML(fmt.Sprintf(`%.3f<small>%.3f–%.3f%s</small>`, e.Value, e.Low, e.High, mark))
}

// statedHTML is the same for a figure of the manifest.
func statedHTML(f manifest.Figure) template.HTML {
	return template.HTML(fmt.Sprintf(`%.3f<small>%.3f–%.3f</small>`, f.Value(), f.Low(), f.High()))
}

// rule says how studies were decided, with the threshold where there is one.
func (m *Model) rule() string {
	if m.StudyThreshold == 0 {
		return m.StudyRule
	}
	return fmt.Sprintf("%s. The study threshold is %.4g", m.StudyRule, m.StudyThreshold)
}

// studies counts them, and the patients where there is more to say than that.
func (d *Data) studies(unit string) string {
	text := fmt.Sprintf("%d %s", d.Studies, plural("study", d.Studies))
	if unit != "study" {
		text += fmt.Sprintf(" of %d %s", d.Patients, plural(unit, d.Patients))
	}
	return text
}

// undecided says how many studies were not decided and how they count.
func (r *Report) undecided() string {
	if r.Studies.Undecided == 0 {
		return "Every study was decided."
	}
	return fmt.Sprintf("%d of %d studies were not decided; they raise no alert, and count as missed where they bleed.", r.Studies.Undecided, r.Studies.Total)
}

// classWords explains the rows of the classes in the table of studies, and says
// what an alert's name for the bleed is worth.
func (r *Report) classWords() string {
	called := "a class is called where it meets the study rule by itself"
	if r.Model.StudyThreshold > 0 {
		called = "a class is called in a study that raised an alert where its highest probability in a slice reaches the class's threshold, and scored by that probability: several may be called, or none"
	}
	out := "The rows of the classes: " + called + ". An alert names one class, the one farthest above its threshold or nearest to it. "
	n := r.Studies.Named
	if !n.Share.Defined() {
		return out + "No alert was about a study whose classes are stated."
	}
	return out + fmt.Sprintf("Named class right in %d of %d alerts about studies that bleed: %s.", n.Right, n.Of, text(n.Share))
}

// thresholdText gives the thresholds of an operating point.
func thresholdText(p assess.OperatingPoint) string {
	if p.Threshold != nil {
		return fmt.Sprintf("%.4g", *p.Threshold)
	}
	var parts []string
	for _, c := range infer.Classes() {
		if t, ok := p.Thresholds[c]; ok {
			parts = append(parts, fmt.Sprintf("%s %.4g", c, t))
		}
	}
	return strings.Join(parts, ", ")
}

// reason is why slices were not classified, and how many.
type reason struct {
	Text  string
	Count int
}

// reasons lists the commonest first.
func reasons(counts map[string]int) []reason {
	var out []reason
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, reason{text, counts[text]})
	}
	slices.SortStableFunc(out, func(a, b reason) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

func total(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// shows says what is known of a slice.
func shows(t assess.Truth) string {
	if t.Unclassified {
		return "a hemorrhage whose classes are not stated"
	}
	var out []string
	for _, c := range t.Classes() {
		out = append(out, c.String())
	}
	return strings.Join(out, ", ")
}

// format says how slices are kept.
func (d *Data) format() string {
	if d.Window == "" {
		return d.Format
	}
	return d.Format + " in window " + d.Window + " HU"
}

// share is a cell of a row as a part of the row.
func share(row []int, column int) float64 {
	sum := 0
	for _, n := range row {
		sum += n
	}
	if sum == 0 {
		return 0
	}
	return float64(row[column]) / float64(sum)
}

// part is a share in words; what is there is never 0.
func part(row []int, column int) string {
	s := share(row, column)
	if s > 0 && s < 0.005 {
		return "< 1 %"
	}
	return fmt.Sprintf("%.0f %%", 100*s)
}

// heat is the step of the heat table's colours for a share, 0 to 10.
func heat(row []int, column int) int {
	s := share(row, column)
	if s > 0 && s < 0.1 {
		return 1
	}
	return int(s*10 + 0.5)
}
