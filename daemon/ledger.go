package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
)

// exitUnbalanced says that the ledger was read and does not balance.
const exitUnbalanced = 3

func ledgerCommand() *cobra.Command {
	var at place
	var as format
	var study, since string
	var verify bool
	formats := []format{formatTable, formatCSV, formatJSON}
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Account for every study: received, durable, forwarded, analysed, outcome, alert, acknowledged",
		Long: `Prints a line for each study, the latest first: how many of its instances were
received, lie in the spool, are confirmed by each destination and were analysed;
its outcome, its alert and who acknowledged it, with times. The totals follow.

The totals balance when every instance that was acknowledged to the scanner is in
the spool with its file in its whole length, or was removed after every
destination had confirmed it, and when every closed study has its outcome. What
does not is named, instance by instance. The command looks at files and changes
nothing; it works beside the daemon and without it. As root or the daemon's user.
With --verify it reads each file to its end, and holds it against the SHA-256 of
what arrived: that takes as long as reading the spool takes.

Without --study and --since, files that the ledger does not know are looked for
too. Suspected findings, not for diagnosis.

Exit status: 0 it balances; 1 it cannot be read; 2 called wrongly; 3 it does not
balance, or the study that was asked for is not in it.`,
		Example: `  sudo ichwatch ledger --since 24h
  sudo ichwatch ledger --study s-4hxk2mpv7q
  sudo ichwatch ledger --format csv > ledger.csv
  sudo ichwatch ledger --verify                        is every byte what arrived?
  sudo ichwatch ledger --spool /mnt/old/spool --format json | jq '.discrepancies'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := as.check(cmd, formats...); err != nil {
				return err
			}
			f := studyFilter(study)
			var err error
			if f.Since, err = parseSince(since, time.Now()); err != nil {
				return callError(cmd, err)
			}
			r, err := at.reader(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			read := r.Account
			if verify {
				read = r.Verify
			}
			account, err := read(cmd.Context(), f)
			if err := errors.Join(err, r.Close()); err != nil {
				return err
			}
			if study != "" && len(account.Studies) == 0 {
				return exitError{fmt.Errorf("study %s is not in the ledger", study), exitUnbalanced}
			}
			b := newBooks(account)
			if err := b.write(cmd.OutOrStdout(), cmd.ErrOrStderr(), as); err != nil {
				return err
			}
			if !b.Balances {
				return exitError{fmt.Errorf("the ledger does not balance: %s", count(len(b.Discrepancies), "discrepancy", "discrepancies")), exitUnbalanced}
			}
			return nil
		},
	}
	at.flags(cmd)
	as.flag(cmd, formats...)
	cmd.Flags().StringVar(&study, "study", "", "this study only: its `UID` or its pseudonym")
	cmd.Flags().BoolVar(&verify, "verify", false, "read every file and compare it with what arrived")
	cmd.Flags().StringVar(&since, "since", "", "what arrived since a `TIME` or a span: 24h, 7d, 2006-01-02, 2006-01-02 15:04")
	return cmd
}

// books are the ledger as it is printed; the form of --format json.
type books struct {
	Studies       []entry       `json:"studies"`
	Totals        totals        `json:"totals"`
	Verified      int           `json:"verified,omitempty"` // files read and found to be what arrived
	Balances      bool          `json:"balances"`
	Discrepancies []discrepancy `json:"discrepancies"`
}

// entry is a study. Counts are of instances.
type entry struct {
	Study            string    `json:"study"` // its pseudonym, as the log has it
	StudyInstanceUID string    `json:"study_instance_uid"`
	FirstReceived    time.Time `json:"first_received"`
	LastReceived     time.Time `json:"last_received"`
	counts
	Outcome   string       `json:"outcome,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	*scored                // nil where no model was asked
	DecidedAt time.Time    `json:"decided_at,omitzero"`
	Alerts    []alertEntry `json:"alerts,omitempty"`
}

type totals struct {
	Studies int `json:"studies"`
	counts
}

// counts are numbers of instances that have to fit each other: Received is the sum of where
// the files are, of each destination's, and of the analysis's.
type counts struct {
	Received     int           `json:"received"`
	Durable      int           `json:"durable"` // in the spool
	Removed      int           `json:"removed"` // after every destination had confirmed
	Missing      int           `json:"missing"`
	Unrouted     int           `json:"unrouted"` // of the durable ones: they meet no rule of any destination
	Destinations []destination `json:"destinations"`
	Classified   int           `json:"classified"`
	Ineligible   int           `json:"ineligible"`
	Failed       int           `json:"failed"`
	Unanalysed   int           `json:"unanalysed"` // so far
}

// destination counts the ways to one: together as many as the instances that were
// received while it was configured and that its rules send there.
type destination struct {
	Name          string    `json:"name"`
	Undecided     int       `json:"undecided"` // waits for the outcome by which they go there or not
	Confirmed     int       `json:"confirmed"`
	Transcoded    int       `json:"transcoded"` // of those, sent in another transfer syntax than stored
	Sent          int       `json:"sent"`       // and not committed yet, where the destination has to commit itself
	Waiting       int       `json:"waiting"`
	Parked        int       `json:"parked"`
	LastConfirmed time.Time `json:"last_confirmed,omitzero"`
}

type alertEntry struct {
	AlertID string       `json:"alert_id"`
	State   alerts.State `json:"state"`
	Level   int          `json:"level"`
	Finding string       `json:"finding"` // suspected
	scored
	RaisedAt       time.Time `json:"raised_at"`
	DeliveredAt    time.Time `json:"delivered_at,omitzero"`
	RetractedAt    time.Time `json:"retracted_at,omitzero"`
	AcknowledgedAt time.Time `json:"acknowledged_at,omitzero"`
	AcknowledgedBy string    `json:"acknowledged_by,omitempty"`
	Via            string    `json:"via,omitempty"`
}

// scored is what the study rule gave a study and what it was held against. A score
// alone says nothing.
type scored struct {
	Score          float64 `json:"score"`
	Threshold      float64 `json:"threshold,omitempty"` // 0: of a release that did not say it
	OperatingPoint string  `json:"operating_point,omitempty"`
}

func scoredOf(m alerts.Message) scored { return scored{m.Score, m.Threshold, m.OperatingPoint} }

// words are "score 0.2897, threshold 0.2414 (balanced)".
func (s scored) words() string {
	text := fmt.Sprintf("score %.4f", s.Score)
	if s.Threshold > 0 {
		text += fmt.Sprintf(", threshold %.4f", s.Threshold)
	}
	if s.OperatingPoint != "" {
		text += fmt.Sprintf(" (%s)", s.OperatingPoint)
	}
	return text
}

type discrepancy struct {
	Study            string `json:"study,omitempty"`
	StudyInstanceUID string `json:"study_instance_uid,omitempty"`
	SOPInstanceUID   string `json:"sop_instance_uid,omitempty"`
	Instance         int64  `json:"instance,omitempty"`
	File             string `json:"file,omitempty"`
	Wrong            string `json:"wrong"`
}

func newBooks(a spool.Account) books {
	b := books{Studies: []entry{}, Discrepancies: []discrepancy{}, Verified: a.Verified, Balances: len(a.Discrepancies) == 0}
	for _, r := range a.Studies {
		e := newEntry(r)
		b.Studies = append(b.Studies, e)
		b.Totals.Studies++
		b.Totals.add(e.counts)
	}
	for _, d := range a.Discrepancies {
		b.Discrepancies = append(b.Discrepancies, discrepancy{
			d.Study, string(d.StudyInstanceUID), string(d.SOPInstanceUID), d.InstanceID, d.File, d.Wrong,
		})
	}
	return b
}

func newEntry(r spool.StudyRecord) entry {
	e := entry{
		Study: r.Pseudonym, StudyInstanceUID: string(r.StudyInstanceUID), FirstReceived: r.FirstReceived, LastReceived: r.LastReceived,
		counts: counts{
			Received: r.Instances, Durable: r.Durable, Removed: r.Removed, Missing: r.Missing, Unrouted: r.Unrouted,
			Classified: r.Classified, Ineligible: r.Ineligible, Failed: r.Failed,
			Unanalysed: r.Instances - r.Classified - r.Ineligible - r.Failed,
		},
		Outcome: string(r.Outcome), Reason: r.Reason, DecidedAt: r.DecidedAt,
	}
	if r.Score != nil {
		e.scored = (*scored)(r.Score)
	}
	for _, l := range r.Legs {
		e.Destinations = append(e.Destinations, destination{l.Destination, l.Undecided, l.Done, l.Transcoded, l.Sent, l.Pending, l.Parked, l.LastDone})
	}
	for _, a := range r.Alerts {
		e.Alerts = append(e.Alerts, alertEntry{
			AlertID: a.AlertID, State: a.State, Level: a.Level, Finding: a.Last.Finding, scored: scoredOf(a.Last),
			RaisedAt: a.RaisedAt, DeliveredAt: a.DeliveredAt, RetractedAt: a.RetractedAt,
			AcknowledgedAt: a.At, AcknowledgedBy: a.By, Via: a.Via,
		})
	}
	return e
}

func (n *counts) add(m counts) {
	n.Received += m.Received
	n.Durable += m.Durable
	n.Removed += m.Removed
	n.Missing += m.Missing
	n.Unrouted += m.Unrouted
	n.Classified += m.Classified
	n.Ineligible += m.Ineligible
	n.Failed += m.Failed
	n.Unanalysed += m.Unanalysed
	for _, d := range m.Destinations {
		sum := n.destination(d.Name)
		sum.Undecided += d.Undecided
		sum.Confirmed += d.Confirmed
		sum.Transcoded += d.Transcoded
		sum.Sent += d.Sent
		sum.Waiting += d.Waiting
		sum.Parked += d.Parked
		if d.LastConfirmed.After(sum.LastConfirmed) {
			sum.LastConfirmed = d.LastConfirmed
		}
	}
}

// destination finds the counts of one, or makes a place for them.
func (n *counts) destination(name string) *destination {
	for i := range n.Destinations {
		if n.Destinations[i].Name == name {
			return &n.Destinations[i]
		}
	}
	n.Destinations = append(n.Destinations, destination{Name: name})
	return &n.Destinations[len(n.Destinations)-1]
}

func (b *books) write(out, notes io.Writer, as format) error {
	switch as {
	case formatJSON:
		return writeJSON(out, b)
	case formatCSV:
		for _, d := range b.Discrepancies {
			fmt.Fprintln(notes, d)
		}
		return b.csv(out)
	}
	return b.table(out)
}

// count is a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
