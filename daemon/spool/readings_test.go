package spool

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ichwatch/alerts"
)

// Two people judge one alert: neither overwrites the other unseen, a second tap
// does no harm, and what was said survives the ledger.
func TestReadings(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	id := decide(t, s, early("1.2", "1.2.1.1")).AlertID
	waiting, err := s.WaitingStudies(t.Context())
	must(t, err)
	if diff := cmp.Diff("1.2", string(waiting[0])); diff != "" || len(waiting) != 1 {
		t.Errorf("waiting: %v", waiting)
	}

	at := time.Now().UTC()
	read := func(by string, v alerts.Verdict, seen int) (alerts.Reading, error) {
		return s.Read(t.Context(), alerts.Reading{AlertID: id, Verdict: v, By: by, At: at, Via: "page"}, seen)
	}
	changed := s.Changes()
	for range 2 { // a tap, and another
		if r, err := read("anna", alerts.Confirmed, 0); err != nil || r.Number != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the change")
	}
	if open, err := s.OpenAlerts(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("a verdict is no answer: %v, %v", open, err)
	}
	var overruled *alerts.OverruledError
	if _, err := read("ben", alerts.FalseAlarm, 0); !errors.As(err, &overruled) || overruled.Standing.By != "anna" || overruled.Standing.Number != 1 {
		t.Errorf("ben had not seen it: %v", err)
	}
	if r, err := read("ben", alerts.FalseAlarm, 1); err != nil || r.Number != 2 {
		t.Errorf("ben has seen it: %+v, %v", r, err)
	}
	if _, err := read("anna", alerts.Confirmed, 1); !errors.Is(err, alerts.ErrOverruled) {
		t.Errorf("anna's old tap came late: %v", err)
	}
	before, err := s.Readings(t.Context(), "1.2")
	if err != nil || len(before) != 2 || before[1].Verdict != alerts.FalseAlarm {
		t.Fatalf("%+v, %v", before, err)
	}

	s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
	after, err := s.Readings(t.Context(), "1.2")
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("after a lost ledger: %s, %v", diff, err)
	}

	unknown := alerts.Reading{AlertID: "a-none", Verdict: alerts.Unsure, By: "anna", At: at}
	if _, err := s.Read(t.Context(), unknown, 0); !errors.Is(err, alerts.ErrUnknownAlert) {
		t.Errorf("an unknown alert: %v", err)
	}
	if _, err := s.AlertStudy(t.Context(), "a-none"); !errors.Is(err, alerts.ErrUnknownAlert) {
		t.Errorf("the study of an unknown alert: %v", err)
	}
	study, err := s.Study(t.Context(), "1.2")
	must(t, err)
	decide(t, s, final("1.2", study.Revision, alerts.Negative, ""))
	if _, err := s.Read(t.Context(), alerts.Reading{AlertID: id, Verdict: alerts.Unsure, By: "carl", At: at}, 2); !errors.Is(err, alerts.ErrRetracted) {
		t.Errorf("a withdrawn alert: %v", err)
	}
}
