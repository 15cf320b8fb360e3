package spool

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// onlyPositives sends everything to the PACS and positive studies to the ward too.
func onlyPositives(Traits) []Way {
	return []Way{{Destination: "pacs"}, {Destination: "ward", Outcomes: []alerts.Outcome{alerts.Positive}}}
}

func due(t *testing.T, s *Spool, destination string) (uids []dicom.UID) {
	t.Helper()
	legs, err := s.DueLegs(t.Context(), destination, time.Now(), 1000)
	must(t, err)
	for _, l := range legs {
		uids = append(uids, l.Instance.SOPInstanceUID)
	}
	return uids
}

func study(t *testing.T, s *Spool, uid dicom.UID) StudyRecord {
	t.Helper()
	records, err := s.Studies(t.Context(), Filter{Study: uid})
	must(t, err)
	if len(records) != 1 {
		t.Fatalf("%d records of study %s", len(records), uid)
	}
	return records[0]
}

func wantDue(t *testing.T, s *Spool, destination string, want ...dicom.UID) {
	t.Helper()
	if got := due(t, s, destination); !slices.Equal(got, want) {
		t.Errorf("due to %s: %v, want %v", destination, got, want)
	}
}

// The leg that a positive outcome asks for is made with the decision, once, however often that is repeated, for what came
// later too, and by a study that becomes positive after all.
func TestOutcomeLegsAreMadeAtTheDecision(t *testing.T) {
	s := open(t, Options{Destinations: []string{"pacs", "ward"}, Route: onlyPositives})
	send(t, s, newSlice("1.1", 1))
	send(t, s, newSlice("1.2", 1))
	wantDue(t, s, "pacs", "1.1.1.2", "1.2.1.2")
	wantDue(t, s, "ward")
	r := study(t, s, "1.1")
	if r.Legs[1].Destination != "ward" || r.Legs[1].Undecided != 1 || r.Unrouted != 0 {
		t.Errorf("before the decision: %+v, unrouted %d", r.Legs, r.Unrouted)
	}

	<-s.LegsAdded("ward") // of the commits
	decide(t, s, positive("1.1", 1, "1.1.1.2"))
	decide(t, s, positive("1.1", 1, "1.1.1.2"))
	decide(t, s, final("1.2", 1, alerts.Negative, ""))
	wantDue(t, s, "ward", "1.1.1.2")
	select {
	case <-s.LegsAdded("ward"):
	default:
		t.Error("who forwards to the ward was not woken")
	}

	send(t, s, newSlice("1.1", 2))
	wantDue(t, s, "ward", "1.1.1.2") // not before it was weighed
	decide(t, s, positive("1.1", 2, "1.1.1.2"))
	wantDue(t, s, "ward", "1.1.1.2", "1.1.1.3")

	send(t, s, newSlice("1.2", 2))
	decide(t, s, positive("1.2", 2, "1.2.1.3"))
	wantDue(t, s, "ward", "1.1.1.2", "1.2.1.2", "1.1.1.3", "1.2.1.3") // the oldest first
	for _, uid := range []dicom.UID{"1.1", "1.2"} {
		if r := study(t, s, uid); r.Legs[1].Pending != 2 || r.Legs[1].Undecided != 0 || r.Unrouted != 0 {
			t.Errorf("%s in the end: %+v, unrouted %d", uid, r.Legs, r.Unrouted)
		}
	}
}

// An alert at the deciding slice is no outcome yet: it may be withdrawn.
func TestOutcomeLegsWaitForTheFinalDecision(t *testing.T) {
	s := open(t, Options{Destinations: []string{"pacs", "ward"}, Route: onlyPositives})
	send(t, s, newSlice("1.1", 1))
	decide(t, s, early("1.1", "1.1.1.2"))
	wantDue(t, s, "ward")
}

// TestPromise2_UndecidedIsNotRemoved: what may still have to go somewhere stays, and so does what goes nowhere.
func TestPromise2_UndecidedIsNotRemoved(t *testing.T) {
	s := open(t, Options{Destinations: []string{"pacs", "ward"}, Route: onlyPositives})
	i, _ := send(t, s, newSlice("1.1", 1))
	must(t, s.LegDone(t.Context(), legOf(t, s, i), 0, time.Now()))
	must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified}))
	remove := func() int {
		t.Helper()
		removed, err := s.Remove(t.Context(), time.Now().Add(time.Hour), Retention{})
		must(t, err)
		return removed.Instances
	}
	if n := remove(); n != 0 {
		t.Fatal("removed before the decision")
	}
	decide(t, s, positive("1.1", 1, "1.1.1.2"))
	if n := remove(); n != 0 {
		t.Fatal("removed though the ward has not got it")
	}
	legs, err := s.DueLegs(t.Context(), "ward", time.Now(), 1)
	must(t, err)
	must(t, s.LegDone(t.Context(), legs[0].ID, 0, time.Now()))
	if n := remove(); n != 1 {
		t.Errorf("removed %d, want 1", n)
	}
}

// What meets no rule is kept and said once for a study; the next start with better rules sends it.
func TestPromise2_NoRuleIsSaidAndKept(t *testing.T) {
	var log bytes.Buffer
	o := Options{Dir: t.TempDir(), Destinations: []string{"pacs", "ward"}, Log: slog.New(slog.NewTextHandler(&log, nil))}
	o.Route = func(Traits) []Way { return nil }
	s := open(t, o)
	said := func(want int) {
		t.Helper()
		if n := strings.Count(log.String(), "meet no rule"); n != want {
			t.Errorf("said %d times, want %d:\n%s", n, want, &log)
		}
	}
	for n := range byte(3) {
		i, _ := send(t, s, newSlice("1.1", n))
		must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified}))
	}
	said(1)
	decide(t, s, final("1.1", 3, alerts.Negative, ""))
	if removed, err := s.Remove(t.Context(), time.Now().Add(time.Hour), Retention{}); removed.Instances != 0 || err != nil {
		t.Errorf("removed %+v, %v", removed, err)
	}
	if r := study(t, s, "1.1"); r.Unrouted != 3 {
		t.Errorf("%d unrouted, want 3", r.Unrouted)
	}

	o.Route = func(Traits) []Way { return []Way{{Destination: "ward", Outcomes: []alerts.Outcome{alerts.Positive}}} }
	s = reopen(t, s, o)
	if r := study(t, s, "1.1"); r.Unrouted != 3 {
		t.Errorf("%d unrouted by a rule that is not met, want 3", r.Unrouted)
	}
	said(1)

	o.Route = func(Traits) []Way { return []Way{{Destination: "ward", Outcomes: []alerts.Outcome{alerts.Negative}}} }
	s = reopen(t, s, o)
	wantDue(t, s, "ward", "1.1.1.1", "1.1.1.2", "1.1.1.3")
	if r := study(t, s, "1.1"); r.Unrouted != 0 {
		t.Errorf("%d unrouted, want none", r.Unrouted)
	}
	events, err := s.Events(t.Context(), time.Time{}, 100)
	must(t, err)
	if n := len(slices.DeleteFunc(events, func(e Event) bool { return e.Kind != EventUnrouted })); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// What routing asks of a file survives the ledger: a rebuilt one sends everything the same way.
func TestRoutingSurvivesTheLedger(t *testing.T) {
	var asked []Traits
	o := Options{Dir: t.TempDir(), Destinations: []string{"pacs"}, Route: func(t Traits) []Way {
		asked = append(asked, t)
		return []Way{{Destination: "pacs"}}
	}}
	s := open(t, o)
	store := func(sop dicom.UID, charset, description string) {
		t.Helper()
		var b []byte
		put := func(element string, vr, value string) {
			if len(value)%2 == 1 {
				value += " "
			}
			b = append(append(b, element+vr...), byte(len(value)), 0)
			b = append(b, value...)
		}
		put("\x08\x00\x05\x00", "CS", charset)
		put("\x08\x00\x16\x00", "UI", string(dicom.CTImageStorage)+"\x00")
		put("\x08\x00\x18\x00", "UI", string(sop)+"\x00")
		put("\x08\x00\x60\x00", "CS", "CT")
		put("\x08\x00\x10\x10", "SH", "CT-EMERGENCY")
		put("\x08\x00\x30\x10", "LO", description)
		put("\x20\x00\x0D\x00", "UI", "1.2\x00")
		put("\x20\x00\x0E\x00", "UI", "1.2.1\x00")
		in, err := s.Create(dicom.FileMeta{
			SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: sop, TransferSyntaxUID: dicom.ExplicitVRLittleEndian,
			SourceAETitle: "CT1", ReceivingAETitle: "TRAUMA",
		})
		must(t, err)
		_, err = in.Write(b)
		must(t, err)
		syntax, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
		h, err := dicom.ScanBytes(b, syntax, dicom.ScanOptions{Want: Describes})
		must(t, err)
		_, _, err = in.Commit(t.Context(), h)
		must(t, err)
	}
	store("1.2.1.1", "ISO_IR 100", "SCH\xc4DEL nativ")
	store("1.2.1.3", "ISO_IR 192", "SCHÄDEL nativ")
	want := Traits{"CT1", "TRAUMA", dicom.CTImageStorage, "CT", "CT-EMERGENCY", "SCHÄDEL nativ"}
	if !slices.Equal(asked, []Traits{want, want}) {
		t.Errorf("on receipt %+v", asked)
	}
	must(t, s.Close())
	ruinLedger(t, o.Dir)
	asked = nil
	s = open(t, o)
	if !slices.Equal(asked, []Traits{want, want}) {
		t.Errorf("from the files %+v", asked)
	}
	wantDue(t, s, "pacs", "1.2.1.1", "1.2.1.3")
}
