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
	point      *manifest.OperatingPoint
}

var errNoModel = errors.New("none is configured")

// ReadModel reads and verifies the model that a configuration names, and finds the operating point that it asks for. Both
// are nil where no model is wanted. What is wrong comes as configs.Problems; one whose key is not triage.operating_point is
// the model's.
func ReadModel(t configs.Triage) (*manifest.Manifest, *manifest.OperatingPoint, error) {
	if !t.Enabled || len(t.Models) == 0 {
		return nil, nil, nil
	}
	m, err := manifest.Load(t.Models[0]) // configs allows one
	if err != nil {
		return nil, nil, configs.Problems{{Key: "triage.models[0]", Wrong: "cannot be used: " + err.Error(), Err: err}}
	}
	point, err := m.Point(t.OperatingPoint)
	if err != nil {
		return nil, nil, configs.Problems{{Key: "triage.operating_point", Wrong: "cannot be used: " + err.Error(), Err: err}}
	}
	return m, point, nil
}

func loadModel(cfg *configs.Config) *model {
	m, point, err := ReadModel(cfg.Triage)
	if err != nil {
		return &model{err: err}
	}
	if m == nil {
		return &model{err: errNoModel}
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
		triage:     &triage.Model{Classifier: classifier, Rule: study.NewRule(m.Classes, point.Thresholds, m.StudyRule)},
		classifier: classifier,
		point:      point,
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
