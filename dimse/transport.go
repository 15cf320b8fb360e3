package dimse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// minimumRate is the rate, in bytes a second, below which a peer in
// mid-message loses our patience in the end.
const minimumRate = 4 << 10

// transport is the transport connection of an association, with the time that
// we are willing to wait for the peer.
//
// That time is a purse. Waiting in Read spends it, and when it is empty the
// peer has had its chance. Between messages nothing refills it. In mid-message
// every byte that arrives earns some of it back, up to what it held at first: an
// honest sender on a slow line goes on for hours, one byte a second ends with
// the purse. The time that a Handler takes, to write to a slow disk say, costs
// the peer nothing.
//
// A timer, ARTIM above all, is no purse but a point in time: whatever the peer
// sends, and however busy it keeps us, it comes.
type transport struct {
	conn         net.Conn
	acknowledge  func()      // TCP_QUICKACK; nil where it does not apply
	pace         func(n int) // returns when n more bytes may be read; nil: at once
	stall        time.Duration
	writeTimeout time.Duration

	mu          sync.Mutex
	phase       phase
	purse       time.Duration
	until       time.Time     // of phaseTimer
	last        bool          // until bounds what we write too: we only take leave
	interrupted error         // set by interrupt
	drainAfter  time.Duration // set by drain; 0: not draining
	awaiting    bool          // in await
	woken       bool          // set by wake, and await has not come back since
}

// phase says how the purse behaves.
type phase uint8

const (
	phaseTimer   phase = iota // until a point in time: ARTIM
	phaseIdle                 // until the first byte, then phaseMessage
	phaseMessage              // bytes refill the purse
)

// errDraining is why an idle association ends while the server shuts down.
var errDraining = fmt.Errorf("%w: shutting down", ErrServerClosed)

// timer gives the peer d in all until the next call of timer, idle or message.
func (t *transport) timer(d time.Duration) { t.enter(phaseTimer, d) }

// leave gives the peer d in all to close the connection, in Sta13.
func (t *transport) leave(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase, t.until, t.last = phaseTimer, time.Now().Add(d), true
}

// idle gives the peer d until the first byte of its next message.
func (t *transport) idle(d time.Duration) { t.enter(phaseIdle, d) }

// errWoken is why await came back.
var errWoken = errors.New("dimse: there is something to do")

// await is idle and then wait, which reads, and which wake may break off: it must
// leave nothing half read.
func (t *transport) await(d time.Duration, wait func() error) error {
	t.idle(d)
	t.setAwaiting(true)
	defer t.setAwaiting(false)
	return wait()
}

func (t *transport) setAwaiting(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.awaiting = on
}

// wake makes the await in progress, or else the next one, return errWoken.
func (t *transport) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.woken = true
	if t.awaiting {
		_ = t.conn.SetReadDeadline(time.Unix(1, 0)) // fails on a closed connection only
	}
}

// message says that the peer is in mid-message.
func (t *transport) message() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != phaseMessage {
		t.phase, t.purse = phaseMessage, t.stall
	}
}

func (t *transport) enter(p phase, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase, t.purse, t.until = p, d, time.Now().Add(d)
	if p == phaseIdle && t.drainAfter > 0 {
		t.purse = min(t.purse, t.drainAfter)
	}
}

// interrupt makes the Read or Write in progress, and all later ones until
// lastWords, return cause.
func (t *transport) interrupt(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.interrupted == nil {
		t.interrupted = cause
		_ = t.conn.SetDeadline(time.Unix(1, 0)) // fails on a closed connection only
	}
}

// interruption is the cause of an interrupt that nobody has come across yet.
func (t *transport) interruption() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.interrupted
}

// drain ends the association once it was idle for d.
func (t *transport) drain(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drainAfter = d
	if t.phase == phaseIdle && t.purse > d && t.interrupted == nil {
		t.purse = d
		_ = t.conn.SetReadDeadline(time.Now().Add(d))
	}
}

// lastWords lifts an interruption, so that an A-ABORT can be sent and the
// peer's close awaited, for d at most.
func (t *transport) lastWords(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.interrupted = nil
	t.phase, t.until, t.last = phaseTimer, time.Now().Add(d), true
}

// handshake completes a TLS handshake while the timer runs.
func (t *transport) handshake(ctx context.Context, c *tlsConn) error {
	t.mu.Lock()
	if t.interrupted != nil {
		defer t.mu.Unlock()
		return t.interrupted
	}
	_ = t.conn.SetDeadline(t.until) // a closed connection says so in the handshake
	t.mu.Unlock()

	err := c.HandshakeContext(ctx)

	t.mu.Lock()
	defer t.mu.Unlock()
	return t.explain(err)
}

// Read reads from the connection while the purse lasts.
func (t *transport) Read(b []byte) (int, error) {
	t.mu.Lock()
	if t.interrupted != nil {
		defer t.mu.Unlock()
		return 0, t.interrupted
	}
	if t.woken && t.awaiting {
		defer t.mu.Unlock()
		t.woken = false
		return 0, errWoken
	}
	pace := t.pace
	if t.last {
		pace = nil // what is thrown away need not be slow
	}
	begun := time.Now()
	deadline := t.until
	if t.phase != phaseTimer {
		deadline = begun.Add(t.purse)
	}
	_ = t.conn.SetReadDeadline(deadline) // a closed connection says so in Read
	t.mu.Unlock()

	n, err := t.conn.Read(b)
	if t.acknowledge != nil && n > 0 {
		t.acknowledge()
	}
	spent := time.Since(begun)
	if pace != nil && n > 0 {
		pace(n) // our time, not the peer's
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.purse -= spent
	if n > 0 {
		switch t.phase {
		case phaseIdle:
			t.phase, t.purse = phaseMessage, t.stall
		case phaseMessage:
			t.purse = min(t.stall, max(t.purse, 0)+time.Duration(n)*time.Second/minimumRate)
		}
	}
	return n, t.explain(err)
}

// Write writes b, within the write timeout.
func (t *transport) Write(b []byte) (int, error) {
	t.mu.Lock()
	if t.interrupted != nil {
		defer t.mu.Unlock()
		return 0, t.interrupted
	}
	deadline := time.Now().Add(t.writeTimeout)
	if t.last && t.until.Before(deadline) {
		deadline = t.until
	}
	_ = t.conn.SetWriteDeadline(deadline)
	t.mu.Unlock()

	n, err := t.conn.Write(b)

	t.mu.Lock()
	defer t.mu.Unlock()
	return n, t.explain(err)
}

// explain turns an expired deadline into its cause.
func (t *transport) explain(err error) error {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case t.interrupted != nil:
		return t.interrupted
	case t.woken && t.awaiting:
		t.woken = false
		return errWoken
	case t.drainAfter > 0 && t.phase == phaseIdle:
		return errDraining
	}
	return ErrTimeout
}
