package mqtt

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// gate passes MQTT connections on to a broker, or does what networks and
// brokers do when they fail.
type gate struct {
	ln      net.Listener
	backend string
	opaque  bool // what passes is not to be read: TLS

	mu      sync.Mutex
	mode    gateMode
	passing map[*passage]bool
}

type gateMode int

const (
	gateOpen    gateMode = iota
	gateClosed           // hangs up at once
	gateSilent           // takes connections and answers nothing
	gateSwallow          // keeps the broker's PUBACKs
)

// passage is one connection through the gate.
type passage struct {
	front, back net.Conn      // back is nil where nothing passes
	frozen      atomic.Bool   // no byte passes any more, and nobody is told of an end
	over        chan struct{} // closed with the connections
	once        sync.Once
}

func (p *passage) close() {
	p.once.Do(func() {
		close(p.over)
		_ = p.front.Close()
		if p.back != nil {
			_ = p.back.Close()
		}
	})
}

func newGate(t *testing.T, backend string) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{ln: ln, backend: backend, passing: map[*passage]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { g.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		g.turn(gateClosed)
		serving.Wait()
	})
	return g
}

func (g *gate) addr() string { return g.ln.Addr().String() }

// set opens or closes the gate.
func (g *gate) set(open bool) {
	if open {
		g.turn(gateOpen)
	} else {
		g.turn(gateClosed)
	}
}

// turn changes what happens to connections from now on. What passes is broken,
// but for the swallowing, which begins and ends in mid-stream.
func (g *gate) turn(mode gateMode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if mode == gateClosed || mode == gateSilent || g.mode == gateSilent {
		for p := range g.passing {
			p.close()
		}
	}
	g.mode = mode
}

// freeze stops what passes now, without a word to either side. New connections pass.
func (g *gate) freeze() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.passing {
		p.frozen.Store(true)
	}
}

func (g *gate) now() gateMode {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mode
}

// enter dials the broker for a connection; nil: the gate is closed, or the broker away.
func (g *gate) enter(front net.Conn) *passage {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mode == gateClosed {
		return nil
	}
	p := &passage{front: front, over: make(chan struct{})}
	if g.mode != gateSilent {
		back, err := net.Dial("tcp", g.backend)
		if err != nil {
			return nil
		}
		p.back = back
	}
	g.passing[p] = true
	return p
}

func (g *gate) pass(front net.Conn) {
	p := g.enter(front)
	if p == nil {
		_ = front.Close()
		return
	}
	defer p.close()
	if p.back == nil {
		<-p.over
		return
	}
	var both sync.WaitGroup
	both.Go(func() { g.copy(p, p.back, p.front, false) })
	both.Go(func() { g.copy(p, p.front, p.back, true) })
	both.Wait()
}

// copy hands packets on, as far as the mode of the moment lets it.
func (g *gate) copy(p *passage, to, from net.Conn, answers bool) {
	defer p.close()
	if g.opaque {
		_, _ = io.Copy(to, from) // it ends when one side does
		return
	}
	for {
		packet, err := packets.ReadPacket(from)
		if p.frozen.Load() {
			<-p.over
			return
		}
		if err != nil {
			return
		}
		if _, ack := packet.(*packets.PubackPacket); ack && answers && g.now() == gateSwallow {
			continue
		}
		if packet.Write(to) != nil {
			return
		}
	}
}
