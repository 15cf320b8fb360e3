package spool

import (
	"context"
	"fmt"
	"time"
)

// EventKind names something out of the ordinary that happened to the spool.
type EventKind string

const (
	EventDuplicateDifferent EventKind = "duplicate-different" // one SOP Instance UID, another data set
	EventLateInstance       EventKind = "late-instance"       // an instance joined a study already decided
	EventResent             EventKind = "resent"              // a sender gave back an instance that was missing or removed
	EventAdopted            EventKind = "adopted"             // a file without a row was found and indexed
	EventMissing            EventKind = "missing"             // a row's file is gone
	EventQuarantined        EventKind = "quarantined"         // files were not trusted
	EventLedgerRebuilt      EventKind = "ledger-rebuilt"
	EventLegParked          EventKind = "leg-parked"    // a destination refused for good
	EventLegsHeld           EventKind = "legs-held"     // a person has parked legs
	EventLegsRetried        EventKind = "legs-retried"  // a person wants them tried again
	EventUnrouted           EventKind = "unrouted"      // instances of a study meet no rule of any destination
	EventReportParked       EventKind = "report-parked" // a peer never took the report of a commitment
)

// Event is one entry of the spool's diary. It carries no identity.
type Event struct {
	At         time.Time
	Kind       EventKind
	Study      string // pseudonym; "" where no study is concerned
	InstanceID int64  // 0 where no instance is concerned
	Detail     string
}

func (tx *transaction) record(e Event) error {
	_, err := tx.exec(`INSERT INTO events (at, kind, study, instance_id, detail) VALUES (?, ?, ?, nullif(?, 0), ?)`,
		instant(e.At), e.Kind, e.Study, e.InstanceID, e.Detail)
	return err
}

// Events returns the diary since a time, oldest first.
func (s *Spool) Events(ctx context.Context, since time.Time, limit int) ([]Event, error) {
	events, err := collect(scanEvent)(s.ledger.queries.query(ctx,
		`SELECT at, kind, study, coalesce(instance_id, 0), detail FROM events WHERE at >= ? ORDER BY at, id LIMIT ?`,
		since.UnixNano(), limit))
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	return events, nil
}

func scanEvent(row scanner) (e Event, err error) {
	err = row.Scan((*instant)(&e.At), &e.Kind, &e.Study, &e.InstanceID, &e.Detail)
	return e, err
}
