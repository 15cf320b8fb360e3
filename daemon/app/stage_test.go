package app

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// Each station is told to stop only when the one after it in the line has ended.
func TestLineStopsBackwards(t *testing.T) {
	var events []string // written by one station at a time, which is what is tested
	station := func(name string) *stage {
		return &stage{name: name, run: func(ctx context.Context) error {
			<-ctx.Done()
			events = append(events, name)
			return nil
		}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var l line
	l.start(ctx, []*stage{station("goodbye")}, []*stage{station("forward")}, []*stage{station("receive")})
	cancel() // alone stops nothing
	if err := l.stop(); err != nil {
		t.Error(err)
	}
	if want := []string{"receive", "forward", "goodbye"}; !slices.Equal(events, want) {
		t.Errorf("stopped %v, want %v", events, want)
	}
}

// A station that ends by itself is named, and the others stop all the same.
func TestLineTellsWhichStationEnded(t *testing.T) {
	broken := errors.New("the ledger is gone")
	for name, ends := range map[string]error{"triage: the ledger is gone": broken, "triage ended by itself": nil} {
		stopped := false
		var l line
		l.start(t.Context(),
			[]*stage{{name: "mqtt", run: func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil }}},
			[]*stage{{name: "triage", run: func(context.Context) error { return ends }}})
		if s := <-l.failed; s.name != "triage" {
			t.Errorf("%s is said to have ended", s.name)
		}
		if err := l.stop(); err == nil || err.Error() != name || ends != nil && !errors.Is(err, ends) {
			t.Errorf("stop returned %v, want %s", err, name)
		}
		if !stopped {
			t.Error("the other station did not stop")
		}
	}
}
