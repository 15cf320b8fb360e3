package app_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ichwatch/alerts"
	"ichwatch/daemon/phantom"
)

// secondModel is the phantom model under another name and, for a line in its description, with another hash.
func secondModel(t *testing.T) string {
	t.Helper()
	dir := phantomModel(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	model, err := os.ReadFile(at("model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	model = append(model, 6<<3|2, 1, 'x') // ModelProto.doc_string
	sum := sha256.Sum256(model)
	text, err := os.ReadFile(at("manifest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`sha256: \w+`).ReplaceAll(text, []byte("sha256: "+hex.EncodeToString(sum[:])))
	text = bytes.Replace(text, []byte("name: resnet18-phantom"), []byte("name: second"), 1)
	for name, content := range map[string][]byte{"model.onnx": model, "manifest.yaml": text} {
		if err := os.WriteFile(at(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Two models answer as one: alert, outcome and log name both, down to their hashes.
func TestEnsembleInService(t *testing.T) {
	cfg, printed, _ := wholeLine(t)
	cfg.Triage.Models = append(cfg.Triage.Models, secondModel(t))
	d := start(t, cfg)
	d.scan(t, writePhantom(t, phantom.Intraparenchymal, phantom.SetOptions{Seed: 3, Plain: true})...)
	eventually(t, "the outcome arrives", func() bool { return len(messages(printed, "ichwatch/v1/north/ct1/outcome")) > 0 })

	var alert alerts.Message
	var outcome alerts.OutcomeMessage
	for topic, message := range map[string]any{"alert": &alert, "outcome": &outcome} {
		if err := json.Unmarshal(messages(printed, "ichwatch/v1/north/ct1/"+topic)[0], message); err != nil {
			t.Fatal(err)
		}
	}
	if outcome.Outcome != alerts.Positive || alert.Finding != "intraparenchymal" {
		t.Errorf("alert %+v, outcome %+v", alert, outcome)
	}
	for what, models := range map[string][]alerts.Model{"alert": alert.Models, "outcome": outcome.Models} {
		if len(models) != 2 || models[0].Name != "resnet18-phantom" || models[1].Name != "second" || models[0].SHA256 == models[1].SHA256 {
			t.Errorf("models of the %s: %+v", what, models)
		}
	}
	if got := d.Models(); len(got) != 2 || !strings.Contains(d.log.String(), got.String()) {
		t.Errorf("models in service %v are not in the log", got)
	}
}

// TestPromise4_NoHalfAnEnsemble: one of two models is damaged. The other does not answer in the name of both: the study
// fails, and the log says which model it was.
func TestPromise4_NoHalfAnEnsemble(t *testing.T) {
	damaged := secondModel(t)
	if err := os.Truncate(filepath.Join(damaged, "model.onnx"), 1000); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Triage.Models = []string{phantomModel(t), damaged}
	cfg.ONNXRuntime.Library = onnxRuntime(t)
	d := start(t, cfg)
	if err := d.ModelError(); err == nil || !strings.Contains(err.Error(), "triage.models[1]: ") || !strings.Contains(err.Error(), damaged) || d.Models() != nil {
		t.Errorf("models %v, %v", d.Models(), err)
	}
	d.scan(t, writePhantom(t, phantom.Epidural, phantom.SetOptions{Seed: 1, Rows: 64, Columns: 64, Slices: 10})...)
	eventually(t, "the study has failed", func() bool { return d.ledger(t).Outcome == alerts.Failed })
	if reason := d.ledger(t).Reason; !strings.Contains(reason, "no model in service") {
		t.Errorf("reason %q", reason)
	}
	if !strings.Contains(d.log.String(), damaged) {
		t.Error("the log does not name the damaged model")
	}
}
