package phantom

import (
	"math"
	"math/rand/v2"
	"sync"
)

const latticeSize = 64 // texels a side; a power of two, for the mask

// lattice is a periodic cube of band-passed Gaussian noise with unit variance.
// Along a line its sign changes about every latticeSpacing texels.
type lattice [latticeSize * latticeSize * latticeSize]float32

const latticeSpacing = 4.4

// theLattice is one cube for every study: a study takes its own place, turn
// and scale in it. It costs 1 MiB and some 20 ms, once.
var theLattice = sync.OnceValue(func() *lattice {
	const n = latticeSize
	r := rand.New(rand.NewPCG(0x1c4a7c4, 0x9e3779b97f4a7c15))
	white := make([]float32, n*n*n)
	for i := range white {
		white[i] = float32(r.NormFloat64())
	}
	narrow := blurCube(white, 1.1)
	wide := blurCube(white, 2.4)
	l := new(lattice)
	var sum float64
	for i := range l {
		l[i] = narrow[i] - wide[i]
		sum += float64(l[i]) * float64(l[i])
	}
	k := float32(1 / math.Sqrt(sum/float64(len(l))))
	for i := range l {
		l[i] *= k
	}
	return l
})

func gaussianTaps(sigma float64) []float32 {
	radius := int(math.Ceil(3 * sigma))
	taps := make([]float32, 2*radius+1)
	var sum float64
	for i := range taps {
		x := float64(i - radius)
		v := math.Exp(-x * x / (2 * sigma * sigma))
		taps[i] = float32(v)
		sum += v
	}
	for i := range taps {
		taps[i] = float32(float64(taps[i]) / sum)
	}
	return taps
}

// blurCube blurs a periodic cube along its three axes.
func blurCube(src []float32, sigma float64) []float32 {
	const n = latticeSize
	taps := gaussianTaps(sigma)
	radius := len(taps) / 2
	a := append([]float32(nil), src...)
	b := make([]float32, len(src))
	for _, stride := range []int{1, n, n * n} {
		for i := range a {
			at := i / stride % n
			base := i - at*stride
			var v float32
			for k, t := range taps {
				v += t * a[base+((at+k-radius)&(n-1))*stride]
			}
			b[i] = v
		}
		a, b = b, a
	}
	return a
}

// at interpolates the cube at a position in texels (any sign above -4096).
func (l *lattice) at(p vec) float32 {
	const n, m = latticeSize, latticeSize - 1
	x, y, z := p.x+4096, p.y+4096, p.z+4096
	ix, iy, iz := int(x), int(y), int(z)
	fx, fy, fz := x-float32(ix), y-float32(iy), z-float32(iz)
	x0, x1 := ix&m, (ix+1)&m
	y0, y1 := (iy&m)*n, ((iy+1)&m)*n
	z0, z1 := (iz&m)*n*n, ((iz+1)&m)*n*n
	a := l[z0+y0+x0] + fx*(l[z0+y0+x1]-l[z0+y0+x0])
	b := l[z0+y1+x0] + fx*(l[z0+y1+x1]-l[z0+y1+x0])
	c := l[z1+y0+x0] + fx*(l[z1+y0+x1]-l[z1+y0+x0])
	d := l[z1+y1+x0] + fx*(l[z1+y1+x1]-l[z1+y1+x0])
	a += fy * (b - a)
	c += fy * (d - c)
	return a + fz*(c-a)
}

// noiseField is a study's own view of the lattice, with a wavelength in mm.
type noiseField struct {
	l     *lattice
	turn  rotation // scaled to texels per mm
	place vec
	mm    float32 // about the distance in mm for a change of 1
}

// newNoiseField draws a field whose sign changes about every spacing mm.
func newNoiseField(d draw, spacing float32) noiseField {
	f := noiseField{l: theLattice()}
	k := latticeSpacing / spacing
	f.turn = rotated(d.between(0, 360), d.between(0, 360), d.between(0, 360))
	for i := range f.turn {
		f.turn[i] = f.turn[i].scale(k)
	}
	f.place = vec{d.between(0, latticeSize), d.between(0, latticeSize), d.between(0, latticeSize)}
	f.mm = 1 / (1.1 * k)
	return f
}

func (f *noiseField) at(p vec) float32 { return f.l.at(f.turn.apply(p).add(f.place)) }
