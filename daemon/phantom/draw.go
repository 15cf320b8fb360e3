package phantom

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// draw is one named stream of random numbers of a study. Every part of the
// study has its own, so that a new parameter in one part leaves the others'
// draws alone.
type draw struct{ r *rand.Rand }

func newDraw(seed uint64, name string) draw {
	h := fnv.New64a()
	h.Write([]byte(name))
	return draw{rand.New(rand.NewPCG(seed, h.Sum64()))}
}

func (d draw) between(lo, hi float64) float32 { return float32(lo + (hi-lo)*d.r.Float64()) }

// normal draws from N(mean, sd), cut off at two and a half sd.
func (d draw) normal(mean, sd float64) float32 {
	v := d.r.NormFloat64()
	v = math.Max(-2.5, math.Min(2.5, v))
	return float32(mean + sd*v)
}

func (d draw) chance(p float64) bool { return d.r.Float64() < p }

func (d draw) side() float32 {
	if d.chance(0.5) {
		return 1
	}
	return -1
}

func (d draw) intn(n int) int { return d.r.IntN(n) }

func (d draw) pick(values ...float32) float32 { return values[d.r.IntN(len(values))] }

// logBetween draws evenly on a logarithmic scale.
func (d draw) logBetween(lo, hi float64) float32 {
	return float32(lo * math.Exp(d.r.Float64()*math.Log(hi/lo)))
}
