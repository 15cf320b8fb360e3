package spool

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ichwatch/alerts"
)

func openReader(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := OpenReader(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func account(t testing.TB, r *Reader, f Filter) Account {
	t.Helper()
	a, err := r.Account(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The ledger reads the same beside the daemon, after it was closed, and after it was killed.
func TestReaderBesideAndWithoutADaemon(t *testing.T) {
	s := open(t, Options{})
	i, _ := send(t, s, newSlice("1.2", 1))
	send(t, s, newSlice("1.3", 1))
	must(t, s.LegDone(t.Context(), legOf(t, s, i), 0, time.Now()))
	want, err := s.Studies(t.Context(), Filter{})
	must(t, err)

	look := func(t *testing.T, dir string, inUse bool) {
		t.Helper()
		r := openReader(t, dir)
		a := account(t, r, Filter{})
		if diff := cmp.Diff(want, a.Studies); diff != "" {
			t.Error(diff)
		}
		if len(a.Discrepancies) > 0 {
			t.Errorf("discrepancies: %+v", a.Discrepancies)
		}
		if got, err := r.InUse(); err != nil || got != inUse {
			t.Errorf("in use: %t, %v, want %t", got, err, inUse)
		}
		for _, f := range []Filter{{Study: "1.3"}, {Pseudonym: s.Pseudonym("1.3")}} {
			if one := account(t, r, f).Studies; len(one) != 1 || one[0].StudyInstanceUID != "1.3" {
				t.Errorf("%+v selects %+v", f, one)
			}
		}
		must(t, r.Close())
	}
	t.Run("beside", func(t *testing.T) { look(t, s.dir, true) })
	t.Run("killed", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spool")
		must(t, os.CopyFS(dir, os.DirFS(s.dir))) // the write-ahead log with it
		if info, err := os.Stat(filepath.Join(dir, ledgerName+"-wal")); err != nil || info.Size() == 0 {
			t.Fatalf("there is no write-ahead log to recover: %v", err)
		}
		look(t, dir, false)
	})
	t.Run("closed", func(t *testing.T) {
		must(t, s.Close())
		look(t, s.dir, false)
	})
	t.Run("and used again", func(t *testing.T) {
		again := open(t, Options{Dir: s.dir})
		if r := again.Recovery(); r.LedgerRebuilt || r.Instances != 2 {
			t.Errorf("recovery %+v", r)
		}
	})
}

// What root's look at a stopped spool leaves behind is the daemon's, not root's.
func TestReaderLeavesNothingOfRoots(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to another user")
	}
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	must(t, s.Close())
	const daemon = 65534
	must(t, filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, daemon, daemon))
	}))
	r := openReader(t, s.dir)
	account(t, r, Filter{})
	must(t, r.Close())
	must(t, filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != daemon {
			t.Errorf("%s is root's now", filepath.Base(path))
		}
		return err
	}))
}

func TestReaderTellsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		ruin func(t *testing.T, dir string)
		want error
	}{
		"no directory": {func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }, ErrNoSpool},
		"empty":        {func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)); must(t, os.Mkdir(dir, 0o700)) }, ErrNoSpool},
		"no ledger":    {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, ledgerName))) }, ErrLedgerDamaged},
		"overwritten":  {ruinLedger, ErrLedgerDamaged},
		"empty ledger": {func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, ledgerName), 0)) }, ErrOlderSchema},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			send(t, s, newSlice("1.2", 1))
			must(t, s.Close())
			c.ruin(t, s.dir)
			if r, err := OpenReader(t.Context(), s.dir); !errors.Is(err, c.want) {
				t.Errorf("%v, %v; want %v", r, err, c.want)
			}
		})
	}
	t.Run("damaged within", func(t *testing.T) {
		s := open(t, Options{})
		send(t, s, newSlice("1.2", 1))
		must(t, s.Close())
		path := filepath.Join(s.dir, ledgerName)
		content, err := os.ReadFile(path)
		must(t, err)
		copy(content[4096:], bytes.Repeat([]byte{0xA5}, len(content)-4096))
		must(t, os.WriteFile(path, content, 0o600))
		if a, err := openReader(t, s.dir).Account(t.Context(), Filter{}); !errors.Is(err, ErrLedgerDamaged) {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

// Every instance that cannot be answered for is named.
func TestAccountNamesWhatDoesNotBalance(t *testing.T) {
	s := open(t, Options{})
	var sent []Instance
	for n := range 6 {
		i, _ := send(t, s, newSlice("1.2", byte(n)))
		sent = append(sent, i)
	}
	send(t, s, newSlice("1.3", 1))
	r := openReader(t, s.dir)
	if a := account(t, r, Filter{}); len(a.Discrepancies) > 0 {
		t.Fatalf("before anything was wrong: %+v", a.Discrepancies)
	}

	must(t, os.Remove(pathOf(t, s, sent[0])))
	must(t, os.Truncate(pathOf(t, s, sent[1]), 100))
	foreign := filepath.Join(s.dir, instancesDir, "00", "DOE^JANE.dcm")
	must(t, os.WriteFile(foreign, nil, 0o600))
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(foreign, old, old))
	must(t, os.WriteFile(filepath.Join(s.dir, instancesDir, "01", "young"), nil, 0o600)) // being received, perhaps
	for _, update := range []string{
		`UPDATE instances SET state = 'removed' WHERE sop_instance_uid = '1.2.1.3'`,
		`DELETE FROM findings WHERE instance_id = (SELECT id FROM instances WHERE sop_instance_uid = '1.2.1.4')`,
		`UPDATE instances SET state = 'missing' WHERE sop_instance_uid = '1.2.1.5'`,
		`UPDATE studies SET open = 0 WHERE study_instance_uid = '1.2'`,
	} {
		must(t, s.write(t.Context(), durable, StepRecovered, func(tx *transaction) error {
			_, err := tx.exec(update)
			return err
		}))
	}
	got := map[string]string{}
	for _, d := range account(t, r, Filter{}).Discrepancies {
		got[string(d.SOPInstanceUID)+d.File] = d.Wrong
		if d.File == "" && d.Study != s.Pseudonym("1.2") {
			t.Errorf("of study %s: %+v", d.Study, d)
		}
	}
	for about, wrong := range map[string]string{
		"":                   "closed without an outcome",
		"1.2.1.1":            "its file is not there",
		"1.2.1.2":            "has 100 bytes instead of",
		"1.2.1.3":            "not confirmed by: pacs",
		"1.2.1.4":            "lacks its finding",
		"1.2.1.5":            "was lost",
		instancesDir + "/00": "no instance",
	} {
		if !strings.Contains(got[about], wrong) {
			t.Errorf("of %q: %q, want %q", about, got[about], wrong)
		}
		delete(got, about)
	}
	if len(got) > 0 {
		t.Errorf("and: %v", got)
	}
	if a := account(t, r, Filter{Study: "1.3"}); len(a.Discrepancies) > 0 || len(a.Studies) != 1 {
		t.Errorf("another study: %+v", a)
	}
}

// With the daemon stopped, a file without a row is one whatever its age.
func TestAccountNamesFilesWithoutRow(t *testing.T) {
	s := open(t, Options{})
	i, _ := send(t, s, newSlice("1.2", 1))
	must(t, s.write(t.Context(), durable, StepRecovered, func(tx *transaction) error {
		for _, deletion := range []string{`DELETE FROM findings`, `DELETE FROM legs`, `DELETE FROM instances`, `DELETE FROM studies`} {
			if _, err := tx.exec(deletion); err != nil {
				return err
			}
		}
		return nil
	}))
	r := openReader(t, s.dir)
	if a := account(t, r, Filter{}); len(a.Discrepancies) > 0 {
		t.Errorf("beside a daemon, that may be about to index it: %+v", a.Discrepancies)
	}
	must(t, s.Close())
	path, err := filepath.Rel(s.dir, pathOf(t, s, i))
	must(t, err)
	if a := account(t, r, Filter{}); len(a.Discrepancies) != 1 || a.Discrepancies[0].File != path {
		t.Errorf("want %s: %+v", path, a.Discrepancies)
	}
}

// The Reader's numbers hold while a daemon receives, forwards and removes.
func TestAccountBesideAWorkingDaemon(t *testing.T) {
	s := open(t, Options{})
	r := openReader(t, s.dir)
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for n := range 60 {
			i, _, err := trySend(s, newSlice("1.2", byte(n)))
			if err == nil {
				err = s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified})
			}
			var legs []Leg
			if err == nil {
				legs, err = s.DueLegs(t.Context(), "pacs", time.Now(), 10)
			}
			for _, l := range legs {
				err = errors.Join(err, s.LegDone(t.Context(), l.ID, 0, time.Now().Add(-time.Hour)))
			}
			var study Study
			if err == nil {
				study, err = s.Study(t.Context(), "1.2")
			}
			if err == nil {
				_, err = s.Decide(t.Context(), final("1.2", study.Revision, alerts.Negative, ""))
			}
			if err == nil {
				_, err = s.Remove(t.Context(), time.Now(), Retention{})
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	looks := 0
	for working := true; working; looks++ {
		select {
		case err := <-done:
			must(t, err)
			working = false
		default:
		}
		if a := account(t, r, Filter{}); len(a.Discrepancies) > 0 {
			t.Fatalf("look %d: %+v", looks, a.Discrepancies)
		}
	}
	a := account(t, r, Filter{})
	if len(a.Studies) != 1 || a.Studies[0].Instances != 60 || a.Studies[0].Removed != 60 || !a.Studies[0].Balances() {
		t.Errorf("in the end: %+v", a.Studies)
	}
}

func TestLegsAreSelected(t *testing.T) {
	s := open(t, Options{Destinations: []string{"archive", "pacs"}})
	for n := range 3 {
		send(t, s, newSlice("1.2", byte(n)))
	}
	send(t, s, newSlice("1.3", 1))
	r := openReader(t, s.dir)
	ids := func(sel LegSelection) (ids []int64) {
		t.Helper()
		legs, err := r.Legs(t.Context(), sel)
		must(t, err)
		for _, l := range legs {
			ids = append(ids, l.ID)
		}
		return ids
	}
	archive := ids(LegSelection{Destination: "archive"})
	must(t, s.LegParked(t.Context(), archive[0], 0xA900, "refused"))
	must(t, s.LegFailed(t.Context(), archive[1], 0xA700, "busy", time.Now().Add(time.Hour)))
	must(t, s.LegDone(t.Context(), archive[2], 0, time.Now()))
	for _, c := range []struct {
		sel  LegSelection
		want int
	}{
		{LegSelection{}, 8},
		{LegSelection{Study: "1.2"}, 6},
		{LegSelection{Study: s.Pseudonym("1.3"), Destination: "pacs"}, 1},
		{LegSelection{States: []LegState{LegParked, LegDone}}, 2},
		{LegSelection{Legs: archive[:2], States: []LegState{LegPending}}, 1},
		{LegSelection{Legs: []int64{}}, 0},
		{LegSelection{Destination: "elsewhere"}, 0},
	} {
		if got := ids(c.sel); len(got) != c.want {
			t.Errorf("%+v selects %v, want %d", c.sel, got, c.want)
		}
	}
}

// What a person parks stays parked through a start and a second sending, until a person says otherwise.
func TestHeldLegsStayHeld(t *testing.T) {
	s := open(t, Options{Destinations: []string{"archive", "pacs"}})
	c := newSlice("1.2", 1)
	send(t, s, c)
	send(t, s, newSlice("1.3", 1))
	parked, err := s.ParkSelected(t.Context(), LegSelection{Study: "1.2", Destination: "pacs"}, "wrong patient, says the ward")
	if err != nil || !cmp.Equal(parked, map[string]int{"pacs": 1}) {
		t.Fatalf("parked %v, %v", parked, err)
	}
	due := func() (due int) {
		t.Helper()
		legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
		must(t, err)
		return len(legs)
	}
	s = reopen(t, s, Options{Destinations: []string{"archive", "pacs"}})
	if n, err := s.RetryLegs(t.Context(), "pacs"); err != nil || n != 0 {
		t.Errorf("a start makes %d due, %v", n, err)
	}
	if _, d := send(t, s, c); d != DuplicateSame || due() != 1 {
		t.Errorf("sent again (%v): %d legs are due, want 1", d, due())
	}
	legs, err := openReader(t, s.dir).Legs(t.Context(), LegSelection{States: []LegState{LegParked}})
	if err != nil || len(legs) != 1 || !legs[0].Held || legs[0].LastReason != "wrong patient, says the ward" {
		t.Errorf("parked: %+v, %v", legs, err)
	}
	<-s.LegsAdded("pacs") // of the start
	retried, err := s.RetrySelected(t.Context(), LegSelection{Legs: []int64{legs[0].ID}})
	if err != nil || !cmp.Equal(retried, map[string]int{"pacs": 1}) || due() != 2 {
		t.Errorf("retried %v, %v; %d are due, want 2", retried, err, due())
	}
	select {
	case <-s.LegsAdded("pacs"):
	default:
		t.Error("nobody was woken")
	}
	if k := kinds(t, s); !slices.Contains(k, EventLegsHeld) || !slices.Contains(k, EventLegsRetried) {
		t.Errorf("the diary has %v", k)
	}
}

// BenchmarkAccount is a look at 10,000 instances.
func BenchmarkAccount(b *testing.B) {
	s := open(b, Options{})
	fill(b, s, 10_000)
	r := openReader(b, s.dir)
	for b.Loop() {
		if a := account(b, r, Filter{}); len(a.Discrepancies) > 0 {
			b.Fatal(a.Discrepancies)
		}
	}
}
