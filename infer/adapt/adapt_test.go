package adapt

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const features = 6

// site draws a site: patients of a few slices whose features say what they show,
// along directions of the site's own.
func site(r *rand.Rand, a manifest.Activation, patients map[infer.Class]int) *Data {
	d := &Data{Classes: infer.Classes(), Activation: a}
	n := 0
	for _, c := range infer.Classes() {
		for range patients[c] {
			n++
			for i := range 4 {
				s := Slice{Patient: 1000 - n, Features: make([]float32, features)}
				for j := range s.Features {
					s.Features[j] = float32(1 + 0.3*r.NormFloat64())
				}
				if c.Hemorrhage() && i < 2 { // the other slices of the patient are normal
					s.Truth.Shows[c] = true
					s.Features[c] += 1.5
				}
				d.Slices = append(d.Slices, s)
			}
		}
	}
	return d
}

func random(r *rand.Rand) Head {
	h := Head{Weight: make([]float32, 6*features), Bias: make([]float32, 6)}
	for i := range h.Weight {
		h.Weight[i] = float32(r.NormFloat64())
	}
	for i := range h.Bias {
		h.Bias[i] = float32(r.NormFloat64())
	}
	return h
}

func everywhere(n int) map[infer.Class]int {
	out := map[infer.Class]int{}
	for _, c := range infer.Classes() {
		out[c] = n
	}
	return out
}

// The gradient is that of the value: against central differences, in every
// parameter, for both activations, whatever the data.
func TestGradientAgainstFiniteDifferences(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		a := rapid.SampledFrom([]manifest.Activation{manifest.Softmax, manifest.Sigmoid}).Draw(rt, "activation")
		d := site(r, a, everywhere(2))
		for i := range d.Slices { // several classes in a slice, and doubtful ones
			s := &d.Slices[i]
			s.Truth.Shows[infer.Subdural] = s.Truth.Shows[infer.Subdural] || r.IntN(8) == 0
			s.Doubtful = !s.Truth.Any() && r.IntN(8) == 0
		}
		adapted := rapid.SampledFrom([][]infer.Class{{infer.Epidural}, {infer.Subdural, infer.Subarachnoid}, infer.Classes()[1:]}).Draw(rt, "adapted")
		tab := newTable(d, random(r), adapted)
		rows := tab.learnt
		if rapid.Bool().Draw(rt, "part") {
			rows = rows[:len(rows)/2]
		}
		o := &objective{tab, rows, rapid.Float64Range(0, 10).Draw(rt, "strength")}
		p := make([]float64, tab.parameters())
		for i := range p {
			p[i] = r.NormFloat64()
		}
		gradient := slices.Repeat([]float64{math.NaN()}, len(p)) // what was there before must not matter
		value := o.value(p, gradient)
		if again := o.value(p, nil); again != value {
			rt.Fatalf("%v with the gradient, %v without", value, again)
		}
		for i := range p {
			const h = 1e-5
			q := slices.Clone(p)
			q[i] += h
			up := o.value(q, nil)
			q[i] -= 2 * h
			if want := (up - o.value(q, nil)) / (2 * h); math.Abs(gradient[i]-want) > 1e-6*(1+math.Abs(want)) {
				rt.Fatalf("slope %d is %v, by differences %v", i, gradient[i], want)
			}
		}
	})
}

// Pulled infinitely strongly a head stays the one that it was, to the bit; pulled
// strongly it stays near.
func TestInfiniteStrengthGivesTheOldHead(t *testing.T) {
	if !math.IsInf(float64(strengths[0]), 1) {
		t.Fatal("an infinite strength is no choice")
	}
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))
		a := rapid.SampledFrom([]manifest.Activation{manifest.Softmax, manifest.Sigmoid}).Draw(rt, "activation")
		tab := newTable(site(r, a, everywhere(2)), random(r), infer.Classes()[1:])
		err := tab.alongStrengths(t.Context(), tab.learnt, 0, func(_ int, p []float64) {
			if h := tab.head(p); !slices.Equal(h.Weight, tab.start.Weight) || !slices.Equal(h.Bias, tab.start.Bias) {
				rt.Fatalf("the head has changed: %+v, it was %+v", h, tab.start)
			}
		})
		if err != nil {
			rt.Fatal(err)
		}
		before := math.Inf(1)
		for _, strength := range []float64{1e2, 1e4, 1e6} {
			p, err := fit(t.Context(), &objective{tab, tab.learnt, strength}, make([]float64, tab.parameters()))
			if err != nil {
				rt.Fatal(err)
			}
			change := 0.0
			for _, v := range p {
				change = max(change, math.Abs(v))
			}
			// The slope of a mean cross-entropy is at most 1 in each bias, and as much in the
			// weights of features as long as most are.
			if change > before || change > 10/strength {
				rt.Fatalf("strength %g changes by %g, a weaker one by %g", strength, change, before)
			}
			before = change
		}
	})
}

// A head that knows nothing of a site learns it, and what is said of a patient
// comes from fits without that patient.
func TestAdapt(t *testing.T) {
	for _, a := range []manifest.Activation{manifest.Softmax, manifest.Sigmoid} {
		t.Run(string(a), func(t *testing.T) {
			r := rand.New(rand.NewPCG(5, 7))
			patients := everywhere(12)
			patients[infer.Subdural] = MinimumPatients - 1
			d := site(r, a, patients)
			start := random(r)
			steps := 0
			res, err := Adapt(t.Context(), d, start, Options{Workers: 2, Progress: func(done, total int) {
				if steps++; done != steps || total != 15 {
					t.Errorf("step %d: %d of %d", steps, done, total)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if steps != 15 || res.Patients != 69 || res.With != 57 || res.Without != 12 || res.Learnt != 69*4 || len(res.FoldStrengths) != Folds {
				t.Errorf("%d steps, %+v", steps, res)
			}
			want := []infer.Class{infer.Epidural, infer.Intraventricular, infer.Intraparenchymal, infer.Subarachnoid}
			if got := res.Adapted(); !slices.Equal(got, want) {
				t.Errorf("adapted %v", got)
			}
			for k, c := range d.Classes {
				same := slices.Equal(res.Head.Weight[k*features:(k+1)*features], start.Weight[k*features:(k+1)*features]) && res.Head.Bias[k] == start.Bias[k]
				if same != (c == infer.Subdural) {
					t.Errorf("%v: the weights are the old ones: %t", c, same)
				}
			}
			if math.IsInf(float64(res.Strength), 1) || len(res.Tried) != len(strengths) {
				t.Errorf("strength %v of %v", res.Strength, res.Tried)
			}
			before, after := auc(t, d, nil, start), auc(t, d, res.OutOfFold, start)
			if after < 0.9 || after < before {
				t.Errorf("any hemorrhage: AUC %.3f before, %.3f out of fold", before, after)
			}
			// The same again, on one core.
			again, err := Adapt(t.Context(), d, start, Options{Workers: 1})
			if err != nil || !slices.Equal(again.Head.Weight, res.Head.Weight) {
				t.Errorf("another time another head (%v)", err)
			}
		})
	}
}

// auc is that of any hemorrhage, of the head where there are no probabilities.
func auc(t *testing.T, d *Data, probabilities [][]float64, h Head) float64 {
	t.Helper()
	data := assess.Data{Classes: d.Classes, Thresholds: map[infer.Class]float64{}}
	for _, c := range d.Classes[1:] {
		data.Thresholds[c] = 0.5
	}
	for i, s := range d.Slices {
		p := h.Probabilities(d.Activation, s.Features)
		if probabilities != nil {
			p = probabilities[i]
		}
		data.Slices = append(data.Slices, assess.Slice{Patient: s.Patient, Truth: s.Truth, Probabilities: p})
	}
	f, err := assess.Assess(data, assess.Options{Rounds: 10})
	if err != nil {
		t.Fatal(err)
	}
	return f.Slices.Any.AUC.Value
}

// A patient's labels say nothing about what is predicted for that patient: with
// labels of chance nothing can be learnt, and it shows.
func TestOutOfFoldDoesNotKnowThePatient(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	d := site(r, manifest.Softmax, map[infer.Class]int{infer.Normal: 30, infer.Epidural: 30})
	for i := range d.Slices { // every feature is the patient's own, and chance
		own := rand.New(rand.NewPCG(uint64(d.Slices[i].Patient), 9))
		for j := range d.Slices[i].Features {
			d.Slices[i].Features[j] = float32(own.NormFloat64())
		}
	}
	start := Head{Weight: make([]float32, 6*features), Bias: make([]float32, 6)}
	start.Weight[0] = 0.1 // not all scores the same
	res, err := Adapt(t.Context(), d, start, Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	if got := auc(t, d, res.OutOfFold, start); got > 0.7 {
		t.Errorf("AUC %.3f where there is nothing to learn", got)
	}
}

// What the thresholds of a fold are chosen from knows nothing of that fold: with its
// slices' features dealt anew it stays, where plain out-of-fold predictions change.
func TestWithoutFoldDoesNotKnowTheFold(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 8))
	d := site(r, manifest.Softmax, map[infer.Class]int{infer.Normal: 15, infer.Epidural: 15})
	start := random(r)
	before, err := Adapt(t.Context(), d, start, Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	const k = 3
	var own []int
	for i, s := range d.Slices {
		if before.Fold[s.Patient] == k {
			own = append(own, i)
		}
	}
	for i, at := range own[:len(own)/2] { // the same features in all, and so the same scale
		other := own[len(own)-1-i]
		d.Slices[at].Features, d.Slices[other].Features = d.Slices[other].Features, d.Slices[at].Features
	}
	after, err := Adapt(t.Context(), d, start, Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	without, plain := 0.0, 0.0
	for i, s := range d.Slices {
		if before.Fold[s.Patient] == k {
			continue
		}
		for c := range d.Classes {
			without = max(without, math.Abs(before.WithoutFold[k][i][c]-after.WithoutFold[k][i][c]))
			plain = max(plain, math.Abs(before.OutOfFold[i][c]-after.OutOfFold[i][c]))
		}
	}
	if without > 1e-6 || plain < 1e-3 {
		t.Errorf("another fold %d moves what knows nothing of it by %g, what does by %g", k, without, plain)
	}
	for i, s := range d.Slices {
		if own := before.Fold[s.Patient]; !slices.Equal(before.WithoutFold[own][i], before.OutOfFold[i]) {
			t.Fatalf("slice %d: without its own fold %v, out of fold %v", i, before.WithoutFold[own][i], before.OutOfFold[i])
		}
	}
}

func TestWhatIsNoNumberIsRefused(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(-1)} {
		d := site(rand.New(rand.NewPCG(1, 2)), manifest.Softmax, everywhere(12))
		d.Slices[17].Doubtful, d.Slices[17].Features[2] = true, float32(v)
		_, err := Adapt(t.Context(), d, Head{Weight: make([]float32, 6*features), Bias: make([]float32, 6)}, Options{Workers: 2})
		if err == nil || !strings.Contains(err.Error(), "feature 2 of slice 17 is") {
			t.Errorf("%v: %v", v, err)
		}
	}
}

func TestPatientsAreDealtWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		patients := map[infer.Class]int{}
		for _, c := range infer.Classes() {
			patients[c] = rapid.IntRange(0, 23).Draw(rt, c.String())
		}
		d := site(rand.New(rand.NewPCG(1, 1)), manifest.Softmax, patients)
		c := d.census()
		fold := c.deal(d)
		of := map[int]int{}
		var shows [Folds][assess.NumClasses]int
		for i, s := range d.Slices {
			f, known := of[s.Patient]
			if known && f != fold[i] {
				rt.Fatalf("patient %d is in folds %d and %d", s.Patient, f, fold[i])
			}
			if of[s.Patient] = fold[i]; !known {
				for class, yes := range c.patients[c.number[s.Patient]].shows.Shows {
					if yes {
						shows[fold[i]][class]++
					}
				}
			}
		}
		for _, n := range c.classes {
			for f := range Folds {
				if k := shows[f][n.Class]; k < n.Patients/Folds || k > n.Patients/Folds+1 {
					rt.Fatalf("fold %d has %d of %d patients with %v", f, k, n.Patients, n.Class)
				}
			}
		}
	})
}

func TestBalance(t *testing.T) {
	d := site(rand.New(rand.NewPCG(1, 1)), manifest.Softmax, map[infer.Class]int{infer.Normal: 40, infer.Epidural: 3, infer.Subarachnoid: 17, infer.Subdural: 2})
	d.Slices[0].Doubtful = true
	d.Slices = append(d.Slices, Slice{Truth: assess.Truth{Unclassified: true}})
	w := d.balance([]infer.Class{infer.Epidural, infer.Subarachnoid})
	var sum [assess.NumClasses]float64
	kept := 0.0
	for i, s := range d.Slices {
		if s.Truth.Unclassified {
			if w[i] != 0 {
				t.Errorf("a slice of no known class weighs %v", w[i])
			}
			continue
		}
		c := s.Truth.Classes()[0]
		sum[c] += w[i]
		if c == infer.Subdural {
			kept = w[i]
		}
	}
	fitted := (sum[infer.Epidural] + sum[infer.Subarachnoid]) / (2 * (3 + 17))
	// The kept class is there beside the others; it takes from all in proportion.
	rest := 1 - sum[infer.Subdural]
	if w[0] != 0 || math.Abs(sum[infer.Normal]/rest-1./3) > 1e-9 || math.Abs(sum[infer.Epidural]/rest-1./3) > 1e-9 || math.Abs(sum[infer.Subarachnoid]/rest-1./3) > 1e-9 {
		t.Errorf("shares %v, of the doubtful slice %v", sum, w[0])
	}
	if math.Abs(kept-fitted) > 1e-9 {
		t.Errorf("a slice of a kept class weighs %v, one of the fitted on average %v", kept, fitted)
	}
}

func TestAdaptRefusesTooLittle(t *testing.T) {
	start := random(rand.New(rand.NewPCG(1, 2)))
	for name, c := range map[string]struct {
		patients map[infer.Class]int
		unit     string
		says     string
	}{
		"no bleeds":        {map[infer.Class]int{infer.Normal: 50}, "", "there are 0 with and 50 without"},
		"no normal ones":   {map[infer.Class]int{infer.Normal: 9, infer.Epidural: 50}, "study", "at least 10 studies with a hemorrhage and 10 without one, and 10 that show the same class; there are 50 with and 9 without, epidural 50"},
		"few of each kind": {everywhere(9), "patient", "epidural 9, subdural 9"},
	} {
		d := site(rand.New(rand.NewPCG(1, 1)), manifest.Softmax, c.patients)
		_, err := Adapt(t.Context(), d, start, Options{Unit: c.unit})
		var little *TooLittleError
		if !errors.As(err, &little) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAdaptRefusesData(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	d, start := site(r, manifest.Softmax, everywhere(10)), random(r)
	d.Slices[3].Features = d.Slices[3].Features[1:]
	if _, err := Adapt(t.Context(), d, start, Options{}); err == nil || !strings.Contains(err.Error(), "slice 3 has 5 features, the head takes 6") {
		t.Errorf("a feature too few: %v", err)
	}
	if _, err := Adapt(t.Context(), &Data{Classes: infer.Classes()}, start, Options{}); err == nil {
		t.Error("no slices were taken")
	}
	start.Bias = start.Bias[1:]
	if _, err := Adapt(t.Context(), d, start, Options{}); err == nil {
		t.Error("a head of five classes was taken for six")
	}
}

func TestAdaptStopsWithTheContext(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stopped by hand")
	_, err := Adapt(ctx, site(r, manifest.Softmax, everywhere(10)), random(r), Options{Workers: 1, Progress: func(int, int) { cancel(why) }})
	if !errors.Is(err, why) {
		t.Errorf("Adapt: %v", err)
	}
}

// The fits that choose the strength, as an appliance meets them: 2500 slices of 80
// patients, 512 features.
func BenchmarkAdapt(b *testing.B) {
	const wide = 512
	r := rand.New(rand.NewPCG(1, 2))
	d := site(r, manifest.Softmax, everywhere(14))
	for i := range d.Slices {
		f := make([]float32, wide)
		for j := range f {
			f[j] = float32(r.ExpFloat64())
		}
		copy(f, d.Slices[i].Features)
		d.Slices[i].Features = f
	}
	d.Slices = slices.Repeat(d.Slices, 7)
	start := Head{Weight: make([]float32, 6*wide), Bias: make([]float32, 6)}
	for b.Loop() {
		if _, err := Adapt(b.Context(), d, start, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
