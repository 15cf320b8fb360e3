package session

import (
	"fmt"
	"testing"
	"time"

	"ichwatch/daemon/console/users"
)

// clock is set by the test.
type clock struct{ time.Time }

func (c *clock) now() time.Time          { return c.Time }
func (c *clock) advance(d time.Duration) { c.Time = c.Add(d) }

func same(users.User) bool { return true }

func TestSessionsEnd(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	s := &Store{Idle: 30 * time.Minute, Max: 12 * time.Hour, Now: c.now}
	anna := users.User{Name: "anna", Role: users.Reader}
	there := func(token string, person bool) bool {
		_, ok := s.Find(token, person, same)
		return ok
	}

	token, opened := s.Begin(anna, "192.0.2.1")
	if opened.ID == "" || !there(token, true) || there(token+"x", true) || there("", true) {
		t.Fatal("the token alone must lead to the session")
	}
	c.advance(29 * time.Minute)
	if !there(token, false) {
		t.Fatal("ended early")
	}
	c.advance(time.Minute)
	if there(token, false) {
		t.Error("what a page does by itself kept a session alive")
	}

	token, _ = s.Begin(anna, "")
	for range 24 {
		c.advance(29 * time.Minute)
		if !there(token, true) {
			t.Fatal("ended although it was used")
		}
	}
	c.advance(25 * time.Minute) // 12 h and a minute
	if there(token, true) {
		t.Error("no end at all")
	}

	token, _ = s.Begin(anna, "")
	if _, ok := s.Find(token, true, func(users.User) bool { return false }); ok || there(token, true) {
		t.Error("a user who is another now stays logged in")
	}
	token, _ = s.Begin(anna, "")
	s.End(token)
	if there(token, true) {
		t.Error("logged out, and still there")
	}

	wall, _ := s.Begin(users.User{Name: "wall", Role: users.Display}, "")
	c.advance(80 * 24 * time.Hour)
	if !there(wall, false) {
		t.Error("the screen on the wall was logged out")
	}
	c.advance(10 * 24 * time.Hour)
	if there(wall, false) {
		t.Error("the screen on the wall never is")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	s := &Store{Idle: time.Hour, Max: time.Hour, Now: c.now}
	first, _ := s.Begin(users.User{Name: "anna"}, "")
	for range maxOfUser {
		c.advance(time.Second)
		s.Begin(users.User{Name: "anna"}, "")
	}
	if _, ok := s.Find(first, true, same); ok || len(s.open) != maxOfUser {
		t.Errorf("%d sessions of one user", len(s.open))
	}
	for i := range maxOpen + 10 {
		s.Begin(users.User{Name: fmt.Sprint(i)}, "")
	}
	if len(s.open) > maxOpen {
		t.Errorf("%d sessions", len(s.open))
	}
}

func TestThrottle(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	th := &Throttle{Now: c.now}
	tries := func(name, address, mark string) (n int) {
		for th.Wait(name, address, mark) == 0 {
			if n++; n > 1000 {
				t.Fatal("without end")
			}
		}
		return n
	}
	mark := th.Mark("anna")
	if n := tries("anna", "192.0.2.1", ""); n != ofPair.burst {
		t.Errorf("%d tries of one name from one address", n)
	}
	if wait := th.Wait("anna", "192.0.2.1", ""); wait <= 0 || wait > ofPair.every {
		t.Errorf("waits %v: nobody is locked out for longer than %v", wait, ofPair.every)
	}
	for i := range 100 { // an attack from everywhere on her name
		tries("anna", fmt.Sprintf("198.51.100.%d", i), "")
	}
	if wait := th.Wait("anna", "192.0.2.77", ""); wait <= 0 || wait > ofName.every {
		t.Errorf("an unknown device waits %v under attack", wait)
	}
	if wait := th.Wait("anna", "192.0.2.77", mark); wait != 0 {
		t.Errorf("her own phone waits %v under attack", wait)
	}
	if wait := th.Wait("ben", "192.0.2.77", mark); wait != 0 {
		t.Errorf("another name waits %v", wait)
	}
	for _, forged := range []string{"x", mark + "x", th.Mark("ben"), mark[:30]} {
		if th.Wait("anna", "192.0.2.77", forged) == 0 {
			t.Errorf("a forged mark %q lets in", forged)
		}
	}
	if n := tries("anna", "", mark); n != ofDevice.burst-1 {
		t.Errorf("%d more tries of a known device", n)
	}
	if n := tries("carl", "203.0.113.9", "") + tries("dora", "203.0.113.9", "") + tries("emil", "203.0.113.9", "") + tries("fred", "203.0.113.9", "") + tries("gina", "203.0.113.9", ""); n != ofAddress.burst {
		t.Errorf("%d tries of one address", n)
	}
	c.advance(time.Minute)
	if th.Wait("anna", "192.0.2.1", "") != 0 {
		t.Error("locked out after a minute of peace")
	}
	for i := range maxBuckets {
		th.Wait(fmt.Sprint(i), fmt.Sprint(i), "")
	}
	if len(th.buckets) > maxBuckets+3 {
		t.Errorf("%d buckets", len(th.buckets))
	}
}
