package app_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"ichwatch/alerts"
	"ichwatch/daemon/control"
	"ichwatch/daemon/phantom"
)

// findings counts the findings in a ledger by state and models.
func findings(t *testing.T, spoolDir string) map[string]int {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(spoolDir, "ledger.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT state, coalesce(models, ''), count(*) FROM findings GROUP BY 1, 2`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var state, models string
		var n int
		if err := rows.Scan(&state, &models, &n); err != nil {
			t.Fatal(err)
		}
		counts[state+" "+models] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return counts
}

// TestPromise4_ModelsExchangedWhileTheScannerSends exchanges the model again and again while storescu pushes a study.
// In the end each slice has one finding, by the model in service, and the study is decided by it alone.
func TestPromise4_ModelsExchangedWhileTheScannerSends(t *testing.T) {
	cfg, printed, _ := wholeLine(t)
	first, second := cfg.Triage.Models[0], secondModel(t)
	cfg.Triage.Quiet = 3 * time.Second
	d := start(t, cfg)
	files := writePhantom(t, phantom.Subdural, phantom.SetOptions{Seed: 3, Plain: true, Rows: 256, Columns: 256, Slices: 120, SliceThickness: 1.2})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		d.scan(t, files...)
	}()
	changes := 0
	for done := false; !done || changes < 3 || changes%2 == 0; changes++ { // the last is the second
		next := []string{second, first}[changes%2]
		change, err := d.ActivateModels(t.Context(), control.Activate{Models: []string{next}})
		if err != nil {
			t.Fatal(err)
		}
		if len(change.Active) != 1 || len(change.Previous) != 1 || change.Active[0] == change.Previous[0] {
			t.Errorf("%+v", change)
		}
		select {
		case <-sent:
			done = true
		default:
		}
	}
	eventually(t, "the outcome arrives", func() bool { return len(messages(printed, "ichwatch/v1/north/ct1/outcome")) > 0 })
	var outcome alerts.OutcomeMessage
	if err := json.Unmarshal(messages(printed, "ichwatch/v1/north/ct1/outcome")[0], &outcome); err != nil {
		t.Fatal(err)
	}
	if outcome.Outcome != alerts.Positive || outcome.Counts.Classified+outcome.Counts.Ineligible != len(files) || outcome.Counts.Failed != 0 ||
		len(outcome.Models) != 1 || outcome.Models[0].Name != "second" {
		t.Errorf("outcome %+v", outcome)
	}
	total := 0
	for what, n := range findings(t, cfg.Spool.Dir) {
		total += n
		if strings.HasPrefix(what, "pending") || strings.HasPrefix(what, "failed") || strings.HasPrefix(what, "classified") && !strings.Contains(what, `"second"`) {
			t.Errorf("%d findings %s", n, what)
		}
	}
	if total != len(files) {
		t.Errorf("%d findings for %d slices", total, len(files))
	}
	t.Logf("%d changes of models while %d slices were sent; outcome %v", changes, len(files), outcome.Counts)

	// What was activated survives a restart, and the way back too.
	d.stop()
	again := start(t, cfg)
	if m := again.Models(); len(m) != 1 || m[0].Name != "second" {
		t.Errorf("after a restart: %v", m)
	}
	if _, err := again.RollBackModels(t.Context()); err != nil {
		t.Error(err)
	}
	if m := again.Models(); len(m) != 1 || m[0].Name != "resnet18-phantom" {
		t.Errorf("rolled back: %v", m)
	}
}

// TestPromise4_ProvidersBrokenOnPurpose wants a GPU where none is. The CPU answers, and everybody who asks is told why.
func TestPromise4_ProvidersBrokenOnPurpose(t *testing.T) {
	cfg, printed, _ := wholeLine(t)
	cfg.ONNXRuntime.Providers = []string{"tensorrt", "cuda", "cpu"}
	cfg.ONNXRuntime.Engines = filepath.Join(t.TempDir(), "engines")
	d := start(t, cfg)
	eventually(t, "both are refused", func() bool {
		refused := 0
		for _, p := range d.Status(t.Context()).Model.Providers {
			if p.State == "refused" && strings.Contains(p.Reason, "libonnxruntime_providers_shared.so beside ONNX Runtime") {
				refused++
			}
		}
		return refused == 2
	})
	m := d.Status(t.Context()).Model
	if m.Provider != "cpu" || len(m.Providers) != 3 || m.Providers[2].State != "serving" || m.Fault != "" {
		t.Errorf("%+v", m)
	}
	if part := d.Status(t.Context()).Parts["provider"]; !strings.Contains(part, "cuda is refused for resnet18-phantom@") {
		t.Errorf("readyz: %q", part)
	}
	if log := d.log.String(); strings.Count(log, "a provider does not come into service") != 2 {
		t.Errorf("log: %s", tail(log, 2000))
	}
	resp, err := http.Get("http://" + d.MonitorAddr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a missing GPU is vital: %s", resp.Status)
	}
	d.scan(t, writePhantom(t, phantom.Intraparenchymal, phantom.SetOptions{Seed: 3, Plain: true})...)
	eventually(t, "the outcome arrives", func() bool { return len(messages(printed, "ichwatch/v1/north/ct1/outcome")) > 0 })
	if got := messages(printed, "ichwatch/v1/north/ct1/outcome")[0]; !strings.Contains(string(got), `"POSITIVE"`) {
		t.Errorf("outcome %s", got)
	}
}

// The canary sings of every model that ships, and drift is learned without a trace of whom.
func TestCanaryAndDrift(t *testing.T) {
	cfg, _, _ := wholeLine(t)
	cfg.Triage.CanaryAt = 0
	d := start(t, cfg)
	eventually(t, "the canary was tried", func() bool { return strings.Contains(d.log.String(), "the canary answers as it should") })
	for _, name := range []string{"resnet18", "resnet18-int8", "densenet121", "densenet121-int8"} {
		dir, err := filepath.Abs("../../models/" + name)
		if err != nil {
			t.Fatal(err)
		}
		change, err := d.ActivateModels(t.Context(), control.Activate{Models: []string{dir}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %s", name, change.Canary)
	}
	files := writePhantom(t, phantom.Intraparenchymal, phantom.SetOptions{Seed: 3, Plain: true})
	d.scan(t, files...)
	kept := filepath.Join(cfg.Spool.Dir, "service", "drift.json")
	eventually(t, "the study is learned from", func() bool {
		text, err := os.ReadFile(kept)
		return err == nil && strings.Contains(string(text), `"studies":1`)
	})
	if parts := d.Status(t.Context()).Parts; parts["canary"] != "ok" || parts["drift"] != "ok" || parts["provider"] != "ok" {
		t.Errorf("%v", parts)
	}
	if err := d.Relearn(t.Context()); err != nil {
		t.Error(err)
	}
	d.stop()
	entries, err := os.ReadDir(filepath.Dir(kept))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	sentUIDs := slices.Collect(maps.Keys(dataSets(t, files...)))
	for _, e := range entries {
		names = append(names, e.Name())
		text, err := os.ReadFile(filepath.Join(filepath.Dir(kept), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range append(identities(t, files[0]), string(sentUIDs[0][:30])) {
			if strings.Contains(strings.ToLower(string(text)), strings.ToLower(secret)) {
				t.Errorf("%q stands in %s", secret, e.Name())
			}
		}
	}
	if want := []string{"active.json", "canary.json", "drift.json"}; !slices.Equal(names, want) {
		t.Errorf("kept: %v, want %v", names, want)
	}
}

// Commands about models are refused where none is wanted.
func TestNoModelIsWanted(t *testing.T) {
	d := start(t, config(t))
	if _, err := d.ActivateModels(t.Context(), control.Activate{Models: []string{"/m"}}); err == nil || !strings.Contains(err.Error(), "wants no model") {
		t.Errorf("activate: %v", err)
	}
	if _, err := d.RollBackModels(context.Background()); err == nil {
		t.Error("rollback: no error")
	}
	if err := d.Relearn(t.Context()); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("relearn: %v", err)
	}
}
