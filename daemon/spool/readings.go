package spool

import (
	"context"
	"errors"
	"fmt"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// Read records a reader's verdict on an alert, which thereby is acknowledged
// where nobody has done so. seen is the number of the reading that the person had
// before the eyes, 0 for none: where another one stands the error is an
// *alerts.OverruledError that has it, and nothing changes. The verdict that the
// same person gave before is no other, and the same again changes nothing. The
// error may be alerts.ErrUnknownAlert or alerts.ErrRetracted too.
func (s *Spool) Read(ctx context.Context, r alerts.Reading, seen int) (alerts.Reading, error) {
	err := s.write(ctx, durable, StepAcknowledged, func(tx *transaction) error {
		a, err := tx.knownAlert(r.AlertID)
		if err != nil {
			return err
		}
		if a.state == alerts.StateRetracted {
			return alerts.ErrRetracted
		}
		readings, err := collect(scanReading)(tx.query(selectReadings+`WHERE alert_id = ? ORDER BY number DESC LIMIT 1`, r.AlertID))
		if err != nil {
			return err
		}
		if len(readings) > 0 {
			standing := readings[0]
			if standing.By == r.By && standing.Verdict == r.Verdict && standing.Comment == r.Comment {
				r = standing
				return nil
			}
			if standing.Number != seen {
				return &alerts.OverruledError{Standing: standing}
			}
			r.Number = standing.Number
		}
		r.Number++
		if _, err := tx.exec(`INSERT INTO readings (alert_id, number, verdict, by, at, via, comment) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			r.AlertID, r.Number, r.Verdict, r.By, instant(r.At), r.Via, r.Comment); err != nil {
			return err
		}
		if a.state.Open() {
			if err := a.acknowledge(tx, alerts.Acknowledgement{AlertID: r.AlertID, By: r.By, At: r.At, Via: r.Via}); err != nil {
				return err
			}
		}
		return s.note(tx, a.studyID)
	})
	if err != nil {
		return alerts.Reading{}, fmt.Errorf("record a verdict: %w", err)
	}
	return r, nil
}

// acknowledge notes a person's answer.
func (a *alert) acknowledge(tx *transaction, k alerts.Acknowledgement) error {
	if err := a.apply(alerts.EventAcknowledge); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE alerts SET state = ?, acknowledged_at = ?, stated_at = ?, acknowledged_by = ?, acknowledged_via = ?, comment = ?
			WHERE alert_id = ?`, a.state, instant(k.At), instant(k.StatedAt), k.By, k.Via, k.Comment, a.id)
	return err
}

// AlertStudy returns the study of an alert. The error matches
// alerts.ErrUnknownAlert.
func (s *Spool) AlertStudy(ctx context.Context, alertID string) (dicom.UID, error) {
	studies, err := collect(scanUID)(s.ledger.queries.query(ctx,
		`SELECT s.study_instance_uid FROM alerts a JOIN studies s ON s.id = a.study_id WHERE a.alert_id = ?`, alertID))
	if err == nil && len(studies) == 0 {
		err = alerts.ErrUnknownAlert
	}
	if err != nil {
		return "", fmt.Errorf("look for an alert: %w", err)
	}
	return studies[0], nil
}

// WaitingStudies returns the studies with an alert that no person has answered,
// however long ago it was.
func (s *Spool) WaitingStudies(ctx context.Context) ([]dicom.UID, error) {
	studies, err := collect(scanUID)(s.ledger.queries.query(ctx, `SELECT DISTINCT s.study_instance_uid
		FROM alerts a JOIN studies s ON s.id = a.study_id WHERE a.state NOT IN ('acknowledged', 'retracted')`))
	if err != nil {
		return nil, fmt.Errorf("look for alerts that wait: %w", err)
	}
	return studies, nil
}

func scanUID(row scanner) (uid dicom.UID, err error) {
	err = row.Scan(&uid)
	return uid, err
}

// Readings returns the verdicts on the alerts of a study in the order in which
// they were given.
func (s *Spool) Readings(ctx context.Context, study dicom.UID) ([]alerts.Reading, error) {
	readings, err := collect(scanReading)(s.ledger.queries.query(ctx, selectReadings+`WHERE alert_id IN
			(SELECT alert_id FROM alerts a JOIN studies s ON s.id = a.study_id WHERE s.study_instance_uid = ?) ORDER BY at, number`, study))
	if err != nil {
		return nil, fmt.Errorf("read the verdicts on study %s: %w", s.Pseudonym(study), err)
	}
	return readings, nil
}

const selectReadings = `SELECT alert_id, number, verdict, by, at, via, comment FROM readings `

func scanReading(row scanner) (r alerts.Reading, err error) {
	err = row.Scan(&r.AlertID, &r.Number, &r.Verdict, &r.By, (*instant)(&r.At), &r.Via, &r.Comment)
	return r, err
}

// recallReadings gives an empty ledger the verdicts that the journal knows.
func (tx *transaction) recallReadings(readings []alerts.Reading) error {
	var errs []error
	for _, r := range readings {
		_, err := tx.exec(`INSERT INTO readings (alert_id, number, verdict, by, at, via, comment) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			r.AlertID, r.Number, r.Verdict, r.By, instant(r.At), r.Via, r.Comment)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
