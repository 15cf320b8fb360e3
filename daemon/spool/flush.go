package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

const (
	flushTries = 5
	// slowFlush is worth a warning: commit needs two flushes an instance, and 50 ms
	// of each leave ten slices a second.
	slowFlush = 50 * time.Millisecond
	// flushPatience ends the measuring on a disk that is very slow.
	flushPatience = 2 * time.Second
)

// measureFlush measures how long the disk takes to make 4 KiB durable: the median
// of a few appends with fsync.
func (s *Spool) measureFlush() (_ time.Duration, err error) {
	if err := s.files.Remove(flushName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("remove a file: %w", err)
	}
	f, err := s.files.Create(flushName)
	if err != nil {
		return 0, fmt.Errorf("make a file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), s.files.Remove(flushName)) }()
	block := make([]byte, 4096)
	var took []time.Duration
	for begun := time.Now(); len(took) < flushTries && time.Since(begun) < flushPatience; {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, fmt.Errorf("write to the disk: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("flush the disk: %w", err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}
