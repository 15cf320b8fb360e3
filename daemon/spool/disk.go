package spool

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Disk is the room that the spool has, in bytes.
type Disk struct {
	Total uint64
	Free  uint64 // available to this process
}

// InUse returns the share of the disk, 0 to 1, that is not free to this process;
// 1 where nothing is known of its size.
func (d Disk) InUse() float64 {
	if d.Total == 0 {
		return 1
	}
	return 1 - float64(d.Free)/float64(d.Total)
}

// Within is what a quota leaves of a disk when so many bytes of it are held; a
// quota of 0 leaves it as it is.
func (d Disk) Within(quota, held uint64) Disk {
	if quota == 0 {
		return d
	}
	return Disk{Total: min(d.Total, quota), Free: min(d.Free, quota-min(quota, held))}
}

// Disk measures the room that the spool has: that of its file system, within the
// quota.
func (s *Spool) Disk() (Disk, error) {
	d, err := measureDisk(s.dir)
	return d.Within(s.quota, uint64(max(0, s.held.Load()))), err
}

func measureDisk(dir string) (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Disk{}, fmt.Errorf("measure the disk of spool %s: %w", dir, err)
	}
	block := uint64(st.Bsize)
	return Disk{Total: st.Blocks * block, Free: st.Bavail * block}, nil
}

// countHeld adds up what instances take of the disk. Commits go on meanwhile:
// until the next time it may be wrong by theirs.
func (s *Spool) countHeld(ctx context.Context) error {
	sum, err := collect(scanCount)(s.ledger.queries.query(ctx,
		`SELECT coalesce(sum(data_offset + size), 0) FROM instances WHERE state IN ('stored', 'removing')`))
	if err != nil {
		return fmt.Errorf("add up what the spool holds: %w", err)
	}
	s.held.Store(sum[0])
	return nil
}

// unfitness is why the disk takes nothing, and since when that is known.
type unfitness struct {
	err   error
	since time.Time
}

// Fit returns nil while the disk does what it is told, as far as is known, and
// otherwise what it answered last. A full disk is fit: Disk tells of it.
func (s *Spool) Fit() error {
	if u := s.unfit.Load(); u != nil {
		return fmt.Errorf("the disk of the spool has taken nothing since %s: %w", u.since.Format(time.RFC3339), u.err)
	}
	return nil
}

// Probe tries whether the disk makes a few bytes durable, and remembers what
// came of it for Fit.
func (s *Spool) Probe() error {
	_, err := s.measureFlush()
	if err = classify(err); isUnfit(err) {
		s.noteUnfit(err)
		return s.Fit()
	}
	if u := s.unfit.Swap(nil); u != nil {
		s.log.Info("the disk of the spool takes data again", "for", s.now().Sub(u.since))
	}
	return nil
}

// noteUnfit remembers an error of the disk; any other it passes over.
func (s *Spool) noteUnfit(err error) {
	if !isUnfit(err) {
		return
	}
	u := &unfitness{withoutPath(err), s.now()}
	if before := s.unfit.Load(); before != nil {
		u.since = before.since
	}
	if before := s.unfit.Swap(u); before == nil {
		s.log.Error("the disk of the spool takes nothing; scanners are told so and keep what they have; look at the disk (dmesg) and at how it is mounted", "err", u.err)
	}
}

// isUnfit tells an error of the disk from a full one, and from all that is not
// the disk's.
func isUnfit(err error) bool {
	if inSQLite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch inSQLite.Code() & 0xff {
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
			return true
		}
		return false
	}
	_, ofSystem := errors.AsType[syscall.Errno](err)
	return ofSystem && !errors.Is(err, ErrFull)
}
