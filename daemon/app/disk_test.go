package app_test

import (
	"path/filepath"
	"strings"
	"testing"

	"ichwatch/configs"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// TestPromise2_QuotaIsKept: the PACS is away, and the quota fills. Scanners are rejected as transient, and nothing goes that
// the PACS has not confirmed. When it has, what is confirmed goes long before its time, and scanners are let in again.
func TestPromise2_QuotaIsKept(t *testing.T) {
	pacs, received := dimsetest.FreePort(t), t.TempDir()
	cfg := config(t)
	cfg.Spool.Quota, cfg.Spool.Reserve, cfg.Spool.HighWatermark = 200<<10, 20<<10, 0.5
	cfg.Destinations = []configs.Destination{destination("storescp", pacs)}
	d := start(t, cfg)
	one, two, three := smallPhantom(t, 1), smallPhantom(t, 2), smallPhantom(t, 3) // 70 KiB each
	d.scan(t, one...)
	d.scan(t, two...)
	out, err := dimsetest.RunError(t, "storescu", append([]string{"-v", "-R", "-aec", "ICHWATCH", "127.0.0.1", d.port}, three...)...)
	if err == nil || !strings.Contains(out, "Rejected Transient") {
		t.Fatalf("beyond the high watermark of the quota: %v\n%s", err, out)
	}
	spooled := func() map[dicom.UID][32]byte {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(cfg.Spool.Dir, "instances", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return dataSets(t, files...)
	}
	same(t, "the spool", spooled(), dataSets(t, append(one, two...)...))

	dimsetest.Start(t, pacs, "storescp", "+B", "+xa", "-pm", "+uf", "-od", received, pacs)
	eventually(t, "room is made", func() bool {
		_, r := d.report(t, "/readyz")
		return r.Parts["spool"] == "ok"
	})
	if n := len(spooled()); n == 0 {
		t.Error("more went than was needed")
	}
	d.scan(t, three...)
	eventually(t, "the PACS has all", func() bool { return len(copies(t, filepath.Join(received, "*"))) == len(one)+len(two)+len(three) })
	same(t, "the PACS", firstCopies(t, received), dataSets(t, append(append(one, two...), three...)...))
	records, err := d.Studies(t.Context(), spool.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if !r.Balances() {
			t.Errorf("study %+v", r)
		}
	}
}

// firstCopies are the data sets in a folder in which each is once.
func firstCopies(t *testing.T, dir string) map[dicom.UID][32]byte {
	t.Helper()
	sums := map[dicom.UID][32]byte{}
	for uid, all := range copies(t, filepath.Join(dir, "*")) {
		if len(all) != 1 {
			t.Errorf("%s is there %d times", uid, len(all))
		}
		sums[uid] = all[0]
	}
	return sums
}
