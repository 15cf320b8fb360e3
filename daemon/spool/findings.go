package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ichwatch/dimse/dicom"
	"ichwatch/infer"
)

// FindingState tells how far triage has come with one instance.
type FindingState string

const (
	FindingPending    FindingState = "pending"    // the triage job that Commit leaves behind
	FindingClassified FindingState = "classified" // the model has answered
	FindingIneligible FindingState = "ineligible" // not for this model; Reason says why
	FindingFailed     FindingState = "failed"     // should have been classified and could not be; Reason says why
)

// Finding is what triage learnt from one instance, or from one frame of an
// instance that has several. InstanceID, State and, where the state asks for one,
// Reason are required by RecordFinding; the UIDs and ReceivedAt are filled in by
// StudyFindings.
type Finding struct {
	InstanceID        int64
	Frame             int // from 1 on; 0: the instance as a whole, which has one frame unless others are recorded
	SOPInstanceUID    dicom.UID
	SeriesInstanceUID dicom.UID
	ReceivedAt        time.Time

	State         FindingState
	Reason        string       // short, for people; never identity
	Position      float64      // mm along the slice normal
	AcquiredAt    time.Time    // zero where the header does not say
	Models        infer.Models // asked together; nil where none was asked
	Provider      string       // what computed it: "cpu", "cuda", "tensorrt"
	Probabilities []float32
	At            time.Time     // when it was found; zero: now
	Elapsed       time.Duration // from the file to the finding
}

// PendingSlices returns at most limit instances that wait for a finding: those
// of urgent studies first, then the oldest. An instance stays listed until
// RecordFinding.
func (s *Spool) PendingSlices(ctx context.Context, limit int) ([]Instance, error) {
	pending, err := collect(scanInstance)(s.ledger.queries.query(ctx,
		`SELECT `+instanceColumns+` FROM findings f
			JOIN instances i ON i.id = f.instance_id JOIN studies s ON s.id = i.study_id
			WHERE f.state = 'pending' AND i.state = 'stored'
			ORDER BY f.urgent DESC, f.instance_id LIMIT ?`, limit))
	if err != nil {
		return nil, fmt.Errorf("look for pending slices: %w", err)
	}
	return pending, nil
}

// RecordFinding makes findings durable, all in one transaction. A later finding
// of an instance or of a frame replaces the earlier one, and that of an instance
// those of its frames too. An instance stays pending until it has its own,
// whatever its frames have: what is known of them counts meanwhile.
func (s *Spool) RecordFinding(ctx context.Context, findings ...Finding) error {
	err := s.write(ctx, durable, StepFinding, func(tx *transaction) error {
		for _, f := range findings {
			if err := s.recordFinding(tx, f); err != nil {
				return fmt.Errorf("instance %d: %w", f.InstanceID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record findings: %w", err)
	}
	return nil
}

func (s *Spool) recordFinding(tx *transaction, f Finding) error {
	switch f.State {
	case FindingClassified:
	case FindingIneligible, FindingFailed:
		if f.Reason == "" {
			return fmt.Errorf("a finding %q needs a reason", f.State)
		}
	default:
		return fmt.Errorf("a finding cannot be recorded as %q", f.State)
	}
	if f.At.IsZero() {
		f.At = s.now()
	}
	probabilities, err := json.Marshal(f.Probabilities)
	if err != nil {
		return fmt.Errorf("probabilities: %w", err)
	}
	models, err := json.Marshal(f.Models)
	if err != nil {
		return fmt.Errorf("models: %w", err)
	}
	if f.Frame != 0 {
		return tx.recordFrame(f, string(models), string(probabilities))
	}
	if _, err := tx.exec(`DELETE FROM frames WHERE instance_id = ?`, f.InstanceID); err != nil {
		return err
	}
	known, err := tx.change(`UPDATE findings SET state = ?, reason = ?, position = ?, acquired_at = ?, models = ?,
			provider = ?, probabilities = ?, found_at = ?, elapsed = ? WHERE instance_id = ?`,
		f.State, f.Reason, f.Position, instant(f.AcquiredAt), string(models),
		f.Provider, string(probabilities), instant(f.At), f.Elapsed.Nanoseconds(), f.InstanceID)
	if err == nil && !known {
		err = ErrUnknownInstance
	}
	return err
}

// recordFrame writes the finding of one frame.
func (tx *transaction) recordFrame(f Finding, models, probabilities string) error {
	known, err := tx.change(`INSERT OR REPLACE INTO frames (instance_id, frame, state, reason, position, acquired_at, models,
			provider, probabilities, found_at, elapsed)
			SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM instances WHERE id = ?`,
		f.Frame, f.State, f.Reason, f.Position, instant(f.AcquiredAt), models,
		f.Provider, probabilities, instant(f.At), f.Elapsed.Nanoseconds(), f.InstanceID)
	if err == nil && !known {
		err = ErrUnknownInstance
	}
	return err
}

// RetryFindings makes the slices that failed pending again, and their studies
// open, and returns how many slices those are: for when what was in the way, as
// a model that could not be loaded, may be gone.
func (s *Spool) RetryFindings(ctx context.Context) (int, error) {
	var n int64
	err := s.write(ctx, rebuildable, StepFindingsRetry, func(tx *transaction) (err error) {
		n, err = tx.retryFindings(`SELECT id FROM instances WHERE state = 'stored'`)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("retry the findings that failed: %w", err)
	}
	if n > 0 {
		signal(s.wake.slices)
	}
	return int(n), nil
}

// retryFindings makes the failed findings of the instances that a query selects
// pending again.
func (tx *transaction) retryFindings(instances string, args ...any) (int64, error) {
	if _, err := tx.exec(`UPDATE studies SET open = 1, revision = revision + 1 WHERE id IN (SELECT i.study_id FROM findings f
			JOIN instances i ON i.id = f.instance_id WHERE f.state = 'failed' AND i.id IN (`+instances+`))`, args...); err != nil {
		return 0, err
	}
	result, err := tx.exec(`UPDATE findings SET state = 'pending', reason = '' WHERE state = 'failed' AND instance_id IN (`+instances+`)`, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// StudyFindings returns the findings of a study, without the pending ones, in
// order of receipt. Of an instance with frames it returns theirs in its place.
func (s *Spool) StudyFindings(ctx context.Context, study dicom.UID) ([]Finding, error) {
	findings, err := collect(scanFinding)(s.ledger.queries.query(ctx, selectStudyFindings, study))
	if err != nil {
		return nil, fmt.Errorf("read the findings of study %s: %w", s.Pseudonym(study), err)
	}
	return findings, nil
}

const (
	selectStudyFindings = `SELECT f.instance_id, 0 AS frame,` + findingColumns + `JOIN findings f ON f.instance_id = i.id
			WHERE s.study_instance_uid = ?1 AND f.state <> 'pending' AND NOT EXISTS (SELECT 1 FROM frames WHERE instance_id = i.id)
		UNION ALL SELECT f.instance_id, f.frame,` + findingColumns + `JOIN frames f ON f.instance_id = i.id
			WHERE s.study_instance_uid = ?1
		ORDER BY 1, 2`
	findingColumns = ` i.sop_instance_uid, i.series_instance_uid, i.received_at, f.state, f.reason, f.position, f.acquired_at,
			f.models, f.provider, f.probabilities, f.found_at, f.elapsed
		FROM studies s JOIN instances i ON i.study_id = s.id `
)

func scanFinding(row scanner) (f Finding, err error) {
	var models, probabilities []byte
	err = row.Scan(&f.InstanceID, &f.Frame, &f.SOPInstanceUID, &f.SeriesInstanceUID, (*instant)(&f.ReceivedAt),
		&f.State, &f.Reason, &f.Position, (*instant)(&f.AcquiredAt),
		&models, &f.Provider, &probabilities, (*instant)(&f.At), &f.Elapsed)
	if err != nil {
		return f, err
	}
	return f, errors.Join(json.Unmarshal(models, &f.Models), json.Unmarshal(probabilities, &f.Probabilities))
}
