package app

import (
	"context"
	"errors"
	"fmt"

	"ichwatch/daemon/control"
	"ichwatch/infer"
	"ichwatch/infer/service"
)

// modelStatus is what `ichwatch status` is told of the models.
func (a *App) modelStatus() control.Model {
	m := control.Model{Names: []string{}}
	a.model.look(func(r *service.Running) {
		m.Names, m.Provider = names(r.Classifier.Models()), r.Classifier.Provider()
		m.Folders, m.OperatingPoint, m.Since = r.Choice.Models, r.Ensemble.Point, r.Since
	})
	for _, member := range a.model.levels() {
		for _, l := range member.Levels {
			m.Providers = append(m.Providers, control.Provider{
				Model: member.Model.String(), Name: l.Provider, State: string(l.State), Reason: l.Reason, Since: l.Since,
			})
		}
	}
	if fault := a.model.fault(); fault != nil && !errors.Is(fault, errNoModel) {
		m.Fault = fault.Error()
	}
	if s := a.model.service; s != nil {
		m.Alarm = s.Alarm().Text
	}
	for _, d := range a.model.drift.alarms() {
		m.Drift = append(m.Drift, d.Text)
	}
	return m
}

func names(models infer.Models) []string {
	out := make([]string, len(models))
	for i, m := range models {
		out[i] = m.String()
	}
	return out
}

// errNotExchangeable says why commands about models are refused.
func (a *App) exchangeable() error {
	if a.model.service != nil {
		return nil
	}
	if errors.Is(a.model.err, errNoModel) {
		return errors.New("the configuration wants no model (triage.enabled, triage.models)")
	}
	return a.model.err
}

// ActivateModels implements control.Daemon.
func (a *App) ActivateModels(ctx context.Context, r control.Activate) (control.ModelChange, error) {
	if err := a.exchangeable(); err != nil {
		return control.ModelChange{}, err
	}
	change, err := a.model.service.Activate(ctx, service.Choice{Models: r.Models, Point: r.OperatingPoint}, r.Force)
	return changed(change), err
}

// RollBackModels implements control.Daemon.
func (a *App) RollBackModels(ctx context.Context) (control.ModelChange, error) {
	if err := a.exchangeable(); err != nil {
		return control.ModelChange{}, err
	}
	change, err := a.model.service.Rollback(ctx)
	return changed(change), err
}

func changed(c service.Change) control.ModelChange {
	out := control.ModelChange{Active: names(c.Active), Previous: names(c.Previous), Warnings: c.Warnings}
	if c.Canary.Slices > 0 {
		out.Canary = fmt.Sprintf("AUC %.3f on %d phantom slices", c.Canary.AUC, c.Canary.Slices)
		if c.Before != nil {
			out.Canary += fmt.Sprintf("; the models before had %.3f", c.Before.AUC)
		}
	}
	return out
}

// Relearn implements control.Daemon.
func (a *App) Relearn(context.Context) error {
	if a.model.drift == nil {
		return errors.New("nothing is watched (triage.drift_studies)")
	}
	return a.model.drift.relearn()
}
