package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ichwatch/daemon/app"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/models"
)

// overloadFor is how long TestOverload takes in all: half of it the scanner pushes, in the rest triage catches up.
func overloadFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ICHWATCH_OVERLOAD")
	if text == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestOverload lets a scanner push nearly twice as fast as the model classifies, and three times as fast as the PACS takes.
// The receiver answers all the while as it did at first, memory stays flat, the PACS gets as much as without any triage, an
// urgent study overtakes the backlog, and in the end everything has arrived and every study has its outcome. How fast it
// was is judged only where it is asked for by DURATION, of a machine that does nothing else.
//
//	make overload DURATION=30m
func TestOverload(t *testing.T) {
	total := overloadFor(t)
	scene := newScene(t)

	// What the model can do on this machine, at this hour.
	d := scene.start(t, true)
	begun := time.Now()
	const calibration = 40
	d.push(t, scene.normal, "calibration", 0, calibration)
	eventually(t, "the first study is analysed", func() bool { return d.look(t).Slices.Waiting == 0 })
	capacity := calibration / time.Since(begun).Seconds()
	d.stop(t)
	pace, taken := max(4, 1.8*capacity), max(2, 0.6*capacity)

	// Without triage, for comparison.
	scene.throttle(taken)
	d = scene.start(t, false)
	alone := d.stream(t, pace, total/10, nil)
	aloneRate := float64(scene.arrived()) / alone.lasted.Seconds()
	d.stop(t)

	scene.throttle(taken)
	d = scene.start(t, true)
	table := &overloadTable{t: t, begun: time.Now()}
	fmt.Printf("scanner %.1f/s, model %.1f/s, PACS at most %.1f/s; %v in all\n", pace, capacity, taken, total)
	table.head()
	// The first half of an urgent study comes first, the second when the backlog is longest.
	d.push(t, scene.bleed, "urgent", 0, len(scene.bleed.slices)/2)
	eventually(t, "the alert is raised", func() bool { return len(d.look(t).Alerts) > 0 })
	run := d.stream(t, pace, total/2, table)
	rate := float64(scene.arrived()) / run.lasted.Seconds()
	atHeight := d.look(t)
	timed := os.Getenv("ICHWATCH_OVERLOAD") != ""
	if atHeight.Queues[0].Pending.Waiting == 0 || timed && atHeight.Slices.Waiting == 0 {
		t.Errorf("no overload: %+v", atHeight)
	}
	before := scene.arrived()
	d.push(t, scene.bleed, "urgent", len(scene.bleed.slices)/2, len(scene.bleed.slices))
	urgent := scene.sopOf("urgent", scene.bleed)
	eventually(t, "the urgent study is at the PACS", func() bool { return scene.has(urgent) })
	overtaken := scene.arrived() - before
	if most := len(urgent)/2 + int(3*taken) + 64; overtaken > most {
		t.Errorf("%d objects arrived while the rest of the urgent study did, at most %d are expected", overtaken, most)
	}
	eventually(t, "the urgent study is analysed", func() bool {
		r := d.record(t, scene.studyOf("urgent", scene.bleed))
		return r.Pending == 0 && r.Classified+r.Ineligible == len(scene.bleed.slices)
	})
	left := d.look(t)
	fmt.Printf("the urgent study is analysed and at the PACS; %d slices and %d objects wait behind it\n", left.Slices.Waiting, left.Queues[0].Pending.Waiting)
	// A scanner that the machine slowed down leaves too little to overtake.
	if left.Slices.Waiting == 0 && atHeight.Slices.Waiting > 4*len(scene.bleed.slices) {
		t.Errorf("the urgent study was analysed last, of %d slices", atHeight.Slices.Waiting)
	}

	sent := run.stored + len(scene.bleed.slices)
	scene.throttle(0)
	deadline := time.Now().Add(max(2*total, 3*time.Minute))
	for o := d.look(t); o.Slices.Waiting > 0 || o.Queues[0].Pending.Waiting > 0; o = d.look(t) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not catch up: %+v", o)
		}
		table.row(d, sent, nil)
		<-time.After(max(time.Second, total/20))
	}
	eventually(t, "every study is decided", func() bool { return d.undecided(t) == 0 })
	table.row(d, sent, nil)

	fmt.Printf("forwarded while the scanner pushed: %.2f/s with triage, %.2f/s without: %.2f\n", rate, aloneRate, rate/aloneRate)
	if timed && rate < 0.7*aloneRate {
		t.Errorf("forwarding suffers from triage: %.2f/s instead of %.2f/s", rate, aloneRate)
	}
	// Every object that was answered with success is at the PACS; nothing else is told of the daemon's own count.
	if scene.arrived() != sent || run.refused > 0 {
		t.Errorf("%d objects at the PACS, %d were sent, %d refused", scene.arrived(), sent, run.refused)
	}
	if timed && !raceEnabled { // the detector's memory and speed are its own
		table.judge(t)
	}
	d.balances(t)
}

// scene is what stays the same while daemons come and go: pictures, a PACS, a model.
type scene struct {
	normal, bleed *picture
	model         string
	library       string
	pacs          *dimsetest.Server

	mu    sync.Mutex
	got   map[dicom.UID]bool
	pause atomic.Int64 // ns between two objects, all associations together
	turn  chan struct{}
}

// picture is a study of which any number of others are made, by their UIDs.
type picture struct {
	study  dicom.UID
	sops   []dicom.UID
	slices [][]byte
}

func newPicture(t *testing.T, class phantom.Class) *picture {
	t.Helper()
	s, err := phantom.New(phantom.Options{Seed: 3, Class: class, Rows: 128, Columns: 128, Slices: 32})
	if err != nil {
		t.Fatal(err)
	}
	p := &picture{study: s.StudyUID()}
	n := s.Slices()
	for k := range n {
		i := (k + n/4) % n // what bleeds is in the middle, and comes first
		var b bytes.Buffer
		if err := s.WriteDataSet(&b, i); err != nil {
			t.Fatal(err)
		}
		p.sops, p.slices = append(p.sops, s.InstanceUID(i)), append(p.slices, b.Bytes())
	}
	return p
}

// retold gives a UID other last digits.
func retold(uid dicom.UID, study string) dicom.UID {
	n := uint32(2166136261)
	for _, b := range []byte(study) {
		n = (n ^ uint32(b)) * 16777619
	}
	return dicom.UID(fmt.Sprintf("%s%08d", uid[:len(uid)-8], n%100_000_000))
}

func newScene(t *testing.T) *scene {
	t.Helper()
	library, err := app.FindRuntime()
	if err != nil {
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := &scene{
		normal: newPicture(t, phantom.Normal), bleed: newPicture(t, phantom.Intraparenchymal),
		model: filepath.Join(t.TempDir(), "model"), library: library, got: map[dicom.UID]bool{}, turn: make(chan struct{}, 1),
	}
	if err := os.CopyFS(s.model, models.Phantom()); err != nil {
		t.Fatal(err)
	}
	s.turn <- struct{}{}
	s.pacs = dimsetest.NewServer(t, s)
	return s
}

// Echo implements dimse.Handler.
func (s *scene) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

// Store implements dimse.Handler: the PACS.
func (s *scene) Store(_ context.Context, _ *dimse.Association, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	if _, err := io.Copy(io.Discard, data); err != nil {
		return dimse.Result{Status: dimse.StatusCannotUnderstand}
	}
	if pause := time.Duration(s.pause.Load()); pause > 0 {
		<-s.turn
		<-time.After(pause)
		s.turn <- struct{}{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[rq.SOPInstanceUID] = true
	return dimse.Result{Status: dimse.StatusSuccess}
}

// throttle lets the PACS take so many objects a second, or any number, and forget what it has unless that is any.
func (s *scene) throttle(rate float64) {
	if rate == 0 {
		s.pause.Store(0)
		return
	}
	s.pause.Store(int64(float64(time.Second) / rate))
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.got)
}

func (s *scene) arrived() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *scene) has(uids []dicom.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(uids, func(uid dicom.UID) bool { return !s.got[uid] })
}

func (s *scene) studyOf(name string, p *picture) dicom.UID { return retold(p.study, name) }

func (s *scene) sopOf(name string, p *picture) (uids []dicom.UID) {
	for _, uid := range p.sops {
		uids = append(uids, retold(uid, name))
	}
	return uids
}

// overloaded is a daemon as a process of its own.
type overloaded struct {
	scene       *scene
	port, spool string
	pid         int
	end         func()
	reader      *spool.Reader
}

func (s *scene) start(t *testing.T, triage bool) *overloaded {
	t.Helper()
	d := &overloaded{scene: s, port: dimsetest.FreePort(t), spool: filepath.Join(t.TempDir(), "spool")}
	config := filepath.Join(t.TempDir(), "ichwatch.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
dicom: {listen: "127.0.0.1:%s"}
spool: {dir: %s, high_watermark: 99%%, reserve: 64MiB}
destinations:
  - {name: pacs, address: "%s", called_ae_title: ICHWATCH, retry: {initial: 100ms, max: 1s}}
triage: {enabled: %t, models: [%s], workers: 1, quiet: 2s}
onnxruntime: {library: %s}
monitor: {listen: ""}
log: {level: warn}
`, d.port, d.spool, s.pacs.Addr, triage, s.model, s.library), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := startDaemon(t, config, d.port)
	d.pid, d.end = cmd.Process.Pid, func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }
	var err error
	if d.reader, err = spool.OpenReader(t.Context(), d.spool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.reader.Close() })
	return d
}

func (d *overloaded) stop(t *testing.T) {
	t.Helper()
	d.end()
	if err := os.RemoveAll(d.spool); err != nil {
		t.Fatal(err)
	}
}

func (d *overloaded) look(t *testing.T) spool.Overview {
	t.Helper()
	o, err := d.reader.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Queues) == 0 {
		o.Queues = make([]spool.Queue, 1)
	}
	return o
}

func (d *overloaded) record(t *testing.T, study dicom.UID) spool.StudyRecord {
	t.Helper()
	records, err := d.reader.Studies(t.Context(), spool.Filter{Study: study})
	if err != nil || len(records) != 1 {
		t.Fatal(len(records), err)
	}
	return records[0]
}

func (d *overloaded) undecided(t *testing.T) (n int) {
	t.Helper()
	records, err := d.reader.Studies(t.Context(), spool.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.Outcome == "" {
			n++
		}
	}
	return n
}

// balances holds the ledger against the disk.
func (d *overloaded) balances(t *testing.T) {
	t.Helper()
	account, err := d.reader.Account(t.Context(), spool.Filter{})
	if err != nil || len(account.Discrepancies) > 0 {
		t.Errorf("the ledger does not balance: %v, %v", account.Discrepancies, err)
	}
}

func (d *overloaded) dial(t *testing.T) *dimse.Association {
	t.Helper()
	dialer := &dimse.Dialer{CallingAETitle: "CT", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
		AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian},
	}}}
	a, err := dialer.Dial(t.Context(), net.JoinHostPort("127.0.0.1", d.port))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// push sends slices of a study, as fast as they are taken.
func (d *overloaded) push(t *testing.T, p *picture, name string, from, to int) {
	t.Helper()
	a := d.dial(t)
	for i := from; i < to; i++ {
		if status, _ := d.send(t, a, p, name, i); status != dimse.StatusSuccess {
			t.Fatalf("slice %d: %v", i, status)
		}
	}
	if err := a.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// send sends one slice; slices beyond the picture's begin another study.
func (d *overloaded) send(t *testing.T, a *dimse.Association, p *picture, name string, i int) (dimse.Status, time.Duration) {
	t.Helper()
	k := i % len(p.slices)
	if round := i / len(p.slices); round > 0 {
		name = fmt.Sprintf("%s %d", name, round)
	}
	sop := retold(p.sops[k], name)
	data := bytes.ReplaceAll(p.slices[k], []byte(p.study), []byte(retold(p.study, name)))
	data = bytes.ReplaceAll(data, []byte(p.sops[k]), []byte(sop))
	syntax, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
	begun := time.Now()
	r, err := a.Store(t.Context(), dimse.CStoreRQ{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: sop, TransferSyntax: syntax}, bytes.NewReader(data))
	if err != nil {
		t.Fatalf("slice %d: %v", i, err)
	}
	return r.Status, time.Since(begun)
}

// streamed is what a scanner has pushed.
type streamed struct {
	stored  int
	refused int
	lasted  time.Duration
}

// stream pushes study after study at a pace, each over an association of its own, and writes a row now and then.
func (d *overloaded) stream(t *testing.T, pace float64, lasts time.Duration, table *overloadTable) *streamed {
	t.Helper()
	s := new(streamed)
	begun := time.Now()
	tick := time.NewTicker(time.Duration(float64(time.Second) / pace))
	defer tick.Stop()
	every := max(lasts/20, 2*time.Second)
	next := begun.Add(every)
	var latencies []time.Duration
	var a *dimse.Association
	for i := 0; time.Since(begun) < lasts; i++ {
		if i%len(d.scene.normal.slices) == 0 {
			if a != nil {
				if err := a.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			a = d.dial(t)
		}
		status, took := d.send(t, a, d.scene.normal, "stream", i)
		if status == dimse.StatusSuccess {
			s.stored++
		} else {
			s.refused++
		}
		latencies = append(latencies, took)
		if table != nil && time.Now().After(next) {
			table.row(d, s.stored+len(d.scene.bleed.slices)/2, latencies)
			latencies, next = latencies[:0], time.Now().Add(every)
		}
		<-tick.C
	}
	if err := a.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.lasted = time.Since(begun)
	return s
}

// overloadTable is what is printed, and judged.
type overloadTable struct {
	t       *testing.T
	begun   time.Time
	memory  []int // KiB
	p99     []time.Duration
	longest time.Duration
}

// Columns are as wide as their heads.
const (
	headFormat = "%8s %8s %12s %14s %15s %9s %14s %11s %9s %9s\n"
	rowFormat  = "%8v %8d %12d %14d %15d %9d %14d %11v %9v %9v\n"
)

func (b *overloadTable) head() {
	fmt.Printf(headFormat, "time", "sent", "at the PACS", "wait for PACS", "wait for model", "RSS MiB", "anonymous MiB", "answer p50", "p99", "longest")
}

func (b *overloadTable) row(d *overloaded, sent int, latencies []time.Duration) {
	o := d.look(b.t)
	rss, anonymous := resident(b.t, d.pid)
	answers := [3]any{"-", "-", "-"}
	if len(latencies) > 0 {
		slices.Sort(latencies)
		at := func(share float64) time.Duration {
			return latencies[int(share*float64(len(latencies)-1))].Round(100 * time.Microsecond)
		}
		answers = [3]any{at(0.5), at(0.99), at(1)}
		b.p99, b.longest = append(b.p99, at(0.99)), max(b.longest, at(1))
	}
	b.memory = append(b.memory, rss)
	fmt.Printf(rowFormat, time.Since(b.begun).Round(time.Second), sent, d.scene.arrived(),
		o.Queues[0].Pending.Waiting, o.Slices.Waiting, rss>>10, anonymous>>10, answers[0], answers[1], answers[2])
}

// judge looks whether memory is flat, and answers are as quick in the end as at first.
func (b *overloadTable) judge(t *testing.T) {
	t.Helper()
	const room = 64 << 10 // KiB
	if n := len(b.memory); n > 3 {
		first, rest := slices.Max(b.memory[:n/3]), slices.Max(b.memory[n/3:])
		t.Logf("resident: at most %d MiB in the first third, %d MiB later", first>>10, rest>>10)
		if rest > first+room {
			t.Errorf("memory grows from %d to %d KiB", first, rest)
		}
	}
	if n := len(b.p99); n > 3 {
		first, last := slices.Max(b.p99[:n/2]), slices.Max(b.p99[n/2:])
		t.Logf("answers: p99 at most %v in the first half, %v in the second; the longest took %v", first, last, b.longest)
		if last > 3*first+500*time.Millisecond {
			t.Errorf("the scanner waits longer and longer: p99 %v, then %v", first, last)
		}
	}
}

// resident is how much memory a process has at the moment, in all and without files, in KiB (proc(5)).
func resident(t *testing.T, pid int) (rss, anonymous int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.Atoi(fields[1]) // other lines have none
		switch fields[0] {
		case "VmRSS:":
			rss = n
		case "RssAnon:":
			anonymous = n
		}
	}
	if rss == 0 {
		t.Fatal("the kernel does not tell VmRSS")
	}
	return rss, anonymous
}
