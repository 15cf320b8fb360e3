package triage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ichwatch/infer"
)

func showing(what int16) *infer.Image { return &infer.Image{Rows: 1, Columns: 1, HU: []int16{what}} }

func TestPromise3_GuardOutlivesTheClassifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		model := &fakeModel{over: make(chan struct{})}
		const calls = 2
		g := newGuard(model, time.Second, calls)
		ask := func(what int16) (time.Duration, error) {
			start := time.Now()
			_, err := g.classify(t.Context(), showing(what))
			return time.Since(start), err
		}
		if _, err := ask(showsNormal); err != nil {
			t.Errorf("a sound answer: %v", err)
		}
		var panicked *panicError
		if _, err := ask(panics); !errors.As(err, &panicked) || !strings.Contains(string(panicked.stack), "Classify") {
			t.Errorf("a panic: %v", err)
		}
		// What obeys its context comes back and costs nothing.
		for range 3 * calls {
			if _, err := ask(obeys); !errors.Is(err, errNoAnswer) {
				t.Errorf("obeying: %v", err)
			}
		}
		synctest.Wait()
		// What does not is given up after its time, and after the last place is
		// gone at once.
		for range calls {
			if took, err := ask(hangs); !errors.Is(err, errNoAnswer) || took != time.Second {
				t.Errorf("hanging: %v after %v", err, took)
			}
		}
		synctest.Wait()
		if took, err := ask(showsNormal); !errors.Is(err, errNoAnswer) || took != 0 {
			t.Errorf("with all calls lost: %v after %v, want errNoAnswer at once", err, took)
		}
		// And if they come back after all, so does the model.
		close(model.over)
		synctest.Wait()
		if _, err := ask(showsNormal); err != nil || g.lost.Load() != 0 || len(g.slots) != 0 {
			t.Errorf("after the recovery: %v, %d lost, %d under way", err, g.lost.Load(), len(g.slots))
		}
	})
}

func TestGuardEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		model := &fakeModel{over: make(chan struct{})}
		g := newGuard(model, time.Hour, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.classify(ctx, showing(hangs)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		close(model.over)
	})
}

func TestPanicErrorTellsNoValue(t *testing.T) {
	var none []int
	index := func() (err error) {
		defer func() { err = &panicError{value: recover()} }()
		_ = none[len(none)]
		return nil
	}
	if err := index(); !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("a panic of the runtime: %v", err)
	}
	if err := error(&panicError{value: identity}); strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "string") {
		t.Errorf("a panic with a text: %v", err)
	}
}
