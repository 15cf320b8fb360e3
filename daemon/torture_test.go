package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ichwatch/daemon/app"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// The torture runs the daemon as a process of its own between a scanner, storescp as the PACS, an archive that has to
// commit itself, mosquitto and the people on call, and ends it again and again: with SIGKILL at one of the spool's durable
// steps or at any moment, or by cutting the power of the disk that it writes to. After each life, and whenever everything
// has come to rest, what the world was told is held against what is on the disk.
//
//	ICHWATCH_TORTURE=10m       how long; a quarter of a minute when empty
//	ICHWATCH_TORTURE_SEED=7    the order of events, as far as the machine repeats itself; it is printed
//	ICHWATCH_TORTURE_LANES=3   daemons beside each other, of each kind of death
const (
	tortureEnv     = "ICHWATCH_TORTURE"
	tortureSeedEnv = "ICHWATCH_TORTURE_SEED"
	lanesEnv       = "ICHWATCH_TORTURE_LANES"

	shortTorture = 30 * time.Second
	livesToRest  = 20 // lives between two times of rest
	atRest       = "at rest"

	// patience is how long a daemon may work and not come to the step at which it is to end.
	patience = 3 * time.Second
)

// TestPromise1_KilledAtEveryStep is about promises 1, 2, 4 and 5: nothing acknowledged is lost, nothing reaches the PACS
// with other bytes or more often than a death excuses, every study has its outcome, every alert arrives under its one id.
func TestPromise1_KilledAtEveryStep(t *testing.T) {
	long, seed, lanes := tortureOptions(t)
	t.Logf("%s=%d, %d lanes of each kind, %v", tortureSeedEnv, seed, lanes, long)
	templates := newTemplates(t)
	results := newTable()
	t.Run("lanes", func(t *testing.T) {
		for n := range lanes {
			t.Run(fmt.Sprintf("SIGKILL %d", n+1), func(t *testing.T) {
				t.Parallel()
				newTorture(t, rand.New(rand.NewPCG(seed, uint64(n))), templates, results, nil).run(long)
			})
			t.Run(fmt.Sprintf("power cut %d", n+1), func(t *testing.T) {
				t.Parallel()
				disk := newPowerDisk(t)
				newTorture(t, rand.New(rand.NewPCG(seed, uint64(1000+n))), templates, results, disk).run(long)
			})
		}
	})
	t.Logf("%s=%d, %d lanes of each kind, %v, %d studies\n%s", tortureSeedEnv, seed, lanes, long, results.studies(), results)
	if deaths := results.deaths(); deaths == 0 {
		t.Error("nobody died")
	}
	if len(results.alerts) == 0 && !t.Failed() {
		t.Error("no alert was ever raised")
	}
}

func tortureOptions(t *testing.T) (long time.Duration, seed uint64, lanes int) {
	t.Helper()
	long, seed, lanes = shortTorture, uint64(time.Now().UnixNano()), 1
	var err error
	if s := os.Getenv(tortureEnv); s != "" {
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", tortureEnv, err)
		}
	}
	if s := os.Getenv(tortureSeedEnv); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", tortureSeedEnv, err)
		}
	}
	if s := os.Getenv(lanesEnv); s != "" {
		if lanes, err = strconv.Atoi(s); err != nil || lanes < 1 {
			t.Fatalf("%s: %q is no number of lanes", lanesEnv, s)
		}
	}
	return long, seed, lanes
}

// torture is one daemon and its world.
type torture struct {
	*testing.T
	rng     *rand.Rand
	results *table
	disk    *powerDisk // nil: it dies by SIGKILL

	spool, config, port string

	scanner *ct
	pacs    *storescp
	archive *archive
	people  *people

	now  *life  // the last one begun
	last string // step of the last death
	life int

	lives []string // since the last rest: when and where each ended
}

func newTorture(t *testing.T, rng *rand.Rand, templates []*template, results *table, disk *powerDisk) *torture {
	t.Helper()
	x := &torture{
		T: t, rng: rng, results: results, disk: disk, port: dimsetest.FreePort(t),
		spool: filepath.Join(t.TempDir(), "spool"), config: filepath.Join(t.TempDir(), "ichwatch.yaml"),
	}
	if disk != nil {
		x.spool = filepath.Join(disk.mount, "spool")
	}
	t.Cleanup(func() {
		if x.now != nil {
			_ = x.now.cmd.Process.Kill() // where the test has failed in the middle of a life
			<-x.now.ended
		}
	})
	addr := net.JoinHostPort("127.0.0.1", x.port)
	x.scanner = newCT(t, addr, rng, templates)
	x.pacs = newStoreSCP(t, x.scanner)
	x.archive = newArchive(t, addr, rng, x.scanner)
	x.people = newPeople(t, rng)
	if err := os.WriteFile(x.config, fmt.Appendf(nil, `
site: north
device: ct1
dicom:
  listen: %q
  commitment: {same_association: false, retry: {initial: 100ms, max: 500ms}}
  peers: [{name: ct1, ae_title: CT1, commitment: {address: %q}}]
spool: {dir: %q, high_watermark: 99%%, reserve: 64MiB, retention: {positive: 0s, negative: 0s, not_analysed: 0s, failed: 0s}}
destinations:
  - {name: pacs, address: %q, called_ae_title: PACS, retry: {initial: 100ms, max: 500ms}}
  - name: archive
    address: %q
    called_ae_title: ARCHIVE
    retry: {initial: 100ms, max: 500ms}
    commitment: {mode: require, collect: 0s, wait: 0s, retry: {initial: 100ms, max: 500ms}}
triage: {models: [%q], quiet: 1s, workers: 1}
onnxruntime: {library: %q}
alerts: {mqtt: {broker: "tcp://%s"}, escalation: [{after: 1s}, {after: 1m}]}
monitor: {listen: ""}
`, addr, x.scanner.addr, x.spool, x.pacs.addr, x.archive.addr, filepath.Join(dimsetest.Root(t), "models", "resnet18-phantom"),
		onnxRuntime(t), x.people.broker), 0o600); err != nil {
		t.Fatal(err)
	}
	return x
}

// onnxRuntime is the library that the daemon's models run with.
func onnxRuntime(t *testing.T) string {
	t.Helper()
	path, err := app.FindRuntime()
	if err != nil {
		path = filepath.Join(dimsetest.Root(t), "bin", "libonnxruntime.so.1")
		if _, missing := os.Stat(path); missing != nil {
			if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	if path, err = filepath.Abs(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// run lets the daemon live and die until the time is over, and then once more to its rest.
func (x *torture) run(long time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end) && !x.Failed(); {
		x.die(x.ending())
		if x.life%livesToRest == 0 && !x.Failed() {
			x.rest()
		}
	}
	if !x.Failed() {
		x.rest()
	}
}

// ending chooses how the next life ends.
func (x *torture) ending() ending {
	e := ending{Count: 1, Asks: x.disk != nil}
	if x.rng.IntN(8) == 0 {
		e.After = time.Duration(1 + x.rng.Int64N(int64(2*time.Second)))
		return e
	}
	if x.journalIsDue() && x.rng.IntN(2) == 0 {
		e.Step = ofJournal[x.rng.IntN(len(ofJournal))]
		return e
	}
	if steps := afterwards[x.last]; len(steps) > 0 && x.rng.IntN(2) == 0 {
		e.Step = steps[x.rng.IntN(len(steps))]
		return e
	}
	e.Step = x.results.wish(x.rng)
	if slices.Contains(ofEachSlice, e.Step) {
		e.Count += x.rng.IntN(6)
	}
	return e
}

const before = " (before commit)"

// ofJournal are steps of a start that writes the journal from the ledger.
var ofJournal = []string{spool.StepJournalBegun + before, spool.StepJournalBegun, spool.StepJournalRenamed, spool.StepJournalInPlace}

// journalIsDue reports whether the next start has to: there is none, or most of it is superseded.
func (x *torture) journalIsDue() bool {
	content, err := os.ReadFile(filepath.Join(x.spool, "journal.jsonl"))
	return err != nil || bytes.Count(content, []byte{'\n'}) > 2*x.scanner.studies+100
}

// ofEachSlice are steps that a life takes many times.
var ofEachSlice = []string{
	spool.StepCreated, spool.StepWritten, spool.StepFileSynced, spool.StepRenamed, spool.StepDirectorySynced,
	spool.StepIndexed + before, spool.StepIndexed, spool.StepLegDone + before, spool.StepLegDone, spool.StepLegSent + before, spool.StepLegSent,
	spool.StepFinding + before, spool.StepFinding, spool.StepFileRemoved,
}

// afterwards are the steps to which a death leads: of recovery, and of the removal of what is done with.
var afterwards = map[string][]string{
	spool.StepCreated:          {spool.StepQuarantined, spool.StepRecovered + before, spool.StepRecovered},
	spool.StepWritten:          {spool.StepQuarantined, spool.StepRecovered + before, spool.StepRecovered},
	spool.StepFileSynced:       {spool.StepQuarantined, spool.StepRecovered + before, spool.StepRecovered},
	spool.StepRenamed:          {spool.StepAdopted + before, spool.StepAdopted},
	spool.StepDirectorySynced:  {spool.StepAdopted + before, spool.StepAdopted},
	spool.StepIndexed + before: {spool.StepAdopted + before, spool.StepAdopted},
	spool.StepRemoving:         {spool.StepFileRemoved, spool.StepRemovalSynced, spool.StepRemoved + before, spool.StepRemoved},
	spool.StepFileRemoved:      {spool.StepFileRemoved, spool.StepRemovalSynced, spool.StepRemoved + before, spool.StepRemoved},
	atRest:                     {spool.StepRemoving + before, spool.StepRemoving, spool.StepFileRemoved, spool.StepRemovalSynced, spool.StepRemoved + before, spool.StepRemoved},
}

// die is one life of the daemon, from its start to its end, and the comparison after it.
func (x *torture) die(e ending) {
	x.Helper()
	x.life++
	ofAlert := strings.HasPrefix(e.Step, "alert ")
	if ofAlert || x.scanner.idle() {
		x.scanner.examine(ofAlert)
	}
	l := x.born(e)
	var met bool
	if e.Step == "" {
		met = l.ends(e.After)
	} else {
		wait := patience
		if ofAlert {
			wait *= 3 // people take their time
		}
		met = !l.answers() || l.ends(wait)
	}
	where := "at any moment"
	if met {
		where = e.Step
	} else {
		l.end()
	}
	l.buried()
	x.results.wished(e.Step, met)
	x.lives = append(x.lives, fmt.Sprintf("%s %d %s", time.Now().Format("15:04:05.000"), x.life, where))
	if x.disk != nil {
		x.must(x.disk.again())
	}
	x.results.died(where, x.disk != nil)
	previous := x.last
	x.last = where
	x.compare(previous, where, l)
}

func (x *torture) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

// compare holds the three sets against each other while no daemon runs: what the scanner was told, what is on the disk,
// what the PACS and the archive have.
func (x *torture) compare(previous, where string, l *life) {
	x.Helper()
	x.pacs.collect(x.T)
	disk := x.onDisk()
	resent, wrong := x.pacs.resent()
	wrong = append(wrong, x.pacs.hold(x.atPACS())...)
	x.scanner.ended()
	wrong = append(wrong, x.archive.ended()...)
	wrong = append(wrong, x.people.ended()...)
	x.results.resent(previous, resent)
	x.results.repeated(previous, x.people.repeated())
	x.results.duplicated(where, len(wrong))
	for _, w := range wrong {
		x.Errorf("life %d, which ended at %q after one that ended at %q: %s", x.life, where, previous, w)
	}
	for _, s := range x.scanner.acknowledged() {
		sum, held := disk[s.uid]
		switch {
		case held && sum == s.sum:
			continue
		case held:
			x.Errorf("life %d, ended at %q: %s is on the disk with other bytes", x.life, where, s.uid)
		case x.pacs.has(s.uid) && x.archive.answersFor(s.uid):
			continue // removed: the retention time is nought
		default:
			x.Errorf("life %d, ended at %q: %s was acknowledged and is neither on the disk nor confirmed (PACS %t, archive %t)",
				x.life, where, s.uid, x.pacs.has(s.uid), x.archive.answersFor(s.uid))
		}
		x.results.lost(where)
	}
	if x.Failed() {
		x.Logf("log of that life:\n%s", l.log)
	}
}

// atPACS is what the ledger knows to be at the PACS.
func (x *torture) atPACS() map[dicom.UID]bool {
	x.Helper()
	known := map[dicom.UID]bool{}
	r, err := spool.OpenReader(context.Background(), x.spool)
	if err != nil && len(x.pacs.copies) == 0 {
		return known // the first life ended before the ledger was made
	}
	x.must(err)
	defer r.Close()
	legs, err := r.Legs(context.Background(), spool.LegSelection{Destination: "pacs", States: []spool.LegState{spool.LegDone}})
	x.must(err)
	for _, l := range legs {
		known[l.Instance.SOPInstanceUID] = true
	}
	return known
}

// rest lets a daemon work undisturbed until nothing is left to do, ends it, and then the books must balance.
func (x *torture) rest() {
	x.Helper()
	x.archive.behave(true)
	defer x.archive.behave(false)
	l := x.born(ending{Asks: x.disk != nil})
	deadline := time.Now().Add(2 * time.Minute)
	var left string
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		if left = x.left(); left == "" {
			tick.Stop()
			break
		}
		if time.Now().After(deadline) || l.over() {
			x.Errorf("what is left does not get done: %s\n%s\n%s\n%s", left, x.waiting(), strings.Join(x.lives, "\n"), l.log)
			break
		}
	}
	l.end()
	l.buried()
	if x.disk != nil {
		x.must(x.disk.again())
	}
	previous := x.last
	x.last = atRest
	x.life++
	x.results.died(x.last, x.disk != nil)
	x.compare(previous, x.last, l)
	if !x.Failed() {
		x.balance()
	}
	x.Logf("at rest after %d lives; %d deaths in all lanes", x.life, x.results.deaths())
	x.scanner.forget()
	x.lives = nil
}

// left says what is still to be done; "" when everything is at rest.
func (x *torture) left() string {
	if n := x.scanner.left(); n != "" {
		return n
	}
	r, err := spool.OpenReader(context.Background(), x.spool)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	o, err := r.Overview(context.Background())
	if err != nil {
		return err.Error()
	}
	for _, q := range o.Queues {
		if q.Pending.Waiting+q.Sent+q.Parked.Waiting > 0 {
			return fmt.Sprintf("%d pending, %d sent, %d parked for %s", q.Pending.Waiting, q.Sent, q.Parked.Waiting, q.Destination)
		}
	}
	if o.Slices.Waiting+o.Messages.Waiting+len(o.Alerts) > 0 {
		return fmt.Sprintf("%d slices, %d messages, %d alerts wait", o.Slices.Waiting, o.Messages.Waiting, len(o.Alerts))
	}
	studies, err := r.Studies(context.Background(), spool.Filter{})
	if err != nil {
		return err.Error()
	}
	for _, s := range studies {
		if s.Outcome == "" {
			return fmt.Sprintf("study %s has no outcome", s.Pseudonym)
		}
	}
	return ""
}

// waiting tells all about the legs that are not done.
func (x *torture) waiting() string {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(x.spool, "ledger.db")+"?mode=ro")
	x.must(err)
	defer db.Close()
	rows, err := db.Query(`SELECT l.id, l.destination, l.state, l.attempts, l.asked, l.refused, l.last_reason, coalesce(l.next_attempt, 0), coalesce(l.sent_at, 0),
			i.sop_instance_uid, i.state, coalesce(r.transaction_uid, ''), coalesce(r.state, ''), coalesce(r.requested_at, 0)
		FROM legs l JOIN instances i ON i.id = l.instance_id LEFT JOIN commitment_requests r ON r.id = l.request_id WHERE l.state <> 'done'`)
	x.must(err)
	defer rows.Close()
	var b strings.Builder
	x.archive.mu.Lock()
	defer x.archive.mu.Unlock()
	for rows.Next() {
		var id, attempts, asked, refused, next, sent, requested int64
		var destination, state, reason, sop, file, transaction, request string
		x.must(rows.Scan(&id, &destination, &state, &attempts, &asked, &refused, &reason, &next, &sent, &sop, &file, &transaction, &request, &requested))
		fmt.Fprintf(&b, "leg %d to %s: %s, %d attempts, asked %d times, refused %d times (%s), next %v, sent %v; instance %s %s, stored there %t, committed %t; request %s %s of %v: %q\n",
			id, destination, state, attempts, asked, refused, reason, time.Unix(0, next), time.Unix(0, sent), sop, file,
			x.archive.stored[dicom.UID(sop)], x.archive.committed[dicom.UID(sop)], transaction, request, time.Unix(0, requested), x.archive.history[dicom.UID(transaction)])
	}
	return b.String()
}

// balance holds the ledger against what the scanner sent and what the people were told.
func (x *torture) balance() {
	x.Helper()
	// The ledger is opened once more, as the next start does it: the reader looks at one that was never recovered.
	s, err := spool.Open(context.Background(), spool.Options{Dir: x.spool, Destinations: []string{"archive", "pacs"}, Device: "ct1"})
	x.must(err)
	x.must(s.Close())
	r, err := spool.OpenReader(context.Background(), x.spool)
	x.must(err)
	defer r.Close()
	a, err := r.Account(context.Background(), spool.Filter{})
	x.must(err)
	for _, d := range a.Discrepancies {
		x.Errorf("the account does not balance: %+v", d)
	}
	instances := 0
	for _, study := range a.Studies {
		instances += study.Instances
		x.results.concluded(study.StudyInstanceUID)
		for _, wrong := range x.people.holds(study, x.scanner.expects(study.StudyInstanceUID)) {
			x.Errorf("study %s: %s", study.Pseudonym, wrong)
		}
		for _, alert := range study.Alerts {
			x.results.answered(alert.AlertID)
		}
	}
	if want := x.scanner.sent(); instances != want || len(a.Studies) != x.scanner.studies {
		x.Errorf("the ledger has %d instances of %d studies, the scanner has sent %d of %d", instances, len(a.Studies), want, x.scanner.studies)
	}
}
