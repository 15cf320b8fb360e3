package drift

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Feature is a number of a study, the mean over its slices.
type Feature string

// The features.
const (
	TissueHU  Feature = "tissue_hu"    // mean HU of soft tissue: calibration, kilovolts
	TissueSD  Feature = "tissue_sd_hu" // its standard deviation: noise, kernel
	PixelMM   Feature = "pixel_mm"     // field of view and matrix
	Thickness Feature = "slice_mm"     // protocol
)

// features has each with the least standard deviation that is believed: the step
// of the number, below which nothing matters.
var features = []struct {
	Feature
	least float64
	words string
}{
	{TissueHU, 1, "mean HU of soft tissue"},
	{TissueSD, 1, "spread of HU in soft tissue"},
	{PixelMM, 0.02, "pixel spacing in mm"},
	{Thickness, 0.25, "slice thickness in mm"},
}

// Features lists them.
func Features() []Feature {
	out := make([]Feature, len(features))
	for i, f := range features {
		out[i] = f.Feature
	}
	return out
}

const (
	// falseAlarms: at least so many studies between two of them, on average, for
	// each number and direction.
	falseAlarms = 10_000
	// shift of a feature that is looked for, in standard deviations between studies.
	shift = 1.0
	// farthest is how far, in standard deviations, one study can count: a single odd
	// one is no drift.
	farthest = 4.0
	// times is the change of the odds of a positive that is looked for.
	times = 2.5
)

var threshold = math.Log(falseAlarms)

// Usual is what is expected of studies; what it leaves out is learned.
type Usual struct {
	Features map[Feature]Spread
	Positive *Range // share of positive studies
}

// Spread of a feature between studies.
type Spread struct {
	Mean float64 `json:"mean" yaml:"mean"`
	SD   float64 `json:"sd" yaml:"sd"`
}

// Range has both ends.
type Range [2]float64

// Study is what is known of one study.
type Study struct {
	Features map[Feature]float64 // those that are known
	Positive bool
	Decided  bool // whether Positive says anything: POSITIVE or NEGATIVE
}

// Alarm is a drift that stands.
type Alarm struct {
	Of    string    `json:"of"` // a feature, or "positive_rate"
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
}

// State is what is remembered; its zero value has learned nothing.
type State struct {
	Studies  int               `json:"studies"`
	Features map[Feature]track `json:"features"`
	Positive track             `json:"positive"`
}

// track is one number that is watched.
type track struct {
	// Of the studies that it was learned from (Welford).
	N    int     `json:"n"`
	Mean float64 `json:"mean"`
	M2   float64 `json:"m2"`
	// The sums, upwards and downwards.
	Up   float64 `json:"up"`
	Down float64 `json:"down"`
	// Latest is a moving mean, for the words.
	Latest float64   `json:"latest"`
	Since  time.Time `json:"since,omitzero"` // of the alarm
	Says   string    `json:"says,omitempty"`
	Above  bool      `json:"above,omitempty"` // it was raised upwards
}

// ForgetPositives begins anew with the positive studies, as for another model.
func (s *State) ForgetPositives() { s.Positive = track{} }

// Watch adds studies up. It is not safe for concurrent use.
type Watch struct {
	State
	usual   Usual
	learn   int
	learned *Range // what is usual of positives, once that is learned
}

// New goes on with a state. learn is the number of studies to learn from, above 0.
func New(state State, usual Usual, learn int) *Watch {
	if state.Features == nil {
		state.Features = map[Feature]track{}
	}
	return &Watch{State: state, usual: usual, learn: learn}
}

// Learning reports how many of how many studies have been learned from.
func (w *Watch) Learning() (n, of int) { return min(w.Studies, w.learn), w.learn }

// Add takes a study, and gives the alarms that it raised.
func (w *Watch) Add(s Study, now time.Time) (raised []Alarm) {
	w.Studies++
	for _, f := range features {
		x, known := s.Features[f.Feature]
		if !known || math.IsNaN(x) || math.IsInf(x, 0) {
			continue
		}
		t := w.Features[f.Feature]
		spread, usual := w.usual.Features[f.Feature]
		if !usual {
			if t.N < w.learn {
				t.take(x)
				w.Features[f.Feature] = t
				continue
			}
			spread = Spread{Mean: t.Mean, SD: math.Sqrt(t.M2 / float64(max(t.N-1, 1)))}
		}
		spread.SD = max(spread.SD, f.least)
		t.feature(x, spread, t.N)
		if t.judge(now, func(direction string) string {
			return fmt.Sprintf("%s drifts %s: lately %.3g, usual %.3g (standard deviation between studies %.2g)", f.words, direction, t.Latest, spread.Mean, spread.SD)
		}) {
			raised = append(raised, Alarm{string(f.Feature), t.Says, t.Since})
		}
		w.Features[f.Feature] = t
	}
	if s.Decided {
		raised = append(raised, w.positive(s.Positive, now)...)
	}
	return raised
}

func (w *Watch) positive(is bool, now time.Time) []Alarm {
	x := 0.0
	if is {
		x = 1
	}
	t := &w.Positive
	var usual Range
	switch {
	case w.usual.Positive != nil:
		usual = *w.usual.Positive
	case t.N < w.learn:
		t.take(x)
		return nil
	default:
		if w.learned == nil {
			low, high := ClopperPearson(int(math.Round(t.Mean*float64(t.N))), t.N)
			w.learned = &Range{low, high}
		}
		usual = *w.learned
	}
	t.rate(is, usual)
	if !t.judge(now, func(direction string) string {
		return fmt.Sprintf("the share of positive studies drifts %s: lately %.0f %%, usual %.0f to %.0f %%", direction, 100*t.Latest, 100*usual[0], 100*usual[1])
	}) {
		return nil
	}
	return []Alarm{{"positive_rate", t.Says, t.Since}}
}

// Alarms lists those that stand, the oldest first.
func (w *Watch) Alarms() (out []Alarm) {
	for name, t := range w.Features {
		if t.Says != "" {
			out = append(out, Alarm{string(name), t.Says, t.Since})
		}
	}
	if w.Positive.Says != "" {
		out = append(out, Alarm{"positive_rate", w.Positive.Says, w.Positive.Since})
	}
	slices.SortFunc(out, func(a, b Alarm) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Of, b.Of)) })
	return out
}

// take learns from a study.
func (t *track) take(x float64) {
	t.N++
	d := x - t.Mean
	t.Mean += d / float64(t.N)
	t.M2 += d * (x - t.Mean)
	t.Latest = t.Mean
}

// follow is a mean over some ten studies.
func (t *track) follow(x float64) { t.Latest += (x - t.Latest) / 10 }

// feature adds a study's number, usual or shifted by shift in either direction, a
// normal deviate of the same spread. n is how many studies the spread was learned
// from, 0 if it is known.
func (t *track) feature(x float64, usual Spread, n int) {
	t.follow(x)
	near, sd := 0.0, usual.SD
	if n > 0 { // the near end of the mean's interval, the far end of the deviation's
		near = 2 / math.Sqrt(float64(n))
		sd *= 1 + 2/math.Sqrt(2*float64(n))
	}
	z := min(max((x-usual.Mean)/sd, -farthest), farthest)
	t.Up = min(max(0, t.Up+shift*(z-near)-shift*shift/2), threshold)
	t.Down = min(max(0, t.Down+shift*(-z-near)-shift*shift/2), threshold)
}

// rate adds a positive or a negative study. Upwards the high end of what is usual
// is held against odds so many times as high, downwards the low end likewise.
func (t *track) rate(positive bool, usual Range) {
	if positive {
		t.follow(1)
	} else {
		t.follow(0)
	}
	add := func(sum, p, factor float64) float64 {
		p = min(max(p, 1e-6), 1-1e-6)
		drifted := p * factor / (1 - p + p*factor)
		step := math.Log((1 - drifted) / (1 - p))
		if positive {
			step = math.Log(drifted / p)
		}
		return min(max(0, sum+step), threshold)
	}
	t.Up = add(t.Up, usual[1], times)
	t.Down = add(t.Down, usual[0], 1/times)
}

// judge raises an alarm where a sum has reached the threshold, and ends it where
// that is back at 0. It reports whether there is a new one.
func (t *track) judge(now time.Time, say func(direction string) string) bool {
	switch {
	case t.Says == "" && t.Up >= threshold:
		t.Since, t.Says, t.Above = now.UTC(), say("upwards"), true
		return true
	case t.Says == "" && t.Down >= threshold:
		t.Since, t.Says, t.Above = now.UTC(), say("downwards"), false
		return true
	case t.Says != "" && (t.Above && t.Up == 0 || !t.Above && t.Down == 0):
		t.Since, t.Says, t.Above = time.Time{}, "", false
	}
	return false
}

// ClopperPearson is the exact 95 % interval of a proportion k of n.
func ClopperPearson(k, n int) (low, high float64) {
	low, high = 0, 1
	if k > 0 {
		low = solve(func(p float64) float64 { return 1 - atMost(k-1, n, p) - 0.025 }) // rises with p
	}
	if k < n {
		high = solve(func(p float64) float64 { return 0.025 - atMost(k, n, p) })
	}
	return low, high
}

// atMost is the probability of k or fewer of n.
func atMost(k, n int, p float64) float64 {
	if p <= 0 {
		return 1
	}
	if p >= 1 {
		return 0
	}
	choose := func(i int) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(i + 1))
		c, _ := math.Lgamma(float64(n - i + 1))
		return a - b - c
	}
	sum := 0.0
	for i := 0; i <= k; i++ {
		sum += math.Exp(choose(i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return min(sum, 1)
}

// solve finds where a rising function of 0..1 crosses 0.
func solve(f func(float64) float64) float64 {
	low, high := 0.0, 1.0
	for range 60 {
		if middle := (low + high) / 2; f(middle) < 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return (low + high) / 2
}
