package spool

import (
	"context"
	"encoding/json"
	"fmt"

	"ichwatch/dimse/dicom"
	"ichwatch/infer"
)

// ReexamineStudy makes the slices of a study pending again that other models than
// these have classified, and the study open, and returns how many those are: for
// when a model was exchanged in the middle of a study.
func (s *Spool) ReexamineStudy(ctx context.Context, study dicom.UID, by infer.Models) (int, error) {
	models, err := json.Marshal(by)
	if err != nil {
		return 0, err
	}
	var n int64
	err = s.write(ctx, rebuildable, StepFindingsRetry, func(tx *transaction) error {
		const others = ` FROM findings f JOIN instances i ON i.id = f.instance_id JOIN studies s ON s.id = i.study_id
			WHERE s.study_instance_uid = ? AND i.state = 'stored' AND f.state = 'classified' AND f.models <> ?`
		if _, err := tx.exec(`UPDATE studies SET open = 1, revision = revision + 1 WHERE id IN (SELECT s.id`+others+`)`, study, string(models)); err != nil {
			return err
		}
		result, err := tx.exec(`UPDATE findings SET state = 'pending' WHERE instance_id IN (SELECT f.instance_id`+others+`)`, study, string(models))
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("have study %s examined again: %w", s.Pseudonym(study), err)
	}
	if n > 0 {
		signal(s.wake.slices)
	}
	return int(n), nil
}
