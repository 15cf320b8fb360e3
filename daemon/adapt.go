package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/infer/adapt"
	"ichwatch/infer/assess"
	"ichwatch/infer/assess/report"
	"ichwatch/infer/graph"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
)

// adaptation is a call of ichwatch adapt.
type adaptation struct {
	known
	out, name   string
	evenIfWorse bool
	json        bool
}

func adaptCommand() *cobra.Command {
	var a adaptation
	cmd := &cobra.Command{
		Use:   "adapt DIR",
		Short: "Fit a model's last layer to the slices of this site",
		Long: `Fits the last layer of a model anew to the labelled slices below DIR, and writes
the result as another model folder. Everything before that layer stays as it is.
It needs no GPU and no network.

The new layer is pulled towards the old one; how strongly, and how good the result
is, cross-validation tells whose folds are made of whole patients. The thresholds of
its operating points (sensitive, balanced, specific) come from the same out-of-fold
predictions, and so does what is expected of them, each fold being judged by
thresholds that the others chose. The folder holds a card with the figures before
and after. Models of an ensemble are adapted one by one.

It refuses sets with fewer than ` + fmt.Sprint(adapt.MinimumPatients) + ` patients with a hemorrhage or without one; a class
that fewer patients show keeps its weights. It refuses a result that is worse out
of fold than the model it starts from: keep that one.

The table of labels is that of ichwatch assess. Give it patients, not studies
alone: two studies of one patient must not stand on both sides of a fold.

Suspected findings, not for diagnosis. Not a medical device.`,
		Example: `  ichwatch adapt --model models/resnet18 --labels labels.csv --out north STUDIES
  ichwatch assess --model north --labels later.csv LATER     on patients who came later

  ichwatch phantom set --studies 12
  ichwatch adapt set --out tried --even-if-worse             to see it at work: phantoms teach
                                                             the model of the demo nothing new`,
		Args: oneFolder,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.named(cmd, args[0]); err != nil {
				return err
			}
			if a.out == "" {
				return callError(cmd, errors.New("name the folder for the adapted model with --out"))
			}
			a.name = cmp.Or(a.name, filepath.Base(filepath.Clean(a.out)))
			return a.run(cmd)
		},
	}
	a.flags(cmd)
	f := cmd.Flags()
	f.StringVarP(&a.out, "out", "o", "", "folder for the adapted model; must not exist")
	f.StringVar(&a.name, "name", "", "name of the adapted model (default: the last part of --out)")
	f.BoolVar(&a.evenIfWorse, "even-if-worse", false, "write the model even if it is worse out of fold than the one it starts from")
	f.BoolVar(&a.json, "json", false, "print the summary as JSON")
	return cmd
}

func (a *adaptation) run(cmd *cobra.Command) (err error) {
	folder, err := manifest.Create(a.out) // before the work: what stands in its way is known now
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Discard()) }()
	base, err := a.ensemble()
	if err != nil {
		return err
	}
	if len(base.Members) > 1 {
		return callError(cmd, errors.New("name one model; those of an ensemble are adapted one by one"))
	}
	m := base.Members[0]
	if a.name == m.Name {
		return callError(cmd, fmt.Errorf("the model to adapt is called %s as well; give the adapted one another name with --name", a.name))
	}
	head, err := graph.FindHead(m.Model(), m.Outputs.Logits, m.Outputs.CAM)
	if err != nil {
		return fmt.Errorf("adapt %s: %w", m.Ref(), err)
	}
	a.most = adapt.MostNumbers / (len(head.Weight) / len(head.Bias))
	x, err := a.examine(cmd, base, onnx.Options{Features: true})
	if err != nil {
		return err
	}
	if x.Set.Unit == "study" {
		fmt.Fprintln(cmd.ErrOrStderr(), "ichwatch: note: the table has no patients; each study counts as one")
	}
	site, err := newSite(base, head, x)
	if err != nil {
		return err
	}
	result, err := adapt.Adapt(cmd.Context(), &site.data, site.start, adapt.Options{Unit: x.Set.Unit, Workers: a.workers, Progress: newProgress(cmd.ErrOrStderr(), "fits").step})
	if err != nil {
		return err
	}
	s := &adapt.Summary{
		Schema: adapt.Schema, Disclaimer: report.Disclaimer, Program: "ichwatch " + version, Created: time.Now().UTC().Truncate(time.Second),
		From: adapt.Ref{Name: m.Name, SHA256: m.SHA256()}, To: adapt.Ref{Name: a.name}, Unit: x.Set.Unit,
	}
	s.Describe(result)
	if err := site.compare(s, result, assess.Options{Rounds: a.rounds, Seed: a.seed, Workers: a.workers, Unit: x.Set.Unit}); err != nil {
		return err
	}
	if len(s.Worse) > 0 && !a.evenIfWorse {
		return fmt.Errorf("nothing was written: out of fold the adapted model is worse than %s, from which it starts: %s; keep that one (--even-if-worse writes the adapted one all the same)", m.Name, strings.Join(s.Worse, "; "))
	}
	if err := site.write(cmd.Context(), folder, s, result); err != nil {
		return err
	}
	if a.json {
		return s.JSON(cmd.OutOrStdout())
	}
	return a.tell(cmd.OutOrStdout(), s)
}

// tell is what a person reads at the end.
func (a *adaptation) tell(w io.Writer, s *adapt.Summary) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, adapted from %s to %d slices (%d %s)\n", a.out, s.To.Name, s.From.Name, s.Slices, s.Patients, s.Units())
	for _, c := range s.Classes {
		what := "fitted"
		if !c.Adapted {
			what = "weights as they were"
		}
		fmt.Fprintf(&b, "%-17s %s, shown by %d of %d %s; threshold %.4g, was %.4g\n", c.Class, what, c.Patients, s.Patients, s.Units(), s.Default().Thresholds[c.Class], s.ThresholdsBefore[c.Class])
	}
	if s.StudyThresholdBefore > 0 {
		fmt.Fprintf(&b, "%-17s threshold %.4g, was %.4g\n", "studies", s.Default().StudyThreshold, s.StudyThresholdBefore)
	}
	b.WriteString("any hemorrhage, before and after (out of fold):\n")
	for _, line := range []struct {
		what          string
		before, after assess.Estimate
	}{
		{"AUC of slices", s.Before.Slices.Any.AUC, s.After.Slices.Any.AUC},
		{"AUC of studies", s.Before.Studies.Any.AUC, s.After.Studies.Any.AUC},
	} {
		fmt.Fprintf(&b, "  %-15s %s  %s\n", line.what, adapt.Figure(line.before), adapt.Figure(line.after))
	}
	b.WriteString("operating points, and what is expected of studies (by thresholds chosen on others):\n")
	fmt.Fprintf(&b, "  %-18s sensitivity %s, specificity %s\n", "before", adapt.Figure(s.Before.Studies.Any.Sensitivity), adapt.Figure(s.Before.Studies.Any.Specificity))
	for _, o := range s.Points {
		name := o.Name
		if name == s.DefaultPoint {
			name += ", default"
		}
		fmt.Fprintf(&b, "  %-18s %v\n", name, o.Expected.Study)
	}
	for _, words := range s.LiftedWords() {
		fmt.Fprintf(&b, "to keep the operating points in order, %s\n", words)
	}
	if words := s.UndecidedWords(); words != "" {
		fmt.Fprintf(&b, "%s\n", words)
	}
	if len(s.Worse) > 0 {
		fmt.Fprintf(&b, "worse than before: %s\n", strings.Join(s.Worse, "; "))
	}
	_, err := fmt.Fprintf(w, "%s%s\n", b.String(), s.Disclaimer)
	return err
}
