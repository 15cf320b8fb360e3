package spool

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// TestPromise5_AlertSurvivesALostLedger: whoever has seen the alert knows it
// again, by its id, and takes what is said next for newer, by its number. Nobody
// is asked twice, and nothing is said twice that the broker has.
func TestPromise5_AlertSurvivesALostLedger(t *testing.T) {
	lose := func(t *testing.T, s *Spool) *Spool {
		t.Helper()
		s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
		if r := s.Recovery(); !r.LedgerRebuilt || r.Recalled != 1 || r.Adopted == 0 {
			t.Errorf("recovery %+v", r)
		}
		return s
	}
	begin := func(t *testing.T) (*Spool, string) {
		t.Helper()
		s := open(t, Options{})
		send(t, s, newSlice("1.2", 1))
		return s, decide(t, s, early("1.2", "1.2.1.1")).AlertID
	}
	said := func(t *testing.T, s *Spool, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, publish(t, s)); diff != "" {
			t.Errorf("said otherwise: %s", diff)
		}
	}
	t.Run("not delivered", func(t *testing.T) {
		s, _ := begin(t)
		s = lose(t, s)
		said(t, s, "alert new 1")
		s = lose(t, s)
		said(t, s)
	})
	t.Run("delivered", func(t *testing.T) {
		s, id := begin(t)
		said(t, s, "alert new 1")
		before, err := s.OpenAlerts(t.Context())
		must(t, err)
		s = lose(t, s)
		after, err := s.OpenAlerts(t.Context())
		if diff := cmp.Diff(before, after); diff != "" || err != nil || len(after) != 1 {
			t.Errorf("its clock is another: %s, %v", diff, err)
		}
		if v := decide(t, s, early("1.2", "1.2.1.1")); v.AlertID != id || v.Type != "" || v.Seq != 1 {
			t.Errorf("the same again: %+v", v)
		}
		said(t, s)
		must(t, s.Escalate(t.Context(), id, 1, time.Now()))
		said(t, s, "alert escalate 2")
		s = lose(t, s)
		if v := decide(t, s, early("1.2", "1.2.1.2")); v.AlertID != id || v.Type != alerts.TypeUpdate || v.Seq != 3 {
			t.Errorf("another key image: %+v", v)
		}
		if open, err := s.OpenAlerts(t.Context()); err != nil || len(open) != 1 || open[0].Level != 1 {
			t.Errorf("open: %+v, %v", open, err)
		}
	})
	t.Run("answered", func(t *testing.T) {
		s, id := begin(t)
		said(t, s, "alert new 1")
		answer := alerts.Acknowledgement{AlertID: id, By: "on call", At: time.Now().UTC(), Via: "page", Comment: "coming"}
		must(t, s.Acknowledge(t.Context(), answer))
		s = lose(t, s)
		if open, err := s.OpenAlerts(t.Context()); err != nil || len(open) > 0 {
			t.Errorf("asked again: %+v, %v", open, err)
		}
		records, err := s.Studies(t.Context(), Filter{})
		must(t, err)
		if a := records[0].Alerts; len(a) != 1 || a[0].Acknowledgement != answer || a[0].State != alerts.StateAcknowledged {
			t.Errorf("alerts %+v", a)
		}
	})
	t.Run("withdrawn and raised again", func(t *testing.T) {
		s, first := begin(t)
		decide(t, s, final("1.2", 1, alerts.Negative, ""))
		v := decide(t, s, early("1.2", "1.2.1.1"))
		said(t, s, "alert new 1", "alert retract 2", "outcome NEGATIVE 1", "alert new 1")
		s = lose(t, s)
		if v.AlertID == first {
			t.Fatal("a new alert under the old id")
		}
		if again := decide(t, s, early("1.2", "1.2.1.1")); again.AlertID != v.AlertID || again.Type != "" {
			t.Errorf("%+v, want %+v", again, v)
		}
		decide(t, s, final("1.2", 1, alerts.Negative, ""))
		if third := decide(t, s, early("1.2", "1.2.1.1")); third.AlertID == first || third.AlertID == v.AlertID {
			t.Errorf("a third alert under an old id: %+v", third)
		}
	})
	t.Run("outcome", func(t *testing.T) {
		s, _ := begin(t)
		decide(t, s, positive("1.2", 1, "1.2.1.1"))
		said(t, s, "alert new 1", "outcome POSITIVE 1")
		s = lose(t, s)
		study, err := s.Study(t.Context(), "1.2")
		must(t, err)
		if v := decide(t, s, positive("1.2", study.Revision, "1.2.1.1")); !v.Closed {
			t.Errorf("%+v", v)
		}
		said(t, s)
		for _, kind := range kinds(t, s) {
			if kind == EventLateInstance {
				t.Error("what was there all along counts as late")
			}
		}
		i, _ := send(t, s, newSlice("1.2", 2))
		must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified}))
		decide(t, s, final("1.2", study.Revision+1, alerts.Failed, "no model"))
		said(t, s, "outcome FAILED 2")
	})
}

// A study of which files were removed before the ledger was lost keeps what was
// said of it: a torso is no ground to withdraw an alert.
func TestPromise5_ATorsoTakesNoSuspicionBack(t *testing.T) {
	s := open(t, Options{})
	gone, _ := send(t, s, newSlice("1.2", 1))
	send(t, s, newSlice("1.2", 2))
	decide(t, s, positive("1.2", 2, "1.2.1.2"))
	publish(t, s)
	s = damage(t, s, func(dir string) {
		must(t, os.Remove(pathOf(t, s, gone))) // as after its time
		ruinLedger(t, dir)
	})
	pending, err := s.PendingSlices(t.Context(), 10)
	must(t, err)
	for _, i := range pending {
		must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified}))
	}
	if quiet, err := s.QuietStudies(t.Context(), time.Now().Add(time.Hour)); err != nil || len(quiet) > 0 || len(pending) != 1 {
		t.Errorf("to be decided anew: %+v, %v", quiet, err)
	}
	if study, err := s.Study(t.Context(), "1.2"); err != nil || study.Outcome != alerts.Positive || study.AlertID == "" {
		t.Errorf("study %+v, %v", study, err)
	}
}

// The journal may end in the middle of a line, or hold what is no line.
func TestJournalOfATornDisk(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	id := decide(t, s, early("1.2", "1.2.1.1")).AlertID
	for _, torn := range []string{`{"study_instance_uid": "1.2", "alerts": [{"ale`, "\x00\x00\x00", `{"study_instance_uid": "DOE^JANE"}`} {
		must(t, s.Close())
		f, err := os.OpenFile(filepath.Join(s.dir, journalName), os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(torn)
		must(t, err)
		must(t, f.Close())
		s = open(t, Options{Dir: s.dir})
		publish(t, s)
		must(t, s.Escalate(t.Context(), id, 1, time.Now()))
	}
	s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
	if v := decide(t, s, early("1.2", "1.2.1.1")); v.AlertID != id || v.Seq != 4 || v.Type != "" {
		t.Errorf("%+v", v)
	}
}

// Of a journal whose lines say what cannot be, the rest is taken over, and the daemon starts.
func TestJournalThatSaysWhatCannotBe(t *testing.T) {
	s := open(t, Options{})
	for _, study := range []dicom.UID{"1.2", "1.3", "1.4", "1.5"} {
		send(t, s, newSlice(study, 1))
		decide(t, s, positive(study, 1, study+".1.2"))
	}
	s = damage(t, s, func(dir string) {
		path := filepath.Join(dir, journalName)
		content, err := os.ReadFile(path)
		must(t, err)
		for study, change := range map[string][2]string{
			"1.2": {`"state":"new"`, `"state":"odd"`},
			"1.3": {`"outcome":"POSITIVE"`, `"outcome":"MAYBE"`},
			"1.4": {alerts.SchemaAlert, "other"},
		} {
			at := bytes.Index(content, []byte(`{"study_instance_uid":"`+study+`"`))
			content = append(content[:at:at], bytes.Replace(content[at:], []byte(change[0]), []byte(change[1]), 1)...)
		}
		must(t, os.WriteFile(path, content, 0o600))
		ruinLedger(t, dir)
	})
	if r := s.Recovery(); r.Recalled != 1 || r.Adopted != 4 {
		t.Errorf("recovery %+v", r)
	}
	if study, err := s.Study(t.Context(), "1.5"); err != nil || study.Outcome != alerts.Positive {
		t.Errorf("study %+v, %v", study, err)
	}
	if v := decide(t, s, early("1.2", "1.2.1.2")); v.Type != alerts.TypeNew {
		t.Errorf("%+v", v)
	}
}

// A journal that is missing is written from the ledger; a start that was cut
// short while it did so does it again.
func TestJournalIsBegunFromTheLedger(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	send(t, s, newSlice("1.3", 1))
	id := decide(t, s, early("1.2", "1.2.1.1")).AlertID
	decide(t, s, final("1.3", 1, alerts.Negative, ""))
	s = damage(t, s, func(dir string) {
		must(t, os.Remove(filepath.Join(dir, journalName)))
		must(t, os.WriteFile(filepath.Join(dir, journalBegun), []byte("half a li"), 0o600))
	})
	content, err := os.ReadFile(filepath.Join(s.dir, journalName))
	must(t, err)
	if lines := bytes.Split(bytes.TrimSpace(content), []byte("\n")); len(lines) != 2 || !json.Valid(lines[0]) || !json.Valid(lines[1]) {
		t.Errorf("the journal:\n%s", content)
	}
	s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
	if r := s.Recovery(); r.Recalled != 2 {
		t.Errorf("recovery %+v", r)
	}
	if study, err := s.Study(t.Context(), "1.2"); err != nil || study.AlertID != id {
		t.Errorf("study %+v, %v", study, err)
	}
	if study, err := s.Study(t.Context(), "1.3"); err != nil || study.Outcome != alerts.Negative {
		t.Errorf("study %+v, %v", study, err)
	}
}

// A line that could not be written whole does not spoil the next one.
func TestJournalOnAFullDisk(t *testing.T) {
	s := open(t, Options{})
	full := &halfWriting{file: s.journal.file, left: 10}
	s.journal.file = full
	send(t, s, newSlice("1.2", 1))
	if v, err := s.Decide(t.Context(), early("1.2", "1.2.1.1")); err == nil {
		t.Fatalf("decided without the journal: %+v", v)
	}
	full.left = -1
	id := decide(t, s, early("1.2", "1.2.1.1")).AlertID
	s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
	if study, err := s.Study(t.Context(), "1.2"); err != nil || study.AlertID != id {
		t.Errorf("study %+v, %v", study, err)
	}
}

// halfWriting is a file on a disk that gets full.
type halfWriting struct {
	file
	left int // bytes; less than 0: any number
}

func (f *halfWriting) Write(p []byte) (int, error) {
	if f.left < 0 || len(p) <= f.left {
		return f.file.Write(p)
	}
	n, err := f.file.Write(p[:f.left])
	if err == nil {
		err = os.ErrClosed
	}
	return n, err
}
