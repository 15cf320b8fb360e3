package app_test

import (
	"testing"

	"ichwatch/configs"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dimsetest"
)

// TestPromise2_FaultyArchive lets real archives misbehave as their options let them. Nothing is parked and nothing is
// lost: it waits, and goes when the archive behaves again.
func TestPromise2_FaultyArchive(t *testing.T) {
	for _, fault := range []struct {
		program, option string
	}{
		{"storescp", "--refuse"},
		{"storescp", "--abort-after"},
		{"storescp", "--abort-during"},
		{"dcmqrscp", "--refuse"},
	} {
		t.Run(fault.program+" "+fault.option, func(t *testing.T) {
			port, dir := dimsetest.FreePort(t), t.TempDir()
			begin := func(t *testing.T, options ...string) {
				if fault.program == "dcmqrscp" {
					options = append(options, "-c", qrConfig(t, "PACS", port, dir), port)
				} else {
					// --fork: the daemon may be there before who looks whether it has started.
					options = append(options, "--fork", "+xa", "-od", dir, port)
				}
				dimsetest.Start(t, port, fault.program, options...)
			}
			cfg := config(t)
			cfg.Destinations = []configs.Destination{destination("pacs", port)}
			d := start(t, cfg)
			files := writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Slices: 8, Rows: 64, Columns: 64})
			t.Run("faulty", func(t *testing.T) {
				begin(t, fault.option)
				d.scan(t, files...)
				eventually(t, "the destination is reported as failing", func() bool {
					_, r := d.report(t, "/readyz")
					return r.Parts["destination pacs"] != "ok"
				})
			})
			t.Run("mended", func(t *testing.T) {
				begin(t)
				eventually(t, "all is confirmed", func() bool { return d.forwarded(t, len(files)) })
			})
			records, err := d.Studies(t.Context(), spool.Filter{})
			if err != nil || len(records) != 1 || records[0].Legs[0].Parked != 0 {
				t.Errorf("the ledger has %+v, %v", records, err)
			}
		})
	}
}
