package app_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ichwatch/configs"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dimsetest"
)

// archiveOf starts a program of DCMTK as the archive PACS that stores into a folder, with options.
func archiveOf(t *testing.T, program, port, dir string, options ...string) {
	t.Helper()
	if program == "dcmqrscp" {
		options = append(options, "-c", qrConfig(t, "PACS", port, dir), port)
	} else {
		if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "--sleep") }) { // a child that sleeps keeps the port
			options = append(options, "--fork") // the daemon may be there before who looks whether it has started
		}
		options = append(options, "+xa", "-od", dir, port)
	}
	dimsetest.Start(t, port, program, options...)
}

// TestPromise2_FaultyArchive lets real archives misbehave as their options let them. Nothing is parked and nothing is
// lost: it waits, and goes when the archive behaves again.
func TestPromise2_FaultyArchive(t *testing.T) {
	for _, fault := range []struct {
		program, options string
		reason           string // that readiness gives
	}{
		{"storescp", "--refuse", "rejected by the peer"},
		{"storescp", "--abort-after", ""}, // by an A-ABORT or a reset, as it happens
		{"storescp", "--abort-during", ""},
		{"storescp", "--sleep-during 60", "did not answer in time"},
		{"storescp", "--sleep-after 60", "did not answer in time"},
		{"dcmqrscp", "--refuse", "rejected by the peer"},
	} {
		t.Run(fault.program+" "+fault.options, func(t *testing.T) {
			port, dir := dimsetest.FreePort(t), t.TempDir()
			cfg := config(t)
			cfg.Destinations = []configs.Destination{destination("pacs", port)}
			cfg.Destinations[0].Timeouts.Read = 2 * time.Second
			d := start(t, cfg)
			files := writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Slices: 8, Rows: 64, Columns: 64})
			t.Run("faulty", func(t *testing.T) {
				archiveOf(t, fault.program, port, dir, strings.Fields(fault.options)...)
				d.scan(t, files...)
				eventually(t, "the destination is reported as failing", func() bool {
					_, r := d.report(t, "/readyz")
					return r.Parts["destination pacs"] != "ok" && strings.Contains(r.Parts["destination pacs"], fault.reason)
				})
			})
			t.Run("mended", func(t *testing.T) {
				archiveOf(t, fault.program, port, dir)
				eventually(t, "all is confirmed", func() bool { return d.forwarded(t, len(files)) })
			})
			records, err := d.Studies(t.Context(), spool.Filter{})
			if err != nil || len(records) != 1 || records[0].Legs[0].Parked != 0 {
				t.Errorf("the ledger has %+v, %v", records, err)
			}
		})
	}
}

// What other options call a fault is none for us: who is slow within its time, who insists on an implementation class UID,
// who takes one association at a time. And an archive that answers with success and stores nothing is believed: for that
// there is commitment.mode: require.
func TestArchivesWithWhichThereIsNothingWrong(t *testing.T) {
	for _, test := range []struct {
		program, options string
		stores           bool
	}{
		{"storescp", "--sleep-during 1", true},
		{"storescp", "--sleep-after 1", true},
		{"storescp", "--reject", true},
		{"storescp", "--ignore", false},
		{"dcmqrscp", "--reject", true},
		{"dcmqrscp", "--ignore", false},
		{"dcmqrscp", "--single-process --no-parallel-store", true},
	} {
		t.Run(test.program+" "+test.options, func(t *testing.T) {
			port, dir := dimsetest.FreePort(t), t.TempDir()
			archiveOf(t, test.program, port, dir, strings.Fields(test.options)...)
			cfg := config(t)
			cfg.Destinations = []configs.Destination{destination("pacs", port)}
			d := start(t, cfg)
			files := writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Slices: 3, Rows: 64, Columns: 64})
			d.scan(t, files...)
			eventually(t, "all is confirmed", func() bool { return d.forwarded(t, len(files)) })
			stored, err := filepath.Glob(filepath.Join(dir, "*[0-9]*"))
			if err != nil {
				t.Fatal(err)
			}
			held := 0
			for _, path := range stored {
				if info, err := os.Stat(path); err == nil && info.Size() > 0 {
					held++
				}
			}
			if want := len(files); (held == want) != test.stores {
				t.Errorf("it holds %d of %d", held, want)
			}
			if _, r := d.report(t, "/readyz"); r.Parts["destination pacs"] != "ok" {
				t.Errorf("readiness says %q", r.Parts["destination pacs"])
			}
		})
	}
}
