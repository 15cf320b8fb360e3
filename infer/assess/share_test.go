package assess

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ichwatch/infer"
)

// The interval of a share is over patients: what each of them says ten times over
// is no surer, and where each says it once it is Wilson's.
func TestShareIsOverPatients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 30).Draw(t, "patients")
		right := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "right")
		var patient []int
		hits := 0.0
		for i, r := range right {
			patient = append(patient, 7*i-3)
			if r {
				hits++
			}
		}
		once := Share(patient, right, few)
		if low, high := WilsonInterval(hits, float64(n)); once.Method != Wilson || math.Abs(once.Low-low)+math.Abs(once.High-high) > 1e-12 {
			t.Fatalf("%+v, Wilson's is %v to %v", once, low, high)
		}
		often := Share(slices.Repeat(patient, 10), slices.Repeat(right, 10), Options{Rounds: 400, Seed: 2})
		if often.Value != once.Value || often.High-often.Low < 0.6*(once.High-once.Low) {
			t.Fatalf("said ten times %+v, once %+v", often, once)
		}
	})
	for _, c := range []struct {
		patient []int
		right   []bool
		want    Estimate
	}{
		{nil, nil, Estimate{Undefined: "there is no answer"}},
		{[]int{4, 4}, []bool{true, false}, Estimate{Value: 0.5, Unknown: "a single patient says nothing about others"}},
	} {
		if got := Share(c.patient, c.right, few); got != c.want {
			t.Errorf("%v: %+v", c.patient, got)
		}
	}
}

// What the alert names is right where the study shows it; false alarms, studies
// that raised none and those whose classes are not stated are not asked.
func TestNamedClass(t *testing.T) {
	d := Data{Classes: infer.Classes(), Thresholds: thresholds}
	for i, s := range []Study{
		{Outcome: Positive, Truth: bleeding(infer.Epidural, infer.Subdural), Named: infer.Subdural},
		{Outcome: Positive, Truth: bleeding(infer.Epidural), Named: infer.Subdural},
		{Outcome: Positive, Truth: bleeding(infer.Epidural), Named: infer.Epidural},
		{Outcome: Positive, Named: infer.Epidural},
		{Outcome: Negative, Truth: bleeding(infer.Epidural), Named: infer.Epidural},
		{Outcome: Positive, Truth: Truth{Unclassified: true}, Named: infer.Epidural},
	} {
		s.Patient, s.Scores = i, make([]float64, NumClasses)
		d.Studies = append(d.Studies, s)
	}
	got := assessed(t, d, few).Studies.Named
	if got.Right != 2 || got.Of != 3 || math.Abs(got.Share.Value-2.0/3) > 1e-12 || got.Share.Method != Wilson {
		t.Errorf("%+v", got)
	}
	d.Studies = d.Studies[3:]
	if got := assessed(t, d, few).Studies.Named; got.Of != 0 || got.Share.Defined() {
		t.Errorf("nobody was asked: %+v", got)
	}
}
