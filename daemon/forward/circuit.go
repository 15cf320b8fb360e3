package forward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"ichwatch/dimse"
)

// Status is how a Forwarder gets on with its destination.
type Status struct {
	Failing     bool      // nothing is sent: the destination is asked now and then whether it is there again
	Failures    int       // in a row
	Since       time.Time // of the first of them
	Reason      string    // of the last of them
	NextAttempt time.Time
	LastDone    time.Time // when the destination last confirmed an instance
}

// circuitState says what a destination is sent.
type circuitState int

const (
	closed   circuitState = iota // all that is due
	open                         // nothing, until the time is over
	halfOpen                     // one instance, for it has answered a C-ECHO
)

// failuresToOpen are failures in a row, of whatever instances. Where no association
// can be had one is enough: there is nothing else to try.
const failuresToOpen = 3

// alarmAgain is after how long the same cause is worth another alarm: a study of
// 300 slices that is refused for one reason is one alarm, and so is a night without
// the PACS.
const alarmAgain = time.Hour

// circuit stands between a destination that fails and all that is due there. The
// associations of a destination share it.
type circuit struct {
	log     *slog.Logger
	changed chan struct{} // signalled after each change of state

	mu      sync.Mutex
	backoff *backoff.ExponentialBackOff
	state   circuitState
	until   time.Time // of open
	status  Status
	alarmed map[string]time.Time // by cause
}

// newBackoff waits twice as long each time, give or take a half: many devices
// that lost the same PACS do not come back to it at once.
func newBackoff(least, most time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: orDefault(least, time.Second), MaxInterval: orDefault(most, time.Minute),
		Multiplier: 2, RandomizationFactor: 0.5,
	}
}

// look returns the state, and of open until when.
func (c *circuit) look() (circuitState, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.until
}

// answered says that the destination has come to a decision about an instance;
// done, that it has it. It returns whether nothing was sent before.
func (c *circuit) answered(done bool) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	failures, last := c.status.Failures, c.status.LastDone
	if done {
		last = time.Now()
	}
	c.status = Status{LastDone: last}
	if c.state == closed {
		return false
	}
	c.backoff.Reset()
	c.become(closed)
	c.log.Info("the destination takes instances again", "failures", failures)
	return true
}

// greeted says that it has answered a C-ECHO.
func (c *circuit) greeted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == open {
		c.become(halfOpen)
	}
}

// retry ends the waiting after a failure, as if there had been none.
func (c *circuit) retry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backoff.Reset()
	c.until = time.Time{}
}

// failed counts a failure. atOnce says that there is nothing else to try.
func (c *circuit) failed(ctx context.Context, what string, err error, atOnce bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.status.Failures == 0 {
		c.status.Since = now
	}
	c.status.Failures++
	c.status.Reason = err.Error()
	if c.state == open && now.Before(c.until) { // another association was faster
		return
	}
	if c.state == closed && !atOnce && c.status.Failures < failuresToOpen {
		c.log.Info(what, "err", err)
		return
	}
	delay := c.backoff.NextBackOff()
	c.until = now.Add(delay)
	c.status.Failing, c.status.NextAttempt = true, c.until
	c.become(open)

	// Then ever more rarely: it may be another reason by now.
	level := slog.LevelDebug
	cause := causeOf(err)
	if c.firstAlarm(cause, now) {
		level = slog.LevelError
	} else if n := c.status.Failures; n&(n-1) == 0 {
		level = slog.LevelWarn
	}
	c.log.Log(ctx, level, what, "cause", cause, "err", err, "failures", c.status.Failures, "wait", delay)
}

// become changes the state; c.mu is held.
func (c *circuit) become(s circuitState) {
	c.state = s
	select {
	case c.changed <- struct{}{}:
	default: // one is waiting to be seen already
	}
}

// alarm logs a cause for which instances are parked: the first as an alarm.
func (c *circuit) alarm(ctx context.Context, what, cause string, attrs ...any) {
	c.mu.Lock()
	first := c.firstAlarm(cause, time.Now())
	c.mu.Unlock()
	level := slog.LevelDebug
	if first {
		level = slog.LevelError
	}
	c.log.Log(ctx, level, what, append([]any{"cause", cause}, attrs...)...)
}

// firstAlarm reports whether there was none for a cause lately, and notes this one.
func (c *circuit) firstAlarm(cause string, now time.Time) bool {
	at, known := c.alarmed[cause]
	if known && now.Sub(at) < alarmAgain {
		return false
	}
	c.alarmed[cause] = now
	return true
}

// answeredError is a status after which an instance is tried again.
type answeredError struct{ status dimse.Status }

func (e *answeredError) Error() string { return "answered " + e.status.String() }

// causeOf says in few words what kept an instance from its destination, the same
// for the same cause.
func causeOf(err error) string {
	var timeout interface{ Timeout() bool }
	if e, ok := errors.AsType[*answeredError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*dimse.RejectedError](err); ok {
		return "rejects associations: " + e.Rejection.String()
	}
	if _, ok := errors.AsType[*dimse.AbortedError](err); ok {
		return "aborts associations"
	}
	switch {
	case errors.Is(err, dimse.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "does not answer in time"
	case errors.Is(err, dimse.ErrProtocol):
		return "breaks the protocol"
	case errors.Is(err, dimse.ErrReleased), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "loses associations"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op != "dial" {
		return "loses associations"
	}
	return "cannot be reached"
}
