// Package monitor tells the outside how the daemon is: /healthz and /readyz over HTTP for a load balancer or a
// monitoring system, and sd_notify(3) for systemd.
//
// Two questions are kept apart, as Kubernetes and systemd keep them apart. Alive: should this process be restarted?
// Ready: does it do its whole job at this moment? A broken model or an unreachable broker makes the daemon not ready,
// never not alive: restarting it would only interrupt the forwarding, which goes on without either (promise 3).
package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A Check looks at one part of the daemon. It returns nil when the part works, otherwise what is wrong with it in a
// sentence that a technician can act on. It must return soon and carry no identity: its words are served unprotected.
type Check struct {
	Name string
	// Vital marks a part without which the daemon must be restarted: it decides /healthz and the watchdog.
	Vital bool
	Look  func(ctx context.Context) error
}

// Monitor answers for a fixed list of checks.
type Monitor struct {
	Checks []Check
	Log    *slog.Logger
	// Timeout bounds one round of checks; 5 s when zero.
	Timeout time.Duration
}

// OK is what a part that works says.
const OK = "ok"

// Report is the body of /healthz and /readyz.
type Report struct {
	Status string            `json:"status"` // "ok" or "failing"
	Parts  map[string]string `json:"parts"`  // "ok" or what is wrong
}

// Look runs the checks side by side, the vital ones only if asked, and reports them.
func (m *Monitor) Look(ctx context.Context, vitalOnly bool) Report {
	timeout := m.Timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		report = Report{Status: "ok", Parts: map[string]string{}}
	)
	for _, c := range m.Checks {
		if vitalOnly && !c.Vital {
			continue
		}
		wg.Go(func() {
			err := c.Look(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				report.Status = "failing"
				report.Parts[c.Name] = err.Error()
				return
			}
			report.Parts[c.Name] = OK
		})
	}
	wg.Wait()
	return report
}

// Handler serves /healthz (vital parts) and /readyz (all parts): 200 when they work, 503 when one does not.
func (m *Monitor) Handler() http.Handler {
	mux := http.NewServeMux()
	serve := func(vitalOnly bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			report := m.Look(r.Context(), vitalOnly)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			if report.Status != "ok" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_ = json.NewEncoder(w).Encode(report) // the client went away: nobody to tell
		}
	}
	mux.HandleFunc("GET /healthz", serve(true))
	mux.HandleFunc("GET /readyz", serve(false))
	return mux
}

// Serve answers on ln until ctx ends.
func (m *Monitor) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           m.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(m.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("monitor on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Watchdog tells systemd that the vital parts work, at half the interval that the unit asks for (WatchdogSec=), until
// ctx ends. A failing vital part is logged and not reported as alive, so that systemd restarts the daemon. Without
// systemd or without WatchdogSec= it returns at once.
func (m *Monitor) Watchdog(ctx context.Context) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("systemd watchdog: %w", err)
	}
	if interval == 0 {
		return nil
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		report := m.Look(ctx, true)
		if report.Status != "ok" {
			m.Log.Error("a vital part fails; systemd will restart the daemon unless it recovers", "parts", report.Parts)
			continue
		}
		if _, err := daemon.SdNotify(false, daemon.SdNotifyWatchdog); err != nil {
			m.Log.Warn("systemd was not told that the daemon is alive", "error", err)
		}
	}
}

// Ready tells systemd that start-up is over, with a line for `systemctl status`.
func Ready(status string) error {
	_, err := daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS="+status)
	return err
}

// Stopping tells systemd that the daemon is draining.
func Stopping() error {
	_, err := daemon.SdNotify(false, daemon.SdNotifyStopping)
	return err
}
