package spool

import (
	"context"
	"fmt"
)

// ClockSetBack brings what the ledger has scheduled after now back to now. It is
// for when the wall clock was set back, as by NTP after a start with a wrong
// one: a retry, an escalation or the end of a study would otherwise wait as long
// as the step was. At any other time it makes retries come early, and no more.
func (s *Spool) ClockSetBack(ctx context.Context) error {
	now := instant(s.now())
	err := s.write(ctx, durable, StepClockSetBack, func(tx *transaction) error {
		for _, update := range []string{
			`UPDATE legs SET next_attempt = 0 WHERE state IN ('pending', 'sent') AND next_attempt > ?1`,
			`UPDATE transactions SET next_attempt = 0, requested_at = min(requested_at, ?1) WHERE state = 'open' AND next_attempt > ?1`,
			`UPDATE commitment_requests SET deadline = ?1 + max(0, deadline - requested_at), requested_at = ?1 WHERE state <> 'over' AND requested_at > ?1`,
			`UPDATE legs SET sent_at = ?1 WHERE state = 'sent' AND sent_at > ?1`,
			`UPDATE outbox SET next_attempt = 0 WHERE delivered_at IS NULL AND next_attempt > ?1`,
			`UPDATE alerts SET level_since = ?1 WHERE state IN ('delivered', 'escalated') AND level_since > ?1`,
			`UPDATE studies SET last_received = ?1, first_received = min(first_received, ?1) WHERE open = 1 AND last_received > ?1`,
		} {
			if _, err := tx.exec(update, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("bring schedules back to the present: %w", err)
	}
	for _, destination := range s.destinations {
		signal(s.wake.leg(destination))
		signal(s.wake.commitment(destination))
	}
	signal(s.wake.messages)
	return nil
}
