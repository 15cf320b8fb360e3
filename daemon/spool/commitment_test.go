package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ichwatch/alerts"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
)

func reference(sop dicom.UID) commitment.Reference {
	return commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: sop}
}

func requestOf(transaction dicom.UID, sops ...dicom.UID) *commitment.Request {
	rq := &commitment.Request{TransactionUID: transaction}
	for _, sop := range sops {
		rq.References = append(rq.References, reference(sop))
	}
	return rq
}

// spoil changes one byte of an instance's file.
func spoil(t *testing.T, s *Spool, i Instance) {
	t.Helper()
	path := pathOf(t, s, i)
	content, err := os.ReadFile(path)
	must(t, err)
	content[len(content)-1] ^= 1
	must(t, os.WriteFile(path, content, 0o600))
}

// finish makes an instance removable, and removes it.
func finish(t *testing.T, s *Spool, i Instance) {
	t.Helper()
	must(t, s.LegDone(t.Context(), legOf(t, s, i), 0, time.Now()))
	must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingIneligible, Reason: "no head"}))
	study, err := s.Study(t.Context(), i.StudyInstanceUID)
	must(t, err)
	decide(t, s, final(i.StudyInstanceUID, study.Revision, alerts.Negative, ""))
	if n, err := s.Remove(t.Context(), time.Now(), Retention{}); err != nil || n.Instances != 1 {
		t.Fatalf("removed %+v, %v", n, err)
	}
}

// What the ledger and the files answer, for each way that an instance may have gone.
func TestCommitment(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(t *testing.T, s *Spool, i Instance)
		want command.Status
	}{
		{"held", func(*testing.T, *Spool, Instance) {}, command.StatusSuccess},
		{"sent and not committed by the PACS", func(t *testing.T, s *Spool, i Instance) {
			must(t, s.LegSent(t.Context(), legOf(t, s, i), 0, time.Now(), time.Now()))
		}, command.StatusSuccess},
		{"removed after every leg was done", finish, command.StatusSuccess},
		{"damaged", spoil, command.StatusProcessingFailure},
		{"gone", func(t *testing.T, s *Spool, i Instance) { must(t, os.Remove(pathOf(t, s, i))) }, command.StatusProcessingFailure},
		{"cut short", func(t *testing.T, s *Spool, i Instance) { must(t, os.Truncate(pathOf(t, s, i), 100)) }, command.StatusProcessingFailure},
		{"damaged, and confirmed by the PACS", func(t *testing.T, s *Spool, i Instance) {
			must(t, s.LegDone(t.Context(), legOf(t, s, i), 0, time.Now()))
			spoil(t, s, i)
		}, command.StatusSuccess},
		{"gone, and parked", func(t *testing.T, s *Spool, i Instance) {
			must(t, s.LegParked(t.Context(), legOf(t, s, i), 0xA900, "no"))
			must(t, os.Remove(pathOf(t, s, i)))
		}, command.StatusProcessingFailure},
		{"another data set of the same UID is damaged", func(t *testing.T, s *Spool, _ Instance) {
			other := newSlice("1.2", 1)
			other.pixels = []byte("other bytes.")
			second, _ := send(t, s, other)
			spoil(t, s, second)
		}, command.StatusProcessingFailure},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, Options{})
			c := newSlice("1.2", 1)
			i, _ := send(t, s, c)
			test.do(t, s, i)
			rq := requestOf("1.9", "1.2.77", c.sop)
			rq.References = append(rq.References, commitment.Reference{SOPClassUID: dicom.MRImageStorage, SOPInstanceUID: c.sop})
			want := &commitment.Result{TransactionUID: "1.9", Failed: []commitment.Failure{
				{Reference: rq.References[0], Reason: command.StatusNoSuchSOPInstance},
				{Reference: rq.References[1], Reason: test.want},
				{Reference: rq.References[2], Reason: command.StatusClassInstanceConflict},
			}}
			if test.want == command.StatusSuccess {
				want.Committed = rq.References[1:2]
				want.Failed = slices.Delete(want.Failed, 1, 2)
			}
			for range 2 { // the answer is the same when asked again
				got, err := s.Commitment(t.Context(), rq)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%v\n%s", err, diff)
				}
			}
		})
	}
}

// What was refused because its file is damaged is taken in anew when it is sent again, and committed to then. The
// damaged file is kept, and no later start takes it for an instance.
func TestDamagedInstanceIsHealedByItsSender(t *testing.T) {
	s := open(t, Options{})
	c := newSlice("1.2", 1)
	i, _ := send(t, s, c)
	spoil(t, s, i)
	rq := requestOf("1.9", c.sop)
	if r, err := s.Commitment(t.Context(), rq); err != nil || len(r.Failed) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10); err != nil || len(legs) != 0 {
		t.Errorf("a damaged instance is forwarded: %+v, %v", legs, err)
	}
	again, d := send(t, s, c)
	if d != DuplicateNo || again.ID != i.ID || !bytes.Equal(read(t, s, i.ID), c.dataSet()) {
		t.Errorf("sent again: %+v, duplicate %v", again, d)
	}
	if r, err := s.Commitment(t.Context(), rq); err != nil || len(r.Failed) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if kept, err := filepath.Glob(filepath.Join(s.dir, quarantineDir, "*")); err != nil || len(kept) != 1 {
		t.Errorf("in quarantine: %v, %v", kept, err)
	}
	if got := kinds(t, s); !slices.Equal(got, []EventKind{EventMissing, EventResent}) {
		t.Errorf("events %v", got)
	}
	s = reopen(t, s, Options{})
	if r := recovered(s); r != (Recovery{Instances: 1}) {
		t.Errorf("recovered %+v", r)
	}
}

var roomy = TransactionLimits{PerPeer: 100, All: 1000}

func TestTransactions(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	ctx := t.Context()
	opened := func(peer dicom.AETitle, rq *commitment.Request, l TransactionLimits) error {
		return s.OpenTransaction(ctx, peer, rq, c.now(), l)
	}
	s.ReportsDue("CT1") // somebody waits
	one, two := requestOf("1.9.1", "1.2.1", "1.2.2"), requestOf("1.9.2", "1.2.3")
	must(t, opened("CT1", one, TransactionLimits{1, 2}))
	must(t, opened("CT1", one, TransactionLimits{1, 2})) // once more: the same
	for _, test := range []struct {
		what string
		err  error
		want error
	}{
		{"one too many of a peer", opened("CT1", two, TransactionLimits{1, 2}), ErrTooManyTransactions},
		{"the UID for something else", opened("CT1", requestOf("1.9.1", "1.2.2"), roomy), ErrTransactionInUse},
		{"the UID by another peer", opened("CT2", requestOf("1.9.1", "1.2.2"), TransactionLimits{1, 2}), nil},
		{"one too many in all", opened("CT3", two, TransactionLimits{1, 2}), ErrTooManyTransactions},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v, want %v", test.what, test.err, test.want)
		}
	}
	select {
	case <-s.ReportsDue("CT1"):
	default:
		t.Error("nobody was woken")
	}

	s = reopen(t, s, Options{Now: c.now})
	due, err := s.DueTransactions(ctx, "CT1", c.now(), 10)
	if err != nil || len(due) != 1 {
		t.Fatalf("due %+v, %v", due, err)
	}
	want := CommitmentTransaction{ID: due[0].ID, Peer: "CT1", Request: *one, RequestedAt: c.now()}
	if diff := cmp.Diff(want, due[0]); diff != "" {
		t.Error(diff)
	}
	must(t, s.ReportFailed(ctx, due[0].ID, "no answer", c.in(time.Minute)))
	if due, err := s.DueTransactions(ctx, "CT1", c.now(), 10); err != nil || len(due) != 0 {
		t.Errorf("due at once: %+v, %v", due, err)
	}
	if next, ok, err := s.NextTransactionDue(ctx, "CT1"); err != nil || !ok || !next.Equal(c.in(time.Minute)) {
		t.Errorf("next %v, %t, %v", next, ok, err)
	}
	if all, err := s.OpenTransactions(ctx, "CT1", 10); err != nil || len(all) != 1 || all[0].Attempts != 1 || all[0].LastReason != "no answer" {
		t.Errorf("open %+v, %v", all, err)
	}
	c.advance(time.Second)
	must(t, opened("CT1", one, roomy)) // a peer that asks again is there
	due, err = s.DueTransactions(ctx, "CT1", c.now(), 10)
	if err != nil || len(due) != 1 || due[0].ID != want.ID {
		t.Fatalf("asked again, due %+v, %v", due, err)
	}
	must(t, s.ReportDelivered(ctx, want)) // the report was on its way when it asked again
	if all, err := s.OpenTransactions(ctx, "CT1", 10); err != nil || len(all) != 1 {
		t.Errorf("asked again while the report was on its way, open %+v, %v", all, err)
	}
	must(t, s.ReportDelivered(ctx, due[0]))
	if _, ok, err := s.NextTransactionDue(ctx, "CT1"); err != nil || ok {
		t.Errorf("due after delivery: %v", err)
	}
	must(t, s.ReportFailed(ctx, want.ID, "late", c.now())) // without effect
	must(t, opened("CT1", one, roomy))                     // reported once more
	again, err := s.DueTransactions(ctx, "CT1", c.now(), 10)
	if err != nil || len(again) != 1 || again[0].ID == want.ID || again[0].Attempts != 0 {
		t.Fatalf("asked once more, due %+v, %v", again, err)
	}
	must(t, s.ReportDelivered(ctx, want)) // of the old one, without effect

	c.advance(time.Hour)
	must(t, opened("CT1", two, roomy))
	parked, err := s.ParkTransactions(ctx, c.in(-time.Minute))
	if err != nil || len(parked) != 2 || parked[0].Peer != "CT2" || parked[1].ID != again[0].ID {
		t.Errorf("parked %+v, %v", parked, err)
	}
	if open, err := s.OpenTransactions(ctx, "CT1", 10); err != nil || len(open) != 1 || open[0].Request.TransactionUID != "1.9.2" {
		t.Errorf("open %+v, %v", open, err)
	}
	c.advance(time.Hour)
	if parked, err := s.ParkTransactions(ctx, c.in(-time.Minute)); err != nil || len(parked) != 1 {
		t.Errorf("parked %+v, %v", parked, err)
	}
	must(t, opened("CT1", requestOf("1.9.1", "1.2.7"), roomy)) // the old one is forgotten
	if got := kinds(t, s); !slices.Equal(got, []EventKind{EventReportParked, EventReportParked, EventReportParked}) {
		t.Errorf("events %v", got)
	}
}

// askedMachine drives the legs of one destination through requests and reports,
// and a model of them beside. What the model holds dear: a leg is done only if a
// report has said so of a request that was made after the instance was sent.
type askedMachine struct {
	t     *testing.T
	s     *Spool
	clock *clock
	n     int
	legs  map[dicom.UID]*askedModel
	open  map[dicom.UID][]dicom.UID // requests under way: what they ask for
	old   map[dicom.UID][]dicom.UID // and those that are over
	at    map[dicom.UID]time.Time   // when each was made
}

type askedModel struct {
	state LegState
	sent  time.Time
	next  time.Time
	asked int
	in    dicom.UID // request under way, "" for none
}

func (m *askedMachine) Send(rt *rapid.T) {
	m.n++
	i, _ := send(m.t, m.s, newSlice("1.2", byte(m.n)))
	m.legs[i.SOPInstanceUID] = &askedModel{state: LegPending}
	m.Forward(rt)
}

// Forward sends what is to be sent.
func (m *askedMachine) Forward(rt *rapid.T) {
	legs, err := m.s.DueLegs(m.t.Context(), "pacs", m.clock.now(), 1000)
	must(m.t, err)
	wait := time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds before it is asked for")) * time.Second
	for _, l := range legs {
		must(m.t, m.s.LegSent(m.t.Context(), l.ID, 0, m.clock.now(), m.clock.in(wait)))
		*m.legs[l.Instance.SOPInstanceUID] = askedModel{state: LegSent, sent: m.clock.now(), next: m.clock.in(wait)}
	}
}

func (m *askedMachine) Ask(rt *rapid.T) {
	limit := rapid.IntRange(1, 5).Draw(rt, "limit")
	rq, err := m.s.RequestCommitment(m.t.Context(), "pacs", m.clock.now(), m.clock.in(30*time.Second), limit)
	must(m.t, err)
	due := 0
	for _, l := range m.legs {
		if l.state == LegSent && l.in == "" && !l.next.After(m.clock.now()) {
			due++
		}
	}
	if (rq != nil) != (due > 0) {
		rt.Fatalf("request %+v where %d are due", rq, due)
	}
	if rq == nil {
		return
	}
	if len(rq.References) == 0 || len(rq.References) > limit {
		rt.Fatalf("%d references, limit %d", len(rq.References), limit)
	}
	for _, r := range rq.References {
		l := m.legs[r.SOPInstanceUID]
		if l.state != LegSent || l.in != "" || l.asked > 0 && l.next.After(m.clock.now()) {
			rt.Fatalf("%s is asked for in state %+v", r.SOPInstanceUID, l)
		}
		l.in = rq.TransactionUID
		m.open[rq.TransactionUID] = append(m.open[rq.TransactionUID], r.SOPInstanceUID)
	}
	m.at[rq.TransactionUID] = m.clock.now()
	if rapid.Bool().Draw(rt, "accepted") {
		must(m.t, m.s.CommitmentAsked(m.t.Context(), rq.TransactionUID))
	}
}

// draw picks a request, by age among those under way or over.
func (m *askedMachine) draw(rt *rapid.T, from map[dicom.UID][]dicom.UID) dicom.UID {
	uids := make([]dicom.UID, 0, len(from))
	for uid := range from {
		uids = append(uids, uid)
	}
	if len(uids) == 0 {
		rt.Skip("no request")
	}
	slices.Sort(uids)
	return uids[rapid.IntRange(0, len(uids)-1).Draw(rt, "request")]
}

func (m *askedMachine) over(uid dicom.UID) {
	if asked, ok := m.open[uid]; ok {
		m.old[uid] = asked
		delete(m.open, uid)
	}
}

// again leaves a leg to another request.
func (m *askedMachine) again(l *askedModel, state LegState, next time.Time) {
	l.state, l.in, l.next = state, "", next
	l.asked++
}

func (m *askedMachine) GiveUp(rt *rapid.T) {
	uid := m.draw(rt, m.open)
	next := m.clock.in(5 * time.Second)
	n, err := m.s.CommitmentFailed(m.t.Context(), uid, "no report", next)
	must(m.t, err)
	for _, sop := range m.open[uid] {
		if l := m.legs[sop]; l.in == uid {
			m.again(l, LegSent, next)
			n--
		}
	}
	if n != 0 {
		rt.Fatalf("%d legs too many were given up", n)
	}
	m.over(uid)
}

func (m *askedMachine) Report(rt *rapid.T)     { m.report(rt, m.open) }
func (m *askedMachine) LateReport(rt *rapid.T) { m.report(rt, m.old) }

func (m *askedMachine) report(rt *rapid.T, from map[dicom.UID][]dicom.UID) {
	uid := m.draw(rt, from)
	verdicts := map[command.Status]LegState{0x0112: LegPending, 0x0213: LegSent, 0x0122: LegParked}
	r := &commitment.Result{TransactionUID: uid}
	next := m.clock.in(7 * time.Second)
	var want Settled
	for _, sop := range from[uid] {
		l := m.legs[sop]
		said := rapid.SampledFrom([]command.Status{0, 0, 0, 0x0112, 0x0213, 0x0122, 0xFFFF}).Draw(rt, "said")
		switch said {
		case 0:
			r.Committed = append(r.Committed, reference(sop))
			if l.state == LegSent && !l.sent.After(m.at[uid]) {
				l.state, l.in = LegDone, ""
				want.Done++
			}
			continue
		case 0xFFFF: // nothing
			said = 0x0213
		default:
			r.Failed = append(r.Failed, commitment.Failure{Reference: reference(sop), Reason: said})
		}
		if l.state == LegSent && l.in == uid {
			m.again(l, verdicts[said], next)
			if l.state == LegParked {
				want.Parked++
			} else {
				want.Again++
			}
		}
	}
	got, err := m.s.CommitmentReported(m.t.Context(), r, m.clock.now(), next, func(reason command.Status, _ int) LegState { return verdicts[reason] })
	if err != nil || got != want {
		rt.Fatalf("report %+v: settled %+v, %v, want %+v", r, got, err, want)
	}
	m.over(uid)
}

func (m *askedMachine) Wait(rt *rapid.T) {
	m.clock.advance(time.Duration(rapid.IntRange(1, 10).Draw(rt, "seconds")) * time.Second)
}

func (m *askedMachine) Restart(*rapid.T) {
	m.s = reopen(m.t, m.s, Options{Now: m.clock.now})
}

func (m *askedMachine) Check(rt *rapid.T) {
	records, err := m.s.Studies(m.t.Context(), Filter{})
	must(m.t, err)
	var got, want LegCount
	if len(records) > 0 {
		got = records[0].Legs[0]
	}
	want.Destination, want.LastDone = got.Destination, got.LastDone
	var since time.Time
	for _, l := range m.legs {
		switch l.state {
		case LegPending:
			want.Pending++
		case LegSent:
			want.Sent++
			if since.IsZero() || l.sent.Before(since) {
				since = l.sent
			}
		case LegDone:
			want.Done++
		case LegParked:
			want.Parked++
		}
	}
	if got != want {
		rt.Fatalf("legs %+v, want %+v", got, want)
	}
	if u, err := m.s.Uncommitted(m.t.Context(), "pacs"); err != nil || u.Legs != want.Sent || !u.Since.Equal(since) {
		rt.Fatalf("uncommitted %+v, %v, want %d since %v", u, err, want.Sent, since)
	}
}

func TestCommitmentRequestsAgainstAModel(t *testing.T) {
	dir, run := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		c := newClock()
		m := &askedMachine{
			t: t, clock: c, s: open(t, Options{Dir: filepath.Join(dir, fmt.Sprint(run)), Now: c.now}),
			legs: map[dicom.UID]*askedModel{}, open: map[dicom.UID][]dicom.UID{}, old: map[dicom.UID][]dicom.UID{}, at: map[dicom.UID]time.Time{},
		}
		defer func() { m.s.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"send": m.Send, "forward": m.Forward, "ask": m.Ask, "give up": m.GiveUp, "report": m.Report, "late report": m.LateReport,
			"wait": m.Wait, "restart": m.Restart, "": m.Check,
		})
	})
}

func TestRequestsOverARestart(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	ctx := t.Context()
	ask := func() *commitment.Request {
		t.Helper()
		rq, err := s.RequestCommitment(ctx, "pacs", c.now(), c.in(time.Minute), 10)
		if err != nil || rq == nil {
			t.Fatalf("request %+v, %v", rq, err)
		}
		return rq
	}
	i, _ := send(t, s, newSlice("1.2", 1))
	must(t, s.LegSent(ctx, legOf(t, s, i), 0, c.now(), c.now()))
	select {
	case <-s.CommitmentsDue("pacs"):
	default:
		t.Error("nobody was woken")
	}

	// One that died before the answer is asked again at once; the accepted one is waited for.
	interrupted := ask()
	s = reopen(t, s, Options{Now: c.now})
	must(t, s.InterruptedRequests(ctx, "pacs"))
	accepted := ask()
	must(t, s.CommitmentAsked(ctx, accepted.TransactionUID))
	s = reopen(t, s, Options{Now: c.now})
	must(t, s.InterruptedRequests(ctx, "pacs"))
	if rq, err := s.RequestCommitment(ctx, "pacs", c.now(), c.in(time.Minute), 10); err != nil || rq != nil {
		t.Errorf("asked again: %+v, %v", rq, err)
	}
	if due, ok, err := s.NextCommitmentDue(ctx, "pacs"); err != nil || !ok || !due.Equal(c.in(time.Minute)) {
		t.Errorf("due %v, %t, %v", due, ok, err)
	}
	if overdue, err := s.OverdueRequests(ctx, "pacs", c.now()); err != nil || len(overdue) != 0 {
		t.Errorf("overdue %+v, %v", overdue, err)
	}
	c.advance(time.Minute)
	if overdue, err := s.OverdueRequests(ctx, "pacs", c.now()); err != nil || len(overdue) != 1 || overdue[0].TransactionUID != accepted.TransactionUID {
		t.Errorf("overdue %+v, %v", overdue, err)
	}

	// The oldest of all is good enough to commit, once.
	judge := func(command.Status, int) LegState { t.Error("nothing failed"); return LegParked }
	r := &commitment.Result{TransactionUID: interrupted.TransactionUID, Committed: interrupted.References}
	for _, want := range []Settled{{Done: 1}, {}} {
		if got, err := s.CommitmentReported(ctx, r, c.now(), c.now(), judge); err != nil || got != want {
			t.Errorf("settled %+v, %v, want %+v", got, err, want)
		}
	}
	for _, uid := range []dicom.UID{interrupted.TransactionUID, accepted.TransactionUID} {
		if of, err := s.RequestedOf(ctx, uid); err != nil || of != "pacs" {
			t.Errorf("requested of %q, %v", of, err)
		}
	}
	if n, err := s.CommitmentFailed(ctx, accepted.TransactionUID, "no report", c.now()); err != nil || n != 0 {
		t.Errorf("given up %d, %v", n, err)
	}
	must(t, s.ForgetRequests(ctx, c.in(time.Second)))
	if _, err := s.RequestedOf(ctx, accepted.TransactionUID); !errors.Is(err, ErrUnknownTransaction) {
		t.Errorf("a forgotten request: %v", err)
	}
	if _, err := s.CommitmentReported(ctx, r, c.now(), c.now(), judge); !errors.Is(err, ErrUnknownTransaction) {
		t.Errorf("a report to a forgotten request: %v", err)
	}
}

// What is sent between the moment for which a request is made and the request itself is asked for too, and its
// commitment counts.
func TestSentJustBeforeTheRequest(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	ctx := t.Context()
	now := c.now()
	for n := range 2 {
		i, _ := send(t, s, newSlice("1.2", byte(n)))
		must(t, s.LegSent(ctx, legOf(t, s, i), 0, c.now(), c.now()))
		c.advance(time.Second)
	}
	rq, err := s.RequestCommitment(ctx, "pacs", now, c.in(time.Hour), 10)
	if err != nil || len(rq.References) != 2 {
		t.Fatalf("request %+v, %v", rq, err)
	}
	r := &commitment.Result{TransactionUID: rq.TransactionUID, Committed: rq.References}
	if settled, err := s.CommitmentReported(ctx, r, c.now(), c.now(), nil); err != nil || settled != (Settled{Done: 2}) {
		t.Errorf("settled %+v, %v", settled, err)
	}
}

// A ledger of the release before keeps its legs through the migration.
func TestMigrationKeepsLegs(t *testing.T) {
	path := filepath.Join(t.TempDir(), ledgerName)
	first, err := migrations.ReadFile("migrations/0001_ledger.sql")
	must(t, err)
	w, err := openWriter(t.Context(), dsn(path))
	must(t, err)
	_, err = w.conn.ExecContext(t.Context(), string(first)+`; PRAGMA user_version = 1;
		INSERT INTO studies (id, study_instance_uid, pseudonym, revision, first_received, last_received) VALUES (1, '1.2', 's-x', 1, 1, 1);
		INSERT INTO instances (id, study_id, name, sop_instance_uid, sop_class_uid, series_instance_uid, transfer_syntax_uid, calling_ae_title, sha256, size, data_offset, received_at)
			VALUES (1, 1, 'x', '1.2.3', '1.2', '', '1.2', '', x'00', 1, 1, 1);
		INSERT INTO legs VALUES (7, 1, 'pacs', 'parked', 1, 2, 3, 4, 'why', NULL), (8, 1, 'archive', 'done', 0, 0, 0, 0, '', 9);`)
	must(t, err)
	must(t, w.close())

	l, err := openLedger(t.Context(), path)
	must(t, err)
	defer l.close()
	var got string
	must(t, l.reading.QueryRowContext(t.Context(), `SELECT group_concat(concat_ws(' ', id, instance_id, destination, state, urgent, attempts, next_attempt, last_status, last_reason, done_at, sent_at, asked, refused, request_id), '; ')
		FROM (SELECT * FROM legs ORDER BY id)`).Scan(&got))
	if want := "7 1 pacs parked 1 2 3 4 why 0 0; 8 1 archive done 0 0 0 0  9 0 0"; got != want {
		t.Errorf("legs %q, want %q", got, want)
	}
}

// A clock that is set back delays neither a report nor a request, nor the end of the wait for one; and a report that
// comes after it still counts.
func TestCommitmentWhenTheClockIsSetBack(t *testing.T) {
	c := newClock()
	c.advance(365 * 24 * time.Hour)
	s := open(t, Options{Now: c.now})
	ctx := t.Context()
	for n := range 2 {
		i, _ := send(t, s, newSlice("1.2", byte(n)))
		must(t, s.LegSent(ctx, legOf(t, s, i), 0, c.now(), c.in(time.Duration(n)*time.Minute)))
	}
	rq, err := s.RequestCommitment(ctx, "pacs", c.now(), c.in(time.Hour), 1)
	must(t, err)
	must(t, s.CommitmentAsked(ctx, rq.TransactionUID))
	must(t, s.OpenTransaction(ctx, "CT1", requestOf("1.9", "1.2.3"), c.in(time.Minute), roomy))

	c.advance(-365 * 24 * time.Hour)
	must(t, s.ClockSetBack(ctx))
	if due, err := s.DueTransactions(ctx, "CT1", c.now(), 10); err != nil || len(due) != 1 {
		t.Errorf("reports due %+v, %v", due, err)
	}
	if again, err := s.RequestCommitment(ctx, "pacs", c.now(), c.in(time.Hour), 10); err != nil || again == nil || len(again.References) != 1 {
		t.Errorf("request %+v, %v", again, err)
	}
	if overdue, err := s.OverdueRequests(ctx, "pacs", c.in(time.Hour)); err != nil || len(overdue) != 1 {
		t.Errorf("overdue %+v, %v", overdue, err)
	}
	r := &commitment.Result{TransactionUID: rq.TransactionUID, Committed: rq.References}
	if settled, err := s.CommitmentReported(ctx, r, c.now(), c.now(), nil); err != nil || settled.Done != 1 {
		t.Errorf("settled %+v, %v", settled, err)
	}
}

// An instance that a report calls both committed and failed is not committed.
func TestReportThatContradictsItself(t *testing.T) {
	c := newClock()
	s := open(t, Options{Now: c.now})
	ctx := t.Context()
	for n := range 2 {
		i, _ := send(t, s, newSlice("1.2", byte(n)))
		must(t, s.LegSent(ctx, legOf(t, s, i), 0, c.now(), c.now()))
	}
	rq, err := s.RequestCommitment(ctx, "pacs", c.now(), c.in(time.Hour), 10)
	must(t, err)
	r := &commitment.Result{
		TransactionUID: rq.TransactionUID, Committed: rq.References,
		Failed: []commitment.Failure{{Reference: rq.References[0], Reason: command.StatusNoSuchSOPInstance}},
	}
	settled, err := s.CommitmentReported(ctx, r, c.now(), c.now(), func(command.Status, int) LegState { return LegPending })
	if want := (Settled{Done: 1, Again: 1}); err != nil || settled != want {
		t.Errorf("settled %+v, %v, want %+v", settled, err, want)
	}
}

// Who stops asking stops the reading, and takes nothing out of service by it.
func TestReadingForACommitmentEnds(t *testing.T) {
	s := open(t, Options{Destinations: []string{"pacs"}})
	i, _ := send(t, s, newSlice("1.2", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.verify(ctx, i); !errors.Is(err, context.Canceled) {
		t.Errorf("verify: %v", err)
	}
	if safe, err := s.isSafe(ctx, heldCopy{Instance: i, state: stored}); safe || !errors.Is(err, context.Canceled) {
		t.Errorf("isSafe: %t, %v", safe, err)
	}
	if err := s.verify(t.Context(), i); err != nil {
		t.Errorf("it is out of service: %v", err)
	}
}
