package app

import (
	"cmp"
	"context"
	"os"
	"time"

	"ichwatch/daemon/control"
	"ichwatch/daemon/spool"
)

var _ control.Daemon = (*App)(nil)

// openControl opens the socket for the commands of this machine. Without it the
// daemon does its work all the same.
func (a *App) openControl() {
	ln, err := control.Listen(a.cfg.Spool.Dir)
	if err != nil {
		a.log.Error("ichwatch status and ichwatch queue cannot speak with the daemon", "err", err)
		return
	}
	a.controlLn = ln
}

func (a *App) control(ctx context.Context) error {
	return (&control.Server{Daemon: a, Log: a.log}).Serve(ctx, a.controlLn)
}

// Status implements control.Daemon.
func (a *App) Status(ctx context.Context) control.Status {
	r, broker := a.spool.Recovery(), a.mqtt.Status()
	s := control.Status{
		Version: a.version, PID: os.Getpid(), Boot: a.spool.Boot(), Started: a.started,
		Parts:  a.monitor.Look(ctx, false).Parts,
		Model:  a.modelStatus(),
		Broker: control.Broker{Address: broker.Broker, Nodes: len(a.cfg.Alerts.MQTT.Brokers()), Connected: broker.Connected, Since: broker.Since},
		Recovery: control.Recovery{
			Instances: r.Instances, Adopted: r.Adopted, Missing: r.Missing, Unread: r.Unread,
			Quarantined: r.Quarantined + r.Partial, LedgerRebuilt: r.LedgerRebuilt,
			Milliseconds: milliseconds(r.Elapsed), FlushMS: milliseconds(r.Flush),
		},
	}
	for i, f := range a.forward {
		is := f.Status()
		s.Destinations = append(s.Destinations, control.Destination{
			Name: f.Destination, Address: a.cfg.Destinations[i].Address,
			Failing: is.Failing, Since: is.Since, Reason: is.Reason, NextAttempt: is.NextAttempt, LastDone: is.LastDone,
		})
	}
	return s
}

// milliseconds with a microsecond's precision.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Retry implements control.Daemon.
func (a *App) Retry(ctx context.Context, r control.Retry) (control.Changed, error) {
	a.wake(r.Select) // before it, lest anything of it goes over an association of before
	changed, err := a.spool.RetrySelected(ctx, r.Select)
	if err != nil {
		return nil, err
	}
	a.log.Info("a person wants legs tried again", "legs", changed)
	a.wake(r.Select)
	return changed, nil
}

// Park implements control.Daemon.
func (a *App) Park(ctx context.Context, p control.Park) (control.Changed, error) {
	changed, err := a.spool.ParkSelected(ctx, p.Select, cmp.Or(p.Reason, "parked by hand"))
	if err != nil {
		return nil, err
	}
	a.log.Warn("a person has parked legs; they wait until that person says otherwise", "legs", changed)
	a.wake(p.Select)
	return changed, nil
}

// wake lets the forwarders that a selection concerns look anew.
func (a *App) wake(sel spool.LegSelection) {
	for _, f := range a.forward {
		if sel.Destination == "" || sel.Destination == f.Destination {
			f.TryNow()
		}
	}
}
