package main

import (
	"strings"
	"testing"
	"time"

	"ichwatch/daemon/control"
)

func TestStatusJudges(t *testing.T) {
	now := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		change func(o *outlook)
		want   level
		says   string
	}{
		"all well": {func(o *outlook) {
			o.Queues = []queue{{Destination: "pacs", Pending: backlog{3, ago(time.Minute)}, LastDone: ago(time.Second)}}
			o.Alerts = []openAlert{{AlertID: "a-1", RaisedAt: ago(time.Hour), DeliveredAt: ago(time.Hour)}}
			o.Messages = backlog{1, ago(time.Second)}
		}, levelOK, ""},
		"stopped":        {func(o *outlook) { o.Running, o.Daemon = false, nil }, levelCritical, "does not run"},
		"hung":           {func(o *outlook) { o.Daemon = nil }, levelCritical, "does not answer"},
		"dicom":          {func(o *outlook) { o.Daemon.Parts["dicom without tls"] = "no association" }, levelCritical, "no association"},
		"disk":           {func(o *outlook) { o.Daemon.Parts["spool"] = "3 MiB are free" }, levelCritical, "3 MiB"},
		"model":          {func(o *outlook) { o.Daemon.Parts["model"] = "its hash is another" }, levelCritical, "hash"},
		"broker":         {func(o *outlook) { o.Daemon.Parts["broker"] = "not connected" }, levelWarning, "broker: not connected"},
		"certificate":    {func(o *outlook) { o.Daemon.Parts["certificate"] = "ends\ntomorrow" }, levelWarning, "ends tomorrow"},
		"failing":        {func(o *outlook) { o.Daemon.Destinations[0].Failing = true }, levelWarning, "pacs takes nothing"},
		"slow disk":      {func(o *outlook) { o.Daemon.Recovery.FlushMS = 80 }, levelWarning, "80 ms"},
		"unread":         {func(o *outlook) { o.Daemon.Recovery.Unread = 1 }, levelWarning, "1 file could not be read"},
		"parked":         {func(o *outlook) { o.Queues[0].Parked.Waiting = 2 }, levelWarning, "2 instances are parked, 0 of them by hand"},
		"waits":          {func(o *outlook) { o.Queues[0].Pending = backlog{1, ago(31 * time.Minute)} }, levelWarning, "waits for 31 min"},
		"waits long":     {func(o *outlook) { o.Queues[0].Pending = backlog{1, ago(5 * time.Hour)} }, levelCritical, "waits for 5 h 00 min"},
		"analysis waits": {func(o *outlook) { o.Slices = backlog{1, ago(time.Hour)} }, levelWarning, "analysis"},
		"lost":           {func(o *outlook) { o.Missing = 1 }, levelCritical, "1 acknowledged instance is lost"},
		"undelivered":    {func(o *outlook) { o.Alerts = []openAlert{{AlertID: "a-1", RaisedAt: ago(2 * time.Minute)}} }, levelCritical, "a-1 has not reached the broker"},
		"just raised":    {func(o *outlook) { o.Alerts = []openAlert{{AlertID: "a-1", RaisedAt: ago(time.Second)}} }, levelOK, ""},
		"escalated": {func(o *outlook) {
			o.Alerts = []openAlert{{AlertID: "a-1", RaisedAt: ago(time.Hour), DeliveredAt: ago(time.Hour), Level: 2}}
		}, levelWarning, "level 2"},
		"full, stopped": {func(o *outlook) {
			o.Running, o.Daemon = false, nil
			o.Disk = disk{Total: 100, Free: 4, InUse: .96, HighWatermark: .9, Reserve: 5}
		}, levelCritical, "4 B are free"},
		"nearly full, stopped": {func(o *outlook) {
			o.Running, o.Daemon = false, nil
			o.Disk = disk{Total: 100, Free: 8, InUse: .92, HighWatermark: .9, Reserve: 5}
		}, levelCritical, "92.0 %"},
		"the worst counts": {func(o *outlook) { o.Queues[0].Parked.Waiting, o.Missing = 2, 1 }, levelCritical, "parked"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &outlook{
				At: now, Running: true, Queues: []queue{{Destination: "pacs"}},
				Daemon: &control.Status{
					Parts:        map[string]string{"dicom": "ok", "spool": "ok", "model": "ok", "broker": "ok", "destination pacs": "refused 2"},
					Destinations: []control.Destination{{Name: "pacs"}}, Recovery: control.Recovery{FlushMS: 2},
				},
			}
			c.change(o)
			o.judge(30*time.Minute, 4*time.Hour)
			var text strings.Builder
			if err := o.write(&text, "text"); err != nil {
				t.Fatal(err)
			}
			headline, _, _ := strings.Cut(text.String(), "\n")
			if o.State != c.want || !strings.HasPrefix(headline, "ichwatch "+c.want.String()) || !strings.Contains(headline, c.says) {
				t.Errorf("%s; want %v with %q", headline, c.want, c.says)
			}
		})
	}
}

func TestSince(t *testing.T) {
	now := time.Date(2025, 3, 10, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"":                     {},
		"90m":                  now.Add(-90 * time.Minute),
		"7d":                   now.AddDate(0, 0, -7),
		"2025-03-01":           time.Date(2025, 3, 1, 0, 0, 0, 0, time.Local),
		"2025-03-01 08:30":     time.Date(2025, 3, 1, 8, 30, 0, 0, time.Local),
		"2025-03-01T08:30:00Z": time.Date(2025, 3, 1, 8, 30, 0, 0, time.UTC),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "-7d", "7", "d", "7x", "1.5d", "7d8d"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
