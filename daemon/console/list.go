package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
)

// Section is where a study stands in the list.
type Section int

// The sections, the most urgent first.
const (
	Waiting  Section = iota // an alert that nobody has answered
	InHand                  // somebody has it, and has not said yet what it is
	Trouble                 // FAILED: should have been looked at, and was not
	Arriving                // no outcome yet
	Over                    // all else
)

// row is a study in the list.
type row struct {
	Section Section
	Study   string // pseudonym
	alertView

	Outcome  alerts.Outcome
	Reason   string
	Received time.Time // the first of it
	Last     time.Time // the last of it
	Objects  int
	Looked   int // slices that the model has seen
	Pending  int
	Unsent   int // objects that a destination has not confirmed
}

// Key tells one row from another; Stamp changes with what is to be seen.
func (r row) Key() string { return r.Study }

// alertView is an alert for people.
type alertView struct {
	AlertID  string
	State    alerts.State
	Level    int
	Finding  string
	Score    float64
	Raised   time.Time
	Told     time.Time // delivered to the broker
	Has      string    // who has it
	Via      string
	Answered time.Time
	Comment  string
	Why      string // it was withdrawn
	Reading  alerts.Reading
	Readings []alerts.Reading
}

// Open reports whether it waits for an answer.
func (a alertView) Open() bool { return a.AlertID != "" && a.State.Open() }

// Withdrawn reports whether there is nothing to answer any more.
func (a alertView) Withdrawn() bool { return a.State == alerts.StateRetracted }

// viewOf takes what is known of a study's latest alert.
func viewOf(record spool.StudyRecord, readings []alerts.Reading) alertView {
	if len(record.Alerts) == 0 {
		return alertView{}
	}
	a := record.Alerts[len(record.Alerts)-1]
	v := alertView{
		AlertID: a.Last.AlertID, State: a.State, Level: a.Level, Finding: a.Last.Finding, Score: a.Last.Score,
		Raised: a.RaisedAt, Told: a.DeliveredAt, Has: a.By, Via: a.Via, Answered: a.At, Comment: a.Comment,
	}
	if a.State == alerts.StateRetracted {
		v.Why = a.Last.Reason
	}
	for _, r := range readings {
		if r.AlertID == v.AlertID {
			v.Readings = append(v.Readings, r)
			v.Reading = r
		}
	}
	return v
}

// listed is how far back the list goes, and how many studies it has at most.
const (
	listedFor  = 48 * time.Hour
	listedMost = 150
)

// listing is the studies by urgency.
type listing struct {
	Rows []row
	// Newest is the alert that was raised last and waits for an answer.
	Newest string
}

// In returns the rows of a section.
func (l listing) In(s Section) (in []row) {
	for _, r := range l.Rows {
		if r.Section == s {
			in = append(in, r)
		}
	}
	return in
}

// look reads the list from the ledger.
func (s *Server) look(ctx context.Context) (listing, error) {
	records, err := s.Spool.Studies(ctx, spool.Filter{Since: s.now().Add(-listedFor), Limit: listedMost})
	if err != nil {
		return listing{}, err
	}
	waiting, err := s.Spool.WaitingStudies(ctx)
	if err != nil {
		return listing{}, err
	}
	for _, uid := range waiting { // however old
		if slices.ContainsFunc(records, func(r spool.StudyRecord) bool { return r.StudyInstanceUID == uid }) {
			continue
		}
		older, err := s.Spool.Studies(ctx, spool.Filter{Study: uid})
		if err != nil {
			return listing{}, err
		}
		records = append(records, older...)
	}
	var l listing
	for _, record := range records {
		var readings []alerts.Reading
		if len(record.Alerts) > 0 {
			if readings, err = s.Spool.Readings(ctx, record.StudyInstanceUID); err != nil {
				return listing{}, err
			}
		}
		l.Rows = append(l.Rows, newRow(record, readings))
	}
	slices.SortStableFunc(l.Rows, byUrgency)
	var raised time.Time
	for _, r := range l.In(Waiting) {
		if r.Raised.After(raised) {
			l.Newest, raised = r.AlertID, r.Raised
		}
	}
	return l, nil
}

func newRow(record spool.StudyRecord, readings []alerts.Reading) row {
	r := row{
		Study: record.Pseudonym, alertView: viewOf(record, readings), Outcome: record.Outcome, Reason: record.Reason,
		Received: record.FirstReceived, Last: record.LastReceived,
		Objects: record.Instances, Looked: record.Classified, Pending: record.Pending,
	}
	for _, leg := range record.Legs {
		r.Unsent = max(r.Unsent, leg.Pending+leg.Sent+leg.Parked)
	}
	switch {
	case r.Open():
		r.Section = Waiting
	case r.AlertID != "" && !r.Withdrawn() && r.Reading.Verdict == "":
		r.Section = InHand
	case r.Outcome == alerts.Failed:
		r.Section = Trouble
	case r.Outcome == "":
		r.Section = Arriving
	default:
		r.Section = Over
	}
	return r
}

// byUrgency puts what has been raised highest and waits longest before all else,
// and the latest first where nothing waits.
func byUrgency(a, b row) int {
	if a.Section != b.Section {
		return cmp.Compare(a.Section, b.Section)
	}
	switch a.Section {
	case Waiting:
		return cmp.Or(cmp.Compare(b.Level, a.Level), a.Raised.Compare(b.Raised))
	case InHand:
		return a.Raised.Compare(b.Raised)
	}
	return b.Last.Compare(a.Last)
}

// listView is the list's page.
type listView struct {
	page
	List listing
}

func (s *Server) listPage(w http.ResponseWriter, r *http.Request) {
	l, err := s.look(r.Context())
	if err != nil {
		s.broke(w, r, fmt.Errorf("read the list: %w", err))
		return
	}
	s.render(w, r, http.StatusOK, "list", listView{page: s.page(r, "Studies"), List: l})
}
