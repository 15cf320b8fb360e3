package commit

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// sent lets n instances have been stored by the destination.
func sent(t *testing.T, s *spool.Spool, n int) (sops []dicom.UID) {
	t.Helper()
	for i := range n {
		sops = append(sops, store(t, s, i))
	}
	forward(t, s)
	return sops
}

// forward walks the legs that are due as package forward does, and returns how
// many.
func forward(t *testing.T, s *spool.Spool) int {
	t.Helper()
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range legs {
		if err := s.LegSent(t.Context(), l.ID, 0, time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return len(legs)
}

func legs(t *testing.T, s *spool.Spool) (sum spool.LegCount) {
	t.Helper()
	records, err := s.Studies(t.Context(), spool.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		for _, l := range r.Legs {
			sum.Pending, sum.Sent, sum.Done, sum.Parked = sum.Pending+l.Pending, sum.Sent+l.Sent, sum.Done+l.Done, sum.Parked+l.Parked
		}
	}
	return sum
}

func requester(s *spool.Spool, addr string) *Requester {
	return &Requester{
		Spool: s, Destination: "pacs", Addr: addr, Dialer: dialer("ICHWATCH", "PACS"),
		Wait: 10 * time.Second, MinRetry: time.Millisecond, MaxRetry: 20 * time.Millisecond,
	}
}

// listenFor runs our listener for reports and returns where.
func listenFor(t *testing.T, rs ...*Requester) string {
	t.Helper()
	r := &Reports{Spool: rs[0].Spool, Requesters: rs, Log: rs[0].Log}
	return dimsetest.NewServer(t, deaf{}, func(s *dimse.Server) { s.EventReports = r }).Addr
}

// tell is a destination that reports over an association of its own.
func tell(t *testing.T, addr string, as dicom.AETitle, r *commitment.Result) dimse.Result {
	t.Helper()
	d := dialer(as, dimsetest.AETitle)
	a, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Abort()
	result, err := a.EventReport(t.Context(), eventReport(r), r.Encode)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	return result
}

func all(rq *commitment.Request) *commitment.Result {
	return &commitment.Result{TransactionUID: rq.TransactionUID, Committed: rq.References}
}

func TestCommittedOverTheSameAssociation(t *testing.T) {
	s := newSpool(t)
	pacs := &peer{report: func(_ int, rq *commitment.Request) *commitment.Result { return all(rq) }}
	q := requester(s, pacs.listen(t, "PACS"))
	q.Batch = 2
	sops := sent(t, s, 5)
	start(t, q.Run)
	eventually(t, "all is committed", func() bool { return legs(t, s) == spool.LegCount{Done: 5} })
	var asked []dicom.UID
	for _, rq := range pacs.requests() {
		if len(rq.References) > 2 {
			t.Errorf("%d references in one request", len(rq.References))
		}
		for _, r := range rq.References {
			asked = append(asked, r.SOPInstanceUID)
		}
	}
	slices.Sort(asked)
	if !slices.Equal(asked, sops) {
		t.Errorf("asked for %v, want %v", asked, sops)
	}
	if q.Status().Failing {
		t.Errorf("status %+v", q.Status())
	}
}

// The report comes to our listener, from that destination alone, before or after a restart of ours.
func TestCommittedOverANewAssociation(t *testing.T) {
	s := newSpool(t)
	pacs := new(peer)
	q := requester(s, pacs.listen(t, "PACS"))
	q.Wait = 0
	sent(t, s, 3)
	stop := start(t, q.Run)
	eventually(t, "it is asked, and that is in the ledger", func() bool {
		_, awaited, err := s.NextCommitmentDue(t.Context(), q.Destination)
		return err == nil && awaited && len(pacs.requests()) == 1
	})
	stop()

	again := requester(s, q.Addr)
	log, out := logger()
	again.Log = log
	start(t, again.Run)
	ours, report := listenFor(t, again), all(pacs.requests()[0])
	for _, test := range []struct {
		as   dicom.AETitle
		r    *commitment.Result
		want dimse.Status
	}{
		{"OTHER", report, dimse.StatusNotAuthorized},
		{"PACS", &commitment.Result{TransactionUID: "1.2.3", Committed: report.Committed}, command.StatusInvalidArgumentValue},
		{"PACS", report, dimse.StatusSuccess},
		{"PACS", report, dimse.StatusSuccess}, // a repetition
	} {
		if got := tell(t, ours, test.as, test.r); got.Status != test.want {
			t.Errorf("%s reports %s: %+v, want %v", test.as, test.r.TransactionUID, got, test.want)
		}
		if done := legs(t, s) == (spool.LegCount{Done: 3}); done != (test.want == dimse.StatusSuccess) {
			t.Errorf("after %s: legs %+v", test.as, legs(t, s))
		}
	}
	if count(out, "called_ae_title") != 1 {
		t.Errorf("the log does not say what to configure:\n%s", out)
	}
	if n := len(pacs.requests()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A PACS that cannot be asked, refuses, forgets, or is silent is asked again, in another transaction each time; a report
// to an earlier one counts.
func TestNoReport(t *testing.T) {
	s := newSpool(t)
	at := closedPort(t)
	pacs := &peer{action: func(n int, _ *commitment.Request) dimse.Status {
		if n <= 2 {
			return command.StatusResourceLimitation
		}
		return dimse.StatusSuccess
	}}
	q := requester(s, at)
	q.Wait, q.Timeout = 0, 50*time.Millisecond
	sent(t, s, 2)
	start(t, q.Run)
	eventually(t, "it cannot be asked", func() bool { return q.Status().Failures > 1 })
	pacs.serveAt(t, "PACS", at)
	eventually(t, "it is asked again and again", func() bool { return len(pacs.requests()) > 4 })
	if st := q.Status(); !st.Failing || st.Reason == "" || st.Since.IsZero() {
		t.Errorf("status %+v", st)
	}
	seen := map[dicom.UID]bool{}
	for _, rq := range pacs.requests() {
		if seen[rq.TransactionUID] || len(rq.References) != 2 {
			t.Errorf("asked with %+v", rq)
		}
		seen[rq.TransactionUID] = true
	}
	if result := tell(t, listenFor(t, q), "PACS", all(pacs.requests()[2])); result.Status != dimse.StatusSuccess {
		t.Errorf("answered %+v", result)
	}
	if got := legs(t, s); got != (spool.LegCount{Done: 2}) {
		t.Errorf("legs %+v", got)
	}
	if q.Status().Failing {
		t.Errorf("status %+v", q.Status())
	}
}

// What becomes of an instance by the reason why it is not committed.
func TestFailureReasons(t *testing.T) {
	for _, test := range []struct {
		reason command.Status
		times  int // that it is given
		resent int // how often the instance is sent again
		want   spool.LegCount
	}{
		{command.StatusNoSuchSOPInstance, 1, 1, spool.LegCount{Done: 1}},
		{command.StatusProcessingFailure, maxResends, maxResends, spool.LegCount{Done: 1}},
		{command.StatusNoSuchSOPInstance, 99, maxResends, spool.LegCount{Parked: 1}},
		{command.StatusResourceLimitation, 2, 0, spool.LegCount{Done: 1}},
		{command.StatusDuplicateTransactionUID, 1, 0, spool.LegCount{Done: 1}},
		{command.StatusClassInstanceConflict, 1, 0, spool.LegCount{Parked: 1}},
		{command.StatusSOPClassNotSupported, 1, 0, spool.LegCount{Parked: 1}},
		{0xC123, 1, 0, spool.LegCount{Parked: 1}},
	} {
		s := newSpool(t)
		pacs := &peer{report: func(n int, rq *commitment.Request) *commitment.Result {
			if n > test.times {
				return all(rq)
			}
			return &commitment.Result{TransactionUID: rq.TransactionUID, Failed: []commitment.Failure{{Reference: rq.References[0], Reason: test.reason}}}
		}}
		q := requester(s, pacs.listen(t, "PACS"))
		log, out := logger()
		q.Log = log
		sent(t, s, 1)
		stop := start(t, q.Run)
		resent := 0
		eventually(t, "the leg comes to its end", func() bool {
			resent += forward(t, s)
			return legs(t, s) == test.want
		})
		stop()
		if resent != test.resent {
			t.Errorf("%v, %d times: sent again %d times, want %d", test.reason, test.times, resent, test.resent)
		}
		if alarms := count(out, "level=ERROR"); alarms != test.want.Parked {
			t.Errorf("%v: %d alarms:\n%s", test.reason, alarms, out)
		}
	}
}

// What a report leaves out is asked for again; what it adds is nobody's business.
func TestReportThatIsNotComplete(t *testing.T) {
	s := newSpool(t)
	pacs := &peer{report: func(n int, rq *commitment.Request) *commitment.Result {
		if n > 1 {
			return all(rq)
		}
		return &commitment.Result{TransactionUID: rq.TransactionUID, Committed: append(references("1.2.99"), rq.References[1:]...)}
	}}
	q := requester(s, pacs.listen(t, "PACS"))
	sent(t, s, 3)
	start(t, q.Run)
	eventually(t, "all is committed", func() bool { return legs(t, s) == spool.LegCount{Done: 3} })
	if rqs := pacs.requests(); len(rqs) != 2 || len(rqs[1].References) != 1 {
		t.Errorf("asked with %+v", rqs)
	}
}

// A destination that does not offer the service is told of, and nothing is lost.
func TestDestinationWithoutStorageCommitment(t *testing.T) {
	s := newSpool(t)
	server := dimsetest.NewServer(t, deaf{}, func(s *dimse.Server) { s.AETitle = "PACS" })
	q := requester(s, server.Addr)
	log, out := logger()
	q.Log = log
	sent(t, s, 1)
	start(t, q.Run)
	eventually(t, "the log tells", func() bool { return count(out, "no accepted presentation context for Storage Commitment") > 0 })
	if got := legs(t, s); got != (spool.LegCount{Sent: 1}) {
		t.Errorf("legs %+v", got)
	}
}

// What a peer comments on its answer may name a patient: it goes into no log, and into no reason that somebody reads.
func TestPromise7_CommentsOfAPeerGoNowhere(t *testing.T) {
	s := newSpool(t)
	pacs := &peer{action: func(int, *commitment.Request) dimse.Status { return dimse.StatusProcessingFailure }}
	log, out := logger()
	q := requester(s, pacs.listen(t, "PACS"))
	q.Log = log
	sent(t, s, 1)
	start(t, q.Run)
	eventually(t, "the PACS has refused", func() bool { return q.Status().Failing && count(out, "level=WARN") > 0 })
	if reason := q.Status().Reason; !strings.Contains(reason, "0110H") || strings.Contains(reason, comment) {
		t.Errorf("reason %q", reason)
	}
	if count(out, comment) > 0 {
		t.Errorf("log:\n%s", out)
	}
}
