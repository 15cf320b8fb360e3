package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ichwatch/configs"
	"ichwatch/daemon/control"
	"ichwatch/daemon/spool"
)

// level is how bad it is, and the exit status: those of Nagios's plugins.
type level int

const (
	levelOK level = iota
	levelWarning
	levelCritical
	levelUnknown
)

// String is the level's name.
func (l level) String() string { return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[l] }

// MarshalText makes it so in JSON.
func (l level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// inquiry is a call of ichwatch status.
type inquiry struct {
	place
	as                format
	warning, critical time.Duration
	watch             bool
	interval          time.Duration
}

func statusCommand() *cobra.Command {
	var q inquiry
	formats := []format{"text", formatJSON}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell at a glance how the daemon is and what waits",
		Long: `Tells whether the daemon runs, what waits for each destination and since when,
what is parked, how the disk, the model and the broker are, and which alerts nobody
has acknowledged. It asks the daemon and reads the ledger; with the daemon stopped
it tells what the ledger knows. It changes nothing. As root or the daemon's user.

The first line is for monitoring, and so is the exit status (Nagios, Icinga, Zabbix):

  0 OK        nothing to do
  1 WARNING   a destination takes nothing or something is parked; the oldest
              instance waits longer than --warning; the broker is away; nobody has
              acknowledged an alert in time; the disk is slow; a certificate ends
  2 CRITICAL  the daemon does not run or answer, or takes no associations; the disk
              is full, read-only or fails; a model is configured and not in service;
              an instance is lost; the oldest waits longer than --critical; an alert
              has not reached the broker for a minute
  3 UNKNOWN   nothing can be said: called wrongly, no right to look, no spool

What it says of alerts is a suspected finding, not for diagnosis.`,
		Example: `  sudo ichwatch status
  sudo ichwatch status --watch
  sudo ichwatch status --format json | jq '.queues'
  sudo ichwatch status --warning 10m --critical 1h     for a monitoring system`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{usageIsUnknown: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.as.check(cmd, formats...); err != nil {
				return err
			}
			if q.warning <= 0 || q.critical < q.warning {
				return callError(cmd, fmt.Errorf("--warning %v, --critical %v: wanted is more than 0, and the second not less than the first", q.warning, q.critical))
			}
			if q.watch && q.interval < 100*time.Millisecond {
				return callError(cmd, fmt.Errorf("--interval %v: wanted is 100ms or more", q.interval))
			}
			if q.watch {
				return q.keepWatching(cmd)
			}
			o, err := q.look(cmd)
			if err != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "ichwatch %v: %s\n", levelUnknown, oneLine(err.Error()))
				return exitError{err, int(levelUnknown)}
			}
			if err := o.write(cmd.OutOrStdout(), q.as); err != nil || o.State == levelOK {
				return err
			}
			return exitError{code: int(o.State)}
		},
	}
	q.place.flags(cmd)
	q.as.flag(cmd, formats...)
	f := cmd.Flags()
	f.DurationVarP(&q.warning, "warning", "w", 30*time.Minute, "WARNING where the oldest instance waits longer for a destination")
	f.DurationVar(&q.critical, "critical", 4*time.Hour, "CRITICAL likewise")
	f.BoolVar(&q.watch, "watch", false, "again and again, until interrupted; the exit status is then 0")
	f.DurationVar(&q.interval, "interval", 2*time.Second, "of --watch")
	return cmd
}

func (q *inquiry) keepWatching(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	clear := ""
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		clear = "\x1b[H\x1b[2J"
	}
	tick := time.NewTicker(q.interval)
	defer tick.Stop()
	for {
		o, err := q.look(cmd)
		if cmd.Context().Err() != nil {
			return nil
		}
		if _, err := io.WriteString(out, clear); err != nil {
			return err
		}
		if err != nil { // it may come back
			fmt.Fprintf(out, "ichwatch %v: %s\n", levelUnknown, oneLine(err.Error()))
		} else if err := o.write(out, q.as); err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

// outlook is what status tells; the form of --format json.
type outlook struct {
	State       level           `json:"state"`
	Problems    []problem       `json:"problems"`
	At          time.Time       `json:"at"`
	Running     bool            `json:"running"`
	Daemon      *control.Status `json:"daemon,omitempty"` // absent where none answers
	Disk        disk            `json:"disk"`
	Stored      int             `json:"instances"`
	Bytes       int64           `json:"instance_bytes"`
	Missing     int             `json:"missing"`
	Quarantined int             `json:"quarantined"` // files
	Undecided   int             `json:"undecided"`   // ways that depend on an outcome to come
	Unrouted    int             `json:"unrouted"`    // studies with instances that meet no rule of any destination
	Queues      []queue         `json:"queues"`
	Nowhere     bool            `json:"no_destinations,omitempty"` // no destination is configured: studies go nowhere
	Slices      backlog         `json:"slices"`                    // to be analysed
	Messages    backlog         `json:"messages"`                  // for the broker
	Alerts      []openAlert     `json:"open_alerts"`
}

type problem struct {
	Level level  `json:"level"`
	Text  string `json:"text"`
}

type disk struct {
	Total         uint64  `json:"total_bytes"`
	Free          uint64  `json:"free_bytes"`
	InUse         float64 `json:"in_use"`                   // 0..1
	HighWatermark float64 `json:"high_watermark,omitempty"` // of the configuration, likewise
	Reserve       uint64  `json:"reserve_bytes,omitempty"`
}

type backlog struct {
	Waiting int       `json:"waiting"`
	Oldest  time.Time `json:"oldest,omitzero"`
}

type queue struct {
	Destination string    `json:"destination"`
	Pending     backlog   `json:"pending"`
	Sent        int       `json:"sent"` // of the pending ones: the destination has not committed itself yet
	Parked      backlog   `json:"parked"`
	Held        int       `json:"held"` // of the parked ones, by a person
	LastDone    time.Time `json:"last_done,omitzero"`
}

type openAlert struct {
	AlertID string `json:"alert_id"`
	Study   string `json:"study"`
	State   string `json:"state"`
	Level   int    `json:"level"`
	Finding string `json:"finding"` // suspected
	scored
	RaisedAt    time.Time `json:"raised_at"`
	DeliveredAt time.Time `json:"delivered_at,omitzero"`
}

// answerTime is how long the daemon may take to answer; its own checks take up to five seconds.
const answerTime = 8 * time.Second

// look asks the daemon and reads the ledger.
func (q *inquiry) look(cmd *cobra.Command) (*outlook, error) {
	ctx := cmd.Context()
	r, err := q.reader(ctx, cmd)
	if err != nil {
		return nil, err
	}
	defer r.Close() // it was read only
	o := &outlook{At: time.Now().UTC(), Problems: []problem{}, Queues: []queue{}, Alerts: []openAlert{}}
	if err := o.read(ctx, r, q.cfg); err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	status, err := control.NewClient(q.dir).Status(asking)
	switch {
	case err == nil:
		o.Running, o.Daemon = true, &status
	case errors.Is(err, os.ErrPermission):
		return nil, err
	default:
		if o.Running, err = r.InUse(); err != nil {
			return nil, err
		}
	}
	o.Nowhere = q.nowhere() || o.Daemon != nil && len(o.Daemon.Destinations) == 0
	o.judge(q.warning, q.critical)
	return o, nil
}

// read takes what the ledger and the disk say.
func (o *outlook) read(ctx context.Context, r *spool.Reader, cfg *configs.Config) error {
	view, err := r.Overview(ctx)
	if err != nil {
		return err
	}
	o.Undecided, o.Unrouted = view.Undecided, view.Unrouted
	o.Stored, o.Bytes, o.Missing = view.Stored, view.Bytes, view.Missing
	o.Slices, o.Messages = backlog(view.Slices), backlog(view.Messages)
	for _, v := range view.Queues {
		o.Queues = append(o.Queues, queue{v.Destination, backlog(v.Pending), v.Sent, backlog(v.Parked), v.Held, v.LastDone})
	}
	for _, a := range view.Alerts {
		o.Alerts = append(o.Alerts, openAlert{
			a.AlertID, a.Study, string(a.State), a.Level, a.Last.Finding, scoredOf(a.Last), a.RaisedAt, a.Delivered,
		})
	}
	if o.Quarantined, err = r.Quarantined(); err != nil {
		return err
	}
	room, err := r.Disk()
	if err != nil {
		return err
	}
	if cfg != nil {
		room = room.Within(uint64(cfg.Spool.Quota), uint64(view.Bytes))
	}
	o.Disk = disk{Total: room.Total, Free: room.Free, InUse: room.InUse()}
	if cfg != nil {
		o.Disk.HighWatermark, o.Disk.Reserve = float64(cfg.Spool.HighWatermark), uint64(cfg.Spool.Reserve)
	}
	return nil
}
