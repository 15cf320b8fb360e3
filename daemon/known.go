package main

import (
	"errors"
	"fmt"
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
	"ichwatch/infer/ensemble"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
	"ichwatch/models"
)

// known is a set of slices whose truth is known, and the models that are to look at
// it, as a command names them.
type known struct {
	dir, labels     string
	models          []string
	point           string
	format          string
	window          labelled.Window
	config, library string
	partial         bool
	workers         int
	rounds          int
	seed            uint64
	most            int // slices that are taken at a time; 0: any number
}

func (k *known) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&k.models, "model", "m", nil, "model folder; more than once: an ensemble (default: the phantom model in this program)")
	f.StringVar(&k.point, "operating-point", "", "operating point, of every model (default: the models')")
	f.StringVarP(&k.labels, "labels", "l", "", "table of labels, CSV (default: DIR/labels.csv)")
	f.StringVar(&k.format, "format", string(labelled.Auto), "how slices are kept: auto, phantom (Part 10 files), ct-ich (JPEG pairs) or images (PNG or JPEG in one window)")
	f.TextVar(&k.window, "window", labelled.BrainWindow, "`CENTRE/WIDTH` in HU of images: what their grey levels 0 to 255 stand for")
	f.BoolVar(&k.partial, "partial", false, "go on where labels lack a file or files a label")
	f.StringVar(&k.config, "config", "", "configuration whose eligibility rules hold (default: the reference configuration's)")
	f.IntVar(&k.rounds, "rounds", 2000, "draws for the intervals")
	f.Uint64Var(&k.seed, "seed", 1, "seed of the draws")
	f.IntVar(&k.workers, "workers", 0, "slices under way at a time (0: as many as there are cores)")
	f.StringVar(&k.library, "onnxruntime", "", "ONNX Runtime library (default: $ICHWATCH_ONNXRUNTIME, beside the binary, or the installed one)")
}

func oneFolder(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("name the folder of the slices, one")
	}
	return nil
}

// named takes the folder of the call, and what follows from it where flags are
// silent.
func (k *known) named(cmd *cobra.Command, dir string) error {
	k.dir = dir
	if k.labels == "" {
		k.labels = filepath.Join(dir, "labels.csv")
	}
	if k.workers < 1 {
		k.workers = runtime.GOMAXPROCS(0)
	}
	if k.rounds < 100 || k.rounds > 100_000 {
		return callError(cmd, fmt.Errorf("--rounds %d: wanted are 100 to 100000", k.rounds))
	}
	if _, err := labelled.ParseFormat(k.format); err != nil {
		return callError(cmd, err)
	}
	return nil
}

// examined is what the daemon's path made of a set, and with what.
type examined struct {
	*labelled.Examination
	library  *onnx.Runtime
	provider string
}

// examine sends the set down the daemon's own path, with a bar.
func (k *known) examine(cmd *cobra.Command, e *ensemble.Ensemble, o onnx.Options) (x *examined, err error) {
	cfg := configs.Default()
	if k.config != "" {
		if cfg, err = configs.Load(k.config); err != nil {
			return nil, reported(cmd, err)
		}
	}
	set, err := k.open(cmd, e.Classes)
	if err != nil {
		return nil, err
	}
	library, err := k.runtime()
	if err != nil {
		return nil, err
	}
	o.Runners = k.workers
	classifier, err := e.NewClassifier(library, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, classifier.Close()) }()
	examiner := &triage.Examiner{
		Gate: app.NewGate(cfg.Triage.Eligibility), Model: &triage.Model{Classifier: classifier, Rule: e.Rule(), OperatingPoint: e.Point},
		Calls: k.workers, Timeout: 5 * time.Minute,
	}
	done, err := set.Examine(cmd.Context(), examiner, k.workers, newProgress(cmd.ErrOrStderr(), "slices").step)
	if err != nil {
		return nil, err
	}
	return &examined{done, library, classifier.Provider()}, nil
}

// ensemble puts the models of the call together.
func (k *known) ensemble() (*ensemble.Ensemble, error) {
	e, err := k.together()
	if unknown, ok := errors.AsType[*manifest.UnknownPointError](err); ok {
		if meant := configs.Nearest(unknown.Name, manifest.PointNames(unknown.Points)); meant != "" {
			err = fmt.Errorf("%w; did you mean %q?", err, meant)
		}
	}
	return e, err
}

func (k *known) together() (*ensemble.Ensemble, error) {
	if len(k.models) == 0 {
		m, err := manifest.LoadFS(models.Phantom(), "the phantom model in this program")
		if err != nil {
			return nil, err
		}
		return ensemble.New(k.point, m)
	}
	var members []*manifest.Manifest
	for _, dir := range k.models {
		m, err := manifest.Load(dir)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	return ensemble.New(k.point, members...)
}

func (k *known) runtime() (*onnx.Runtime, error) {
	path := k.library
	if path == "" {
		var err error
		if path, err = app.FindRuntime(); err != nil {
			return nil, err
		}
	}
	return onnx.OpenRuntime(path, "")
}

// open matches labels and files, and tells what does not fit.
func (k *known) open(cmd *cobra.Command, classes []infer.Class) (*labelled.Set, error) {
	labels, err := labelled.ReadLabels(k.labels, classes)
	if err != nil {
		return nil, err
	}
	set, err := labelled.Open(k.dir, labels, labelled.Format(k.format))
	if err != nil {
		return nil, err
	}
	set.Window = k.window
	note := func(what string, items []string) {
		if len(items) > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "ichwatch: note: %v\n", &labelled.ListError{What: what, Items: items})
		}
	}
	note("columns look like labels and name no known class; they are ignored", set.Ignored)
	note(fmt.Sprintf("files are not of the kind of format %s", set.Format), set.Unread)
	note("rows have no bone window; what the brain window cuts off is taken for air", set.NoBone)
	if k.partial {
		note("labels have no file", set.NoFile)
		note("files have no label", set.NoLabel)
	} else if err := set.Gaps(); err != nil {
		return nil, err
	}
	if len(set.Slices) == 0 {
		return nil, fmt.Errorf("none of the %d rows of %s has its slice below %s", len(set.Rows), k.labels, k.dir)
	}
	if k.most > 0 && len(set.Slices) > k.most {
		return nil, fmt.Errorf("%d slices are more than the memory is meant for, %d of this model's; take some of the patients", len(set.Slices), k.most)
	}
	return set, nil
}

// someClassified is an error where nothing came of the set.
func someClassified(c labelled.Counts) error {
	if c.Classified > 0 {
		return nil
	}
	return fmt.Errorf("no slice could be classified: %s", commonReasons(c.Ineligible, c.Failed))
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
