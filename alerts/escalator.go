package alerts

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Level is one step of an escalation.
type Level struct {
	// Delay is how long the step before it (the first notice, for level 1) may
	// stay without a person's answer.
	Delay time.Duration
}

// Escalator raises alerts that nobody answers: to level 1 when Levels[0].Delay
// has passed since the first notice was confirmed, to level 2 when
// Levels[1].Delay has passed since that, and so on. At the last level it goes on
// at that level's delay until somebody answers.
type Escalator struct {
	Book   Book
	Levels []Level
	Log    *slog.Logger // required

	Interval time.Duration    // how often the book is read; default 1 s
	Now      func() time.Time // default time.Now
}

// Run watches the book until ctx ends and returns nil. Errors of the book are
// logged and tried again. Without levels nothing ever escalates.
func (e *Escalator) Run(ctx context.Context) error {
	t := time.NewTicker(orDefault(e.Interval, time.Second))
	defer t.Stop()
	for {
		e.pass(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// pass reads the book once and raises what is overdue.
func (e *Escalator) pass(ctx context.Context) {
	open, err := e.Book.OpenAlerts(ctx)
	if err != nil {
		if ctx.Err() == nil {
			e.Log.Error("cannot read the open alerts; trying again", "err", err)
		}
		return
	}
	now := clock(e.Now)
	for _, a := range open {
		level, due := e.due(a, now)
		if !due {
			continue
		}
		switch err := e.Book.Escalate(ctx, a.AlertID, level, now); {
		case err == nil:
			e.Log.Warn("nobody has acknowledged an alert; escalated", "alert", a.AlertID, "level", level, "after", now.Sub(a.Since).Round(time.Second))
		case errors.Is(err, ErrAlreadyAcknowledged), errors.Is(err, ErrRetracted), ctx.Err() != nil:
			// Somebody was faster.
		default:
			e.Log.Error("cannot escalate an alert; trying again", "alert", a.AlertID, "level", level, "err", err)
		}
	}
}

// due returns the level that a is to be raised to, if it is time.
func (e *Escalator) due(a OpenAlert, now time.Time) (level int, due bool) {
	if len(e.Levels) == 0 {
		return 0, false
	}
	level = min(a.Level+1, len(e.Levels))
	return level, now.Sub(a.Since) >= e.Levels[level-1].Delay
}
