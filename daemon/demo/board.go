package demo

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dicom"
)

// Row is one study's way through the line, as its peers saw it: the scanner counts what was answered with 0000H, the
// PACS what arrived, the on-call subscriber what the broker delivered, and the ledger what the daemon itself holds.
type Row struct {
	Study     string    `json:"study"` // what the phantom shows: "normal", "epidural", ...
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

	AlertID        string  `json:"alert_id,omitempty"`
	Alerts         int     `json:"alert_messages"`           // of that id, escalations among them
	AlertAfter     float64 `json:"alert_after_ms,omitempty"` // key image durable to message in the subscriber's hands
	AlertAtSlice   int     `json:"alert_at_slice,omitempty"` // slices sent when the alert arrived
	Retracted      bool    `json:"retracted,omitempty"`
	Acknowledged   bool    `json:"acknowledged"`
	AcknowledgedBy string  `json:"acknowledged_by,omitempty"`
}

// Expected reports whether the outcome is the one that the phantom was made for.
func (r Row) Expected() bool {
	if r.Study == phantom.Normal.String() {
		return r.Outcome == alerts.Negative
	}
	return r.Outcome == alerts.Positive
}

// Complete reports whether nothing more can happen to the study without a person.
func (r Row) Complete() bool {
	return r.Sent == r.Slices && r.Stored == r.Slices && r.Forwarded >= r.Slices && r.Outcome != "" &&
		(r.Outcome != alerts.Positive || r.Alerts > 0)
}

// Failures lists what the study's way lacked; none means that the line worked.
func (r Row) Failures() []string {
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
	unless(r.Outcome == "" || r.Expected(), "outcome %s (%s)", r.Outcome, r.Finding+r.Reason)
	if r.Outcome == alerts.Positive {
		unless(r.Alerts > 0, "no alert arrived")
		unless(r.Acknowledged, "the acknowledgement is not in the ledger")
	}
	return missing
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
	byStudy map[dicom.UID]*Row
	digests map[dicom.UID][32]byte // SOP Instance UID -> SHA-256 of the data set as the scanner sent it
	alert   []byte                 // the first alert's JSON, as it came from the broker
	lines   []Line
	tell    func(Line)    // nil, or called with each line, under the lock
	changed chan struct{} // capacity 1
}

func newBoard() *board {
	return &board{byStudy: map[dicom.UID]*Row{}, digests: map[dicom.UID][32]byte{}, changed: make(chan struct{}, 1)}
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

// update changes the row of a study and, where text is not empty, writes a line about it. A study that the board does
// not know is ignored: the broker may hold an older one.
func (b *board) update(study dicom.UID, change func(*Row) (text string, loud bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	row := b.byStudy[study]
	if row == nil {
		return
	}
	before := *row
	text, loud := change(row)
	if text != "" {
		line := Line{At: time.Now(), Study: row.Study, Text: text, Loud: loud}
		b.lines = append(b.lines, line)
		if b.tell != nil {
			b.tell(line)
		}
	}
	if text != "" || before != *row {
		b.signal()
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

// signal is called under the lock.
func (b *board) signal() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// reset forgets the rows of the last round; late messages about them are ignored from here on.
func (b *board) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = nil
	clear(b.byStudy)
	clear(b.digests)
	b.signal()
}
