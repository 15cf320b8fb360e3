package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
)

func queueListCommand() *cobra.Command {
	var at place
	var sel selection
	var as format
	var each bool
	formats := []format{formatTable, formatCSV, formatJSON}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what waits for the destinations, and why",
		Long: `Lists the legs that are pending, sent or parked: by destination, study, state and last
reason together, or each by itself. It works beside the daemon and without it, and
changes nothing. CSV and JSON list each leg.`,
		Example: `  sudo ichwatch queue list
  sudo ichwatch queue list --destination pacs --state parked --each
  sudo ichwatch queue list --format json | jq -r '.[] | .sop_instance_uid'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(as.check(cmd, formats...), sel.inStates(cmd)); err != nil {
				return err
			}
			r, err := at.reader(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			legs, err := r.Legs(cmd.Context(), sel.LegSelection)
			if err := errors.Join(err, r.Close()); err != nil {
				return err
			}
			if err := writeLegs(cmd.OutOrStdout(), as, each, legs); err != nil || !at.nowhere() {
				return err
			}
			// Beside the list, not in what a program reads.
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), "ichwatch: note: "+nowhereWords)
			return err
		},
	}
	at.flags(cmd)
	sel.flags(cmd)
	cmd.Flags().StringSliceVar(&sel.states, "state", []string{string(spool.LegPending), string(spool.LegSent), string(spool.LegParked)}, "in these states only: "+words(legStates))
	cmd.Flags().BoolVar(&each, "each", false, "a line for each leg")
	as.flag(cmd, formats...)
	return cmd
}

// legLine is a leg as it is printed.
type legLine struct {
	Leg              int64          `json:"leg"`
	Destination      string         `json:"destination"`
	State            spool.LegState `json:"state"`
	Held             bool           `json:"held"` // parked by a person
	Study            string         `json:"study"`
	StudyInstanceUID string         `json:"study_instance_uid"`
	SOPInstanceUID   string         `json:"sop_instance_uid"`
	Received         time.Time      `json:"received"`
	Urgent           bool           `json:"urgent"`
	Attempts         int            `json:"attempts"`
	NextAttempt      time.Time      `json:"next_attempt,omitzero"` // absent: as soon as its turn comes
	LastStatus       string         `json:"last_status,omitempty"`
	LastReason       string         `json:"last_reason,omitempty"`
	Gone             bool           `json:"gone"` // its file is not in the spool
	Done             time.Time      `json:"done,omitzero"`
}

func newLegLine(l spool.LegRecord) legLine {
	line := legLine{
		Leg: l.ID, Destination: l.Destination, State: l.State, Held: l.Held,
		Study: l.Instance.Study, StudyInstanceUID: string(l.Instance.StudyInstanceUID), SOPInstanceUID: string(l.Instance.SOPInstanceUID),
		Received: l.Instance.ReceivedAt, Urgent: l.Urgent, Attempts: l.Attempts,
		LastReason: oneLine(l.LastReason), Gone: l.Gone, Done: l.DoneAt,
	}
	if l.State == spool.LegPending || l.State == spool.LegSent {
		line.NextAttempt = l.NextAttempt
	}
	if l.LastStatus != 0 || l.State == spool.LegDone {
		line.LastStatus = dimse.Status(l.LastStatus).Code()
	}
	return line
}

// oneLine keeps what a peer or an operating system said to one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func writeLegs(out io.Writer, as format, each bool, legs []spool.LegRecord) error {
	lines := make([]legLine, 0, len(legs))
	for _, l := range legs {
		lines = append(lines, newLegLine(l))
	}
	switch {
	case as == formatJSON:
		return writeJSON(out, lines)
	case as == formatCSV:
		return legsCSV(out, lines)
	case each:
		return legsTable(out, lines)
	}
	return groupsTable(out, lines)
}

func (l legLine) state() string {
	state := string(l.State)
	if l.Held {
		state += " by hand"
	}
	if l.Gone {
		state += ", FILE GONE"
	}
	return state
}

func (l legLine) next() string {
	switch {
	case l.State != spool.LegPending && l.State != spool.LegSent:
		return "-"
	case l.NextAttempt.IsZero():
		return "in its turn"
	}
	return clockTime(l.NextAttempt)
}

// reason is what was last in the way.
func (l legLine) reason() string {
	if l.LastStatus != "" && !strings.Contains(l.LastReason, l.LastStatus) {
		return strings.TrimSpace(l.LastStatus + " " + l.LastReason)
	}
	return cmp.Or(l.LastReason, "-")
}

func legsTable(out io.Writer, lines []legLine) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LEG\tDESTINATION\tSTATE\tSTUDY\tRECEIVED\tATTEMPTS\tNEXT TRY\tSOP INSTANCE UID\tLAST REASON")
	for _, l := range lines {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n",
			l.Leg, l.Destination, l.state(), l.Study, clockTime(l.Received), l.Attempts, l.next(), l.SOPInstanceUID, l.reason())
	}
	return w.Flush()
}

// legGroup is legs that differ in nothing that a person would do about them.
type legGroup struct {
	destination, state, study, reason string
}

func groupsTable(out io.Writer, lines []legLine) error {
	var order []legGroup
	groups := make(map[legGroup][]legLine)
	totals := make(map[string]int)
	for _, l := range lines {
		g := legGroup{l.Destination, l.state(), l.Study, l.reason()}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], l)
		totals[l.Destination]++
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DESTINATION\tSTUDY\tSTATE\tLEGS\tOLDEST\tATTEMPTS\tNEXT TRY\tLAST REASON")
	for _, g := range order {
		legs := groups[g]
		oldest := slices.MinFunc(legs, func(a, b legLine) int { return a.Received.Compare(b.Received) })
		first := slices.MinFunc(legs, func(a, b legLine) int { return a.NextAttempt.Compare(b.NextAttempt) })
		most := slices.MaxFunc(legs, func(a, b legLine) int { return cmp.Compare(a.Attempts, b.Attempts) })
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\n",
			g.destination, g.study, g.state, len(legs), clockTime(oldest.Received), most.Attempts, first.next(), g.reason)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%s\n", describeCounts(totals))
	return err
}

func legsCSV(out io.Writer, lines []legLine) error {
	w := csv.NewWriter(out)
	records := [][]string{{
		"leg", "destination", "state", "held", "study", "study_instance_uid", "sop_instance_uid", "received",
		"urgent", "attempts", "next_attempt", "last_status", "last_reason", "gone", "done",
	}}
	for _, l := range lines {
		records = append(records, []string{
			strconv.FormatInt(l.Leg, 10), l.Destination, string(l.State), strconv.FormatBool(l.Held), l.Study, l.StudyInstanceUID, l.SOPInstanceUID,
			stamp(l.Received), strconv.FormatBool(l.Urgent), strconv.Itoa(l.Attempts), stamp(l.NextAttempt), l.LastStatus, l.LastReason,
			strconv.FormatBool(l.Gone), stamp(l.Done),
		})
	}
	return w.WriteAll(records)
}
