package monitor_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ichwatch/daemon/monitor"
)

func check(name string, vital bool, err error) monitor.Check {
	return monitor.Check{Name: name, Vital: vital, Look: func(context.Context) error { return err }}
}

func TestHealthIsNotReadiness(t *testing.T) {
	broken := errors.New("the broker does not answer")
	for _, tc := range []struct {
		name          string
		checks        []monitor.Check
		health, ready int
	}{
		{"all well", []monitor.Check{check("dicom", true, nil), check("broker", false, nil)}, 200, 200},
		{"broker away", []monitor.Check{check("dicom", true, nil), check("broker", false, broken)}, 200, 503},
		{"listener dead", []monitor.Check{check("dicom", true, broken), check("broker", false, nil)}, 503, 503},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &monitor.Monitor{Checks: tc.checks, Log: slog.New(slog.DiscardHandler)}
			srv := httptest.NewServer(m.Handler())
			defer srv.Close()
			for path, want := range map[string]int{"/healthz": tc.health, "/readyz": tc.ready} {
				resp, err := http.Get(srv.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				var report monitor.Report
				if err := json.NewDecoder(resp.Body).Decode(&report); err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("%s: %d %v, want %d", path, resp.StatusCode, report, want)
				}
			}
		})
	}
}

// A check that hangs is cut off by the round's bound and does not hide the others.
func TestHangingCheckIsBounded(t *testing.T) {
	m := &monitor.Monitor{Timeout: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Checks: []monitor.Check{
		{Name: "hangs", Look: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		check("fine", false, nil),
	}}
	report := m.Look(t.Context(), false)
	if report.Status != "failing" || report.Parts["fine"] != "ok" || !strings.Contains(report.Parts["hangs"], "deadline") {
		t.Errorf("report: %+v", report)
	}
}

// systemd listens on $NOTIFY_SOCKET for datagrams (sd_notify(3)); so does this stand-in.
func notifySocket(t *testing.T) (receive func(within time.Duration) string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func(within time.Duration) string {
		buf := make([]byte, 256)
		if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			return ""
		}
		return string(buf[:n])
	}
}

func TestReadyIsTold(t *testing.T) {
	receive := notifySocket(t)
	if err := monitor.Ready("listening"); err != nil {
		t.Fatal(err)
	}
	if got := receive(5 * time.Second); got != "READY=1\nSTATUS=listening" {
		t.Errorf("systemd was told %q", got)
	}
}

func TestWatchdogIsFedOnlyWhileVitalPartsWork(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		fed  bool
	}{{"works", nil, true}, {"broken", errors.New("no answer to C-ECHO"), false}} {
		t.Run(tc.name, func(t *testing.T) {
			receive := notifySocket(t)
			t.Setenv("WATCHDOG_USEC", "20000")
			t.Setenv("WATCHDOG_PID", "")
			looked := make(chan struct{}, 64)
			m := &monitor.Monitor{Log: slog.New(slog.DiscardHandler), Checks: []monitor.Check{
				{Name: "dicom", Vital: true, Look: func(context.Context) error { looked <- struct{}{}; return tc.err }},
			}}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Watchdog(ctx) }()
			for range 3 { // when the third round begins, two have ended, each with or without a message
				<-looked
			}
			got := receive(50 * time.Millisecond)
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if fed := got == "WATCHDOG=1"; fed != tc.fed {
				t.Errorf("fed %v (%q), want %v", fed, got, tc.fed)
			}
		})
	}
}
