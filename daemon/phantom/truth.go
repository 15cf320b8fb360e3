package phantom

// labelArea is the area in mm² from which a bleed counts in a slice's label:
// less than a lens of 5 by 5 mm is not seen by a reader.
const labelArea = 20

// SliceTruth is what a slice shows.
type SliceTruth struct {
	// Position is in mm along the normal of the slices, towards the head.
	Position float64
	// Pixels counts, for each class, the pixels of which at least half is that
	// bleed; Pixels[Normal] is 0.
	Pixels [numClasses]int
	// VolumeMM3 is the bleed's volume in the slab of the slice (its increment
	// along the normal), with partial voxels.
	VolumeMM3 [numClasses]float64
	// Present says which bleeds reach the area that counts (20 mm²);
	// Present[Normal] is set when none does.
	Present [numClasses]bool
	// Trace is set when there is some bleed, but too little to count.
	Trace bool
	// HeadPixels counts the pixels within the skin.
	HeadPixels int
}

// extent estimates the volume of a class's bleed in mm³ by points every 5 mm.
func (s *Study) extent(c Class) float32 {
	const step = 5
	var sum float32
	for z := float32(-62.5); z < 80; z += step {
		for y := float32(-82.5); y < 90; y += step {
			for x := float32(-72.5); x < 75; x += step {
				p := vec{x, y, z}
				if s.head.vault(p) > 4 {
					continue
				}
				v := s.fields(p)
				if v[gOuter] > -4 {
					continue
				}
				o, u := spotAt(&v)
				if _, class, share := s.voxel(&o, u); class == c {
					sum += share
				}
			}
		}
	}
	return sum * step * step * step / (s.head.inverse.x * s.head.inverse.y * s.head.inverse.z)
}

// Any says whether some bleed counts in the slice.
func (t *SliceTruth) Any() bool { return !t.Present[Normal] }

// TotalMM3 is the volume of all bleeds.
func (t *SliceTruth) TotalMM3() float64 {
	var v float64
	for _, x := range t.VolumeMM3 {
		v += x
	}
	return v
}

// Truth returns what slice i shows. It is computed with the picture; for a
// slice that was not rendered yet it renders it.
func (s *Study) Truth(i int) SliceTruth {
	if t := s.truth[i].Load(); t != nil {
		return *t
	}
	c := newCanvas(s.options.Rows, s.options.Columns)
	defer canvases.Put(c)
	s.paint(c, s.scan.order(i))
	return s.remember(i, c)
}

func (s *Study) remember(i int, c *canvas) SliceTruth {
	a := &s.scan
	n := a.normal()
	at := a.origin(a.order(i), c.rows, c.columns)
	t := SliceTruth{Position: at[0]*n[0] + at[1]*n[1] + at[2]*n[2], Pixels: c.pixels, HeadPixels: c.head}
	area := a.pixel * a.pixel
	t.Present[Normal] = true
	var all float64
	for k := 1; k < numClasses; k++ {
		t.VolumeMM3[k] = c.share[k] * area * a.increment * n[2]
		all += c.share[k]
		if c.share[k]*area >= labelArea {
			t.Present[k], t.Present[Normal] = true, false
		}
	}
	t.Trace = all > 0 && t.Present[Normal]
	s.truth[i].Store(&t)
	return t
}
