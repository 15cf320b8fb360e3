package app

import (
	"errors"
	"fmt"
	"runtime"

	"ichwatch/configs"
	"ichwatch/daemon/triage"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
	"ichwatch/infer/study"
)

// model is the model in service, or the reason why there is none. A daemon without a model still receives and forwards
// (promise 3), and says of every study why it was not looked at (promise 4).
type model struct {
	triage     *triage.Model // nil with err
	err        error
	classifier *onnx.Classifier
}

var errNoModel = errors.New("none is configured")

func loadModel(cfg *configs.Config) *model {
	if !cfg.Triage.Enabled || len(cfg.Triage.Models) == 0 {
		return &model{err: errNoModel}
	}
	m, err := manifest.Load(cfg.Triage.Models[0]) // configs allows one
	if err != nil {
		return &model{err: err}
	}
	rt, err := onnx.OpenRuntime(cfg.ONNXRuntime.Library, cfg.ONNXRuntime.SHA256)
	if err != nil {
		return &model{err: err}
	}
	classifier, err := rt.NewClassifier(m, onnx.Options{Runners: workers(cfg)})
	if err != nil {
		return &model{err: err}
	}
	return &model{
		triage:     &triage.Model{Classifier: classifier, Rule: study.NewRule(m)},
		classifier: classifier,
	}
}

// String names the model for the log.
func (m *model) String() string {
	if m.classifier == nil {
		return "none"
	}
	return fmt.Sprintf("%s on %s", m.classifier.Model(), m.classifier.Provider())
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
