package spool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"

	"ichwatch/dimse/dicom"
)

// Account is the ledger held against itself and against the disk. It balances
// where Discrepancies is empty: every instance that was acknowledged is then on
// the disk in its whole length, or was removed after every destination had
// confirmed it; and every study that is closed has said its outcome.
type Account struct {
	Studies       []StudyRecord
	Discrepancies []Discrepancy
	Verified      int // files that were read to their end and are what arrived
}

// Discrepancy is one thing that an Account cannot answer for.
type Discrepancy struct {
	Study            string    // pseudonym; "" for a file without a row
	StudyInstanceUID dicom.UID // likewise
	SOPInstanceUID   dicom.UID // "" where it is about a study, or about a file
	InstanceID       int64     // 0 likewise
	File             string    // below the spool's directory; "" where none is concerned
	Wrong            string    // in a sentence, with what can be done
}

// accounted is what the ledger says of one instance, as far as it can be held against something.
type accounted struct {
	Discrepancy
	instance    Instance // its file alone
	state       instanceState
	found       sql.NullString // state of the finding
	legs        int
	unconfirmed sql.NullString // destinations
}

const selectAccounted = `SELECT s.pseudonym, s.study_instance_uid, i.sop_instance_uid, i.id, i.name, i.state, i.data_offset, i.size, i.sha256,
		(SELECT f.state FROM findings f WHERE f.instance_id = i.id),
		(SELECT count(*) FROM legs l WHERE l.instance_id = i.id),
		(SELECT group_concat(l.destination, ', ') FROM legs l WHERE l.instance_id = i.id AND l.state <> 'done')
	FROM studies s JOIN instances i ON i.study_id = s.id`

func scanAccounted(row scanner) (a accounted, err error) {
	err = row.Scan(&a.Study, &a.StudyInstanceUID, &a.SOPInstanceUID, &a.InstanceID,
		&a.instance.name, &a.state, &a.instance.offset, &a.instance.Size, (*digest)(&a.instance.SHA256),
		&a.found, &a.legs, &a.unconfirmed)
	return a, err
}

const selectUndecided = `SELECT s.pseudonym, s.study_instance_uid,
		CASE WHEN s.outcome IS NULL THEN 'it is closed without an outcome'
			ELSE 'its alert is neither at the broker nor in the outbox' END
	FROM studies s
	WHERE` + selected + `AND (s.open = 0 AND s.outcome IS NULL
		OR EXISTS (SELECT 1 FROM alerts a WHERE a.study_id = s.id AND a.state = 'new'
			AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.alert_id = a.alert_id AND o.delivered_at IS NULL)))
	ORDER BY s.id`

func scanUndecided(row scanner) (d Discrepancy, err error) {
	err = row.Scan(&d.Study, &d.StudyInstanceUID, &d.Wrong)
	return d, err
}

// Account reads the studies that a Filter selects and holds each of their
// instances against its file; with a Filter of no study and no time, files
// without a row too. It looks at lengths and reads no data set.
func (r *Reader) Account(ctx context.Context, f Filter) (Account, error) {
	return r.account(ctx, f, false)
}

// Verify is Account, and reads every file to its end: what the disk gives back is
// held against the SHA-256 of what arrived. It takes as long as that takes.
func (r *Reader) Verify(ctx context.Context, f Filter) (Account, error) {
	return r.account(ctx, f, true)
}

func (r *Reader) account(ctx context.Context, f Filter, contents bool) (Account, error) {
	var a Account
	var instances []accounted
	err := r.read(ctx, func(tx *sql.Tx) (err error) {
		if a.Studies, err = readStudies(ctx, tx, f); err != nil {
			return err
		}
		if a.Discrepancies, err = collect(scanUndecided)(tx.QueryContext(ctx, selectUndecided, f.args()...)); err != nil {
			return err
		}
		instances, err = collect(scanAccounted)(tx.QueryContext(ctx, selectAccounted+` WHERE`+selected+`ORDER BY i.id`, f.args()...))
		return err
	})
	if err != nil {
		return Account{}, err
	}
	for _, i := range instances {
		wrong := r.wrongWith(ctx, i, contents)
		if wrong != "" {
			// The daemon may have removed the file since, or have taken it in anew.
			if i, err = r.again(ctx, i); err != nil {
				return Account{}, err
			}
			wrong = r.wrongWith(ctx, i, contents)
		}
		switch {
		case ctx.Err() != nil: // which is then what is wrong
			return Account{}, ctx.Err()
		case wrong != "":
			i.Wrong = wrong
			a.Discrepancies = append(a.Discrepancies, i.Discrepancy)
		case contents && i.state == stored:
			a.Verified++
		}
	}
	if f == (Filter{}) {
		unknown, err := r.unknownFiles(ctx, instances)
		if err != nil {
			return Account{}, err
		}
		a.Discrepancies = append(a.Discrepancies, unknown...)
	}
	return a, nil
}

// again reads what the ledger says of an instance now.
func (r *Reader) again(ctx context.Context, i accounted) (accounted, error) {
	err := r.read(ctx, func(tx *sql.Tx) error {
		now, err := collect(scanAccounted)(tx.QueryContext(ctx, selectAccounted+` WHERE i.id = ?`, i.InstanceID))
		if err == nil && len(now) == 1 {
			i = now[0]
		}
		return err
	})
	return i, err
}

// wrongWith holds one instance against its legs, its finding and its file, or what that contains; "" where they agree.
func (r *Reader) wrongWith(ctx context.Context, i accounted, contents bool) string {
	switch {
	case !i.found.Valid:
		return "the ledger lacks its finding"
	case i.state == missing:
		return "its file was lost; send the study again from the scanner"
	case i.state == removed && i.legs == 0:
		return "its file was removed though it had nowhere to go"
	case i.state == removed && i.unconfirmed.Valid:
		return "its file was removed, and not confirmed by: " + i.unconfirmed.String
	case i.state != stored:
		return ""
	}
	name, err := ulid.ParseStrict(i.instance.name)
	if err != nil {
		return "its name in the ledger is damaged"
	}
	length := i.instance.offset + i.instance.Size
	info, err := r.files.root.Lstat(instancePath(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "its file is not there; look at the disk, then send the study again from the scanner"
	case err != nil:
		return fmt.Sprintf("its file cannot be looked at: %v", withoutPath(err))
	case !info.Mode().IsRegular():
		return "something else lies in the place of its file"
	case info.Size() != length:
		return fmt.Sprintf("its file has %d bytes instead of %d", info.Size(), length)
	case !contents:
		return ""
	}
	switch err := verify(ctx, r.files, i.instance); {
	case errors.Is(err, ErrDamaged):
		return "its file is damaged: the disk gives back other bytes than arrived; look at the disk, then send the study again from the scanner"
	case err != nil:
		return fmt.Sprintf("its file cannot be read: %v; look at the disk", withoutPath(err))
	}
	return ""
}

// beingReceived is how long a file may lie in the spool before its row is
// written, while a daemon is at work. It takes milliseconds on a healthy disk.
const beingReceived = time.Minute

// unknownFiles returns the files in instances/ that no row knows.
func (r *Reader) unknownFiles(ctx context.Context, rows []accounted) ([]Discrepancy, error) {
	inUse, err := r.InUse()
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(rows))
	for _, i := range rows {
		known[i.instance.name] = true
	}
	var suspects []string
	var unknown []Discrepancy
	unread := func(dir string, err error) {
		unknown = append(unknown, Discrepancy{File: dir, Wrong: fmt.Sprintf("the folder cannot be read: %v; look at the disk", withoutPath(err))})
	}
	err = eachFile(r.files, new(patience), unread, func(path string, e fs.DirEntry) error {
		if name, ok := parseInstancePath(path); ok && known[name.String()] {
			return nil
		}
		info, err := e.Info()
		removed := errors.Is(err, fs.ErrNotExist) // meanwhile
		young := err == nil && inUse && time.Since(info.ModTime()) < beingReceived
		if !removed && !young {
			suspects = append(suspects, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the spool: %w", withoutPath(err))
	}
	if len(suspects) == 0 {
		return unknown, nil
	}
	// Some may have got their rows since.
	err = r.read(ctx, func(tx *sql.Tx) error {
		names, err := collect(scanName)(tx.QueryContext(ctx, `SELECT name FROM instances`))
		for _, name := range names {
			known[name] = true
		}
		return err
	})
	for _, path := range suspects {
		name, ok := parseInstancePath(path)
		switch {
		case !ok:
			unknown = append(unknown, Discrepancy{
				File:  filepath.Dir(path), // a foreign name may tell about a patient
				Wrong: "something that is no instance lies here; the next start of the daemon moves it to " + quarantineDir + "/",
			})
		case !known[name.String()]:
			unknown = append(unknown, Discrepancy{
				File: path, Wrong: "no row of the ledger knows this file; the next start of the daemon adopts it",
			})
		}
	}
	return unknown, err
}
