package triage

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"ichwatch/infer"
)

// errNoAnswer: the classifier did not answer in time.
var errNoAnswer = errors.New("the model did not answer in time")

// panicError is a panic that was caught.
type panicError struct {
	value any
	stack []byte
}

// Error tells what kind of panic it was. Its value may hold anything, a header's
// text as well, and is told only where the Go runtime made it.
func (e *panicError) Error() string {
	if err, ok := e.value.(runtime.Error); ok {
		return "panic: " + err.Error()
	}
	return fmt.Sprintf("panic: a value of type %T", e.value)
}

// guard stands between the daemon and a classifier: no panic comes through, no
// call lasts longer than its time, and calls that never return cost a bounded
// number of goroutines.
type guard struct {
	classifier infer.Classifier
	timeout    time.Duration
	slots      chan struct{} // one for each call that has not returned
	lost       atomic.Int32  // calls that outlived their time and have not returned
}

func newGuard(c infer.Classifier, timeout time.Duration, calls int) *guard {
	return &guard{classifier: c, timeout: timeout, slots: make(chan struct{}, calls)}
}

type answer struct {
	scores infer.Scores
	err    error
}

// classify asks the classifier. After errNoAnswer, or the end of ctx, img must
// not be used again.
func (g *guard) classify(ctx context.Context, img *infer.Image) (infer.Scores, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.timeout, errNoAnswer)
	defer cancel()
	if int(g.lost.Load()) == cap(g.slots) {
		return infer.Scores{}, fmt.Errorf("%w: it has stopped answering", errNoAnswer)
	}
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return infer.Scores{}, context.Cause(ctx)
	}
	answered := make(chan answer, 1)
	go func() {
		stop := context.AfterFunc(ctx, func() { g.lost.Add(1) })
		a := g.call(ctx, img)
		if !stop() {
			g.lost.Add(-1) // it came back after all
		}
		<-g.slots
		answered <- a
	}()
	select {
	case a := <-answered:
		if a.err != nil && ctx.Err() != nil {
			a.err = context.Cause(ctx)
		}
		return a.scores, a.err
	case <-ctx.Done():
		return infer.Scores{}, context.Cause(ctx)
	}
}

func (g *guard) call(ctx context.Context, img *infer.Image) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{err: &panicError{p, debug.Stack()}}
		}
	}()
	scores, err := g.classifier.Classify(ctx, img)
	return answer{scores, err}
}
