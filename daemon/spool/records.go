package spool

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// Filter selects studies for Studies; its zero value selects all.
type Filter struct {
	Study     dicom.UID // this one only
	Pseudonym string    // likewise
	Since     time.Time // received, in part, at or after
	Limit     int       // at most, the latest ones; 0: no limit
}

// StudyRecord is a study's line in the ledger: how many of its instances came
// how far, and when.
type StudyRecord struct {
	Study

	Durable int // instances whose file is in the spool
	Missing int // whose file is lost
	Removed int // whose file was removed after its time
	Legs    []LegCount

	Unrouted int // instances that meet no rule of any destination: kept, and sent nowhere

	Classified int
	Ineligible int
	Failed     int

	Reason    string // of the outcome
	Score     *Score // that it rests on; nil where no model was asked
	DecidedAt time.Time
	Alerts    []AlertRecord // in the order in which they were raised
}

// Balances reports whether every instance that was acknowledged is accounted
// for: in the spool, or removed after every destination had confirmed it.
func (r StudyRecord) Balances() bool {
	return r.Missing == 0 && r.Instances == r.Durable+r.Removed
}

// Score is what the study rule gave, and what it was held against.
type Score struct {
	Score float64
	// Threshold and OperatingPoint are 0 and empty in outcomes of releases that did not
	// say them.
	Threshold      float64
	OperatingPoint string
}

// LegCount is how far a study has come on its way to one destination.
type LegCount struct {
	Destination string
	Undecided   int // that go there or not as the study's outcome will be
	Pending     int
	Sent        int // and not committed yet
	Done        int
	Transcoded  int // of them, sent in another transfer syntax than stored
	Parked      int
	LastDone    time.Time
}

func (c *LegCount) add(more LegCount) {
	c.Undecided += more.Undecided
	c.Pending += more.Pending
	c.Sent += more.Sent
	c.Done += more.Done
	c.Transcoded += more.Transcoded
	c.Parked += more.Parked
	if more.LastDone.After(c.LastDone) {
		c.LastDone = more.LastDone
	}
}

// AlertRecord is what became of an alert.
type AlertRecord struct {
	alerts.Acknowledgement // At is zero while nobody has answered

	State       alerts.State
	Level       int
	Last        alerts.Message // what was said last
	RaisedAt    time.Time
	DeliveredAt time.Time // the first notice, to the broker
	RetractedAt time.Time
}

// Studies returns the ledger's studies, the latest first.
func (s *Spool) Studies(ctx context.Context, f Filter) ([]StudyRecord, error) {
	tx, err := s.ledger.reading.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	defer tx.Rollback()
	records, err := readStudies(ctx, tx, f)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return records, nil
}

// selected are the rows of the studies that a Filter selects.
const selected = ` s.id IN (SELECT id FROM studies
		WHERE (?1 = '' OR study_instance_uid = ?1) AND (?2 = '' OR pseudonym = ?2) AND last_received >= ?3
		ORDER BY first_received DESC, id DESC LIMIT ?4) `

// args are the arguments of selected.
func (f Filter) args() []any {
	limit := -1
	if f.Limit > 0 {
		limit = f.Limit
	}
	var since int64
	if !f.Since.IsZero() {
		since = f.Since.UnixNano()
	}
	return []any{f.Study, f.Pseudonym, since, limit}
}

const (
	selectStudyRecords = `SELECT s.study_instance_uid, s.pseudonym, s.revision, s.first_received, s.last_received,
			coalesce(s.outcome, ''),
			coalesce((SELECT a.alert_id FROM alerts a WHERE a.study_id = s.id AND a.state <> 'retracted'), ''),
			count(i.id), count(*) FILTER (WHERE i.state = 'stored' AND f.state = 'pending'),
			count(*) FILTER (WHERE i.state = 'stored'), count(*) FILTER (WHERE i.state = 'missing'),
			count(*) FILTER (WHERE i.state IN ('removing', 'removed')),
			count(*) FILTER (WHERE f.state = 'classified'), count(*) FILTER (WHERE f.state = 'ineligible'),
			count(*) FILTER (WHERE f.state = 'failed'), count(*) FILTER (WHERE` + goesNowhere + `),
			coalesce(CAST(s.outcome_message AS TEXT) ->> 'reason', ''), CAST(s.outcome_message AS TEXT) ->> 'score',
			coalesce(CAST(s.outcome_message AS TEXT) ->> 'threshold', 0), coalesce(CAST(s.outcome_message AS TEXT) ->> 'operating_point', ''),
			s.decided_at
		FROM studies s LEFT JOIN instances i ON i.study_id = s.id LEFT JOIN findings f ON f.instance_id = i.id
		WHERE` + selected + `GROUP BY s.id ORDER BY s.first_received DESC, s.id DESC`

	selectLegCounts = `SELECT s.study_instance_uid, l.destination, 0,
			sum(l.state = 'pending'), sum(l.state = 'sent'), sum(l.state = 'done'), sum(l.state = 'done' AND l.sent_as <> ''), sum(l.state = 'parked'), max(l.done_at)
		FROM studies s JOIN instances i ON i.study_id = s.id JOIN legs l ON l.instance_id = i.id
		WHERE` + selected + `GROUP BY s.id, l.destination
		UNION ALL SELECT s.study_instance_uid, c.destination, count(*), 0, 0, 0, 0, 0, NULL
		FROM studies s JOIN instances i ON i.study_id = s.id JOIN conditional_legs c ON c.instance_id = i.id
		WHERE` + selected + `AND` + undecided + `GROUP BY s.id, c.destination ORDER BY 1, 2`

	selectAlertRecords = `SELECT s.study_instance_uid, a.alert_id, a.state, a.level, a.message,
			a.raised_at, a.delivered_at, a.retracted_at,
			a.acknowledged_at, a.stated_at, a.acknowledged_by, a.acknowledged_via, a.comment
		FROM studies s JOIN alerts a ON a.study_id = s.id
		WHERE` + selected + `ORDER BY s.id, a.number`
)

// readStudies reads all three tables in one transaction: the numbers fit together.
func readStudies(ctx context.Context, tx *sql.Tx, f Filter) ([]StudyRecord, error) {
	args := f.args()
	records, err := collect(scanStudyRecord)(tx.QueryContext(ctx, selectStudyRecords, args...))
	if err != nil {
		return nil, err
	}
	legs, err := collect(scanStudyLegs)(tx.QueryContext(ctx, selectLegCounts, args...))
	if err != nil {
		return nil, err
	}
	raised, err := collect(scanStudyAlert)(tx.QueryContext(ctx, selectAlertRecords, args...))
	if err != nil {
		return nil, err
	}

	byUID := make(map[dicom.UID]*StudyRecord, len(records))
	for n := range records {
		byUID[records[n].StudyInstanceUID] = &records[n]
	}
	for _, l := range legs {
		r := byUID[l.study]
		if last := len(r.Legs) - 1; last >= 0 && r.Legs[last].Destination == l.Destination {
			r.Legs[last].add(l.LegCount)
			continue
		}
		r.Legs = append(r.Legs, l.LegCount)
	}
	for _, a := range raised {
		r := byUID[a.study]
		r.Alerts = append(r.Alerts, a.AlertRecord)
	}
	return records, nil
}

func scanStudyRecord(row scanner) (r StudyRecord, err error) {
	var score sql.NullFloat64
	var held Score
	err = row.Scan(&r.StudyInstanceUID, &r.Pseudonym, &r.Revision, (*instant)(&r.FirstReceived), (*instant)(&r.LastReceived),
		&r.Outcome, &r.AlertID, &r.Instances, &r.Pending, &r.Durable, &r.Missing, &r.Removed,
		&r.Classified, &r.Ineligible, &r.Failed, &r.Unrouted, &r.Reason, &score, &held.Threshold, &held.OperatingPoint, (*instant)(&r.DecidedAt))
	if score.Valid {
		held.Score = score.Float64
		r.Score = &held
	}
	return r, err
}

// studyLegs and studyAlert are rows with the study that they belong to.
type studyLegs struct {
	study dicom.UID
	LegCount
}

type studyAlert struct {
	study dicom.UID
	AlertRecord
}

func scanStudyLegs(row scanner) (l studyLegs, err error) {
	err = row.Scan(&l.study, &l.Destination, &l.Undecided, &l.Pending, &l.Sent, &l.Done, &l.Transcoded, &l.Parked, (*instant)(&l.LastDone))
	return l, err
}

func scanStudyAlert(row scanner) (a studyAlert, err error) {
	var message []byte
	r := &a.AlertRecord
	err = row.Scan(&a.study, &r.AlertID, &r.State, &r.Level, &message,
		(*instant)(&r.RaisedAt), (*instant)(&r.DeliveredAt), (*instant)(&r.RetractedAt),
		(*instant)(&r.At), (*instant)(&r.StatedAt), &r.By, &r.Via, &r.Comment)
	if err != nil {
		return a, err
	}
	err = json.Unmarshal(message, &r.Last)
	return a, err
}
