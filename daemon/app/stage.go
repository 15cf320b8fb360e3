package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// stage is one station of the line while it runs.
type stage struct {
	name string
	// run works until its context ends and then returns nil, having finished or given back what it had in hand.
	run func(context.Context) error

	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// line is groups of stations, in the order in which they start.
type line struct {
	groups [][]*stage
	failed chan *stage // capacity: all of them
}

// start starts the stations. Their contexts do not end with ctx: stop ends them group by group.
func (l *line) start(ctx context.Context, groups ...[]*stage) {
	l.groups = groups
	n := 0
	for _, group := range groups {
		n += len(group)
	}
	l.failed = make(chan *stage, n)
	for _, group := range groups {
		for _, s := range group {
			l.begin(ctx, s)
		}
	}
}

func (l *line) begin(ctx context.Context, s *stage) {
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		if err := s.run(ctx); err != nil && ctx.Err() == nil {
			s.err = fmt.Errorf("%s: %w", s.name, err)
		} else if ctx.Err() == nil {
			s.err = fmt.Errorf("%s ended by itself", s.name)
		}
		if s.err != nil {
			l.failed <- s
		}
	}()
}

// stop ends the groups in the reverse order, each when the one before it has ended, and returns what went wrong. The
// stations of a group end side by side, so that stopping takes no longer for many destinations than for one.
func (l *line) stop() error {
	var errs []error
	for _, group := range slices.Backward(l.groups) {
		for _, s := range group {
			s.cancel()
		}
		for _, s := range group {
			<-s.done
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}
