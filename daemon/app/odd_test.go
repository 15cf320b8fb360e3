package app_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/configs"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/receive"
	"ichwatch/daemon/spool"
	"ichwatch/daemon/triage"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// withStoreSCP configures a daemon that forwards to a storescp, which keeps every copy that it is sent, and analyses nothing.
func withStoreSCP(t *testing.T) (cfg *configs.Config, received string) {
	t.Helper()
	received = t.TempDir()
	port := dimsetest.FreePort(t)
	dimsetest.Start(t, port, "storescp", "+B", "+xa", "-pm", "+uf", "-od", received, port)
	cfg = config(t)
	cfg.Destinations = []configs.Destination{destination("storescp", port)}
	return cfg, received
}

// copies are the SHA-256 of the data sets in a folder, by SOP Instance UID, sorted.
func copies(t *testing.T, pattern string) map[dicom.UID][][sha256.Size]byte {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	all := map[dicom.UID][][sha256.Size]byte{}
	for _, file := range files {
		for uid, sum := range dataSets(t, file) {
			all[uid] = append(all[uid], sum)
		}
	}
	return all
}

// hold compares what the spool and the PACS hold with the data sets that they ought to, each once.
func (d *daemon) hold(t *testing.T, received string, want ...string) {
	t.Helper()
	total := map[dicom.UID]map[[sha256.Size]byte]bool{}
	n := 0
	for _, file := range want {
		for uid, sum := range dataSets(t, file) {
			if total[uid] == nil {
				total[uid] = map[[sha256.Size]byte]bool{}
			}
			if !total[uid][sum] {
				total[uid][sum] = true
				n++
			}
		}
	}
	eventually(t, "the PACS has confirmed all", func() bool {
		records, err := d.Studies(t.Context(), spool.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		for _, r := range records {
			done += r.Legs[0].Done
		}
		return done == n
	})
	for who, got := range map[string]map[dicom.UID][][sha256.Size]byte{
		"the PACS":  copies(t, filepath.Join(received, "*")),
		"the spool": copies(t, filepath.Join(d.spoolDir, "instances", "*", "*")),
	} {
		if len(got) != len(total) {
			t.Errorf("%s has %d instances, want %d", who, len(got), len(total))
		}
		for uid, sums := range total {
			if len(got[uid]) != len(sums) {
				t.Errorf("%s has %s %d times, want %d", who, uid, len(got[uid]), len(sums))
			}
			for _, sum := range got[uid] {
				if !sums[sum] {
					t.Errorf("%s has %s with other bytes", who, uid)
				}
			}
		}
	}
}

// modified copies files and changes the copies with dcmodify, their UIDs apart.
func modified(t *testing.T, files []string, options ...string) (changed []string) {
	t.Helper()
	dir := t.TempDir()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		changed = append(changed, name)
	}
	dimsetest.Run(t, "dcmodify", append(append([]string{"-nb"}, options...), changed...)...)
	return changed
}

func smallPhantom(t *testing.T, seed uint64) []string {
	t.Helper()
	return writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: seed, Slices: 8, Rows: 64, Columns: 64})
}

// TestPromise1_SentAgain: stock senders give the same study once more, with the same bytes, with others, and ten at a
// time. Each is answered with success; every data set is there once, and goes to the PACS once.
func TestPromise1_SentAgain(t *testing.T) {
	t.Run("the same bytes", func(t *testing.T) {
		cfg, received := withStoreSCP(t)
		d := start(t, cfg)
		files := smallPhantom(t, 1)
		d.scan(t, files...)
		d.hold(t, received, files...)
		d.scan(t, files...)
		dimsetest.Run(t, "dcmsend", append([]string{"-aec", "ICHWATCH", "127.0.0.1", d.port}, files...)...)
		d.hold(t, received, files...)
	})
	t.Run("other bytes", func(t *testing.T) {
		cfg, received := withStoreSCP(t)
		d := start(t, cfg)
		files := smallPhantom(t, 2)
		d.scan(t, files...)
		others := modified(t, files, "-m", "StudyDescription=corrected")
		d.scan(t, others...)
		d.hold(t, received, append(files, others...)...)
		if n := strings.Count(d.log.String(), "came again under its SOP Instance UID with other bytes"); n != len(files) {
			t.Errorf("of %d instances with other bytes %d are told", len(files), n)
		}
	})
	t.Run("ten at a time", func(t *testing.T) {
		cfg, received := withStoreSCP(t)
		d := start(t, cfg)
		files := smallPhantom(t, 3)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { d.scan(t, files...) })
		}
		all.Wait()
		d.hold(t, received, files...)
		if r := d.ledger(t); !r.Balances() || r.Instances != len(files) {
			t.Errorf("ledger %+v", r)
		}
	})
}

// Two studies whose slices alternate on one association are two studies: each with its own slices, and its own outcome.
func TestPromise4_TwoStudiesInterleaved(t *testing.T) {
	cfg, received := withStoreSCP(t)
	d := start(t, cfg)
	one, two := smallPhantom(t, 4), smallPhantom(t, 5)
	var both []string
	for i := range one {
		both = append(both, one[i], two[i])
	}
	d.scan(t, both...)
	d.hold(t, received, both...)
	var records []spool.StudyRecord
	eventually(t, "both have an outcome", func() bool {
		var err error
		if records, err = d.Studies(t.Context(), spool.Filter{}); err != nil {
			t.Fatal(err)
		}
		return len(records) == 2 && records[0].Outcome != "" && records[1].Outcome != ""
	})
	for _, r := range records {
		if r.Instances != len(one) || !r.Balances() {
			t.Errorf("study %+v", r)
		}
	}
	if n := strings.Count(d.log.String(), `"msg":"objects received"`); n != 1 {
		t.Errorf("they came over %d associations", n)
	}
}

// outcomes are those that mosquitto_sub has printed.
func outcomes(t *testing.T, printed *dimsetest.Output) (all []alerts.OutcomeMessage) {
	t.Helper()
	for _, payload := range messages(printed, "ichwatch/v1/north/ct1/outcome") {
		var m alerts.OutcomeMessage
		if err := json.Unmarshal(payload, &m); err != nil {
			t.Fatalf("%v in %s", err, payload)
		}
		all = append(all, m)
	}
	return all
}

// bleed is a study that the shipped model suspects.
var bleed = phantom.SetOptions{Seed: 3, Plain: true, Slices: 20, SliceThickness: 7, Rows: 256, Columns: 256}

// TestPromise5_LateSlices: a study had its outcome, and then more of it comes. It is judged as a whole: the alert is
// raised, and the second outcome takes the first one's place.
func TestPromise5_LateSlices(t *testing.T) {
	cfg, printed, _ := wholeLine(t)
	d := start(t, cfg)
	files := writePhantom(t, phantom.Intraparenchymal, bleed)
	const early = 1 // one alone is never enough
	d.scan(t, files[:early]...)
	eventually(t, "the first outcome arrives", func() bool { return len(outcomes(t, printed)) == 1 })
	d.scan(t, files[early:]...)
	eventually(t, "the second outcome arrives", func() bool { return len(outcomes(t, printed)) >= 2 })
	all := outcomes(t, printed)
	first, last := all[0], all[len(all)-1]
	if first.Outcome != alerts.NotAnalysed || first.Counts.Received != early || first.AlertID != "" {
		t.Errorf("of the first slice: %+v", first)
	}
	if last.Outcome != alerts.Positive || last.Counts.Received != len(files) || last.Seq != len(all) || last.AlertID == "" {
		t.Errorf("of all: %+v", last)
	}
	if r := d.ledger(t); len(r.Alerts) != 1 || r.Alerts[0].AlertID != last.AlertID || r.Outcome != alerts.Positive {
		t.Errorf("ledger %+v", r)
	}
}

// TestPromise4_WithoutInstanceNumbers: slices lie where their positions say. Numbers that are missing, or all the same,
// and an order of arrival that is none, change nothing.
func TestPromise4_WithoutInstanceNumbers(t *testing.T) {
	for name, option := range map[string][]string{
		"missing":  {"-ea", "InstanceNumber"},
		"the same": {"-m", "InstanceNumber=1"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, printed, _ := wholeLine(t)
			d := start(t, cfg)
			files := modified(t, writePhantom(t, phantom.Intraparenchymal, bleed), option...)
			var mixed []string // every third, from the end, then those beside them
			for first := range 3 {
				for i := len(files) - 1 - first; i >= 0; i -= 3 {
					mixed = append(mixed, files[i])
				}
			}
			d.scan(t, mixed...)
			eventually(t, "the outcome arrives", func() bool { return len(outcomes(t, printed)) > 0 })
			if o := outcomes(t, printed)[0]; o.Outcome != alerts.Positive || o.Finding != "intraparenchymal" || o.Counts.Received != len(files) {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

// hours is a clock that a test moves.
type hours struct {
	mu sync.Mutex
	at time.Time
}

func (h *hours) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hours) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

// TestPromise4_OneStudyOverHours: a study comes in parts, over several associations, with hours between them and one that
// is open for hours. It stays one study. Each time that it has come to rest it has an outcome, of all that came so far,
// and never while somebody may be sending.
func TestPromise4_OneStudyOverHours(t *testing.T) {
	clock := &hours{at: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)}
	sp, err := spool.Open(t.Context(), spool.Options{Dir: filepath.Join(t.TempDir(), "spool"), Destinations: []string{"pacs"}, Device: "ct1", Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	receiver := &receive.Receiver{Spool: sp}
	closed := make(chan struct{}, 10)
	server := dimsetest.NewServer(t, observed{receiver, closed}, func(s *dimse.Server) { s.AETitle, s.Admit = "ICHWATCH", receiver.Admit })
	_, port, _ := net.SplitHostPort(server.Addr)
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() {
		tr := &triage.Triage{
			Spool: sp, Gate: triage.Gate{Closed: "not looked at"}, Site: "north", Device: "ct1",
			Quiet: time.Minute, Retry: 10 * time.Millisecond, Now: clock.now, Log: slog.New(slog.DiscardHandler),
		}
		if err := tr.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); looking.Wait() })

	study := func() spool.StudyRecord {
		t.Helper()
		records, err := sp.Studies(t.Context(), spool.Filter{})
		if err != nil || len(records) != 1 {
			t.Fatalf("%d studies, %v", len(records), err)
		}
		return records[0]
	}
	told := func() (all []alerts.OutcomeMessage) {
		t.Helper()
		entries, err := sp.PendingMessages(t.Context(), clock.now(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			var m alerts.OutcomeMessage
			if err := json.Unmarshal(e.Payload, &m); err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
			if err := sp.MessageDelivered(t.Context(), e.ID, clock.now()); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	rests := func(seq, received int) {
		t.Helper()
		var all []alerts.OutcomeMessage
		eventually(t, "outcome "+strconv.Itoa(seq), func() bool { all = append(all, told()...); return len(all) > 0 })
		if len(all) != 1 || all[0].Seq != seq || all[0].Counts.Received != received || all[0].Outcome != alerts.NotAnalysed {
			t.Errorf("told %+v, want number %d of %d slices", all, seq, received)
		}
	}
	examined := func(n int) {
		t.Helper()
		eventually(t, "all are looked at", func() bool { r := study(); return r.Instances == n && r.Pending == 0 })
	}
	files := smallPhantom(t, 6)
	push := func(part ...string) {
		t.Helper()
		dimsetest.Run(t, "storescu", append([]string{"-R", "-aec", "ICHWATCH", "127.0.0.1", port}, part...)...)
		<-closed
	}

	push(files[:2]...)
	examined(2)
	clock.pass(2 * time.Minute)
	rests(1, 2)
	clock.pass(3 * time.Hour)
	push(files[2:4]...)
	examined(4)
	clock.pass(2 * time.Minute)
	rests(2, 4)

	// One that stays open, while others come and go.
	open := holdOpen(t, server.Addr, files[4])
	clock.pass(time.Hour)
	push(files[5:6]...)
	examined(6)
	clock.pass(5 * time.Hour)
	push(files[6:]...)
	examined(8)
	clock.pass(5 * time.Hour)
	if quiet, err := sp.QuietStudies(t.Context(), clock.now()); err != nil || len(quiet) != 0 {
		t.Errorf("%d studies at rest with an association open, %v", len(quiet), err)
	}
	if all := told(); len(all) != 0 {
		t.Errorf("told with an association open: %+v", all)
	}
	if err := open.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-closed
	clock.pass(2 * time.Minute)
	rests(3, 8)
	if r := study(); r.LastReceived.Sub(r.FirstReceived) != 9*time.Hour+4*time.Minute || !r.Balances() {
		t.Errorf("study %+v: from %v to %v", r, r.FirstReceived, r.LastReceived)
	}
}

// observed tells when an association has closed, and the receiver knows.
type observed struct {
	*receive.Receiver
	closed chan struct{}
}

func (o observed) AssociationClosed(a *dimse.Association, err error) {
	o.Receiver.AssociationClosed(a, err)
	o.closed <- struct{}{}
}

// holdOpen sends a file over an association that stays open.
func holdOpen(t *testing.T, addr, file string) *dimse.Association {
	t.Helper()
	d := dimse.Dialer{CallingAETitle: "CT1", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
		AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian},
	}}}
	a, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Abort() })
	meta, data := readPart10(t, file)
	syntax, _ := dicom.LookupTransferSyntax(meta.TransferSyntaxUID)
	result, err := a.Store(t.Context(), dimse.CStoreRQ{SOPClassUID: meta.SOPClassUID, SOPInstanceUID: meta.SOPInstanceUID, TransferSyntax: syntax}, strings.NewReader(string(data)))
	if err != nil || result.Status != dimse.StatusSuccess {
		t.Fatalf("%v, %v", result.Status, err)
	}
	return a
}
