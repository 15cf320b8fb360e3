package report

import (
	"fmt"
	"io"
	"strings"

	"ichwatch/infer/assess"
)

// Markdown writes the figures as tables, fit for a model card.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	unit := r.Intervals.Unit
	fmt.Fprintf(&b, "# Assessment of %s\n\n**%s**\n\n", r.Model.Name, r.Disclaimer)
	fmt.Fprintf(&b, "%s on %d slices of %s, %s, %s, %.1f slices/s on %s with %d at a time.\n\n",
		r.Model.text(), r.Data.Classified, r.Data.studies(unit),
		r.Created.Format("2006-01-02"), r.Program, r.Speed.SlicesPerSecond, r.Model.Provider, r.Speed.Workers)
	fmt.Fprintf(&b, "In brackets: 95 %% intervals, from %d draws of whole %s, or Wilson's where each counts once and where all draws agree.\n\n", r.Intervals.Rounds, plural(unit, 2))

	r.Expected.markdown(&b, r.Model.OperatingPoint)

	b.WriteString("## Slices\n\n")
	questions(&b, append([]assess.Binary{r.Slices.Any}, r.Slices.Classes...), unit)
	if m := r.Slices.SixWay; m != nil {
		fmt.Fprintf(&b, "Highest of %d classes right: %s.", len(m.Classes), text(m.Accuracy))
		if m.Several > 0 {
			fmt.Fprintf(&b, " Left out: %d slices of several classes; in %d of them the answer is one of theirs.", m.Several, m.SeveralRight)
		}
		if m.Foreign > 0 {
			fmt.Fprintf(&b, " Left out: %d slices of a class that the model does not have.", m.Foreign)
		}
		b.WriteString("\n\n| truth \\ answer |")
		for _, c := range m.Classes {
			fmt.Fprintf(&b, " %s |", c)
		}
		b.WriteString("\n|---|" + strings.Repeat("---:|", len(m.Classes)) + "\n")
		for i, counts := range m.Counts {
			fmt.Fprintf(&b, "| %s |", m.Classes[i])
			for _, n := range counts {
				fmt.Fprintf(&b, " %d |", n)
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	b.WriteString("### Calibration\n\n| class | expected calibration error | Brier score |\n|---|---:|---:|\n")
	for _, q := range bleeds(r.Slices.Any, r.Slices.Classes) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", q.Name, text(q.Calibration.Error), text(q.Calibration.Brier))
	}

	fmt.Fprintf(&b, "\n## Studies\n\nUnder the study rule: %s. Sensitivity: share of bleeding studies that raise an alert. Specificity: share of the others that raise none. %s\n\n",
		r.Model.rule(), r.undecided())
	for _, u := range r.Data.Undecided {
		fmt.Fprintf(&b, "- %v.\n", u)
	}
	if len(r.Data.Undecided) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("| outcome | bleeding | others |\n|---|---:|---:|\n")
	for _, o := range r.Studies.Outcomes {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", o.Outcome, o.Bleeding, o.Calm)
	}
	b.WriteString("\n")
	questions(&b, append([]assess.Binary{r.Studies.Any}, r.Studies.Classes...), unit)
	fmt.Fprintf(&b, "%s\n\n", r.classWords())
	for _, p := range r.Studies.Predictive {
		fmt.Fprintf(&b, "- Where %.0f %% of studies bleed, %.0f %% of the alerts are right.\n", 100*p.Prevalence, 100*p.Value)
	}

	b.WriteString("\n## Operating points\n\nChosen on these very data, which flatters them.\n\n| | wanted sensitivity | threshold | sensitivity | specificity |\n|---|---:|---|---:|---:|\n")
	points := func(name string, q assess.Binary) {
		for _, p := range q.OperatingPoints {
			if p.Unreachable != "" {
				fmt.Fprintf(&b, "| %s | %.2f | %s | | |\n", name, p.Asked, p.Unreachable)
				continue
			}
			fmt.Fprintf(&b, "| %s | %.2f | %s | %s | %s |\n", name, p.Asked, thresholdText(p), text(*p.Sensitivity), text(*p.Specificity))
		}
	}
	points("studies, any hemorrhage", r.Studies.Any)
	for _, q := range bleeds(r.Slices.Any, r.Slices.Classes) {
		points("slices, "+q.Name, q)
	}

	fmt.Fprintf(&b, "\n## Data\n\n- Labels: %d rows, format %s; %d without a file, %d files without a label, %d files of another kind.\n- Slices: %d examined, %d classified, %d not for the model, %d failed.\n",
		r.Data.Labels, r.Data.format(), r.Data.NoFile, r.Data.NoLabel, r.Data.Unread, r.Data.Examined, r.Data.Classified, total(r.Data.Ineligible), total(r.Data.Failed))
	if r.Data.Doubtful > 0 || r.Data.Unclear > 0 {
		fmt.Fprintf(&b, "- Too little to be called either way: %d slices and %d studies, in no figure.\n", r.Data.Doubtful, r.Data.Unclear)
	}
	if r.Data.Unclassified > 0 {
		fmt.Fprintf(&b, "- Hemorrhage whose classes are not stated, in the figures of any hemorrhage alone: %d slices.\n", r.Data.Unclassified)
	}
	if r.Data.Unordered > 0 {
		fmt.Fprintf(&b, "- Order of the slices not known, in no figure of studies: %d studies.\n", r.Data.Unordered)
	}
	if r.Data.NoBone > 0 {
		fmt.Fprintf(&b, "- Without their bone window, what the brain window cuts off taken for air: %d slices.\n", r.Data.NoBone)
	}
	for _, c := range reasons(r.Data.Ineligible) {
		fmt.Fprintf(&b, "- Not for the model: %d × %s.\n", c.Count, c.Text)
	}
	for _, c := range reasons(r.Data.Failed) {
		fmt.Fprintf(&b, "- Failed: %d × %s.\n", c.Count, c.Text)
	}
	fmt.Fprintf(&b, "\n%s\n", r.Disclaimer)
	_, err := io.WriteString(w, b.String())
	return err
}

// text names every member.
func (m *Model) text() string {
	var names []string
	for _, member := range m.Members {
		names = append(names, fmt.Sprintf("`%s` (%s, SHA-256 `%s`)", member.Name, member.Architecture, member.SHA256))
	}
	if len(names) == 1 {
		return "Model " + names[0]
	}
	return fmt.Sprintf("Ensemble of %d models, %s,", len(names), strings.Join(names, " and "))
}

func (e *Expected) markdown(b *strings.Builder, point string) {
	fmt.Fprintf(b, "## Expected and measured\n\nOperating point %s: %s.", point, e.Summary())
	if e == nil {
		b.WriteString("\n\n")
		return
	}
	fmt.Fprintf(b, " Stated by: %s.\n\n| | | expected | measured | measured is |\n|---|---|---:|---:|---|\n", e.Protocol)
	for _, c := range e.Figures {
		words := c.Words()
		if c.Worse() {
			words = "**" + words + "**"
		}
		fmt.Fprintf(b, "| %s, %s | %s | %v | %s | %s |\n", c.Items, c.Question, c.Figure, c.Stated, text(c.Measured), words)
	}
	b.WriteString("\n")
}

func questions(b *strings.Builder, all []assess.Binary, unit string) {
	fmt.Fprintf(b, "| class | n (%s) | AUC | sensitivity | specificity | accuracy |\n|---|---:|---:|---:|---:|---:|\n", plural(unit, 2))
	var warnings []string
	for _, q := range all {
		fmt.Fprintf(b, "| %s | %d (%d) | %s | %s | %s | %s |\n", q.Name, q.Positive.Items, q.Positive.Patients,
			text(q.AUC), text(q.Sensitivity), text(q.Specificity), text(q.Accuracy))
		if w := fewPatients(q, unit); w != "" {
			warnings = append(warnings, q.Name+": "+w)
		}
	}
	b.WriteString("\n")
	if len(warnings) > 0 {
		fmt.Fprintf(b, "Nothing can be concluded beyond the interval: %s.\n\n", strings.Join(warnings, "; "))
	}
}
