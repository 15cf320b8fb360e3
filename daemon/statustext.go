package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"ichwatch/daemon/control"
	"ichwatch/infer/onnx"
)

func (o *outlook) write(out io.Writer, as format) error {
	if as == formatJSON {
		return writeJSON(out, o)
	}
	var problems []string
	for _, p := range o.Problems {
		problems = append(problems, p.Text)
	}
	headline := fmt.Sprintf("ichwatch %v", o.State)
	if len(problems) > 0 {
		headline += ": " + strings.Join(problems, "; ")
	}
	fmt.Fprintf(out, "%s\n\n", headline)

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, text string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(text, args...)) }
	line("daemon", "%s", o.daemon())
	line("spool", "%s, %s; %s in quarantine", count(o.Stored, "instance", "instances"), size(o.Bytes), count(o.Quarantined, "file", "files"))
	line("disk", "%s", o.disk())
	for _, q := range o.Queues {
		line("to "+q.Destination, "%s", o.queue(q))
	}
	if o.Nowhere {
		line("destinations", nowhereWords)
	}
	if o.Undecided > 0 {
		line("by outcome", "%s for the outcome of a study", count(o.Undecided, "way waits", "ways wait"))
	}
	line("analysis", "%s wait%s; %s", count(o.Slices.Waiting, "slice", "slices"), o.oldest(o.Slices), o.model())
	for _, p := range o.providers() {
		line("", "%s", p)
	}
	line("broker", "%s; %s wait%s", o.broker(), count(o.Messages.Waiting, "message", "messages"), o.oldest(o.Messages))
	line("open alerts", "%d; suspected findings, not for diagnosis", len(o.Alerts))
	for _, a := range o.Alerts {
		line("", "%s study %s, %s, %s, raised %s, %s", a.AlertID, a.Study, a.Finding, a.words(), clockTime(a.RaisedAt), a.reached())
	}
	return w.Flush()
}

func (o *outlook) daemon() string {
	switch {
	case o.Daemon != nil:
		d := o.Daemon
		return fmt.Sprintf("runs since %s; version %s, process %d, start %d, recovered in %.0f ms", clockTime(d.Started), d.Version, d.PID, d.Boot, d.Recovery.Milliseconds)
	case o.Running:
		return "does not answer"
	}
	return "does not run"
}

func (o *outlook) disk() string {
	d := o.Disk
	text := fmt.Sprintf("%s free of %s, %.1f %% in use", size(d.Free), size(d.Total), 100*d.InUse)
	if d.HighWatermark > 0 {
		text += fmt.Sprintf("; refuses associations at %.0f %%, objects below %s", 100*d.HighWatermark, size(d.Reserve))
	}
	if o.Daemon != nil && o.Daemon.Recovery.FlushMS > 0 {
		text += fmt.Sprintf("; flush %.1f ms", o.Daemon.Recovery.FlushMS)
	}
	return text
}

func (o *outlook) queue(q queue) string {
	text := fmt.Sprintf("%d pending%s", q.Pending.Waiting, o.oldest(q.Pending))
	if q.Sent > 0 {
		text += fmt.Sprintf(", %d of them sent and not committed", q.Sent)
	}
	text += fmt.Sprintf("; %d parked", q.Parked.Waiting)
	if q.Held > 0 {
		text += fmt.Sprintf(", %d by hand", q.Held)
	}
	text += "; last confirmed " + clockTime(q.LastDone)
	if d := o.destination(q.Destination); d != nil && d.Failing {
		text += fmt.Sprintf("; takes nothing since %s, next try %s", clockTime(d.Since), clockTime(d.NextAttempt))
	}
	return text
}

// destination is what the daemon says of one; nil where it does not.
func (o *outlook) destination(name string) *control.Destination {
	if o.Daemon == nil {
		return nil
	}
	for i, d := range o.Daemon.Destinations {
		if d.Name == name {
			return &o.Daemon.Destinations[i]
		}
	}
	return nil
}

// oldest says since when something waits.
func (o *outlook) oldest(b backlog) string {
	if b.Oldest.IsZero() {
		return ""
	}
	return fmt.Sprintf(", the oldest since %s (%s)", clockTime(b.Oldest), span(o.since(b.Oldest)))
}

func (o *outlook) model() string {
	switch {
	case o.Daemon == nil:
		return "no daemon says which model"
	case o.Daemon.Model.Fault != "":
		return "NO MODEL IN SERVICE"
	case len(o.Daemon.Model.Names) == 0:
		return "no model is configured"
	}
	return "model " + strings.Join(o.Daemon.Model.Names, " and ") + " on " + o.Daemon.Model.Provider
}

// providers says which of them answers, and why not a better one, where there is more than one.
func (o *outlook) providers() (lines []string) {
	if o.Daemon == nil || !slices.ContainsFunc(o.Daemon.Model.Providers, func(p control.Provider) bool { return p.Name != onnx.CPU }) {
		return nil
	}
	several := len(o.Daemon.Model.Names) > 1
	for _, p := range o.Daemon.Model.Providers {
		text := fmt.Sprintf("%s: %s since %s", p.Name, p.State, clockTime(p.Since))
		if several {
			text = p.Model + " on " + text
		}
		if p.Reason != "" {
			text += ": " + oneLine(p.Reason)
		}
		lines = append(lines, text)
	}
	return lines
}

func (o *outlook) broker() string {
	switch {
	case o.Daemon == nil:
		return "no daemon says whether it is connected"
	}
	b := o.Daemon.Broker
	text := b.Address + " NOT CONNECTED"
	if b.Connected {
		text = b.Address + " connected"
	}
	if b.Nodes > 1 {
		text += fmt.Sprintf(", one of %d addresses", b.Nodes)
	}
	return text
}

func (a openAlert) reached() string {
	if a.DeliveredAt.IsZero() {
		return "NOT YET AT THE BROKER"
	}
	text := "delivered " + clockTime(a.DeliveredAt)
	if a.Level > 0 {
		text += fmt.Sprintf(", escalated to level %d", a.Level)
	}
	return text
}
