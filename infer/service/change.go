package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ichwatch/infer"
)

// ErrNoWayBack: nothing was in service before, or it was not written down.
var ErrNoWayBack = errors.New("there is nothing to roll back to")

// Change is what an exchange of models came to.
type Change struct {
	Active   infer.Models `json:"active"`
	Previous infer.Models `json:"previous"`
	// Canary of the new models, and of those before on the same slices.
	Canary   Canary  `json:"canary"`
	Before   *Canary `json:"before,omitempty"`
	Warnings []string
}

// Activate brings other models into service: verified, warmed beside the running
// ones and tried on the canary's slices; then written down, then exchanged. Where
// anything is in the way nothing has changed. force takes models that do not know
// phantoms.
func (s *Service) Activate(ctx context.Context, c Choice, force bool) (Change, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	c.Refs = nil
	return s.change(ctx, c, force, Selection{Reason: "activated by command"})
}

// Rollback brings back what was in service before.
func (s *Service) Rollback(ctx context.Context) (Change, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	selection, err := ReadSelection(s.State, s.Configured)
	if err != nil {
		return Change{}, err
	}
	if selection == nil || selection.Previous == nil {
		return Change{}, ErrNoWayBack
	}
	return s.change(ctx, *selection.Previous, true, Selection{Reason: "rolled back by command"})
}

// change does it, and writes it down as next, with what was in service as the way
// back unless it is an alarm that it is left.
func (s *Service) change(ctx context.Context, c Choice, force bool, next Selection) (Change, error) {
	if s.closed {
		return Change{}, ErrClosed
	}
	r, err := s.load(c)
	if err != nil {
		return Change{}, err
	}
	abandon := func(err error) (Change, error) { return Change{}, errors.Join(err, r.Classifier.Close()) }
	cases, err := s.Cases(ctx)
	if err != nil {
		return abandon(fmt.Errorf("make the canary's slices: %w", err))
	}
	change := Change{Active: r.Ensemble.Models()}
	var said *answers
	change.Canary, said, err = run(ctx, r.Classifier, r.Ensemble.Classes, cases, s.Version)
	switch {
	case errors.Is(err, ErrCanaryTruth) && force:
		change.Warnings = append(change.Warnings, err.Error())
	case err != nil:
		return abandon(err)
	}
	if next.Alarm != "" { // it is to be better than what is left
		if earlier, err := readAnswers(s.State, change.Active); err == nil && earlier != nil {
			if err := said.compare(earlier); err != nil {
				return abandon(err)
			}
		}
	}
	before, done := s.Use()
	defer done()
	next.Configured, next.Active, next.Since = s.Configured, r.Choice, time.Now()
	if before != nil {
		change.Previous = before.Ensemble.Models()
		if next.Alarm == "" {
			next.Previous = s.wayBack(before.Choice, r.Choice)
		}
		if b, _, err := run(ctx, before.Classifier, before.Ensemble.Classes, cases, s.Version); err == nil || errors.Is(err, ErrCanaryTruth) {
			change.Before = &b
		}
	}
	if err := writeAnswers(s.State, change.Active, said, change.Previous); err != nil {
		return abandon(err)
	}
	if err := next.write(s.State); err != nil {
		return abandon(err)
	}
	s.clear(standing)
	s.exchange(r, nil)
	s.Log.Info("models exchanged; what they suspect is not for diagnosis", "active", change.Active.String(), "before", change.Previous.String(),
		"reason", next.Reason, "canary_auc", change.Canary.AUC)
	for _, line := range r.Ensemble.Describe() {
		s.Log.Info("model in service; what it suspects is not for diagnosis", "model", line)
	}
	return change, nil
}

// wayBack is what ran before or, where that is the same but for its content, what
// was the way back then.
func (s *Service) wayBack(before, next Choice) *Choice {
	if !before.same(next) {
		return &before
	}
	if selection, err := ReadSelection(s.State, s.Configured); err == nil && selection != nil {
		return selection.Previous
	}
	return nil
}

// Choose writes down what is to be active from the next start of the daemon on,
// which tries it then. It is for when no daemon runs: the models are verified, not
// run.
func Choose(state string, configured Choice, v Verifier, c Choice) (Change, error) {
	c.Refs = nil
	e, err := v.together(c)
	if err != nil {
		return Change{}, err
	}
	c.Refs = e.Models()
	selection, err := ReadSelection(state, configured)
	if err != nil {
		return Change{}, err
	}
	previous := &configured
	if selection != nil {
		previous = &selection.Active
	}
	next := &Selection{Configured: configured, Active: c, Since: time.Now(), Reason: "activated by command while the daemon did not run"}
	if len(previous.Models) > 0 && !previous.same(c) {
		next.Previous = previous
	}
	return Change{Active: c.Refs, Previous: previous.Refs}, next.write(state)
}

// ChoosePrevious is Choose for the way back.
func ChoosePrevious(state string, configured Choice, v Verifier) (Change, error) {
	selection, err := ReadSelection(state, configured)
	if err != nil {
		return Change{}, err
	}
	if selection == nil || selection.Previous == nil {
		return Change{}, ErrNoWayBack
	}
	return Choose(state, configured, v, *selection.Previous)
}
