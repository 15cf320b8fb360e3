package spool

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func instanceFiles(t *testing.T, s *Spool) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, instancesDir, "*", "*"))
	must(t, err)
	return len(files)
}

// allFiles counts the partial files too.
func allFiles(t *testing.T, s *Spool) int {
	t.Helper()
	partial, err := filepath.Glob(filepath.Join(s.dir, incomingDir, "*"))
	must(t, err)
	return instanceFiles(t, s) + len(partial)
}

func TestDuplicateWithTheSameBytes(t *testing.T) {
	s := open(t, Options{})
	c := newSlice("1.2", 1)
	first, _ := send(t, s, c)
	second, d := send(t, s, c)
	if d != DuplicateSame || second != first {
		t.Errorf("second sending: %v, %+v", d, second)
	}
	if n := instanceFiles(t, s); n != 1 {
		t.Errorf("%d files", n)
	}
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
	must(t, err)
	if len(legs) != 1 {
		t.Errorf("%d legs", len(legs))
	}
}

func TestDuplicateWithOtherBytes(t *testing.T) {
	s := open(t, Options{})
	c := newSlice("1.2", 1)
	first, _ := send(t, s, c)
	other := c
	other.pixels = []byte{42, 42}
	second, d := send(t, s, other)
	if d != DuplicateDifferent || second.ID == first.ID {
		t.Errorf("second sending: %v, %+v", d, second)
	}
	if !bytes.Equal(read(t, s, first.ID), c.dataSet()) || !bytes.Equal(read(t, s, second.ID), other.dataSet()) {
		t.Error("one of them came back as other bytes")
	}
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
	must(t, err)
	if len(legs) != 2 {
		t.Errorf("%d legs, want one each", len(legs))
	}
	for _, l := range legs {
		if !l.Contested {
			t.Errorf("the leg of instance %d does not tell that its UID came with two data sets", l.Instance.ID)
		}
	}
	if diff := cmp.Diff([]EventKind{EventDuplicateDifferent}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestTenParallelSendsLeaveOneIntactFile(t *testing.T) {
	s := open(t, Options{})
	c := newSlice("1.2", 1)
	var all sync.WaitGroup
	results := make([]Duplicate, 10)
	for n := range results {
		all.Go(func() {
			_, d, err := trySend(s, c)
			if err != nil {
				t.Error(err)
			}
			results[n] = d
		})
	}
	all.Wait()
	counted := map[Duplicate]int{}
	for _, d := range results {
		counted[d]++
	}
	if counted[DuplicateNo] != 1 || counted[DuplicateSame] != 9 {
		t.Errorf("duplicates %v", counted)
	}
	if n := instanceFiles(t, s); n != 1 {
		t.Errorf("%d files", n)
	}
	pending, err := s.PendingSlices(t.Context(), 10)
	must(t, err)
	if len(pending) != 1 || !bytes.Equal(read(t, s, pending[0].ID), c.dataSet()) {
		t.Errorf("%d instances", len(pending))
	}
}

func TestSentAgainFreesAParkedLeg(t *testing.T) {
	s := open(t, Options{})
	c := newSlice("1.2", 1)
	send(t, s, c)
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
	must(t, err)
	must(t, s.LegParked(t.Context(), legs[0].ID, 0x0122, "SOP class not supported"))
	if _, d := send(t, s, c); d != DuplicateSame {
		t.Errorf("duplicate = %v", d)
	}
	legs, err = s.DueLegs(t.Context(), "pacs", time.Now(), 10)
	must(t, err)
	if len(legs) != 1 {
		t.Error("a leg stays parked though its instance was sent again")
	}
}

// faulty is a disk on which one operation fails.
type faulty struct {
	*disk
	fail string
	err  error
}

// openFaulty opens a spool on a disk on which nothing fails yet.
func openFaulty(t *testing.T) (*Spool, *faulty) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.MkdirAll(dir, 0o700))
	real, err := openDisk(dir)
	must(t, err)
	layer := &faulty{disk: real}
	return open(t, Options{Dir: dir, files: layer}), layer
}

type faultyFile struct {
	file
	f *faulty
}

func (f *faulty) fails(operation string) error {
	if f.fail == operation {
		return f.err
	}
	return nil
}

func (f *faulty) Create(path string) (file, error) {
	if err := f.fails("create"); err != nil {
		return nil, err
	}
	opened, err := f.disk.Create(path)
	if err != nil {
		return nil, err
	}
	return faultyFile{opened, f}, nil
}

func (f *faulty) Rename(from, to string) error {
	return errors.Join(f.fails("rename"), f.disk.Rename(from, to))
}

func (f *faulty) SyncDir(path string) error {
	return errors.Join(f.fails("syncdir"), f.disk.SyncDir(path))
}
func (f faultyFile) Sync() error { return errors.Join(f.f.fails("sync"), f.file.Sync()) }

func (f faultyFile) Write(p []byte) (int, error) {
	if err := f.f.fails("write"); err != nil && !bytes.Contains(p, []byte("DICM")) {
		n, werr := f.file.Write(p[:len(p)/2])
		return n, errors.Join(err, werr)
	}
	return f.file.Write(p)
}

// TestPromise1_NoSuccessOnAFailingDisk: whatever fails, the sender is not told
// success, and the sending that succeeds in the end leaves the right bytes.
func TestPromise1_NoSuccessOnAFailingDisk(t *testing.T) {
	s, layer := openFaulty(t)
	sent := 0
	for _, operation := range []string{"create", "write", "sync", "rename", "syncdir"} {
		for _, errno := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
			c := newSlice("1.2", byte(sent))
			layer.fail, layer.err = operation, errno
			if _, _, err := trySend(s, c); !errors.Is(err, errno) || errors.Is(err, ErrFull) != (errno == syscall.ENOSPC) {
				t.Errorf("%s fails with %v: the sender is told %v", operation, errno, err)
			}
			if pending, err := s.PendingSlices(t.Context(), 100); err != nil || len(pending) != sent {
				t.Errorf("%s fails with %v: %d instances are indexed, want %d, %v", operation, errno, len(pending), sent, err)
			}
			if n := allFiles(t, s); n != sent {
				t.Errorf("%s fails with %v: %d files lie in the spool, want %d", operation, errno, n, sent)
			}
			layer.fail = ""
			if i, d := send(t, s, c); d != DuplicateNo || !bytes.Equal(read(t, s, i.ID), c.dataSet()) {
				t.Errorf("%s failed with %v: sent again: %v", operation, errno, d)
			}
			sent++
		}
	}
	s = reopen(t, s, Options{})
	if r := s.Recovery(); r.Instances != sent || r.Missing != 0 {
		t.Errorf("recovery %+v", r)
	}
}

// TestFailingLedgerLeavesNoFiles: a sender that tries again and again while the
// ledger cannot be written must not fill the disk.
func TestFailingLedgerLeavesNoFiles(t *testing.T) {
	s := open(t, Options{})
	writable := func(yes string) {
		t.Helper()
		_, err := s.ledger.writers[rebuildable].conn.ExecContext(t.Context(), "PRAGMA query_only = "+yes)
		must(t, err)
	}
	c := newSlice("1.2", 1)
	writable("1")
	for range 3 {
		if _, _, err := trySend(s, c); err == nil {
			t.Fatal("success without an index row")
		}
	}
	if n := allFiles(t, s); n != 0 {
		t.Errorf("%d files were left behind", n)
	}
	writable("0")
	if i, d := send(t, s, c); d != DuplicateNo || !bytes.Equal(read(t, s, i.ID), c.dataSet()) {
		t.Errorf("sent again: %v", d)
	}
}

// TestPromise1_DuplicateOfALostFile: the row alone is no ground for telling the
// sender that its instance is held.
func TestPromise1_DuplicateOfALostFile(t *testing.T) {
	for _, loss := range []struct {
		name string
		do   func(path string) error
	}{
		{"gone", os.Remove},
		{"cut short", func(path string) error { return os.Truncate(path, 1000) }},
	} {
		t.Run(loss.name, func(t *testing.T) {
			s := open(t, Options{})
			c := newSlice("1.2", 1)
			i, _ := send(t, s, c)
			must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingFailed, Reason: "the file is gone"}))
			files, err := filepath.Glob(filepath.Join(s.dir, instancesDir, "*", i.name+instanceSuffix))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			must(t, loss.do(files[0]))
			if _, err := s.OpenDataSet(t.Context(), i.ID); !errors.Is(err, ErrMissing) {
				t.Errorf("OpenDataSet: %v, want ErrMissing", err)
			}

			again, d := send(t, s, c)
			if d != DuplicateNo || again.ID != i.ID || !bytes.Equal(read(t, s, again.ID), c.dataSet()) {
				t.Errorf("sent again: %v, %+v", d, again)
			}
			legOf(t, s, again) // it is to be forwarded
			if pending, err := s.PendingSlices(t.Context(), 10); err != nil || len(pending) != 1 {
				t.Errorf("%d slices wait for triage, %v; want the one whose file is back", len(pending), err)
			}
			s = reopen(t, s, Options{})
			if r := s.Recovery(); r.Instances != 1 || r.Adopted+r.Missing != 0 {
				t.Errorf("recovery %+v", r)
			}
		})
	}
}
