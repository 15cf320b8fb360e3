package spool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"ichwatch/alerts"
)

// ErrUnknownMessage: no such entry in the outbox.
var ErrUnknownMessage = errors.New("no such message in the outbox")

// post puts an entry into the outbox; about is the alert that it speaks of, nil
// for another topic.
func (s *Spool) post(tx *transaction, e alerts.Entry, about *alert) error {
	var id, kind any
	if about != nil {
		id, kind = about.id, about.message.Type
	}
	_, err := tx.exec(`INSERT INTO outbox (key, topic, payload, qos, retain, alert_id, alert_type, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		e.Key, e.Topic, e.Payload, e.QoS, e.Retain, id, kind, instant(s.now()))
	return err
}

// PendingMessages implements alerts.Outbox.
func (s *Spool) PendingMessages(ctx context.Context, now time.Time, limit int) ([]alerts.Entry, error) {
	entries, err := collect(scanEntry)(s.ledger.queries.query(ctx,
		`SELECT id, key, topic, payload, qos, retain, attempts, created_at FROM outbox
			WHERE id IN (SELECT min(id) FROM outbox WHERE delivered_at IS NULL GROUP BY key) AND next_attempt <= ?
			ORDER BY topic = ? DESC, attempts, id LIMIT ?`, now.UnixNano(), alerts.TopicAlert, limit))
	if err != nil {
		return nil, fmt.Errorf("look into the outbox: %w", err)
	}
	return entries, nil
}

func scanEntry(row scanner) (e alerts.Entry, err error) {
	err = row.Scan(&e.ID, &e.Key, &e.Topic, &e.Payload, &e.QoS, &e.Retain, &e.Attempts, (*instant)(&e.CreatedAt))
	return e, err
}

// MessageDelivered implements alerts.Outbox. It may be told again.
func (s *Spool) MessageDelivered(ctx context.Context, id int64, at time.Time) error {
	err := s.write(ctx, durable, StepMessageDelivered, func(tx *transaction) error {
		var delivered bool
		var alertID, kind sql.NullString
		var study sql.NullInt64
		err := tx.row(`SELECT delivered_at IS NOT NULL, alert_id, alert_type, (SELECT s.id FROM studies s WHERE s.pseudonym = key)
				FROM outbox WHERE id = ?`, []any{id}, &delivered, &alertID, &kind, &study)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ErrUnknownMessage
		case err != nil, delivered:
			return err
		}
		if _, err := tx.exec(`UPDATE outbox SET delivered_at = ?, attempts = attempts + 1, last_reason = '' WHERE id = ?`, instant(at), id); err != nil {
			return err
		}
		if alertID.Valid {
			if err := tx.confirm(alertID.String, alerts.Type(kind.String), at); err != nil {
				return err
			}
		}
		if !study.Valid {
			return nil
		}
		return s.note(tx, study.Int64)
	})
	if err != nil {
		return fmt.Errorf("record that message %d is delivered: %w", id, err)
	}
	return nil
}

// confirm notes that the broker has taken a message of an alert. A notice of a
// level starts that level's clock.
func (tx *transaction) confirm(alertID string, t alerts.Type, at time.Time) error {
	a, err := tx.knownAlert(alertID)
	if err != nil {
		return err
	}
	if err := a.apply(alerts.EventConfirm); err != nil {
		return err
	}
	startsClock := t == alerts.TypeNew || t == alerts.TypeEscalate
	_, err = tx.exec(`UPDATE alerts SET state = ?1, delivered_at = coalesce(delivered_at, ?2), level_since = iif(?3, ?2, level_since)
			WHERE alert_id = ?4`, a.state, instant(at), startsClock, a.id)
	return err
}

// MessageFailed implements alerts.Outbox.
func (s *Spool) MessageFailed(ctx context.Context, id int64, reason string, next time.Time) error {
	err := s.write(ctx, rebuildable, StepMessageFailed, func(tx *transaction) error {
		known, err := tx.change(`UPDATE outbox SET attempts = attempts + 1, last_reason = ?, next_attempt = ? WHERE id = ? AND delivered_at IS NULL`,
			reason, next.UnixNano(), id)
		if err == nil && !known {
			err = ErrUnknownMessage
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record that message %d failed: %w", id, err)
	}
	return nil
}
