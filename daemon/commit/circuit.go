package commit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Status is how it goes with a peer.
type Status struct {
	Failing  bool
	Failures int       // in a row
	Since    time.Time // of the first of them
	Reason   string    // of the last of them
}

// circuit counts failures in a row and says how long to wait after each.
type circuit struct {
	log *slog.Logger

	mu      sync.Mutex
	backoff *backoff.ExponentialBackOff
	status  Status
}

// minRetry is the wait after a first failure where none is configured.
const minRetry = 10 * time.Second

func newCircuit(log *slog.Logger, least, most time.Duration) *circuit {
	return &circuit{log: log, backoff: &backoff.ExponentialBackOff{
		InitialInterval: orDefault(least, minRetry), MaxInterval: orDefault(most, 10*time.Minute),
		Multiplier: 2, RandomizationFactor: 0.5, // many devices do not come back at once
	}}
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// failed counts a failure, logs it, ever more rarely, and returns the time to
// wait.
func (c *circuit) failed(ctx context.Context, what string, cause error) time.Duration {
	c.mu.Lock()
	if c.status.Failures == 0 {
		c.status.Since = time.Now()
	}
	c.status.Failing = true
	c.status.Failures++
	c.status.Reason = cause.Error()
	failures, delay := c.status.Failures, c.backoff.NextBackOff()
	c.mu.Unlock()

	level := slog.LevelDebug
	if failures&(failures-1) == 0 {
		level = slog.LevelWarn
	}
	c.log.Log(ctx, level, what, "err", cause, "failures", failures, "wait", delay)
	return delay
}

// worked ends the failures.
func (c *circuit) worked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Failing {
		c.log.Info("storage commitment works again", "failures", c.status.Failures)
	}
	c.status = Status{}
	c.backoff.Reset()
}

func (c *circuit) now() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// wait waits for d, a signal or the end of ctx. A negative d is none.
func wait(ctx context.Context, d time.Duration, signal <-chan struct{}) {
	var timer <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
	case <-timer:
	case <-signal:
	}
}
