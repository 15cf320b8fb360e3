package forward

import (
	"net"
	"sync"
	"testing"
	"time"
)

// line is the network between a forwarder and its destination: what goes over it can
// be cut, held up or dripped.
type line struct {
	t    *testing.T
	addr string

	mu    sync.Mutex
	ln    net.Listener // nil: nobody listens
	to    string
	after int               // bytes to the destination on each connection before it is held up; 0: never
	drip  time.Duration     // for each byte then; 0: nothing passes any more
	back  bool              // it is the destination's answers that drip
	conns map[net.Conn]bool // those to the destination on a faulty line: true
	over  chan struct{}
	pumps sync.WaitGroup
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	l := &line{t: t, to: to, conns: map[net.Conn]bool{}, over: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.addr = ln.Addr().String()
	l.serve(ln)
	t.Cleanup(func() {
		close(l.over)
		l.cut()
		l.pumps.Wait()
	})
	return l
}

// cut closes the listener and every connection.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ln != nil {
		l.ln.Close()
		l.ln = nil
	}
	for c := range l.conns {
		c.Close()
	}
}

// mend lets everything through, to where it is said. What is held up never arrives,
// and the destination hears the end of it; the forwarder finds that out by itself.
func (l *line) mend(to string) {
	l.mu.Lock()
	l.to, l.after, l.drip, l.back = to, 0, 0, false
	for c, faulty := range l.conns {
		if faulty {
			c.Close()
		}
	}
	again := l.ln == nil
	l.mu.Unlock()
	if !again {
		return
	}
	ln, err := net.Listen("tcp", l.addr)
	if err != nil {
		l.t.Errorf("listen again: %v", err)
		return
	}
	l.serve(ln)
}

func (l *line) serve(ln net.Listener) {
	l.mu.Lock()
	l.ln = ln
	l.mu.Unlock()
	l.pumps.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			l.connect(near)
		}
	})
}

func (l *line) connect(near net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	far, err := net.Dial("tcp", l.to)
	if err != nil || l.ln == nil {
		near.Close()
		return
	}
	if l.after > 0 { // else the system's buffers would swallow an object whole
		_ = near.(*net.TCPConn).SetReadBuffer(4096)
	}
	l.conns[near], l.conns[far] = false, l.after > 0
	after, drip, back := l.after, l.drip, l.back
	l.pumps.Go(func() { l.pump(far, near, after, drip, after > 0 && !back) })
	l.pumps.Go(func() { l.pump(near, far, after, drip, after > 0 && back) })
}

// pump passes bytes on until one side closes.
func (l *line) pump(to, from net.Conn, after int, drip time.Duration, faulty bool) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.conns[to] && !l.conns[from] {
			to.Close()
			from.Close()
		}
	}()
	buffer := make([]byte, 32<<10)
	for passed := 0; ; {
		most := len(buffer)
		if faulty && passed >= after {
			if drip == 0 {
				<-l.over
				return
			}
			select {
			case <-l.over:
				return
			case <-time.After(drip):
			}
			most = 1
		} else if faulty {
			most = min(most, after-passed)
		}
		n, err := from.Read(buffer[:most])
		if n > 0 {
			passed += n
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
