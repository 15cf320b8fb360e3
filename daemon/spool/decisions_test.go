package spool

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

var someTime = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func suspicion(study, slice dicom.UID) *alerts.Message {
	return &alerts.Message{
		Site: "site", Device: "ct1", Study: alerts.Study{InstanceUID: string(study)},
		Finding: "subdural", Score: 0.9, KeyImage: string(slice), Models: []alerts.Model{{Name: "m", SHA256: "00"}},
		ReceivedAt: someTime, DetectedAt: someTime,
	}
}

func outcome(study dicom.UID, o alerts.Outcome, reason string) alerts.OutcomeMessage {
	m := alerts.OutcomeMessage{
		Site: "site", Device: "ct1", Study: alerts.Study{InstanceUID: string(study)}, Outcome: o, Reason: reason,
		Counts: alerts.Counts{Received: 1, Classified: 1}, ReceivedAt: someTime, DecidedAt: someTime,
	}
	if o == alerts.Positive {
		m.Finding = "subdural"
	}
	return m
}

func positive(study dicom.UID, revision int64, slice dicom.UID) Decision {
	return Decision{study, revision, true, outcome(study, alerts.Positive, ""), suspicion(study, slice)}
}

func final(study dicom.UID, revision int64, o alerts.Outcome, reason string) Decision {
	return Decision{study, revision, true, outcome(study, o, reason), nil}
}

func early(study, slice dicom.UID) Decision {
	return Decision{StudyInstanceUID: study, Alert: suspicion(study, slice)}
}

func decide(t *testing.T, s *Spool, d Decision) Verdict {
	t.Helper()
	v, err := s.Decide(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// publish delivers all that is in the outbox and returns the payloads' gist.
func publish(t *testing.T, s *Spool) (said []string) {
	t.Helper()
	for {
		entries, err := s.PendingMessages(t.Context(), s.now(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return said
		}
		for _, e := range entries {
			var m struct {
				Type    string
				Seq     int
				Level   int
				Outcome string
			}
			if err := json.Unmarshal(e.Payload, &m); err != nil {
				t.Fatal(err)
			}
			said = append(said, e.Topic+" "+m.Type+m.Outcome+" "+string(rune('0'+m.Seq)))
			if err := s.MessageDelivered(t.Context(), e.ID, s.now()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPromise4_EveryStudyEndsWithOneOutcome(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	i, _ := send(t, s, newSlice("1.2", 1))
	s.StudyOpened("1.2", "association-1")
	quiet := func() []Study {
		t.Helper()
		studies, err := s.QuietStudies(t.Context(), c.in(-time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return studies
	}

	c.advance(time.Minute)
	if q := quiet(); len(q) != 0 {
		t.Fatalf("quiet with a pending slice: %+v", q)
	}
	if err := s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified, Probabilities: []float32{0.25, 0.75}}); err != nil {
		t.Fatal(err)
	}
	if q := quiet(); len(q) != 0 {
		t.Fatalf("quiet while an association carries it: %+v", q)
	}
	s.AssociationClosed("association-1", true)
	q := quiet()
	if len(q) != 1 || q[0].Instances != 1 || q[0].Outcome != "" {
		t.Fatalf("quiet = %+v", q)
	}

	v := decide(t, s, final("1.2", q[0].Revision, alerts.Negative, ""))
	if !v.Closed || v.AlertID != "" {
		t.Errorf("verdict = %+v", v)
	}
	if q := quiet(); len(q) != 0 {
		t.Errorf("quiet after the decision: %+v", q)
	}
	if diff := cmp.Diff([]string{"outcome NEGATIVE 1"}, publish(t, s)); diff != "" {
		t.Error(diff)
	}

	// A late slice opens the study again, and the next outcome replaces the first.
	send(t, s, newSlice("1.2", 2))
	c.advance(time.Minute)
	if v := decide(t, s, final("1.2", q[0].Revision, alerts.Failed, "no model")); v.Closed {
		t.Error("a decision closed the study over a slice that it has not seen")
	}
	if diff := cmp.Diff([]string{"outcome FAILED 2"}, publish(t, s)); diff != "" {
		t.Error(diff)
	}
	study, err := s.Study(t.Context(), "1.2")
	if err != nil || study.Pending != 1 || study.Outcome != alerts.Failed {
		t.Errorf("study = %+v, %v", study, err)
	}
}

func TestPromise5_DecisionsSayNothingTwice(t *testing.T) {
	s := open(t, Options{Now: newClock().now})
	send(t, s, newSlice("1.2", 1))

	first := decide(t, s, early("1.2", "1.2.1.1"))
	if first.Type != alerts.TypeNew || first.Seq != 1 || first.Closed {
		t.Errorf("early decision: %+v", first)
	}
	steps := []struct {
		name string
		d    Decision
		want Verdict
		said []string
	}{
		{"the same again", early("1.2", "1.2.1.1"), Verdict{AlertID: first.AlertID, Seq: 1}, []string{"alert new 1"}},
		{"confirmed at study level", positive("1.2", 1, "1.2.1.1"), Verdict{AlertID: first.AlertID, Seq: 1, Closed: true}, []string{"outcome POSITIVE 1"}},
		{"replayed", positive("1.2", 1, "1.2.1.1"), Verdict{AlertID: first.AlertID, Seq: 1, Closed: true}, nil},
		{"another key image", positive("1.2", 1, "1.2.1.2"), Verdict{AlertID: first.AlertID, Type: alerts.TypeUpdate, Seq: 2, Closed: true}, []string{"alert update 2"}},
		{"failed in the end", final("1.2", 1, alerts.Failed, "GPU gone"), Verdict{AlertID: first.AlertID, Seq: 2, Closed: true}, []string{"outcome FAILED 2"}},
		{"withdrawn", final("1.2", 1, alerts.Negative, ""), Verdict{AlertID: first.AlertID, Type: alerts.TypeRetract, Seq: 3, Closed: true}, []string{"alert retract 3", "outcome NEGATIVE 3"}},
		{"withdrawn again", final("1.2", 1, alerts.Negative, ""), Verdict{AlertID: first.AlertID, Seq: 3, Closed: true}, nil},
		{"suspicious again", positive("1.2", 1, "1.2.1.3"), Verdict{AlertID: alerts.ID("ct1", s.Pseudonym("1.2"), 2), Type: alerts.TypeNew, Seq: 1, Closed: true}, []string{"alert new 1", "outcome POSITIVE 4"}},
	}
	for _, step := range steps {
		if diff := cmp.Diff(step.want, decide(t, s, step.d)); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
		if diff := cmp.Diff(step.said, publish(t, s)); diff != "" {
			t.Errorf("%s: said %s", step.name, diff)
		}
	}
}

func TestContradictoryDecisionsAreRefused(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	for name, d := range map[string]Decision{
		"positive without alert": {StudyInstanceUID: "1.2", Final: true, Outcome: outcome("1.2", alerts.Positive, "")},
		"negative with alert":    {StudyInstanceUID: "1.2", Final: true, Outcome: outcome("1.2", alerts.Negative, ""), Alert: suspicion("1.2", "1.2.1.1")},
		"nothing":                {StudyInstanceUID: "1.2"},
	} {
		if _, err := s.Decide(t.Context(), d); !errors.Is(err, errDecision) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A message that may not leave takes the whole decision back.
	d := positive("1.2", 1, "1.2.1.1")
	d.Outcome.Site = ""
	if _, err := s.Decide(t.Context(), d); !errors.Is(err, alerts.ErrInvalid) {
		t.Errorf("incomplete outcome: %v", err)
	}
	if study, err := s.Study(t.Context(), "1.2"); err != nil || study.AlertID != "" || study.Outcome != "" {
		t.Errorf("the refused decision left %+v, %v", study, err)
	}
}

func TestPromise5_EscalatesUntilAPersonAnswers(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	send(t, s, newSlice("1.2", 1))
	id := decide(t, s, early("1.2", "1.2.1.1")).AlertID
	ctx := t.Context()
	waiting := func() []alerts.OpenAlert {
		t.Helper()
		open, err := s.OpenAlerts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return open
	}

	if w := waiting(); len(w) != 0 {
		t.Errorf("the clock runs before the broker has confirmed: %+v", w)
	}
	if err := s.Escalate(ctx, id, 1, c.now()); err == nil {
		t.Error("escalated before the broker has confirmed the first notice")
	}
	publish(t, s)
	confirmed := c.now()
	if diff := cmp.Diff([]alerts.OpenAlert{{AlertID: id, Level: 0, Since: confirmed}}, waiting()); diff != "" {
		t.Error(diff)
	}
	c.advance(time.Minute)
	if err := s.Escalate(ctx, id, 1, c.now()); err != nil {
		t.Fatal(err)
	}
	if w := waiting(); len(w) != 0 {
		t.Errorf("the clock of level 1 runs before its message is confirmed: %+v", w)
	}
	c.advance(time.Minute)
	if diff := cmp.Diff([]string{"alert escalate 2"}, publish(t, s)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]alerts.OpenAlert{{AlertID: id, Level: 1, Since: c.now()}}, waiting()); diff != "" {
		t.Error(diff)
	}

	answer := alerts.Acknowledgement{AlertID: id, By: "on call", At: c.now(), StatedAt: c.in(-time.Second), Via: "page", Comment: "seen"}
	if err := s.Acknowledge(ctx, answer); err != nil {
		t.Fatal(err)
	}
	if w := waiting(); len(w) != 0 {
		t.Errorf("still waiting: %+v", w)
	}
	late := answer
	late.By = "somebody else"
	for _, c := range []struct{ got, want error }{
		{s.Acknowledge(ctx, late), alerts.ErrAlreadyAcknowledged},
		{s.Escalate(ctx, id, 2, c.now()), alerts.ErrAlreadyAcknowledged},
		{s.Acknowledge(ctx, alerts.Acknowledgement{AlertID: "a-none"}), alerts.ErrUnknownAlert},
		{s.Escalate(ctx, "a-none", 1, c.now()), alerts.ErrUnknownAlert},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}

	records, err := s.Studies(ctx, Filter{Study: "1.2"})
	if err != nil {
		t.Fatal(err)
	}
	got := records[0].Alerts[0]
	if got.State != alerts.StateAcknowledged || got.Level != 1 || !got.DeliveredAt.Equal(confirmed) {
		t.Errorf("record = %+v", got)
	}
	if diff := cmp.Diff(answer, got.Acknowledgement); diff != "" {
		t.Error(diff)
	}

	decide(t, s, final("1.2", 1, alerts.Negative, ""))
	if err := s.Acknowledge(ctx, answer); !errors.Is(err, alerts.ErrRetracted) {
		t.Errorf("answer to a withdrawn alert: %v", err)
	}
}

func TestOutboxKeepsTheOrderOfAStudyAndNoOther(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	ctx := t.Context()
	send(t, s, newSlice("1.1", 1))
	send(t, s, newSlice("1.2", 1))
	decide(t, s, final("1.1", 1, alerts.Negative, ""))
	decide(t, s, positive("1.2", 1, "1.2.1.1"))
	pending := func() (said []string) {
		t.Helper()
		entries, err := s.PendingMessages(ctx, c.now(), 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			said = append(said, e.Topic+" of "+e.Key)
		}
		return said
	}
	first, second := s.Pseudonym("1.1"), s.Pseudonym("1.2")

	if diff := cmp.Diff([]string{"alert of " + second, "outcome of " + first}, pending()); diff != "" {
		t.Fatal("an alert goes first, and one message of a study at a time:", diff)
	}
	entries, err := s.PendingMessages(ctx, c.now(), 1)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if err := s.MessageFailed(ctx, entries[0].ID, "no broker", c.in(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"outcome of " + first}, pending()); diff != "" {
		t.Error("a study in backoff lets nothing of its own pass, and all others:", diff)
	}
	c.advance(time.Minute)
	if err := s.MessageDelivered(ctx, entries[0].ID, c.now()); err != nil {
		t.Fatal(err)
	}
	if err := s.MessageDelivered(ctx, entries[0].ID, c.now()); err != nil {
		t.Errorf("told twice: %v", err)
	}
	if diff := cmp.Diff([]string{"outcome of " + first, "outcome of " + second}, pending()); diff != "" {
		t.Error(diff)
	}
}

func TestCancelledCallsChangeNothing(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Decide(ctx, early("1.2", "1.2.1.1")); !errors.Is(err, context.Canceled) {
		t.Errorf("Decide: %v", err)
	}
	if study, err := s.Study(t.Context(), "1.2"); err != nil || study.AlertID != "" {
		t.Errorf("study = %+v, %v", study, err)
	}
}

// What a sender that broke off has brought is no complete study: until it comes back, nothing that rests on having seen
// everything can be said.
func TestReleasedOnlyByAnOrderlyRelease(t *testing.T) {
	s := open(t, Options{})
	released := func() bool {
		t.Helper()
		study, err := s.Study(t.Context(), "1.2")
		must(t, err)
		return study.Released
	}
	carry := func(association string, n byte, orderly bool) {
		t.Helper()
		s.StudyOpened("1.2", association)
		send(t, s, newSlice("1.2", n))
		if released() {
			t.Errorf("%s is open still and the study counts as released", association)
		}
		s.AssociationClosed(association, orderly)
	}
	carry("aborted", 1, false)
	if released() {
		t.Error("an abort counts as a release")
	}
	before, err := s.Study(t.Context(), "1.2")
	must(t, err)
	carry("released", 2, true)
	if !released() {
		t.Error("a release does not count")
	}

	// All of it once more, as a scanner does that is not sure: nothing joins, and the release still counts.
	carry("aborted again", 3, false)
	s.StudyOpened("1.2", "repeats")
	if _, d := send(t, s, newSlice("1.2", 3)); d != DuplicateSame {
		t.Fatalf("duplicate %v", d)
	}
	s.AssociationClosed("repeats", true)
	after, err := s.Study(t.Context(), "1.2")
	must(t, err)
	if !after.Released || after.Revision <= before.Revision {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// A study that failed because something was in the way is judged again, at the next start or when it is sent again.
func TestFailedFindingsGetAnotherChance(t *testing.T) {
	for name, again := range map[string]func(*Spool, slice) error{
		"at the start": func(s *Spool, _ slice) error {
			n, err := s.RetryFindings(t.Context())
			if n != 1 {
				t.Errorf("%d findings retried, want 1", n)
			}
			return err
		},
		"sent again": func(s *Spool, c slice) error {
			_, _, err := trySend(s, c)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			failed, judged := newSlice("1.2", 1), newSlice("1.2", 2)
			i, _ := send(t, s, failed)
			must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingFailed, Reason: "no model in service"}))
			j, _ := send(t, s, judged)
			must(t, s.RecordFinding(t.Context(), Finding{InstanceID: j.ID, State: FindingClassified, Probabilities: []float32{1}}))
			must(t, again(s, failed))
			pending, err := s.PendingSlices(t.Context(), 10)
			must(t, err)
			if len(pending) != 1 || pending[0].ID != i.ID {
				t.Errorf("pending %+v, want the one that failed", pending)
			}
		})
	}
}

// TestPromise5_ClockSetBack: the appliance starts with a clock that is a year ahead, and NTP puts it right. Nothing waits
// for a year.
func TestPromise5_ClockSetBack(t *testing.T) {
	c := newClock()
	present := c.now()
	c.advance(365 * 24 * time.Hour)
	s := open(t, Options{Now: c.now})
	suspected, waiting := newSlice("1.2", 1), newSlice("1.3", 1)
	send(t, s, suspected)
	decide(t, s, early("1.2", suspected.sop))
	messages, err := s.PendingMessages(t.Context(), c.now(), 1)
	must(t, err)
	must(t, s.MessageDelivered(t.Context(), messages[0].ID, c.now()))
	i, _ := send(t, s, waiting)
	must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingIneligible, Reason: "modality is not CT"}))
	decide(t, s, final("1.3", 1, alerts.NotAnalysed, "modality is not CT"))
	messages, err = s.PendingMessages(t.Context(), c.now(), 1)
	must(t, err)
	must(t, s.MessageFailed(t.Context(), messages[0].ID, "no broker", c.now().Add(time.Second)))
	legs, err := s.DueLegs(t.Context(), "pacs", c.now(), 10)
	must(t, err)
	must(t, s.LegFailed(t.Context(), legs[0].ID, 0, "no PACS", c.now().Add(time.Minute)))

	c.advance(present.Sub(c.now()))
	must(t, s.ClockSetBack(t.Context()))

	if open, err := s.OpenAlerts(t.Context()); err != nil || len(open) != 1 || open[0].Since.After(c.now()) {
		t.Errorf("open alerts %+v, %v", open, err)
	}
	if messages, err := s.PendingMessages(t.Context(), c.now(), 10); err != nil || len(messages) != 1 {
		t.Errorf("%d messages due, want the one that failed (%v)", len(messages), err)
	}
	if legs, err := s.DueLegs(t.Context(), "pacs", c.now(), 10); err != nil || len(legs) != 2 {
		t.Errorf("%d legs due, want both (%v)", len(legs), err)
	}
	if study, err := s.Study(t.Context(), "1.2"); err != nil || study.LastReceived.After(c.now()) {
		t.Errorf("study %+v, %v", study, err)
	}
}

// The ledger knows what an outcome rests on, and that nothing was asked.
func TestScoreOfAnOutcome(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	send(t, s, newSlice("1.3", 1))
	d := final("1.2", 1, alerts.Negative, "")
	d.Outcome.Models, d.Outcome.Score, d.Outcome.Threshold, d.Outcome.OperatingPoint = []alerts.Model{{Name: "m", SHA256: "00"}}, 0.12, 0.2414, "balanced"
	decide(t, s, d)
	decide(t, s, final("1.3", 1, alerts.NotAnalysed, "shut"))
	records, err := s.Studies(t.Context(), Filter{})
	must(t, err)
	for _, r := range records {
		switch {
		case r.StudyInstanceUID == "1.3" && r.Score != nil:
			t.Errorf("nothing was asked: %+v", r.Score)
		case r.StudyInstanceUID == "1.2" && (r.Score == nil || *r.Score != Score{0.12, 0.2414, "balanced"}):
			t.Errorf("%+v", r.Score)
		}
	}
	// Another operating point is told, though the score is the same.
	d.Outcome.Threshold, d.Outcome.OperatingPoint = 0.1908, "sensitive"
	decide(t, s, d)
	if said := publish(t, s); len(said) != 3 {
		t.Errorf("%v", said)
	}
}
