package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ichwatch/daemon/app"
	"ichwatch/daemon/labelled"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/triage"
	"ichwatch/infer"
	"ichwatch/infer/adapt"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/graph"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
)

// runtimePath finds ONNX Runtime, or ends the test.
func runtimePath(t *testing.T) string {
	t.Helper()
	path, err := app.FindRuntime()
	if err != nil {
		path = filepath.Join("..", "bin", "libonnxruntime.so.1")
		_, err = os.Stat(path)
	}
	if err != nil {
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			t.Fatal(err)
		}
		t.Skip("ONNX Runtime is missing: make runtime")
	}
	return path
}

// siteSet writes a site of its own habits: what the phantom draws as epidural is
// called subarachnoid there.
func siteSet(t *testing.T, studies int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "set")
	o := phantom.SetOptions{Studies: studies, Classes: []phantom.Class{phantom.Normal, phantom.Epidural}, Rows: 128, Columns: 128, Slices: 10, Seed: 2, Plain: true}
	if err := phantom.WriteSet(t.Context(), dir, o, nil); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(dir, "labels.csv")
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	header, rows, _ := bytes.Cut(text, []byte("\n"))
	for _, swap := range [][2]string{{"epidural", "was"}, {"subarachnoid", "epidural"}, {"was", "subarachnoid"}} {
		header = bytes.Replace(header, []byte(swap[0]), []byte(swap[1]), 1)
	}
	if err := os.WriteFile(table, bytes.Join([][]byte{header, rows}, []byte("\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The model of the demo learns what a site calls a bleed. What comes out is a
// model folder that runs as any other does: the daemon's own loader takes it, and
// the mean of each of its activation maps plus the bias is its logit.
func TestAdaptEndToEnd(t *testing.T) {
	library := runtimePath(t)
	set := siteSet(t, 10)
	out := filepath.Join(t.TempDir(), "north")
	var stdout, stderr bytes.Buffer
	base := filepath.Join("..", "models", "resnet18-phantom")
	if code := run([]string{"adapt", set, "--model", base, "--out", out, "--onnxruntime", library, "--rounds", "100", "--even-if-worse", "--json"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	type figures struct {
		Slices struct {
			Classes []struct {
				Name string
				AUC  struct{ Value float64 }
			}
		}
	}
	var s struct {
		Model    struct{ Name, SHA256 string }
		Patients int
		Points   []manifest.OperatingPoint `json:"operating_points"`
		Before   figures
		After    figures `json:"after_out_of_fold"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	before, after := s.Before.Slices.Classes[infer.Subarachnoid], s.After.Slices.Classes[infer.Subarachnoid]
	if before.Name != "subarachnoid" || before.AUC.Value > 0.75 || after.AUC.Value < before.AUC.Value+0.1 {
		t.Errorf("%s: AUC %.3f before, %.3f after", before.Name, before.AUC.Value, after.AUC.Value)
	}

	m, err := manifest.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	from, _ := m.Provenance["adapted_from"].(map[string]any)
	old, err := manifest.Load(base)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "north" || s.Model.SHA256 != m.SHA256() || m.SHA256() == old.SHA256() || s.Patients != 20 ||
		from["name"] != old.Name || from["sha256"] != old.SHA256() || m.Provenance["patients"] != 20 || m.IntendedUse != old.IntendedUse {
		t.Errorf("%s\nprovenance %v", &stdout, m.Provenance)
	}
	if point, err := m.Point(""); err != nil || point.Name != adapt.DefaultGoal {
		t.Errorf("the default point is %v (%v)", point, err)
	}
	if !reflect.DeepEqual(m.OperatingPoints, s.Points) || len(s.Points) != len(adapt.Goals()) || s.Points[0].Expected == nil {
		t.Errorf("operating points\n%+v\nin the summary\n%+v", m.OperatingPoints, s.Points)
	}
	head, err := graph.FindHead(m.Model(), m.Outputs.Logits, m.Outputs.CAM)
	if err != nil {
		t.Fatal(err)
	}
	oldHead, err := graph.FindHead(old.Model(), old.Outputs.Logits, old.Outputs.CAM)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := head.Replace(m.Model(), oldHead.Weight, oldHead.Bias); err != nil || !bytes.Equal(back, old.Model()) {
		t.Errorf("the models differ in more than their heads (%v)", err)
	}
	for _, name := range []string{"MODEL_CARD.md", "adaptation.json"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkMaps(t, library, set, m, head)
}

// checkMaps sends the set through a model as the daemon would, and looks at some
// of its maps.
func checkMaps(t *testing.T, library, set string, m *manifest.Manifest, head *graph.Head) {
	t.Helper()
	rt, err := onnx.OpenRuntime(library, "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := ensemble.New("", m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.NewClassifier(rt, onnx.Options{Runners: 2, Maps: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	labels, err := labelled.ReadLabels(filepath.Join(set, "labels.csv"), m.Classes)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := labelled.Open(set, labels, labelled.Auto)
	if err != nil {
		t.Fatal(err)
	}
	x, err := opened.Examine(t.Context(), &triage.Examiner{Model: &triage.Model{Classifier: c, Rule: e.Rule()}, Calls: 2}, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, counts, _ := x.Data(e.Classes, e.Thresholds, e.StudyThreshold); counts.Classified < 150 || len(counts.Failed) > 0 {
		t.Errorf("%+v", counts)
	}
	looked := 0
	for i := 0; i < len(x.Results); i += 9 {
		if x.Results[i].Probabilities == nil {
			continue
		}
		img, err := x.Image(i)
		if err != nil {
			t.Fatal(err)
		}
		scores, activation, err := c.Explain(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		looked++
		for k, logit := range scores.Logits {
			mean := 0.0
			for _, v := range activation.Map(k) {
				mean += float64(v) / float64(activation.Rows*activation.Columns)
			}
			if math.Abs(mean+float64(head.Bias[k])-float64(logit)) > 1e-4 {
				t.Errorf("slice %d, %s: the map says %v, the logit is %v", i, m.Classes[k], mean+float64(head.Bias[k]), logit)
			}
		}
	}
	if looked < 10 {
		t.Errorf("%d maps were looked at", looked)
	}
}

// What would not fit into the memory is refused before the work.
func TestAdaptIsBounded(t *testing.T) {
	set := siteSet(t, 1)
	k := &known{dir: set, labels: filepath.Join(set, "labels.csv"), format: string(labelled.Auto), most: 20}
	if _, err := k.open(rootCommand(), infer.Classes()); err != nil {
		t.Error(err)
	}
	k.most--
	if _, err := k.open(rootCommand(), infer.Classes()); err == nil || !strings.Contains(err.Error(), "20 slices are more than the memory is meant for, 19 of") {
		t.Errorf("%v", err)
	}
}

// An adaptation that is stopped leaves nothing behind.
func TestAdaptStoppedLeavesNothing(t *testing.T) {
	library := runtimePath(t)
	set, parent := siteSet(t, 1), t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stopped by hand")
	cancel(why)
	root := rootCommand()
	root.SetArgs([]string{"adapt", set, "--out", filepath.Join(parent, "north"), "--onnxruntime", library})
	if err := root.ExecuteContext(ctx); !errors.Is(err, why) {
		t.Errorf("adapt: %v", err)
	}
	err := filepath.WalkDir(parent, func(path string, _ fs.DirEntry, err error) error {
		if path != parent {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
