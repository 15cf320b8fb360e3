package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ichwatch/daemon/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a daemon that remembers what it was told.
type fake struct {
	retried Retry
	parked  Park
	active  Activate
	err     error
}

func (f *fake) Status(context.Context) Status {
	return Status{Version: "1", PID: 7, Parts: map[string]string{"dicom": "ok"}, Started: time.Unix(1, 0).UTC()}
}

func (f *fake) Retry(_ context.Context, r Retry) (Changed, error) {
	f.retried = r
	return Changed{"pacs": 3}, f.err
}

func (f *fake) Park(_ context.Context, p Park) (Changed, error) {
	f.parked = p
	return Changed{"pacs": 1}, f.err
}

func (f *fake) ActivateModels(_ context.Context, a Activate) (ModelChange, error) {
	f.active = a
	return ModelChange{Active: []string{"a"}, Previous: []string{"b"}, Canary: "c", Warnings: []string{"w"}}, f.err
}

func (f *fake) RollBackModels(context.Context) (ModelChange, error) {
	return ModelChange{Active: []string{"b"}}, f.err
}

func (f *fake) Relearn(context.Context) error { return f.err }

// serve runs a server for a spool's directory until the test ends.
func serve(t *testing.T, dir string, d Daemon) {
	t.Helper()
	ln, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- (&Server{Daemon: d, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, socketName)); !os.IsNotExist(err) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
}

func TestCommandsReachTheDaemon(t *testing.T) {
	for name, dir := range map[string]string{
		"short": t.TempDir(),
		"long":  filepath.Join(t.TempDir(), strings.Repeat("d", 120)), // more than fits into an address
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			var d fake
			serve(t, dir, &d)
			info, err := os.Stat(filepath.Join(dir, socketName))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the socket: %v, %v", info.Mode(), err)
			}
			c := NewClient(dir)
			status, err := c.Status(t.Context())
			if diff := cmp.Diff(d.Status(t.Context()), status); diff != "" || err != nil {
				t.Error(diff, err)
			}
			retry := Retry{spool.LegSelection{Destination: "pacs", Study: "s-1", Legs: []int64{1, 2}, States: []spool.LegState{spool.LegParked}}}
			changed, err := c.Retry(t.Context(), retry)
			if diff := cmp.Diff(retry, d.retried); diff != "" || err != nil || changed["pacs"] != 3 {
				t.Error(diff, err, changed)
			}
			park := Park{spool.LegSelection{Study: "1.2"}, "why"}
			changed, err = c.Park(t.Context(), park)
			if diff := cmp.Diff(park, d.parked); diff != "" || err != nil || changed["pacs"] != 1 {
				t.Error(diff, err, changed)
			}
			activate := Activate{Models: []string{"/m"}, OperatingPoint: "p", Force: true}
			change, err := c.ActivateModels(t.Context(), activate)
			if diff := cmp.Diff(activate, d.active) + cmp.Diff(ModelChange{[]string{"a"}, []string{"b"}, "c", []string{"w"}}, change); diff != "" || err != nil {
				t.Error(diff, err)
			}
			if back, err := c.RollBackModels(t.Context()); err != nil || back.Active[0] != "b" {
				t.Error(back, err)
			}
			if err := c.Relearn(t.Context()); err != nil {
				t.Error(err)
			}
			d.err = spool.ErrClosed
			if changed, err := c.Retry(t.Context(), retry); err == nil || !strings.Contains(err.Error(), spool.ErrClosed.Error()) {
				t.Errorf("%v, %v; want what the daemon said", changed, err)
			}
		})
	}
}

// Half of a selection would select too much.
func TestRequestsThatAreNotUnderstoodAreRefused(t *testing.T) {
	dir := t.TempDir()
	var d fake
	serve(t, dir, &d)
	c := NewClient(dir)
	for _, body := range []string{`{"select": {"destinaton": "pacs"}}`, `{"select": {"legs": ["1"]}}`, `{`, ``, `[]`} {
		rq, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://ichwatch/v1/legs/retry", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		rsp, err := c.http.Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(rsp.Body)
		rsp.Body.Close()
		if err != nil || rsp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), `"error"`) {
			t.Errorf("%q: %s %s, %v", body, rsp.Status, text, err)
		}
	}
	if diff := cmp.Diff(Retry{}, d.retried); diff != "" {
		t.Errorf("something was done: %s", diff)
	}
}

// A daemon that was killed leaves its socket; the next one replaces it.
func TestNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	c := NewClient(dir)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, socketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false) // as a kill leaves it
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a socket without a daemon: %v", err)
	}
	serve(t, dir, &fake{})
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}
