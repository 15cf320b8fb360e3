package spool

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// TestPromise2_NothingUnconfirmedIsDeleted lets a removal at every combination
// of the conditions: only all of them together let a file go.
func TestPromise2_NothingUnconfirmedIsDeleted(t *testing.T) {
	const retention = time.Hour
	conditions := []string{"first leg done", "second leg done", "finding made", "study decided", "retention over", "alert answered"}
	const over = 1 << 4
	c := newClock()
	s := open(t, Options{Destinations: []string{"archive", "pacs"}, Now: c.now})
	ctx := t.Context()

	prepare := func(met int) {
		is := func(n int) bool { return met&(1<<n) != 0 }
		study := dicom.UID(fmt.Sprintf("1.2.%d", met))
		i, _ := send(t, s, newSlice(study, 1))
		for n, destination := range []string{"archive", "pacs"} {
			legs, err := s.DueLegs(ctx, destination, c.now(), 100)
			must(t, err)
			leg := legs[slices.IndexFunc(legs, func(l Leg) bool { return l.Instance.ID == i.ID })]
			switch {
			case is(n):
				must(t, s.LegDone(ctx, leg.ID, 0, c.now()))
			case met%3 == 0: // parked is no better than pending
				must(t, s.LegParked(ctx, leg.ID, 0xA900, "no"))
			}
		}
		if is(2) {
			must(t, s.RecordFinding(ctx, Finding{InstanceID: i.ID, State: FindingIneligible, Reason: "scout"}))
		}
		id := decide(t, s, early(study, study+".1.2")).AlertID
		if is(3) {
			decide(t, s, positive(study, 1, study+".1.2"))
		}
		if is(5) {
			must(t, s.Acknowledge(ctx, alerts.Acknowledgement{AlertID: id, By: "on call", At: c.now()}))
		}
	}
	all := 1<<len(conditions) - 1
	for met := range all + 1 {
		if met&over != 0 {
			prepare(met)
		}
	}
	c.advance(retention)
	for met := range all + 1 {
		if met&over == 0 {
			prepare(met)
		}
	}
	done, err := s.Remove(ctx, c.now(), Retention{Positive: retention, KeepUnacknowledged: true})
	must(t, err)
	if done.Instances != 1 || instanceFiles(t, s) != all {
		t.Errorf("%+v was removed, want one instance", done)
	}
	records, err := s.Studies(ctx, Filter{})
	must(t, err)
	for _, r := range records {
		if everything := r.StudyInstanceUID == dicom.UID(fmt.Sprintf("1.2.%d", all)); (r.Removed == 1) != everything {
			t.Errorf("study %s (bits: which of %q were met): %d removed", r.StudyInstanceUID, conditions, r.Removed)
		}
	}
}

func TestPromise2_WithoutDestinationNothingIsDeleted(t *testing.T) {
	s := open(t, Options{Destinations: []string{}})
	i, _ := send(t, s, newSlice("1.2", 1))
	must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified}))
	decide(t, s, final("1.2", 1, alerts.Negative, ""))
	if n, err := s.Remove(t.Context(), time.Now().Add(time.Hour), Retention{}); err != nil || n.Instances != 0 {
		t.Errorf("removed %+v, %v", n, err)
	}
}

func TestRemovedAndSentAgain(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	c := newSlice("1.2", 1)
	i, _ := send(t, s, c)
	must(t, s.LegDone(ctx, legOf(t, s, i), 0, time.Now()))
	must(t, s.RecordFinding(ctx, Finding{InstanceID: i.ID, State: FindingClassified}))
	decide(t, s, final("1.2", 1, alerts.Negative, ""))
	if n, err := s.Remove(ctx, time.Now().Add(time.Hour), Retention{}); err != nil || n.Instances != 1 {
		t.Fatalf("removed %+v, %v", n, err)
	}
	if _, err := s.OpenDataSet(ctx, i.ID); !errors.Is(err, ErrMissing) {
		t.Errorf("OpenDataSet: %v, want ErrMissing", err)
	}
	records, err := s.Studies(ctx, Filter{})
	must(t, err)
	if r := records[0]; r.Removed != 1 || !r.Balances() {
		t.Errorf("record %+v", r)
	}

	again, d := send(t, s, c)
	if d != DuplicateNo || again.ID != i.ID || !bytes.Equal(read(t, s, again.ID), c.dataSet()) {
		t.Errorf("sent again: %v, %+v", d, again)
	}
	legOf(t, s, again) // it is to be forwarded once more
	if pending, err := s.PendingSlices(ctx, 10); err != nil || len(pending) != 0 {
		t.Errorf("analysed twice: %+v, %v", pending, err)
	}
}
