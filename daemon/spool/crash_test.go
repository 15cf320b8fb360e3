package spool

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
)

// The crash tests run a whole shift of the spool's work in a child process that
// kills itself (SIGKILL) at one of its durable steps, and then hold what the
// child had told the world against what a new process finds on the disk.

// crashEnv carries a crash to the child.
const crashEnv = "ICHWATCH_SPOOL_CRASH"

type crash struct {
	Dir   string
	Step  string
	Count int // at which time of the step
}

// crashingChild is the child's main.
func crashingChild() {
	var c crash
	if err := json.Unmarshal([]byte(os.Getenv(crashEnv)), &c); err != nil {
		panic(err)
	}
	left := c.Count
	o := shiftOptions(c.Dir)
	o.Hook = func(step string) {
		if step != c.Step {
			return
		}
		if left--; left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
	s, err := Open(context.Background(), o)
	if err == nil {
		err = newWorld(os.Stdout).shift(context.Background(), s)
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// shiftOptions are of a spool that sends everything to the PACS, and what is
// suspicious in the end to a ward too.
func shiftOptions(dir string) Options {
	return Options{Dir: dir, Destinations: []string{"pacs", "ward"}, Route: onlyPositives, Device: "ct1"}
}

// world is all that is outside the spool: what the scanner was told, what the
// PACS has, what the broker has taken, whether a person has answered.
type world struct {
	told     io.Writer
	acked    map[dicom.UID]bool
	atPACS   map[dicom.UID]bool
	atWard   map[dicom.UID]bool
	messages map[string]int // by alert id, seq and type: how often
	answered bool

	asked     bool               // the scanner's request for a commitment was answered with success
	reported  bool               // and its report has reached the scanner
	committed map[dicom.UID]bool // what the PACS has committed itself to
	requests  map[dicom.UID]int  // of ours at the PACS, by transaction: 1 asked, 2 reported
}

func newWorld(w io.Writer) *world {
	return &world{told: w, acked: map[dicom.UID]bool{}, atPACS: map[dicom.UID]bool{}, atWard: map[dicom.UID]bool{}, messages: map[string]int{}, committed: map[dicom.UID]bool{}, requests: map[dicom.UID]int{}}
}

// tell lets something happen outside, and notes it where a crash does not reach.
func (w *world) tell(what string, about string) {
	fmt.Fprintln(w.told, what, about)
	w.learn(what, about)
}

func (w *world) learn(what, about string) {
	switch what {
	case "ack":
		w.acked[dicom.UID(about)] = true
	case "pacs":
		w.atPACS[dicom.UID(about)] = true
	case "ward":
		w.atWard[dicom.UID(about)] = true
	case "message":
		w.messages[about]++
	case "answered":
		w.answered = true
	case "asked":
		w.asked = true
	case "reported":
		w.reported = true
	case "committed":
		w.committed[dicom.UID(about)] = true
	case "request":
		w.requests[dicom.UID(about)] = 1
	case "report":
		w.requests[dicom.UID(about)] = 2
	}
}

// The shift: a study that is normal and one that is not, three slices each.
var (
	normalStudy     = dicom.UID("1.2.1")
	suspiciousStudy = dicom.UID("1.2.2")
	shiftSlices     = []slice{
		newSlice(normalStudy, 1), newSlice(suspiciousStudy, 1), newSlice(normalStudy, 2),
		newSlice(suspiciousStudy, 2), newSlice(normalStudy, 3), newSlice(suspiciousStudy, 3),
	}
)

// shift does the whole work, or what is left of it.
func (w *world) shift(ctx context.Context, s *Spool) error {
	if err := s.ClockSetBack(ctx); err != nil { // as at every start
		return err
	}
	for _, work := range []func(context.Context, *Spool) error{
		w.receive, w.ask, w.triage, w.publish, w.escalate, w.publish, w.answer, w.forward, w.forwardToWard, w.beAsked, w.forget,
	} {
		if err := work(ctx, s); err != nil {
			return err
		}
	}
	if err := s.ClockSetBack(ctx); err != nil {
		return err
	}
	_, err := s.Remove(ctx, time.Now(), Retention{})
	return err
}

func (w *world) receive(_ context.Context, s *Spool) error {
	for _, c := range shiftSlices {
		if w.acked[c.sop] {
			continue
		}
		s.StudyOpened(c.study, string(c.sop))
		if _, _, err := trySend(s, c); err != nil {
			return err
		}
		w.tell("ack", string(c.sop))
		s.AssociationClosed(string(c.sop), true)
	}
	return nil
}

func (w *world) triage(ctx context.Context, s *Spool) error {
	if _, err := s.RetryFindings(ctx); err != nil { // as at every start
		return err
	}
	pending, err := s.PendingSlices(ctx, 100)
	if err != nil {
		return err
	}
	for _, i := range pending {
		if err := s.RecordFinding(ctx, Finding{InstanceID: i.ID, State: FindingFailed, Reason: "no model in service"}); err != nil {
			return err
		}
		if _, err := s.RetryFindings(ctx); err != nil {
			return err
		}
		if err := s.RecordFinding(ctx, Finding{InstanceID: i.ID, State: FindingClassified, Probabilities: []float32{0.5}}); err != nil {
			return err
		}
		if i.StudyInstanceUID == suspiciousStudy {
			if _, err := s.Decide(ctx, early(suspiciousStudy, "1.2.2.1.2")); err != nil {
				return err
			}
		}
	}
	quiet, err := s.QuietStudies(ctx, time.Now().Add(time.Hour))
	if err != nil {
		return err
	}
	for _, study := range quiet {
		d := final(study.StudyInstanceUID, study.Revision, alerts.Negative, "")
		if study.StudyInstanceUID == suspiciousStudy {
			d = positive(suspiciousStudy, study.Revision, "1.2.2.1.2")
		}
		if _, err := s.Decide(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) publish(ctx context.Context, s *Spool) error {
	for {
		entries, err := s.PendingMessages(ctx, time.Now(), 100)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if e.Attempts == 0 { // everything fails once
				if err := s.MessageFailed(ctx, e.ID, "no broker", time.Now()); err != nil {
					return err
				}
				continue
			}
			var m alerts.Message
			if e.Topic == alerts.TopicAlert {
				if err := json.Unmarshal(e.Payload, &m); err != nil {
					return err
				}
				w.tell("message", fmt.Sprintf("%s/%d/%s", m.AlertID, m.Seq, m.Type))
			} else {
				w.tell("message", "outcome/"+e.Key)
			}
			if err := s.MessageDelivered(ctx, e.ID, time.Now()); err != nil {
				return err
			}
		}
	}
}

func (w *world) escalate(ctx context.Context, s *Spool) error {
	open, err := s.OpenAlerts(ctx)
	if err != nil {
		return err
	}
	for _, a := range open {
		if a.Level == 0 {
			if err := s.Escalate(ctx, a.AlertID, 1, time.Now()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) answer(ctx context.Context, s *Spool) error {
	open, err := s.OpenAlerts(ctx)
	if err != nil {
		return err
	}
	for _, a := range open {
		if err := s.Acknowledge(ctx, alerts.Acknowledgement{AlertID: a.AlertID, By: "on call", At: time.Now(), Via: "page"}); err != nil {
			return err
		}
		w.tell("answered", a.AlertID)
	}
	return nil
}

func (w *world) forward(ctx context.Context, s *Spool) error {
	if _, err := s.RetrySelected(ctx, LegSelection{States: []LegState{LegParked}}); err != nil {
		return err
	}
	for {
		legs, err := s.DueLegs(ctx, "pacs", time.Now(), 100)
		if err != nil || len(legs) == 0 {
			return err
		}
		for _, l := range legs {
			switch l.Attempts { // each fails once, is parked and released once
			case 0:
				err = s.LegFailed(ctx, l.ID, 0xA700, "out of resources", time.Now())
			case 1:
				if err = s.LegParked(ctx, l.ID, 0xA900, "mismatch"); err == nil {
					_, err = s.RetryLegs(ctx, "pacs")
				}
			default: // a person parks it, and thinks better of it
				sel := LegSelection{Legs: []int64{l.ID}}
				if _, err = s.ParkSelected(ctx, sel, "wait"); err == nil {
					_, err = s.RetrySelected(ctx, sel)
				}
				if err != nil {
					return err
				}
				w.tell("pacs", string(l.Instance.SOPInstanceUID))
				if l.Instance.StudyInstanceUID == suspiciousStudy {
					err = s.LegSent(ctx, l.ID, 0, time.Now(), time.Now())
				} else {
					err = s.LegDone(ctx, l.ID, 0, time.Now())
				}
			}
			if err != nil {
				return err
			}
		}
	}
}

func (w *world) forwardToWard(ctx context.Context, s *Spool) error {
	legs, err := s.DueLegs(ctx, "ward", time.Now(), 100)
	for _, l := range legs {
		if err := s.LegSentAs(ctx, l.ID, dicom.ExplicitVRLittleEndian); err != nil {
			return err
		}
		w.tell("ward", string(l.Instance.SOPInstanceUID))
		if err := s.LegDone(ctx, l.ID, 0, time.Now()); err != nil {
			return err
		}
	}
	return err
}

// shiftRequest is what the scanner asks us to commit ourselves to.
func shiftRequest() *commitment.Request {
	rq := &commitment.Request{TransactionUID: "1.2.99"}
	for _, c := range shiftSlices {
		rq.References = append(rq.References, commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: c.sop})
	}
	return rq
}

// ask is the scanner asking for a commitment, and getting its report at the
// second attempt. A scanner without an answer asks again.
func (w *world) ask(ctx context.Context, s *Spool) error {
	if !w.asked {
		if err := s.OpenTransaction(ctx, "SCANNER", shiftRequest(), time.Now(), TransactionLimits{1, 1}); err != nil {
			return err
		}
		w.tell("asked", "")
	}
	for {
		open, err := s.DueTransactions(ctx, "SCANNER", time.Now(), 10)
		if err != nil || len(open) == 0 {
			return err
		}
		r, err := s.Commitment(ctx, &open[0].Request)
		if err != nil {
			return err
		}
		if len(r.Failed) > 0 || len(r.Committed) != len(shiftSlices) {
			return fmt.Errorf("committed to %d and not to %+v", len(r.Committed), r.Failed)
		}
		if open[0].Attempts == 0 {
			if err := s.ReportFailed(ctx, open[0].ID, "no scanner", time.Now()); err != nil {
				return err
			}
			continue
		}
		w.tell("reported", "")
		if err := s.ReportDelivered(ctx, open[0]); err != nil {
			return err
		}
	}
}

// beAsked is the PACS being asked for its commitment. Its first report fails the
// first slice it names, which is sent again; a report of its may come twice.
func (w *world) beAsked(ctx context.Context, s *Spool) error {
	if err := s.InterruptedRequests(ctx, "pacs"); err != nil { // as at every start
		return err
	}
	for {
		for uid, state := range w.requests {
			if state == 1 { // it was lost on its way; what was asked for is asked for again
				if _, err := s.CommitmentFailed(ctx, uid, "no report", time.Now()); err != nil {
					return err
				}
				w.tell("report", string(uid))
			}
		}
		rq, err := s.RequestCommitment(ctx, "pacs", time.Now(), time.Now().Add(time.Hour), 100)
		if err != nil {
			return err
		}
		if rq == nil {
			n, err := s.SentIsDone(ctx, "pacs")
			if err == nil && n > 0 {
				err = fmt.Errorf("%d legs were left without a commitment", n)
			}
			return err
		}
		w.tell("request", string(rq.TransactionUID))
		if err := s.CommitmentAsked(ctx, rq.TransactionUID); err != nil {
			return err
		}
		switch len(w.requests) {
		case 1:
			continue // and no report comes
		case 2:
			r := &commitment.Result{TransactionUID: rq.TransactionUID, Committed: rq.References[1:], Failed: []commitment.Failure{{Reference: rq.References[0], Reason: 0x0112}}}
			if err := w.report(ctx, s, r); err != nil {
				return err
			}
			if err := w.forward(ctx, s); err != nil { // once more
				return err
			}
		default:
			if err := w.report(ctx, s, &commitment.Result{TransactionUID: rq.TransactionUID, Committed: rq.References}); err != nil {
				return err
			}
		}
	}
}

func (w *world) report(ctx context.Context, s *Spool, r *commitment.Result) error {
	for _, c := range r.Committed {
		w.tell("committed", string(c.SOPInstanceUID))
	}
	_, err := s.CommitmentReported(ctx, r, time.Now(), time.Now(), func(command.Status, int) LegState { return LegPending })
	if err == nil {
		w.tell("report", string(r.TransactionUID))
	}
	return err
}

// forget is what is done of an evening.
func (w *world) forget(ctx context.Context, s *Spool) error {
	if err := s.ForgetRequests(ctx, time.Now()); err != nil {
		return err
	}
	parked, err := s.ParkTransactions(ctx, time.Now())
	if err == nil && len(parked) > 0 {
		err = fmt.Errorf("parked %+v", parked)
	}
	return err
}

// check holds the spool against the world.
func (w *world) check(t *testing.T, s *Spool) {
	t.Helper()
	for _, c := range shiftSlices {
		copies, err := s.copies(t.Context(), c.sop)
		if err != nil {
			t.Fatal(err)
		}
		i, held := copies.stored(c.sum())
		switch {
		case held && !bytes.Equal(read(t, s, i.ID), c.dataSet()):
			t.Errorf("%s came back as other bytes", c.sop)
		case !held && w.asked && !w.atPACS[c.sop]:
			t.Errorf("%s was committed to the scanner, is not at the PACS and is gone: %+v", c.sop, copies)
		case !held && c.study == suspiciousStudy && !w.committed[c.sop]:
			if len(copies) > 0 && copies[0].state != missing {
				t.Errorf("%s was removed before the PACS had committed itself: %+v", c.sop, copies)
			}
		case !held && w.acked[c.sop] && !w.atPACS[c.sop]:
			t.Errorf("%s was acknowledged, is not at the PACS and is gone: %+v", c.sop, copies)
		}
		if len(copies) > 1 {
			t.Errorf("%s is there %d times", c.sop, len(copies))
		}
	}
	id := alerts.ID("ct1", s.Pseudonym(suspiciousStudy), 1)
	for m := range w.messages {
		if !strings.HasPrefix(m, id) && !strings.HasPrefix(m, "outcome/") {
			t.Errorf("an alert has another id: %s, want %s", m, id)
		}
	}
	if w.answered {
		if open, err := s.OpenAlerts(t.Context()); err != nil || len(open) > 0 {
			t.Errorf("a person has answered and is asked again: %+v, %v", open, err)
		}
	}
}

// checkDone is check after everything was done.
func (w *world) checkDone(t *testing.T, s *Spool) {
	t.Helper()
	w.check(t, s)
	id := alerts.ID("ct1", s.Pseudonym(suspiciousStudy), 1)
	for _, m := range []string{
		id + "/1/new", id + "/2/escalate", "outcome/" + s.Pseudonym(normalStudy), "outcome/" + s.Pseudonym(suspiciousStudy),
	} {
		if w.messages[m] == 0 {
			t.Errorf("never said: %s; said %v", m, w.messages)
		}
	}
	if len(w.messages) != 4 {
		t.Errorf("said %v", w.messages)
	}
	for _, c := range shiftSlices {
		if suspicious := c.study == suspiciousStudy; w.atWard[c.sop] != suspicious {
			t.Errorf("%s of a suspicious study %t is at the ward %t", c.sop, suspicious, w.atWard[c.sop])
		}
	}
	records, err := s.Studies(t.Context(), Filter{})
	if err != nil || len(records) != 2 {
		t.Fatalf("records %+v, %v", records, err)
	}
	for _, r := range records {
		if ward := r.Legs[len(r.Legs)-1]; r.StudyInstanceUID == suspiciousStudy && (ward.Done != 3 || ward.Transcoded != 3) {
			t.Errorf("to the ward %+v", ward)
		}
		if r.Instances != 3 || r.Removed != 3 || r.Missing != 0 || !r.Balances() || r.Legs[0].Done != 3 || r.Outcome == "" {
			t.Errorf("record %+v", r)
		}
		if r.StudyInstanceUID == suspiciousStudy && (len(r.Alerts) != 1 || r.Alerts[0].State != alerts.StateAcknowledged) {
			t.Errorf("alerts %+v", r.Alerts)
		}
	}
	if !w.asked || !w.reported {
		t.Errorf("the scanner's request was asked %t, reported %t", w.asked, w.reported)
	}
	if files, err := filepath.Glob(filepath.Join(s.dir, instancesDir, "*", "*")); err != nil || len(files) > 0 {
		t.Errorf("files were left behind: %v, %v", files, err)
	}
}

// run lets a child work on the spool until it dies, and returns whether it did.
func (w *world) run(t *testing.T, c crash) (killed bool) {
	t.Helper()
	order, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), crashEnv+"="+string(order))
	child.Stderr = os.Stderr
	var told bytes.Buffer
	child.Stdout = &told
	err = child.Run()
	lines := bufio.NewScanner(&told)
	for lines.Scan() {
		what, about, _ := strings.Cut(lines.Text(), " ")
		if what == "error" {
			t.Fatalf("child: %s", about)
		}
		w.learn(what, about)
	}
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended otherwise: %v", err)
	}
	return true
}

// ofRecovery are the steps that only a damaged spool comes to.
var ofRecovery = []string{
	StepQuarantined, StepLedgerMovedAside,
	StepAdopted + beforeCommit, StepAdopted, StepMissing + beforeCommit, StepMissing,
	StepRecovered + beforeCommit, StepRecovered, StepRecalled + beforeCommit, StepRecalled,
	StepRouted + beforeCommit, StepRouted,
}

func TestPromise1_AcknowledgedIsOnDisk(t *testing.T) {
	kills := make(chan int, 1000)
	t.Run("steps", func(t *testing.T) {
		for _, step := range Steps() {
			if slices.Contains(ofRecovery, step) {
				continue
			}
			for _, count := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s/%d", step, count), func(t *testing.T) {
					t.Parallel()
					dir := filepath.Join(t.TempDir(), "spool")
					w := newWorld(io.Discard)
					killed := w.run(t, crash{dir, step, count})
					if !killed && (count == 1 || !slices.Contains(onceAShift, step)) {
						t.Fatal("the shift never came to this step")
					}
					if killed {
						kills <- 1
					}
					s := open(t, shiftOptions(dir))
					w.check(t, s)
					if err := w.shift(t.Context(), s); err != nil {
						t.Fatal(err)
					}
					w.checkDone(t, s)
				})
			}
		}
	})
	t.Logf("killed %d times", len(kills))
}

// onceAShift are the steps that a shift takes only once.
var onceAShift = []string{
	StepEscalated + beforeCommit, StepEscalated, StepAcknowledged + beforeCommit, StepAcknowledged,
	StepTransactionOpened + beforeCommit, StepTransactionOpened, StepReportFailed + beforeCommit, StepReportFailed,
	StepReportDelivered + beforeCommit, StepReportDelivered, StepTransactionsParked + beforeCommit, StepTransactionsParked,
	StepSentIsDone + beforeCommit, StepSentIsDone, StepRequestsForgotten + beforeCommit, StepRequestsForgotten,
	StepRemoving + beforeCommit, StepRemoving, StepRemovalSynced, StepRemoved + beforeCommit, StepRemoved,
	StepJournalBegun + beforeCommit, StepJournalBegun, StepJournalRenamed, StepJournalInPlace,
}

// ruinLedger overwrites the ledger, its write-ahead log included.
func ruinLedger(t *testing.T, dir string) {
	t.Helper()
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, ledgerName+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ledgerName), bytes.Repeat([]byte("x"), 8192), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPromise1_CrashInRecovery kills the process while it recovers from an
// earlier crash: nothing may depend on a recovery being finished.
func TestPromise1_CrashInRecovery(t *testing.T) {
	damages := []struct {
		name  string
		at    string // where the shift was interrupted
		steps []string
		do    func(t *testing.T, dir string, w *world)
	}{
		{"ledger lost late", StepLegFailed, []string{
			StepLedgerMovedAside, StepRecalled + beforeCommit, StepRecalled, StepAdopted + beforeCommit, StepAdopted,
			StepRecovered + beforeCommit, StepRecovered,
		}, func(t *testing.T, dir string, _ *world) {
			ruinLedger(t, dir)
		}},
		{"ledger lost", StepFinding, []string{
			StepLedgerMovedAside, StepAdopted + beforeCommit, StepAdopted, StepRecovered + beforeCommit, StepRecovered,
		}, func(t *testing.T, dir string, _ *world) {
			ruinLedger(t, dir)
		}},
		{"file lost", StepFinding, []string{StepMissing + beforeCommit, StepMissing}, func(t *testing.T, dir string, w *world) {
			files, err := filepath.Glob(filepath.Join(dir, instancesDir, "*", "*"))
			must(t, err)
			must(t, os.Remove(files[0]))
			clear(w.acked) // a technician, told of the loss, sends everything again
			w.asked = false
		}},
		{"partial file", StepFinding, []string{StepQuarantined}, func(t *testing.T, dir string, _ *world) {
			if err := os.WriteFile(filepath.Join(dir, incomingDir, "01JNA5Q7V0000000000000000A.part"), []byte("DICM"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, damage := range damages {
		for _, step := range damage.steps {
			t.Run(damage.name+"/"+step, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "spool")
				w := newWorld(io.Discard)
				if !w.run(t, crash{dir, damage.at, 1}) { // all received
					t.Fatal("the shift was not interrupted")
				}
				damage.do(t, dir, w)
				if !w.run(t, crash{dir, step, 1}) {
					t.Fatal("the recovery never came to this step")
				}
				s := open(t, shiftOptions(dir))
				w.check(t, s)
				if err := w.shift(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				w.checkDone(t, s)
			})
		}
	}
}
