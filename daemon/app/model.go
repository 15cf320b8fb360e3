package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"ichwatch/configs"
	"ichwatch/daemon/triage"
	"ichwatch/infer"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
	"ichwatch/infer/service"
)

// model is the model in service, or the models that answer as one, or the reason why there is none. A daemon without a
// model still receives and forwards (promise 3), and says of every study why it was not looked at (promise 4).
type model struct {
	service *service.Service // nil: none is wanted, or none can be
	err     error            // why there is no service
	drift   *observer        // nil: not watched
}

var errNoModel = errors.New("none is configured")

// StateDir is where the models in service leave what a restart must know.
func StateDir(cfg *configs.Config) string { return filepath.Join(cfg.Spool.Dir, "service") }

// Choice is what a configuration names.
func Choice(t configs.Triage) service.Choice {
	return service.Choice{Models: t.Models, Point: t.OperatingPoint}
}

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
	verifier, err := service.NewVerifier(t.PublicKey)
	if err != nil {
		note("triage.models_public_key", err)
		return nil, wrong
	}
	for i, dir := range t.Models {
		m, err := verifier.Load(dir)
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

// openModel brings the models into service. What is wrong with them is in the model, and fails no start.
func (a *App) openModel(trial []string) *model {
	t := a.cfg.Triage
	if !t.Enabled || len(t.Models) == 0 {
		return &model{err: errNoModel}
	}
	verifier, err := service.NewVerifier(t.PublicKey)
	if err != nil {
		return &model{err: fmt.Errorf("triage.models_public_key: %w", err)}
	}
	m := new(model)
	m.service, _ = service.Open(service.Options{ // what is wrong is its fault
		State: StateDir(a.cfg), Configured: Choice(t), Explain: a.explain, Verifier: verifier, Version: a.version, At: time.Duration(t.CanaryAt),
		Load: func(e *ensemble.Ensemble) (service.Classifier, error) { return a.loadModel(e, trial) },
		Attach: func(r *service.Running) any {
			return &triage.Model{Classifier: r.Classifier, Rule: r.Ensemble.Rule(), OperatingPoint: r.Ensemble.Point}
		},
		Cases: canary, Changed: a.modelChanged, Log: a.log,
	})
	if t.DriftStudies > 0 {
		m.drift = openObserver(m, StateDir(a.cfg), t.DriftStudies, a.log)
	}
	return m
}

// explain names the lines of the configuration.
func (a *App) explain(err error) error {
	if _, wrong := ReadModels(a.cfg); wrong != nil {
		return wrong
	}
	return err
}

// loadModel loads an ensemble, with the providers that are configured.
func (a *App) loadModel(e *ensemble.Ensemble, trial []string) (service.Classifier, error) {
	o := a.cfg.ONNXRuntime
	rt, err := onnx.OpenRuntime(o.Library, o.SHA256)
	if err != nil {
		return nil, err
	}
	options := onnx.Options{Runners: workers(a.cfg)}
	if o.Providers[0] != onnx.CPU {
		libraries := map[string]string{}
		for _, l := range o.Libraries {
			libraries[l.File] = l.SHA256
		}
		child := onnx.Child{Command: trial, Timeout: o.TrialTimeout, Memory: int64(o.TrialMemory)}
		options.Acceleration = &onnx.Acceleration{Order: o.Providers, Libraries: libraries, Engines: o.Engines, Prove: child.Prove, Log: a.log}
	}
	c, err := e.NewClassifier(rt, options)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// modelChanged has what failed before looked at by the models that are in service now.
func (a *App) modelChanged(*service.Running) {
	switch n, err := a.spool.RetryFindings(context.Background()); {
	case err != nil:
		a.log.Error("slices whose analysis had failed are not analysed again before the next start", "err", err)
	case n > 0:
		a.log.Info("slices whose analysis had failed are analysed again", "slices", n)
	}
}

// Use implements triage.Service.
func (m *model) Use() (*triage.Model, func()) {
	if m.service == nil {
		return nil, func() {}
	}
	r, done := m.service.Use()
	if r == nil {
		return nil, done
	}
	return r.Attached.(*triage.Model), done
}

// fault says why no model is in service; nil where one is.
func (m *model) fault() error {
	if m.service == nil {
		return m.err
	}
	return m.service.Fault()
}

// look gives what is in service to a function, if anything is.
func (m *model) look(at func(*service.Running)) {
	if m.service == nil {
		return
	}
	r, done := m.service.Use()
	defer done()
	if r != nil {
		at(r)
	}
}

// String names the model, or every member, for the log.
func (m *model) String() string {
	text := "none"
	m.look(func(r *service.Running) {
		text = fmt.Sprintf("%s on %s", r.Classifier.Models(), r.Classifier.Provider())
	})
	return text
}

// models names what looks at slices; nil where nothing does.
func (m *model) models() (out infer.Models) {
	m.look(func(r *service.Running) { out = r.Classifier.Models() })
	return out
}

// levels says how the providers are; nil where there is but the CPU.
func (m *model) levels() (out []ensemble.Levels) {
	m.look(func(r *service.Running) {
		if c, ok := r.Classifier.(*ensemble.Classifier); ok {
			out = c.Levels()
		}
	})
	return out
}

// checkProvider complains where a provider is wanted and another answers, unless it is being proven.
func (m *model) checkProvider(context.Context) error {
	var missing []string
	for _, l := range m.levels() {
		for _, level := range l.Levels {
			if level.State == onnx.Serving {
				break
			}
			if level.State == onnx.Refused || level.State == onnx.TakenOut {
				text := fmt.Sprintf("%s is %s for %s: %s", level.Provider, level.State, l.Model, level.Reason)
				if !slices.Contains(missing, text) {
					missing = append(missing, text)
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, "; "))
}

func (m *model) close() error {
	if m.service == nil {
		return nil
	}
	return m.service.Close()
}

// workers is how many slices are classified at a time.
func workers(cfg *configs.Config) int {
	if cfg.Triage.Workers == 0 {
		return runtime.GOMAXPROCS(0)
	}
	return cfg.Triage.Workers
}

// trialCommand is this program as the process of a provider's trial.
func trialCommand(command []string) []string {
	if command != nil {
		return command
	}
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	return []string{program, TrialCommand}
}

// TrialCommand is the command that makes a provider's trial; see onnx.Answer.
const TrialCommand = "try-provider"
