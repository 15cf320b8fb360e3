package spool

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// TestLegTransitions: from each state, what each event does.
func TestLegTransitions(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	done := func(id int64) error { return s.LegDone(ctx, id, 0xB000, time.Now()) }
	failed := func(id int64) error { return s.LegFailed(ctx, id, 0xA700, "busy", time.Now()) }
	sent := func(id int64) error { return s.LegSent(ctx, id, 0, time.Now(), time.Now()) }
	parked := func(id int64) error { return s.LegParked(ctx, id, 0xA900, "no") }
	retry := func(int64) error {
		_, err := s.RetryLegs(ctx, "pacs")
		return err
	}
	for n, c := range []struct {
		from  []func(int64) error
		event func(int64) error
		want  LegState
		err   error
	}{
		{nil, done, LegDone, nil},
		{nil, failed, LegPending, nil},
		{nil, parked, LegParked, nil},
		{nil, retry, LegPending, nil},
		{nil, sent, LegSent, nil},
		{[]func(int64) error{parked}, sent, LegSent, nil},
		{[]func(int64) error{done}, sent, LegDone, nil},
		{[]func(int64) error{sent}, sent, LegSent, nil},
		{[]func(int64) error{sent}, done, LegDone, nil},
		{[]func(int64) error{sent}, failed, LegSent, ErrLegSettled},
		{[]func(int64) error{sent}, parked, LegSent, ErrLegSettled},
		{[]func(int64) error{sent}, retry, LegSent, nil},
		{[]func(int64) error{parked}, retry, LegPending, nil},
		{[]func(int64) error{parked}, failed, LegParked, ErrLegSettled},
		{[]func(int64) error{parked}, parked, LegParked, ErrLegSettled},
		{[]func(int64) error{parked}, done, LegDone, nil},
		{[]func(int64) error{done}, done, LegDone, nil},
		{[]func(int64) error{done}, failed, LegDone, ErrLegSettled},
		{[]func(int64) error{done}, parked, LegDone, ErrLegSettled},
		{[]func(int64) error{done}, retry, LegDone, nil},
	} {
		i, _ := send(t, s, newSlice("1.2", byte(n)))
		id := legOf(t, s, i)
		for _, earlier := range c.from {
			must(t, earlier(id))
		}
		if err := c.event(id); !errors.Is(err, c.err) {
			t.Errorf("case %d: %v, want %v", n, err, c.err)
		}
		var state LegState
		must(t, s.write(ctx, rebuildable, "", func(tx *transaction) (err error) {
			state, err = tx.legState(id)
			return err
		}))
		if state != c.want {
			t.Errorf("case %d: state %s, want %s", n, state, c.want)
		}
	}
}

func legOf(t *testing.T, s *Spool, i Instance) int64 {
	t.Helper()
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 1000)
	must(t, err)
	n := slices.IndexFunc(legs, func(l Leg) bool { return l.Instance.ID == i.ID })
	if n < 0 {
		t.Fatalf("instance %d has no due leg", i.ID)
	}
	return legs[n].ID
}

func TestUrgentStudiesGoFirst(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.1", 1))
	send(t, s, newSlice("1.2", 1))
	decide(t, s, early("1.2", "1.2.1.1"))
	send(t, s, newSlice("1.1", 2))
	send(t, s, newSlice("1.2", 2))
	want := []dicom.UID{"1.2.1.2", "1.2.1.3", "1.1.1.2", "1.1.1.3"}

	var legs, triage []dicom.UID
	due, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
	must(t, err)
	for _, l := range due {
		legs = append(legs, l.Instance.SOPInstanceUID)
	}
	pending, err := s.PendingSlices(t.Context(), 10)
	must(t, err)
	for _, i := range pending {
		triage = append(triage, i.SOPInstanceUID)
	}
	if !slices.Equal(legs, want) || !slices.Equal(triage, want) {
		t.Errorf("legs %v, slices %v, want %v", legs, triage, want)
	}
	decide(t, s, final("1.2", 2, alerts.Negative, ""))
	if due, err = s.DueLegs(t.Context(), "pacs", time.Now(), 1); err != nil || due[0].Urgent {
		t.Errorf("urgent after the alert was withdrawn: %+v, %v", due, err)
	}
}

// TestLegsThatKeepFailingLetOthersPass: else the oldest of them, each due again
// by the time that the last has failed, would keep all others from their turn.
func TestLegsThatKeepFailingLetOthersPass(t *testing.T) {
	s := open(t, Options{})
	choking, _ := send(t, s, newSlice("1.1", 1))
	other, _ := send(t, s, newSlice("1.2", 1))
	decide(t, s, early("1.1", "1.1.1.1")) // urgent, which helps it no longer
	for attempt := range 4 {
		legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
		must(t, err)
		want := []int64{choking.ID, other.ID}
		if attempt == 3 {
			slices.Reverse(want)
		}
		if got := []int64{legs[0].Instance.ID, legs[1].Instance.ID}; !slices.Equal(got, want) {
			t.Errorf("after %d failures due in the order %v, want %v", attempt, got, want)
		}
		must(t, s.LegFailed(t.Context(), legOf(t, s, choking), 0x0110, "processing failure", time.Now()))
	}
}

// modelLeg is what the model knows of one leg.
type modelLeg struct {
	instance int64
	study    dicom.UID
	state    LegState
	attempts int
	next     time.Time
}

// legMachine drives the spool and a model of its legs and outbox side by side,
// with a restart between any two steps.
type legMachine struct {
	t        *testing.T
	s        *Spool
	clock    *clock
	legs     map[int64]*modelLeg
	urgent   map[dicom.UID]bool
	messages map[dicom.UID]int // pending, by study
	sent     int
}

func (m *legMachine) Receive(rt *rapid.T) {
	study := dicom.UID(fmt.Sprintf("1.2.%d", rapid.IntRange(1, 3).Draw(rt, "study")))
	m.sent++
	i, _ := send(m.t, m.s, slice{study: study, series: study + ".1", sop: study + dicom.UID(fmt.Sprintf(".1.%d", m.sent))})
	for _, l := range m.due(rt, "pacs") {
		if l.Instance.ID == i.ID {
			m.legs[l.ID] = &modelLeg{instance: i.ID, study: study, state: LegPending}
		}
	}
}

func (m *legMachine) due(rt *rapid.T, destination string) []Leg {
	legs, err := m.s.DueLegs(m.t.Context(), destination, m.clock.now(), 1000)
	if err != nil {
		rt.Fatal(err)
	}
	return legs
}

// draw picks a leg that is due.
func (m *legMachine) draw(rt *rapid.T) (Leg, *modelLeg) {
	due := m.due(rt, "pacs")
	if len(due) == 0 {
		rt.Skip("nothing is due")
	}
	l := due[rapid.IntRange(0, len(due)-1).Draw(rt, "leg")]
	return l, m.legs[l.ID]
}

func (m *legMachine) Done(rt *rapid.T) {
	l, known := m.draw(rt)
	must(m.t, m.s.LegDone(m.t.Context(), l.ID, 0, m.clock.now()))
	known.state = LegDone
}

func (m *legMachine) Fail(rt *rapid.T) {
	l, known := m.draw(rt)
	known.next = m.clock.in(time.Duration(rapid.IntRange(1, 60).Draw(rt, "seconds")) * time.Second)
	known.attempts++
	must(m.t, m.s.LegFailed(m.t.Context(), l.ID, 0xA700, "busy", known.next))
}

func (m *legMachine) Park(rt *rapid.T) {
	l, known := m.draw(rt)
	must(m.t, m.s.LegParked(m.t.Context(), l.ID, 0xA900, "no"))
	known.state = LegParked
	known.attempts++
}

func (m *legMachine) Retry(rt *rapid.T) {
	want := 0
	for _, l := range m.legs {
		if l.state == LegParked || l.state == LegPending && !l.next.IsZero() {
			l.state, l.next = LegPending, time.Time{}
			want++
		}
	}
	if n, err := m.s.RetryLegs(m.t.Context(), "pacs"); err != nil || n != want {
		rt.Fatalf("retried %d legs, %v; want %d", n, err, want)
	}
}

func (m *legMachine) Alarm(rt *rapid.T) {
	study := dicom.UID(fmt.Sprintf("1.2.%d", rapid.IntRange(1, 3).Draw(rt, "study")))
	v, err := m.s.Decide(m.t.Context(), early(study, study+".1.1"))
	switch {
	case errors.Is(err, ErrUnknownStudy):
		rt.Skip("not yet received")
	case err != nil:
		rt.Fatal(err)
	case (v.Type == alerts.TypeNew) == m.urgent[study]:
		rt.Fatalf("verdict %+v on a study that was urgent: %v", v, m.urgent[study])
	case v.Type == alerts.TypeNew:
		m.messages[study]++
	}
	m.urgent[study] = true
}

func (m *legMachine) Publish(rt *rapid.T) {
	entries, err := m.s.PendingMessages(m.t.Context(), m.clock.now(), 10)
	must(m.t, err)
	total := 0
	for _, n := range m.messages {
		total += n
	}
	if len(entries) != total {
		rt.Fatalf("%d messages are pending, want %d", len(entries), total)
	}
	if total == 0 {
		rt.Skip("nothing to say")
	}
	must(m.t, m.s.MessageDelivered(m.t.Context(), entries[0].ID, m.clock.now()))
	for study := range m.messages {
		if m.s.Pseudonym(study) == entries[0].Key {
			m.messages[study]--
		}
	}
}

func (m *legMachine) Wait(rt *rapid.T) {
	m.clock.advance(time.Duration(rapid.IntRange(1, 30).Draw(rt, "seconds")) * time.Second)
}

func (m *legMachine) Restart(*rapid.T) {
	m.s = reopen(m.t, m.s, Options{Now: m.clock.now})
}

// Check compares the order of what is due with the model's.
func (m *legMachine) Check(rt *rapid.T) {
	var want []int64
	for id, l := range m.legs {
		if l.state == LegPending && !l.next.After(m.clock.now()) {
			want = append(want, id)
		}
	}
	rank := func(id int64) (n int) {
		if m.legs[id].attempts >= 3 {
			n += 2
		}
		if !m.urgent[m.legs[id].study] {
			n++
		}
		return n
	}
	slices.SortFunc(want, func(a, b int64) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(m.legs[a].instance, m.legs[b].instance))
	})
	var got []int64
	for _, l := range m.due(rt, "pacs") {
		got = append(got, l.ID)
		if known := m.legs[l.ID]; known != nil && (l.Attempts != known.attempts || l.Urgent != m.urgent[known.study]) {
			rt.Fatalf("leg %+v, want %+v", l, known)
		}
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("due %v, want %v", got, want)
	}
}

func TestLegsAndOutboxAgainstAModel(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		c := newClock()
		m := &legMachine{
			t: t, clock: c, s: open(t, Options{Dir: filepath.Join(dir, fmt.Sprint(run)), Now: c.now}),
			legs: map[int64]*modelLeg{}, urgent: map[dicom.UID]bool{}, messages: map[dicom.UID]int{},
		}
		defer func() { m.s.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"receive": m.Receive, "done": m.Done, "fail": m.Fail, "park": m.Park, "retry": m.Retry,
			"alarm": m.Alarm, "publish": m.Publish, "wait": m.Wait, "restart": m.Restart, "": m.Check,
		})
	})
}

// What waits for its next try is brought forward when its destination is back, and nothing that is parked.
func TestResumeLegs(t *testing.T) {
	s := open(t, Options{})
	now := time.Now()
	var ids []int64
	for n := range byte(3) {
		i, _ := send(t, s, newSlice("1.1", n))
		ids = append(ids, legOf(t, s, i))
	}
	must(t, s.LegFailed(t.Context(), ids[0], 0xA700, "full", now.Add(time.Hour)))
	must(t, s.LegFailed(t.Context(), ids[1], 0xA700, "full", now.Add(2*time.Hour)))
	must(t, s.LegParked(t.Context(), ids[2], 0xA900, "no"))
	wantDue(t, s, "pacs")
	for _, c := range []struct{ after, want time.Duration }{{0, time.Hour}, {time.Hour, 2 * time.Hour}} {
		next, ok, err := s.NextLegDue(t.Context(), "pacs", now.Add(c.after))
		if err != nil || !ok || !next.Equal(now.Add(c.want)) {
			t.Errorf("after %v comes %v, %t, %v", c.after, next.Sub(now), ok, err)
		}
	}
	if _, ok, err := s.NextLegDue(t.Context(), "pacs", now.Add(2*time.Hour)); ok || err != nil {
		t.Errorf("after the last comes another: %t, %v", ok, err)
	}
	must(t, s.ResumeLegs(t.Context(), "pacs"))
	wantDue(t, s, "pacs", "1.1.1.1", "1.1.1.2")
}
