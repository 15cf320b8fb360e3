package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/daemon/labelled"
	"ichwatch/daemon/triage"
	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/assess/report"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
	"ichwatch/models"
)

// assessment is a call of ichwatch assess.
type assessment struct {
	dir, labels, out  string
	models            []string
	point             string
	format            string
	window            labelled.Window
	config, library   string
	partial           bool
	pictures, workers int
	options           assess.Options
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

Without --out the figures are printed as Markdown. The HTML page in --out holds
pictures of the worst errors: keep it as you keep the slices.

Suspected findings, not for diagnosis. Not a medical device.`,
		Example: `  ichwatch phantom set --studies 10 --seed 7
  ichwatch assess set --out report                   the model of the demo, report/report.html
  ichwatch assess --model models/resnet18 --labels labels.csv --out report STUDIES
  ichwatch assess --model models/resnet18 ct-ich     figures as Markdown
  ichwatch assess --model models/resnet18 --window 40/80 EXPORTED
  ichwatch assess -m models/resnet18 -m models/densenet121 --out report STUDIES
                                                     the two as an ensemble`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name the folder of the slices, one")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.dir = args[0]
			if a.labels == "" {
				a.labels = filepath.Join(a.dir, "labels.csv")
			}
			format, err := labelled.ParseFormat(a.format)
			if err != nil {
				return callError(cmd, err)
			}
			for _, s := range a.options.Sensitivities {
				if !(s > 0 && s <= 1) {
					return callError(cmd, fmt.Errorf("--sensitivity %v: wanted is more than 0 and at most 1", s))
				}
			}
			if a.options.Rounds < 100 || a.options.Rounds > 100_000 {
				return callError(cmd, fmt.Errorf("--rounds %d: wanted are 100 to 100000", a.options.Rounds))
			}
			return a.run(cmd, format)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&a.models, "model", "m", nil, "model folder; more than once: an ensemble (default: the phantom model in this program)")
	f.StringVar(&a.point, "operating-point", "", "operating point, of every model (default: the models')")
	f.StringVarP(&a.labels, "labels", "l", "", "table of labels, CSV (default: DIR/labels.csv)")
	f.StringVarP(&a.out, "out", "o", "", "folder for report.html, report.md, assessment.json and slices.csv")
	f.StringVar(&a.format, "format", string(labelled.Auto), "how slices are kept: auto, phantom (Part 10 files), ct-ich (JPEG pairs) or images (PNG or JPEG in one window)")
	f.TextVar(&a.window, "window", labelled.BrainWindow, "`CENTRE/WIDTH` in HU of images: what their grey levels 0 to 255 stand for")
	f.BoolVar(&a.partial, "partial", false, "go on where labels lack a file or files a label")
	f.StringVar(&a.config, "config", "", "configuration whose eligibility rules hold (default: the reference configuration's)")
	f.Float64SliceVar(&a.options.Sensitivities, "sensitivity", []float64{0.90, 0.95}, "operating points to look for")
	f.IntVar(&a.pictures, "pictures", 6, "worst errors to show, of each kind")
	f.IntVar(&a.options.Rounds, "rounds", 2000, "draws for the intervals")
	f.Uint64Var(&a.options.Seed, "seed", 1, "seed of the draws")
	f.IntVar(&a.workers, "workers", 0, "slices under way at a time (0: as many as there are cores)")
	f.StringVar(&a.library, "onnxruntime", "", "ONNX Runtime library (default: $ICHWATCH_ONNXRUNTIME, beside the binary, or the installed one)")
	return cmd
}

func (a *assessment) run(cmd *cobra.Command, format labelled.Format) (err error) {
	if a.workers < 1 {
		a.workers = runtime.GOMAXPROCS(0)
	}
	cfg := configs.Default()
	if a.config != "" {
		if cfg, err = configs.Load(a.config); err != nil {
			return reported(cmd, err)
		}
	}
	e, err := a.ensemble()
	if err != nil {
		return err
	}
	set, err := a.open(cmd, e.Classes, format)
	if err != nil {
		return err
	}
	library, err := a.runtime()
	if err != nil {
		return err
	}
	classifier, err := e.NewClassifier(library, onnx.Options{Runners: a.workers})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, classifier.Close()) }()

	examiner := &triage.Examiner{
		Gate: app.NewGate(cfg.Triage.Eligibility), Model: &triage.Model{Classifier: classifier, Rule: e.Rule()},
		Calls: a.workers, Timeout: 5 * time.Minute,
	}
	x, err := set.Examine(cmd.Context(), examiner, a.workers, newProgress(cmd.ErrOrStderr(), "slices").step)
	if err != nil {
		return err
	}
	data, counts, slice := x.Data(e.Classes, e.Thresholds)
	if counts.Classified == 0 {
		return fmt.Errorf("no slice could be classified: %s", commonReasons(counts.Ineligible, counts.Failed))
	}
	a.options.Unit, a.options.Workers = set.Unit, a.workers
	figures, err := assess.Assess(data, a.options)
	if err != nil {
		return err
	}
	r := a.report(e, x, counts, figures, classifier.Provider())
	if a.out == "" {
		return r.Markdown(cmd.OutOrStdout())
	}
	if a.pictures > 0 {
		if r.Pictures, err = a.draw(cmd.Context(), library, e, x, &data, slice); err != nil {
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

// ensemble puts the models of the call together.
func (a *assessment) ensemble() (*ensemble.Ensemble, error) {
	if len(a.models) == 0 {
		m, err := manifest.LoadFS(models.Phantom(), "the phantom model in this program")
		if err != nil {
			return nil, err
		}
		return ensemble.New(a.point, m)
	}
	var members []*manifest.Manifest
	for _, dir := range a.models {
		m, err := manifest.Load(dir)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	return ensemble.New(a.point, members...)
}

func (a *assessment) runtime() (*onnx.Runtime, error) {
	path := a.library
	if path == "" {
		var err error
		if path, err = app.FindRuntime(); err != nil {
			return nil, err
		}
	}
	return onnx.OpenRuntime(path, "")
}

// open matches labels and files, and tells what does not fit.
func (a *assessment) open(cmd *cobra.Command, classes []infer.Class, format labelled.Format) (*labelled.Set, error) {
	labels, err := labelled.ReadLabels(a.labels, classes)
	if err != nil {
		return nil, err
	}
	set, err := labelled.Open(a.dir, labels, format)
	if err != nil {
		return nil, err
	}
	set.Window = a.window
	note := func(what string, items []string) {
		if len(items) > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "ichwatch: note: %v\n", &labelled.ListError{What: what, Items: items})
		}
	}
	note("columns look like labels and name no known class; they are ignored", set.Ignored)
	note(fmt.Sprintf("files are not of the kind of format %s", set.Format), set.Unread)
	note("rows have no bone window; what the brain window cuts off is taken for air", set.NoBone)
	if a.partial {
		note("labels have no file", set.NoFile)
		note("files have no label", set.NoLabel)
	} else if err := set.Gaps(); err != nil {
		return nil, err
	}
	if len(set.Slices) == 0 {
		return nil, fmt.Errorf("none of the %d rows of %s has its slice below %s", len(set.Rows), a.labels, a.dir)
	}
	return set, nil
}

func (a *assessment) report(e *ensemble.Ensemble, x *labelled.Examination, counts labelled.Counts, f *assess.Figures, provider string) *report.Report {
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
			Name: strings.Join(names, " + "), Members: members, Provider: provider,
			OperatingPoint: e.Point, Thresholds: e.Thresholds, StudyRule: e.StudyRule.String(),
		},
		Data: report.Data{
			Format: string(x.Set.Format), Labels: len(x.Set.Rows), Examined: len(x.Set.Slices), Classified: counts.Classified,
			Ineligible: counts.Ineligible, Failed: counts.Failed, Studies: x.Set.Studies, Patients: x.Set.Patients,
			NoFile: len(x.Set.NoFile), NoLabel: len(x.Set.NoLabel), Unread: len(x.Set.Unread), NoBone: len(x.Set.NoBone),
			Doubtful: counts.Doubtful, Unclear: counts.Unclear, Unordered: counts.Unordered, Unclassified: counts.Unclassified, Window: window, Ignored: x.Set.Ignored,
		},
		Speed:    report.Speed{Slices: len(x.Results), Seconds: seconds, SlicesPerSecond: float64(len(x.Results)) / seconds, Workers: a.workers},
		Expected: report.Compare(e.Expected(), f),
		Figures:  f,
	}
}

// draw runs the worst slices again, on a classifier that gives activation maps.
func (a *assessment) draw(ctx context.Context, library *onnx.Runtime, e *ensemble.Ensemble, x *labelled.Examination, d *assess.Data, slice []int) (p []report.Picture, err error) {
	c, err := e.NewClassifier(library, onnx.Options{Runners: 1, Maps: true})
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
	_, err := fmt.Fprintf(w, "%s: %s on %d slices of %d studies, %.1f slices/s\n%s%soperating point %s: %s\n%s\n", page, r.Model.Name, r.Data.Classified, r.Data.Studies,
		r.Speed.SlicesPerSecond, line("slices,", r.Slices.Any), line("studies,", r.Studies.Any), r.Model.OperatingPoint, r.Expected.Summary(), r.Disclaimer)
	return err
}

// commonReasons names some of the reasons.
func commonReasons(counts ...map[string]int) string {
	var parts []string
	for _, c := range counts {
		for reason, n := range c {
			parts = append(parts, fmt.Sprintf("%d × %s", n, reason))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts[:min(len(parts), 5)], "; ")
}
