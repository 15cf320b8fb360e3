package app

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"ichwatch/configs"
	"ichwatch/daemon/triage"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
)

// model is the model in service, or the models that answer as one, or the reason why there is none. A daemon without a
// model still receives and forwards (promise 3), and says of every study why it was not looked at (promise 4).
type model struct {
	triage     *triage.Model // nil with err
	err        error
	ensemble   *ensemble.Ensemble
	classifier *ensemble.Classifier
}

var errNoModel = errors.New("none is configured")

// ReadModels reads and verifies the models that a configuration names and puts them together at its operating point; nil
// where none is wanted. Its error is a configs.Problems with what is wrong with each of them, or with them together, in
// the lines of the configuration: one that does not load leaves none.
func ReadModels(cfg *configs.Config) (*ensemble.Ensemble, error) {
	t := cfg.Triage
	if !t.Enabled || len(t.Models) == 0 {
		return nil, nil
	}
	var members []*manifest.Manifest
	var wrong configs.Problems
	note := func(key string, err error) {
		wrong = append(wrong, configs.Problem{Key: key, Wrong: "cannot be used: " + err.Error(), Err: err})
	}
	for i, dir := range t.Models {
		m, err := manifest.Load(dir)
		if err != nil {
			note(fmt.Sprintf("triage.models[%d]", i), err)
			continue
		}
		members = append(members, m)
	}
	if len(wrong) > 0 {
		return nil, cfg.Placed(wrong)
	}
	e, err := ensemble.New(t.OperatingPoint, members...)
	if err != nil {
		if _, unknown := errors.AsType[*manifest.UnknownPointError](err); unknown || errors.Is(err, ensemble.ErrNoCommonPoint) {
			wrong = append(wrong, wrongPoint(t.OperatingPoint, members, err))
		} else {
			note("triage.models", err)
		}
		return nil, cfg.Placed(wrong)
	}
	return e, nil
}

// wrongPoint says which operating points could be in use.
func wrongPoint(name string, members []*manifest.Manifest, err error) configs.Problem {
	common := ensemble.CommonPoints(members)
	p := configs.Problem{
		Key: "triage.operating_point", Value: name, Wrong: "is no operating point of " + called(members),
		Allowed: strings.Join(common, ", "), Suggestion: configs.Nearest(name, common), Err: err,
	}
	if name == "" {
		p.Wrong, p.Suggestion = "is empty, and the defaults of "+called(members)+" differ", ""
	}
	if len(common) == 0 {
		p.Wrong, p.Allowed = "cannot be set: "+called(members)+" have none in common", "models of one kind in triage.models"
	}
	return p
}

// called are the names of models.
func called(members []*manifest.Manifest) string {
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
	}
	return strings.Join(names, " and ")
}

func loadModel(cfg *configs.Config) *model {
	e, err := ReadModels(cfg)
	if err != nil {
		return &model{err: err}
	}
	if e == nil {
		return &model{err: errNoModel}
	}
	rt, err := onnx.OpenRuntime(cfg.ONNXRuntime.Library, cfg.ONNXRuntime.SHA256)
	if err != nil {
		return &model{err: err}
	}
	classifier, err := e.NewClassifier(rt, onnx.Options{Runners: workers(cfg)})
	if err != nil {
		return &model{err: err}
	}
	return &model{triage: &triage.Model{Classifier: classifier, Rule: e.Rule(), OperatingPoint: e.Point}, ensemble: e, classifier: classifier}
}

// String names the model, or every member, for the log.
func (m *model) String() string {
	if m.classifier == nil {
		return "none"
	}
	return fmt.Sprintf("%s on %s", m.classifier.Models(), m.classifier.Provider())
}

func (m *model) close() error {
	if m.classifier == nil {
		return nil
	}
	return m.classifier.Close()
}

// workers is how many slices are classified at a time.
func workers(cfg *configs.Config) int {
	if cfg.Triage.Workers == 0 {
		return runtime.GOMAXPROCS(0)
	}
	return cfg.Triage.Workers
}
