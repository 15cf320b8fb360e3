package app_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/daemon/monitor"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// report asks for the daemon's health at /healthz or /readyz.
func (d *daemon) report(t *testing.T, path string) (status int, r monitor.Report) {
	t.Helper()
	resp, err := http.Get("http://" + d.MonitorAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, r
}

// The daemon calls itself every few seconds. That is a real C-ECHO, whichever peers are admitted, and leaves the log to
// the peers.
func TestHealthCallsAreReal(t *testing.T) {
	cfg := config(t)
	cfg.DICOM.Peers = []configs.Peer{{Name: "ct1", AETitle: "CT1"}}
	d := start(t, cfg)
	if status, r := d.report(t, "/healthz"); status != http.StatusOK || r.Parts["dicom"] != "ok" {
		t.Errorf("%d %+v", status, r)
	}
	stranger := &dimse.Dialer{CallingAETitle: "CT2", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
		AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian},
	}}}
	var rejected *dimse.RejectedError
	if _, err := stranger.Dial(t.Context(), net.JoinHostPort("127.0.0.1", d.port)); !errors.As(err, &rejected) {
		t.Errorf("a stranger: %v", err)
	}
	d.stop()

	loud, hushed, strangers := 0, 0, 0
	for line := range strings.Lines(d.log.String()) {
		switch debug := strings.Contains(line, `"level":"DEBUG"`); {
		case strings.Contains(line, `"calling":"CT2"`) && !debug:
			strangers++
		case strings.Contains(line, `"calling":"ICHWATCH-SELF"`) && debug:
			hushed++
		case strings.Contains(line, `"calling":`):
			loud++
		}
	}
	if loud != 0 || hushed < 2 || strangers == 0 {
		t.Errorf("%d loud and %d hushed lines about ourselves, %d about the stranger:\n%s", loud, hushed, strangers, d.log)
	}
}

// A PACS that takes nothing is told, and so is its return.
func TestReadinessTellsOfADeadDestination(t *testing.T) {
	pacs := dimsetest.FreePort(t)
	cfg := config(t)
	cfg.Destinations = []configs.Destination{destination("storescp", pacs)}
	d := start(t, cfg)
	const part = "destination storescp"
	if _, r := d.report(t, "/readyz"); r.Parts[part] != "ok" {
		t.Errorf("before anything was sent: %q", r.Parts[part])
	}
	files := writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Rows: 64, Columns: 64, Slices: 3})
	d.scan(t, files...)
	eventually(t, "readiness tells that the PACS takes nothing", func() bool {
		status, r := d.report(t, "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(r.Parts[part], "takes nothing since")
	})
	dimsetest.Start(t, pacs, "storescp", "+B", "+xa", "-pm", "-od", t.TempDir(), pacs)
	eventually(t, "readiness tells that it is back", func() bool {
		_, r := d.report(t, "/readyz")
		return r.Parts[part] == "ok" && d.forwarded(t, len(files))
	})
}

// A broker that is away is told with what to do about it, and which of its addresses is connected.
func TestReadinessTellsOfTheBroker(t *testing.T) {
	broker, away := dimsetest.FreePort(t), dimsetest.FreePort(t)
	cfg := config(t)
	cfg.Alerts.MQTT.Broker, cfg.Alerts.MQTT.Failover = "tcp://127.0.0.1:"+away, []string{"tcp://127.0.0.1:" + broker}
	d := start(t, cfg)
	eventually(t, "readiness tells that no broker is there", func() bool {
		status, r := d.report(t, "/readyz")
		says := r.Parts["broker"]
		return status == http.StatusServiceUnavailable && strings.HasPrefix(says, "not connected; alerts wait in the spool; connection, since ") && strings.Contains(says, "nobody listens there")
	})
	startMosquitto(t, broker)
	eventually(t, "status tells which of them is connected", func() bool {
		s := d.Status(t.Context()).Broker
		return s.Connected && s.Address == "tcp://127.0.0.1:"+broker && s.Nodes == 2
	})
}

// Below the reserve every object is refused with A700H, however far the watermark is.
func TestReadinessTellsOfAFullDisk(t *testing.T) {
	for name, fill := range map[string]func(*configs.Config){
		"below the reserve":   func(cfg *configs.Config) { cfg.Spool.Reserve = 1 << 60 },
		"above the watermark": func(cfg *configs.Config) { cfg.Spool.HighWatermark = 1e-9 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			fill(cfg)
			d := start(t, cfg)
			if status, r := d.report(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(r.Parts["spool"], "refused") {
				t.Errorf("%d %q", status, r.Parts["spool"])
			}
			if status, _ := d.report(t, "/healthz"); status != http.StatusOK {
				t.Errorf("a full disk is no reason to be restarted: %d", status)
			}
		})
	}
}

// Other people's limits are not ours: with every place taken and every rate used up our own C-ECHO is answered, however
// often, and it takes nothing of what the scanners have.
func TestHealthCallsStandBesideTheLimits(t *testing.T) {
	const limit = 3
	for name, limited := range map[string]func(*configs.DICOM){
		"in all":      func(c *configs.DICOM) { c.MaxAssociations = limit },
		"of a host":   func(c *configs.DICOM) { c.MaxAssociationsPerHost = limit },
		"of a minute": func(c *configs.DICOM) { c.MaxAssociationsPerMinute = limit },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			limited(&cfg.DICOM)
			d := start(t, cfg)
			healthy := func() {
				t.Helper()
				for range limit + 1 {
					if status, r := d.report(t, "/healthz"); status != http.StatusOK || r.Parts["dicom"] != "ok" {
						t.Fatalf("%d %+v", status, r)
					}
				}
			}
			scanner := dimse.Dialer{CallingAETitle: "CT1", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
				AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian},
			}}}
			call := func() error {
				a, err := scanner.Dial(t.Context(), net.JoinHostPort("127.0.0.1", d.port))
				if err == nil {
					t.Cleanup(func() { _ = a.Abort() })
				}
				return err
			}
			healthy()
			for n := range limit {
				if err := call(); err != nil {
					t.Fatalf("association %d of a scanner: %v", n+1, err)
				}
			}
			healthy()
			scanner.CallingAETitle = app.SelfTitle // which lets in nobody else
			var rejected *dimse.RejectedError
			if err := call(); !errors.As(err, &rejected) || rejected.Rejection != dimse.RejectLocalLimitExceeded {
				t.Errorf("one more: %v", err)
			}
		})
	}
}

// Nothing but a C-ECHO goes over such an association, and in TLS it is known too.
func TestHealthCallsInTLS(t *testing.T) {
	cfg := config(t)
	secured(t, cfg)
	cfg.DICOM.Peers = []configs.Peer{{Name: "ct1", AETitle: "CT1", CertificateNames: []string{"ct1.example.org"}}}
	d := start(t, cfg)
	if status, r := d.report(t, "/healthz"); status != http.StatusOK || r.Parts["dicom"] != "ok" || r.Parts["dicom without tls"] != "ok" {
		t.Errorf("%d %+v", status, r)
	}
	d.stop()
	if n := strings.Count(d.log.String(), `"rule":"this program","tls":"TLS 1.3"`); n == 0 {
		t.Errorf("no call of our own in TLS:\n%s", d.log)
	}
}
