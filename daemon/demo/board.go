package demo

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dicom"
)

// Row is one study's way through the line, as its peers saw it: the scanner counts what was answered with 0000H, the
// PACS what arrived, the on-call subscriber what the broker delivered, and the ledger what the daemon itself holds.
type Row struct {
	Study     string    `json:"study"`             // what the phantom shows: "normal", "epidural", ...
	ByHand    bool      `json:"by_hand,omitempty"` // sent by somebody else: no truth to compare with, Slices and Sent unknown
	StudyUID  dicom.UID `json:"study_instance_uid"`
	Slices    int       `json:"slices"`
	Sent      int       `json:"sent"`      // answered with success, so durable
	Stored    int       `json:"stored"`    // in the ledger
	Forwarded int       `json:"forwarded"` // arrived at the PACS
	Identical int       `json:"identical"` // of these, data sets whose SHA-256 is that of what the scanner sent

	Classified int            `json:"classified"`
	Outcome    alerts.Outcome `json:"outcome,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Finding    string         `json:"finding,omitempty"`
	Score      float64        `json:"score"`
	Threshold  float64        `json:"threshold,omitempty"`

	AlertID        string  `json:"alert_id,omitempty"`
	Alerts         int     `json:"alert_messages"`           // of that id, escalations among them
	AlertAfter     float64 `json:"alert_after_ms,omitempty"` // key image durable to message in the subscriber's hands
	AlertAtSlice   int     `json:"alert_at_slice,omitempty"` // slices sent when the alert arrived
	Level          int     `json:"level,omitempty"`          // how often it was escalated
	Retracted      bool    `json:"retracted,omitempty"`
	Acknowledged   bool    `json:"acknowledged"`
	AcknowledgedBy string  `json:"acknowledged_by,omitempty"`
}

// Expected reports whether the outcome is the one that the phantom was made for. Of a study sent by hand nothing is
// expected but an outcome.
func (r Row) Expected() bool {
	if r.ByHand {
		return r.Outcome != ""
	}
	if r.Study == phantom.Normal.String() {
		return r.Outcome == alerts.Negative
	}
	return r.Outcome == alerts.Positive
}

// Wrong reports whether the model decided, and not as the phantom was made.
func (r Row) Wrong() bool {
	return (r.Outcome == alerts.Positive || r.Outcome == alerts.Negative) && !r.Expected()
}

// Waiting reports whether an alert stands that nobody has answered.
func (r Row) Waiting() bool { return r.Alerts > 0 && !r.Acknowledged && !r.Retracted }

// Complete reports whether nothing more can happen to the study without a person.
func (r Row) Complete() bool {
	if r.ByHand {
		return r.Outcome != ""
	}
	return r.Sent == r.Slices && r.Stored == r.Slices && r.Forwarded >= r.Slices && r.Outcome != "" &&
		(r.Outcome != alerts.Positive || r.Alerts > 0)
}

// Failures lists what the study's way lacked; none means that the line worked. A study sent by hand is not the demo's to
// judge.
func (r Row) Failures() []string {
	if r.ByHand {
		return nil
	}
	var missing []string
	unless := func(ok bool, format string, args ...any) {
		if !ok {
			missing = append(missing, r.Study+": "+fmt.Sprintf(format, args...))
		}
	}
	unless(r.Sent == r.Slices, "%d of %d slices were answered with success", r.Sent, r.Slices)
	unless(r.Stored == r.Slices, "%d of %d slices are in the ledger", r.Stored, r.Slices)
	unless(r.Forwarded >= r.Slices, "%d of %d slices reached the PACS", r.Forwarded, r.Slices)
	unless(r.Identical == r.Forwarded, "%d of %d forwarded data sets are not what was sent", r.Forwarded-r.Identical, r.Forwarded)
	unless(r.Outcome != "", "no outcome arrived")
	unless(r.Outcome == "" || r.Expected(), "outcome %s%s", r.Outcome, r.because())
	if r.Outcome == alerts.Positive {
		unless(r.Alerts > 0, "no alert arrived")
		unless(r.Acknowledged, "the acknowledgement is not in the ledger")
	}
	return missing
}

// because is what is known about the outcome, in parentheses; empty where nothing is.
func (r Row) because() string {
	known := slices.DeleteFunc([]string{r.Finding, r.Reason}, func(s string) bool { return s == "" })
	if len(known) == 0 {
		return ""
	}
	return " (" + strings.Join(known, ", ") + ")"
}

// Line is something that happened, for people to read.
type Line struct {
	At    time.Time
	Study string
	Text  string
	Loud  bool // an alert
}

// board is the state that the views draw. Its peers write to it from their own goroutines.
type board struct {
	mu      sync.Mutex
	rows    []*Row
	byStudy map[dicom.UID]*Row     // those of earlier rounds too
	byHand  int                    // studies that came by hand so far
	next    time.Time              // when the next round begins; zero while it cannot
	digests map[dicom.UID][32]byte // SOP Instance UID -> SHA-256 of the data set as the scanner sent it
	alert   []byte                 // the first alert's JSON, as it came from the broker
	lines   []Line
	tell    func(Line)    // nil, or called with each line, under the lock
	changed chan struct{} // closed at the next change, and replaced
}

func newBoard() *board {
	return &board{byStudy: map[dicom.UID]*Row{}, digests: map[dicom.UID][32]byte{}, changed: make(chan struct{})}
}

// add opens a row.
func (b *board) add(r Row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	row := &r
	b.rows = append(b.rows, row)
	b.byStudy[r.StudyUID] = row
	b.signal()
}

// update changes the row of a study and, where text is not empty, writes a line about it. A study that no scanner of ours
// announced was sent by hand and gets a row; one of an earlier round comes back when an alert about it waits for a person,
// or when more of it is sent by hand.
// Without a study nothing happens.
func (b *board) update(study dicom.UID, change func(*Row) (text string, loud bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if study == "" {
		return
	}
	row := b.byStudy[study]
	if row == nil {
		row = b.receivedByHand(study)
	}
	before := *row
	text, loud := change(row)
	if (row.Waiting() || row.ByHand && row.Slices > before.Slices) && !slices.Contains(b.rows, row) {
		b.rows = append(b.rows, row)
	}
	if text != "" {
		b.write(row, text, loud)
	}
	if text != "" || before != *row {
		b.signal()
	}
}

// receivedByHand is called under the lock.
func (b *board) receivedByHand(study dicom.UID) *Row {
	b.byHand++
	row := &Row{Study: "by hand", ByHand: true, StudyUID: study}
	if b.byHand > 1 {
		row.Study = fmt.Sprintf("by hand %d", b.byHand)
	}
	b.rows = append(b.rows, row)
	b.byStudy[study] = row
	b.write(row, "somebody sends a study of their own", false)
	b.signal()
	return row
}

// keptLines is far more than any terminal shows.
const keptLines = 1000

// write is called under the lock.
func (b *board) write(row *Row, text string, loud bool) {
	line := Line{At: time.Now(), Study: row.Study, Text: strings.ReplaceAll(text, "\n", "; "), Loud: loud}
	b.lines = append(b.lines[max(0, len(b.lines)+1-keptLines):], line)
	if b.tell != nil {
		b.tell(line)
	}
}

// expect notes the digest that must arrive at the PACS.
func (b *board) expect(instance dicom.UID, sum [32]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.digests[instance] = sum
}

// digest returns what the scanner sent under the SOP Instance UID.
func (b *board) digest(instance dicom.UID) ([32]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum, ok := b.digests[instance]
	return sum, ok
}

// keepAlert keeps the first alert for the reader to see as it travelled.
func (b *board) keepAlert(payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.alert == nil {
		b.alert = slices.Clone(payload)
	}
}

// snapshot returns copies of the rows, the last n lines and the first alert.
func (b *board) snapshot(n int) (rows []Row, lines []Line, alert []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.rows {
		rows = append(rows, *r)
	}
	return rows, slices.Clone(b.lines[max(0, len(b.lines)-n):]), b.alert
}

// changes returns a channel that is closed at the next change. Who waits for one takes the channel before the snapshot.
func (b *board) changes() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// signal is called under the lock.
func (b *board) signal() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// announce says when the next round begins; the zero time, that it cannot yet.
func (b *board) announce(next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != next {
		b.next = next
		b.signal()
	}
}

// nextRound returns what was announced.
func (b *board) nextRound() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next
}

// reset clears the rows for a new round, all but those whose alert waits for a person.
func (b *board) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = slices.DeleteFunc(b.rows, func(r *Row) bool { return !r.Waiting() })
	b.next = time.Time{}
	clear(b.digests)
	b.signal()
}
