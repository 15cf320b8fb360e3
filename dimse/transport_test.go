package dimse

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// PS3.8 section 9.1.4: ARTIM is a point in time. Bytes that come without a pause
// do not put it off, and neither does the time that we take over them.
func TestARTIMHoldsAgainstAFloodOfBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		defer ours.Close()
		go func() {
			for err := error(nil); err == nil; {
				_, err = theirs.Write(make([]byte, 1024))
			}
		}()
		c := &transport{conn: ours, stall: time.Minute, writeTimeout: time.Minute}
		begun := time.Now()
		c.leave(30 * time.Second)
		for b := make([]byte, 64); ; time.Sleep(time.Second) { // a busy machine
			if _, err := c.Read(b); err != nil {
				if !errors.Is(err, ErrTimeout) {
					t.Errorf("Read: %v", err)
				}
				break
			}
		}
		if d := time.Since(begun); d != 30*time.Second {
			t.Errorf("the peer had %v, want 30s", d)
		}
		if _, err := c.Write([]byte{7}); !errors.Is(err, ErrTimeout) {
			t.Errorf("Write after it: %v", err)
		}
	})
}

// The same over TCP, where the kernel has always more to give.
func TestARTIMHoldsAgainstAFloodOfBytesOverTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		flood, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return
		}
		defer flood.Close()
		for err == nil {
			_, err = flood.Write(make([]byte, 1<<20))
		}
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := &transport{conn: conn}
	begun := time.Now()
	c.leave(100 * time.Millisecond)
	n, err := io.Copy(io.Discard, c)
	if d := time.Since(begun); !errors.Is(err, ErrTimeout) || d < 100*time.Millisecond || d > 5*time.Second {
		t.Errorf("ended after %v and %d bytes with %v", d, n, err)
	}
	conn.Close()
	<-done
}

// What comes after our last word is thrown away, and not paced: ARTIM ends it.
func TestNothingIsPacedWhenWeTakeLeave(t *testing.T) {
	for name, end := range map[string]func(*transport){
		"leave":     func(c *transport) { c.leave(time.Minute) },
		"lastWords": func(c *transport) { c.lastWords(time.Minute) },
	} {
		ours, theirs := net.Pipe()
		go func() { _, _ = theirs.Write([]byte{1, 2}) }()
		paced := 0
		c := &transport{conn: ours, pace: func(n int) { paced += n }}
		c.timer(time.Minute)
		for range 2 {
			if _, err := c.Read(make([]byte, 1)); err != nil || paced != 1 {
				t.Errorf("%s: Read: %v, with %d bytes paced, want 1", name, err, paced)
			}
			end(c)
		}
		ours.Close()
		theirs.Close()
	}
}
