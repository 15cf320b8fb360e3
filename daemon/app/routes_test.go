package app_test

import (
	"os"
	"strings"
	"testing"

	"ichwatch/alerts"
	"ichwatch/configs"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dimsetest"
)

// TestRoutes sends a normal study and a bleed through the whole line to four archives: one takes all, one what is called by
// its title, one what is suspicious in the end, one what no scanner here makes.
func TestRoutes(t *testing.T) {
	cfg, _, _ := wholeLine(t)
	cfg.DICOM.AcceptAnyCalledAE = true
	folders := map[string]string{}
	add := func(name string, routes ...configs.Route) {
		port := dimsetest.FreePort(t)
		folders[name] = t.TempDir()
		dimsetest.Start(t, port, "storescp", "+B", "+xa", "-od", folders[name], port)
		d := destination(name, port)
		d.Routes = routes
		cfg.Destinations = append(cfg.Destinations, d)
	}
	add("trauma", configs.Route{CalledAETitles: []string{"trauma"}, StudyDescriptions: []string{"*head*"}})
	add("ward", configs.Route{Modalities: []string{"CT"}, Outcomes: []string{"POSITIVE"}})
	add("mri", configs.Route{Modalities: []string{"MR"}})
	d := start(t, cfg)

	normal := writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Plain: true})
	bleed := writePhantom(t, phantom.Intraparenchymal, phantom.SetOptions{Seed: 3, Plain: true})
	d.scan(t, normal...)
	dimsetest.Run(t, "storescu", append([]string{"-R", "-xe", "-aec", "TRAUMA", "127.0.0.1", d.port}, bleed...)...)
	var records []spool.StudyRecord
	eventually(t, "both studies are decided and sent", func() bool {
		var err error
		if records, err = d.Studies(t.Context(), spool.Filter{}); err != nil || len(records) != 2 {
			return false
		}
		for _, r := range records {
			for _, l := range r.Legs {
				if l.Done != r.Instances {
					return false
				}
			}
		}
		return records[0].Outcome != "" && records[1].Outcome != ""
	})
	if records[0].Outcome != alerts.Positive || records[1].Outcome != alerts.Negative {
		t.Errorf("outcomes %s and %s", records[0].Outcome, records[1].Outcome)
	}
	for name, want := range map[string]int{"trauma": len(bleed), "ward": len(bleed), "mri": 0} {
		files, err := os.ReadDir(folders[name])
		if err != nil || len(files) != want {
			t.Errorf("%s has %d objects, want %d; %v", name, len(files), want, err)
		}
	}
	for _, r := range records {
		if r.Unrouted != 0 || !r.Balances() {
			t.Errorf("record %+v", r)
		}
	}
	if strings.Contains(d.log.String(), "meet no rule") {
		t.Error("something is said to go nowhere")
	}
}
