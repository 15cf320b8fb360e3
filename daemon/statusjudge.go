package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	deliveryTime = time.Minute // in which an alert has to reach the broker
	slowFlushMS  = 50
)

// judge finds what is wrong, the worst first.
func (o *outlook) judge(warning, critical time.Duration) {
	o.judgeDaemon()
	o.judgeDisk()
	for _, q := range o.Queues {
		switch waits := o.since(q.Pending.Oldest); {
		case waits > critical:
			o.find(levelCritical, "%s: the oldest of %d instances waits for %s", q.Destination, q.Pending.Waiting, span(waits))
		case waits > warning:
			o.find(levelWarning, "%s: the oldest of %d instances waits for %s", q.Destination, q.Pending.Waiting, span(waits))
		}
		if n := q.Parked.Waiting; n > 0 {
			o.find(levelWarning, "%s: %s parked, %d of them by hand (ichwatch queue list)", q.Destination, count(n, "instance is", "instances are"), q.Held)
		}
	}
	if o.Unrouted > 0 {
		o.find(levelWarning, "%s, wholly or in part, go nowhere: no rule of any destination is met (ichwatch ledger; destinations[].routes)", count(o.Unrouted, "study", "studies"))
	}
	if o.Missing > 0 {
		o.find(levelCritical, "%s lost (ichwatch ledger)", count(o.Missing, "acknowledged instance is", "acknowledged instances are"))
	}
	if waits := o.since(o.Slices.Oldest); waits > warning {
		o.find(levelWarning, "the oldest of %d slices has waited for its analysis for %s", o.Slices.Waiting, span(waits))
	}
	for _, a := range o.Alerts {
		switch {
		case a.DeliveredAt.IsZero() && o.since(a.RaisedAt) > deliveryTime:
			o.find(levelCritical, "alert %s has not reached the broker for %s", a.AlertID, span(o.since(a.RaisedAt)))
		case a.Level > 0:
			o.find(levelWarning, "alert %s has escalated to level %d and nobody has acknowledged it", a.AlertID, a.Level)
		}
	}
	slices.SortStableFunc(o.Problems, func(a, b problem) int { return cmp.Compare(b.Level, a.Level) })
	if len(o.Problems) > 0 {
		o.State = o.Problems[0].Level
	}
}

func (o *outlook) find(l level, text string, args ...any) {
	o.Problems = append(o.Problems, problem{l, fmt.Sprintf(text, args...)})
}

// since is how long ago a time was; 0 for none.
func (o *outlook) since(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(0, o.At.Sub(t))
}

// worst is what a failing check of the daemon means. Checks of destinations say
// what is in the ledger as well.
func worst(part string) level {
	if part == "spool" || part == "model" || part == "dicom" || strings.HasPrefix(part, "dicom ") {
		return levelCritical
	}
	return levelWarning
}

func (o *outlook) judgeDaemon() {
	switch {
	case !o.Running:
		o.find(levelCritical, "the daemon does not run")
		return
	case o.Daemon == nil:
		o.find(levelCritical, "the daemon holds the spool and does not answer: it is starting, stopping or hung")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(o.Daemon.Parts)) {
		is := o.Daemon.Parts[name]
		if destination := strings.HasPrefix(name, "destination "); is != "ok" && !destination {
			o.find(worst(name), "%s: %s", name, oneLine(is))
		}
	}
	for _, d := range o.Daemon.Destinations {
		if d.Failing {
			o.find(levelWarning, "%s takes nothing since %s: %s", d.Name, clockTime(d.Since), oneLine(d.Reason))
		}
	}
	if n := o.Daemon.Recovery.Unread; n > 0 {
		o.find(levelWarning, "%s could not be read at the start; look at the disk", count(n, "file", "files"))
	}
	if ms := o.Daemon.Recovery.FlushMS; ms > slowFlushMS {
		o.find(levelWarning, "the disk took %.0f ms to make 4 KiB durable; the scanner waits for it with every object", ms)
	}
}

// judgeDisk looks for itself where no daemon does.
func (o *outlook) judgeDisk() {
	d := o.Disk
	switch {
	case o.Daemon != nil:
	case d.Reserve > 0 && d.Free < d.Reserve:
		o.find(levelCritical, "%s are free, less than spool.reserve: objects would be refused", size(d.Free))
	case d.HighWatermark > 0 && d.InUse >= d.HighWatermark:
		o.find(levelCritical, "%.1f %% of the disk is in use: associations would be refused", 100*d.InUse)
	}
}

// span is a duration without what nobody needs.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

// size is bytes in the unit that suits them.
func size[N int64 | uint64](bytes N) string {
	value, units := float64(bytes), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for value >= 1024 && len(units) > 1 {
		value, units = value/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%.0f B", value)
	}
	return fmt.Sprintf("%.1f %s", value, units[0])
}
