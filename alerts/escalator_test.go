package alerts

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memoryBook holds one alert, driven by the state machine. A confirmation
// arrives confirmAfter an escalation, as if by the courier.
type memoryBook struct {
	mu           sync.Mutex
	state        State
	open         OpenAlert
	raised       []raise
	start        time.Time
	confirmAfter time.Duration
	err          error
}

type raise struct {
	level int
	after time.Duration
}

func (b *memoryBook) Acknowledge(context.Context, Acknowledgement) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, ok := b.state.Next(EventAcknowledge)
	if !ok {
		return ErrAlreadyAcknowledged
	}
	b.state = next
	return nil
}

func (b *memoryBook) OpenAlerts(context.Context) ([]OpenAlert, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	if _, ok := b.state.Next(EventEscalate); !ok || b.open.Since.After(time.Now()) {
		return nil, nil
	}
	return []OpenAlert{b.open}, nil
}

func (b *memoryBook) Escalate(_ context.Context, id string, level int, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, ok := b.state.Next(EventEscalate)
	if !ok {
		return ErrAlreadyAcknowledged
	}
	b.state, b.open.Level, b.open.Since = next, level, now.Add(b.confirmAfter)
	b.raised = append(b.raised, raise{level, now.Sub(b.start)})
	return nil
}

func runEscalator(t *testing.T, b *memoryBook, levels ...Level) (stop func()) {
	t.Helper()
	b.start = time.Now()
	b.open.Since = b.start
	e := &Escalator{Book: b, Levels: levels, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

var levels = []Level{{2 * time.Minute}, {5 * time.Minute}, {10 * time.Minute}}

func TestPromise5_EscalatesUntilAPersonAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &memoryBook{state: StateDelivered}
		stop := runEscalator(t, book, levels...)
		defer stop()
		elapse(40*time.Minute + time.Second/2)
		if err := book.Acknowledge(t.Context(), Acknowledgement{}); err != nil {
			t.Fatal(err)
		}
		elapse(time.Hour)
		want := []raise{{1, 2 * time.Minute}, {2, 7 * time.Minute}, {3, 17 * time.Minute}, {3, 27 * time.Minute}, {3, 37 * time.Minute}}
		if !slices.Equal(book.raised, want) {
			t.Errorf("raised %v, want %v", book.raised, want)
		}
	})
}

func TestPromise5_ClockRunsFromTheConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &memoryBook{state: StateDelivered, confirmAfter: 30 * time.Minute}
		stop := runEscalator(t, book, levels...)
		defer stop()
		elapse(36 * time.Minute)
		want := []raise{{1, 2 * time.Minute}} // and level 2 only 5 minutes after minute 32
		if !slices.Equal(book.raised, want) {
			t.Errorf("raised %v, want %v", book.raised, want)
		}
	})
}

func TestEscalatorLeavesAlone(t *testing.T) {
	for _, state := range []State{StateNew, StateAcknowledged, StateRetracted} {
		synctest.Test(t, func(t *testing.T) {
			book := &memoryBook{state: state}
			stop := runEscalator(t, book, levels...)
			defer stop()
			elapse(time.Hour)
			if len(book.raised) != 0 {
				t.Errorf("%s: raised %v", state, book.raised)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		book := &memoryBook{state: StateDelivered}
		stop := runEscalator(t, book)
		defer stop()
		elapse(time.Hour)
		if len(book.raised) != 0 {
			t.Errorf("without levels: raised %v", book.raised)
		}
	})
}

func TestEscalatorOutlivesItsBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &memoryBook{state: StateDelivered, err: errors.New("disk I/O error")}
		stop := runEscalator(t, book, levels...)
		defer stop()
		elapse(10*time.Minute + time.Second/2)
		book.mu.Lock()
		book.err = nil
		book.mu.Unlock()
		elapse(2 * time.Second)
		if len(book.raised) != 1 {
			t.Errorf("raised %v, want once as soon as the book could be read", book.raised)
		}
	})
}
