package phantom

import (
	"math"
)

// disturb turns the painted picture into what a scanner would show: table,
// point spread, beam hardening, motion, metal, noise.
func (s *Study) disturb(c *canvas, slot int) {
	a := &s.scan
	r := newDraw(a.seed, "slice").fork(slot)
	s.furniture(c)
	if m := &a.motion; m.share > 0 && slot >= m.slices[0] && slot < m.slices[1] {
		s.move(c, r)
	}
	taps := a.taps()
	convolve(c.other, c.hu, c.rows, c.columns, taps)
	c.hu, c.other = c.other, c.hu
	s.harden(c, slot, r)
	s.metalStreaks(c, slot, r)
	s.addNoise(c, r)
	if a.round {
		s.pad(c)
	}
}

func (d draw) fork(n int) draw {
	return newDraw(d.r.Uint64()+uint64(n)*0x9e3779b97f4a7c15, "slice")
}

// taps is the point spread along one axis.
func (a *acquisition) taps() []float32 {
	sigma := max(0.35, float64(a.psf)/a.pixel)
	g := gaussianTaps(sigma)
	if a.sharpen <= 0 {
		return g
	}
	wide := gaussianTaps(sigma * 1.9)
	out := make([]float32, len(wide))
	off := (len(wide) - len(g)) / 2
	for i := range wide {
		out[i] = -a.sharpen * wide[i]
	}
	for i := range g {
		out[i+off] += (1 + a.sharpen) * g[i]
	}
	return out
}

// convolve blurs src into dst along rows, then columns; the border repeats.
// src is destroyed.
func convolve(dst, src []float32, rows, columns int, taps []float32) {
	r := len(taps) / 2
	padded := make([]float32, columns+2*r)
	for y := range rows {
		line := src[y*columns:][:columns]
		copy(padded[r:], line)
		for k := range r {
			padded[k], padded[columns+r+k] = line[0], line[columns-1]
		}
		out := dst[y*columns:][:columns]
		for x := range out {
			w := padded[x:][:len(taps)]
			var v float32
			for k, t := range taps {
				v += t * w[k]
			}
			out[x] = v
		}
	}
	copy(src, dst)
	for y := range rows {
		out := dst[y*columns:][:columns]
		for k, t := range taps {
			line := src[min(max(y+k-r, 0), rows-1)*columns:][:columns]
			if k == 0 {
				for x := range out {
					out[x] = t * line[x]
				}
				continue
			}
			for x := range out {
				out[x] += t * line[x]
			}
		}
	}
}

// furniture puts table and head holder where there is air.
func (s *Study) furniture(c *canvas) {
	a := &s.scan
	f := &a.holder
	px := float32(a.pixel)
	x0 := float32(a.centre[0]) - float32(c.columns-1)/2*px - f.x
	y0 := float32(a.centre[1]) - float32(c.rows-1)/2*px
	for y := range c.rows {
		py := y0 + float32(y)*px
		if py < -60 {
			continue
		}
		line := c.hu[y*c.columns:][:c.columns]
		for x := range line {
			if line[x] > -950 {
				continue
			}
			p := x0 + float32(x)*px
			hu := float32(huAir)
			switch f.kind {
			case 1:
				dy := py - f.y
				r := sqrt(p*p + dy*dy)
				if dy > f.rise*r {
					if abs(r-f.radius) < f.wall/2 {
						hu = f.hu
					} else if r < f.radius && r > f.radius-f.pad*1.6 {
						hu = f.foam
					}
				}
			case 2:
				// flat bottom, upright sides
				bottom := f.y + f.radius
				side := abs(p) - f.radius*0.9
				if py > bottom-70*(1-f.rise) {
					d := smax(side, py-bottom, 40)
					if abs(d) < f.wall/2 {
						hu = f.hu
					} else if d < 0 && d > -f.pad {
						hu = f.foam
					}
				}
			}
			if t := py + 0.0009*p*p - f.table; t > 0 {
				switch {
				case t < 1.6:
					hu = -150 + f.hu*0.5
				case t < 40:
					hu = max(hu, -940)
				}
			}
			line[x] = max(line[x], hu)
		}
	}
}

// move mixes in the picture as it was before the head moved.
func (s *Study) move(c *canvas, r draw) {
	m := &s.scan.motion
	px := float32(s.scan.pixel)
	k := r.between(0.4, 1.3)
	si, co := math.Sincos(float64(m.turn*k) * math.Pi / 180)
	sn, cs := float32(si), float32(co)
	copy(c.other, c.hu)
	cx, cy := float32(c.columns)/2, float32(c.rows)/2
	for y := range c.rows {
		streak := m.share * k * 6 * float32(math.Sin(float64(y)*0.21+float64(k)*20))
		for x := range c.columns {
			dx, dy := float32(x)-cx, float32(y)-cy
			sx := cs*dx - sn*dy + cx + m.dx*k/px
			sy := sn*dx + cs*dy + cy + m.dy*k/px
			ix, iy := int(sx), int(sy)
			if ix < 0 || iy < 0 || ix >= c.columns || iy >= c.rows {
				continue
			}
			at := y*c.columns + x
			c.hu[at] = mix(c.other[at], c.other[iy*c.columns+ix], m.share)
			if c.hu[at] > -300 {
				c.hu[at] += streak
			}
		}
	}
}

// harden darkens the space between the petrous bones, brightens a band inside
// the skull, and draws streaks through the base.
func (s *Study) harden(c *canvas, slot int, r draw) {
	a := &s.scan
	h := &s.head
	pl := s.plane(slot)
	phase := r.between(0, 100)
	low := smooth(0, -25, c.base) // how far the plane lies in the base
	for y := range c.rows {
		line := c.hu[y*c.columns:][:c.columns]
		gy := min((y+gridStep/2)/gridStep, c.gridRows-1)
		for x := range line {
			v := line[x]
			if v < -300 {
				continue
			}
			k := gy*c.gridColumns + min((x+gridStep/2)/gridStep, c.gridColumns-1)
			outer := c.grid[gOuter][k]
			if outer > 0 {
				continue
			}
			add := a.drift
			if v < 150 {
				add += a.capping * smooth(-26, -9, outer)
			}
			if low > 0 && v < 300 {
				p := pl.origin.add(pl.right.scale(float32(x))).add(pl.down.scale(float32(y)))
				bar := bell((p.y-14-0.2*abs(p.x))/9) * bell(p.x/40) * bell((p.z+30)/16)
				add -= 1.8 * a.petrous * bar
				if a.streak > 0 {
					n := h.fine.l.at(vec{p.x * 0.012, p.y*0.22 + phase + 0.03*p.x*h.shapeMM, phase})
					add += a.streak * n * low * (1 + bar)
				}
			}
			line[x] = v + add
		}
	}
}

func (s *Study) metalStreaks(c *canvas, slot int, r draw) {
	if len(s.scan.metal) == 0 {
		return
	}
	pl := s.plane(slot)
	a := &s.scan
	turn := r.between(0, 6)
	for i := range a.metal {
		m := &a.metal[i]
		// nearest point of the plane: solve along the two pixel axes
		q := m.at.sub(pl.origin)
		cx := q.dot(pl.right) / pl.right.dot(pl.right)
		cy := q.dot(pl.down) / pl.down.dot(pl.down)
		away := abs(q.dot(pl.through.unit()))
		reach := m.radius + float32(a.thickness)/2
		if away > reach+12 {
			continue
		}
		strength := m.burst * smooth(reach+12, reach, away)
		px := float32(a.pixel)
		for y := range c.rows {
			for x := range c.columns {
				dx, dy := (float32(x)-cx)*px, (float32(y)-cy)*px
				rr := sqrt(dx*dx + dy*dy)
				at := y*c.columns + x
				if rr < m.radius && away < reach {
					c.hu[at] = 3000
					continue
				}
				if rr > 150 || c.hu[at] < -300 {
					continue
				}
				angle := float32(math.Atan2(float64(dy), float64(dx)))
				n := s.head.fine.l.at(vec{angle*6 + turn, turn, 3}) + s.head.fine.l.at(vec{angle*17 + turn, 9, turn})
				c.hu[at] += strength * n * m.radius / (rr + 2*m.radius)
			}
		}
	}
}

// pad marks what lies outside the circle of reconstruction.
func (s *Study) pad(c *canvas) {
	cx, cy := float32(c.columns-1)/2, float32(c.rows-1)/2
	r := max(cx, cy) + 0.5
	for y := range c.rows {
		for x := range c.columns {
			dx, dy := float32(x)-cx, float32(y)-cy
			if dx*dx+dy*dy > r*r {
				c.hu[y*c.columns+x] = -1024
			}
		}
	}
}
