package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/oklog/ulid/v2"
)

// removalBatch is how many instances one removal transaction covers.
const removalBatch = 256

// removable is the condition under which nobody needs an instance any more: it
// is stored, every leg is confirmed (and there is one at least), its finding is
// made, its study decided, and the last confirmation is older than ?1.
const removable = ` state = 'stored' AND received_at <= ?1
	AND EXISTS (SELECT 1 FROM studies s WHERE s.id = study_id AND s.open = 0 AND s.outcome IS NOT NULL)
	AND EXISTS (SELECT 1 FROM findings f WHERE f.instance_id = instances.id AND f.state <> 'pending')
	AND (SELECT count(*) > 0 AND sum(l.state <> 'done') = 0 AND max(l.done_at) <= ?1
		FROM legs l WHERE l.instance_id = instances.id) `

// Remove deletes the files of instances whose every leg is done, whose triage
// is over and study decided, and whose last confirmation is older than the
// retention time. The rows stay. It returns how many files it removed.
//
// That an instance may go is settled in a durable transaction before its file
// is touched; a removal cut short by a crash is finished at the next start.
func (s *Spool) Remove(ctx context.Context, now time.Time, retention time.Duration) (int, error) {
	before := now.Add(-retention).UnixNano()
	total := 0
	for {
		candidates, err := collect(scanCount)(s.ledger.queries.query(ctx,
			`SELECT id FROM instances WHERE`+removable+`ORDER BY id LIMIT ?2`, before, removalBatch))
		if err == nil && len(candidates) > 0 {
			err = s.settleRemoval(ctx, candidates, before)
		}
		var n int
		if err == nil && len(candidates) > 0 {
			n, err = s.removeFiles(ctx)
		}
		total += n
		if err != nil {
			return total, fmt.Errorf("remove instances: %w", classify(err))
		}
		if len(candidates) < removalBatch {
			return total, nil
		}
	}
}

// settleRemoval marks those of the candidates that are removable still: the
// search took its time, and nobody waited for it.
func (s *Spool) settleRemoval(ctx context.Context, candidates []int64, before int64) error {
	return s.write(ctx, durable, StepRemoving, func(tx *transaction) error {
		for _, id := range candidates {
			if _, err := tx.exec(`UPDATE instances SET state = 'removing' WHERE id = ?2 AND`+removable, before, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// removal is an instance whose file is on its way out.
type removal struct {
	id   int64
	name string
}

func scanRemoval(row scanner) (r removal, err error) {
	err = row.Scan(&r.id, &r.name)
	return r, err
}

// removeFiles removes the files whose removal is settled.
func (s *Spool) removeFiles(ctx context.Context) (int, error) {
	settled, err := collect(scanRemoval)(s.ledger.queries.query(ctx,
		`SELECT id, name FROM instances WHERE state = 'removing' ORDER BY id`))
	if err != nil || len(settled) == 0 {
		return 0, err
	}
	shards := make(map[string]bool)
	for _, r := range settled {
		name, err := ulid.ParseStrict(r.name)
		if err != nil {
			return 0, fmt.Errorf("the name of instance %d in the ledger is damaged: %w", r.id, err)
		}
		if err := s.files.Remove(instancePath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		shards[shard(name)] = true
		s.hook(StepFileRemoved)
	}
	for dir := range shards {
		if err := s.files.SyncDir(dir); err != nil {
			return 0, err
		}
	}
	s.hook(StepRemovalSynced)
	return len(settled), s.write(ctx, durable, StepRemoved, func(tx *transaction) error {
		for _, r := range settled {
			// Sent again in the meantime, it is stored under another name.
			_, err := tx.exec(`UPDATE instances SET state = 'removed', removed_at = ? WHERE id = ? AND name = ? AND state = 'removing'`,
				instant(s.now()), r.id, r.name)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
