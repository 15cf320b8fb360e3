package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ichwatch/infer"
)

// retryCanary is when a canary that could not be tried is tried again.
const retryCanary = 10 * time.Minute

// Watch tries the canary now and then daily, until ctx ends.
func (s *Service) Watch(ctx context.Context) error {
	for {
		next := until(time.Now(), s.At)
		if err := s.TryCanary(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("the canary could not be tried", "err", err)
			next = min(next, retryCanary)
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// until is how long it is to a time of day, at least a moment.
func until(now time.Time, at time.Duration) time.Duration {
	// By date, as days are not all of 24 hours.
	y, m, d := now.Date()
	for day := 0; ; day++ {
		if next := time.Date(y, m, d+day, int(at/time.Hour), int(at%time.Hour/time.Minute), 0, 0, now.Location()); next.After(now) {
			return next.Sub(now)
		}
	}
}

// TryCanary runs the canary's slices through what is in service and holds the
// answers against those of its coming into service. A provider that fails is taken
// out, models that do are rolled back, and a technical alarm is raised. The error
// is of a canary that could not be tried, or ctx's.
func (s *Service) TryCanary(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	r, done := s.Use()
	defer done()
	if r == nil {
		return nil
	}
	cases, err := s.Cases(ctx)
	if err != nil {
		return fmt.Errorf("make the canary's slices: %w", err)
	}
	before, err := readAnswers(s.State, r.Ensemble.Models())
	if err != nil {
		s.Log.Error("the canary has nothing to be held against but the truth", "err", err)
	}
	sound := true // but for what is said of a provider
	if err := r.Classifier.Check(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		sound = false
		s.raise(passing, fmt.Sprintf("a provider was taken out: %v", err))
	}
	err = s.sing(ctx, r, cases, before)
	// Neither what a model does not know nor what it was given is a provider's fault.
	aboutModel := errors.Is(err, ErrCanaryTruth) || errors.Is(err, ErrCanaryInput)
	if err != nil && !aboutModel && ctx.Err() == nil && r.Classifier.Distrust(err) {
		sound = false
		s.raise(passing, fmt.Sprintf("a provider was taken out: %v", err))
		err = s.sing(ctx, r, cases, before)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && sound:
		s.clear(passing)
		return nil
	case err == nil:
		return nil
	case aboutModel: // the way back would not help
		s.raise(passing, err.Error())
		return nil
	}
	return s.replace(ctx, r, cases, err)
}

// sing tries one canary. The first of a model, and the first of another release of
// the program, is what later ones are held against.
func (s *Service) sing(ctx context.Context, r *Running, cases []Case, before *answers) error {
	result, said, err := run(ctx, r.Classifier, r.Ensemble.Classes, cases, s.Version)
	if said == nil {
		return err
	}
	fresh := before == nil || before.Version != s.Version && before.Input != said.Input
	if !fresh {
		if differs := said.compare(before); differs != nil {
			return differs
		}
		if errors.Is(err, ErrCanaryTruth) {
			err = nil // known since it came into service
		}
	}
	if fresh && (err == nil || errors.Is(err, ErrCanaryTruth)) {
		if kept := writeAnswers(s.State, r.Ensemble.Models(), said, s.previous()); kept != nil {
			return errors.Join(err, kept)
		}
	}
	if err == nil {
		s.Log.Info("the canary answers as it should", "model", r.Ensemble.Models().String(), "provider", r.Classifier.Provider(), "slices", result.Slices, "auc", result.AUC)
	}
	return err
}

// previous names the models of the way back.
func (s *Service) previous() infer.Models {
	selection, err := ReadSelection(s.State, s.Configured)
	if err != nil || selection == nil || selection.Previous == nil {
		return nil
	}
	return selection.Previous.Refs
}

// replace mends what a canary has found, by the first that does: the same models
// from the disk, whose hash is verified anew, where what is in memory was damaged;
// those of the way back, where their own canary answers as it did; the same models
// all the same, where they know the truth: the machine or a library computes
// otherwise than before, which people must judge; none.
func (s *Service) replace(ctx context.Context, r *Running, cases []Case, why error) error {
	again, loading := s.load(r.Choice)
	var said *answers
	truth := loading
	if loading == nil {
		before, err := readAnswers(s.State, r.Ensemble.Models())
		_, said, truth = run(ctx, again.Classifier, again.Ensemble.Classes, cases, s.Version)
		if err == nil && before != nil && said != nil && said.compare(before) == nil {
			s.exchange(again, nil)
			s.raise(passing, fmt.Sprintf("%v was loaded anew, and answers as it should again: %v", r.Ensemble.Models(), why))
			return nil
		}
	}
	abandon := func() {
		if again != nil {
			if err := again.Classifier.Close(); err != nil {
				s.Log.Error("a model does not give its memory back", "err", err)
			}
		}
	}
	if ctx.Err() != nil {
		abandon()
		return context.Cause(ctx)
	}
	selection, err := ReadSelection(s.State, s.Configured)
	if err == nil && selection != nil && selection.Previous != nil {
		alarm := fmt.Sprintf("rolled back from %v to %v: %v", r.Choice, *selection.Previous, why)
		if _, err = s.change(ctx, *selection.Previous, true, Selection{Reason: alarm, Alarm: alarm}); err == nil {
			abandon()
			s.raise(standing, alarm)
			return nil
		}
		why = fmt.Errorf("%w; and the models before do not come back: %w", why, err)
	}
	if truth == nil {
		s.exchange(again, nil)
		s.raise(passing, fmt.Sprintf("%v; it is the same model, and tells phantoms with a bleed from those without: did the library or the machine change? Measure it (ichwatch assess), then activate it again", why))
		return nil
	}
	abandon()
	out := fmt.Errorf("the canary failed: %w; loaded anew: %w", why, truth)
	s.exchange(nil, out)
	s.raise(standing, "no model is in service: "+out.Error())
	return nil
}
