package spool

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/oklog/ulid/v2"

	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
)

// Commitment answers a request for storage commitment from the ledger and the
// files. An instance is committed when its file is here and holds the bytes that
// arrived, for it is read; or when every destination has confirmed it, after
// which its file may have been removed. Where several data sets came under one
// SOP Instance UID, all of them must be.
//
// The reasons of failure are those of PS3.3 section C.14.1.1: 0112H for a UID
// that was never received, 0119H for one received in another SOP class, 0110H
// for an instance that this appliance cannot answer for. Such a one is taken in
// anew when it is sent again.
func (s *Spool) Commitment(ctx context.Context, rq *commitment.Request) (*commitment.Result, error) {
	r := &commitment.Result{TransactionUID: rq.TransactionUID}
	for _, reference := range rq.References {
		reason, err := s.failureReason(ctx, reference)
		switch {
		case err != nil:
			return nil, fmt.Errorf("answer for an instance: %w", err)
		case reason == command.StatusSuccess:
			r.Committed = append(r.Committed, reference)
		default:
			r.Failed = append(r.Failed, commitment.Failure{Reference: reference, Reason: reason})
		}
	}
	return r, nil
}

// failureReason is why an instance is not committed; Success if it is.
func (s *Spool) failureReason(ctx context.Context, reference commitment.Reference) (command.Status, error) {
	copies, err := s.copies(ctx, reference.SOPInstanceUID)
	if err != nil {
		return 0, err
	}
	if len(copies) == 0 {
		return command.StatusNoSuchSOPInstance, nil
	}
	known := false
	for _, c := range copies {
		if c.SOPClassUID != reference.SOPClassUID {
			continue
		}
		known = true
		safe, err := s.isSafe(ctx, c)
		if err != nil {
			return 0, err
		}
		if !safe {
			return command.StatusProcessingFailure, nil
		}
	}
	if !known {
		return command.StatusClassInstanceConflict, nil
	}
	return command.StatusSuccess, nil
}

// isSafe says whether a copy is held here, or by every destination.
func (s *Spool) isSafe(ctx context.Context, c heldCopy) (bool, error) {
	if c.state == stored {
		err := s.verify(ctx, c.Instance)
		switch {
		case err == nil:
			return true, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		case errors.Is(err, ErrMissing), errors.Is(err, ErrDamaged):
			if c.state, err = s.lose(ctx, c.Instance, err); err != nil {
				return false, err
			}
		default:
			s.log.Error("an instance cannot be read, and is not committed to its sender; check the disk", "study", c.Study, "instance", c.ID, "err", err)
		}
	}
	if c.state == removing || c.state == removed { // every leg was done then
		return true, nil
	}
	confirmed, err := collect(scanCount)(s.ledger.queries.query(ctx,
		`SELECT count(*) > 0 AND sum(state <> 'done') = 0 FROM legs WHERE instance_id = ?`, c.ID))
	if err != nil {
		return false, err
	}
	return confirmed[0] == 1, nil
}

// verify reads the file of an instance and compares it with what arrived, unless
// ctx ends first.
func (s *Spool) verify(ctx context.Context, i Instance) error { return verify(ctx, s.files, i) }

func verify(ctx context.Context, files fileSystem, i Instance) error {
	f, err := openInstance(files, i)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.CopyBuffer(hash, whileReader{ctx, io.NewSectionReader(f, i.offset, i.Size)}, make([]byte, 128<<10)); err != nil {
		return err
	}
	if [sha256.Size]byte(hash.Sum(nil)) != i.SHA256 {
		return ErrDamaged
	}
	return nil
}

// whileReader reads while a context lasts.
type whileReader struct {
	ctx context.Context
	io.Reader
}

func (r whileReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// lose takes an instance out of service whose file is not what arrived: the file
// goes to quarantine and the row is marked missing, so that the instance is
// taken in anew when it is sent again. It returns the state of the row, which
// may have become another one in the meantime.
func (s *Spool) lose(ctx context.Context, i Instance, cause error) (instanceState, error) {
	lock := s.commits.of(i.SOPInstanceUID)
	lock.Lock()
	defer lock.Unlock()
	copies, err := s.copies(ctx, i.SOPInstanceUID)
	if err != nil {
		return "", err
	}
	for _, c := range copies {
		if c.ID == i.ID && (c.state != stored || c.name != i.name) {
			return c.state, nil
		}
	}
	name, err := ulid.ParseStrict(i.name)
	if err != nil {
		return "", err
	}
	// The file first: a missing row whose file is there is a file to be adopted.
	if err := s.quarantine(instancePath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	err = s.write(ctx, durable, StepMissing, func(tx *transaction) error {
		if _, err := tx.exec(`UPDATE instances SET state = 'missing' WHERE id = ? AND name = ? AND state = 'stored'`, i.ID, i.name); err != nil {
			return err
		}
		return tx.record(Event{At: s.now(), Kind: EventMissing, Study: i.Study, InstanceID: i.ID, Detail: cause.Error()})
	})
	if err != nil {
		return "", err
	}
	s.log.Error("the file of an acknowledged instance is gone or damaged; check the disk, and send the study again", "study", i.Study, "instance", i.ID, "err", cause)
	return missing, nil
}
