package labelled

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ichwatch/alerts"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/daemon/triage"
	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
	"ichwatch/infer/pixel"
	"ichwatch/infer/study"
)

// newSet writes two studies of ten small slices.
func newSet(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	o := phantom.SetOptions{Studies: 1, Classes: []phantom.Class{phantom.Normal, phantom.Epidural}, Rows: 64, Columns: 64, Slices: 10, Seed: 3, Plain: true}
	if err := phantom.WriteSet(t.Context(), dir, o, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, dir string, f Format) *Set {
	t.Helper()
	l, err := ReadLabels(filepath.Join(dir, "labels.csv"), infer.Classes())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, l, f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPhantomSetMatches(t *testing.T) {
	s := open(t, newSet(t), Auto)
	if s.Format != Phantom || len(s.Slices) != 20 || s.Studies != 2 || s.Unit != "study" || len(s.Ignored) != 0 {
		t.Errorf("%s: %d slices, %d studies; ignored %v", s.Format, len(s.Slices), s.Studies, s.Ignored)
	}
	if err := s.Gaps(); err != nil || s.Unread != nil {
		t.Errorf("%v; unread %v", err, s.Unread)
	}
}

// A slice is found by its UID where its path is another one; what is lost, left
// over or confused is told.
func TestWhatDoesNotMatchIsTold(t *testing.T) {
	dir := newSet(t)
	at := func(name string) string { return filepath.Join(dir, "normal-0001", name) }
	must(t, os.Rename(at("IM0001.dcm"), filepath.Join(dir, "moved")))                                // line 2, by its UID
	must(t, os.Remove(at("IM0002.dcm")))                                                             // line 3 is lost
	must(t, os.Rename(at("IM0003.dcm"), at("tmp")))                                                  // lines 4 and 5 have changed places:
	must(t, os.Rename(at("IM0004.dcm"), at("IM0003.dcm")))                                           // their UIDs say so
	must(t, os.Rename(at("tmp"), at("IM0004.dcm")))                                                  //
	must(t, os.WriteFile(at("IM0005.dcm"), []byte("no DICOM at all"), 0o600))                        // line 6
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("not looked at"), 0o600))           //
	must(t, phantom.WriteSet(t.Context(), filepath.Join(dir, "more"), phantom.SetOptions{Studies: 1, // one too many
		Classes: []phantom.Class{phantom.Normal}, Rows: 64, Columns: 64, Slices: 1, Seed: 9}, nil))
	s := open(t, dir, Phantom)
	if len(s.Slices) != 18 || s.Slices[0].Line != 2 || s.Slices[0].path != "moved" {
		t.Errorf("%d slices, the first %+v", len(s.Slices), s.Slices[0])
	}
	for _, l := range s.Slices {
		if l.Line == 4 && l.path != "normal-0001/IM0004.dcm" {
			t.Errorf("line 4 is about %s", l.path)
		}
	}
	if !slices.Equal(s.NoFile, []string{"line 3", "line 6"}) || !slices.Equal(s.NoLabel, []string{"more/normal-0001/IM0001.dcm"}) || !slices.Equal(s.Unread, []string{"normal-0001/IM0005.dcm"}) {
		t.Errorf("no file %v, no label %v, unread %v", s.NoFile, s.NoLabel, s.Unread)
	}
	if err := s.Gaps(); err == nil || !strings.Contains(err.Error(), "labels have no file (2): line 3, line 6") || !strings.Contains(err.Error(), "--partial") {
		t.Errorf("gaps: %v", err)
	}
}

func TestPathsStayBelowTheFolder(t *testing.T) {
	dir := newSet(t)
	outside := filepath.Join(filepath.Dir(dir), "outside.dcm")
	must(t, os.Rename(filepath.Join(dir, "normal-0001", "IM0001.dcm"), outside))
	text, err := os.ReadFile(filepath.Join(dir, "labels.csv"))
	must(t, err)
	text = bytes.Replace(text, []byte("normal-0001/IM0001.dcm"), []byte("../outside.dcm"), 1)
	must(t, os.WriteFile(filepath.Join(dir, "labels.csv"), text, 0o600))
	if s := open(t, dir, Phantom); len(s.NoFile) != 1 {
		t.Errorf("no file: %v", s.NoFile)
	}
}

// oracle says the same of every slice.
type oracle struct{ epidural float32 }

func (oracle) Models() infer.Models { return infer.Models{{Name: "oracle", SHA256: "ab"}} }
func (oracle) Provider() string     { return "cpu" }

func (o oracle) Classify(context.Context, *infer.Image) (infer.Scores, error) {
	p := []float32{1 - o.epidural, o.epidural, 0, 0, 0, 0}
	return infer.Scores{Logits: p, Probabilities: p}, nil
}

// half is the threshold of each class.
func half() map[infer.Class]float64 {
	thresholds := map[infer.Class]float64{}
	for _, c := range infer.Classes()[1:] {
		thresholds[c] = 0.5
	}
	return thresholds
}

func examine(t *testing.T, s *Set, p float32, gate triage.Gate) *Examination {
	t.Helper()
	rule := study.NewRule(infer.Classes(), half(), 0, manifest.StudyRule{Kind: manifest.RuleAdjacent, Slices: 2, Of: 3, MinimumSlices: 8, MaximumGap: 30})
	e := &triage.Examiner{Gate: gate, Model: &triage.Model{Classifier: oracle{p}, Rule: rule}, Calls: 2}
	steps := 0
	x, err := s.Examine(t.Context(), e, 2, func(done, total int) {
		if steps++; done != steps || total != len(s.Slices) {
			t.Errorf("step %d: %d of %d", steps, done, total)
		}
	})
	must(t, err)
	return x
}

func TestExamination(t *testing.T) {
	s := open(t, newSet(t), Phantom)
	for name, c := range map[string]struct {
		p          float32
		gate       triage.Gate
		outcome    assess.Outcome
		ineligible int
	}{
		"all bleed":  {0.9, triage.Gate{}, assess.Positive, 0},
		"none does":  {0.1, triage.Gate{}, assess.Negative, 0},
		"gate shuts": {0.9, triage.Gate{Closed: "shut"}, assess.NotAnalysed, 20},
	} {
		t.Run(name, func(t *testing.T) {
			x := examine(t, s, c.p, c.gate)
			d, counts, slice := x.Data(infer.Classes(), half(), 0)
			if counts.Classified+counts.Ineligible["shut"] != 20 || counts.Ineligible["shut"] != c.ineligible || len(counts.Failed) != 0 {
				t.Errorf("%+v", counts)
			}
			if len(d.Slices) != len(slice) || len(d.Slices)+counts.Doubtful != counts.Classified {
				t.Errorf("%d slices, %d indices, %+v", len(d.Slices), len(slice), counts)
			}
			for k, i := range slice {
				if d.Slices[k].Truth != s.Slices[i].Truth || d.Slices[k].Probabilities[1] != float64(c.p) {
					t.Fatalf("slice %d is not the one of line %d", k, s.Slices[i].Line)
				}
			}
			if len(d.Studies) != 2 || d.Studies[0].Truth.Any() == d.Studies[1].Truth.Any() {
				t.Fatalf("studies %+v", d.Studies)
			}
			for _, st := range d.Studies {
				if st.Outcome != c.outcome || c.ineligible == 0 && float32(st.Scores[infer.Epidural]) != c.p {
					t.Errorf("outcome %v, scores %v", st.Outcome, st.Scores)
				}
			}
		})
	}
	x := examine(t, s, 0.25, triage.Gate{})
	var table strings.Builder
	must(t, x.WriteTable(&table, infer.Classes()))
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	if len(lines) != 21 || !strings.HasPrefix(lines[0], "line,patient,study,") || !strings.HasSuffix(lines[1], ",0.75,0.25,0,0,0,0") {
		t.Errorf("%d lines: %s\n%s", len(lines), lines[0], lines[1])
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Examine(ctx, &triage.Examiner{}, 2, nil); err == nil {
		t.Error("an ended context leaves results")
	}
}

// Other answers, weighed by another rule, on the same slices; the examination
// itself stays as it was.
func TestAnswered(t *testing.T) {
	s := open(t, newSet(t), Phantom)
	x := examine(t, s, 0.1, triage.Gate{})
	x.Results[3].State, x.Results[3].Probabilities = spool.FindingFailed, nil
	said := make([][]float64, len(x.Results))
	for i := range said {
		said[i] = []float64{0.6, 0, 0.4, 0, 0, 0}
	}
	easy := half()
	easy[infer.Subdural] = 0.3
	for _, c := range []struct {
		thresholds map[infer.Class]float64
		outcome    assess.Outcome
	}{{half(), assess.Failed}, {easy, assess.Positive}} {
		rule := study.NewRule(infer.Classes(), c.thresholds, 0, manifest.StudyRule{Kind: manifest.RuleAdjacent, Slices: 2, Of: 3, MinimumSlices: 8, MaximumGap: 30})
		d, counts, slice := x.Answered(rule, said).Data(infer.Classes(), c.thresholds, 0)
		if counts.Classified != 19 || slices.Contains(slice, 3) || d.Slices[0].Probabilities[infer.Subdural] != float64(float32(0.4)) {
			t.Errorf("%+v, slices %v", counts, slice)
		}
		if first := d.Studies[0]; first.Outcome != c.outcome || float32(first.Scores[infer.Subdural]) != 0.4 {
			t.Errorf("outcome %v, scores %v", first.Outcome, first.Scores)
		}
	}
	// Of kind evidence: 20 slices at odds of 2/3, one of which failed.
	rule := study.NewRule(infer.Classes(), half(), 0.99, manifest.StudyRule{Kind: manifest.RuleEvidence, Power: 1, SliceThickness: 1, HeadHeight: 1, MinimumSlices: 8, MaximumGap: 30})
	d, _, _ := x.Answered(rule, said).Data(infer.Classes(), half(), 0.99)
	slicesOf := func(i int) float64 { return d.Studies[i].Score / (1 - d.Studies[i].Score) * 3 / 2 }
	if first, second := slicesOf(0), slicesOf(1); d.StudyThreshold != 0.99 || math.Abs(first+second-19) > 1e-4 || d.Studies[0].Scores[infer.Subdural] != float64(float32(0.4)) {
		t.Errorf("studies of %v and %v slices: %+v", first, second, d.Studies)
	}
	if d, _, _ := x.Data(infer.Classes(), half(), 0); d.Slices[0].Probabilities[infer.Epidural] != float64(float32(0.1)) {
		t.Errorf("the model's own answers became %v", d.Slices[0].Probabilities)
	}
}

func TestOutcomesHaveTheNamesOfAlerts(t *testing.T) {
	for _, o := range []alerts.Outcome{alerts.Positive, alerts.Negative, alerts.NotAnalysed, alerts.Failed} {
		if got, err := assess.ParseOutcome(string(o)); err != nil || got.String() != string(o) {
			t.Errorf("%s: %v, %v", o, got, err)
		}
	}
}

// The windows of ct-ich: brain 40/120, bone 700/3200.
func TestHounsfield(t *testing.T) {
	for _, c := range []struct {
		narrow, wide uint8
		both         bool
		want         int16
	}{
		{128, 72, true, 40}, {4, 71, true, -18}, {251, 79, true, 98}, // the fine window rules
		{0, 0, true, -900}, {3, 75, true, -20}, {2, 60, true, -147}, // below it
		{255, 255, true, 2300}, {252, 70, true, 100}, {253, 100, true, 355}, // above it
		{0, 0, false, -900}, {255, 0, false, 100},
	} {
		if got := hounsfield(c.narrow, c.wide, c.both); got != c.want {
			t.Errorf("%d, %d (%t): %d HU, want %d", c.narrow, c.wide, c.both, got, c.want)
		}
	}
}

func TestCTICHSet(t *testing.T) {
	dir := t.TempDir()
	grey := func(name string, v uint8) {
		img := image.NewGray(image.Rect(0, 0, 16, 8))
		for i := range img.Pix {
			img.Pix[i] = v
		}
		var b bytes.Buffer
		must(t, jpeg.Encode(&b, img, &jpeg.Options{Quality: 100}))
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600))
	}
	grey("brain/p1_s1.jpg", 128)
	grey("bone/p1_s1.jpg", 75)
	grey("brain/p1_s2.jpg", 0)
	grey("brain/p1_s9.jpg", 0)
	must(t, os.WriteFile(filepath.Join(dir, "labels.csv"), []byte(`file,patient,slice,epidural,subdural,intraventricular,intraparenchymal,subarachnoid,normal,fracture
p1_s1.jpg,1,1,1,0,0,0,0,0,0
p1_s2.jpg,1,2,0,0,0,0,0,1,0
p1_s3.jpg,1,3,0,0,0,0,0,1,1
`), 0o600))
	s := open(t, dir, Auto)
	if s.Format != CTICH || s.Unit != "patient" || len(s.Slices) != 2 || !slices.Equal(s.NoBone, []string{"line 3"}) || !slices.Equal(s.NoFile, []string{"line 4"}) || !slices.Equal(s.NoLabel, []string{"brain/p1_s9.jpg"}) {
		t.Errorf("%s: %d slices, %+v", s.Format, len(s.Slices), s)
	}
	for i, want := range []int16{40, -900} {
		img, err := s.readPair(&s.Slices[i])
		must(t, err)
		if img.Rows != 8 || img.Columns != 16 || img.HU[100] != want {
			t.Errorf("slice %d: %d x %d, %d HU; want %d", i, img.Rows, img.Columns, img.HU[100], want)
		}
	}
	x := examine(t, s, 0.9, triage.Gate{})
	if x.Results[0].Position != 5 || x.Results[1].Position != 10 || x.Results[0].Probabilities == nil {
		t.Errorf("%+v", x.Results)
	}
}

func TestDraw(t *testing.T) {
	img := &infer.Image{Rows: 100, Columns: 100, HU: slices.Repeat([]int16{40}, 100*100)}
	square := pixel.Square{Top: 10, Left: -20, Side: 60} // a third of it left of the slice
	maps := &onnx.Maps{Classes: 1, Rows: 2, Columns: 2, Values: []float32{-1, -1, -1, 5}, Square: square}
	for name, m := range map[string]*onnx.Maps{"plain": nil, "overlay": maps} {
		b, err := encode(draw(img, square, m, 0))
		must(t, err)
		got, err := png.Decode(bytes.NewReader(b))
		must(t, err)
		if got.Bounds().Dx() != pictureSide {
			t.Fatalf("%v", got.Bounds())
		}
		at := func(x, y int) color.NRGBA { return color.NRGBAModel.Convert(got.At(x, y)).(color.NRGBA) }
		if c := at(10, 10); c.R != 0 || c.G != 0 {
			t.Errorf("%s: outside the slice %v", name, c)
		}
		if c := at(150, 10); c.R != 128 || c.G != 128 {
			t.Errorf("%s: 40 HU, cold, is %v", name, c)
		}
		if c, hot := at(280, 280), m != nil; (c.R > 190 && c.G < 80) != hot {
			t.Errorf("%s: the hot corner is %v", name, c)
		}
	}
}

func TestLeading(t *testing.T) {
	d := &assess.Data{Classes: infer.Classes(), Thresholds: half()}
	s := &assess.Slice{Probabilities: []float64{0.1, 0.6, 0.3, 0.05, 0, 0}}
	s.Truth.Shows[infer.Subdural], s.Truth.Shows[infer.Intraventricular] = true, true
	if got := leading(d, s, false); got != int(infer.Epidural) {
		t.Errorf("a false alarm shows %v", infer.Class(got))
	}
	if got := leading(d, s, true); got != int(infer.Subdural) {
		t.Errorf("a missed slice shows %v", infer.Class(got))
	}
}
