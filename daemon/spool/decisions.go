package spool

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// Decision is what triage concluded about a study. Triage composes the messages
// as they shall travel; the spool, which alone knows what was said before,
// stamps AlertID, Seq, Type and Level, and says nothing twice.
type Decision struct {
	StudyInstanceUID dicom.UID
	// Revision is Study.Revision at the time the findings were read. A final
	// decision closes the study only if no instance has joined since;
	// otherwise it is recorded all the same and the study will be quiet again.
	Revision int64
	// Final is false for an alert at the deciding slice, before the study is
	// complete: the alert is raised and the outcome stays open.
	Final bool
	// Outcome is required when Final. AlertID and Seq are stamped.
	Outcome alerts.OutcomeMessage
	// Alert is required for a positive outcome, and where Final is false; for
	// every other outcome it is nil. Compared with the standing alert of the
	// study it becomes a new alert, an update, or nothing (Message.Differs).
	// A standing alert is retracted by a negative outcome alone: a study that
	// could not be judged in the end does not take a suspicion back.
	Alert *alerts.Message
}

// Verdict is what a Decision came to.
type Verdict struct {
	AlertID string      // of the study's standing or just retracted alert; "" without one
	Type    alerts.Type // of the alert message that this decision sent; "" when it sent none
	Seq     int         // of the alert's last message; 0 without an alert
	Closed  bool        // no instance was left unweighed: the study is decided
}

var errDecision = errors.New("contradictory decision")

func (d Decision) validate() error {
	switch {
	case d.Final && (d.Outcome.Outcome == alerts.Positive) != (d.Alert != nil):
		return fmt.Errorf("%w: outcome %s and alert do not go together", errDecision, d.Outcome.Outcome)
	case !d.Final && d.Alert == nil:
		return fmt.Errorf("%w: neither final nor an alert", errDecision)
	}
	return nil
}

// Decide records a decision in one transaction: the study's outcome, its alert, the
// messages about both and the legs that the outcome asks for. It is idempotent: the same decision again, as
// after a power cut, changes nothing and sends nothing.
func (s *Spool) Decide(ctx context.Context, d Decision) (Verdict, error) {
	var v Verdict
	var sent, routed bool
	err := d.validate()
	if err == nil {
		err = s.write(ctx, durable, StepDecided, func(tx *transaction) (err error) {
			v, sent, routed, err = s.decide(tx, d)
			return err
		})
	}
	if err != nil {
		return Verdict{}, fmt.Errorf("decide study %s: %w", s.Pseudonym(d.StudyInstanceUID), err)
	}
	if sent {
		signal(s.wake.messages)
	}
	if routed {
		s.wakeForwarders()
	}
	return v, nil
}

// decidedStudy is what the ledger knows of a study when a decision comes.
type decidedStudy struct {
	id         int64
	pseudonym  string
	revision   int64
	outcomeSeq int
	outcome    []byte // the last outcome message; nil before the first
}

func (s *Spool) decide(tx *transaction, d Decision) (v Verdict, sent, routed bool, err error) {
	var study decidedStudy
	err = tx.row(`SELECT id, pseudonym, revision, outcome_seq, outcome_message FROM studies WHERE study_instance_uid = ?`,
		[]any{d.StudyInstanceUID}, &study.id, &study.pseudonym, &study.revision, &study.outcomeSeq, &study.outcome)
	if errors.Is(err, sql.ErrNoRows) {
		return v, false, false, ErrUnknownStudy
	}
	if err != nil {
		return v, false, false, err
	}
	if v, err = s.decideAlert(tx, study, d); err != nil {
		return v, false, false, err
	}
	sent = v.Type != ""
	if d.Final {
		told, err := s.decideOutcome(tx, study, d.Outcome, v)
		if err != nil {
			return v, false, false, err
		}
		sent = sent || told
		if v.Closed = d.Revision == study.revision; v.Closed {
			if _, err := tx.exec(`UPDATE studies SET open = 0 WHERE id = ?`, study.id); err != nil {
				return v, false, false, err
			}
		}
		if routed, err = s.addOutcomeLegs(tx, study.id); err != nil {
			return v, false, false, err
		}
	}
	if sent {
		err = s.note(tx, study.id)
	}
	return v, sent, routed, err
}

// decideAlert raises, updates or retracts the study's alert, or leaves it.
func (s *Spool) decideAlert(tx *transaction, study decidedStudy, d Decision) (Verdict, error) {
	last, err := tx.lastAlert(study.id)
	if err != nil {
		return Verdict{}, err
	}
	standing := last != nil && last.state != alerts.StateRetracted
	switch {
	case d.Alert != nil && !standing:
		a := alert{studyID: study.id, number: 1, state: alerts.StateNew, message: *d.Alert}
		if last != nil {
			a.number = last.number + 1
		}
		a.id = alerts.ID(s.device, study.pseudonym, a.number)
		if err := s.raise(tx, study, &a); err != nil {
			return Verdict{}, err
		}
		return a.verdict(alerts.TypeNew), nil

	case d.Alert != nil && d.Alert.Differs(last.message):
		last.message = *d.Alert
		if err := last.apply(alerts.EventUpdate); err != nil {
			return Verdict{}, err
		}
		if err := s.say(tx, study.pseudonym, last, alerts.TypeUpdate); err != nil {
			return Verdict{}, err
		}
		return last.verdict(alerts.TypeUpdate), nil

	case standing && d.Final && d.Outcome.Outcome == alerts.Negative:
		last.message.Reason = d.Outcome.Reason
		if last.message.Reason == "" {
			last.message.Reason = "the complete study does not bear the finding out"
		}
		last.message.DetectedAt = d.Outcome.DecidedAt
		if err := last.apply(alerts.EventRetract); err != nil {
			return Verdict{}, err
		}
		if err := s.say(tx, study.pseudonym, last, alerts.TypeRetract); err != nil {
			return Verdict{}, err
		}
		_, err := tx.exec(`UPDATE alerts SET retracted_at = ? WHERE alert_id = ?`, instant(s.now()), last.id)
		if err != nil {
			return Verdict{}, err
		}
		return last.verdict(alerts.TypeRetract), tx.hurry(study.id, false)
	}
	if last == nil {
		return Verdict{}, nil
	}
	return last.verdict(""), nil
}

// decideOutcome puts the outcome into the outbox, unless it was said already.
func (s *Spool) decideOutcome(tx *transaction, study decidedStudy, m alerts.OutcomeMessage, v Verdict) (told bool, err error) {
	m.AlertID = v.AlertID
	if study.outcome != nil {
		var before alerts.OutcomeMessage
		if err := json.Unmarshal(study.outcome, &before); err != nil {
			return false, fmt.Errorf("the earlier outcome in the ledger: %w", err)
		}
		if sameOutcome(before, m) {
			return false, nil
		}
	}
	m.Seq = study.outcomeSeq + 1
	entry, err := m.Entry(study.pseudonym)
	if err != nil {
		return false, err
	}
	if err := s.post(tx, entry, nil); err != nil {
		return false, err
	}
	_, err = tx.exec(`UPDATE studies SET outcome = ?, outcome_seq = ?, outcome_message = ?, decided_at = ? WHERE id = ?`,
		m.Outcome, m.Seq, entry.Payload, instant(s.now()), study.id)
	return true, err
}

// sameOutcome reports whether two outcomes tell the same, whatever the clock said.
func sameOutcome(a, b alerts.OutcomeMessage) bool {
	return slices.Equal(a.Models, b.Models) && a.Outcome == b.Outcome && a.Reason == b.Reason && a.Finding == b.Finding &&
		a.AlertID == b.AlertID && a.Counts == b.Counts && a.OperatingPoint == b.OperatingPoint &&
		math.Abs(a.Score-b.Score) < 0.01 && math.Abs(a.Threshold-b.Threshold) < 1e-4 // it was rounded to that
}

// hurry puts what is still to be done for a study before everything else, or
// back in the row.
func (tx *transaction) hurry(studyID int64, urgent bool) error {
	for _, update := range []string{
		`UPDATE studies SET urgent = ? WHERE id = ?`,
		`UPDATE legs SET urgent = ? WHERE state <> 'done' AND instance_id IN (SELECT id FROM instances WHERE study_id = ?)`,
		`UPDATE findings SET urgent = ? WHERE state = 'pending' AND instance_id IN (SELECT id FROM instances WHERE study_id = ?)`,
	} {
		if _, err := tx.exec(update, urgent, studyID); err != nil {
			return err
		}
	}
	return nil
}
