package spool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"ichwatch/dimse/dicom"
)

var (
	// ErrFull is matched by every error that comes from a full disk.
	ErrFull = errors.New("no space left in the spool")
	// ErrLocked is returned by Open while another process holds the spool.
	ErrLocked = errors.New("the spool is in use by another process")
	// ErrNewerSchema is returned by Open for a ledger of a later release.
	ErrNewerSchema = errors.New("the ledger was written by a later release")
	// ErrClosed is returned for a commit after Close.
	ErrClosed = errors.New("the spool is closed")

	// ErrUnknownStudy, ErrUnknownInstance and ErrUnknownLeg: no such row.
	ErrUnknownStudy    = errors.New("no such study in the ledger")
	ErrUnknownInstance = errors.New("no such instance in the ledger")
	ErrUnknownLeg      = errors.New("no such leg in the ledger")
	// ErrMissing: the ledger knows the instance and its file is not there in its
	// whole length, because it was lost or because it was removed after its time.
	ErrMissing = errors.New("the file of the instance is not in the spool")
	// ErrDamaged: the disk gave back other bytes than arrived.
	ErrDamaged = errors.New("the file of the instance is damaged")
	// ErrLegSettled: a failure was reported for a leg that is not pending.
	ErrLegSettled = errors.New("the leg is not pending")
)

// Options configures Open. Dir alone is required.
type Options struct {
	// Dir is the spool's directory, created with mode 0700 when missing.
	Dir string
	// Destinations are the names to which instances get legs.
	Destinations []string
	// Route says which of the destinations an instance goes to; none is an answer.
	// Nil: to each of them, at once.
	Route func(Traits) []Way
	// Device is this appliance's name; alert ids are derived from it.
	Device string
	// Quota is the most, in bytes, that instances may take of the disk; 0: all of it.
	Quota uint64
	// Log receives what a technician should know; nil discards it.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Hook is called after each durable step with one of the names in Steps,
	// so that a test can end the process there. Nil in production.
	Hook func(step string)

	files fileSystem // nil: the real disk below Dir
}

// Spool is an open spool. All its methods may be called concurrently.
type Spool struct {
	dir          string
	destinations []string
	route        func(Traits) []Way
	device       string
	log          *slog.Logger
	now          func() time.Time
	hook         func(step string)

	files     fileSystem
	ledger    *ledger
	journal   journal // guarded by ledger.writing
	lock      *os.File
	key       []byte // of the pseudonyms
	boot      uint64
	recovered Recovery
	patience  patience // of recovery
	recalled  []told   // likewise

	quota uint64
	held  atomic.Int64 // bytes of the instances' files
	unfit atomic.Pointer[unfitness]

	wake    wakeups
	holds   holds
	commits uidLocks
	names   struct {
		sync.Mutex
		entropy *ulid.MonotonicEntropy
	}
}

// Open takes the spool's lock, brings the ledger to the current schema and
// reconciles it with the files; Recovery tells what that came to.
func Open(ctx context.Context, o Options) (_ *Spool, err error) {
	s := &Spool{
		dir:          o.Dir,
		destinations: slices.Compact(slices.Sorted(slices.Values(o.Destinations))),
		route:        o.Route,
		device:       o.Device,
		quota:        o.Quota,
		log:          o.Log,
		now:          o.Now,
		hook:         o.Hook,
		files:        o.files,
	}
	if s.route == nil {
		s.route = everywhere(s.destinations)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.hook == nil {
		s.hook = func(string) {}
	}
	s.names.entropy = ulid.Monotonic(rand.Reader, 0)
	s.wake.init()
	s.holds.init()

	// Until the last step has succeeded, an error undoes the earlier ones.
	defer func() {
		if err != nil {
			err = fmt.Errorf("open spool %s: %w", o.Dir, errors.Join(err, s.release()))
		}
	}()
	if err := s.makeDirectories(); err != nil {
		return nil, err
	}
	if s.lock, err = takeLock(filepath.Join(s.dir, lockName)); err != nil {
		return nil, err
	}
	if s.files == nil {
		if s.files, err = openDisk(s.dir); err != nil {
			return nil, err
		}
	}
	if s.boot, err = s.countBoot(); err != nil {
		return nil, err
	}
	if s.key, err = s.loadKey(); err != nil {
		return nil, err
	}
	if s.recovered.Flush, err = s.measureFlush(); err != nil {
		// The disk may be full; then there is all the more to be sent away.
		s.log.Warn("the disk's flush time could not be measured", "err", err)
	}
	if err := s.recover(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the use of the spool. Calls that are under way finish or fail with
// ErrClosed; nothing that was acknowledged depends on it.
func (s *Spool) Close() error {
	if err := s.release(); err != nil {
		return fmt.Errorf("close spool %s: %w", s.dir, err)
	}
	return nil
}

// release gives back whatever Open has acquired so far.
func (s *Spool) release() error {
	var errs []error
	if s.ledger != nil {
		errs = append(errs, s.ledger.close())
	}
	if s.journal.file != nil {
		errs = append(errs, s.journal.file.Close())
	}
	if closer, ok := s.files.(io.Closer); ok {
		errs = append(errs, closer.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close()) // and with it the lock
	}
	return errors.Join(errs...)
}

// Boot returns how often this spool has been opened, this time included. It
// grows across restarts and power cuts, so that an old last will can be told
// from a new one.
func (s *Spool) Boot() uint64 { return s.boot }

// Recovery tells what Open found and did.
func (s *Spool) Recovery() Recovery { return s.recovered }

// newName returns a ULID that no other call has returned; within a millisecond
// they grow.
func (s *Spool) newName() (ulid.ULID, error) {
	s.names.Lock()
	defer s.names.Unlock()
	id, err := ulid.New(ulid.Timestamp(s.now()), s.names.entropy)
	if err != nil {
		return ulid.ULID{}, fmt.Errorf("name a new instance: %w", err)
	}
	return id, nil
}

// classify makes err match ErrFull when a full disk is at its root.
func classify(err error) error {
	var inSQLite *sqlite.Error
	switch {
	case err == nil, errors.Is(err, ErrFull):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT),
		errors.As(err, &inSQLite) && inSQLite.Code()&0xff == sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// uidLocks lets one commit at a time pass for any one SOP Instance UID, so that
// parallel sendings of the same object meet one another in the ledger. Two
// different UIDs share a lock once in a while, at the cost of a millisecond.
type uidLocks [64]sync.Mutex

func (l *uidLocks) of(uid dicom.UID) *sync.Mutex {
	sum := uint32(2166136261) // FNV-1a
	for i := range len(uid) {
		sum = (sum ^ uint32(uid[i])) * 16777619
	}
	return &l[sum%uint32(len(l))]
}
