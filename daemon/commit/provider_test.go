package commit

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// provide serves storage commitment to scanners; it returns where.
func provide(t *testing.T, p *Provider) string {
	t.Helper()
	if p.MinRetry == 0 {
		p.MinRetry, p.MaxRetry = 5*time.Millisecond, 50*time.Millisecond
	}
	return dimsetest.NewServer(t, deaf{}, func(s *dimse.Server) { s.Actions = p }).Addr
}

// Checklist: "Storage commitment: N-ACTION in, N-EVENT-REPORT out on the same association".
func TestChecklist_ReportOnTheSameAssociation(t *testing.T) {
	s := newSpool(t)
	sop := store(t, s, 1)
	p := &Provider{Spool: s, SameAssociation: true}
	addr, scanner := provide(t, p), new(peer)
	for _, transaction := range []dicom.UID{"1.9.1", "1.9.1", "1.9.2"} { // a repetition is answered like the first
		a, result := ask(t, addr, &commitment.Request{TransactionUID: transaction, References: references("1.2.99", sop)})
		if result.Status != dimse.StatusSuccess {
			t.Fatalf("answered %+v", result)
		}
		if came, err := a.AwaitEventReport(t.Context(), dimsetest.Timeout, scanner); !came || err != nil {
			t.Fatalf("report %t, %v", came, err)
		}
		want := &commitment.Result{
			TransactionUID: transaction, Committed: references(sop),
			Failed: []commitment.Failure{{Reference: references("1.2.99")[0], Reason: command.StatusNoSuchSOPInstance}},
		}
		got := scanner.results()
		if diff := cmp.Diff(want, got[len(got)-1]); diff != "" {
			t.Error(diff)
		}
		if err := a.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "every report is delivered", func() bool { return len(open(t, s)) == 0 })
}

func open(t *testing.T, s *spool.Spool) []spool.CommitmentTransaction {
	t.Helper()
	open, err := s.OpenTransactions(t.Context(), "CT1", 100)
	if err != nil {
		t.Fatal(err)
	}
	return open
}

// Checklist: "or a new association with role reversal". The scanner's own association is not used where it must not be,
// and where it ends, or the scanner refuses there, the report comes over another one at once.
func TestChecklist_ReportOnANewAssociation(t *testing.T) {
	for _, test := range []struct {
		name string
		same bool
		then func(t *testing.T, a *dimse.Association)
	}{
		{"it is preferred", false, func(t *testing.T, a *dimse.Association) {
			if came, err := a.AwaitEventReport(t.Context(), 50*time.Millisecond, new(peer)); came || err != nil {
				t.Errorf("over the same association: %t, %v", came, err)
			}
		}},
		{"the scanner releases", true, func(t *testing.T, a *dimse.Association) {
			if err := a.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}},
		{"the scanner aborts", true, func(_ *testing.T, a *dimse.Association) { _ = a.Abort() }},
		{"the scanner refuses", true, func(t *testing.T, a *dimse.Association) {
			refusing := &peer{taken: func(int, *dimse.Association) (dimse.Status, bool) { return dimse.StatusUnrecognizedOperation, true }}
			if came, err := a.AwaitEventReport(t.Context(), dimsetest.Timeout, refusing); !came || err != nil {
				t.Errorf("over the same association: %t, %v", came, err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSpool(t)
			sop := store(t, s, 1)
			scanner := new(peer)
			p := &Provider{Spool: s, SameAssociation: test.same, Peers: at(scanner.listen(t, "CT1"))}
			addr := provide(t, p)
			start(t, p.Run)
			a, result := ask(t, addr, &commitment.Request{TransactionUID: "1.9", References: references(sop)})
			if result.Status != dimse.StatusSuccess {
				t.Fatalf("answered %+v", result)
			}
			test.then(t, a)
			eventually(t, "the report comes over a new association", func() bool { return len(scanner.results()) == 1 })
			want := &commitment.Result{TransactionUID: "1.9", Committed: references(sop)}
			if diff := cmp.Diff(want, scanner.results()[0]); diff != "" {
				t.Error(diff)
			}
			eventually(t, "it is delivered", func() bool { return len(open(t, s)) == 0 })
		})
	}
}

// at is where the scanner CT1 takes reports.
func at(addr string) map[dicom.AETitle]Peer {
	return map[dicom.AETitle]Peer{"CT1": {Addr: addr, Dialer: dialer("ICHWATCH", "")}}
}

// Checklist: "transaction persisted, retried". The request was answered with success; whatever becomes of us and of the
// scanner, its report arrives.
func TestChecklist_TransactionPersistedAndRetried(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openSpool(t, dir)
	sop := store(t, s, 1)
	nobody := closedPort(t)
	first := &Provider{Spool: s, Peers: at(nobody)}
	log, out := logger()
	first.Log = log
	addr := provide(t, first)
	stop := start(t, first.Run)
	for _, transaction := range []dicom.UID{"1.9.1", "1.9.2"} {
		if _, result := ask(t, addr, &commitment.Request{TransactionUID: transaction, References: references(sop)}); result.Status != dimse.StatusSuccess {
			t.Fatalf("answered %+v", result)
		}
	}
	eventually(t, "nobody is there", func() bool { return first.Status()["CT1"].Failures > 2 })
	stop()
	if n := count(out, "level=WARN"); n == 0 || n > 4 {
		t.Errorf("%d warnings:\n%s", n, out)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openSpool(t, dir)
	scanner := &peer{taken: func(n int, _ *dimse.Association) (dimse.Status, bool) {
		switch n {
		case 1:
			return 0, false
		case 2:
			return dimse.StatusProcessingFailure, true
		}
		return dimse.StatusSuccess, true
	}}
	scanner.serveAt(t, "CT1", nobody)
	second := &Provider{Spool: s, Peers: at(nobody), MinRetry: time.Millisecond, MaxRetry: 5 * time.Millisecond}
	start(t, second.Run)
	eventually(t, "both reports are delivered", func() bool { return len(open(t, s)) == 0 })
	last := map[dicom.UID]bool{}
	for _, r := range scanner.results() {
		last[r.TransactionUID] = true
	}
	if len(scanner.results()) != 4 || !last["1.9.1"] || !last["1.9.2"] {
		t.Errorf("told %+v", scanner.results())
	}
	if second.Status()["CT1"].Failing {
		t.Errorf("status %+v", second.Status())
	}
}

// A report that a scanner never takes does not hold up the others.
func TestRefusedReportLetsOthersPass(t *testing.T) {
	s := newSpool(t)
	sop := store(t, s, 1)
	scanner := &peer{}
	scanner.taken = func(int, *dimse.Association) (dimse.Status, bool) {
		if scanner.told[len(scanner.told)-1].TransactionUID == "1.9.1" {
			return dimse.StatusProcessingFailure, true
		}
		return dimse.StatusSuccess, true
	}
	p := &Provider{Spool: s, Peers: at(scanner.listen(t, "CT1"))}
	addr := provide(t, p)
	for _, transaction := range []dicom.UID{"1.9.1", "1.9.2", "1.9.3"} {
		ask(t, addr, &commitment.Request{TransactionUID: transaction, References: references(sop)})
	}
	start(t, p.Run)
	eventually(t, "the others are delivered", func() bool {
		left := open(t, s)
		return len(left) == 1 && left[0].Request.TransactionUID == "1.9.1" && left[0].Attempts > 1
	})
}

// One alarm, and an end of the attempts.
func TestReportIsGivenUpAtItsAge(t *testing.T) {
	s := newSpool(t)
	log, out := logger()
	p := &Provider{Spool: s, SameAssociation: true, MaxAge: time.Nanosecond, Log: log}
	a, _ := ask(t, provide(t, p), &commitment.Request{TransactionUID: "1.9", References: references("1.2.3")})
	if err := a.Release(t.Context()); err != nil { // CT1 has no address
		t.Fatal(err)
	}
	eventually(t, "the log says what to configure", func() bool { return count(out, "commitment.address") == 1 })
	start(t, p.Run)
	eventually(t, "it is given up", func() bool { return len(open(t, s)) == 0 })
	p.sweep(t.Context())
	if count(out, "level=ERROR") != 1 || count(out, "given up") != 1 {
		t.Errorf("log:\n%s", out)
	}
}

// What is not accepted is refused with a status that says why, before it costs anything.
func TestRequestsThatAreRefused(t *testing.T) {
	rq := func(transaction dicom.UID, sops ...dicom.UID) *commitment.Request {
		return &commitment.Request{TransactionUID: transaction, References: references(sops...)}
	}
	for _, test := range []struct {
		name     string
		provider *Provider
		before   *commitment.Request
		rq       *commitment.Request
		want     dimse.Status
	}{
		{"nowhere to report to", &Provider{}, nil, rq("1.9", "1.2.3"), dimse.StatusNotAuthorized},
		{"as many as there may be", &Provider{SameAssociation: true, MaxReferences: 2}, nil, rq("1.9", "1.2.3", "1.2.4"), dimse.StatusSuccess},
		{"too many references", &Provider{SameAssociation: true, MaxReferences: 2}, nil, rq("1.9", "1.2.3", "1.2.4", "1.2.5"), command.StatusResourceLimitation},
		{"too many transactions", &Provider{SameAssociation: true, MaxOpen: 1}, rq("1.9.1", "1.2.3"), rq("1.9.2", "1.2.3"), command.StatusResourceLimitation},
		{"a transaction UID used for something else", &Provider{SameAssociation: true}, rq("1.9", "1.2.3"), rq("1.9", "1.2.4"), command.StatusInvalidArgumentValue},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSpool(t)
			p := test.provider
			p.Spool = s
			if test.before != nil {
				if err := s.OpenTransaction(t.Context(), "CT1", test.before, time.Now(), spool.TransactionLimits{PerPeer: 9, All: 9}); err != nil {
					t.Fatal(err)
				}
			}
			was := len(open(t, s))
			a, result := ask(t, provide(t, p), test.rq)
			if result.Status != test.want || (result.ErrorComment == "") != (test.want == dimse.StatusSuccess) {
				t.Errorf("answered %+v, want %v", result, test.want)
			}
			_ = a.Abort()
			if test.want != dimse.StatusSuccess && len(open(t, s)) != was {
				t.Errorf("recorded %+v", open(t, s))
			}
		})
	}
}

// A peer that answers with neither success nor a warning has not taken the report, and a destination has not taken the
// request, even where the status is no failure.
func TestWhatIsNotDoneIsTriedAgain(t *testing.T) {
	for _, status := range []dimse.Status{command.StatusCancel, command.StatusPending, 0xFF01, 0xFFFF} {
		s := newSpool(t)
		sop := store(t, s, 1)
		scanner := &peer{taken: func(n int, _ *dimse.Association) (dimse.Status, bool) {
			if n < 3 {
				return status, true
			}
			return dimse.StatusSuccess, true
		}}
		p := &Provider{Spool: s, SameAssociation: true, Peers: at(scanner.listen(t, "CT1"))}
		addr := provide(t, p)
		stop := start(t, p.Run)
		a, _ := ask(t, addr, &commitment.Request{TransactionUID: "1.9", References: references(sop)})
		if came, err := a.AwaitEventReport(t.Context(), dimsetest.Timeout, scanner); !came || err != nil {
			t.Fatalf("%v: report %t, %v", status, came, err)
		}
		eventually(t, "the report is taken", func() bool { return len(open(t, s)) == 0 })
		stop()
		if n := len(scanner.results()); n != 3 {
			t.Errorf("%v: %d reports, want one over the same association, and two over new ones", status, n)
		}

		pacs := &peer{
			action: func(n int, _ *commitment.Request) dimse.Status {
				if n == 1 {
					return status
				}
				return dimse.StatusSuccess
			},
			report: func(_ int, rq *commitment.Request) *commitment.Result { return all(rq) },
		}
		q := requester(s, pacs.listen(t, "PACS"))
		q.Wait = 100 * time.Millisecond
		forward(t, s)
		stop = start(t, q.Run)
		eventually(t, "it is committed", func() bool { return legs(t, s) == spool.LegCount{Done: 1} })
		stop()
	}
}

// Reports that the scanner refuses keep none of the others from it: each is tried once over an association, the oldest
// first.
func TestRefusedReportsStarveNone(t *testing.T) {
	s := newSpool(t)
	sop := store(t, s, 1)
	var want []dicom.UID
	limits := spool.TransactionLimits{PerPeer: 100, All: 100}
	for n := range maxPending + 4 {
		transaction := dicom.UID("1.9." + strconv.Itoa(n+1))
		want = append(want, transaction)
		rq := &commitment.Request{TransactionUID: transaction, References: references(sop)}
		if err := s.OpenTransaction(t.Context(), "CT1", rq, time.Now(), limits); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := ask(t, provide(t, &Provider{Spool: s, SameAssociation: true}), &commitment.Request{TransactionUID: "1.9.99", References: references(sop)})
	want = append(want, "1.9.99")
	scanner := &peer{taken: func(int, *dimse.Association) (dimse.Status, bool) { return dimse.StatusProcessingFailure, true }}
	for range want {
		if came, err := a.AwaitEventReport(t.Context(), dimsetest.Timeout, scanner); !came || err != nil {
			t.Fatalf("report %t, %v, after %d", came, err, len(scanner.results()))
		}
	}
	var got []dicom.UID
	for _, r := range scanner.results() {
		got = append(got, r.TransactionUID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Who waits for the turn to read waits no longer than for the end.
func TestWaitForTheTurnEnds(t *testing.T) {
	p := &Provider{Spool: newSpool(t), reading: make(chan struct{}, 1)}
	p.reading <- struct{}{} // somebody reads
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.result(ctx, spool.CommitmentTransaction{}); !errors.Is(err, context.Canceled) {
		t.Errorf("result: %v", err)
	}
	<-p.reading
	if _, err := p.result(t.Context(), spool.CommitmentTransaction{}); err != nil || len(p.reading) != 0 {
		t.Errorf("result: %v, %d still read", err, len(p.reading))
	}
}

// Checklist: "N-EVENT-REPORT out, on a later association": one that the scanner opens after a restart of ours, without
// asking anything anew.
func TestChecklist_ReportOnALaterAssociation(t *testing.T) {
	s := newSpool(t)
	sop := store(t, s, 1)
	for _, transaction := range []dicom.UID{"1.9.1", "1.9.2"} {
		rq := &commitment.Request{TransactionUID: transaction, References: references(sop)}
		if err := s.OpenTransaction(t.Context(), "CT1", rq, time.Now(), spool.TransactionLimits{PerPeer: 10, All: 10}); err != nil {
			t.Fatal(err)
		}
	}
	addr, scanner := provide(t, &Provider{Spool: s, SameAssociation: true}), new(peer)
	d := dialer("CT1", "ICHWATCH")
	d.Contexts = append(d.Contexts, dimse.ProposedContext{AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}})
	a, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Abort()
	if status, err := a.Echo(t.Context()); err != nil || status != dimse.StatusSuccess {
		t.Fatalf("C-ECHO: %v, %v", status, err)
	}
	for range 2 {
		if came, err := a.AwaitEventReport(t.Context(), dimsetest.Timeout, scanner); !came || err != nil {
			t.Fatalf("report %t, %v", came, err)
		}
	}
	eventually(t, "both are delivered", func() bool { return len(open(t, s)) == 0 })
}

// A request is answered before anything is read for its report. A scanner that goes away meanwhile stops the reading, and
// its report goes over a new association at once.
func TestReportOfAScannerThatGoesAway(t *testing.T) {
	s := newSpool(t)
	sop := store(t, s, 1)
	scanner := new(peer)
	p := &Provider{Spool: s, SameAssociation: true, Peers: at(scanner.listen(t, "CT1")), reading: make(chan struct{}, 1)}
	p.reading <- struct{}{} // somebody else's instances are read
	addr := provide(t, p)
	start(t, p.Run)
	a, result := ask(t, addr, &commitment.Request{TransactionUID: "1.9", References: references(sop)})
	if result.Status != dimse.StatusSuccess {
		t.Fatalf("answered %+v", result)
	}
	if len(open(t, s)) != 1 {
		t.Error("answered before it was recorded")
	}
	_ = a.Abort()
	eventually(t, "the attempt is over", func() bool { return open(t, s)[0].Attempts == 1 })
	<-p.reading
	eventually(t, "the report comes over a new association", func() bool { return len(scanner.results()) == 1 })
}
