package spool

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ichwatch/alerts"
)

var (
	_ alerts.Book   = (*Spool)(nil)
	_ alerts.Outbox = (*Spool)(nil)
)

// alert is one row of the alerts.
type alert struct {
	id      string
	studyID int64
	number  int
	state   alerts.State
	seq     int
	level   int
	message alerts.Message // the last one
}

const selectAlert = `SELECT alert_id, study_id, number, state, seq, level, message FROM alerts `

func (tx *transaction) alert(where string, args ...any) (*alert, error) {
	var a alert
	var message []byte
	err := tx.row(selectAlert+where, args, &a.id, &a.studyID, &a.number, &a.state, &a.seq, &a.level, &message)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(message, &a.message); err != nil {
		return nil, fmt.Errorf("the last message of alert %s in the ledger: %w", a.id, err)
	}
	return &a, nil
}

// lastAlert returns the latest alert of a study, nil if it never had one.
func (tx *transaction) lastAlert(studyID int64) (*alert, error) {
	a, err := tx.alert(`WHERE study_id = ? ORDER BY number DESC LIMIT 1`, studyID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return a, err
}

func (a *alert) verdict(sent alerts.Type) Verdict {
	return Verdict{AlertID: a.id, Type: sent, Seq: a.seq}
}

// raise records a new alert, makes its study urgent and posts the first notice.
func (s *Spool) raise(tx *transaction, study decidedStudy, a *alert) error {
	_, err := tx.exec(`INSERT INTO alerts (alert_id, study_id, number, seq, state, message, raised_at) VALUES (?, ?, ?, 0, ?, x'', ?)`,
		a.id, a.studyID, a.number, a.state, instant(s.now()))
	if err != nil {
		return err
	}
	if err := tx.hurry(study.id, true); err != nil {
		return err
	}
	return s.say(tx, study.pseudonym, a, alerts.TypeNew)
}

// apply moves the alert to the state that an event leads to. Where the state
// does not allow the event, the error says what the event met.
func (a *alert) apply(event alerts.Event) error {
	next, ok := a.state.Next(event)
	switch {
	case ok:
		a.state = next
		return nil
	case a.state == alerts.StateAcknowledged:
		return alerts.ErrAlreadyAcknowledged
	case a.state == alerts.StateRetracted:
		return alerts.ErrRetracted
	}
	return fmt.Errorf("event %q is not allowed for an alert in state %q", event, a.state)
}

// say posts the alert's next message, records it as the last one and saves the
// state that the caller has brought the alert to.
func (s *Spool) say(tx *transaction, key string, a *alert, t alerts.Type) error {
	a.seq++
	a.message.AlertID, a.message.Seq, a.message.Type, a.message.Level = a.id, a.seq, t, a.level
	entry, err := a.message.Entry(key)
	if err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE alerts SET state = ?, seq = ?, level = ?, message = ? WHERE alert_id = ?`,
		a.state, a.seq, a.level, entry.Payload, a.id)
	if err != nil {
		return err
	}
	return s.post(tx, entry, a)
}

// Acknowledge implements alerts.Book.
func (s *Spool) Acknowledge(ctx context.Context, k alerts.Acknowledgement) error {
	err := s.write(ctx, durable, StepAcknowledged, func(tx *transaction) error {
		a, err := tx.knownAlert(k.AlertID)
		if err != nil {
			return err
		}
		if err := a.acknowledge(tx, k); err != nil {
			return err
		}
		return s.note(tx, a.studyID)
	})
	if err != nil {
		return fmt.Errorf("acknowledge an alert: %w", err)
	}
	return nil
}

func (tx *transaction) knownAlert(id string) (*alert, error) {
	a, err := tx.alert(`WHERE alert_id = ?`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, alerts.ErrUnknownAlert
	}
	return a, err
}

// OpenAlerts implements alerts.Book.
func (s *Spool) OpenAlerts(ctx context.Context) ([]alerts.OpenAlert, error) {
	open, err := collect(scanOpenAlert)(s.ledger.queries.query(ctx,
		`SELECT alert_id, level, level_since FROM alerts
			WHERE state IN ('delivered', 'escalated') AND level_since IS NOT NULL ORDER BY level_since`))
	if err != nil {
		return nil, fmt.Errorf("list the open alerts: %w", err)
	}
	return open, nil
}

func scanOpenAlert(row scanner) (a alerts.OpenAlert, err error) {
	err = row.Scan(&a.AlertID, &a.Level, (*instant)(&a.Since))
	return a, err
}

// Escalate implements alerts.Book. The clock of the new level starts when the
// broker has confirmed its message.
func (s *Spool) Escalate(ctx context.Context, alertID string, level int, _ time.Time) error {
	err := s.write(ctx, durable, StepEscalated, func(tx *transaction) error {
		a, err := tx.knownAlert(alertID)
		if err != nil {
			return err
		}
		if err := a.apply(alerts.EventEscalate); err != nil {
			return err
		}
		a.level = level
		var key string
		err = tx.row(`UPDATE alerts SET level_since = NULL WHERE alert_id = ?
				RETURNING (SELECT pseudonym FROM studies s WHERE s.id = study_id)`, []any{a.id}, &key)
		if err != nil {
			return err
		}
		if err := s.say(tx, key, a, alerts.TypeEscalate); err != nil {
			return err
		}
		return s.note(tx, a.studyID)
	})
	if err != nil {
		return fmt.Errorf("escalate alert %s: %w", alertID, err)
	}
	signal(s.wake.messages)
	return nil
}
