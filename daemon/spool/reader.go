package spool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrNoSpool is returned by OpenReader where there is no spool.
	ErrNoSpool = errors.New("there is no spool")
	// ErrOlderSchema is returned by OpenReader for a ledger that a daemon of this
	// release has not opened yet.
	ErrOlderSchema = errors.New("the ledger was written by an earlier release")
	// ErrLedgerDamaged is matched where the ledger's content is not to be trusted.
	ErrLedgerDamaged = errors.New("the ledger is damaged")
)

// Reader reads a spool without holding it: beside the daemon that does, after one
// that was killed, or where none runs. It takes no lock that anybody waits for and
// writes nothing but the two files that SQLite itself puts beside a ledger, under
// the ledger's owner.
type Reader struct {
	dir   string
	files *disk
	db    *sql.DB
}

// OpenReader opens the spool in a directory for reading. Its errors match
// ErrNoSpool, fs.ErrPermission, ErrLedgerDamaged, ErrNewerSchema or
// ErrOlderSchema where that is what is wrong.
func OpenReader(ctx context.Context, dir string) (_ *Reader, err error) {
	r := &Reader{dir: dir}
	defer func() {
		if err != nil {
			err = fmt.Errorf("read spool %s: %w", dir, errors.Join(err, r.Close()))
		}
	}()
	path := filepath.Join(dir, ledgerName)
	// Looked at first, for SQLite has one error for all of this.
	switch f, err := os.Open(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, noLedger(dir)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w (it is for root and the daemon's user: try sudo)", err)
	case err != nil:
		return nil, err
	default:
		f.Close()
	}
	if r.files, err = openDisk(dir); err != nil {
		return nil, err
	}
	err = r.connect(ctx, path, "ro")
	if isUnwritable(err) && emptyLog(path) {
		// A disk that has become read-only: then nobody writes.
		err = r.connect(ctx, path, "ro", "immutable", "1")
	}
	return r, err
}

// noLedger tells a directory without a spool from a spool that has lost its ledger.
func noLedger(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, instancesDir)); err != nil {
		return fmt.Errorf("%w (see spool.dir in the configuration; the daemon makes it at its first start)", ErrNoSpool)
	}
	return fmt.Errorf("%w: %s is not there, though instances are; the next start of the daemon rebuilds it from them", ErrLedgerDamaged, ledgerName)
}

// connect opens the ledger and looks at its version, the first thing that touches the file.
func (r *Reader) connect(ctx context.Context, path, mode string, more ...string) error {
	q := url.Values{"mode": {mode}, "_pragma": {
		"busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")", "query_only(1)",
	}}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	if r.db != nil {
		if err := r.db.Close(); err != nil {
			return err
		}
	}
	var err error
	if r.db, err = sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: q.Encode()}).String()); err != nil {
		return err
	}
	var version int
	if err := r.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return readable(err)
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	switch {
	case err != nil:
		return err
	case version > len(names):
		return fmt.Errorf("%w: schema %d, this one knows %d (use the program of the daemon)", ErrNewerSchema, version, len(names))
	case version < len(names):
		return fmt.Errorf("%w: schema %d instead of %d (restart the daemon, which brings it up to date)", ErrOlderSchema, version, len(names))
	}
	return nil
}

// readable makes damage that SQLite has met match ErrLedgerDamaged, and says what to do.
func readable(err error) error {
	if !isDamage(err) {
		return err
	}
	return fmt.Errorf("%w: %w (restart the daemon: it moves the ledger to %s/ and rebuilds it from the files)", ErrLedgerDamaged, err, quarantineDir)
}

// isUnwritable tells whether SQLite wanted to make a file beside the ledger and could not.
func isUnwritable(err error) bool {
	inSQLite, ok := errors.AsType[*sqlite.Error](err)
	return ok && (inSQLite.Code()&0xff == sqlite3.SQLITE_CANTOPEN || inSQLite.Code()&0xff == sqlite3.SQLITE_READONLY)
}

// emptyLog reports that the write-ahead log has nothing that the ledger lacks.
func emptyLog(path string) bool {
	info, err := os.Stat(path + "-wal")
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
}

// Close ends the reading.
func (r *Reader) Close() error {
	var errs []error
	if r.db != nil {
		errs = append(errs, r.db.Close())
	}
	if r.files != nil {
		errs = append(errs, r.files.Close())
	}
	return errors.Join(errs...)
}

// InUse reports whether a process holds the spool at this moment.
func (r *Reader) InUse() (bool, error) {
	f, err := os.Open(filepath.Join(r.dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock of the spool: %w", err)
	}
	defer f.Close() // and with it the lock
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("look at the lock of the spool: %w", err)
	}
	return false, nil
}

// Disk measures the file system that holds the spool.
func (r *Reader) Disk() (Disk, error) { return measureDisk(r.dir) }

// Quarantined counts what recovery has put aside.
func (r *Reader) Quarantined() (int, error) {
	entries, err := r.files.ReadDir(quarantineDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("look into %s: %w", quarantineDir, err)
	}
	return len(entries), nil
}

// Studies returns the ledger's studies, the latest first.
func (r *Reader) Studies(ctx context.Context, f Filter) ([]StudyRecord, error) {
	var records []StudyRecord
	err := r.read(ctx, func(tx *sql.Tx) (err error) {
		records, err = readStudies(ctx, tx, f)
		return err
	})
	return records, err
}

// read runs do on one state of the ledger.
func (r *Reader) read(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := r.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err == nil {
		defer tx.Rollback()
		err = do(tx)
	}
	if err != nil {
		return fmt.Errorf("read the ledger: %w", readable(err))
	}
	return nil
}
