package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/daemon/labelled"
	"ichwatch/infer/assess"
	"ichwatch/infer/assess/report"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/onnx"
)

// assessment is a call of ichwatch assess.
type assessment struct {
	known
	out      string
	force    bool // write over what is in out
	pictures int
	options  assess.Options
}

func assessCommand() *cobra.Command {
	var a assessment
	cmd := &cobra.Command{
		Use:   "assess DIR",
		Short: "Assess a model on slices whose truth is known",
		Long: `Sends every labelled slice below DIR down the daemon's own path (gate, pixels,
model, study rule) and reports accuracy, sensitivity, specificity and AUC of each
class and of any hemorrhage with 95 % intervals over patients, confusion, ROC and
precision-recall curves, calibration, study-level figures, operating points and
the worst errors with their activation maps. What the model's manifest expects at
its operating point is held against what is measured.

The table of labels has a row a slice: file (path below DIR) or sop_instance_uid,
study or patient or both, and a column of 0 and 1 for each class; series, normal
and trace (too little blood to be called either way) are optional. That is what
ichwatch phantom writes. ct-ich is understood as well: JPEGs in DIR/brain and
DIR/bone with patient and slice columns.

Slices that a site has exported as PNG or JPEG, 8 bits, in one window need file
and patient and, beside the classes, a column any: then a class may be empty where
it is not known, and such a slice counts for any hemorrhage alone. --window says
which Hounsfield units the grey levels stand for. Colours are turned to grey. With
a column slice (the number in its stack) studies are judged as well.

Without --out the figures are printed as Markdown. A folder with something in it is
refused, unless --force writes over the report in it. The HTML page in --out holds
pictures of the worst errors: keep it as you keep the slices.

Suspected findings, not for diagnosis. Not a medical device.`,
		Example: `  ichwatch phantom set --studies 10 --seed 7
  ichwatch assess set --out report                   the model of the demo, report/report.html
  ichwatch assess --model models/resnet18 --labels labels.csv --out report STUDIES
  ichwatch assess --model models/resnet18 ct-ich     figures as Markdown
  ichwatch assess --model models/resnet18 --window 40/80 EXPORTED
  ichwatch assess -m models/resnet18 -m models/densenet121 --out report STUDIES
                                                     the two as an ensemble`,
		Args: oneFolder,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.named(cmd, args[0]); err != nil {
				return err
			}
			for _, s := range a.options.Sensitivities {
				if !(s > 0 && s <= 1) {
					return callError(cmd, fmt.Errorf("--sensitivity %v: wanted is more than 0 and at most 1", s))
				}
			}
			// Before the work: an assessment takes its time.
			if a.out != "" && !a.force && holdsSomething(a.out) {
				return fmt.Errorf("%s is not empty; name a new folder, or --force writes over the report in it", a.out)
			}
			return a.run(cmd)
		},
	}
	a.flags(cmd)
	f := cmd.Flags()
	f.StringVarP(&a.out, "out", "o", "", "folder for report.html, report.md, assessment.json and slices.csv")
	f.BoolVar(&a.force, "force", false, "write over the report that is in --out")
	f.Float64SliceVar(&a.options.Sensitivities, "sensitivity", []float64{0.90, 0.95}, "operating points to look for")
	f.IntVar(&a.pictures, "pictures", 6, "worst errors to show, of each kind")
	return cmd
}

func (a *assessment) run(cmd *cobra.Command) error {
	e, err := a.ensemble()
	if err != nil {
		return err
	}
	x, err := a.examine(cmd, e, onnx.Options{})
	if err != nil {
		return err
	}
	data, counts, slice := x.Data(e.Classes, e.Thresholds, e.StudyThreshold)
	if err := someClassified(counts); err != nil {
		return err
	}
	a.options.Unit, a.options.Workers, a.options.Rounds, a.options.Seed = x.Set.Unit, a.workers, a.rounds, a.seed
	figures, err := assess.Assess(data, a.options)
	if err != nil {
		return err
	}
	r := a.report(e, x, counts, figures)
	if a.out == "" {
		return r.Markdown(cmd.OutOrStdout())
	}
	if a.pictures > 0 {
		if r.Pictures, err = a.draw(cmd.Context(), e, x, &data, slice); err != nil {
			return err
		}
	}
	table := func(w io.Writer) error { return x.WriteTable(w, e.Classes) }
	if err := a.write(map[string]func(io.Writer) error{
		"report.html": r.HTML, "report.md": r.Markdown, "assessment.json": r.JSON, "slices.csv": table,
	}); err != nil {
		return err
	}
	return summary(cmd.OutOrStdout(), filepath.Join(a.out, "report.html"), r)
}

func (a *assessment) report(e *ensemble.Ensemble, x *examined, counts labelled.Counts, f *assess.Figures) *report.Report {
	seconds := x.Elapsed.Seconds()
	window := ""
	if x.Set.Format == labelled.Images {
		window = x.Set.Window.String()
	}
	var members []report.Member
	var names []string
	for _, m := range e.Members {
		names = append(names, m.Name)
		members = append(members, report.Member{ModelRef: m.Ref(), Architecture: m.Architecture, Activation: string(m.Activation), IntendedUse: m.IntendedUse})
	}
	return &report.Report{
		Schema: report.Schema, Disclaimer: report.Disclaimer, Program: "ichwatch " + version, Created: time.Now().UTC().Truncate(time.Second),
		Model: report.Model{
			Name: strings.Join(names, " + "), Members: members, Provider: x.provider,
			OperatingPoint: e.Point, Thresholds: e.Thresholds, StudyRule: e.StudyRule.String(), StudyThreshold: e.StudyThreshold,
		},
		Data: report.Data{
			Format: string(x.Set.Format), Labels: len(x.Set.Rows), Examined: len(x.Set.Slices), Classified: counts.Classified,
			Ineligible: counts.Ineligible, Failed: counts.Failed, Studies: x.Set.Studies, Patients: x.Set.Patients,
			NoFile: len(x.Set.NoFile), NoLabel: len(x.Set.NoLabel), Unread: len(x.Set.Unread), NoBone: len(x.Set.NoBone),
			Doubtful: counts.Doubtful, Unclear: counts.Unclear, Unordered: counts.Unordered, Unclassified: counts.Unclassified, Undecided: counts.Undecided, Window: window, Ignored: x.Set.Ignored,
		},
		Speed:    report.Speed{Slices: len(x.Results), Seconds: seconds, SlicesPerSecond: float64(len(x.Results)) / seconds, Workers: a.workers},
		Expected: report.Compare(e.Expected(), f),
		Figures:  f,
	}
}

// draw runs the worst slices again, on a classifier that gives activation maps.
func (a *assessment) draw(ctx context.Context, e *ensemble.Ensemble, x *examined, d *assess.Data, slice []int) (p []report.Picture, err error) {
	c, err := e.NewClassifier(x.library, onnx.Options{Runners: 1, Maps: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return x.Pictures(ctx, c, d, slice, a.pictures)
}

// write keeps the report from others' eyes: there are pictures in it.
func (a *assessment) write(forms map[string]func(io.Writer) error) error {
	if err := os.MkdirAll(a.out, 0o750); err != nil {
		return fmt.Errorf("make the folder for the report: %w", err)
	}
	for name, form := range forms {
		f, err := os.OpenFile(filepath.Join(a.out, name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		if err := errors.Join(form(f), f.Close()); err != nil {
			return fmt.Errorf("write the report; is the disk full?: %w", err)
		}
	}
	return nil
}

func summary(w io.Writer, page string, r *report.Report) error {
	figure := func(e assess.Estimate) string {
		switch {
		case !e.Defined():
			return "not defined (" + e.Undefined + ")"
		case e.Method == "":
			return fmt.Sprintf("%.3f", e.Value)
		}
		return fmt.Sprintf("%.3f (%.3f-%.3f)", e.Value, e.Low, e.High)
	}
	line := func(what string, b assess.Binary) string {
		return fmt.Sprintf("%-8s any hemorrhage: AUC %s, sensitivity %s, specificity %s\n", what, figure(b.AUC), figure(b.Sensitivity), figure(b.Specificity))
	}
	undecided := ""
	for _, u := range r.Data.Undecided[:min(len(r.Data.Undecided), 8)] {
		undecided += fmt.Sprintf("not decided, and so no alert: %v\n", u)
	}
	if more := len(r.Data.Undecided) - 8; more > 0 {
		undecided += fmt.Sprintf("not decided, and so no alert: %d more, in the report\n", more)
	}
	_, err := fmt.Fprintf(w, "%s: %s on %d slices of %d studies, %.1f slices/s\n%s%s%soperating point %s: %s\n%s\n", page, r.Model.Name, r.Data.Classified, r.Data.Studies,
		r.Speed.SlicesPerSecond, line("slices,", r.Slices.Any), line("studies,", r.Studies.Any), undecided, r.Model.OperatingPoint, r.Expected.Summary(), r.Disclaimer)
	return err
}
