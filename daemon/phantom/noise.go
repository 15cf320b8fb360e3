package phantom

import "math"

// tileSize is the side of the periodic square of image noise.
const tileSize = 512

// noiseTile makes a periodic square of noise with the kernel's texture and
// unit variance.
func (a *acquisition) noiseTile() []float32 {
	d := newDraw(a.seed, "noise")
	const n = tileSize
	white := make([]float32, n*n)
	for i := range white {
		white[i] = float32(d.r.NormFloat64())
	}
	narrow := blurTile(white, float64(a.grainPx))
	wide := blurTile(white, float64(a.grainPx)*2.2+1)
	var sum float64
	for i := range narrow {
		narrow[i] -= 0.85 * wide[i]
		sum += float64(narrow[i]) * float64(narrow[i])
	}
	k := float32(1 / math.Sqrt(sum/float64(len(narrow))))
	for i := range narrow {
		narrow[i] *= k
	}
	return narrow
}

func blurTile(src []float32, sigma float64) []float32 {
	const n = tileSize
	taps := gaussianTaps(sigma)
	r := len(taps) / 2
	a := make([]float32, len(src))
	b := make([]float32, len(src))
	padded := make([]float32, n+2*r)
	for y := range n {
		line := src[y*n:][:n]
		for k := range padded {
			padded[k] = line[(k-r+n)%n]
		}
		for x := range n {
			var v float32
			for k, t := range taps {
				v += t * padded[x+k]
			}
			a[y*n+x] = v
		}
	}
	for y := range n {
		out := b[y*n:][:n]
		for k, t := range taps {
			line := a[(y+k-r+n)%n*n:][:n]
			for x := range out {
				out[x] += t * line[x]
			}
		}
	}
	return b
}

// addNoise adds the tile, from another place for every slice: most in the
// middle of the head and where bone is thick.
func (s *Study) addNoise(c *canvas, r draw) {
	a := &s.scan
	tile := s.tile()
	ox, oy := r.intn(tileSize), r.intn(tileSize)
	sigma := a.noise * (1 + 0.35*smooth(-10, -45, c.base)) * (0.85 + 0.15*smooth(60, 20, c.base))
	flip := r.intn(2) == 1
	for y := range c.rows {
		line := c.hu[y*c.columns:][:c.columns]
		noise := tile[(y+oy)%tileSize*tileSize:][:tileSize]
		gy := min((y+gridStep/2)/gridStep, c.gridRows-1)
		for x := range line {
			t := (x + ox) % tileSize
			if flip {
				t = tileSize - 1 - t
			}
			k := gy*c.gridColumns + min((x+gridStep/2)/gridStep, c.gridColumns-1)
			depth := -c.grid[gOuter][k]
			line[x] += sigma * noise[t] * (0.55 + 0.45*smooth(-30, 45, depth))
		}
	}
}
