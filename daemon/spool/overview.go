package spool

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"ichwatch/alerts"
)

// Overview is the ledger at a glance.
type Overview struct {
	Stored  int   // instances in the spool
	Bytes   int64 // of their data sets
	Missing int   // whose file is lost

	Undecided int // ways of instances that depend on an outcome which is not there yet
	Unrouted  int // studies of which something meets no rule of any destination: it is kept, and sent nowhere

	Queues   []Queue // one a destination to which something was ever to be sent
	Slices   Backlog // that wait for their finding
	Messages Backlog // that wait for the broker
	Alerts   []WaitingAlert
}

// Queue is what waits for one destination.
type Queue struct {
	Destination string
	Pending     Backlog // sent ones among them
	Sent        int     // that the destination has not committed itself to yet
	Parked      Backlog // held ones among them
	Held        int     // parked by a person
	LastDone    time.Time
}

// Backlog is how much waits, and since when: Oldest is when the oldest of it was
// received or decided, zero where nothing waits.
type Backlog struct {
	Waiting int
	Oldest  time.Time
}

// WaitingAlert is an alert that no person has acknowledged and nothing has withdrawn.
type WaitingAlert struct {
	AlertID   string
	Study     string // pseudonym
	State     alerts.State
	Level     int
	Last      alerts.Message // what was said last
	RaisedAt  time.Time
	Delivered time.Time // to the broker; zero: not yet
}

// Overview reads it in one transaction.
func (r *Reader) Overview(ctx context.Context) (Overview, error) {
	var o Overview
	err := r.read(ctx, func(tx *sql.Tx) (err error) {
		backlog := func(b *Backlog, query string) error {
			return tx.QueryRowContext(ctx, query).Scan(&b.Waiting, (*instant)(&b.Oldest))
		}
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE state = 'stored'), coalesce(sum(size) FILTER (WHERE state = 'stored'), 0),
				count(*) FILTER (WHERE state = 'missing') FROM instances`).Scan(&o.Stored, &o.Bytes, &o.Missing); err != nil {
			return err
		}
		if err := backlog(&o.Slices, `SELECT count(*), min(i.received_at) FROM findings f JOIN instances i ON i.id = f.instance_id
				WHERE f.state = 'pending' AND i.state = 'stored'`); err != nil {
			return err
		}
		if err := backlog(&o.Messages, `SELECT count(*), min(created_at) FROM outbox WHERE delivered_at IS NULL`); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, `SELECT
				(SELECT count(*) FROM conditional_legs c JOIN instances i ON i.id = c.instance_id JOIN studies s ON s.id = i.study_id WHERE`+undecided+`),
				(SELECT count(*) FROM studies WHERE unrouted = 1)`).Scan(&o.Undecided, &o.Unrouted); err != nil {
			return err
		}
		if o.Queues, err = collect(scanQueue)(tx.QueryContext(ctx, selectQueues)); err != nil {
			return err
		}
		o.Alerts, err = collect(scanWaitingAlert)(tx.QueryContext(ctx, `SELECT a.alert_id, s.pseudonym, a.state, a.level, a.message, a.raised_at, a.delivered_at
			FROM alerts a JOIN studies s ON s.id = a.study_id WHERE a.state NOT IN ('acknowledged', 'retracted') ORDER BY a.raised_at`))
		return err
	})
	return o, err
}

// What is neither done nor parked is on its way. Of a lost file nothing can be sent.
const selectQueues = `SELECT l.destination,
		count(*) FILTER (WHERE l.state NOT IN ('done', 'parked') AND i.state = 'stored'),
		min(i.received_at) FILTER (WHERE l.state NOT IN ('done', 'parked') AND i.state = 'stored'),
		count(*) FILTER (WHERE l.state = 'sent' AND i.state = 'stored'),
		count(*) FILTER (WHERE l.state = 'parked'),
		min(i.received_at) FILTER (WHERE l.state = 'parked'),
		count(*) FILTER (WHERE l.held), max(l.done_at)
	FROM legs l JOIN instances i ON i.id = l.instance_id GROUP BY l.destination ORDER BY l.destination`

func scanQueue(row scanner) (q Queue, err error) {
	err = row.Scan(&q.Destination, &q.Pending.Waiting, (*instant)(&q.Pending.Oldest), &q.Sent,
		&q.Parked.Waiting, (*instant)(&q.Parked.Oldest), &q.Held, (*instant)(&q.LastDone))
	return q, err
}

func scanWaitingAlert(row scanner) (a WaitingAlert, err error) {
	var message []byte
	err = row.Scan(&a.AlertID, &a.Study, &a.State, &a.Level, &message, (*instant)(&a.RaisedAt), (*instant)(&a.Delivered))
	if err != nil {
		return a, err
	}
	err = json.Unmarshal(message, &a.Last)
	return a, err
}
