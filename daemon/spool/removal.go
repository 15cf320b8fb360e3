package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/oklog/ulid/v2"
)

// Retention is how long instances stay that nobody waits for any more.
type Retention struct {
	Positive, Negative, NotAnalysed, Failed time.Duration // by the outcome of their study

	// KeepUnacknowledged keeps the studies whose alert no person has acknowledged and
	// nothing has withdrawn, however long.
	KeepUnacknowledged bool
}

// removalBatch is how many instances one removal transaction covers.
const removalBatch = 256

// removable selects what nobody needs any more: it is stored, every leg is
// confirmed (and there is one at least), its finding is made, its study decided,
// the alert answered (unless ?5 is 0), and the last of all that is no younger than
// the time that stands for the study's outcome.
const removable = ` FROM instances i JOIN studies s ON s.id = i.study_id JOIN findings f ON f.instance_id = i.id
	WHERE i.state = 'stored' AND s.open = 0 AND f.state <> 'pending'
	AND (SELECT count(*) > 0 AND sum(l.state <> 'done') = 0 FROM legs l WHERE l.instance_id = i.id)
	AND (?5 = 0 OR NOT EXISTS (SELECT 1 FROM alerts a WHERE a.study_id = s.id AND a.state NOT IN ('acknowledged', 'retracted')))
	AND max(i.received_at, s.decided_at,
			(SELECT max(l.done_at) FROM legs l WHERE l.instance_id = i.id),
			(SELECT coalesce(max(max(coalesce(a.acknowledged_at, 0), coalesce(a.retracted_at, 0))), 0) FROM alerts a WHERE a.study_id = s.id))
		<= CASE s.outcome WHEN 'POSITIVE' THEN ?1 WHEN 'NEGATIVE' THEN ?2 WHEN 'NOT-ANALYSED' THEN ?3 WHEN 'FAILED' THEN ?4 END `

// args are the arguments of removable.
func (r Retention) args(now time.Time) []any {
	args := []any{}
	for _, keep := range []time.Duration{r.Positive, r.Negative, r.NotAnalysed, r.Failed} {
		args = append(args, now.Add(-keep).UnixNano())
	}
	return append(args, r.KeepUnacknowledged)
}

// Removed is what a removal came to.
type Removed struct {
	Instances int
	Bytes     int64
}

// Remove deletes the files of instances whose every leg is done, whose study is
// decided and its alert answered, and whose time since then is over. The rows stay.
//
// That an instance may go is settled in a durable transaction before its file
// is touched; a removal cut short by a crash is finished at the next start.
func (s *Spool) Remove(ctx context.Context, now time.Time, r Retention) (Removed, error) {
	return s.remove(ctx, r.args(now), -1)
}

// MakeRoom is Remove for when the space is needed: the times do not count, the
// oldest go first, and no more than make up so many bytes.
func (s *Spool) MakeRoom(ctx context.Context, now time.Time, r Retention, bytes int64) (Removed, error) {
	return s.remove(ctx, Retention{KeepUnacknowledged: r.KeepUnacknowledged}.args(now), max(bytes, 0))
}

// remove removes what is removable, up to wanted bytes; all of it where that is negative.
func (s *Spool) remove(ctx context.Context, args []any, wanted int64) (Removed, error) {
	done, err := s.removeBatches(ctx, args, wanted)
	if err = errors.Join(err, s.countHeld(ctx)); err != nil {
		return done, fmt.Errorf("remove instances: %w", classify(err))
	}
	return done, nil
}

func (s *Spool) removeBatches(ctx context.Context, args []any, wanted int64) (done Removed, err error) {
	for wanted < 0 || done.Bytes < wanted {
		candidates, err := collect(scanRemoval)(s.ledger.queries.query(ctx,
			`SELECT i.id, i.name, i.data_offset + i.size`+removable+`ORDER BY i.id LIMIT ?6`, append(args, removalBatch)...))
		if err != nil {
			return done, err
		}
		last := len(candidates) < removalBatch
		if wanted >= 0 {
			candidates = upTo(candidates, wanted-done.Bytes)
		}
		if len(candidates) == 0 {
			return done, nil
		}
		if err := s.settleRemoval(ctx, candidates, args); err != nil {
			return done, err
		}
		batch, err := s.removeFiles(ctx)
		done.Instances += batch.Instances
		done.Bytes += batch.Bytes
		if err != nil || last {
			return done, err
		}
	}
	return done, nil
}

// upTo is the first of the candidates that make up so many bytes.
func upTo(candidates []removal, bytes int64) []removal {
	for n, c := range candidates {
		if bytes -= c.length; bytes <= 0 {
			return candidates[:n+1]
		}
	}
	return candidates
}

// settleRemoval marks those of the candidates that are removable still: the
// search took its time, and nobody waited for it.
func (s *Spool) settleRemoval(ctx context.Context, candidates []removal, args []any) error {
	return s.write(ctx, durable, StepRemoving, func(tx *transaction) error {
		for _, c := range candidates {
			_, err := tx.exec(`UPDATE instances SET state = 'removing' WHERE id IN (SELECT i.id`+removable+`AND i.id = ?6)`, append(args, c.id)...)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// removal is an instance whose file is on its way out.
type removal struct {
	id     int64
	name   string
	length int64 // of the file
}

func scanRemoval(row scanner) (r removal, err error) {
	err = row.Scan(&r.id, &r.name, &r.length)
	return r, err
}

// removeFiles removes the files whose removal is settled.
func (s *Spool) removeFiles(ctx context.Context) (done Removed, err error) {
	settled, err := collect(scanRemoval)(s.ledger.queries.query(ctx,
		`SELECT id, name, data_offset + size FROM instances WHERE state = 'removing' ORDER BY id`))
	if err != nil || len(settled) == 0 {
		return done, err
	}
	shards := make(map[string]bool)
	for _, r := range settled {
		name, err := ulid.ParseStrict(r.name)
		if err != nil {
			return done, fmt.Errorf("the name of instance %d in the ledger is damaged: %w", r.id, err)
		}
		if err := s.files.Remove(instancePath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, err
		}
		shards[shard(name)] = true
		done.Bytes += r.length
		s.hook(StepFileRemoved)
	}
	for dir := range shards {
		if err := s.files.SyncDir(dir); err != nil {
			return Removed{}, err
		}
	}
	s.hook(StepRemovalSynced)
	done.Instances = len(settled)
	return done, s.write(ctx, durable, StepRemoved, func(tx *transaction) error {
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
