package app_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ichwatch/alerts"
	"ichwatch/configs"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// writePhantom writes one study and returns its files in the order of the slices.
func writePhantom(t *testing.T, class phantom.Class, o phantom.SetOptions) []string {
	t.Helper()
	dir := t.TempDir()
	o.Studies, o.Classes = 1, []phantom.Class{class}
	if err := phantom.WriteSet(t.Context(), dir, o, nil); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.dcm"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no phantom was written: %v", err)
	}
	return files
}

// realSeries is a real head series, or else a phantom.
func realSeries(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../../shared/data/dicom/ge-head-series/*.dcm")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Log("no ../shared/data: a phantom is sent instead of a real series")
		return writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Slices: 28})
	}
	return files
}

// dataSets maps SOP Instance UIDs to the SHA-256 of the data sets of Part 10 files.
func dataSets(t *testing.T, files ...string) map[dicom.UID][32]byte {
	t.Helper()
	sums := map[dicom.UID][32]byte{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		uid, sum := dataSet(t, content)
		sums[uid] = sum
	}
	return sums
}

func dataSet(t *testing.T, part10 []byte) (dicom.UID, [32]byte) {
	t.Helper()
	meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(part10))
	if err != nil {
		t.Fatal(err)
	}
	return meta.SOPInstanceUID, sha256.Sum256(part10[offset:])
}

func same(t *testing.T, who string, got, want map[dicom.UID][32]byte) {
	t.Helper()
	if len(want) == 0 {
		t.Fatalf("%s: nothing to compare with", who)
	}
	for uid, sum := range want {
		if other, ok := got[uid]; !ok {
			t.Errorf("%s lacks %s", who, uid)
		} else if other != sum {
			t.Errorf("%s has %s with SHA-256 %x, sent was %x", who, uid, other, sum)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s has %d objects, sent were %d", who, len(got), len(want))
	}
}

// TestPromise2_ForwardedByteIdenticalToRealPeers sends a real series with a stock storescu through the daemon to DCMTK's
// storescp and to Orthanc. What both hold, and what the spool holds, is what was sent, data set for data set.
func TestPromise2_ForwardedByteIdenticalToRealPeers(t *testing.T) {
	files := realSeries(t)
	sent := dataSets(t, files...)

	received, port := t.TempDir(), dimsetest.FreePort(t)
	dimsetest.Start(t, port, "storescp", "+B", "+xa", "-pm", "-od", received, port)
	orthancPort, rest := startOrthanc(t)

	cfg := config(t)
	cfg.Destinations = []configs.Destination{destination("storescp", port), destination("orthanc", orthancPort)}
	d := start(t, cfg)
	d.scan(t, files...)
	eventually(t, "both destinations confirm", func() bool { return d.forwarded(t, len(files)) })

	atStoreSCP, err := filepath.Glob(filepath.Join(received, "*"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "storescp", dataSets(t, atStoreSCP...), sent)

	var ids []string
	if err := json.Unmarshal(get(t, rest+"/instances"), &ids); err != nil {
		t.Fatal(err)
	}
	atOrthanc := map[dicom.UID][32]byte{}
	for _, id := range ids {
		uid, sum := dataSet(t, get(t, rest+"/instances/"+id+"/file"))
		atOrthanc[uid] = sum
	}
	same(t, "Orthanc", atOrthanc, sent)

	inSpool, err := filepath.Glob(filepath.Join(cfg.Spool.Dir, "instances", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the spool", dataSets(t, inSpool...), sent)
	t.Logf("%d data sets, SHA-256 the same as sent at storescp, at Orthanc and in the spool", len(sent))
}

// wholeLine configures a daemon with the phantom model, mosquitto as its broker and storescp as its PACS, both running.
// printed is what mosquitto_sub sees, broker the broker's port.
func wholeLine(t *testing.T) (cfg *configs.Config, printed *dimsetest.Output, broker string) {
	t.Helper()
	broker = dimsetest.FreePort(t)
	printed = startMosquitto(t, broker)
	pacs := dimsetest.FreePort(t)
	dimsetest.Start(t, pacs, "storescp", "+B", "+xa", "-pm", "-od", t.TempDir(), pacs)

	cfg = config(t)
	cfg.Alerts.MQTT.Broker = "tcp://127.0.0.1:" + broker
	cfg.Destinations = []configs.Destination{destination("storescp", pacs)}
	cfg.Triage.Models = []string{phantomModel(t)}
	cfg.ONNXRuntime.Library = onnxRuntime(t)
	return cfg, printed, broker
}

// The whole line: storescu pushes a bleed, mosquitto_sub sees the alert and the outcome, mosquitto_pub acknowledges, and
// the ledger has it all.
func TestLine(t *testing.T) {
	cfg, printed, broker := wholeLine(t)
	d := start(t, cfg)
	eventually(t, "the device is online", func() bool {
		states := messages(printed, "ichwatch/v1/north/ct1/state")
		return len(states) > 0 && bytes.Contains(states[len(states)-1], []byte(`"online"`))
	})
	eventually(t, "the daemon is ready", func() bool {
		resp, err := http.Get("http://" + d.MonitorAddr().String() + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})

	files := writePhantom(t, phantom.Intraparenchymal, phantom.SetOptions{Seed: 3, Plain: true})
	d.scan(t, files...)

	const base = "ichwatch/v1/north/ct1/"
	eventually(t, "mosquitto_sub prints the alert", func() bool { return len(messages(printed, base+"alert")) > 0 })
	var alert alerts.Message
	payload := messages(printed, base+"alert")[0]
	if err := json.Unmarshal(payload, &alert); err != nil {
		t.Fatalf("%v in %s", err, payload)
	}
	if alert.Type != alerts.TypeNew || alert.Seq != 1 || alert.Finding != "intraparenchymal" {
		t.Errorf("alert %s", payload)
	}
	if !bytes.Contains(payload, []byte(alerts.Disclaimer)) {
		t.Errorf("no disclaimer in %s", payload)
	}
	if _, sent := dataSets(t, files...)[dicom.UID(alert.KeyImage)]; !sent {
		t.Errorf("the key image %s is none of the slices", alert.KeyImage)
	}
	t.Logf("alert: %s", payload)

	eventually(t, "mosquitto_sub prints the outcome", func() bool { return len(messages(printed, base+"outcome")) > 0 })
	var outcome alerts.OutcomeMessage
	if err := json.Unmarshal(messages(printed, base+"outcome")[0], &outcome); err != nil {
		t.Fatal(err)
	}
	if outcome.Outcome != alerts.Positive || outcome.AlertID != alert.AlertID || outcome.Counts.Received != len(files) {
		t.Errorf("outcome %+v", outcome)
	}

	dimsetest.Run(t, "mosquitto_pub", "-h", "127.0.0.1", "-p", broker, "-q", "1", "-t", base+"ack",
		"-m", `{"alert_id":"`+alert.AlertID+`","by":"Dr. Test"}`)
	eventually(t, "the ledger has the acknowledgement", func() bool {
		r := d.ledger(t)
		return len(r.Alerts) == 1 && r.Alerts[0].By == "Dr. Test"
	})
	eventually(t, "the PACS has confirmed all", func() bool { return d.forwarded(t, len(files)) })
	if r := d.ledger(t); !r.Balances() {
		t.Errorf("the ledger does not balance: %+v", r)
	}

	d.stop()
	trail, err := os.ReadFile(filepath.Join(d.spoolDir, audit.Name))
	if report, err2 := audit.Verify(bytes.NewReader(trail)); err != nil || err2 != nil || report.Records < 3 ||
		!bytes.Contains(trail, []byte(`"event":"alert.acknowledge","by":"Dr. Test","via":"mqtt"`)) {
		t.Errorf("the audit trail: %v, %v, %+v\n%s", err, err2, report, trail)
	}
	eventually(t, "the device is offline", func() bool {
		states := messages(printed, base+"state")
		return bytes.Contains(states[len(states)-1], []byte(`"offline"`))
	})
}

// TestPromise3_ForwardingNeedsNeitherModelNorBroker: the model cannot be loaded, nobody answers at the broker's
// address, and the PACS gets everything all the same. Once the broker is there, it hears what became of the study.
func TestPromise3_ForwardingNeedsNeitherModelNorBroker(t *testing.T) {
	pacs, broker := dimsetest.FreePort(t), dimsetest.FreePort(t)
	dimsetest.Start(t, pacs, "storescp", "+B", "+xa", "-pm", "-od", t.TempDir(), pacs)
	cfg := config(t)
	cfg.Destinations = []configs.Destination{destination("storescp", pacs)}
	cfg.Triage.Models = []string{filepath.Join(t.TempDir(), "no-such-model")}
	cfg.Alerts.MQTT.Broker = "tcp://127.0.0.1:" + broker
	d := start(t, cfg)

	files := writePhantom(t, phantom.Epidural, phantom.SetOptions{Seed: 1, Rows: 64, Columns: 64, Slices: 10})
	d.scan(t, files...)
	eventually(t, "the PACS confirms all", func() bool { return d.forwarded(t, len(files)) })
	eventually(t, "the study has failed", func() bool { return d.ledger(t).Outcome == alerts.Failed })
	if reason := d.ledger(t).Reason; !strings.Contains(reason, "no model in service") {
		t.Errorf("reason %q", reason)
	}

	printed := startMosquitto(t, broker)
	eventually(t, "the outcome arrives", func() bool { return len(messages(printed, "ichwatch/v1/north/ct1/outcome")) > 0 })
	if got := messages(printed, "ichwatch/v1/north/ct1/outcome")[0]; !bytes.Contains(got, []byte(`"FAILED"`)) {
		t.Errorf("outcome %s", got)
	}

	// With a model in its place, the study is analysed after all at the next start.
	d.stop()
	cfg.Triage.Models = []string{phantomModel(t)}
	cfg.ONNXRuntime.Library = onnxRuntime(t)
	again := start(t, cfg)
	eventually(t, "the study is judged by the model", func() bool {
		o := again.ledger(t).Outcome
		return o == alerts.Positive || o == alerts.Negative || o == alerts.NotAnalysed
	})
}

// TestPromise7_NoIdentityLeaves runs a study through everything, at debug level, and looks for the phantom's name and
// record number in the log, in file names and in everything that went over the broker.
func TestPromise7_NoIdentityLeaves(t *testing.T) {
	cfg, printed, _ := wholeLine(t)
	d := start(t, cfg)

	files := writePhantom(t, phantom.Subdural, phantom.SetOptions{Seed: 2, Plain: true})
	secrets := identities(t, files[0])
	d.scan(t, files...)
	eventually(t, "the outcome arrives", func() bool { return len(messages(printed, "ichwatch/v1/north/ct1/outcome")) > 0 })
	d.stop()

	var names strings.Builder
	if err := filepath.WalkDir(cfg.Spool.Dir, func(path string, _ os.DirEntry, err error) error {
		names.WriteString(path + "\n")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"log": d.log.String(), "broker": printed.String(), "file names": names.String()} {
		if len(text) < 100 {
			t.Errorf("%s: hardly anything was looked at: %q", where, text)
		}
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(text), strings.ToLower(secret)) {
				t.Errorf("%q stands in the %s", secret, where)
			}
		}
	}
}

// identities are the values in a file that name the patient, and the parts of the name.
func identities(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, offset, err := dicom.ReadFileMeta(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	syntax, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
	identifying := []dicom.Tag{0x00100010, 0x00100020, 0x00080050} // name, ID, accession number
	h, err := dicom.Scan(bytes.NewReader(content[offset:]), syntax, dicom.ScanOptions{Want: func(tag dicom.Tag) bool {
		for _, i := range identifying {
			if tag == i {
				return true
			}
		}
		return false
	}})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, tag := range identifying {
		if v := h.String(tag); len(v) >= 4 {
			found = append(found, v)
		}
	}
	if len(found) < 2 {
		t.Fatalf("the phantom names nobody: %q", found)
	}
	name, _, _ := strings.Cut(found[0], "^")
	return append(found, name+"^")
}
