package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"
)

// Recovery is what Open found and did.
type Recovery struct {
	Instances     int  // files in the spool with a row each, at the end
	Partial       int  // files never acknowledged, moved to quarantine
	Quarantined   int  // other files that were not trusted, moved to quarantine
	Adopted       int  // files without a row, indexed
	Missing       int  // rows whose file is gone; found by this start
	Unread        int  // files that could not be read: left where they are, for the next start
	Folders       int  // folders that could not be read, likewise
	Removed       int  // removals that had been decided, finished
	LedgerRebuilt bool // the ledger was missing or corrupt
	Recalled      int  // studies whose outcome and alerts the journal knew, where the ledger was empty

	// Flush is how long the disk takes to make 4 KiB durable; 0 where it could
	// not be measured.
	Flush   time.Duration
	Elapsed time.Duration
}

// adoptionBatch is how many files are adopted in one transaction.
const adoptionBatch = 256

// recover opens the ledger and reconciles it with the files.
func (s *Spool) recover(ctx context.Context) error {
	begin := time.Now()
	s.patience.left.Store(startPause)
	if err := s.openOrRebuildLedger(ctx); err != nil {
		return err
	}
	if err := s.recall(ctx); err != nil {
		return err
	}
	if err := s.openJournal(ctx); err != nil {
		return err
	}
	if err := s.quarantinePartial(); err != nil {
		return err
	}
	done, err := s.removeFiles(ctx)
	if err != nil {
		return fmt.Errorf("finish a removal: %w", err)
	}
	s.recovered.Removed = done.Instances
	if err := s.reconcile(ctx); err != nil {
		return err
	}
	if err := s.noteRecovery(ctx); err != nil {
		return err
	}
	if err := s.countHeld(ctx); err != nil {
		return err
	}
	s.recalled = nil
	if err := s.routeAgain(ctx); err != nil {
		return err
	}
	s.recovered.Elapsed = time.Since(begin)
	s.tellRecovery(ctx)
	s.announce(s.recovered.Instances)
	signal(s.wake.messages)
	return nil
}

func (s *Spool) tellRecovery(ctx context.Context) {
	r := s.recovered
	s.log.Info("spool opened", "boot", s.boot, "instances", r.Instances, "partial", r.Partial, "quarantined", r.Quarantined,
		"adopted", r.Adopted, "missing", r.Missing, "unread", r.Unread, "removed", r.Removed, "flush", r.Flush, "elapsed", r.Elapsed)
	if r.Missing > 0 {
		s.log.Error("instances that were acknowledged are gone from the disk; check the disk, then send the studies again from the scanner", "missing", r.Missing)
	}
	if r.Unread > 0 || r.Folders > 0 {
		s.log.Error("the disk did not let everything in the spool be read; it is left where it is, and the next start looks at it again; check the disk",
			"files", r.Unread, "folders", r.Folders)
	}
	if r.Flush > slowFlush {
		s.log.Warn("the disk is slow to make data durable; the scanner waits for it with every object", "flush", r.Flush)
	}
	if r.Quarantined > 0 {
		s.log.Warn("files that are no instances lay in the spool and were moved to "+quarantineDir+"/", "files", r.Quarantined)
	}
	stranded, err := collect(scanStranded)(s.ledger.queries.query(ctx,
		`SELECT destination, count(*) FROM legs WHERE state <> 'done' GROUP BY destination`))
	if err != nil {
		s.log.Error("cannot read the legs", "err", err)
		return
	}
	for _, d := range stranded {
		if !slices.Contains(s.destinations, d.name) {
			s.log.Warn("instances wait for a destination that is no longer configured; they are kept", "destination", d.name, "instances", d.legs)
		}
	}
}

type strandedLegs struct {
	name string
	legs int
}

func scanStranded(row scanner) (l strandedLegs, err error) {
	err = row.Scan(&l.name, &l.legs)
	return l, err
}

// openOrRebuildLedger opens the ledger. One that is damaged is moved aside and
// begun anew; so is one that is missing while instances are there.
func (s *Spool) openOrRebuildLedger(ctx context.Context) error {
	path := filepath.Join(s.dir, ledgerName)
	_, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.recovered.LedgerRebuilt = s.hasInstances()
		// A write-ahead log without its database would be replayed into the new one.
		if err := s.moveLedgerAside(); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("open the ledger: %w", err)
	}
	s.ledger, err = s.createLedger(ctx, path)
	if !isDamage(err) {
		return err
	}
	s.log.Error("the ledger is damaged; it is moved aside and rebuilt from the files", "err", err)
	s.recovered.LedgerRebuilt = true
	if err := s.moveLedgerAside(); err != nil {
		return err
	}
	s.ledger, err = s.createLedger(ctx, path)
	return err
}

// createLedger is openLedger with the file made beforehand, for its mode and so
// that its name is on the disk before anything relies on it.
func (s *Spool) createLedger(ctx context.Context, path string) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if err := errors.Join(f.Close(), s.files.SyncDir(".")); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	return openLedger(ctx, path)
}

func (s *Spool) moveLedgerAside() error {
	name, err := s.newName()
	if err != nil {
		return err
	}
	moved := false
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err := s.files.Rename(ledgerName+suffix, filepath.Join(quarantineDir, name.String()+"-"+ledgerName+suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("move the ledger aside: %w", err)
		}
		moved = moved || err == nil
	}
	if !moved {
		return nil
	}
	if err := errors.Join(s.files.SyncDir(quarantineDir), s.files.SyncDir(".")); err != nil {
		return fmt.Errorf("move the ledger aside: %w", err)
	}
	s.hook(StepLedgerMovedAside)
	return nil
}

func (s *Spool) hasInstances() bool {
	for i := range 256 {
		entries, err := s.files.ReadDir(filepath.Join(instancesDir, fmt.Sprintf("%02x", i)))
		if err != nil || len(entries) > 0 { // what cannot be read now is not empty for certain
			return true
		}
	}
	return false
}

// noteRecovery writes into the diary what no single instance's event tells.
func (s *Spool) noteRecovery(ctx context.Context) error {
	var events []Event
	if s.recovered.LedgerRebuilt {
		events = append(events, Event{At: s.now(), Kind: EventLedgerRebuilt, Detail: fmt.Sprintf("%d instances", s.recovered.Adopted)})
	}
	if n := s.recovered.Partial + s.recovered.Quarantined; n > 0 {
		events = append(events, Event{At: s.now(), Kind: EventQuarantined, Detail: fmt.Sprintf("%d files", n)})
	}
	if len(events) == 0 && len(s.recalled) == 0 {
		return nil
	}
	return s.write(ctx, durable, StepRecovered, func(tx *transaction) error {
		if err := s.settleRecalled(tx); err != nil {
			return err
		}
		if s.recovered.LedgerRebuilt {
			// How their associations ended is lost with the ledger. Most ended well.
			if _, err := tx.exec(`UPDATE studies SET released = 1`); err != nil {
				return err
			}
		}
		for _, e := range events {
			if err := tx.record(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// quarantinePartial moves what was being received when the process ended.
func (s *Spool) quarantinePartial() error {
	entries, err := s.files.ReadDir(incomingDir)
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	for _, e := range entries {
		if err := s.quarantine(filepath.Join(incomingDir, e.Name())); err != nil {
			return err
		}
	}
	s.recovered.Partial = len(entries)
	return nil
}

// quarantine moves a file, or whatever else lies there, out of the way. Its own
// name stays behind a new ULID, so that nothing is overwritten; it may tell
// about a patient and is never logged.
func (s *Spool) quarantine(path string) error {
	name, err := s.newName()
	if err != nil {
		return err
	}
	to := filepath.Join(quarantineDir, name.String()+"-"+filepath.Base(path))
	if len(filepath.Base(to)) > 255 {
		to = filepath.Join(quarantineDir, name.String())
	}
	if err := s.files.Rename(path, to); err != nil {
		return fmt.Errorf("move a file to %s: %w", quarantineDir, withoutPath(err))
	}
	if err := errors.Join(s.files.SyncDir(quarantineDir), s.files.SyncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("move a file to %s: %w", quarantineDir, err)
	}
	s.hook(StepQuarantined)
	return nil
}

// withoutPath strips an error of the file's name.
func withoutPath(err error) error {
	var link *os.LinkError
	var path *fs.PathError
	switch {
	case errors.As(err, &link):
		return link.Err
	case errors.As(err, &path):
		return path.Err
	}
	return err
}

// known is what the ledger says of one file.
type known struct {
	id     int64
	name   string
	state  instanceState
	length int64 // of the whole file
}

func scanKnown(row scanner) (k known, err error) {
	err = row.Scan(&k.id, &k.name, &k.state, &k.length)
	return k, err
}

// reconcile compares the files with the rows: what has no row is adopted, what
// is no instance or has not its length goes to quarantine, and a row without a
// file is recorded as missing.
func (s *Spool) reconcile(ctx context.Context) error {
	rows, err := collect(scanKnown)(s.ledger.queries.query(ctx,
		`SELECT id, name, state, data_offset + size FROM instances WHERE state IN ('stored', 'missing')`))
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	expected := make(map[string]known, len(rows))
	for _, k := range rows {
		expected[k.name] = k
	}

	var orphans []ulid.ULID
	unread := func(dir string, err error) {
		s.recovered.Folders++
		s.log.Error("a folder of the spool cannot be read", "folder", dir, "err", withoutPath(err))
		for name := range expected { // nobody knows whether they are missing
			if id, err := ulid.ParseStrict(name); err == nil && shard(id) == dir {
				delete(expected, name)
			}
		}
	}
	err = eachFile(s.files, &s.patience, unread, func(path string, e fs.DirEntry) error {
		name, ok := parseInstancePath(path)
		if !ok || !e.Type().IsRegular() {
			s.recovered.Quarantined++
			return s.quarantine(path)
		}
		k, indexed := expected[name.String()]
		if !indexed || k.state == missing {
			orphans = append(orphans, name)
			return nil
		}
		info, err := e.Info()
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // its row finds it missing below
			}
			delete(expected, k.name)
			s.leave(name, err)
			return nil
		}
		if info.Size() != k.length { // likewise
			s.recovered.Quarantined++
			return s.quarantine(path)
		}
		delete(expected, k.name)
		s.recovered.Instances++
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}

	// Missing first: an adopted file may be the other copy of one that is gone.
	if err := s.recordMissing(ctx, expected); err != nil {
		return err
	}
	slices.SortFunc(orphans, ulid.ULID.Compare)
	for batch := range slices.Chunk(orphans, adoptionBatch) {
		if err := s.adopt(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// recordMissing marks the rows whose files were not found.
func (s *Spool) recordMissing(ctx context.Context, gone map[string]known) error {
	for name, k := range gone {
		if k.state == missing {
			delete(gone, name) // recorded by an earlier start
		}
	}
	if len(gone) == 0 {
		return nil
	}
	err := s.write(ctx, durable, StepMissing, func(tx *transaction) error {
		for _, k := range gone {
			e := Event{At: s.now(), Kind: EventMissing, InstanceID: k.id}
			err := tx.row(`UPDATE instances SET state = 'missing' WHERE id = ?
					RETURNING (SELECT pseudonym FROM studies s WHERE s.id = study_id)`, []any{k.id}, &e.Study)
			if err != nil {
				return err
			}
			if err := tx.record(e); err != nil {
				return err
			}
			s.log.Error("the file of an acknowledged instance is gone", "study", e.Study, "instance", k.id)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record missing files: %w", err)
	}
	s.recovered.Missing = len(gone)
	return nil
}

// orphan is a file without a row, as far as it can be understood.
type orphan struct {
	name     ulid.ULID
	instance Instance
	err      error // why it is no instance
	unread   error // why that is not known
}

// adopt indexes files without a row.
func (s *Spool) adopt(ctx context.Context, names []ulid.ULID) error {
	orphans := make([]orphan, len(names))
	var readers errgroup.Group
	readers.SetLimit(runtime.GOMAXPROCS(0))
	for n, name := range names {
		readers.Go(func() error {
			o := &orphans[n]
			o.name = name
			o.unread = s.patience.with(func() (unread error) {
				o.instance, o.err, unread = s.examine(name)
				return unread
			})
			return nil
		})
	}
	_ = readers.Wait()

	var unfit []ulid.ULID // no instances, and second copies of stored ones
	left := 0
	err := s.write(ctx, durable, StepAdopted, func(tx *transaction) error {
		for n := range orphans {
			o := &orphans[n]
			if o.unread != nil {
				s.leave(o.name, o.unread)
				left++
				continue
			}
			if o.err != nil {
				s.log.Warn("a file in the spool is no instance", "file", o.name, "err", o.err)
				unfit = append(unfit, o.name)
				continue
			}
			already, err := s.adoptOne(tx, &o.instance)
			if err != nil {
				return err
			}
			if already {
				unfit = append(unfit, o.name)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adopt files: %w", err)
	}
	for _, name := range unfit {
		if err := s.quarantine(instancePath(name)); err != nil {
			return err
		}
	}
	adopted := len(names) - len(unfit) - left
	s.recovered.Quarantined += len(unfit)
	s.recovered.Adopted += adopted
	s.recovered.Instances += adopted
	return nil
}

// adoptOne indexes one instance, unless the same one is stored already.
func (s *Spool) adoptOne(tx *transaction, i *Instance) (already bool, err error) {
	err = tx.row(`SELECT count(*) > 0 FROM instances WHERE sop_instance_uid = ? AND sha256 = ? AND state = 'stored'`,
		[]any{i.SOPInstanceUID, digest(i.SHA256)}, &already)
	if err != nil || already {
		return already, err
	}
	var others bool
	err = tx.row(`SELECT count(*) > 0 FROM instances WHERE sop_instance_uid = ? AND sha256 <> ?`,
		[]any{i.SOPInstanceUID, digest(i.SHA256)}, &others)
	if err != nil {
		return false, err
	}
	duplicate := DuplicateNo
	if others {
		duplicate = DuplicateDifferent
	}
	if err := s.index(tx, i, duplicate); err != nil {
		return false, err
	}
	return false, tx.record(Event{At: s.now(), Kind: EventAdopted, Study: i.Study, InstanceID: i.ID})
}
