package spool

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"ichwatch/dimse/dicom"
)

// Instance is one stored SOP Instance as the ledger knows it. It carries no
// identity: a header element beyond these UIDs is read from the file itself
// (OpenDataSet, then dicom.Scan), which is the truth.
type Instance struct {
	ID                int64 // the ledger's row, unique for the life of the ledger
	SOPInstanceUID    dicom.UID
	SOPClassUID       dicom.UID
	StudyInstanceUID  dicom.UID // an object without a study stands as a study of its own, under its SOP Instance UID
	SeriesInstanceUID dicom.UID
	TransferSyntaxUID dicom.UID
	CallingAETitle    dicom.AETitle
	SHA256            [32]byte // of the data set as it arrived, without the Part 10 header
	Size              int64    // bytes of the data set, likewise
	ReceivedAt        time.Time
	Study             string // the study's pseudonym: the only name of a study that may be logged

	name   string // ULID of the file
	offset int64  // where in the file the data set begins
	traits Traits // while it is being indexed
}

// Duplicate says what the spool already held under the SOP Instance UID of a
// committed instance.
type Duplicate int

const (
	// DuplicateNo: the SOP Instance UID was not known.
	DuplicateNo Duplicate = iota
	// DuplicateSame: the same UID with the same data set is held already; the
	// new copy was dropped, and the sender deserves its success.
	DuplicateSame
	// DuplicateDifferent: the same UID came with another data set; both are
	// kept and both are forwarded, and an event is recorded.
	DuplicateDifferent
)

// instanceColumns are what scanInstance reads, of instances i joined with studies s.
const instanceColumns = `i.id, i.sop_instance_uid, i.sop_class_uid, s.study_instance_uid, i.series_instance_uid,
	i.transfer_syntax_uid, i.calling_ae_title, i.sha256, i.size, i.received_at, s.pseudonym, i.name, i.data_offset`

func scanInstance(row scanner) (i Instance, err error) {
	err = row.Scan(i.columns()...)
	return i, err
}

// columns returns where instanceColumns go.
func (i *Instance) columns() []any {
	return []any{
		&i.ID, &i.SOPInstanceUID, &i.SOPClassUID, &i.StudyInstanceUID, &i.SeriesInstanceUID,
		&i.TransferSyntaxUID, &i.CallingAETitle, (*digest)(&i.SHA256), &i.Size, (*instant)(&i.ReceivedAt),
		&i.Study, &i.name, &i.offset,
	}
}

// instanceState is where the file of an instance is.
type instanceState string

const (
	stored   instanceState = "stored"   // in instances/
	missing  instanceState = "missing"  // lost
	removing instanceState = "removing" // about to be removed, rightly
	removed  instanceState = "removed"
)

// heldCopy is one data set that the ledger knows under a SOP Instance UID.
type heldCopy struct {
	Instance
	state instanceState
}

type heldCopies []heldCopy

// copies returns what is known under a SOP Instance UID.
func (s *Spool) copies(ctx context.Context, uid dicom.UID) (heldCopies, error) {
	return collect(scanHeldCopy)(s.ledger.queries.query(ctx, selectCopies, uid))
}

const selectCopies = `SELECT ` + instanceColumns + `, i.state
	FROM instances i JOIN studies s ON s.id = i.study_id WHERE i.sop_instance_uid = ?`

func scanHeldCopy(row scanner) (c heldCopy, err error) {
	err = row.Scan(append(c.columns(), &c.state)...)
	return c, err
}

func (cs heldCopies) stored(sum [32]byte) (Instance, bool) {
	for _, c := range cs {
		if c.SHA256 == sum && c.state == stored {
			return c.Instance, true
		}
	}
	return Instance{}, false
}

func (cs heldCopies) otherThan(sum [32]byte) bool {
	for _, c := range cs {
		if c.SHA256 != sum {
			return true
		}
	}
	return false
}

// index writes what the ledger has to know of a new file: its study, its row,
// its legs and its pending finding. An instance that the ledger knows and the
// disk has lost, or has given up after its time, comes back under its old row.
func (s *Spool) index(tx *transaction, i *Instance, duplicate Duplicate) error {
	study, err := tx.joinStudy(i)
	if err != nil {
		return err
	}
	err = tx.row(`SELECT id FROM instances WHERE sop_instance_uid = ? AND sha256 = ?`,
		[]any{i.SOPInstanceUID, digest(i.SHA256)}, &i.ID)
	switch {
	case err == nil:
		return s.restore(tx, i, study)
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	result, err := tx.exec(`INSERT INTO instances (study_id, name, sop_instance_uid, sop_class_uid, series_instance_uid,
			transfer_syntax_uid, calling_ae_title, sha256, size, data_offset, received_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		study.id, i.name, i.SOPInstanceUID, i.SOPClassUID, i.SeriesInstanceUID,
		i.TransferSyntaxUID, i.CallingAETitle, digest(i.SHA256), i.Size, i.offset, instant(i.ReceivedAt))
	if err != nil {
		return err
	}
	if i.ID, err = result.LastInsertId(); err != nil {
		return err
	}
	if err := s.addLegs(tx, i, study); err != nil {
		return err
	}
	if _, err := tx.exec(`INSERT INTO findings (instance_id, urgent) VALUES (?, ?)`, i.ID, study.urgent); err != nil {
		return err
	}
	if study.decided && s.recalled == nil {
		if err := tx.record(Event{At: i.ReceivedAt, Kind: EventLateInstance, Study: i.Study, InstanceID: i.ID}); err != nil {
			return err
		}
	}
	if duplicate == DuplicateDifferent {
		return tx.record(Event{At: i.ReceivedAt, Kind: EventDuplicateDifferent, Study: i.Study, InstanceID: i.ID})
	}
	return nil
}

// restore gives the row i.ID its file back. Whoever sends an instance that was
// confirmed and removed long ago wants it to arrive: its legs begin anew. Its
// finding stands, for the bytes are the same, unless none could be made.
func (s *Spool) restore(tx *transaction, i *Instance, study joinedStudy) error {
	_, err := tx.exec(`UPDATE instances SET state = 'stored', removed_at = NULL, name = ?, data_offset = ?, received_at = ? WHERE id = ?`,
		i.name, i.offset, instant(i.ReceivedAt), i.ID)
	if err != nil {
		return err
	}
	for _, table := range []string{"legs", "conditional_legs"} {
		if _, err := tx.exec(`DELETE FROM `+table+` WHERE instance_id = ?`, i.ID); err != nil {
			return err
		}
	}
	if err := s.addLegs(tx, i, study); err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE findings SET state = 'pending', reason = '', urgent = ? WHERE instance_id = ? AND state = 'failed'`,
		study.urgent, i.ID)
	if err != nil {
		return err
	}
	return tx.record(Event{At: i.ReceivedAt, Kind: EventResent, Study: i.Study, InstanceID: i.ID})
}

// DataSet reads the data set of a stored instance: the very bytes that arrived,
// beginning at offset 0.
type DataSet struct {
	*io.SectionReader
	Instance Instance
	file     file
}

// Verified returns a reader of the whole data set that ends with ErrDamaged in
// place of io.EOF where the bytes are no longer those that arrived.
func (d *DataSet) Verified() io.Reader {
	return &verified{from: io.NewSectionReader(d.SectionReader, 0, d.Size()), hash: sha256.New(), want: d.Instance.SHA256}
}

type verified struct {
	from io.Reader
	hash hash.Hash
	want [sha256.Size]byte
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.from.Read(p)
	v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && [sha256.Size]byte(v.hash.Sum(nil)) != v.want {
		return n, ErrDamaged
	}
	return n, err
}

// Close closes the file.
func (d *DataSet) Close() error { return d.file.Close() }

// OpenDataSet opens the data set of an instance. The error matches
// ErrUnknownInstance, or ErrMissing when the file is not there in its length.
func (s *Spool) OpenDataSet(ctx context.Context, id int64) (*DataSet, error) {
	i, err := s.instance(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open instance %d: %w", id, err)
	}
	f, err := s.openFile(i)
	if err != nil {
		return nil, fmt.Errorf("open instance %d: %w", id, err)
	}
	return &DataSet{io.NewSectionReader(f, i.offset, i.Size), i, f}, nil
}

func (s *Spool) openFile(i Instance) (file, error) { return openInstance(s.files, i) }

func (s *Spool) instance(ctx context.Context, id int64) (Instance, error) {
	found, err := collect(scanInstance)(s.ledger.queries.query(ctx,
		`SELECT `+instanceColumns+` FROM instances i JOIN studies s ON s.id = i.study_id WHERE i.id = ?`, id))
	switch {
	case err != nil:
		return Instance{}, err
	case len(found) == 0:
		return Instance{}, ErrUnknownInstance
	}
	return found[0], nil
}
