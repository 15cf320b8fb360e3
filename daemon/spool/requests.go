package spool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
)

// ErrUnknownTransaction: a report came to a request that nobody here made.
var ErrUnknownTransaction = errors.New("no such storage commitment transaction in the ledger")

// LegSent records that the destination has stored the instance, and with which
// status. The leg is not done before the destination has committed itself, for
// which it is to be asked at the time given.
func (s *Spool) LegSent(ctx context.Context, legID int64, status uint16, at, ask time.Time) error {
	var destination string
	err := s.write(ctx, durable, StepLegSent, func(tx *transaction) error {
		err := tx.row(`UPDATE legs SET state = 'sent', last_status = ?, last_reason = '', sent_at = ?, next_attempt = ?, asked = 0, request_id = NULL
				WHERE id = ? AND state <> 'done' RETURNING destination`, []any{status, instant(at), instant(ask), legID}, &destination)
		if errors.Is(err, sql.ErrNoRows) {
			_, err = tx.legState(legID)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record that leg %d is sent: %w", legID, err)
	}
	signal(s.wake.commitment(destination))
	return nil
}

// RequestCommitment records durably that a destination is about to be asked for
// the commitment of what it was sent, and returns the request: nil where nothing
// is due at now. The report is awaited until the deadline.
func (s *Spool) RequestCommitment(ctx context.Context, destination string, now, deadline time.Time, limit int) (*commitment.Request, error) {
	due, err := collect(scanCount)(s.ledger.queries.query(ctx,
		`SELECT count(*) FROM legs WHERE destination = ? AND state = 'sent' AND request_id IS NULL AND next_attempt <= ?`, destination, instant(now)))
	if err != nil {
		return nil, fmt.Errorf("look for what %s has to commit: %w", destination, err)
	}
	if due[0] == 0 {
		return nil, nil
	}
	rq := &commitment.Request{TransactionUID: dicom.NewUID()}
	err = s.write(ctx, durable, StepCommitmentRequested, func(tx *transaction) error {
		result, err := tx.exec(`INSERT INTO commitment_requests (transaction_uid, destination, requested_at, deadline) VALUES (?, ?, ?, ?)`,
			rq.TransactionUID, destination, instant(now), instant(deadline))
		if err != nil {
			return err
		}
		id, err := result.LastInsertId()
		if err != nil {
			return err
		}
		// With what is due goes what was sent since and was never asked for.
		_, err = tx.exec(`UPDATE legs SET request_id = ?1 WHERE id IN (SELECT id FROM legs
				WHERE destination = ?2 AND state = 'sent' AND request_id IS NULL AND (next_attempt <= ?3 OR asked = 0) ORDER BY id LIMIT ?4)`,
			id, destination, instant(now), limit)
		if err != nil {
			return err
		}
		rq.References, err = collect(scanReference)(tx.query(`SELECT DISTINCT i.sop_class_uid, i.sop_instance_uid
				FROM legs l JOIN instances i ON i.id = l.instance_id WHERE l.request_id = ?`, id))
		if err != nil {
			return err
		}
		if len(rq.References) == 0 {
			return errNothingDue
		}
		// That may have been sent after now: it was all sent before the request.
		_, err = tx.exec(`UPDATE commitment_requests SET requested_at = max(requested_at, (SELECT max(sent_at) FROM legs WHERE request_id = ?1)) WHERE id = ?1`, id)
		return err
	})
	switch {
	case errors.Is(err, errNothingDue):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("record a request for the commitment of %s: %w", destination, err)
	}
	return rq, nil
}

// errNothingDue takes a request back: a report has settled in the meantime what
// it was to ask for.
var errNothingDue = errors.New("nothing is due")

func scanReference(row scanner) (r commitment.Reference, err error) {
	err = row.Scan(&r.SOPClassUID, &r.SOPInstanceUID)
	return r, err
}

// CommitmentAsked records that the destination has accepted a request: its
// report may come, here or after a restart.
func (s *Spool) CommitmentAsked(ctx context.Context, transactionUID dicom.UID) error {
	err := s.write(ctx, rebuildable, StepCommitmentAsked, func(tx *transaction) error {
		_, err := tx.exec(`UPDATE commitment_requests SET state = 'asked' WHERE transaction_uid = ? AND state = 'asking'`, transactionUID)
		return err
	})
	if err != nil {
		return fmt.Errorf("record that a commitment was asked for: %w", err)
	}
	return nil
}

// CommitmentFailed gives a request up: what it asked for is asked for again, at
// the time given. It returns how many legs those are; a late report to another
// request may have settled them.
func (s *Spool) CommitmentFailed(ctx context.Context, transactionUID dicom.UID, reason string, next time.Time) (int, error) {
	return s.giveUp(ctx, reason, next, `transaction_uid = ?`, transactionUID)
}

// InterruptedRequests gives up the requests to a destination of which the
// process does not know whether they were accepted, for it has died in between.
func (s *Spool) InterruptedRequests(ctx context.Context, destination string) error {
	_, err := s.giveUp(ctx, "interrupted", time.Time{}, `destination = ? AND state = 'asking'`, destination)
	return err
}

// OverdueRequest is a request whose report has not come in time.
type OverdueRequest struct {
	TransactionUID dicom.UID
	RequestedAt    time.Time
}

// awaited is the condition under which a report is waited for: the request was
// accepted, and not all it asked for was settled by a late report to another one.
const awaited = ` state = 'asked' AND EXISTS (SELECT 1 FROM legs l WHERE l.request_id = commitment_requests.id) `

// OverdueRequests returns the accepted requests to a destination whose deadline
// has passed, and that still wait for something.
func (s *Spool) OverdueRequests(ctx context.Context, destination string, now time.Time) ([]OverdueRequest, error) {
	overdue, err := collect(scanOverdue)(s.ledger.queries.query(ctx,
		`SELECT transaction_uid, requested_at FROM commitment_requests WHERE destination = ? AND deadline <= ? AND`+awaited+`ORDER BY id`, destination, instant(now)))
	if err != nil {
		return nil, fmt.Errorf("look for overdue commitments of %s: %w", destination, err)
	}
	return overdue, nil
}

func scanOverdue(row scanner) (r OverdueRequest, err error) {
	err = row.Scan(&r.TransactionUID, (*instant)(&r.RequestedAt))
	return r, err
}

// giveUp ends the open requests that a condition selects.
func (s *Spool) giveUp(ctx context.Context, reason string, next time.Time, where string, arg any) (int, error) {
	var legs int64
	err := s.write(ctx, rebuildable, StepCommitmentFailed, func(tx *transaction) error {
		result, err := tx.exec(`UPDATE legs SET request_id = NULL, asked = asked + 1, last_reason = ?, next_attempt = coalesce(?, 0)
				WHERE state = 'sent' AND request_id IN (SELECT id FROM commitment_requests WHERE state <> 'over' AND `+where+`)`, reason, instant(next), arg)
		if err != nil {
			return err
		}
		if legs, err = result.RowsAffected(); err != nil {
			return err
		}
		_, err = tx.exec(`UPDATE commitment_requests SET state = 'over' WHERE state <> 'over' AND `+where, arg)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("give up a request for commitment: %w", err)
	}
	return int(legs), nil
}

// RequestedOf returns the destination that a request was made to. The error
// matches ErrUnknownTransaction.
func (s *Spool) RequestedOf(ctx context.Context, transactionUID dicom.UID) (destination string, err error) {
	found, err := collect(scanName)(s.ledger.queries.query(ctx, `SELECT destination FROM commitment_requests WHERE transaction_uid = ?`, transactionUID))
	switch {
	case err != nil:
		return "", fmt.Errorf("look for a request for commitment: %w", err)
	case len(found) == 0:
		return "", ErrUnknownTransaction
	}
	return found[0], nil
}

func scanName(row scanner) (name string, err error) {
	err = row.Scan(&name)
	return name, err
}

// Settled is what a report has come to, in legs.
type Settled struct {
	Done   int
	Again  int // to be asked for, or sent, again
	Parked int
}

// JudgeFailure decides about an instance that a destination does not commit
// itself to: LegSent to ask again, LegPending to send it again, LegParked to let
// a person decide. refused is how often that was so before.
type JudgeFailure func(reason command.Status, refused int) LegState

// CommitmentReported settles what a report says, durably. What is committed is
// done, even where the report is late and the request long over. What failed, be
// it called committed too, is done with as judge says, and what the report
// leaves out is asked for again; neither before next. The error matches
// ErrUnknownTransaction.
func (s *Spool) CommitmentReported(ctx context.Context, r *commitment.Result, at, next time.Time, judge JudgeFailure) (settled Settled, err error) {
	var destination string
	err = s.write(ctx, durable, StepCommitmentReported, func(tx *transaction) error {
		settled = Settled{}
		var request int64
		var requestedAt time.Time
		err := tx.row(`SELECT id, destination, requested_at FROM commitment_requests WHERE transaction_uid = ?`,
			[]any{r.TransactionUID}, &request, &destination, (*instant)(&requestedAt))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrUnknownTransaction
		}
		if err != nil {
			return err
		}
		failed := map[dicom.UID]bool{}
		for _, f := range r.Failed {
			failed[f.SOPInstanceUID] = true
		}
		for _, c := range r.Committed {
			if failed[c.SOPInstanceUID] {
				continue // what a report contradicts itself about is not safe there
			}
			result, err := tx.exec(`UPDATE legs SET state = 'done', last_reason = '', done_at = ?1, request_id = NULL
					WHERE destination = ?2 AND state = 'sent' AND sent_at <= ?3
						AND instance_id IN (SELECT id FROM instances WHERE sop_instance_uid = ?4 AND sop_class_uid = ?5)`,
				instant(at), destination, instant(requestedAt), c.SOPInstanceUID, c.SOPClassUID)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			settled.Done += int(n)
		}
		for _, f := range r.Failed {
			if err := s.settleFailure(tx, request, f, next, judge, &settled); err != nil {
				return err
			}
		}
		result, err := tx.exec(`UPDATE legs SET request_id = NULL, asked = asked + 1, last_reason = 'the report leaves it out', next_attempt = ?
				WHERE request_id = ? AND state = 'sent'`, instant(next), request)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		settled.Again += int(n)
		if err != nil {
			return err
		}
		_, err = tx.exec(`UPDATE commitment_requests SET state = 'over' WHERE id = ?`, request)
		return err
	})
	if err != nil {
		return Settled{}, fmt.Errorf("record a commitment: %w", err)
	}
	signal(s.wake.commitment(destination))
	signal(s.wake.leg(destination))
	return settled, nil
}

// settleFailure does with the legs of a failed reference as judge says. What
// another request has asked for since is left to its report.
func (s *Spool) settleFailure(tx *transaction, request int64, f commitment.Failure, next time.Time, judge JudgeFailure, settled *Settled) error {
	legs, err := collect(scanAskedLeg)(tx.query(`SELECT l.id, l.refused, i.id, s.pseudonym, l.destination
			FROM legs l JOIN instances i ON i.id = l.instance_id JOIN studies s ON s.id = i.study_id
			WHERE l.request_id = ? AND l.state = 'sent' AND i.sop_instance_uid = ?`, request, f.SOPInstanceUID))
	if err != nil {
		return err
	}
	for _, l := range legs {
		state := judge(f.Reason, l.refused)
		reason := fmt.Sprintf("not committed: %v", f.Reason)
		_, err := tx.exec(`UPDATE legs SET state = ?1, request_id = NULL, asked = asked + 1, refused = refused + 1,
				attempts = attempts + (?1 <> 'sent'),
				last_status = ?2, last_reason = ?3, next_attempt = ?4 WHERE id = ?5`, state, uint16(f.Reason), reason, instant(next), l.id)
		if err != nil {
			return err
		}
		if state != LegParked {
			settled.Again++
			continue
		}
		settled.Parked++
		if err := tx.record(Event{At: s.now(), Kind: EventLegParked, Study: l.study, InstanceID: l.instance, Detail: l.destination + ": " + reason}); err != nil {
			return err
		}
	}
	return nil
}

type askedLeg struct {
	id, instance       int64
	refused            int
	study, destination string
}

func scanAskedLeg(row scanner) (l askedLeg, err error) {
	err = row.Scan(&l.id, &l.refused, &l.instance, &l.study, &l.destination)
	return l, err
}

// NextCommitmentDue returns when a destination is next to be asked, or the
// deadline of a report passes; ok is false when neither is ahead.
func (s *Spool) NextCommitmentDue(ctx context.Context, destination string) (due time.Time, ok bool, err error) {
	next, err := collect(scanCount)(s.ledger.queries.query(ctx,
		`SELECT * FROM (SELECT next_attempt FROM legs WHERE destination = ?1 AND state = 'sent' AND request_id IS NULL ORDER BY next_attempt LIMIT 1)
			UNION ALL SELECT * FROM (SELECT deadline FROM commitment_requests WHERE destination = ?1 AND`+awaited+`ORDER BY deadline LIMIT 1)
			ORDER BY 1 LIMIT 1`, destination))
	if err != nil || len(next) == 0 {
		return time.Time{}, false, err
	}
	return time.Unix(0, next[0]).UTC(), true, nil
}

// Uncommitted is what a destination has stored and not committed itself to.
type Uncommitted struct {
	Legs  int
	Since time.Time // when the first of them was sent; zero without one
}

// Uncommitted counts the legs that wait for a destination's commitment.
func (s *Spool) Uncommitted(ctx context.Context, destination string) (Uncommitted, error) {
	found, err := collect(scanUncommitted)(s.ledger.queries.query(ctx, `SELECT count(*), min(sent_at) FROM legs WHERE destination = ? AND state = 'sent'`, destination))
	if err != nil {
		return Uncommitted{}, fmt.Errorf("count what %s has not committed: %w", destination, err)
	}
	return found[0], nil
}

func scanUncommitted(row scanner) (u Uncommitted, err error) {
	err = row.Scan(&u.Legs, (*instant)(&u.Since))
	return u, err
}

// SentIsDone settles, as done, the legs that wait for the commitment of a
// destination which is no longer asked for any.
func (s *Spool) SentIsDone(ctx context.Context, destination string) (int, error) {
	var n int64
	err := s.write(ctx, durable, StepSentIsDone, func(tx *transaction) error {
		result, err := tx.exec(`UPDATE legs SET state = 'done', request_id = NULL, done_at = ? WHERE destination = ? AND state = 'sent'`, instant(s.now()), destination)
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("settle the legs to %s: %w", destination, err)
	}
	return int(n), nil
}

// ForgetRequests removes what was asked before a time and waits for nothing. A
// report that comes later than that is one to an unknown transaction.
func (s *Spool) ForgetRequests(ctx context.Context, before time.Time) error {
	err := s.write(ctx, rebuildable, StepRequestsForgotten, func(tx *transaction) error {
		_, err := tx.exec(`DELETE FROM commitment_requests WHERE requested_at < ?
				AND NOT EXISTS (SELECT 1 FROM legs l WHERE l.request_id = commitment_requests.id)`, instant(before))
		return err
	})
	if err != nil {
		return fmt.Errorf("forget requests for commitment: %w", err)
	}
	return nil
}
