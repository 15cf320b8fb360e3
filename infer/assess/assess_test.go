package assess

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ichwatch/infer"
)

var thresholds = map[infer.Class]float64{
	infer.Epidural: 0.5, infer.Subdural: 0.4, infer.Intraventricular: 0.5, infer.Intraparenchymal: 0.3, infer.Subarachnoid: 0.5,
}

// bleeding is the truth of a slice with these classes.
func bleeding(classes ...infer.Class) (t Truth) {
	for _, c := range classes {
		t.Shows[c] = true
	}
	return t
}

// epidural is a slice whose answer lies between normal and epidural alone.
func epidural(patient int, truth bool, p float64) Slice {
	s := Slice{Patient: patient, Probabilities: []float64{1 - p, p, 0, 0, 0, 0}}
	s.Truth.Shows[infer.Epidural] = truth
	return s
}

// data draws an assessment's data; coarse scores, so that there are ties.
var data = rapid.Custom(func(t *rapid.T) Data {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	patients := rapid.IntRange(1, 8).Draw(t, "patients")
	probability := rapid.Map(rapid.IntRange(0, 10), func(n int) float64 { return float64(n) / 10 })
	row := func(name string) []float64 { return rapid.SliceOfN(probability, NumClasses, NumClasses).Draw(t, name) }
	truth := func(name string) (out Truth) {
		out.Unclassified = rapid.IntRange(0, 5).Draw(t, name) == 0
		copy(out.Shows[:], rapid.SliceOfN(rapid.Bool(), NumClasses, NumClasses).Draw(t, name))
		return out
	}
	for range rapid.IntRange(0, 40).Draw(t, "slices") {
		d.Slices = append(d.Slices, Slice{rapid.IntRange(0, patients-1).Draw(t, "patient"), truth("truth"), row("probabilities")})
	}
	for p := range patients {
		s := Study{Patient: p, Truth: truth("study"), Scores: row("scores"), Outcome: Outcome(rapid.IntRange(0, 2).Draw(t, "outcome")), Named: infer.Class(1 + p%5)}
		if d.reaches(s.Scores, thresholds) {
			s.Outcome = Positive
		}
		d.Studies = append(d.Studies, s)
	}
	return d
})

var few = Options{Rounds: 60, Seed: 3, Workers: 2}

func assessed(t require, d Data, o Options) *Figures {
	f, err := Assess(d, o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return f
}

// require is what *testing.T and *rapid.T share.
type require interface{ Fatalf(string, ...any) }

func (f *Figures) binaries() []Binary {
	return slices.Concat([]Binary{f.Slices.Any}, f.Slices.Classes, []Binary{f.Studies.Any}, f.Studies.Classes)
}

func (f *Figures) estimates() (out []Estimate) {
	for _, b := range f.binaries() {
		out = append(out, b.Accuracy, b.Sensitivity, b.Specificity, b.AUC, b.AveragePrecision)
		if b.Calibration != nil {
			out = append(out, b.Calibration.Brier, b.Calibration.Error)
		}
		for _, p := range b.OperatingPoints {
			if p.Unreachable == "" {
				out = append(out, *p.Sensitivity, *p.Specificity)
			}
		}
	}
	if f.Slices.SixWay != nil {
		out = append(out, f.Slices.SixWay.Accuracy)
	}
	return append(out, f.Studies.Named.Share)
}

// Whatever the data, each figure is a number within its interval, or says why it
// is none.
func TestNoFigureIsWithoutMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := assessed(t, data.Draw(t, "data"), few)
		for _, e := range f.estimates() {
			switch {
			case !e.Defined():
				if e != (Estimate{Undefined: e.Undefined}) {
					t.Fatalf("undefined with figures: %+v", e)
				}
			case !(e.Value >= 0 && e.Value <= 1):
				t.Fatalf("value %v", e.Value)
			case e.Method == "" && e.Unknown == "":
				t.Fatalf("no interval and no reason: %+v", e)
			case e.Method != "" && !(0 <= e.Low && e.Low <= e.Value && e.Value <= e.High && e.High <= 1):
				t.Fatalf("the interval does not contain the estimate: %+v", e)
			case e.Method == Wilson && e.Low == e.High:
				t.Fatalf("no doubt left: %+v", e)
			}
		}
		text, err := json.Marshal(f) // fails on NaN
		if err != nil {
			t.Fatalf("%v", err)
		}
		var back Figures
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%v", err)
		}
		if again, err := json.Marshal(&back); err != nil || string(again) != string(text) {
			t.Fatalf("the JSON does not come back: %v\n%s\n%s", err, text, again)
		}
	})
}

// The area is how often a positive item scores higher than a negative one.
func TestAUCIsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := data.Draw(t, "data")
		for _, b := range assessed(t, d, few).Slices.Classes {
			c, err := infer.ParseClass(b.Name)
			if err != nil {
				t.Fatalf("%v", err)
			}
			wins, pairs := 0.0, 0.0
			for _, p := range d.Slices {
				for _, n := range d.Slices {
					with, known := p.Truth.Class(c)
					without, alike := n.Truth.Class(c)
					if !with || without || !known || !alike {
						continue
					}
					pairs++
					switch {
					case p.Probabilities[c] > n.Probabilities[c]:
						wins++
					case p.Probabilities[c] == n.Probabilities[c]:
						wins += 0.5
					}
				}
			}
			if pairs == 0 {
				if b.AUC.Defined() {
					t.Fatalf("%s without pairs: %+v", b.Name, b.AUC)
				}
			} else if math.Abs(b.AUC.Value-wins/pairs) > 1e-12 {
				t.Fatalf("%s: %v, by definition %v", b.Name, b.AUC.Value, wins/pairs)
			}
		}
	})
}

// Only the order of the scores matters to the areas.
func TestAreasSurviveMonotoneMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := data.Draw(t, "data")
		bent := d
		bent.Slices = slices.Clone(d.Slices)
		for i, s := range bent.Slices {
			p := make([]float64, len(s.Probabilities))
			for k, v := range s.Probabilities {
				p[k] = v * v * v
			}
			bent.Slices[i].Probabilities = p
		}
		a, b := assessed(t, d, few), assessed(t, bent, few)
		for i := range a.Slices.Classes {
			x, y := a.Slices.Classes[i], b.Slices.Classes[i]
			if x.AUC != y.AUC || x.AveragePrecision != y.AveragePrecision {
				t.Fatalf("%s: %+v %+v, bent %+v %+v", x.Name, x.AUC, x.AveragePrecision, y.AUC, y.AveragePrecision)
			}
		}
	})
}

// A patient is drawn as a whole: showing each of its slices three times adds no
// certainty.
func TestRepeatedSlicesAddNoCertainty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := data.Draw(t, "data")
		// Where each patient has one slice, Wilson's interval holds instead.
		for p := range d.Studies {
			d.Slices = append(d.Slices, epidural(p, p%2 == 0, 0.3), epidural(p, p%3 == 0, 0.6))
		}
		many := d
		many.Slices = slices.Repeat(d.Slices, 3)
		a, b := assessed(t, d, few), assessed(t, many, few)
		near := func(x, y Estimate) bool {
			return x.Method == y.Method && math.Abs(x.Low-y.Low) < 1e-9 && math.Abs(x.High-y.High) < 1e-9 && math.Abs(x.Value-y.Value) < 1e-9
		}
		for i, x := range a.Slices.Classes {
			y := b.Slices.Classes[i]
			if !near(x.AUC, y.AUC) || !near(x.Sensitivity, y.Sensitivity) || !near(x.Accuracy, y.Accuracy) {
				t.Fatalf("%s: once %+v, three times %+v", x.Name, x.AUC, y.AUC)
			}
		}
	})
}

func TestSameSeedSameIntervals(t *testing.T) {
	var d Data = data.Example(7)
	one, four := few, few
	one.Workers, four.Workers = 1, 4
	if a, b := assessed(t, d, one), assessed(t, d, four); !reflect.DeepEqual(a, b) {
		t.Error("the intervals depend on the number of cores")
	}
}

// Checked against scikit-learn 1.9: roc_auc_score, average_precision_score,
// brier_score_loss; and the calibration error by hand.
func TestKnownFigures(t *testing.T) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	truth := []bool{false, false, true, true}
	for i, p := range []float64{0.1, 0.4, 0.35, 0.8} {
		d.Slices = append(d.Slices, epidural(i, truth[i], p))
	}
	f := assessed(t, d, Options{Rounds: 200, Sensitivities: []float64{0.5, 1}})
	b := f.Slices.Classes[infer.Epidural]
	for name, c := range map[string][2]float64{
		"auc": {b.AUC.Value, 0.75}, "average precision": {b.AveragePrecision.Value, 0.8333333333},
		"brier": {b.Calibration.Brier.Value, 0.158125}, "calibration error": {b.Calibration.Error.Value, (0.1 + 0.4 + 0.65 + 0.2) / 4},
		"accuracy": {b.Accuracy.Value, 0.75}, "sensitivity": {b.Sensitivity.Value, 0.5}, "specificity": {b.Specificity.Value, 1},
		"point 1": {*b.OperatingPoints[0].Threshold, 0.8}, "point 2": {*b.OperatingPoints[1].Threshold, 0.35},
		"specificity of point 2": {b.OperatingPoints[1].Specificity.Value, 0.5},
	} {
		if math.Abs(c[0]-c[1]) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, c[0], c[1])
		}
	}
	if want := (Matrix{1, 0, 2, 1}); b.Matrix != want {
		t.Errorf("matrix %+v, want %+v", b.Matrix, want)
	}
	if want := []Point{{0, 0, 0.8}, {0, 0.5, 0.8}, {0.5, 0.5, 0.4}, {0.5, 1, 0.35}, {1, 1, 0.1}}; !slices.Equal(b.ROC, want) {
		t.Errorf("ROC %v, want %v", b.ROC, want)
	}
	if want := []Point{{0, 1, 0.8}, {0.5, 1, 0.8}, {0.5, 0.5, 0.4}, {1, *rounded(2.0 / 3), 0.35}, {1, 0.5, 0.1}}; !slices.Equal(b.PR, want) {
		t.Errorf("PR %v, want %v", b.PR, want)
	}
}

// The paper's two accuracies, as a test set of 280 gives them.
func TestWilsonInterval(t *testing.T) {
	for _, c := range []struct{ k, n, low, high float64 }{
		{251, 280, 0.855, 0.927}, {231, 280, 0.776, 0.865}, {0, 0, 0, 1}, {0, 10, 0, 0.2775}, {10, 10, 0.7225, 1},
	} {
		low, high := WilsonInterval(c.k, c.n)
		if math.Abs(low-c.low) > 5e-4 || math.Abs(high-c.high) > 5e-4 {
			t.Errorf("%v of %v: %v..%v, want %v..%v", c.k, c.n, low, high, c.low, c.high)
		}
	}
}

// What the data cannot tell is told.
func TestDegenerateData(t *testing.T) {
	calm := Data{Classes: infer.Classes(), Thresholds: thresholds}
	tied, perfect, alone := calm, calm, calm
	for i := range 12 {
		calm.Slices = append(calm.Slices, epidural(i/2, false, float64(i)/20))
		tied.Slices = append(tied.Slices, epidural(i/2, i%2 == 0, 0.2))
		perfect.Slices = append(perfect.Slices, epidural(i/2, i < 4, 0.9-0.05*float64(i)))
		alone.Slices = append(alone.Slices, epidural(1, i%2 == 0, float64(i)/20))
	}
	slice := func(d Data) Binary { return assessed(t, d, few).Slices.Any }

	if b := slice(Data{Classes: infer.Classes(), Thresholds: thresholds}); !strings.Contains(b.Accuracy.Undefined, "no slice") || !strings.Contains(b.AUC.Undefined, "no slice") {
		t.Errorf("no data: %+v", b)
	}
	b := slice(calm)
	if !strings.Contains(b.AUC.Undefined, "no slice shows it") || !strings.Contains(b.Sensitivity.Undefined, "no slice shows it") || b.Specificity.Value != 10.0/12 || b.ROC != nil {
		t.Errorf("no positives: %+v %+v %+v %v", b.AUC, b.Sensitivity, b.Specificity, b.ROC)
	}
	if b.OperatingPoints[0].Unreachable == "" {
		t.Errorf("no positives: %+v", b.OperatingPoints)
	}
	if b = slice(tied); b.AUC.Value != 0.5 || b.AveragePrecision.Value != 0.5 || len(b.ROC) != 2 {
		t.Errorf("all tied: %+v %+v %v", b.AUC, b.AveragePrecision, b.ROC)
	}
	// No draw contradicts; two bleeding patients prove little all the same.
	low, _ := WilsonInterval(2, 2)
	if b = slice(perfect); b.AUC.Value != 1 || b.AUC.Method != Wilson || b.AUC.Low != low {
		t.Errorf("perfect: %+v, want Wilson from %v", b.AUC, low)
	}
	if b = slice(alone); b.AUC.Method != "" || !strings.Contains(b.AUC.Unknown, "single patient") {
		t.Errorf("one patient: %+v", b.AUC)
	}
	zero := calm
	zero.Slices = slices.Concat(calm.Slices, []Slice{epidural(8, true, 0), epidural(9, true, 0)})
	if b = slice(zero); !strings.Contains(b.OperatingPoints[0].Unreachable, "score nothing") {
		t.Errorf("positives at 0: %+v", b.OperatingPoints)
	}
}

func TestAssessRefusesWhatIsNoData(t *testing.T) {
	sound := Data{Classes: infer.Classes(), Thresholds: thresholds, Slices: []Slice{epidural(0, true, 0.5)}}
	for name, change := range map[string]func(*Data, *Options){
		"no classes":    func(d *Data, _ *Options) { d.Classes = nil },
		"no threshold":  func(d *Data, _ *Options) { d.Thresholds = nil },
		"too short":     func(d *Data, _ *Options) { d.Slices = []Slice{{Probabilities: []float64{1}}} },
		"NaN":           func(d *Data, _ *Options) { d.Slices = []Slice{epidural(0, true, math.NaN())} },
		"study, empty":  func(d *Data, _ *Options) { d.Studies = []Study{{}} },
		"sensitivity":   func(_ *Data, o *Options) { o.Sensitivities = []float64{1.5} },
		"below nothing": func(_ *Data, o *Options) { o.Rounds = -1 },
	} {
		d, o := sound, few
		change(&d, &o)
		if _, err := Assess(d, o); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// At the point that was chosen the sensitivity is reached, and with any higher
// threshold it would not be.
func TestOperatingPointsReachWhatWasAsked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := data.Draw(t, "data")
		f := assessed(t, d, Options{Rounds: 30, Sensitivities: []float64{rapid.Float64Range(0.05, 1).Draw(t, "sensitivity")}})
		for i, b := range f.binaries() {
			for _, p := range b.OperatingPoints {
				if p.Unreachable != "" {
					continue
				}
				if p.Sensitivity.Value < p.Asked-1e-9 {
					t.Fatalf("%s: %v reached, %v asked", b.Name, p.Sensitivity.Value, p.Asked)
				}
				if p.Threshold == nil {
					continue
				}
				found := 0
				for _, s := range d.Slices {
					score, truth := AnyScore(d.Classes, s.Probabilities), s.Truth.Any()
					if i > 0 {
						shown, known := s.Truth.Class(infer.Class(i - 1))
						score, truth = s.Probabilities[i-1], shown && known
					}
					if truth && score > *p.Threshold+1e-3 {
						found++
					}
				}
				if float64(found) >= p.Asked*float64(b.Positive.Items)-1e-9 {
					t.Fatalf("%s: a higher threshold than %v would do: %d of %d", b.Name, *p.Threshold, found, b.Positive.Items)
				}
			}
		}
	})
}

func TestStudies(t *testing.T) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	study := func(p int, o Outcome, truth Truth, subdural float64) {
		d.Studies = append(d.Studies, Study{Patient: p, Truth: truth, Outcome: o, Scores: []float64{0, 0, subdural, 0, 0, 0}})
	}
	study(0, Positive, bleeding(infer.Subdural), 0.9)
	study(1, Positive, bleeding(infer.Subdural, infer.Epidural), 0.5)
	study(2, NotAnalysed, bleeding(infer.Subdural), 0.3)
	study(3, Negative, Truth{}, 0.2)
	study(4, Positive, Truth{}, 0.6)
	study(5, Failed, Truth{}, 0)
	f := assessed(t, d, few).Studies
	want := []OutcomeCount{{"POSITIVE", 2, 1}, {"NEGATIVE", 0, 1}, {"FAILED", 0, 1}, {"NOT-ANALYSED", 1, 0}}
	if !slices.Equal(f.Outcomes, want) || f.Undecided != 2 {
		t.Errorf("outcomes %v, %d undecided", f.Outcomes, f.Undecided)
	}
	// A study that was not analysed raised no alert.
	if f.Any.Sensitivity.Value != 2.0/3 || f.Any.Specificity.Value != 2.0/3 || f.Any.Sensitivity.Method != Wilson {
		t.Errorf("sensitivity %+v, specificity %+v", f.Any.Sensitivity, f.Any.Specificity)
	}
	if f.Any.AUC.Value != 8.0/9-1.0/9 {
		t.Errorf("AUC %v", f.Any.AUC.Value)
	}
	p := f.Any.OperatingPoints[0]
	if p.Unreachable != "" || math.Abs(p.Thresholds[infer.Subdural]-0.3) > 1e-4 || p.Sensitivity.Value != 1 {
		t.Errorf("operating point %+v", p)
	}
	if b := f.Classes[infer.Subdural-1]; b.Positive.Items != 3 || b.Matrix != (Matrix{2, 1, 2, 1}) {
		t.Errorf("subdural: %+v", b.Matrix)
	}
	if len(f.Predictive) != 3 || math.Abs(f.Predictive[1].Value-(0.1*2/3)/(0.1*2/3+0.9/3)) > 1e-6 {
		t.Errorf("predictive value %v", f.Predictive)
	}
}

// With a threshold of their own studies are asked by their score, and the sweep moves
// that threshold alone. The classes are asked as before.
func TestStudiesWithAThreshold(t *testing.T) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds, StudyThreshold: 0.93}
	study := func(p int, o Outcome, truth Truth, score, subdural float64) {
		d.Studies = append(d.Studies, Study{Patient: p, Truth: truth, Outcome: o, Score: score, Scores: []float64{0, 0, subdural, 0, 0, 0}})
	}
	study(0, Positive, bleeding(infer.Subdural), 0.99, 0.9)
	study(1, Positive, bleeding(infer.Subdural), 0.95, 0.1) // no slice reaches its threshold
	study(2, Negative, bleeding(infer.Subdural), 0.91236, 0.6)
	study(3, NotAnalysed, bleeding(infer.Epidural), 0.2, 0)
	study(4, Positive, Truth{}, 0.94, 0.5)
	study(5, Negative, Truth{}, 0.9, 0.7)
	study(6, Negative, Truth{}, 0.5, 0)
	f := assessed(t, d, Options{Rounds: 60, Sensitivities: []float64{0.5, 0.75}}).Studies
	if f.Any.Threshold == nil || *f.Any.Threshold != 0.93 || f.Any.Matrix != (Matrix{TruePositive: 2, FalsePositive: 1, TrueNegative: 2, FalseNegative: 2}) {
		t.Errorf("any hemorrhage: %+v", f.Any)
	}
	// Of 12 pairs 3 are in the wrong order of the one that was not analysed, 1 of the one below.
	if got := f.Any.AUC.Value; math.Abs(got-8.0/12) > 1e-9 {
		t.Errorf("AUC %v", got)
	}
	for i, want := range []struct{ threshold, sensitivity, specificity float64 }{{0.95, 0.5, 1}, {0.9123, 0.75, 2.0 / 3}} {
		p := f.Any.OperatingPoints[i]
		if p.Unreachable != "" || p.Thresholds != nil || math.Abs(*p.Threshold-want.threshold) > 1e-9 || p.Sensitivity.Value != want.sensitivity || math.Abs(p.Specificity.Value-want.specificity) > 1e-6 {
			t.Errorf("operating point %+v, want %+v", p, want)
		}
	}
	// Called: positive, and at 0.4.
	if b := f.Classes[infer.Subdural-1]; b.Matrix != (Matrix{TruePositive: 1, FalsePositive: 1, TrueNegative: 3, FalseNegative: 2}) {
		t.Errorf("subdural: %+v", b.Matrix)
	}
	d.Studies[0].Score = math.NaN()
	if _, err := Assess(d, few); err == nil {
		t.Error("a score that is no number is accepted")
	}
	d.Studies[0].Score, d.StudyThreshold = 0, 1
	if _, err := Assess(d, few); err == nil {
		t.Error("a threshold of 1 is accepted")
	}
}

// A hemorrhage of unknown class counts for any hemorrhage, and for no class: not
// as one that has it, nor as one that has it not.
func TestUnclassified(t *testing.T) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	for i, truth := range []Truth{{}, {}, bleeding(infer.Epidural), {Unclassified: true}, {Unclassified: true}} {
		p := []float64{0.1, 0.8, 0.1, 0, 0, 0}
		d.Slices = append(d.Slices, Slice{Patient: i, Truth: truth, Probabilities: p})
		d.Studies = append(d.Studies, Study{Patient: i, Truth: truth, Outcome: Positive, Scores: p})
	}
	f := assessed(t, d, few)
	for name, got := range map[string]Matrix{"slices": f.Slices.Any.Matrix, "studies": f.Studies.Any.Matrix} {
		if got != (Matrix{3, 2, 0, 0}) {
			t.Errorf("any hemorrhage, %s: %+v", name, got)
		}
	}
	for name, got := range map[string]Matrix{"slices": f.Slices.Classes[infer.Epidural].Matrix, "studies": f.Studies.Classes[infer.Epidural-1].Matrix} {
		if got != (Matrix{1, 2, 0, 0}) {
			t.Errorf("epidural, %s: %+v", name, got)
		}
	}
	if got := f.Slices.Classes[infer.Normal].Matrix; got != (Matrix{0, 0, 3, 2}) {
		t.Errorf("normal: %+v", got)
	}
	if got := f.Slices.SixWay.Counts; got[0][1] != 2 || got[1][1] != 1 || f.Studies.Outcomes[0] != (OutcomeCount{"POSITIVE", 3, 2}) {
		t.Errorf("confusion %v, outcomes %v", got, f.Studies.Outcomes)
	}
	d.Thresholds = map[infer.Class]float64{infer.Epidural: 0.9, infer.Subdural: 0.9, infer.Intraventricular: 0.9, infer.Intraparenchymal: 0.9, infer.Subarachnoid: 0.9}
	if missed, alarms := d.Worst(5); len(missed) != 3 || len(alarms) != 0 {
		t.Errorf("missed %v, alarms %v", missed, alarms)
	}
}

func TestConfusion(t *testing.T) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	for i, truth := range []Truth{{}, bleeding(infer.Epidural), bleeding(infer.Epidural), bleeding(infer.Subdural), bleeding(infer.Epidural, infer.Subdural)} {
		d.Slices = append(d.Slices, Slice{Patient: i, Truth: truth, Probabilities: []float64{0.1, 0.8, 0.1, 0, 0, 0}})
	}
	m := assessed(t, d, few).Slices.SixWay
	if m.Counts[0][1] != 1 || m.Counts[1][1] != 2 || m.Counts[2][1] != 1 || m.Several != 1 || m.SeveralRight != 1 || m.Accuracy.Value != 0.5 {
		t.Errorf("%+v", m)
	}
	d.Classes, d.Slices = d.Classes[1:], nil
	if f := assessed(t, d, few); f.Slices.SixWay != nil {
		t.Error("a confusion matrix of a model without normal")
	}
}

func TestWorst(t *testing.T) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	for i, p := range []float64{0.1, 0.2, 0.05, 0.3, 0.9} {
		d.Slices = append(d.Slices, epidural(i/3, true, p))
	}
	d.Slices = append(d.Slices, epidural(7, false, 0.7), epidural(8, false, 0.95), epidural(8, false, 0.1))
	missed, alarms := d.Worst(3)
	if !slices.Equal(missed, []int{2, 0, 3}) { // 1 is the third of its patient
		t.Errorf("missed %v", missed)
	}
	if !slices.Equal(alarms, []int{6, 5}) {
		t.Errorf("alarms %v", alarms)
	}
}

func TestCurvesAreThinned(t *testing.T) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	for i := range 4000 {
		d.Slices = append(d.Slices, epidural(i%40, i*7919%13 < 5+i/1000, float64(i)/4000))
	}
	b := assessed(t, d, Options{Rounds: 20}).Slices.Any
	for name, curve := range map[string][]Point{"ROC": b.ROC, "PR": b.PR} {
		if len(curve) < 20 || len(curve) > mostPoints {
			t.Errorf("%s has %d points", name, len(curve))
		}
		if end := curve[len(curve)-1]; curve[0].X != 0 || end.X != 1 {
			t.Errorf("%s ends at %v and %v", name, curve[0], end)
		}
		for i := range curve[1:] {
			if curve[i+1].X < curve[i].X {
				t.Errorf("%s turns back at %v", name, curve[i])
			}
		}
	}
}

func BenchmarkAssess(b *testing.B) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	for i := range 2500 {
		d.Slices = append(d.Slices, epidural(i/30, i%7 == 0, float64(i*7919%1000)/1000))
	}
	for b.Loop() {
		if _, err := Assess(d, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
