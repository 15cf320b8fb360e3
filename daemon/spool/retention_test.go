package spool

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// conclude makes an instance that nobody waits for any more, with the given
// outcome of its study; the alert of a positive one stays open.
func conclude(t *testing.T, s *Spool, c slice, o alerts.Outcome) Instance {
	t.Helper()
	i, _ := send(t, s, c)
	must(t, s.LegDone(t.Context(), legOf(t, s, i), 0, s.now()))
	must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified})) // where it is pending
	study, err := s.Study(t.Context(), c.study)
	must(t, err)
	if o == alerts.Positive {
		decide(t, s, positive(c.study, study.Revision, c.sop))
	} else {
		decide(t, s, final(c.study, study.Revision, o, "because"))
	}
	return i
}

func answer(t *testing.T, s *Spool, study dicom.UID) {
	t.Helper()
	records, err := s.Studies(t.Context(), Filter{Study: study})
	must(t, err)
	must(t, s.Acknowledge(t.Context(), alerts.Acknowledgement{AlertID: records[0].Alerts[0].AlertID, By: "on call", At: s.now()}))
}

func removedBy(t *testing.T, s *Spool, r Retention) int {
	t.Helper()
	done, err := s.Remove(t.Context(), s.now(), r)
	must(t, err)
	return done.Instances
}

// Each outcome has its own time, to the nanosecond.
func TestRetentionByOutcome(t *testing.T) {
	r := Retention{Positive: 4 * time.Hour, Negative: time.Hour, NotAnalysed: 2 * time.Hour, Failed: 3 * time.Hour, KeepUnacknowledged: true}
	for o, keep := range map[alerts.Outcome]time.Duration{
		alerts.Positive: r.Positive, alerts.Negative: r.Negative, alerts.NotAnalysed: r.NotAnalysed, alerts.Failed: r.Failed,
	} {
		t.Run(string(o), func(t *testing.T) {
			c := newClock()
			s := open(t, Options{Now: c.now})
			conclude(t, s, newSlice("1.2", 1), o)
			if o == alerts.Positive {
				answer(t, s, "1.2")
			}
			c.advance(keep - 1)
			if n := removedBy(t, s, r); n != 0 {
				t.Errorf("%d removed before the time", n)
			}
			c.advance(1)
			if n := removedBy(t, s, r); n != 1 {
				t.Errorf("%d removed at the time", n)
			}
		})
	}
}

// The time runs from whatever came last.
func TestRetentionRunsFromTheLast(t *testing.T) {
	const keep = time.Hour
	r := Retention{Positive: keep, Negative: keep, KeepUnacknowledged: true}
	for name, last := range map[string]func(t *testing.T, s *Spool, c *clock){
		"confirmation": func(t *testing.T, s *Spool, c *clock) {
			i, _ := send(t, s, newSlice("1.2", 1))
			must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified}))
			decide(t, s, final("1.2", 1, alerts.Negative, ""))
			c.advance(keep)
			must(t, s.LegDone(t.Context(), legOf(t, s, i), 0, c.now()))
		},
		"outcome": func(t *testing.T, s *Spool, c *clock) {
			i, _ := send(t, s, newSlice("1.2", 1))
			must(t, s.LegDone(t.Context(), legOf(t, s, i), 0, c.now()))
			must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified}))
			c.advance(keep)
			decide(t, s, final("1.2", 1, alerts.Negative, ""))
		},
		"acknowledgement": func(t *testing.T, s *Spool, c *clock) {
			conclude(t, s, newSlice("1.2", 1), alerts.Positive)
			c.advance(keep)
			answer(t, s, "1.2")
		},
		"withdrawal": func(t *testing.T, s *Spool, c *clock) {
			conclude(t, s, newSlice("1.2", 1), alerts.Positive)
			c.advance(keep)
			decide(t, s, final("1.2", 1, alerts.Negative, ""))
		},
		"sent again": func(t *testing.T, s *Spool, c *clock) {
			conclude(t, s, newSlice("1.2", 1), alerts.Negative)
			c.advance(keep)
			if n := removedBy(t, s, r); n != 1 {
				t.Fatalf("%d removed", n)
			}
			conclude(t, s, newSlice("1.2", 1), alerts.Negative)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			s := open(t, Options{Now: c.now})
			last(t, s, c)
			c.advance(keep - 1)
			if n := removedBy(t, s, r); n != 0 {
				t.Errorf("%d removed before the time", n)
			}
			c.advance(1)
			if n := removedBy(t, s, r); n != 1 {
				t.Errorf("%d removed at the time", n)
			}
		})
	}
}

func TestUnacknowledgedStudiesStayWhereTheyAreKept(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	conclude(t, s, newSlice("1.2", 1), alerts.Positive)
	c.advance(10000 * time.Hour)
	if n := removedBy(t, s, Retention{KeepUnacknowledged: true}); n != 0 {
		t.Errorf("%d removed without an answer", n)
	}
	if done, err := s.MakeRoom(t.Context(), c.now(), Retention{KeepUnacknowledged: true}, 1<<40); err != nil || done.Instances != 0 {
		t.Errorf("%+v removed without an answer for want of space, %v", done, err)
	}
	if n := removedBy(t, s, Retention{}); n != 1 {
		t.Errorf("%d removed where they need not be kept", n)
	}
}

// TestPromise2_MakeRoom: however much space is wanted, only what is confirmed
// goes; the oldest first, and no more than is wanted.
func TestPromise2_MakeRoom(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	unconfirmed, _ := send(t, s, newSlice("1.1", 1))
	var all []Instance
	for n := range byte(5) {
		all = append(all, conclude(t, s, newSlice("1.2", n), alerts.Negative))
	}
	length := all[0].offset + all[0].Size
	r := Retention{Negative: time.Hour}
	for _, step := range []struct {
		wanted int64
		goes   int
	}{{0, 0}, {1, 1}, {length + 1, 2}, {1 << 40, 2}, {1, 0}} {
		done, err := s.MakeRoom(t.Context(), c.now(), r, step.wanted)
		must(t, err)
		if done.Instances != step.goes || done.Bytes != int64(step.goes)*length {
			t.Errorf("%d bytes wanted: %+v removed, want %d instances", step.wanted, done, step.goes)
		}
		all = all[step.goes:]
		for _, i := range append(all, unconfirmed) {
			read(t, s, i.ID)
		}
	}
}

// The quota counts what is held, through removals and restarts.
func TestQuota(t *testing.T) {
	const quota = 100_000
	o := Options{Quota: quota}
	s := open(t, o)
	measure := func() Disk {
		t.Helper()
		d, err := s.Disk()
		must(t, err)
		if d.Total != quota {
			t.Errorf("disk %+v", d)
		}
		return d
	}
	if d := measure(); d.Free != quota || d.InUse() != 0 {
		t.Errorf("new: %+v", d)
	}
	i := conclude(t, s, newSlice("1.2", 1), alerts.Negative)
	length := uint64(i.offset + i.Size)
	send(t, s, newSlice("1.2", 1)) // once more: it is held once
	if d := measure(); d.Free != quota-length {
		t.Errorf("one instance of %d bytes: %+v", length, d)
	}
	for n := range byte(100) {
		send(t, s, newSlice("1.3", n))
	}
	if d := measure(); d.Free != 0 || d.InUse() != 1 {
		t.Errorf("beyond it: %+v", d)
	}
	s = reopen(t, s, o)
	if d := measure(); d.Free != 0 {
		t.Errorf("after a restart: %+v", d)
	}
	before := s.held.Load()
	if n := removedBy(t, s, Retention{}); n != 1 || uint64(before-s.held.Load()) != length {
		t.Errorf("%d removed, %d bytes", n, before-s.held.Load())
	}
	if d := (Disk{Total: 1000, Free: 10}).Within(500, 100); d != (Disk{500, 10}) {
		t.Errorf("a disk fuller than the quota: %+v", d)
	}
	if d := (Disk{Total: 1000, Free: 10}).Within(0, 100); d != (Disk{1000, 10}) {
		t.Errorf("no quota: %+v", d)
	}
}

// TestFitTellsOfAFailingDisk: the first failure is remembered, a full disk is
// none, and the disk is well again as soon as it takes something.
func TestFitTellsOfAFailingDisk(t *testing.T) {
	s, layer := openFaulty(t)
	fits := func(when string) {
		t.Helper()
		if err := s.Fit(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	fits("new")
	for n, operation := range []string{"create", "write", "sync", "rename", "syncdir"} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.EROFS} {
			layer.fail, layer.err = operation, errno
			if _, _, err := trySend(s, newSlice("1.2", byte(n))); !errors.Is(err, errno) {
				t.Fatalf("%s: sent with %v", operation, err)
			}
			if err := s.Fit(); !errors.Is(err, errno) {
				t.Errorf("%s failed with %v: %v", operation, errno, err)
			}
			layer.fail = ""
			must(t, s.Probe())
			fits(operation + " works again")
		}
		layer.fail, layer.err = operation, syscall.ENOSPC
		if _, _, err := trySend(s, newSlice("1.2", byte(n))); !errors.Is(err, ErrFull) {
			t.Fatalf("%s: sent with %v", operation, err)
		}
		must(t, s.Probe())
		fits("full")
		layer.fail = ""
	}
	for _, operation := range []string{"create", "write", "sync"} {
		layer.fail, layer.err = operation, syscall.EIO
		if err := s.Probe(); !errors.Is(err, syscall.EIO) || s.Fit() == nil {
			t.Errorf("%s fails: probed %v, fit %v", operation, err, s.Fit())
		}
		layer.fail = ""
		must(t, s.Probe())
		fits(operation + " works again")
	}
}
