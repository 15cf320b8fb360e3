package spool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// Study is a study on its way to an outcome.
type Study struct {
	StudyInstanceUID dicom.UID
	Pseudonym        string
	// Revision grows with every instance that joins the study. A Decision
	// carries the revision whose evidence it weighed.
	Revision      int64
	Instances     int
	Pending       int // instances without a finding yet
	FirstReceived time.Time
	LastReceived  time.Time
	// Released: the association that brought the last instance was released in
	// order, so the sender had no more to send. After an abort, a lost
	// connection or a crash of ours it is false until the sender comes back.
	Released bool
	Outcome  alerts.Outcome // of an earlier decision; "" before the first
	AlertID  string         // of the standing alert; "" without one
}

// joinedStudy is the study that an instance has just joined.
type joinedStudy struct {
	id      int64
	urgent  bool
	decided bool // it was, before this instance
}

// joinStudy makes the instance's study, or counts one more instance into it and
// opens it again.
func (tx *transaction) joinStudy(i *Instance) (joinedStudy, error) {
	var study joinedStudy
	var open bool
	err := tx.row(`SELECT id, urgent, open FROM studies WHERE study_instance_uid = ?`,
		[]any{i.StudyInstanceUID}, &study.id, &study.urgent, &open)
	switch {
	case err == nil:
		study.decided = !open
		_, err = tx.exec(`UPDATE studies SET revision = revision + 1, open = 1, released = 0,
				first_received = min(first_received, ?1), last_received = max(last_received, ?1) WHERE id = ?2`,
			instant(i.ReceivedAt), study.id)
		return study, err
	case !errors.Is(err, sql.ErrNoRows):
		return study, err
	}
	result, err := tx.exec(`INSERT INTO studies (study_instance_uid, pseudonym, revision, first_received, last_received)
			VALUES (?, ?, 1, ?, ?)`, i.StudyInstanceUID, i.Study, instant(i.ReceivedAt), instant(i.ReceivedAt))
	if err != nil {
		return study, err
	}
	study.id, err = result.LastInsertId()
	return study, err
}

const selectStudy = `SELECT s.study_instance_uid, s.pseudonym, s.revision, s.first_received, s.last_received, s.released,
		coalesce(s.outcome, ''),
		coalesce((SELECT a.alert_id FROM alerts a WHERE a.study_id = s.id AND a.state <> 'retracted'), ''),
		(SELECT count(*) FROM instances i WHERE i.study_id = s.id),
		(SELECT count(*) FROM instances i JOIN findings f ON f.instance_id = i.id
			WHERE i.study_id = s.id AND i.state = 'stored' AND f.state = 'pending')
	FROM studies s `

func scanStudy(row scanner) (s Study, err error) {
	err = row.Scan(&s.StudyInstanceUID, &s.Pseudonym, &s.Revision, (*instant)(&s.FirstReceived), (*instant)(&s.LastReceived), &s.Released,
		&s.Outcome, &s.AlertID, &s.Instances, &s.Pending)
	return s, err
}

// Study returns what is known of a study. The error matches ErrUnknownStudy.
func (s *Spool) Study(ctx context.Context, study dicom.UID) (Study, error) {
	found, err := collect(scanStudy)(s.ledger.queries.query(ctx, selectStudy+`WHERE s.study_instance_uid = ?`, study))
	if err == nil && len(found) == 0 {
		err = ErrUnknownStudy
	}
	if err != nil {
		return Study{}, fmt.Errorf("look up study %s: %w", s.Pseudonym(study), err)
	}
	return found[0], nil
}

// QuietStudies returns the studies that are ripe for a final decision, the one
// that has waited longest first: every instance has its finding, the last one
// came before the given time, and no open association carries the study.
func (s *Spool) QuietStudies(ctx context.Context, before time.Time) ([]Study, error) {
	held := s.holds.held()
	candidates, err := collect(scanStudy)(s.ledger.queries.query(ctx,
		selectStudy+`WHERE s.open = 1 AND s.last_received < ? ORDER BY s.last_received, s.id`, instant(before)))
	if err != nil {
		return nil, fmt.Errorf("look for quiet studies: %w", err)
	}
	quiet := candidates[:0]
	for _, study := range candidates {
		if _, carried := held[study.StudyInstanceUID]; !carried && study.Pending == 0 {
			quiet = append(quiet, study)
		}
	}
	return quiet, nil
}

// ended notes in the ledger how an association ended for the studies that it
// carried. A study that an orderly release completes is decided anew: what was
// said of its torso no longer holds.
func (s *Spool) ended(ctx context.Context, studies []dicom.UID, orderly bool) error {
	return s.write(ctx, rebuildable, StepReleased, func(tx *transaction) error {
		for _, uid := range studies {
			var err error
			if orderly {
				_, err = tx.exec(`UPDATE studies SET released = 1, open = 1, revision = revision + 1
					WHERE study_instance_uid = ? AND released = 0`, uid)
			} else {
				_, err = tx.exec(`UPDATE studies SET released = 0 WHERE study_instance_uid = ? AND open = 1`, uid)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
