package spool

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// LegSelection selects legs; what it leaves empty excludes none.
type LegSelection struct {
	Destination string     `json:"destination,omitempty"`
	Study       string     `json:"study,omitempty"` // its UID or its pseudonym
	Legs        []int64    `json:"legs,omitempty"`  // ids
	States      []LegState `json:"states,omitempty"`
}

// where returns the condition that selects among legs l joined with instances i
// and studies s.
func (sel LegSelection) where() (string, []any) {
	conditions := []string{"1"}
	var args []any
	add := func(condition string, arg any) {
		conditions = append(conditions, condition)
		args = append(args, arg)
	}
	list := func(column string, values any) {
		text, _ := json.Marshal(values) // numbers and words: it cannot fail
		add(column+` IN (SELECT value FROM json_each(?))`, string(text))
	}
	if sel.Destination != "" {
		add(`l.destination = ?`, sel.Destination)
	}
	if sel.Study != "" {
		add(`? IN (s.study_instance_uid, s.pseudonym)`, sel.Study)
	}
	if sel.Legs != nil {
		list(`l.id`, sel.Legs)
	}
	if sel.States != nil {
		list(`l.state`, sel.States)
	}
	return strings.Join(conditions, " AND "), args
}

const legsOfInstances = ` FROM legs l JOIN instances i ON i.id = l.instance_id JOIN studies s ON s.id = i.study_id `

// LegRecord is a leg as a technician sees it.
type LegRecord struct {
	Leg
	State  LegState
	Held   bool // parked by a person: no start of the daemon makes it due again
	DoneAt time.Time
	Gone   bool // the file is not in the spool: lost, or removed after its time
}

// Legs returns the legs that a selection names, by destination, urgent ones first, then the oldest.
func (r *Reader) Legs(ctx context.Context, sel LegSelection) ([]LegRecord, error) {
	where, args := sel.where()
	var legs []LegRecord
	err := r.read(ctx, func(tx *sql.Tx) (err error) {
		legs, err = collect(scanLegRecord)(tx.QueryContext(ctx,
			`SELECT `+instanceColumns+`, l.id, l.destination, l.urgent, l.attempts, nullif(l.next_attempt, 0), l.last_status, l.last_reason, l.sent_as,
				EXISTS (SELECT 1 FROM instances o WHERE o.sop_instance_uid = i.sop_instance_uid AND o.id <> i.id),
				l.state, l.held, l.done_at, i.state <> 'stored'`+legsOfInstances+`WHERE `+where+`
			ORDER BY l.destination, l.urgent DESC, l.instance_id`, args...))
		return err
	})
	return legs, err
}

func scanLegRecord(row scanner) (l LegRecord, err error) {
	err = row.Scan(append(l.Instance.columns(),
		&l.ID, &l.Destination, &l.Urgent, &l.Attempts, (*instant)(&l.NextAttempt), &l.LastStatus, &l.LastReason, &l.SentAs, &l.Contested,
		&l.State, &l.Held, (*instant)(&l.DoneAt), &l.Gone)...)
	return l, err
}

// RetrySelected makes the parked ones of the selected legs, and those that wait
// for their next attempt or to be asked for their commitment, due at once, as if
// they had never failed. A person has said so: it holds for legs that a person has
// parked too. It returns how many they are, by destination.
func (s *Spool) RetrySelected(ctx context.Context, sel LegSelection) (map[string]int, error) {
	due := `(l.state = 'parked' OR l.next_attempt > 0 AND (l.state = 'pending' OR l.state = 'sent' AND l.request_id IS NULL))`
	changed, err := s.changeLegs(ctx, StepLegsRetry, sel, due,
		`state = iif(state = 'sent', 'sent', 'pending'), attempts = 0, next_attempt = 0, refused = 0, held = 0`)
	if err != nil {
		return nil, fmt.Errorf("retry legs: %w", err)
	}
	for destination := range changed {
		signal(s.wake.leg(destination))
		signal(s.wake.commitment(destination))
	}
	return changed, nil
}

// ParkSelected parks the pending ones of the selected legs until a person says
// otherwise (RetrySelected); no start of the daemon and no second sending makes
// them due. It returns how many they are, by destination.
func (s *Spool) ParkSelected(ctx context.Context, sel LegSelection, reason string) (map[string]int, error) {
	changed, err := s.changeLegs(ctx, StepLegsHeld, sel, `l.state = 'pending'`, `state = 'parked', held = 1, last_reason = ?`, reason)
	if err != nil {
		return nil, fmt.Errorf("park legs: %w", err)
	}
	return changed, nil
}

// changeLegs updates those of the selected legs that meet a condition, and counts them.
func (s *Spool) changeLegs(ctx context.Context, step string, sel LegSelection, condition, set string, values ...any) (map[string]int, error) {
	where, args := sel.where()
	where += ` AND ` + condition
	changed := make(map[string]int)
	err := s.write(ctx, durable, step, func(tx *transaction) error {
		clear(changed)
		counts, err := collect(scanLegCount)(tx.query(`SELECT l.destination, count(*)`+legsOfInstances+`WHERE `+where+` GROUP BY l.destination`, args...))
		if err != nil {
			return err
		}
		for _, c := range counts {
			changed[c.Destination] = c.Parked
			e := Event{At: s.now(), Kind: EventLegsRetried, Detail: fmt.Sprintf("%s: %d", c.Destination, c.Parked)}
			if step == StepLegsHeld {
				e.Kind = EventLegsHeld
			}
			if err := tx.record(e); err != nil {
				return err
			}
		}
		_, err = tx.exec(`UPDATE legs SET `+set+` WHERE id IN (SELECT l.id`+legsOfInstances+`WHERE `+where+`)`, append(values, args...)...)
		return err
	})
	return changed, err
}
