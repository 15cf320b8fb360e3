package drift

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ichwatch/infer"
)

var now = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// site draws studies as a hospital sends them.
type site struct {
	*rand.Rand
	hu, sd, mm, thickness float64
	positive              float64
}

func newSite(seed uint64) *site {
	return &site{Rand: rand.New(rand.NewPCG(seed, 1)), hu: 30, sd: 12, mm: 0.45, thickness: 5, positive: 0.12}
}

func (s *site) study() Study {
	thick := s.thickness
	if s.Float64() < 0.2 { // another protocol
		thick /= 2
	}
	return Study{Features: map[Feature]float64{
		TissueHU: s.hu + 2*s.NormFloat64(), TissueSD: s.sd + 1.5*s.NormFloat64(), PixelMM: s.mm + 0.02*s.NormFloat64(), Thickness: thick,
	}, Positive: s.Float64() < s.positive, Decided: true}
}

// The bound holds: over many sites that do not drift, each with its own hundred
// studies to learn from, false alarms are as rare as is said.
func TestFalseAlarmsAreRare(t *testing.T) {
	const sites, studies = 40, 2500
	alarms := map[string]int{}
	for seed := range uint64(sites) {
		w, s := New(State{}, Usual{}, 100), newSite(seed)
		for range 100 + studies {
			for _, a := range w.Add(s.study(), now) {
				alarms[a.Of]++
			}
		}
	}
	// Ten in 100,000 studies and direction are the bound; three times as many, for
	// the sites whose hundred studies were odd ones.
	total := 0
	for of, n := range alarms {
		total += n
		if n > 2*3*sites*studies/falseAlarms {
			t.Errorf("%d false alarms of %s in %d studies", n, of, sites*studies)
		}
	}
	t.Logf("%d false alarms in %d studies, five numbers in two directions: %v", total, sites*studies, alarms)
}

// A usual that is known needs no margin: there the bound is Lorden's own.
func TestFalseAlarmsOfAKnownUsual(t *testing.T) {
	usual := Usual{
		Features: map[Feature]Spread{TissueHU: {30, 2}, TissueSD: {12, 1.5}, PixelMM: {0.45, 0.02}, Thickness: {5, 1}},
		Positive: &Range{0.12, 0.12},
	}
	w, s := New(State{}, usual, 1), newSite(7)
	alarms, studies := 0, 200_000
	for range studies {
		study := s.study()
		study.Features[Thickness] = 5 + s.NormFloat64()
		alarms += len(w.Add(study, now))
	}
	t.Logf("%d false alarms in %d studies", alarms, studies)
	if most := 10 * studies / falseAlarms; alarms > most {
		t.Errorf("more than %d", most)
	}
}

func TestDriftIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*site)
		of     string
		says   string
		within int // studies
	}{
		"recalibrated":    {func(s *site) { s.hu += 5 }, "tissue_hu", "upwards", 20},
		"another kernel":  {func(s *site) { s.sd -= 5 }, "tissue_sd_hu", "downwards", 20},
		"another field":   {func(s *site) { s.mm += 0.1 }, "pixel_mm", "upwards", 20},
		"thin slices":     {func(s *site) { s.thickness = 0.6 }, "slice_mm", "downwards", 20},
		"all is positive": {func(s *site) { s.positive = 0.9 }, "positive_rate", "upwards", 40},
		"twice as many":   {func(s *site) { s.positive = 0.4 }, "positive_rate", "upwards", 300},
		"blind":           {func(s *site) { s.positive = 0 }, "positive_rate", "downwards", 400},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(5) {
				w, s := New(State{}, Usual{}, 200), newSite(seed)
				for range 300 {
					if a := w.Add(s.study(), now); len(a) > 0 {
						t.Fatalf("before the drift: %v", a)
					}
				}
				c.change(s)
				n := 0
				for ; n < c.within; n++ {
					// The state goes through a file between any two studies.
					text, err := json.Marshal(w.State)
					if err != nil {
						t.Fatal(err)
					}
					var state State
					if err := json.Unmarshal(text, &state); err != nil {
						t.Fatal(err)
					}
					w = New(state, Usual{}, 200)
					raised := w.Add(s.study(), now.Add(time.Hour))
					if len(raised) > 0 {
						if a := raised[0]; a.Of != c.of || !strings.Contains(a.Text, c.says) || !a.Since.Equal(now.Add(time.Hour)) {
							t.Errorf("%+v", a)
						}
						break
					}
				}
				if n == c.within {
					t.Fatalf("not found in %d studies", n)
				}
				// It stands, is said once, and ends when the site is as it was.
				if a := w.Alarms(); len(a) != 1 || a[0].Of != c.of {
					t.Errorf("alarms %v", a)
				}
				*s = *newSite(seed + 100)
				for range 400 {
					for _, a := range w.Add(s.study(), now) {
						if a.Of == c.of && w.Alarms() != nil {
							t.Logf("again: %v", a)
						}
					}
					if len(w.Alarms()) == 0 {
						break
					}
				}
				if a := w.Alarms(); len(a) > 0 {
					t.Errorf("still: %v", a)
				}
			}
		})
	}
}

// One odd study, however odd, is no drift; nor is one of which nothing is known.
func TestOddStudies(t *testing.T) {
	w, s := New(State{}, Usual{}, 100), newSite(3)
	for range 150 {
		w.Add(s.study(), now)
	}
	for _, odd := range []Study{
		{},
		{Features: map[Feature]float64{TissueHU: 1e9, TissueSD: math.NaN(), PixelMM: math.Inf(1)}},
		{Features: map[Feature]float64{TissueHU: -1e9}},
	} {
		if a := w.Add(odd, now); len(a) > 0 {
			t.Errorf("%+v: %v", odd, a)
		}
	}
	if n, of := w.Learning(); n != 100 || of != 100 {
		t.Errorf("learned from %d of %d", n, of)
	}
}

// The exact interval, against the tables.
func TestClopperPearson(t *testing.T) {
	for _, c := range []struct {
		k, n      int
		low, high float64
	}{{0, 10, 0, 0.3085}, {10, 10, 0.6915, 1}, {1, 20, 0.0013, 0.2487}, {12, 100, 0.0636, 0.2002}, {50, 100, 0.3983, 0.6017}} {
		low, high := ClopperPearson(c.k, c.n)
		if math.Abs(low-c.low) > 1e-4 || math.Abs(high-c.high) > 1e-4 {
			t.Errorf("%d of %d: %.4f to %.4f, want %.4f to %.4f", c.k, c.n, low, high, c.low, c.high)
		}
	}
}

func TestCollector(t *testing.T) {
	img := &infer.Image{Rows: 128, Columns: 128, HU: make([]int16, 128*128), PixelSpacing: [2]float64{0.5, 0.5}}
	for i := range img.HU {
		img.HU[i] = []int16{-1000, 20, 40, 1200}[i/128/32]
	}
	var c Collector
	c.Add(img, 5)
	img.PixelSpacing = [2]float64{}
	var second Collector
	if second.Means() != nil {
		t.Error("an empty collector has means")
	}
	second.Add(img, 0)
	c.Merge(&second)
	got := c.Means()
	for f, want := range map[Feature]float64{TissueHU: 30, TissueSD: 10, PixelMM: 0.5, Thickness: 5} {
		if math.Abs(got[f]-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", f, got[f], want)
		}
	}
}

func BenchmarkCollector(b *testing.B) {
	img := &infer.Image{Rows: 512, Columns: 512, HU: make([]int16, 512*512)}
	var c Collector
	b.ReportAllocs()
	for b.Loop() {
		c.Add(img, 5)
	}
}
