package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// writeJSON writes one value, indented.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// clockTime is a time as a technician reads it, in the zone of this machine; "-" for none.
func clockTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func (b *books) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := []string{"STUDY", "RECEIVED", "N", "IN THE SPOOL"}
	for _, d := range b.Totals.Destinations {
		head = append(head, "CONFIRMED BY "+d.Name)
	}
	head = append(head, "ANALYSED", "OUTCOME", "ALERT", "ACKNOWLEDGED", "STUDY INSTANCE UID")
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, e := range b.Studies {
		line := []string{e.Study, clockTime(e.FirstReceived), strconv.Itoa(e.Received), e.spooled()}
		for _, d := range b.Totals.Destinations {
			line = append(line, e.destination(d.Name).cell())
		}
		line = append(line, e.analysed(), e.outcome(), e.alert(), e.acknowledged(), e.StudyInstanceUID)
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	t := b.Totals
	fmt.Fprintf(out, "\n%s, %s received = %d in the spool + %d removed after confirmation + %d lost\n",
		count(t.Studies, "study", "studies"), count(t.Received, "instance", "instances"), t.Durable, t.Removed, t.Missing)
	for _, d := range t.Destinations {
		fmt.Fprintf(out, "%s: %d = %d confirmed + %d sent and not committed + %d waiting + %d parked",
			d.Name, d.Confirmed+d.Sent+d.Waiting+d.Parked, d.Confirmed, d.Sent, d.Waiting, d.Parked)
		if d.Transcoded > 0 {
			fmt.Fprintf(out, "; %d of those confirmed were sent decompressed", d.Transcoded)
		}
		if d.Undecided > 0 {
			fmt.Fprintf(out, "; %d wait for the outcome of their study", d.Undecided)
		}
		fmt.Fprintln(out)
	}
	if t.Unrouted > 0 {
		fmt.Fprintf(out, "%s of any destination: kept, sent nowhere (destinations[].routes)\n", count(t.Unrouted, "instance meets no rule", "instances meet no rule"))
	}
	fmt.Fprintf(out, "analysis: %d = %d classified + %d not eligible + %d failed + %d waiting\n",
		t.Received, t.Classified, t.Ineligible, t.Failed, t.Unanalysed)
	if b.Verified > 0 {
		fmt.Fprintf(out, "read to the end and found to be what arrived: %s\n", count(b.Verified, "file", "files"))
	}
	for _, d := range b.Discrepancies {
		fmt.Fprintln(out, d)
	}
	if b.Balances {
		fmt.Fprintln(out, "the ledger balances")
	}
	return nil
}

// String names what does not balance.
func (d discrepancy) String() string {
	var about []string
	for _, part := range []struct{ name, value string }{
		{"study", d.Study}, {"instance", d.SOPInstanceUID}, {"file", d.File},
	} {
		if part.value != "" {
			about = append(about, part.name+" "+part.value)
		}
	}
	return "does not balance: " + strings.Join(about, ", ") + ": " + d.Wrong
}

func (n counts) spooled() string {
	parts := []string{strconv.Itoa(n.Durable)}
	if n.Removed > 0 {
		parts = append(parts, fmt.Sprintf("%d removed", n.Removed))
	}
	if n.Missing > 0 {
		parts = append(parts, fmt.Sprintf("%d LOST", n.Missing))
	}
	if n.Unrouted > 0 {
		parts = append(parts, fmt.Sprintf("%d GO NOWHERE", n.Unrouted))
	}
	return strings.Join(parts, ", ")
}

func (d destination) cell() string {
	parts := []string{strconv.Itoa(d.Confirmed)}
	if d.Undecided > 0 {
		parts = append(parts, fmt.Sprintf("%d undecided", d.Undecided))
	}
	if d.Undecided == 0 && d.Sent == 0 && d.Waiting == 0 && d.Parked == 0 && d.Confirmed > 0 {
		parts[0] += " at " + clockTime(d.LastConfirmed)
	}
	if d.Sent > 0 {
		parts = append(parts, fmt.Sprintf("%d sent", d.Sent))
	}
	if d.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", d.Waiting))
	}
	if d.Parked > 0 {
		parts = append(parts, fmt.Sprintf("%d PARKED", d.Parked))
	}
	return strings.Join(parts, ", ")
}

func (n counts) analysed() string {
	text := strconv.Itoa(n.Classified)
	for _, more := range []struct {
		n    int
		what string
	}{{n.Ineligible, "not eligible"}, {n.Failed, "FAILED"}, {n.Unanalysed, "waiting"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}

func (e entry) outcome() string {
	if e.Outcome == "" {
		return "open"
	}
	text := e.Outcome + " at " + clockTime(e.DecidedAt)
	if e.scored != nil {
		text += ", " + e.scored.words()
	}
	if e.Outcome != "POSITIVE" && e.Outcome != "NEGATIVE" && e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

func (e entry) alert() string {
	if len(e.Alerts) == 0 {
		return "-"
	}
	a := e.Alerts[len(e.Alerts)-1]
	text := fmt.Sprintf("%s %s, %s, %s", a.AlertID, a.Finding, a.words(), a.State)
	if a.Level > 0 && a.State == "escalated" {
		text += fmt.Sprintf(" to level %d", a.Level)
	}
	return text + ", raised " + clockTime(a.RaisedAt)
}

func (e entry) acknowledged() string {
	if len(e.Alerts) == 0 {
		return "-"
	}
	a := e.Alerts[len(e.Alerts)-1]
	if a.AcknowledgedAt.IsZero() {
		return "no"
	}
	return clockTime(a.AcknowledgedAt) + " by " + a.AcknowledgedBy
}

// csv writes a line for each study, with seven columns for each destination. Of
// several alerts of a study it is the last.
func (b *books) csv(out io.Writer) error {
	w := csv.NewWriter(out)
	head := []string{"study", "study_instance_uid", "first_received", "last_received", "received", "durable", "removed", "missing", "unrouted"}
	for _, d := range b.Totals.Destinations {
		head = append(head, d.Name+"_confirmed", d.Name+"_sent", d.Name+"_waiting", d.Name+"_parked", d.Name+"_undecided", d.Name+"_transcoded", d.Name+"_last_confirmed")
	}
	head = append(head, "classified", "ineligible", "failed", "unanalysed", "outcome", "reason", "decided_at",
		"alert_id", "alert_state", "alert_finding", "alert_raised_at", "alert_delivered_at", "acknowledged_at", "acknowledged_by",
		"score", "threshold", "operating_point")
	if err := w.Write(head); err != nil {
		return err
	}
	for _, e := range b.Studies {
		line := []string{e.Study, e.StudyInstanceUID, stamp(e.FirstReceived), stamp(e.LastReceived)}
		line = append(line, numbers(e.Received, e.Durable, e.Removed, e.Missing, e.Unrouted)...)
		for _, d := range b.Totals.Destinations {
			d := e.destination(d.Name)
			line = append(append(line, numbers(d.Confirmed, d.Sent, d.Waiting, d.Parked, d.Undecided, d.Transcoded)...), stamp(d.LastConfirmed))
		}
		line = append(line, numbers(e.Classified, e.Ineligible, e.Failed, e.Unanalysed)...)
		line = append(line, e.Outcome, e.Reason, stamp(e.DecidedAt))
		var a alertEntry
		if len(e.Alerts) > 0 {
			a = e.Alerts[len(e.Alerts)-1]
		}
		line = append(line, a.AlertID, string(a.State), a.Finding, stamp(a.RaisedAt), stamp(a.DeliveredAt), stamp(a.AcknowledgedAt), a.AcknowledgedBy)
		line = append(line, e.scored.columns()...)
		if err := w.Write(line); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// columns are empty where no model was asked.
func (s *scored) columns() []string {
	if s == nil {
		return []string{"", "", ""}
	}
	threshold := ""
	if s.Threshold > 0 {
		threshold = strconv.FormatFloat(s.Threshold, 'f', -1, 64)
	}
	return []string{strconv.FormatFloat(s.Score, 'f', -1, 64), threshold, s.OperatingPoint}
}

// stamp is a time for programs; "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func numbers(all ...int) []string {
	var out []string
	for _, n := range all {
		out = append(out, strconv.Itoa(n))
	}
	return out
}
