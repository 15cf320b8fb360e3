package phantom

import (
	"math"
	"sync"
)

// gridStep is the distance in pixels of the points at which the smooth fields
// of a slice are computed; between them they are interpolated.
const gridStep = 8

// The smooth fields of a slice.
const (
	gX = iota // head coordinates after the shape's warp
	gY
	gZ
	gOuter // distance from the skin
	gU     // displacement of the brain
	gV
	gW
	gLump
	gWave
	gBlood
	numFields
)

// canvas holds the planes that one slice needs while it is rendered.
type canvas struct {
	rows, columns int
	gridRows      int
	gridColumns   int
	grid          [numFields][]float32
	row           [numFields][]float32
	hu, other     []float32
	share         [numClasses]float64
	pixels        [numClasses]int
	any           int
	head          int // pixels within the skin
	base          float32
}

var canvases sync.Pool

func newCanvas(rows, columns int) *canvas {
	if c, ok := canvases.Get().(*canvas); ok && c.rows == rows && c.columns == columns {
		return c
	}
	c := &canvas{rows: rows, columns: columns, gridRows: (rows-1)/gridStep + 2, gridColumns: (columns-1)/gridStep + 2}
	for i := range c.grid {
		c.grid[i] = make([]float32, c.gridRows*c.gridColumns)
		c.row[i] = make([]float32, c.gridColumns)
	}
	c.hu = make([]float32, rows*columns)
	c.other = make([]float32, rows*columns)
	return c
}

// plane maps pixels of a slice to head coordinates.
type plane struct {
	origin, right, down, through vec // head mm; per pixel; per mm of normal
}

func (s *Study) plane(i int) plane {
	a := &s.scan
	at := a.origin(i, s.options.Rows, s.options.Columns)
	col, n := a.column(), a.normal()
	px := float32(a.pixel)
	return plane{
		origin:  a.toHead(vec{float32(at[0]), float32(at[1]), float32(at[2])}),
		right:   a.toHead(vec{px, 0, 0}),
		down:    a.toHead(vec{0, float32(col[1]) * px, float32(col[2]) * px}),
		through: a.toHead(vec{float32(n[0]), float32(n[1]), float32(n[2])}),
	}
}

// fillGrid computes the smooth fields.
func (s *Study) fillGrid(c *canvas, pl plane) {
	for gy := range c.gridRows {
		for gx := range c.gridColumns {
			k := gy*c.gridColumns + gx
			p := pl.origin.add(pl.right.scale(float32(gx * gridStep))).add(pl.down.scale(float32(gy * gridStep)))
			far := p.length()
			if far > 190 {
				for f := range c.grid {
					c.grid[f][k] = 0
				}
				c.grid[gX][k], c.grid[gY][k], c.grid[gZ][k] = p.x, p.y, p.z
				c.grid[gOuter][k] = 60
				continue
			}
			v := s.fields(p)
			for f := range c.grid {
				c.grid[f][k] = v[f]
			}
		}
	}
}

// fields computes the smooth fields at one point of the head as it would be
// without the warp of its shape.
func (s *Study) fields(p vec) (v [numFields]float32) {
	h := &s.head
	wx := h.shape.at(p)
	wy := h.shape.at(vec{p.y + 31, p.z - 17, p.x + 11})
	wz := h.shape.at(vec{p.z - 23, p.x + 41, p.y + 7})
	p = p.add(vec{wx, wy, wz}.scale(h.shapeMM))
	lump, wave := h.depth.at(vec{p.y, p.z, p.x}), h.wave.at(p)
	vault := h.vault(p)
	bone := h.boneThickness(p, lump, wave)
	v[gX], v[gY], v[gZ] = p.x, p.y, p.z
	v[gOuter] = h.outer(p, vault, bone)
	v[gLump], v[gWave] = lump, wave
	depth := -h.cavity(p, vault)
	hold := h.waveMM * smooth(0, 18, depth)
	u := s.bleeds.displacement(p, depth)
	u = u.add(vec{hold * wave, hold * h.wave.at(vec{p.z + 13, p.x - 29, p.y}), hold * h.wave.at(vec{p.y + 37, p.z, p.x + 5})})
	v[gU], v[gV], v[gW] = u.x, u.y, u.z
	v[gBlood] = s.bleeds.stained(p.sub(u), wave)
	return v
}

// spotAt makes the spot and the displacement of the brain from the fields.
func spotAt(v *[numFields]float32) (spot, vec) {
	return spot{p: vec{v[gX], v[gY], v[gZ]}, lump: v[gLump], wave: v[gWave], blood: v[gBlood]}, vec{v[gU], v[gV], v[gW]}
}

// voxel samples one point.
func (s *Study) voxel(o *spot, u vec) (float32, Class, float32) {
	h := &s.head
	vault := h.vault(o.p)
	cavity := h.cavity(o.p, vault)
	if cavity < 0 {
		o.b = o.p.sub(u)
		o.depth = -cavity
		o.vault = -vault
		o.free = o.depth
		if len(s.bleeds.extra)+len(s.bleeds.clots) > 0 {
			o.fine = h.grain.at(o.p)
		}
		o.down = o.p.dot(s.scan.down)
		if len(s.bleeds.extra) > 0 {
			d, e := s.bleeds.outsideBrain(o)
			if d < 60 {
				o.free = min(o.free, max(d, 0))
				if d < 0.4 {
					k := edge(d, 0.8)
					hu := e.blood.at(o.down, o.lump, o.fine)
					if k == 1 {
						return hu, e.class, 1
					}
					below, class, share := s.inside(o)
					if e.class != Normal && k > share {
						class, share = e.class, k
					}
					return mix(below, hu, k), class, share
				}
			}
		}
		return s.inside(o)
	}
	bone := h.boneThickness(o.p, o.lump, o.wave)
	outer := h.outer(o.p, vault, bone)
	if outer > 0 {
		return huAir, Normal, 0
	}
	return h.outside(o.p, cavity, bone, outer, o.lump), Normal, 0
}

// paint renders the undisturbed picture: c.hu, and the truth of the slice.
func (s *Study) paint(c *canvas, i int) {
	a := &s.scan
	pl := s.plane(i)
	mid := pl.origin.add(pl.right.scale(float32(c.columns) / 2)).add(pl.down.scale(float32(c.rows) / 2))
	c.base = mid.z
	s.fillGrid(c, pl)
	c.share, c.pixels, c.any, c.head = [numClasses]float64{}, [numClasses]int{}, 0, 0

	// sub-slices spread over the thickness, and over the pixel, against steps
	n := a.subslices
	offsets := make([]vec, n)
	for k := range offsets {
		t := (float32(k)+0.5)/float32(n) - 0.5
		offsets[k] = pl.through.scale(t * float32(a.thickness)).
			add(pl.right.scale(t * 0.9)).
			add(pl.down.scale(0.9 * (float32((k*2+1)%n)/float32(n) - 0.5 + 0.5/float32(n))))
	}
	margin := 3 + float32(a.thickness)
	step := 1 / float32(n)
	for y := range c.rows {
		gy, fy := y/gridStep, float32(y%gridStep)/gridStep
		for f := range c.grid {
			lo := c.grid[f][gy*c.gridColumns:][:c.gridColumns]
			hi := c.grid[f][(gy+1)*c.gridColumns:][:c.gridColumns]
			row := c.row[f]
			for k := range row {
				row[k] = lo[k] + fy*(hi[k]-lo[k])
			}
		}
		line := c.hu[y*c.columns:][:c.columns]
		for x := range line {
			gx, fx := x/gridStep, float32(x%gridStep)/gridStep
			if outer := c.row[gOuter]; min(outer[gx], outer[gx+1]) > margin+4 || mix(outer[gx], outer[gx+1], fx) > margin {
				line[x] = huAir
				continue
			}
			var v [numFields]float32
			for f := range v {
				r := c.row[f]
				v[f] = r[gx] + fx*(r[gx+1]-r[gx])
			}
			at, u := spotAt(&v)
			var sum float32
			var bled [numClasses]float32
			var all float32
			for k := range offsets {
				o := at
				o.p = at.p.add(offsets[k])
				hu, class, share := s.voxel(&o, u)
				sum += hu
				if class != Normal {
					bled[class] += share
					all += share
				}
			}
			line[x] = sum * step
			if v[gOuter] < 0 {
				c.head++
			}
			if all > 0 {
				if all*step >= 0.5 {
					c.any++
				}
				for k, b := range bled {
					if b > 0 {
						c.share[k] += float64(b * step)
						if b*step >= 0.5 {
							c.pixels[k]++
						}
					}
				}
			}
		}
	}
}

// HU renders slice i (0 is the first acquired) as Hounsfield units, row by
// row, into dst, which is grown if it is too short, and returns it.
func (s *Study) HU(i int, dst []int16) []int16 {
	c := newCanvas(s.options.Rows, s.options.Columns)
	defer canvases.Put(c)
	slot := s.scan.order(i)
	s.paint(c, slot)
	s.remember(i, c)
	s.disturb(c, slot)
	if cap(dst) < len(c.hu) {
		dst = make([]int16, len(c.hu))
	}
	dst = dst[:len(c.hu)]
	for k, v := range c.hu {
		dst[k] = int16(math.Floor(float64(clamp(v, -1024, 3071)) + 0.5))
	}
	return dst
}
