package assess

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Estimate is one figure with its 95 % interval.
type Estimate struct {
	// Undefined says why there is no value; the rest is empty then.
	Undefined string
	Value     float64
	// Method is how Low and High were found: "bootstrap" or "wilson". Where it is
	// empty there is no interval, and Unknown says why.
	Method    Method
	Low, High float64
	Unknown   string
}

// Method names a way to an interval.
type Method string

// The methods.
const (
	Bootstrap Method = "bootstrap" // percentiles over draws of patients
	Wilson    Method = "wilson"    // score interval, a trial for each patient
)

// Defined reports whether there is a value.
func (e Estimate) Defined() bool { return e.Undefined == "" }

// estimateJSON is the form that travels: what is not there is left out.
type estimateJSON struct {
	Undefined string   `json:"undefined,omitempty"`
	Value     *float64 `json:"value,omitempty"`
	Low       *float64 `json:"low,omitempty"`
	High      *float64 `json:"high,omitempty"`
	Interval  Method   `json:"interval,omitempty"`
	Unknown   string   `json:"interval_unknown,omitempty"`
}

// MarshalJSON leaves out what is not known, rather than to write a number that
// means nothing.
func (e Estimate) MarshalJSON() ([]byte, error) {
	if !e.Defined() {
		return json.Marshal(estimateJSON{Undefined: e.Undefined})
	}
	j := estimateJSON{Value: rounded(e.Value), Interval: e.Method, Unknown: e.Unknown}
	if e.Method != "" {
		j.Low, j.High = rounded(e.Low), rounded(e.High)
	}
	return json.Marshal(j)
}

// UnmarshalJSON is the inverse of MarshalJSON, to six digits.
func (e *Estimate) UnmarshalJSON(text []byte) error {
	var j estimateJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	*e = Estimate{Undefined: j.Undefined, Method: j.Interval, Unknown: j.Unknown}
	for from, to := range map[*float64]*float64{j.Value: &e.Value, j.Low: &e.Low, j.High: &e.High} {
		if from != nil {
			*to = *from
		}
	}
	return nil
}

func rounded(v float64) *float64 {
	v = math.Round(v*1e6) / 1e6
	return &v
}

// WilsonInterval is the 95 % score interval of a proportion k of n (Wilson 1927).
// k need not be whole. Without trials it is 0..1.
func WilsonInterval(k, n float64) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	const z = 1.959963984540054
	p, d := k/n, 1+z*z/n
	centre := (p + z*z/(2*n)) / d
	half := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n)) / d
	// Rounding must not push the estimate out of its own interval.
	return min(max(centre-half, 0), p), max(min(centre+half, 1), p)
}

// measurer computes figures from items, each of which belongs to a patient and
// counts as often as the patient was drawn.
type measurer interface {
	// figures says what each of the figures needs, in order.
	figures() []figure
	// measure writes the figures; NaN where one cannot be said. weight is by
	// patient.
	measure(weight, dst []float64)
}

// figure is what has to be known of a figure to find its interval.
type figure struct {
	undefined string // why it has no value; empty where it has
	patients  int    // of whom it speaks: the fewer of positive and negative where it needs both
	who       string // what those patients have in common, for words
	ratio     bool   // it is a proportion, for which Wilson's interval holds
	trials    int    // where each patient counts exactly once: how many there are; otherwise 0
}

// estimate computes the figures of all measurers with their intervals. The same
// seed gives the same intervals, on any number of cores.
func estimate(patients int, o Options, measurers []measurer) [][]Estimate {
	var at []int
	total := 0
	for _, m := range measurers {
		at = append(at, total)
		total += len(m.figures())
	}
	measureAll := func(weight, dst []float64) {
		for i, m := range measurers {
			m.measure(weight, dst[at[i]:])
		}
	}
	ones := slices.Repeat([]float64{1}, patients)
	values := make([]float64, total)
	measureAll(ones, values)

	draws := make([][]float64, o.Rounds)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range o.workers() {
		workers.Go(func() {
			weight := make([]float64, patients)
			for {
				round := int(next.Add(1)) - 1
				if round >= o.Rounds || patients == 0 {
					return
				}
				random := rand.New(rand.NewPCG(o.Seed, uint64(round)))
				clear(weight)
				for range patients {
					weight[random.IntN(patients)]++
				}
				draws[round] = make([]float64, total)
				measureAll(weight, draws[round])
			}
		})
	}
	workers.Wait()

	out := make([][]Estimate, len(measurers))
	column := make([]float64, 0, o.Rounds)
	for i, m := range measurers {
		for k, f := range m.figures() {
			column = column[:0]
			for _, draw := range draws {
				if draw != nil && !math.IsNaN(draw[at[i]+k]) { // a draw without a positive has no AUC and does not count
					column = append(column, draw[at[i]+k])
				}
			}
			out[i] = append(out[i], f.estimate(values[at[i]+k], column))
		}
	}
	return out
}

func (o *Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// estimate chooses the interval for a value. draws may be sorted.
func (f figure) estimate(value float64, draws []float64) Estimate {
	switch {
	case f.undefined != "":
		return Estimate{Undefined: f.undefined}
	case math.IsNaN(value) || math.IsInf(value, 0):
		return Estimate{Undefined: "it cannot be computed from these data"}
	}
	e := Estimate{Value: value}
	switch {
	case f.patients < 2:
		e.Unknown = "a single " + f.who + " says nothing about others"
		return e
	case f.ratio && f.trials > 0:
		e.Method = Wilson
		e.Low, e.High = WilsonInterval(value*float64(f.trials), float64(f.trials))
		return e
	case len(draws) < 20:
		e.Unknown = "too few draws"
		return e
	}
	slices.Sort(draws)
	e.Method = Bootstrap
	e.Low, e.High = min(percentile(draws, 0.025), value), max(percentile(draws, 0.975), value)
	if f.ratio && e.Low == e.High {
		// Every draw says the same: 0 or 1. That there is no doubt does not follow.
		e.Method = Wilson
		e.Low, e.High = WilsonInterval(value*float64(f.patients), float64(f.patients))
	}
	return e
}

// percentile interpolates between the two nearest of sorted values.
func percentile(sorted []float64, share float64) float64 {
	at := share * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
