package spool

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// failing is the real disk, with errors where a test wants them.
type failing struct {
	*disk
	mu   sync.Mutex
	left map[string]int // by operation: how many calls fail from now on; less than 0: all
	path string         // of what the operations fail on
}

func (d *failing) fails(op, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if path != d.path || d.left[op] == 0 {
		return nil
	}
	d.left[op]--
	return &fs.PathError{Op: op, Path: path, Err: syscall.EIO}
}

func (d *failing) Open(path string) (file, error) {
	if err := d.fails("open", path); err != nil {
		return nil, err
	}
	f, err := d.disk.Open(path)
	return &failingFile{f, d, path}, err
}

func (d *failing) ReadDir(path string) ([]fs.DirEntry, error) {
	if err := d.fails("readdir", path); err != nil {
		return nil, err
	}
	entries, err := d.disk.ReadDir(path)
	for n := range entries {
		entries[n] = failingEntry{entries[n], d, filepath.Join(path, entries[n].Name())}
	}
	return entries, err
}

type failingFile struct {
	file
	disk *failing
	path string
}

func (f *failingFile) ReadAt(p []byte, at int64) (int, error) {
	if err := f.disk.fails("read", f.path); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, at)
}

func (f *failingFile) Stat() (fs.FileInfo, error) {
	if err := f.disk.fails("stat", f.path); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

type failingEntry struct {
	fs.DirEntry
	disk *failing
	path string
}

func (e failingEntry) Info() (fs.FileInfo, error) {
	if err := e.disk.fails("info", e.path); err != nil {
		return nil, err
	}
	return e.DirEntry.Info()
}

// twoFolders returns a spool with two instances in different folders, and one of them.
func twoFolders(t *testing.T) (*Spool, Instance) {
	t.Helper()
	for {
		s := open(t, Options{})
		a, _ := send(t, s, newSlice("1.2", 1))
		b, _ := send(t, s, newSlice("1.3", 1))
		if filepath.Dir(pathOf(t, s, a)) != filepath.Dir(pathOf(t, s, b)) {
			return s, a
		}
		must(t, s.Close())
	}
}

// A disk that does not give a file back says nothing about the file: what fails
// for a moment is tried again, what goes on failing stays where it is, with its
// row or without, and the start goes on.
func TestRecoveryOfADiskThatCannotBeRead(t *testing.T) {
	const always = -1
	for name, c := range map[string]struct {
		op      string
		times   int
		rebuild bool // the file has no row
		want    Recovery
	}{
		"open for a moment":          {"open", 1, true, Recovery{Instances: 2, Adopted: 2, LedgerRebuilt: true}},
		"read for a moment":          {"read", 2, true, Recovery{Instances: 2, Adopted: 2, LedgerRebuilt: true}},
		"stat for a moment":          {"stat", 3, true, Recovery{Instances: 2, Adopted: 2, LedgerRebuilt: true}},
		"open":                       {"open", always, true, Recovery{Instances: 1, Adopted: 1, Unread: 1, LedgerRebuilt: true}},
		"read":                       {"read", always, true, Recovery{Instances: 1, Adopted: 1, Unread: 1, LedgerRebuilt: true}},
		"info":                       {"info", always, false, Recovery{Instances: 1, Unread: 1}},
		"folder for a moment":        {"readdir", 2, false, Recovery{Instances: 2}},
		"folder":                     {"readdir", always, false, Recovery{Instances: 1, Folders: 1}},
		"folder and lost ledger":     {"readdir", always, true, Recovery{Instances: 1, Adopted: 1, Folders: 1, LedgerRebuilt: true}},
		"folder, moment, and ledger": {"readdir", 2, true, Recovery{Instances: 2, Adopted: 2, LedgerRebuilt: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, i := twoFolders(t)
			must(t, s.Close())
			if c.rebuild {
				ruinLedger(t, s.dir)
			}
			path, err := filepath.Rel(s.dir, pathOf(t, s, i))
			must(t, err)
			if c.op == "readdir" {
				path = filepath.Dir(path)
			}
			real, err := openDisk(s.dir)
			must(t, err)
			s = open(t, Options{Dir: s.dir, files: &failing{disk: real, left: map[string]int{c.op: c.times}, path: path}})
			if diff := cmp.Diff(c.want, recovered(s)); diff != "" {
				t.Error(diff)
			}
			if _, err := os.Stat(pathOf(t, s, i)); err != nil {
				t.Errorf("the file is not where it was: %v", err)
			}
			must(t, s.Close())

			s = open(t, Options{Dir: s.dir}) // the disk is well again
			if r := s.Recovery(); r.Instances != 2 || r.Missing+r.Quarantined+r.Unread+r.Folders > 0 {
				t.Errorf("the next start: %+v", r)
			}
		})
	}
}

// A disk that has died holds up no start for hours.
func TestPatienceEnds(t *testing.T) {
	var p patience
	p.left.Store(2)
	tries := 0
	fail := func() error {
		tries++
		return syscall.EIO
	}
	for range 5 {
		if err := p.with(fail); err == nil {
			t.Fatal("no error")
		}
	}
	if tries != 7 {
		t.Errorf("tried %d times: want 5 times and twice again", tries)
	}
}

func TestFlushIsMeasured(t *testing.T) {
	s := open(t, Options{})
	if flush := s.Recovery().Flush; flush <= 0 || flush > flushPatience {
		t.Errorf("flush %v", flush)
	}
	if _, err := os.Stat(filepath.Join(s.dir, flushName)); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}
