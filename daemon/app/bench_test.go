package app_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"ichwatch/daemon/app"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dimsetest"
)

// BenchmarkReceive lets a stock storescu push the same study, one association, into DCMTK's storescp, which syncs
// nothing, and into ichwatch, which answers when the slice is on disk. Both are measured in turns in one run; the ratio
// is what to look at, the rest depends on the machine.
func BenchmarkReceive(b *testing.B) {
	const slices = 120
	storescp := dimsetest.FreePort(b)
	dimsetest.Start(b, storescp, "storescp", "+xa", "-od", b.TempDir(), storescp)

	cfg := config(b)
	a, err := app.New(b.Context(), cfg, app.Options{Log: slog.New(slog.DiscardHandler), Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	_, ichwatch, _ := net.SplitHostPort(a.DICOMAddr().String())

	// Each round has a study of its own: one that is sent twice would be a duplicate the second time, and less work.
	study := func(seed uint64) (dir string) {
		dir = b.TempDir()
		if err := phantom.WriteSet(b.Context(), dir, phantom.SetOptions{
			Studies: 1, Classes: []phantom.Class{phantom.Normal}, Seed: seed, Slices: slices, SliceThickness: 1.25,
		}, nil); err != nil {
			b.Fatal(err)
		}
		return dir + "/normal-0001"
	}
	push := func(port, dir string) time.Duration {
		began := time.Now()
		dimsetest.Run(b, "storescu", "+sd", "-aec", "ICHWATCH", "127.0.0.1", port, dir)
		return time.Since(began)
	}
	push(ichwatch, study(0))
	var ours, theirs time.Duration
	for seed := uint64(1); b.Loop(); seed++ {
		dir := study(seed)
		theirs += push(storescp, dir)
		ours += push(ichwatch, dir)
	}
	n := float64(slices * b.N)
	b.ReportMetric(n/ours.Seconds(), "slices/s-ichwatch")
	b.ReportMetric(n/theirs.Seconds(), "slices/s-storescp")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}
