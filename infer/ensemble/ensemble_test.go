package ensemble

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
	"ichwatch/infer/study"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load copies a model of infer/onnx's tests under another name and with some
// lines of its manifest replaced. The copy computes the same and has a hash of its
// own.
func load(tb testing.TB, from, name string, replace ...string) *manifest.Manifest {
	tb.Helper()
	source, dir := filepath.Join("..", "onnx", "testdata", from), filepath.Join(tb.TempDir(), name)
	text, err := os.ReadFile(filepath.Join(source, manifest.FileName))
	if err != nil {
		tb.Fatal(err)
	}
	model, err := os.ReadFile(filepath.Join(source, "model.onnx"))
	if err != nil {
		tb.Fatal(err)
	}
	model = append(model, 6<<3|2, byte(len(name))) // ModelProto.doc_string
	model = append(model, name...)
	sum := sha256.Sum256(model)
	text = regexp.MustCompile(`sha256: \w+`).ReplaceAll(text, []byte("sha256: "+hex.EncodeToString(sum[:])))
	text = bytes.Replace(text, []byte("name: "+from), []byte("name: "+name), 1)
	for i := 0; i < len(replace); i += 2 {
		if !bytes.Contains(text, []byte(replace[i])) {
			tb.Fatalf("the manifest has no %q", replace[i])
		}
		text = bytes.ReplaceAll(text, []byte(replace[i]), []byte(replace[i+1]))
	}
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, manifest.FileName), text, 0o600), os.WriteFile(filepath.Join(dir, "model.onnx"), model, 0o600)); err != nil {
		tb.Fatal(err)
	}
	m, err := manifest.Load(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// turned lists the classes the other way round, under a sigmoid and with a
// narrower view, and has another operating point.
var turned = []string{
	"[normal, epidural, subdural, intraventricular, intraparenchymal, subarachnoid]",
	"[subarachnoid, intraparenchymal, intraventricular, subdural, epidural, normal]",
	"activation: softmax", "activation: sigmoid",
	"margin: 0.06", "margin: 0",
	"epidural: 0.5", "epidural: 0.2",
	"study_rule:", "- {name: sensitive, thresholds: {epidural: 0.1, subdural: 0.1, intraventricular: 0.1, intraparenchymal: 0.1, subarachnoid: 0.1}}\nstudy_rule:",
}

func open(tb testing.TB) *onnx.Runtime {
	tb.Helper()
	path := os.Getenv("ICHWATCH_ONNXRUNTIME")
	if path == "" || filepath.Ext(path) == ".tgz" {
		path = filepath.Join("..", "..", "bin", "libonnxruntime.so.1")
	}
	if _, err := os.Stat(path); err != nil {
		const how = "ONNX Runtime is missing: make runtime"
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			tb.Fatal(how)
		}
		tb.Skip(how)
	}
	r, err := onnx.OpenRuntime(path, "")
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func classifier(tb testing.TB, o onnx.Options, members ...*manifest.Manifest) *Classifier {
	tb.Helper()
	e, err := New("half", members...)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := e.NewClassifier(open(tb), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// head is a disc of one density in air: large enough to be a head.
func head(hu int16) *infer.Image {
	img := &infer.Image{Rows: 100, Columns: 100, HU: slices.Repeat([]int16{-1000}, 100*100)}
	for i := range img.HU {
		if y, x := i/100-50, i%100-48; y*y+x*x < 40*40 {
			img.HU[i] = hu
		}
	}
	return img
}

func TestNew(t *testing.T) {
	a, b := load(t, "tiny", "a"), load(t, "tiny", "b", turned...)
	e, err := New("", a, b)
	if err != nil {
		t.Fatal(err)
	}
	if e.Point != "half" || !slices.Equal(e.Classes, a.Classes) || e.StudyRule != a.StudyRule || e.Expected() != nil {
		t.Errorf("%+v", e)
	}
	if !slices.Equal(e.Models(), infer.Models{a.Ref(), b.Ref()}) || !strings.Contains(e.Models().String(), "a@") || !strings.Contains(e.Models().String(), " + b@") {
		t.Errorf("models %v", e.Models())
	}
	// logit(0.5) is 0, logit(0.2) is -log(4): the mean is -log(2), which is 1/3.
	if got := e.Thresholds[infer.Epidural]; math.Abs(got-1.0/3) > 1e-12 || e.Thresholds[infer.Subdural] != 0.5 || len(e.Thresholds) != 5 {
		t.Errorf("thresholds %v", e.Thresholds)
	}
	if lines := e.Describe(); len(lines) != 2 || !strings.HasPrefix(lines[1], "b@") || !strings.HasSuffix(lines[1], ", operating point half: expected figures are not stated") {
		t.Errorf("described as %q", lines)
	}
	alone, err := New("sensitive", b)
	if err != nil || alone.Point != "sensitive" || alone.Thresholds[infer.Epidural] != 0.1 || len(alone.Describe()) != 1 {
		t.Errorf("alone: %+v, %v", alone, err)
	}
}

// weighed has a study rule of kind evidence; the model's points are replaced, each by
// one with this threshold of studies.
func weighed(threshold, power string) []string {
	return []string{
		"  thresholds:\n", "  study_threshold: " + threshold + "\n  thresholds:\n",
		"{kind: adjacent, slices: 2, of: 3,", "{kind: evidence, power: " + power + ", slice_mm: 5, head_mm: 5,",
	}
}

// Thresholds of studies are averaged as those of classes are.
func TestNewWithAThresholdOfStudies(t *testing.T) {
	a, b := load(t, "tiny", "a", weighed("0.9", "0.5")...), load(t, "tiny", "b", weighed("0.8", "0.5")...)
	e, err := New("", a, b)
	if err != nil {
		t.Fatal(err)
	}
	// Odds of 9 and 4: the root of 36 is 6.
	if math.Abs(e.StudyThreshold-6.0/7) > 1e-12 || e.Expected() != nil {
		t.Errorf("threshold %v", e.StudyThreshold)
	}
	p := []float32{0.5, 0.5, 0, 0, 0, 0}
	var stack []study.SliceEvidence
	for i := range 8 {
		stack = append(stack, study.SliceEvidence{Position: 5 * float64(i), Probabilities: p})
	}
	// n slices at odds of 1 amount to odds of n*n: 4 of two, 9 of three.
	if two, three := e.Rule().Evaluate(stack[:2]), e.Rule().Evaluate(stack[:3]); two.Positive() || !three.Positive() {
		t.Errorf("%s; %s", two.Reason, three.Reason)
	}
	if alone, err := New("", b); err != nil || alone.StudyThreshold != 0.8 {
		t.Errorf("alone: %+v, %v", alone, err)
	}
	if other, err := New("", a, load(t, "tiny", "c", weighed("0.9", "1")...)); err == nil || !strings.Contains(err.Error(), "to the power of 0.5") || !strings.Contains(err.Error(), "to the power of 1") {
		t.Errorf("rules of different powers: %+v, %v", other, err)
	}
	if other, err := New("", a, load(t, "tiny", "d")); err == nil || !strings.Contains(err.Error(), "2 of 3 neighbouring") {
		t.Errorf("rules of different kinds: %+v, %v", other, err)
	}
}

// What does not fit is refused, with the names of both files.
func TestNewRefuses(t *testing.T) {
	a := load(t, "tiny", "a")
	for name, c := range map[string]struct {
		point   string
		members []*manifest.Manifest
		says    string
		pointed bool // it is about the operating point
		both    bool // it names the first file and the last
	}{
		"nothing":       {"", nil, "no model", false, false},
		"classes":       {"", []*manifest.Manifest{a, load(t, "hidden", "b", "normal, epidural, subdural", "normal, subdural", "    epidural: 0.5\n", "")}, "their classes are normal, epidural, subdural", false, true},
		"rule":          {"", []*manifest.Manifest{a, load(t, "tiny", "b", "slices: 2, of: 3", "slices: 3, of: 3")}, `their study rules are "positive where at least 2 of 3 neigh`, false, true},
		"third differs": {"", []*manifest.Manifest{load(t, "tiny", "c"), a, load(t, "tiny", "b", "maximum_gap_mm: 15", "maximum_gap_mm: 10")}, "gaps above 10 mm", false, true},
		"twice":         {"", []*manifest.Manifest{load(t, "tiny", "a"), load(t, "tiny", "b"), a}, "are the same model", false, true},
		"point of none": {"specific", []*manifest.Manifest{a}, `has no operating point "specific"; it has half`, true, true},
		"point of one":  {"sensitive", []*manifest.Manifest{load(t, "tiny", "b", turned...), a}, `a/manifest.yaml has no operating point "sensitive"`, true, false},
		"defaults":      {"", []*manifest.Manifest{a, load(t, "tiny", "b", "half", "other")}, "a/manifest.yaml has half, ", true, true},
	} {
		e, err := New(c.point, c.members...)
		if e != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
			continue
		}
		var unknown *manifest.UnknownPointError
		if pointed := errors.As(err, &unknown) || errors.Is(err, ErrNoCommonPoint); pointed != c.pointed {
			t.Errorf("%s: about the operating point: %t", name, pointed)
		}
		if !c.both {
			continue
		}
		for _, m := range []*manifest.Manifest{c.members[0], c.members[len(c.members)-1]} {
			if !strings.Contains(err.Error(), m.Where()) {
				t.Errorf("%s: %s is not named in: %v", name, m.Where(), err)
			}
		}
	}
}

// The mean of the margins and the ensemble's own probability and threshold decide
// alike, as the study rule compares them.
func TestOneDecisionInTwoTerms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 5).Draw(t, "members")
		c, sum, thresholds := &Classifier{}, 0.0, 0.0
		var answers []infer.Scores
		for range n {
			p := rapid.Float32Range(0, 1).Draw(t, "p")
			threshold := rapid.Float64Range(0.01, 0.99).Draw(t, "threshold")
			c.members = append(c.members, member{at: []int{0}})
			answers = append(answers, infer.Scores{Probabilities: []float32{p}})
			sum += infer.LogOdds(float64(p)) - infer.LogOdds(threshold)
			thresholds += infer.LogOdds(threshold)
		}
		got := c.together(answers).Probabilities[0]
		if !(got >= 0 && got <= 1) {
			t.Fatalf("probability %v", got)
		}
		if margin := sum / float64(n); math.Abs(margin) > 1e-4 && (got >= float32(infer.Probability(thresholds/float64(n)))) != (margin >= 0) {
			t.Fatalf("the margins' mean is %v, the probability %v", margin, got)
		}
	})
}

func TestClassify(t *testing.T) {
	a, b := load(t, "tiny", "a"), load(t, "tiny", "b", turned...)
	c := classifier(t, onnx.Options{Runners: 2}, a, b)
	if c.Provider() != "cpu" || !slices.Equal(c.Models(), infer.Models{a.Ref(), b.Ref()}) {
		t.Errorf("%v on %s", c.Models(), c.Provider())
	}
	for _, hu := range []int16{20, 40, 75} {
		var each [2]infer.Scores
		for i, m := range []*manifest.Manifest{a, b} {
			var err error
			if each[i], err = classifier(t, onnx.Options{Runners: 1}, m).Classify(t.Context(), head(hu)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := c.Classify(t.Context(), head(hu))
		if err != nil {
			t.Fatal(err)
		}
		for k := range 6 {
			p, q := float64(each[0].Probabilities[k]), float64(each[1].Probabilities[5-k])
			want := math.Sqrt(p*q) / (math.Sqrt(p*q) + math.Sqrt((1-p)*(1-q)))
			if math.Abs(float64(got.Probabilities[k])-want) > 1e-5 {
				t.Errorf("%d HU, %v: %v of %v and %v, want %v", hu, infer.Class(k), got.Probabilities[k], p, q, want)
			}
			if back := infer.Probability(float64(got.Logits[k])); math.Abs(back-want) > 1e-5 {
				t.Errorf("%d HU, %v: log-odds %v are not those of %v", hu, infer.Class(k), got.Logits[k], want)
			}
		}
	}
}

func TestOneAloneAnswersAsItself(t *testing.T) {
	m := load(t, "tiny", "a")
	alone := classifier(t, onnx.Options{Runners: 1, Maps: true}, m)
	c, err := open(t).NewClassifier(m, onnx.Options{Runners: 1, Maps: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want, wantMaps, err := c.Explain(t.Context(), head(60))
	if err != nil {
		t.Fatal(err)
	}
	for _, explain := range []bool{true, false} {
		got, err := alone.Classify(t.Context(), head(60))
		var maps *onnx.Maps
		if explain {
			got, maps, err = alone.Explain(t.Context(), head(60))
			if err != nil || !slices.Equal(maps.Values, wantMaps.Values) || maps.Square != wantMaps.Square {
				t.Errorf("maps differ; %v", err)
			}
		}
		if err != nil || !slices.Equal(got.Logits, want.Logits) || !slices.Equal(got.Probabilities, want.Probabilities) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
}

// A member that does not load leaves nothing; one that fails on a slice fails the
// slice.
func TestNoHalfAnEnsemble(t *testing.T) {
	tiny := load(t, "tiny", "a")
	e, err := New("", tiny, load(t, "hidden", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := e.NewClassifier(open(t), onnx.Options{Runners: 1}); c != nil || err == nil || !strings.Contains(err.Error(), "b@") {
		t.Errorf("%v, %v", c, err)
	}
	c := classifier(t, onnx.Options{Runners: 1, Maps: true}, tiny, load(t, "nan", "c"))
	if _, err := c.Classify(t.Context(), head(-100)); !errors.Is(err, onnx.ErrNotFinite) || !strings.Contains(err.Error(), "c@") {
		t.Errorf("one member's answer is no number: %v", err)
	}
	if _, err := c.Classify(t.Context(), head(3000)); err != nil {
		t.Errorf("a slice that both can judge: %v", err)
	}
	if _, _, err := c.Explain(t.Context(), head(3000)); !errors.Is(err, onnx.ErrNoMaps) {
		t.Errorf("one member has no maps: %v", err)
	}
	if err := c.members[1].Classifier.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Classify(t.Context(), head(3000)); !errors.Is(err, onnx.ErrClosed) {
		t.Errorf("one member is closed: %v", err)
	}
}
