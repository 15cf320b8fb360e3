package manifest

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ichwatch/infer"
)

// An adapted manifest is the old one, line by line, but for what an adaptation
// changes.
func TestAdapted(t *testing.T) {
	const added = `
# a key of a later release
later:
  inner: [1, 2] # stays
`
	dir := folder(t)
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.text = append(bytes.Replace(m.text, []byte(points), []byte(several), 1), added...) // Load would refuse the key, another release's would not
	text, err := m.Adapted(Adaptation{
		Name: "north", SHA256: strings.Repeat("ab", 32), DefaultPoint: "site",
		Points: []OperatingPoint{
			{Name: "site", Thresholds: map[infer.Class]float64{infer.Epidural: 0.28, infer.Subdural: 0.2}},
			{Name: "calm", Thresholds: map[infer.Class]float64{infer.Epidural: 0.5}, Expected: &Expected{
				Protocol: "a test", Study: Figures{Figure{0.9, 0.8, 1}, Figure{0.7, 0.6, 0.75}},
			}},
		},
		Provenance: map[string]any{"patients": 41, "adapted_at": "2026-02-03T04:05:06Z"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(
		"name: tiny", "name: north",
		m.SHA256(), strings.Repeat("ab", 32),
		"operating_point: half", "operating_point: site",
		several, `operating_points:
  - name: site
    thresholds: {epidural: 0.28, subdural: 0.2}
  - name: calm
    thresholds: {epidural: 0.5}
    expected:
      protocol: a test
      slice: {}
      study:
        sensitivity: [0.9, 0.8, 1]
        specificity: [0.7, 0.6, 0.75]
`,
		"provenance: {made_by: make_models.py}", `provenance:
  adapted_at: "2026-02-03T04:05:06Z"
  adapted_from:
    name: tiny
    provenance: {made_by: make_models.py}
    sha256: `+m.SHA256()+`
  patients: 41`,
	).Replace(string(m.text))
	lines := func(text string) string { // the encoder has its own blank ones
		return strings.TrimSpace(strings.ReplaceAll(text, "\n\n", "\n"))
	}
	if got, want := lines(strings.TrimPrefix(string(text), adaptedComment)), lines(want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What comes out is a manifest that loads, and can be adapted again.
func TestAdaptedLoads(t *testing.T) {
	m, err := Load("../../models/resnet18-phantom")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "second"} {
		thresholds := maps.Clone(m.OperatingPoints[0].Thresholds)
		thresholds[infer.Epidural] /= 2
		text, err := m.Adapted(Adaptation{Name: name, SHA256: m.SHA256(), DefaultPoint: name, Points: []OperatingPoint{{Name: name, Thresholds: thresholds}}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string][]byte{FileName: text, m.File.Name: m.Model()} {
			if err := f.Write(file, content); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		before := m
		if m, err = Load(f.path); err != nil {
			t.Fatal(err)
		}
		from, _ := m.Provenance["adapted_from"].(map[string]any)
		point, err := m.Point("")
		if err != nil {
			t.Fatal(err)
		}
		if m.Name != name || len(m.OperatingPoints) != 1 || point.Name != name || point.Expected != nil || !maps.Equal(point.Thresholds, thresholds) || from["name"] != before.Name || from["provenance"] == nil {
			t.Errorf("%s: %+v", name, m)
		}
		if !strings.HasPrefix(string(m.text), adaptedComment+"\n") || strings.Contains(string(m.text), "ichtrain") {
			t.Errorf("another comment stands above:\n%.300s", m.text)
		}
	}
}

func TestFolder(t *testing.T) {
	parent := t.TempDir()
	at := filepath.Join(parent, "model")
	entries := func() int {
		t.Helper()
		list, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	make := func() *Folder {
		t.Helper()
		f, err := Create(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Write("model.onnx", []byte("weights")); err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := make()
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there before it is whole: %v", err)
	}
	if err := f.Write("model.onnx", nil); err == nil {
		t.Error("a file was written twice")
	}
	if err := f.Discard(); err != nil || entries() != 0 {
		t.Errorf("%d entries are left (%v)", entries(), err)
	}
	f, late := make(), make()
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := f.Discard(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(at, "model.onnx")); err != nil || string(text) != "weights" {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if err := late.Commit(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second folder took the place of the first: %v", err)
	}
	if err := late.Discard(); err != nil || entries() != 1 {
		t.Errorf("%d entries are left (%v)", entries(), err)
	}
	if _, err := Create(at); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "name a new folder") {
		t.Errorf("Create over a folder: %v", err)
	}
	if _, err := Create(filepath.Join(parent, "no", "model")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in a folder that is not there: %v", err)
	}
}
