package adapt

import (
	"fmt"
	"io"
	"strings"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// Card writes the summary as the card of the adapted model, in Markdown.
// intendedUse is that of the manifest.
func (s *Summary) Card(w io.Writer, intendedUse string) error {
	var b strings.Builder
	units := plural(s.Unit)
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n\n", args...) }

	p("# %s", s.To.Name)
	p("**%s** %s", s.Disclaimer, intendedUse)
	p("This is %s with another last layer, fitted on site to %d slices of %d %s. All before that layer is as it was, and what the card of %s says of its data, its use and its limits holds here too.",
		s.From.Name, s.Slices, s.Patients, units, s.From.Name)
	b.WriteString("| | |\n|---|---|\n")
	fmt.Fprintf(&b, "| SHA-256 | `%s` |\n| adapted from | %s, `%s` |\n| when, by | %s, %s |\n", s.To.SHA256, s.From.Name, s.From.SHA256, s.Created.Format("2006-01-02 15:04 MST"), s.Program)
	p("| %s | %d: %d with a hemorrhage, %d without |", units, s.Patients, s.With, s.Without)

	p("## Before and after")
	p("Both on the same slices, by the same path. After: what %d fits say, each of the %s that it never saw. In brackets 95 %% intervals over %s.", Folds, units, units)
	s.table(&b, "area under the ROC curve", func(b assess.Binary) assess.Estimate { return b.AUC })
	if len(s.Worse) > 0 {
		p("**Worse than before: %s.** It was written all the same because that was asked for.", strings.Join(s.Worse, "; "))
	}
	p("## Operating points")
	p("Sensitivity / specificity of the model before, on these very slices, and what is to be expected of each operating point of the adapted one: %s. The default is %s.", s.Points[0].Expected.Protocol, s.DefaultPoint)
	s.points(&b)
	for _, words := range s.LiftedWords() {
		p("To keep the operating points in order, %s.", words)
	}
	if words := s.UndecidedWords(); words != "" {
		p("Before and after alike, %s.", words)
	}

	p("## What was fitted")
	fmt.Fprintf(&b, "| class | %s | slices | weights | threshold before |", units)
	for _, o := range s.Points {
		fmt.Fprintf(&b, " %s |", o.Name)
	}
	fmt.Fprintf(&b, "\n|---|---:|---:|---|---:|%s\n", strings.Repeat("---:|", len(s.Points)))
	for _, c := range s.Classes {
		weights := "fitted"
		if !c.Adapted {
			weights = fmt.Sprintf("as they were: fewer than %d %s", MinimumPatients, units)
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %s | %.4g |", c.Class, c.Patients, c.Slices, weights, s.ThresholdsBefore[c.Class])
		for _, o := range s.Points {
			fmt.Fprintf(&b, " %.4g |", o.Thresholds[c.Class])
		}
		b.WriteString("\n")
	}
	if s.StudyThresholdBefore > 0 {
		fmt.Fprintf(&b, "| studies | %d | %d | | %.4g |", s.Patients, s.Slices, s.StudyThresholdBefore)
		for _, o := range s.Points {
			fmt.Fprintf(&b, " %.4g |", o.StudyThreshold)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	p("Cross-entropy by L-BFGS, a third of the weight on slices without a hemorrhage, the rest in equal parts on the fitted classes (slices that show only others weigh as those do on average); pulled towards the old weights. The strength of the pull is %s, which lost least in cross-validation over %d folds of whole %s:", s.Strength, Folds, units)
	b.WriteString("| strength | loss out of fold |\n|---:|---:|\n")
	for _, t := range s.Tried {
		fmt.Fprintf(&b, "| %s | %.4f |\n", t.Strength, t.Loss)
	}
	b.WriteString("\n")
	var goals []string
	for _, g := range Goals() {
		goal := fmt.Sprintf("%s for %v", g.Name, g)
		if s.StudyThresholdBefore > 0 {
			goal += fmt.Sprintf(" and a slice specificity of %g", g.SliceSpecificity)
		}
		goals = append(goals, goal)
	}
	studies := ""
	if s.StudyThresholdBefore > 0 {
		studies = ", and so is the threshold of studies"
	}
	p("For the figures above the strength was chosen for each fold without it (%s), and so were the thresholds that a fold is judged by: from fits that know neither that fold nor the %s in question. Thresholds are those at which each class flags the same share of the slices without a hemorrhage, the share being chosen on those predictions%s: %s.",
		strengthList(s.FoldStrengths), s.Unit, studies, strings.Join(goals, ", "))
	p("Of %d slices run through the new model, the logits lie within %.1g of head times features, and the mean of each activation map plus its bias within %.1g of the logit.", s.Recomputed.Slices, s.Recomputed.Logits, s.Recomputed.Maps)

	who := "who"
	if s.Unit == "study" {
		who = "that"
	}
	p("## What it does not say")
	p("The figures hold for these %s. They say nothing of other scanners, of another hospital, or of the same one after a change of protocol. Assess the model on %s %s came later: `ichwatch assess --model FOLDER --labels LABELS DIR`.", units, units, who)
	_, err := io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n")
	return err
}

// table sets one figure before beside the same after: of slices, then of studies.
func (s *Summary) table(b *strings.Builder, title string, of func(assess.Binary) assess.Estimate) {
	fmt.Fprintf(b, "| %s | before | after |\n|---|---:|---:|\n", title)
	row := func(what string, before, after assess.Binary) {
		if before.Name != infer.Normal.String() { // the mirror of any hemorrhage
			fmt.Fprintf(b, "| %s, %s | %s | %s |\n", what, before.Name, Figure(of(before)), Figure(of(after)))
		}
	}
	row("slices", s.Before.Slices.Any, s.After.Slices.Any)
	for i, before := range s.Before.Slices.Classes {
		row("slices", before, s.After.Slices.Classes[i])
	}
	row("studies", s.Before.Studies.Any, s.After.Studies.Any)
	for i, before := range s.Before.Studies.Classes {
		row("studies", before, s.After.Studies.Classes[i])
	}
	b.WriteString("\n")
}

// points sets the model before beside what is expected of each operating point.
func (s *Summary) points(b *strings.Builder) {
	b.WriteString("| | before |")
	for _, o := range s.Points {
		fmt.Fprintf(b, " %s |", o.Name)
	}
	fmt.Fprintf(b, "\n|---|---:|%s\n", strings.Repeat("---:|", len(s.Points)))
	row := func(what string, before assess.Binary, of func(*manifest.Expected) (manifest.Figures, bool)) {
		if before.Name == infer.Normal.String() {
			return
		}
		fmt.Fprintf(b, "| %s, %s | %s / %s |", what, before.Name, Figure(before.Sensitivity), Figure(before.Specificity))
		for _, o := range s.Points {
			if f, ok := of(o.Expected); ok {
				fmt.Fprintf(b, " %v / %v |", f.Sensitivity, f.Specificity)
			} else {
				b.WriteString(" - |")
			}
		}
		b.WriteString("\n")
	}
	question := func(q manifest.Question) func(*manifest.Expected) (manifest.Figures, bool) {
		return func(e *manifest.Expected) (f manifest.Figures, ok bool) {
			f, ok = e.Slice[q]
			return f, ok
		}
	}
	row("slices", s.Before.Slices.Any, question(manifest.AnyHemorrhage))
	for _, before := range s.Before.Slices.Classes {
		row("slices", before, question(manifest.Question(before.Name)))
	}
	row("studies", s.Before.Studies.Any, func(e *manifest.Expected) (manifest.Figures, bool) { return e.Study, true })
	b.WriteString("\n")
}

// Figure gives an estimate in words.
func Figure(e assess.Estimate) string {
	switch {
	case !e.Defined():
		return "not defined (" + e.Undefined + ")"
	case e.Method == "":
		return fmt.Sprintf("%.3f", e.Value)
	}
	return fmt.Sprintf("%.3f (%.3f-%.3f)", e.Value, e.Low, e.High)
}

// Units are what Patients counts, in the plural.
func (s *Summary) Units() string { return plural(s.Unit) }

func strengthList(s []Strength) string {
	var parts []string
	for _, v := range s {
		parts = append(parts, v.String())
	}
	return strings.Join(parts, ", ")
}
