package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
func measureFlush(dir string) (_ time.Duration, err error) {
	path := filepath.Join(dir, flushName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
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
