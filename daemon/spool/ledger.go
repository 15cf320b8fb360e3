package spool

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// durability is how firmly a ledger transaction stands when its commit returns.
type durability int

const (
	// rebuildable survives the process; a power cut may take it, and then a
	// scan of the files writes it anew. SQLite: synchronous=NORMAL.
	rebuildable durability = iota
	// durable survives a power cut, and makes every earlier transaction do so.
	// SQLite: synchronous=FULL.
	durable
)

// ledger is the database. SQLite lets one transaction write at a time; writing
// makes them queue here, where they wait without polling. Reading goes on
// beside it, each query on the state of its own moment.
type ledger struct {
	writing sync.Mutex
	writers [2]*writer // by durability
	reading *sql.DB
	queries statements
}

// writer is one connection with its prepared statements; ledger.writing guards it.
type writer struct {
	db         *sql.DB
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

const busyTimeout = 10 * time.Second // for a person's sqlite3 shell beside the daemon

func dsn(path string, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{
		"busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")",
		"journal_mode(WAL)",
		"foreign_keys(1)",
	}, pragmas...)}
	return (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: q.Encode()}).String()
}

// openLedger opens the ledger at path, checks it and brings it to the current
// schema. An error that isDamage recognises means that the file is no ledger.
func openLedger(ctx context.Context, path string) (_ *ledger, err error) {
	l := &ledger{}
	defer func() {
		if err != nil {
			l.close() // the first error is the one to tell
		}
	}()
	for d, pragma := range map[durability]string{rebuildable: "synchronous(NORMAL)", durable: "synchronous(FULL)"} {
		if l.writers[d], err = openWriter(ctx, dsn(path, pragma)); err != nil {
			return nil, fmt.Errorf("open the ledger: %w", err)
		}
	}
	if err := l.check(ctx); err != nil {
		return nil, err
	}
	if err := l.migrate(ctx); err != nil {
		return nil, err
	}
	if l.reading, err = sql.Open("sqlite", dsn(path, "query_only(1)")); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l.reading.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	l.reading.SetMaxIdleConns(max(4, runtime.GOMAXPROCS(0)))
	l.queries = statements{db: l.reading, prepared: make(map[string]*sql.Stmt)}
	return l, nil
}

func openWriter(ctx context.Context, dsn string) (*writer, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &writer{db: db, conn: conn, statements: make(map[string]*sql.Stmt)}, nil
}

// close finalizes the statements first: SQLite keeps a connection that has any,
// and with it the write-ahead log.
func (w *writer) close() error {
	var errs []error
	for _, stmt := range w.statements {
		errs = append(errs, stmt.Close())
	}
	clear(w.statements)
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

func (l *ledger) close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	var errs []error
	if l.reading != nil {
		errs = append(errs, l.queries.close(), l.reading.Close())
	}
	for _, w := range l.writers {
		if w != nil {
			errs = append(errs, w.close())
		}
	}
	return errors.Join(errs...)
}

// errDamaged is what check found where SQLite itself raised no error.
var errDamaged = errors.New("the ledger is damaged")

// isDamage tells whether err means that the file's content is not to be trusted.
func isDamage(err error) bool {
	var inSQLite *sqlite.Error
	if errors.As(err, &inSQLite) {
		switch inSQLite.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return true
		}
	}
	return errors.Is(err, errDamaged)
}

func (l *ledger) check(ctx context.Context) error {
	var verdict string
	if err := l.writers[durable].conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("check the ledger: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("check the ledger: %w: %s", errDamaged, verdict)
	}
	return nil
}

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies the migrations that this ledger has not seen, each in a
// transaction of its own. The number that a file's name begins with is the
// schema version (PRAGMA user_version) that it leads to.
func (l *ledger) migrate(ctx context.Context) error {
	conn := l.writers[durable].conn
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read the ledger's version: %w", err)
	}
	names, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	if version > len(names) {
		return fmt.Errorf("%w: schema %d, this one knows %d (install the later release again, or restore the backup)", ErrNewerSchema, version, len(names))
	}
	for i, name := range names[version:] {
		script, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return fmt.Errorf("migrate the ledger: %w", err)
		}
		defer tx.Rollback() // without effect after Commit
		number := version + i + 1
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("%s\nPRAGMA user_version = %d", script, number)); err != nil {
			return fmt.Errorf("migrate the ledger with %s: %w", filepath.Base(name), classify(err))
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("migrate the ledger with %s: %w", filepath.Base(name), classify(err))
		}
	}
	return nil
}

// transaction is a write under way. Its statements are prepared once for the
// life of the connection.
type transaction struct {
	ctx context.Context
	w   *writer
}

// write runs do in one transaction of the given durability. Between the last
// statement and the commit, and again after the commit, it passes the step to
// the hook. Once begun a write is not cancelled: it takes a millisecond, and
// half of one is of no use to anybody.
func (s *Spool) write(ctx context.Context, d durability, step string, do func(tx *transaction) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l := s.ledger
	l.writing.Lock()
	defer l.writing.Unlock()
	tx := &transaction{context.WithoutCancel(ctx), l.writers[d]}
	if _, err := tx.exec("BEGIN IMMEDIATE"); err != nil {
		return closedOr(classify(err))
	}
	committed := false
	defer func() {
		if !committed { // an error, or a panic on its way up
			// This fails where SQLite has rolled back by itself, and then it is done.
			_, _ = tx.exec("ROLLBACK")
		}
	}()
	if err := do(tx); err != nil {
		return classify(err)
	}
	s.hook(step + beforeCommit)
	if _, err := tx.exec("COMMIT"); err != nil {
		return classify(err)
	}
	committed = true
	s.wake.change()
	s.hook(step)
	return nil
}

func closedOr(err error) error {
	if errors.Is(err, sql.ErrConnDone) {
		return ErrClosed
	}
	return err
}

func (tx *transaction) prepare(query string) (*sql.Stmt, error) {
	if stmt, ok := tx.w.statements[query]; ok {
		return stmt, nil
	}
	stmt, err := tx.w.conn.PrepareContext(tx.ctx, query)
	if err != nil {
		return nil, err
	}
	tx.w.statements[query] = stmt
	return stmt, nil
}

func (tx *transaction) exec(query string, args ...any) (sql.Result, error) {
	stmt, err := tx.prepare(query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(tx.ctx, args...)
}

// change is exec for one row: it returns whether a row was changed.
func (tx *transaction) change(query string, args ...any) (bool, error) {
	result, err := tx.exec(query, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// row runs a query for one row and scans it; sql.ErrNoRows if there is none.
func (tx *transaction) row(query string, args []any, dest ...any) error {
	stmt, err := tx.prepare(query)
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(tx.ctx, args...).Scan(dest...)
}

// query runs a query; collect takes its result.
func (tx *transaction) query(query string, args ...any) (*sql.Rows, error) {
	stmt, err := tx.prepare(query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(tx.ctx, args...)
}

// statements prepares each query of a database once.
type statements struct {
	db       *sql.DB
	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

func (c *statements) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	c.mu.Lock()
	stmt, ok := c.prepared[query]
	if !ok {
		var err error
		if stmt, err = c.db.PrepareContext(ctx, query); err != nil {
			c.mu.Unlock()
			return nil, err
		}
		c.prepared[query] = stmt
	}
	c.mu.Unlock()
	return stmt.QueryContext(ctx, args...)
}

func (c *statements) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, stmt := range c.prepared {
		errs = append(errs, stmt.Close())
	}
	clear(c.prepared)
	return errors.Join(errs...)
}

// scanner is *sql.Row and *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// collect drains rows; it takes the result of a query as it came.
func collect[T any](scan func(scanner) (T, error)) func(*sql.Rows, error) ([]T, error) {
	return func(rows *sql.Rows, err error) ([]T, error) {
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var all []T
		for rows.Next() {
			one, err := scan(rows)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, rows.Err()
	}
}

// instant is a time in a column: nanoseconds since 1970 UTC, NULL for zero.
type instant time.Time

// Value implements driver.Valuer.
func (t instant) Value() (driver.Value, error) {
	if time.Time(t).IsZero() {
		return nil, nil
	}
	return time.Time(t).UnixNano(), nil
}

// Scan implements sql.Scanner.
func (t *instant) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*t = instant{}
	case int64:
		*t = instant(time.Unix(0, v).UTC())
	default:
		return fmt.Errorf("a time in the ledger is a %T", value)
	}
	return nil
}

// digest is a SHA-256 in a column.
type digest [32]byte

// Value implements driver.Valuer.
func (d digest) Value() (driver.Value, error) { return d[:], nil }

// Scan implements sql.Scanner.
func (d *digest) Scan(value any) error {
	b, ok := value.([]byte)
	if !ok || len(b) != len(d) {
		return fmt.Errorf("a SHA-256 in the ledger is a %T of %d bytes", value, len(b))
	}
	copy(d[:], b)
	return nil
}
