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
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.MkdirAll(dir, 0o700))
	real, err := openDisk(dir)
	must(t, err)
	layer := &faulty{disk: real}
	s := open(t, Options{Dir: dir, files: layer})
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
