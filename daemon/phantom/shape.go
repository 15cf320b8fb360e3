package phantom

import "math"

// vec is a point or a direction, in mm. float32 keeps the planes small; a
// micrometre of rounding is nothing here.
type vec struct{ x, y, z float32 }

func (a vec) add(b vec) vec           { return vec{a.x + b.x, a.y + b.y, a.z + b.z} }
func (a vec) sub(b vec) vec           { return vec{a.x - b.x, a.y - b.y, a.z - b.z} }
func (a vec) scale(k float32) vec     { return vec{a.x * k, a.y * k, a.z * k} }
func (a vec) dot(b vec) float32       { return a.x*b.x + a.y*b.y + a.z*b.z }
func (a vec) length() float32         { return sqrt(a.dot(a)) }
func (a vec) unit() vec               { return a.scale(1 / max(a.length(), 1e-6)) }
func (a vec) distance(b vec) float32  { return a.sub(b).length() }
func sqrt(x float32) float32          { return float32(math.Sqrt(float64(x))) }
func exp(x float32) float32           { return float32(math.Exp(float64(x))) }
func abs(x float32) float32           { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
func clamp(x, lo, hi float32) float32 { return min(max(x, lo), hi) }
func mix(a, b, t float32) float32     { return a + (b-a)*t }

// smooth is the cubic step from 0 at a to 1 at b.
func smooth(a, b, x float32) float32 {
	t := clamp((x-a)/(b-a), 0, 1)
	return t * t * (3 - 2*t)
}

// edge is the share of a voxel inside a surface at signed distance d: 1 well
// inside (d negative), 0 well outside, linear over w mm.
func edge(d, w float32) float32 { return clamp(0.5-d/w, 0, 1) }

// bell is a bump of height 1 that vanishes at |x| = 2: a Gaussian's shape
// without its exponential.
func bell(x float32) float32 {
	t := 1 - x*x*0.25
	if t <= 0 {
		return 0
	}
	return t * t * t
}

// smin and smax are minimum and maximum rounded over k mm, to join and to cut
// distance functions without creases.
func smin(a, b, k float32) float32 {
	h := k - abs(a-b)
	if h <= 0 {
		return min(a, b)
	}
	return min(a, b) - h*h/(4*k)
}

func smax(a, b, k float32) float32 { return -smin(-a, -b, k) }

// ellipsoid is the signed distance, good near the surface, of p from an
// ellipsoid about the origin with radii r.
func ellipsoid(p, r vec) float32 {
	a := vec{p.x / r.x, p.y / r.y, p.z / r.z}
	b := vec{a.x / r.x, a.y / r.y, a.z / r.z}
	k0 := a.length()
	k1 := b.length()
	if k1 < 1e-6 {
		return -min(r.x, r.y, r.z)
	}
	return k0 * (k0 - 1) / k1
}

// cone is the distance of p from a segment a-b thickened by a radius that runs
// from ra to rb.
func cone(p, a, b vec, ra, rb float32) float32 {
	ab := b.sub(a)
	ap := p.sub(a)
	t := clamp(ap.dot(ab)/ab.dot(ab), 0, 1)
	d := ap.sub(ab.scale(t))
	return d.length() - mix(ra, rb, t)
}

// rotation is an orthonormal matrix by rows.
type rotation [3]vec

func (r *rotation) apply(p vec) vec { return vec{r[0].dot(p), r[1].dot(p), r[2].dot(p)} }

// rotated makes the matrix that turns by yaw about z, then roll about y, then
// pitch about x; angles in degrees.
func rotated(yaw, roll, pitch float32) rotation {
	s := func(a float32) (float32, float32) {
		si, co := math.Sincos(float64(a) * math.Pi / 180)
		return float32(si), float32(co)
	}
	sy, cy := s(yaw)
	sr, cr := s(roll)
	sp, cp := s(pitch)
	z := rotation{{cy, -sy, 0}, {sy, cy, 0}, {0, 0, 1}}
	y := rotation{{cr, 0, sr}, {0, 1, 0}, {-sr, 0, cr}}
	x := rotation{{1, 0, 0}, {0, cp, -sp}, {0, sp, cp}}
	return x.times(y).times(z)
}

func (r rotation) times(o rotation) rotation {
	col := func(i int) vec {
		switch i {
		case 0:
			return vec{o[0].x, o[1].x, o[2].x}
		case 1:
			return vec{o[0].y, o[1].y, o[2].y}
		}
		return vec{o[0].z, o[1].z, o[2].z}
	}
	var m rotation
	for i := range m {
		m[i] = vec{r[i].dot(col(0)), r[i].dot(col(1)), r[i].dot(col(2))}
	}
	return m
}
