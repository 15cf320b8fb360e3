package spool

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// journal is the file beside the ledger that tells, should the ledger be lost,
// what no instance tells: what people were told of a study, and what they
// answered. A line is all that is known of one study at that moment; the last
// line of a study holds. It is synced before the ledger's transaction is
// committed: it may be ahead of the ledger, never behind.
type journal struct {
	file file
	torn bool // it may end in the middle of a line
}

// told is a line of the journal.
type told struct {
	Study         dicom.UID    `json:"study_instance_uid"`
	Instances     int          `json:"instances"` // that the study had then
	FirstReceived time.Time    `json:"first_received"`
	LastReceived  time.Time    `json:"last_received"`
	Outcome       *toldOutcome `json:"outcome,omitempty"`
	Alerts        []toldAlert  `json:"alerts,omitempty"`

	Readings []alerts.Reading `json:"readings,omitempty"` // of those alerts
}

type toldOutcome struct {
	Message   json.RawMessage `json:"message"`
	DecidedAt time.Time       `json:"decided_at"`
	Delivered bool            `json:"delivered"`
}

// toldAlert is a row of alerts.
type toldAlert struct {
	AlertID         string          `json:"alert_id"`
	Number          int             `json:"number"`
	State           alerts.State    `json:"state"`
	Message         json.RawMessage `json:"message"`
	Delivered       bool            `json:"delivered"` // that message
	RaisedAt        time.Time       `json:"raised_at"`
	DeliveredAt     time.Time       `json:"delivered_at,omitzero"`
	LevelSince      time.Time       `json:"level_since,omitzero"`
	RetractedAt     time.Time       `json:"retracted_at,omitzero"`
	AcknowledgedAt  time.Time       `json:"acknowledged_at,omitzero"`
	StatedAt        time.Time       `json:"stated_at,omitzero"`
	AcknowledgedBy  string          `json:"acknowledged_by,omitempty"`
	AcknowledgedVia string          `json:"acknowledged_via,omitempty"`
	Comment         string          `json:"comment,omitempty"`
}

// openJournal opens the journal for appending. One that is not there yet is
// written from the ledger, and one that has become long is written anew; a disk
// that does not let it is no reason not to start.
func (s *Spool) openJournal(ctx context.Context) error {
	err := s.appendTo(journalName)
	if errors.Is(err, fs.ErrNotExist) {
		return s.beginJournal(ctx)
	}
	if err != nil {
		return err
	}
	long, err := s.journalIsLong(ctx)
	if err == nil && long {
		if err = s.journal.file.Close(); err == nil {
			err = s.beginJournal(ctx)
		}
	}
	if err == nil {
		return nil
	}
	s.log.Warn("the journal of what people were told could not be made shorter; it goes on as it is", "err", withoutPath(err))
	_ = s.journal.file.Close()                   // where it is open
	_ = s.files.Remove(journalBegun)             // where it is there
	if err := s.files.SyncDir("."); err != nil { // which of the two it is must be settled
		return fmt.Errorf("open the journal: %w", err)
	}
	return s.appendTo(journalName)
}

// journalSlack is how many lines of the journal may be superseded in any case.
const journalSlack = 100

// journalIsLong reports whether more than half of the journal's lines are
// superseded: what it has to tell is one line a study.
func (s *Spool) journalIsLong(ctx context.Context) (bool, error) {
	told, err := collect(scanCount)(s.ledger.queries.query(ctx, `SELECT count(*) FROM studies s WHERE `+toldOf))
	if err != nil {
		return false, err
	}
	f, err := s.files.Open(journalName)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines, part := int64(0), make([]byte, 64<<10)
	for {
		n, err := f.Read(part)
		lines += int64(bytes.Count(part[:n], []byte{'\n'}))
		if errors.Is(err, io.EOF) {
			return lines > 2*told[0]+journalSlack, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// toldOf is the condition under which people were told something of a study s.
const toldOf = `(s.outcome IS NOT NULL OR EXISTS (SELECT 1 FROM alerts a WHERE a.study_id = s.id))`

// beginJournal writes the journal from the ledger, under another name until it is
// whole and on the disk. What the old one tells and the ledger does not was never
// told.
func (s *Spool) beginJournal(ctx context.Context) error {
	if err := s.files.Remove(journalBegun); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("begin the journal: %w", err)
	}
	f, err := s.files.Create(journalBegun)
	if err != nil {
		return fmt.Errorf("begin the journal: %w", classify(err))
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("begin the journal: %w", err)
	}
	if err := s.appendTo(journalBegun); err != nil {
		return err
	}
	err = s.write(ctx, durable, StepJournalBegun, func(tx *transaction) error {
		decided, err := collect(scanCount)(tx.query(`SELECT id FROM studies s WHERE ` + toldOf + ` ORDER BY id`))
		if err != nil {
			return err
		}
		for _, id := range decided {
			t, err := tx.told(id)
			if err == nil {
				err = s.journal.write(t)
			}
			if err != nil {
				return err
			}
		}
		return s.journal.file.Sync()
	})
	if err == nil {
		err = s.files.Rename(journalBegun, journalName)
	}
	if err == nil {
		s.hook(StepJournalRenamed)
		err = s.files.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("begin the journal: %w", classify(err))
	}
	s.hook(StepJournalInPlace)
	return nil
}

// appendTo opens a file that is there as the journal.
func (s *Spool) appendTo(name string) error {
	f, err := s.files.Append(name)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	s.journal = journal{file: f, torn: true} // an empty line does no harm
	return nil
}

// append writes a line and makes it durable.
func (j *journal) append(t told) error {
	err := j.write(t)
	if err == nil {
		err = j.file.Sync()
	}
	j.torn = err != nil
	return err
}

// write writes a line.
func (j *journal) write(t told) error {
	line, err := json.Marshal(t)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if j.torn {
		line = append([]byte{'\n'}, line...)
	}
	_, err = j.file.Write(line)
	j.torn = err != nil
	return err
}

// note writes into the journal what the transaction is about to make of a study.
func (s *Spool) note(tx *transaction, studyID int64) error {
	t, err := tx.told(studyID)
	if err != nil {
		return err
	}
	if err := s.journal.append(t); err != nil {
		return fmt.Errorf("write the journal: %w", classify(err))
	}
	s.hook(StepNoted)
	return nil
}

// told is all that people were told of a study, as the transaction leaves it.
func (tx *transaction) told(studyID int64) (t told, err error) {
	var message []byte
	var outcome toldOutcome
	err = tx.row(`SELECT study_instance_uid, first_received, last_received, outcome_message, decided_at,
			(SELECT count(*) FROM instances i WHERE i.study_id = s.id),
			NOT EXISTS (SELECT 1 FROM outbox o WHERE o.key = s.pseudonym AND o.topic = ?2 AND o.delivered_at IS NULL)
			FROM studies s WHERE id = ?1`, []any{studyID, alerts.TopicOutcome},
		&t.Study, (*instant)(&t.FirstReceived), (*instant)(&t.LastReceived), &message, (*instant)(&outcome.DecidedAt),
		&t.Instances, &outcome.Delivered)
	if err != nil {
		return t, err
	}
	if message != nil {
		outcome.Message = message
		t.Outcome = &outcome
	}
	t.Alerts, err = collect(scanToldAlert)(tx.query(`SELECT alert_id, number, state, message,
			NOT EXISTS (SELECT 1 FROM outbox o WHERE o.alert_id = a.alert_id AND o.delivered_at IS NULL),
			raised_at, delivered_at, level_since, retracted_at,
			acknowledged_at, stated_at, acknowledged_by, acknowledged_via, comment
			FROM alerts a WHERE study_id = ? ORDER BY number`, studyID))
	if err != nil {
		return t, err
	}
	t.Readings, err = collect(scanReading)(tx.query(selectReadings+`WHERE alert_id IN (SELECT alert_id FROM alerts WHERE study_id = ?)
			ORDER BY alert_id, number`, studyID))
	return t, err
}

func scanToldAlert(row scanner) (a toldAlert, err error) {
	err = row.Scan(&a.AlertID, &a.Number, &a.State, (*[]byte)(&a.Message), &a.Delivered,
		(*instant)(&a.RaisedAt), (*instant)(&a.DeliveredAt), (*instant)(&a.LevelSince), (*instant)(&a.RetractedAt),
		(*instant)(&a.AcknowledgedAt), (*instant)(&a.StatedAt), &a.AcknowledgedBy, &a.AcknowledgedVia, &a.Comment)
	return a, err
}

// readJournal returns the last line of each study, in the order in which the
// studies were first told of. A line that cannot be read is skipped: a power cut
// may have torn it.
func (s *Spool) readJournal() ([]told, error) {
	f, err := s.files.Open(journalName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var last []told
	place := make(map[dicom.UID]int)
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		var t told
		if json.Unmarshal(line, &t) == nil && t.Study.Valid() == nil {
			at, known := place[t.Study]
			if !known {
				at = len(last)
				place[t.Study] = at
				last = append(last, told{})
			}
			last[at] = t
		}
		if err != nil {
			return last, nil
		}
	}
}

// recall gives a ledger that is empty what the journal knows: outcomes, alerts
// with their ids, numbers and answers. A message that the broker has not
// confirmed, as far as the journal knows, is posted once more under its old
// number. It comes before files are adopted, so that a ledger with instances has
// been through it.
func (s *Spool) recall(ctx context.Context) error {
	studies, err := collect(scanCount)(s.ledger.queries.query(ctx, `SELECT count(*) FROM studies`))
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	if studies[0] > 0 {
		return nil
	}
	var lines []told
	err = s.patience.with(func() (err error) {
		lines, err = s.readJournal()
		return err
	})
	if err != nil {
		return fmt.Errorf("read the journal of what people were told: %w", err)
	}
	if len(lines) == 0 {
		return nil
	}
	err = s.write(ctx, durable, StepRecalled, func(tx *transaction) error {
		s.recalled = make([]told, 0, len(lines))
		for _, t := range lines {
			switch err := tx.apart(func() error { return s.recallStudy(tx, t) }); {
			case errors.Is(classify(err), ErrFull):
				return err
			case err != nil: // no reason not to start
				s.log.Error("what people were told of a study cannot be understood; it is analysed as if for the first time", "study", s.Pseudonym(t.Study), "err", err)
			default:
				s.recalled = append(s.recalled, t)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take over the journal of what people were told: %w", err)
	}
	s.recovered.LedgerRebuilt = true // perhaps by a start that was cut short
	s.recovered.Recalled = len(s.recalled)
	return nil
}

// apart runs do so that its error undoes what it has done and nothing else.
func (tx *transaction) apart(do func() error) error {
	if _, err := tx.exec(`SAVEPOINT apart`); err != nil {
		return err
	}
	err := do()
	if err != nil {
		if _, undone := tx.exec(`ROLLBACK TO apart`); undone != nil {
			return errors.Join(err, undone)
		}
	}
	_, released := tx.exec(`RELEASE apart`)
	return errors.Join(err, released)
}

func (s *Spool) recallStudy(tx *transaction, t told) error {
	key := s.Pseudonym(t.Study)
	result, err := tx.exec(`INSERT INTO studies (study_instance_uid, pseudonym, revision, open, first_received, last_received) VALUES (?, ?, 0, 0, ?, ?)`,
		t.Study, key, instant(t.FirstReceived), instant(t.LastReceived))
	if err != nil {
		return err
	}
	id, err := result.LastInsertId()
	if err != nil {
		return err
	}
	for _, a := range t.Alerts {
		if err := s.recallAlert(tx, id, key, a); err != nil {
			return err
		}
	}
	if err := tx.recallReadings(t.Readings); err != nil {
		return err
	}
	if t.Outcome == nil {
		return nil
	}
	var m alerts.OutcomeMessage
	if err := json.Unmarshal(t.Outcome.Message, &m); err != nil {
		return fmt.Errorf("its outcome: %w", err)
	}
	_, err = tx.exec(`UPDATE studies SET outcome = ?, outcome_seq = ?, outcome_message = ?, decided_at = ? WHERE id = ?`,
		m.Outcome, m.Seq, []byte(t.Outcome.Message), instant(t.Outcome.DecidedAt), id)
	if err != nil || t.Outcome.Delivered {
		return err
	}
	entry, err := m.Entry(key)
	if err != nil {
		return err
	}
	return s.post(tx, entry, nil)
}

func (s *Spool) recallAlert(tx *transaction, studyID int64, key string, a toldAlert) error {
	raised := alert{id: a.AlertID, studyID: studyID, number: a.Number, state: a.State}
	if err := json.Unmarshal(a.Message, &raised.message); err != nil {
		return fmt.Errorf("alert %s: %w", a.AlertID, err)
	}
	_, err := tx.exec(`INSERT INTO alerts (alert_id, study_id, number, seq, level, state, message, raised_at, delivered_at, level_since,
			retracted_at, acknowledged_at, stated_at, acknowledged_by, acknowledged_via, comment) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		a.AlertID, studyID, a.Number, raised.message.Seq, raised.message.Level, a.State, []byte(a.Message), instant(a.RaisedAt), instant(a.DeliveredAt),
		instant(a.LevelSince), instant(a.RetractedAt), instant(a.AcknowledgedAt), instant(a.StatedAt), a.AcknowledgedBy, a.AcknowledgedVia, a.Comment)
	if err != nil {
		return err
	}
	if a.State != alerts.StateRetracted {
		if err := tx.hurry(studyID, true); err != nil {
			return err
		}
	}
	if a.Delivered {
		return nil
	}
	entry, err := raised.message.Entry(key)
	if err != nil {
		return err
	}
	return s.post(tx, entry, &raised)
}

// settleRecalled keeps the outcome of a study of which files were removed before
// the ledger was lost: what is left is a torso, and no ground to take a suspicion
// back.
func (s *Spool) settleRecalled(tx *transaction) error {
	for _, t := range s.recalled {
		if t.Outcome == nil {
			continue
		}
		var id int64
		err := tx.row(`UPDATE studies SET open = 0 WHERE study_instance_uid = ?
				AND (SELECT count(*) FROM instances i WHERE i.study_id = studies.id) < ? RETURNING id`, []any{t.Study, t.Instances}, &id)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err == nil {
			_, err = s.addOutcomeLegs(tx, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
