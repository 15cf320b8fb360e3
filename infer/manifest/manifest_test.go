package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"ichwatch/infer"
	"ichwatch/infer/graph"
)

// tiny is a sound model folder.
const tiny = "../onnx/testdata/tiny"

// folder copies tiny with some lines of its manifest replaced.
func folder(tb testing.TB, replace ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	text, err := os.ReadFile(filepath.Join(tiny, FileName))
	if err != nil {
		tb.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !bytes.Contains(text, []byte(replace[i])) {
			tb.Fatalf("the manifest has no %q", replace[i])
		}
		text = bytes.ReplaceAll(text, []byte(replace[i]), []byte(replace[i+1]))
	}
	model, err := os.ReadFile(filepath.Join(tiny, "model.onnx"))
	if err != nil {
		tb.Fatal(err)
	}
	for name, b := range map[string][]byte{FileName: text, "model.onnx": model} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	m, err := Load(tiny)
	if err != nil {
		t.Fatal(err)
	}
	model, err := os.ReadFile(filepath.Join(tiny, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Model(), model) {
		t.Error("the model's bytes are not the file's")
	}
	text, err := os.ReadFile(filepath.Join(tiny, FileName))
	if err != nil {
		t.Fatal(err)
	}
	want := &Manifest{
		Schema: 1, Name: "tiny", Architecture: "test",
		File:          File{Name: "model.onnx", SHA256: m.SHA256()},
		Input:         Input{Name: "image", Height: 32, Width: 32},
		Windows:       []Window{{40, 80}, {80, 200}, {600, 2800}},
		Crop:          Crop{Threshold: -300, Margin: 0.06, MinimumArea: 0.04},
		Resample:      ResampleTriangle,
		Normalisation: Normalisation{Mean: []float64{0.5, 0.5, 0.5}, Std: []float64{0.25, 0.25, 0.25}},
		Outputs:       Outputs{Logits: "logits", CAM: "cam"},
		Classes:       infer.Classes(),
		Activation:    Softmax,
		DefaultPoint:  "half",
		OperatingPoints: []OperatingPoint{{Name: "half", Thresholds: map[infer.Class]float64{
			infer.Epidural: 0.5, infer.Subdural: 0.5, infer.Intraventricular: 0.5,
			infer.Intraparenchymal: 0.5, infer.Subarachnoid: 0.5,
		}}},
		StudyRule:   StudyRule{Kind: RuleAdjacent, Slices: 2, Of: 3, MinimumSlices: 8, MaximumGap: 15},
		Provenance:  map[string]any{"made_by": "make_models.py"},
		IntendedUse: "tests only, not for diagnosis",
		where:       filepath.Join(tiny, FileName),
		text:        text,
		model:       model,
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("Load gives\n%+v, want\n%+v", m, want)
	}
	if ref := m.Ref(); ref.Name != "tiny" || len(ref.SHA256) != 64 {
		t.Errorf("Ref gives %+v", ref)
	}
}

// points is what tiny has.
const points = `operating_points:
- name: half
  thresholds:
    epidural: 0.5
    subdural: 0.5
    intraventricular: 0.5
    intraparenchymal: 0.5
    subarachnoid: 0.5
`

// several are operating points, the second with what is expected of it.
const several = `operating_points:
- {name: half, thresholds: {epidural: 0.5, subdural: 0.5, intraventricular: 0.5, intraparenchymal: 0.5, subarachnoid: 0.5}}
- name: sensitive
  thresholds: {epidural: 0.2, subdural: 0.2, intraventricular: 0.2, intraparenchymal: 0.2, subarachnoid: 0.1}
  expected:
    protocol: five folds by patient
    slice:
      any: {sensitivity: [0.9, 0.85, 0.94], specificity: [0.8, 0.75, 0.84]}
      epidural: {sensitivity: [1, 0.6, 1], specificity: [0.99, 0.98, 1]}
    study: {sensitivity: [0.95, 0.86, 0.99], specificity: [0.75, 0.6, 0.87]}
`

func TestOperatingPoints(t *testing.T) {
	m, err := Load(folder(t, points, several))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"": 0.5, "half": 0.5, "sensitive": 0.1} {
		if o, err := m.Point(name); err != nil || o.Thresholds[infer.Subarachnoid] != want {
			t.Errorf("point %q: %+v, %v", name, o, err)
		}
	}
	o, err := m.Point("sensitive")
	if err != nil {
		t.Fatal(err)
	}
	want := &Expected{
		Protocol: "five folds by patient",
		Slice: map[Question]Figures{
			AnyHemorrhage: {Sensitivity: Figure{0.9, 0.85, 0.94}, Specificity: Figure{0.8, 0.75, 0.84}},
			"epidural":    {Sensitivity: Figure{1, 0.6, 1}, Specificity: Figure{0.99, 0.98, 1}},
		},
		Study: Figures{Sensitivity: Figure{0.95, 0.86, 0.99}, Specificity: Figure{0.75, 0.6, 0.87}},
	}
	if !reflect.DeepEqual(o.Expected, want) {
		t.Errorf("expected is\n%+v, want\n%+v", o.Expected, want)
	}
	_, err = m.Point("senstive")
	var unknown *UnknownPointError
	if !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	wantText := m.Where() + ` has no operating point "senstive"; it has half, sensitive`
	if got := err.Error(); got != wantText {
		t.Errorf("got  %s\nwant %s", got, wantText)
	}
}

// The rule of tiny, and one of the other kind with what it asks of points.
const (
	adjacent  = "study_rule: {kind: adjacent, slices: 2, of: 3, minimum_slices: 8, maximum_gap_mm: 15}"
	evidence  = "study_rule: {kind: evidence, power: 0.5, slice_mm: 5, head_mm: 150, minimum_slices: 8, maximum_gap_mm: 15}"
	threshold = "  study_threshold: 0.93\n"
)

func TestEvidenceRule(t *testing.T) {
	m, err := Load(folder(t, points, points+threshold, adjacent, evidence))
	if err != nil {
		t.Fatal(err)
	}
	if want := (StudyRule{Kind: RuleEvidence, Power: 0.5, SliceThickness: 5, HeadHeight: 150, MinimumSlices: 8, MaximumGap: 15}); m.StudyRule != want || m.OperatingPoints[0].StudyThreshold != 0.93 {
		t.Errorf("rule %+v, points %+v", m.StudyRule, m.OperatingPoints)
	}
	if got, want := m.StudyRule.String(), "positive where the evidence of any hemorrhage reaches the study threshold: the mean of the odds of all slices, to the power of 0.5, over 150 mm of head, a slice counting for 5 mm at most, however few slices there are; otherwise negative from 8 slices on without gaps above 15 mm, and not analysed with less"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	text, err := m.Adapted(Adaptation{Name: "north", SHA256: m.SHA256(), DefaultPoint: "a", Points: []OperatingPoint{{Name: "a", Thresholds: m.OperatingPoints[0].Thresholds, StudyThreshold: 0.87}}})
	if err != nil || !bytes.Contains(text, []byte("study_threshold: 0.87\n")) || !bytes.Contains(text, []byte(evidence)) {
		t.Errorf("adapted: %v\n%s", err, text)
	}
}

// What belongs to the other kind of rule is refused, and what its own asks for is
// asked for.
func TestEvidenceRuleRefuses(t *testing.T) {
	for _, c := range []struct {
		name, threshold, rule string
		key, says             string
	}{
		{"threshold missing", "", evidence, "operating_points[0].study_threshold", "is missing"},
		{"threshold of 0", "  study_threshold: 0\n", evidence, "operating_points[0].study_threshold", "is 0"},
		{"threshold of 1", "  study_threshold: 1\n", evidence, "operating_points[0].study_threshold", "is 1"},
		{"threshold no number", "  study_threshold: .nan\n", evidence, "operating_points[0].study_threshold", "is NaN"},
		{"threshold in words", "  study_threshold: high\n", evidence, "operating_points[0].study_threshold", "wanted is a number"},
		{"threshold of an adjacent rule", threshold, adjacent, "operating_points[0].study_threshold", "belongs to a study rule of kind evidence, this one is adjacent"},
		{"power missing", threshold, strings.Replace(evidence, "power: 0.5, ", "", 1), "study_rule.power", "is missing"},
		{"power of 0", threshold, strings.Replace(evidence, "power: 0.5", "power: 0", 1), "study_rule.power", "wanted is 0.1 to 4"},
		{"power of 5", threshold, strings.Replace(evidence, "power: 0.5", "power: 5", 1), "study_rule.power", "wanted is 0.1 to 4"},
		{"thickness missing", threshold, strings.Replace(evidence, "slice_mm: 5, ", "", 1), "study_rule.slice_mm", "is missing"},
		{"thickness of 0", threshold, strings.Replace(evidence, "slice_mm: 5", "slice_mm: 0", 1), "study_rule.slice_mm", "wanted is 0.1 to 100"},
		{"slices", threshold, strings.Replace(evidence, "power", "slices: 2, power", 1), "study_rule.slices", "does not belong to a study rule of kind evidence"},
		{"neighbours", threshold, strings.Replace(evidence, "power", "of: 3, power", 1), "study_rule.of", "does not belong to a study rule of kind evidence"},
		{"no minimum", threshold, strings.Replace(evidence, "minimum_slices: 8, ", "", 1), "study_rule.minimum_slices", "is missing"},
		{"power of an adjacent rule", "", strings.Replace(adjacent, "slices: 2", "power: 0.5, slices: 2", 1), "study_rule.power", "does not belong to a study rule of kind adjacent"},
		{"height missing", threshold, strings.Replace(evidence, "head_mm: 150, ", "", 1), "study_rule.head_mm", "is missing"},
		{"height of an adjacent rule", "", strings.Replace(adjacent, "slices: 2", "head_mm: 5, slices: 2", 1), "study_rule.head_mm", "does not belong to a study rule of kind adjacent"},
		{"thickness of an adjacent rule", "", strings.Replace(adjacent, "slices: 2", "slice_mm: 5, slices: 2", 1), "study_rule.slice_mm", "does not belong to a study rule of kind adjacent"},
		{"no kind", "", strings.Replace(adjacent, "kind: adjacent, ", "", 1), "study_rule.kind", "is missing, known is adjacent or evidence"},
	} {
		_, err := Load(folder(t, points, points+c.threshold, adjacent, c.rule))
		var invalid *InvalidError
		if !errors.As(err, &invalid) || len(invalid.Problems) != 1 || invalid.Problems[0].Key != c.key || !strings.Contains(invalid.Problems[0].Text, c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestLoadFS(t *testing.T) {
	m, err := LoadFS(os.DirFS(tiny), "embedded")
	if err != nil || m.Name != "tiny" {
		t.Errorf("LoadFS: %v, %v", m, err)
	}
	_, err = LoadFS(fstest.MapFS{FileName: {Data: []byte("schema: 3")}}, "embedded")
	if err == nil || !strings.HasPrefix(err.Error(), filepath.Join("embedded", FileName)+":1: schema: ") {
		t.Errorf("LoadFS: %v", err)
	}
}

// Each mistake is named with its key and line.
func TestLoadRefuses(t *testing.T) {
	const expected = "operating_points[0].expected"
	for _, c := range []struct {
		name, old, new string
		key            string
		line           int
		says           string
	}{
		{"unknown schema", "schema: 1", "schema: 2", "schema", 1, "is 2, this release reads 1"},
		{"schema as text", "schema: 1", "schema: one", "schema", 1, "a whole number"},
		{"no schema", "schema: 1\n", "", "schema", 0, "is 0"},
		{"unknown key", "name: tiny", "name: tiny\nnmae: tiny", "nmae", 3, "is not known"},
		{"unknown inner key", "height: 32", "heigth: 32", "input.heigth", 7, "is not known; known are name, height, width"},
		{"key twice", "name: tiny", "name: tiny\nname: two", "name", 3, "is there twice, first in line 2"},
		{"empty name", "name: tiny", "name: ''", "name", 2, "is missing"},
		{"number for a name", "name: tiny", "name: 5", "name", 2, "wanted is text"},
		{"alias", "name: tiny", "name: &a tiny\nintended_use: *a", "intended_use", 3, "is an alias"},
		{"list for a mapping", "input: {name: image, height: 32, width: 32}", "input: [1]", "input", 7, "is to be a mapping"},
		{"list twice", "classes: [normal", "windows: {}\nclasses: [normal", "windows", 13, "is there twice"},
		{"one for a list", "std: [0.25, 0.25, 0.25]", "std: 0.25", "normalisation.std", 11, "is to be a list"},
		{"model elsewhere", "file: model.onnx", "file: ../model.onnx", "model.file", 5, "beside the manifest"},
		{"model hidden", "file: model.onnx", "file: .model.onnx", "model.file", 5, "beside the manifest"},
		{"model missing", "file: model.onnx", "file: other.onnx", "model.file", 5, "no such file"},
		{"hash not hex", "sha256: ", "sha256: x", "model.sha256", 6, "64 digits"},
		{"another hash", "sha256: 18", "sha256: 19", "model.sha256", 6, "damaged or another model"},
		{"height of nothing", "height: 32", "height: 0", "input.height", 7, "wanted is 16 to 1024"},
		{"height left out", "height: 32, ", "", "input.height", 7, "is missing"},
		{"height huge", "height: 32", "height: 100000", "input.height", 7, "wanted is 16 to 1024"},
		{"height fractional", "height: 32", "height: 32.5", "input.height", 7, "a whole number"},
		{"no windows", "windows: [{centre: 40, width: 80}, {centre: 80, width: 200}, {centre: 600, width: 2800}]", "windows: []", "windows", 8, "wanted are 1 to 8"},
		{"window of no width", "width: 200", "width: 0", "windows[1].width", 8, "is 0"},
		{"window of negative width", "width: 200", "width: -200", "windows[1].width", 8, "is -200"},
		{"window not a number", "centre: 80", "centre: .nan", "windows[1].centre", 8, "is NaN"},
		{"margin", "margin: 0.06", "margin: 6", "crop.margin", 9, "wanted is 0 to 1"},
		{"area", "minimum_area: 0.04", "minimum_area: -1", "crop.minimum_area", 9, "wanted is 0 to 0.9"},
		{"threshold left out", "threshold: -300, ", "", "crop.threshold", 9, "is missing"},
		{"filter", "resample: triangle", "resample: cubic", "resample", 10, "known is triangle"},
		{"filter left out", "resample: triangle\n", "", "resample", 0, "is missing"},
		{"two means", "mean: [0.5, 0.5, 0.5]", "mean: [0.5, 0.5]", "normalisation.mean", 11, "one for each of 3 windows"},
		{"std of nothing", "std: [0.25, 0.25, 0.25]", "std: [0.25, 0, 0.25]", "normalisation.std[1]", 11, "is 0"},
		{"std infinite", "std: [0.25, 0.25, 0.25]", "std: [0.25, .inf, 0.25]", "normalisation.std[1]", 11, "is +Inf"},
		{"unknown class", "[normal, epidural", "[normal, extradural", "classes[1]", 13, `class "extradural" is not known`},
		{"class twice", "[normal, epidural", "[normal, subdural", "classes[2]", 13, "subdural is there twice"},
		{"no normal", "[normal, ", "[", "classes", 13, "normal is missing"},
		{"activation", "activation: softmax", "activation: relu", "activation", 14, "known is softmax or sigmoid"},
		{"usual", "activation: softmax", "activation: softmax\nusual: {tissue_hu: {mean: 30, sd: 0}}", "usual.tissue_hu.sd", 15, "wanted is 0.001 to 200"},
		{"usual rate", "activation: softmax", "activation: softmax\nusual: {positive_rate: [0.2, 0.1]}", "usual.positive_rate", 15, "the lower first"},
		{"precision", "activation: softmax", "activation: softmax\nprecisions: [fp16, fp8]", "precisions[1]", 15, "known is fp16 or int8"},
		{"thresholds at the top", "activation: softmax", "activation: softmax\nthresholds: {epidural: 0.5}", "thresholds", 15, "is not known"},
		{"no points", points, "operating_points: []\n", "operating_points", 16, "wanted is at least one"},
		{"points left out", points, "", "operating_points", 0, "wanted is at least one"},
		{"no default", "operating_point: half\n", "", "operating_point", 0, "is missing"},
		{"another default", "operating_point: half", "operating_point: balanced", "operating_point", 15, `is "balanced", there are half`},
		{"point without a name", "- name: half\n  thr", "- thr", "operating_points[0].name", 17, "is missing"},
		{"point of two words", "name: half", "name: half way", "operating_points[0].name", 17, `is "half way", wanted are 1 to 32`},
		{"point twice", "study_rule:", "- {name: half, thresholds: {}}\nstudy_rule:", "operating_points[1].name", 24, "half is there twice"},
		{"point without thresholds", "study_rule:", "- {name: other}\nstudy_rule:", "operating_points[1].thresholds.subdural", 24, "is missing"},
		{"threshold missing", "    epidural: 0.5\n", "", "operating_points[0].thresholds.epidural", 18, "is missing"},
		{"threshold of 0", "epidural: 0.5", "epidural: 0", "operating_points[0].thresholds.epidural", 19, "is 0"},
		{"threshold of 1", "epidural: 0.5", "epidural: 1.0", "operating_points[0].thresholds.epidural", 19, "is 1"},
		{"threshold not a number", "epidural: 0.5", "epidural: .nan", "operating_points[0].thresholds.epidural", 19, "is NaN"},
		{"threshold of normal", "    epidural: 0.5", "    normal: 0.5\n    epidural: 0.5", "operating_points[0].thresholds.normal", 19, "never found"},
		{"threshold of nothing known", "    epidural: 0.5", "    edh: 0.5\n    epidural: 0.5", "operating_points[0].thresholds.edh", 19, "not known"},
		{"expected of nothing", "study_rule:", "  expected:\nstudy_rule:", expected, 24, "is to be a mapping"},
		{"expected of no studies", "study_rule:", "  expected: {protocol: p}\nstudy_rule:", expected + ".study.sensitivity", 24, "is missing"},
		{"expected by nothing", "study_rule:", "  expected: {study: {}}\nstudy_rule:", expected + ".protocol", 24, "is missing"},
		{"expected at length", "study_rule:", "  expected: {protocol: \"a\\nb\"}\nstudy_rule:", expected + ".protocol", 24, "several lines"},
		{"expected of a class", "study_rule:", "  expected: {slice: {normal: {}}}\nstudy_rule:", expected + ".slice.normal", 24, "never found"},
		{"expected of a stranger", "study_rule:", "  expected: {slice: {edh: {}}}\nstudy_rule:", expected + ".slice.edh", 24, "not known"},
		{"figure alone", "study_rule:", "  expected: {study: {sensitivity: 0.9}}\nstudy_rule:", expected + ".study.sensitivity", 24, "a list of 3"},
		{"figure of two", "study_rule:", "  expected: {study: {sensitivity: [0.9, 0.8]}}\nstudy_rule:", expected + ".study.sensitivity", 24, "a list of 3"},
		{"figure in words", "study_rule:", "  expected: {study: {sensitivity: [0.9, 0.8, high]}}\nstudy_rule:", expected + ".study.sensitivity[2]", 24, "wanted is a number"},
		{"figure outside its interval", "study_rule:", "  expected: {study: {sensitivity: [0.7, 0.8, 0.9]}}\nstudy_rule:", expected + ".study.sensitivity", 24, "is [0.7 0.8 0.9]"},
		{"figure above one", "study_rule:", "  expected: {slice: {any: {specificity: [0.9, 0.8, 90]}}}\nstudy_rule:", expected + ".slice.any.specificity", 24, "within 0 to 1"},
		{"figure no number", "study_rule:", "  expected: {slice: {any: {specificity: [.nan, 0, 1]}}}\nstudy_rule:", expected + ".slice.any.specificity", 24, "is [NaN 0 1]"},
		{"rule", "kind: adjacent", "kind: any", "study_rule.kind", 24, "known is adjacent"},
		{"rule that cannot be met", "slices: 2, of: 3", "slices: 4, of: 3", "study_rule.of", 24, "fewer than the 4 slices"},
		{"rule without slices", "slices: 2, of", "of", "study_rule.slices", 24, "is missing"},
		{"gap of nothing", "maximum_gap_mm: 15", "maximum_gap_mm: 0", "study_rule.maximum_gap_mm", 24, "is 0"},
		{"no use", "intended_use: tests only, not for diagnosis", "", "intended_use", 0, "is missing"},
		{"provenance", "{made_by: make_models.py}", "text", "provenance", 25, "is to be a mapping"},
		{"another input", "name: image", "name: input", "input.name", 7, `the model has ["image"]`},
		{"another size", "height: 32", "height: 64", "input.name", 7, "has shape [-1 3 32 32] in the model, the manifest wants [-1 3 64 32]"},
		{"another output", "logits: logits", "logits: scores", "outputs.logits", 12, `the model has ["logits" "cam"]`},
		{"maps for logits", "logits: logits, cam: cam", "logits: cam", "outputs.logits", 12, "has shape"},
		{"logits for maps", "cam: cam", "cam: logits", "outputs.cam", 12, "the same output"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.old, c.new)
			m, err := Load(dir)
			var invalid *InvalidError
			if m != nil || !errors.As(err, &invalid) {
				t.Fatalf("Load: %v, %v", m, err)
			}
			for _, p := range invalid.Problems {
				if p.Key == c.key && p.Line == c.line && strings.Contains(p.Text, c.says) {
					at := filepath.Join(dir, FileName)
					if c.line > 0 {
						at += fmt.Sprintf(":%d", c.line)
					}
					if want := at + ": " + c.key + ": "; !strings.Contains(err.Error(), want) {
						t.Errorf("the error does not name %q:\n%v", want, err)
					}
					return
				}
			}
			t.Errorf("no problem of %s in line %d that says %q in:\n%v", c.key, c.line, c.says, err)
		})
	}
}

func TestLoadGivesEveryProblemAtOnce(t *testing.T) {
	_, err := Load(folder(t,
		"name: tiny", "name: ''",
		"sha256: 18", "sha256: 19",
		"width: 200", "width: wide",
		"epidural: 0.5", "epidural: 7",
		"slices: 2", "slice: 2"))
	want := []string{"name", "model.sha256", "windows[1].width", "operating_points[0].thresholds.epidural", "study_rule.slice", "study_rule.slices"}
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	var got []string
	for _, p := range invalid.Problems {
		got = append(got, p.Key)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("problems with %q, want %q:\n%v", got, want, err)
	}
}

func TestLoadRefusesFolders(t *testing.T) {
	write := func(name, text string) string {
		dir := folder(t)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	linked := folder(t)
	if err := errors.Join(os.Remove(filepath.Join(linked, "model.onnx")), os.Symlink("/etc/hostname", filepath.Join(linked, "model.onnx"))); err != nil {
		t.Fatal(err)
	}
	piped := folder(t)
	if err := errors.Join(os.Remove(filepath.Join(piped, "model.onnx")), os.Mkdir(filepath.Join(piped, "model.onnx"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir, says string
		is              error
	}{
		{"no folder", filepath.Join(t.TempDir(), "none"), "open model folder", fs.ErrNotExist},
		{"no manifest", t.TempDir(), "a model folder?", fs.ErrNotExist},
		{"empty manifest", write(FileName, ""), "is empty", nil},
		{"only comments", write(FileName, "# nothing\n"), "is empty", nil},
		{"no keys", write(FileName, "{}\n"), "is empty", nil},
		{"not YAML", write(FileName, "a: [\n"), "is not YAML", nil},
		{"a list", write(FileName, "- 1\n"), "is to be a mapping", nil},
		{"two documents", write(FileName, "schema: 1\n---\nschema: 1\n"), "more than one YAML document", nil},
		{"manifest too large", write(FileName, strings.Repeat("#", maxManifest+1)), "larger than", errTooLarge},
		{"model leads out of the folder", linked, "model.file", nil},
		{"model is a folder", piped, "no regular file", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Load(c.dir)
			if err == nil || m != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Load: %v", err)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("Load: %v is not %v", err, c.is)
			}
		})
	}
}

// A model is refused where its weights, at any depth, lie outside the bytes that
// were hashed.
func TestLoadRefusesExternalData(t *testing.T) {
	for _, name := range []string{"external", "external_in_subgraph"} {
		_, err := Load(filepath.Join("testdata", name))
		if err == nil || !strings.Contains(err.Error(), graph.ErrExternalData.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func pointNames(points []OperatingPoint) (names []string) {
	for _, o := range points {
		names = append(names, o.Name)
	}
	return names
}

// FuzzDecode: a manifest is read without panic and, where it is accepted, with
// values that the rest can rely on.
func FuzzDecode(f *testing.F) {
	text, err := os.ReadFile(filepath.Join(tiny, FileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("{}"))
	f.Add([]byte("schema: 1\nname: {a: *b}\n"))
	f.Add([]byte("schema: 1\nclasses: [normal, [], {}]\noperating_points: [{thresholds: {? [1] : 2}, expected: {slice: {any: [1]}}}]\n"))
	f.Add(bytes.Replace(text, []byte(points), []byte(several), 1))
	f.Add(bytes.Replace(bytes.Replace(text, []byte(points), []byte(points+threshold), 1), []byte(adjacent), []byte(evidence), 1))
	f.Add([]byte("schema: 1\nprovenance: &a {b: *a}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var m Manifest
		p := decode(text, &m)
		if !p.validate(&m) || len(p.list) > 0 {
			if len(p.list) == 0 {
				t.Fatal("refused without a reason")
			}
			return
		}
		if len(m.Windows) == 0 || len(m.Windows) != len(m.Normalisation.Mean) || len(m.Windows) != len(m.Normalisation.Std) {
			t.Fatalf("windows and normalisation do not fit: %+v", m)
		}
		for _, name := range append(pointNames(m.OperatingPoints), "") {
			o, err := m.Point(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range m.Classes {
				if th := o.Thresholds[c]; c.Hemorrhage() && !(th > 0 && th < 1) {
					t.Fatalf("%s has threshold %v", c, th)
				}
			}
			if th := o.StudyThreshold; (m.StudyRule.Kind == RuleEvidence) != (th > 0 && th < 1) {
				t.Fatalf("studies have threshold %v", th)
			}
		}
		r := m.StudyRule
		sound := r.MinimumSlices >= 1 && r.MaximumGap > 0
		if r.Kind == RuleEvidence {
			sound = sound && r.Power > 0 && r.SliceThickness > 0 && r.HeadHeight > 0 && r.Slices == 0 && r.Of == 0
		} else {
			sound = sound && r.Slices >= 1 && r.Of >= r.Slices && r.Power == 0 && r.SliceThickness == 0 && r.HeadHeight == 0
		}
		if !sound {
			t.Fatalf("rule %+v", r)
		}
	})
}
