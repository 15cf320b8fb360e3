package spool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"ichwatch/dimse/dicom"
)

// LegState is the state of one instance's way to one destination.
type LegState string

const (
	LegPending LegState = "pending" // to be sent, perhaps not before NextAttempt
	LegSent    LegState = "sent"    // stored by the destination, which has not committed itself yet
	LegDone    LegState = "done"    // the destination has confirmed it
	LegParked  LegState = "parked"  // refused for good; waits for a person
)

// Leg is the way of one instance to one destination.
type Leg struct {
	ID          int64
	Destination string
	Instance    Instance
	Urgent      bool      // the study has an alert
	Contested   bool      // another data set came under the same SOP Instance UID
	Attempts    int       // that failed so far
	NextAttempt time.Time // zero: at once
	LastStatus  uint16    // of the last C-STORE response; 0 before there was one
	LastReason  string    // of the last failure
	SentAs      dicom.UID // the transfer syntax in which it was sent last; "" as it is stored, or never
}

// DueLegs returns at most limit legs to a destination that are to be walked at
// now: those of urgent studies first, then the oldest. A leg that failed three
// times lets all others pass: a few instances that a destination chokes on must
// not come first for ever.
func (s *Spool) DueLegs(ctx context.Context, destination string, now time.Time, limit int) ([]Leg, error) {
	legs, err := collect(scanLeg)(s.ledger.queries.query(ctx,
		`SELECT `+instanceColumns+`, l.id, l.destination, l.urgent, l.attempts, nullif(l.next_attempt, 0), l.last_status, l.last_reason, l.sent_as,
				EXISTS (SELECT 1 FROM instances o WHERE o.sop_instance_uid = i.sop_instance_uid AND o.id <> i.id)
			FROM legs l JOIN instances i ON i.id = l.instance_id JOIN studies s ON s.id = i.study_id
			WHERE l.destination = ? AND l.state = 'pending' AND l.next_attempt <= ? AND i.state = 'stored'
			ORDER BY l.attempts >= 3, l.urgent DESC, l.instance_id LIMIT ?`, destination, now.UnixNano(), limit))
	if err != nil {
		return nil, fmt.Errorf("look for legs to %s: %w", destination, err)
	}
	return legs, nil
}

func scanLeg(row scanner) (l Leg, err error) {
	err = row.Scan(append(l.Instance.columns(),
		&l.ID, &l.Destination, &l.Urgent, &l.Attempts, (*instant)(&l.NextAttempt), &l.LastStatus, &l.LastReason, &l.SentAs, &l.Contested)...)
	return l, err
}

// NextLegDue returns when the next pending leg to a destination is to be walked
// that was not due at a time; ok is false when there is none.
func (s *Spool) NextLegDue(ctx context.Context, destination string, after time.Time) (due time.Time, ok bool, err error) {
	next, err := collect(scanCount)(s.ledger.queries.query(ctx,
		`SELECT l.next_attempt FROM legs l JOIN instances i ON i.id = l.instance_id
			WHERE l.destination = ? AND l.state = 'pending' AND l.next_attempt > ? AND i.state = 'stored'
			ORDER BY l.next_attempt LIMIT 1`, destination, after.UnixNano()))
	if err != nil {
		return time.Time{}, false, fmt.Errorf("look for the next leg to %s: %w", destination, err)
	}
	if len(next) == 0 {
		return time.Time{}, false, nil
	}
	return time.Unix(0, next[0]).UTC(), true, nil
}

func scanCount(row scanner) (n int64, err error) {
	err = row.Scan(&n)
	return n, err
}

// LegDone records that the destination has confirmed the instance, and with
// which status. It may be told again; a leg once done stays so.
func (s *Spool) LegDone(ctx context.Context, legID int64, status uint16, at time.Time) error {
	err := s.write(ctx, durable, StepLegDone, func(tx *transaction) error {
		changed, err := tx.change(`UPDATE legs SET state = 'done', last_status = ?, last_reason = '', done_at = ?, request_id = NULL WHERE id = ? AND state <> 'done'`,
			status, instant(at), legID)
		if err != nil || changed {
			return err
		}
		_, err = tx.legState(legID)
		return err
	})
	if err != nil {
		return fmt.Errorf("record that leg %d is done: %w", legID, err)
	}
	return nil
}

// LegSentAs records that an instance was sent in another transfer syntax than it is
// stored in, before LegDone or LegSent does that it was sent; "" that it was not
// after all.
func (s *Spool) LegSentAs(ctx context.Context, legID int64, syntax dicom.UID) error {
	// What is recorded next is durable, and makes this so.
	err := s.write(ctx, rebuildable, StepLegSentAs, func(tx *transaction) error {
		known, err := tx.change(`UPDATE legs SET sent_as = ? WHERE id = ?`, syntax, legID)
		if err == nil && !known {
			err = ErrUnknownLeg
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record how leg %d is sent: %w", legID, err)
	}
	return nil
}

// LegFailed counts an attempt that failed for a time, and when to try again.
// The status is 0 when no response came. The error matches ErrLegSettled if the
// leg is not pending.
func (s *Spool) LegFailed(ctx context.Context, legID int64, status uint16, reason string, next time.Time) error {
	err := s.write(ctx, rebuildable, StepLegFailed, func(tx *transaction) error {
		return tx.settle(legID, `UPDATE legs SET attempts = attempts + 1, last_status = ?, last_reason = ?, next_attempt = ?
				WHERE id = ? AND state = 'pending'`, status, reason, next.UnixNano(), legID)
	})
	if err != nil {
		return fmt.Errorf("record that leg %d failed: %w", legID, err)
	}
	return nil
}

// LegParked records that the destination refused the instance for good: nothing
// is tried until a person says so (RetryLegs) or the instance is sent again.
// The error matches ErrLegSettled if the leg is not pending.
func (s *Spool) LegParked(ctx context.Context, legID int64, status uint16, reason string) error {
	err := s.write(ctx, durable, StepLegParked, func(tx *transaction) error {
		err := tx.settle(legID, `UPDATE legs SET state = 'parked', attempts = attempts + 1, last_status = ?, last_reason = ?
				WHERE id = ? AND state = 'pending'`, status, reason, legID)
		if err != nil {
			return err
		}
		e := Event{At: s.now(), Kind: EventLegParked}
		err = tx.row(`SELECT s.pseudonym, i.id, l.destination || ': ' || l.last_reason FROM legs l
				JOIN instances i ON i.id = l.instance_id JOIN studies s ON s.id = i.study_id WHERE l.id = ?`,
			[]any{legID}, &e.Study, &e.InstanceID, &e.Detail)
		if err != nil {
			return err
		}
		return tx.record(e)
	})
	if err != nil {
		return fmt.Errorf("park leg %d: %w", legID, err)
	}
	return nil
}

// settle runs an update that only a pending leg allows.
func (tx *transaction) settle(legID int64, update string, args ...any) error {
	changed, err := tx.change(update, args...)
	if err != nil || changed {
		return err
	}
	state, err := tx.legState(legID)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: it is %s", ErrLegSettled, state)
}

func (tx *transaction) legState(legID int64) (state LegState, err error) {
	err = tx.row(`SELECT state FROM legs WHERE id = ?`, []any{legID}, &state)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrUnknownLeg
	}
	return state, err
}

// RetryLegs makes the parked legs to a destination, and those that wait for
// their next attempt, due at once, and returns how many those are. What waits to
// be asked for its commitment is due at once, too. What a person has parked stays so.
func (s *Spool) RetryLegs(ctx context.Context, destination string) (int, error) {
	var n int64
	err := s.write(ctx, rebuildable, StepLegsRetry, func(tx *transaction) error {
		result, err := tx.exec(`UPDATE legs SET state = 'pending', next_attempt = 0, refused = 0
				WHERE destination = ? AND (state = 'parked' AND held = 0 OR state = 'pending' AND next_attempt > 0)`, destination)
		if err != nil {
			return err
		}
		if n, err = result.RowsAffected(); err != nil {
			return err
		}
		_, err = tx.exec(`UPDATE legs SET next_attempt = 0 WHERE destination = ? AND state = 'sent' AND request_id IS NULL`, destination)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("retry the legs to %s: %w", destination, err)
	}
	if n > 0 {
		signal(s.wake.leg(destination))
	}
	signal(s.wake.commitment(destination))
	return int(n), nil
}

// ResumeLegs makes the pending legs to a destination due that wait for their next
// attempt: it takes instances again.
func (s *Spool) ResumeLegs(ctx context.Context, destination string) error {
	err := s.write(ctx, rebuildable, StepLegsRetry, func(tx *transaction) error {
		_, err := tx.exec(`UPDATE legs SET next_attempt = 0 WHERE destination = ? AND state = 'pending' AND next_attempt > 0`, destination)
		return err
	})
	if err != nil {
		return fmt.Errorf("resume the legs to %s: %w", destination, err)
	}
	signal(s.wake.leg(destination))
	return nil
}

// ParkedLegs returns how many legs are parked, by destination.
func (s *Spool) ParkedLegs(ctx context.Context) (map[string]int, error) {
	counts, err := collect(scanLegCount)(s.ledger.queries.query(ctx,
		`SELECT destination, count(*) FROM legs WHERE state = 'parked' GROUP BY destination`))
	if err != nil {
		return nil, fmt.Errorf("count the parked legs: %w", err)
	}
	parked := make(map[string]int)
	for _, c := range counts {
		parked[c.Destination] = c.Parked
	}
	return parked, nil
}

func scanLegCount(row scanner) (c LegCount, err error) {
	err = row.Scan(&c.Destination, &c.Parked)
	return c, err
}

// sentAgain gives what went wrong with an instance another chance, its parked
// legs and a finding that failed: its sender would not repeat it if all were
// well.
func (s *Spool) sentAgain(ctx context.Context, i Instance) error {
	wrong, err := collect(scanCount)(s.ledger.queries.query(ctx,
		`SELECT id FROM legs WHERE instance_id = ?1 AND state = 'parked' AND held = 0
			UNION ALL SELECT instance_id FROM findings WHERE instance_id = ?1 AND state = 'failed'`, i.ID))
	if err != nil || len(wrong) == 0 {
		return err
	}
	err = s.write(ctx, rebuildable, StepLegsRetry, func(tx *transaction) error {
		if _, err := tx.retryFindings(`SELECT ?`, i.ID); err != nil {
			return err
		}
		_, err := tx.exec(`UPDATE legs SET state = 'pending', next_attempt = 0 WHERE instance_id = ? AND state = 'parked' AND held = 0`, i.ID)
		return err
	})
	if err != nil {
		return err
	}
	signal(s.wake.slices)
	s.wakeForwarders()
	return nil
}
