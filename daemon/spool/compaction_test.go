package spool

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ichwatch/alerts"
)

func journalLines(t *testing.T, dir string) [][]byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, journalName))
	must(t, err)
	return bytes.Split(bytes.TrimSpace(content), []byte("\n"))
}

// chatty closes a spool whose journal is mostly superseded, and returns the state
// of the two studies in it: an alert that has escalated often, and a negative.
func chatty(t *testing.T) (dir, alertID string, seq int) {
	t.Helper()
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	send(t, s, newSlice("1.3", 1))
	decide(t, s, final("1.3", 1, alerts.Negative, ""))
	alertID = decide(t, s, positive("1.2", 1, "1.2.1.2")).AlertID
	publish(t, s)
	const levels = journalSlack/2 + 1
	for level := range levels {
		must(t, s.Escalate(t.Context(), alertID, level+1, time.Now()))
		publish(t, s)
	}
	must(t, s.Close())
	return s.dir, alertID, 1 + levels
}

func checkChatty(t *testing.T, s *Spool, alertID string, seq int) {
	t.Helper()
	if study, err := s.Study(t.Context(), "1.3"); err != nil || study.Outcome != alerts.Negative {
		t.Errorf("study %+v, %v", study, err)
	}
	records, err := s.Studies(t.Context(), Filter{Study: "1.2"})
	must(t, err)
	if len(records) != 1 || len(records[0].Alerts) != 1 || records[0].Alerts[0].AlertID != alertID || records[0].Alerts[0].Last.Seq != seq {
		t.Errorf("want alert %s, number %d: %+v", alertID, seq, records)
	}
}

// A journal of which most is superseded is written anew at a start; it says the
// same as before, and is left alone at the next.
func TestJournalIsMadeShorter(t *testing.T) {
	dir, id, seq := chatty(t)
	if n := len(journalLines(t, dir)); n <= journalSlack {
		t.Fatalf("only %d lines", n)
	}
	inode := func() uint64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, journalName))
		must(t, err)
		return info.Sys().(*syscall.Stat_t).Ino
	}
	long := inode()
	s := open(t, Options{Dir: dir})
	lines := journalLines(t, dir)
	if len(lines) != 2 || !json.Valid(lines[0]) || !json.Valid(lines[1]) {
		t.Errorf("the journal:\n%s", bytes.Join(lines, []byte("\n")))
	}
	short := inode()
	if short == long {
		t.Error("it was written in place")
	}
	must(t, s.Escalate(t.Context(), id, 99, time.Now())) // it goes on in the new one
	s = reopen(t, s, Options{})
	if inode() != short {
		t.Error("it was written anew without need")
	}
	s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
	checkChatty(t, s, id, seq+1)
}

// TestPromise5_KilledWhileTheJournalIsMadeShorter, with the ledger lost besides.
func TestPromise5_KilledWhileTheJournalIsMadeShorter(t *testing.T) {
	for _, step := range []string{StepJournalBegun + beforeCommit, StepJournalBegun, StepJournalRenamed, StepJournalInPlace} {
		for _, lost := range []bool{false, true} {
			t.Run(step, func(t *testing.T) {
				dir, id, seq := chatty(t)
				if !newWorld(io.Discard).run(t, crash{dir, step, 1}) {
					t.Fatal("the start never came to this step")
				}
				if lost {
					ruinLedger(t, dir)
				}
				checkChatty(t, open(t, Options{Dir: dir}), id, seq)
			})
		}
	}
}

// A disk that is full or fails keeps the long journal.
func TestJournalThatCannotBeMadeShorter(t *testing.T) {
	for _, operation := range []string{"create journal", "write journal", "sync journal", "rename journal"} {
		for _, errno := range []error{syscall.ENOSPC, syscall.EIO} {
			t.Run(operation+" "+errno.Error(), func(t *testing.T) {
				dir, id, seq := chatty(t)
				before := journalLines(t, dir)
				real, err := openDisk(dir)
				must(t, err)
				s := open(t, Options{Dir: dir, files: &failingJournal{real, operation, errno}})
				after := journalLines(t, dir)
				if !bytes.Equal(bytes.Join(before, nil), bytes.Join(after, nil)) {
					t.Errorf("%d lines became %d", len(before), len(after))
				}
				if _, err := os.Stat(filepath.Join(dir, journalBegun)); !os.IsNotExist(err) {
					t.Errorf("the new one is still there: %v", err)
				}
				must(t, s.Escalate(t.Context(), id, 99, time.Now()))
				s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
				checkChatty(t, s, id, seq+1)
			})
		}
	}
}

// failingJournal is a disk on which one operation fails with the new journal.
type failingJournal struct {
	*disk
	operation string
	err       error
}

func (f *failingJournal) fails(operation, path string) error {
	if path == journalBegun && operation == f.operation {
		return f.err
	}
	return nil
}

func (f *failingJournal) Create(path string) (file, error) {
	if err := f.fails("create journal", path); err != nil {
		return nil, err
	}
	return f.disk.Create(path)
}

func (f *failingJournal) Rename(from, to string) error {
	if err := f.fails("rename journal", from); err != nil {
		return err
	}
	return f.disk.Rename(from, to)
}

func (f *failingJournal) Append(path string) (file, error) {
	opened, err := f.disk.Append(path)
	return failingJournalFile{opened, f, path}, err
}

type failingJournalFile struct {
	file
	disk *failingJournal
	path string
}

func (f failingJournalFile) Write(p []byte) (int, error) {
	if err := f.disk.fails("write journal", f.path); err != nil {
		n, werr := f.file.Write(p[:len(p)/2])
		if werr != nil {
			return n, werr
		}
		return n, err
	}
	return f.file.Write(p)
}

func (f failingJournalFile) Sync() error {
	if err := f.disk.fails("sync journal", f.path); err != nil {
		return err
	}
	return f.file.Sync()
}
