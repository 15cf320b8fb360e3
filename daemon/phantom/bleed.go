package phantom

// bleeds is what bled in one study, and what it pushes aside.
type bleeds struct {
	extra  []extra
	clots  []clot
	pools  []pool
	sah    stain
	pushes []push
	shift  midline
}

// layer says how an extra-axial collection lies.
type layer uint8

const (
	lens     layer = iota // between skull and dura: bulges inward
	crescent              // along the convexity
	falcine               // along one side of the falx
	tentorial
)

// extra is a collection outside the brain. Its class may be Normal: air or
// clear fluid.
type extra struct {
	class     Class
	layer     layer
	side      float32
	at        vec // lens: on the inner skull; crescent: centre of its extent
	ball      vec // lens: centre and radius of the inner surface's sphere
	radius    float32
	thick     float32
	along, up float32 // half extents in mm along y and z
	suture    bool    // a lens that stops at the coronal suture
	blood     density
	rough     float32
}

// density is the HU of blood by its age and state.
type density struct {
	hu     float32
	second float32 // HU of the other part
	mixed  float32 // 0 uniform; 1 swirled by noise
	level  float32 // y of a sediment level; above (in front of) it lies second
	sharp  float32 // mm over which the level changes; 0 = none
}

func (d *density) at(down, lump, fine float32) float32 {
	hu := d.hu
	if d.sharp > 0 {
		hu = mix(d.second, d.hu, smooth(d.level-d.sharp, d.level+d.sharp, down))
	}
	if d.mixed > 0 {
		hu = mix(hu, d.second, d.mixed*smooth(0.1, 1.1, fine+0.5*lump))
	}
	return hu + 1.5*lump
}

// clot is blood in the substance of the brain.
type clot struct {
	at, radii vec
	turn      rotation
	reach     float32
	rough     float32 // mm by which its surface wanders
	rim       float32 // mm of oedema
	drop      float32 // HU that the oedema is darker
	blood     density
}

// pool is blood in one part of the ventricles.
type pool struct {
	part  part
	level float32 // y behind which blood has settled; cast when far in front
	cast  bool
	share float32 // cast: from 0 (specks) to 1 (full)
	hu    float32
}

type part uint8

const (
	leftHorn part = iota
	rightHorn
	thirdVentricle
	fourthVentricle
)

// stain is subarachnoid blood: the CSF of cisterns and sulci within some
// places.
type stain struct {
	hu     float32
	places []stainPlace
}

type stainPlace struct {
	at     vec
	radius float32
	soft   float32
	wander float32
	flat   float32 // >1 narrows it along x
}

// push moves tissue away from a point.
type push struct {
	at    vec
	by    float32 // mm next to it
	fades float32 // mm
}

// midline moves the middle of the brain along x.
type midline struct {
	by     float32
	centre vec
}

// displacement is how far the tissue now at p was moved.
func (b *bleeds) displacement(p vec, depth float32) vec {
	var u vec
	hold := smooth(0, 22, depth)
	for i := range b.pushes {
		k := &b.pushes[i]
		q := p.sub(k.at)
		r := q.length()
		a := k.by * exp(-r/k.fades) * min(1, r/8)
		u = u.add(q.scale(hold * a / max(r, 1)))
	}
	if b.shift.by != 0 {
		q := p.sub(b.shift.centre)
		u.x += hold * b.shift.by * exp(-(q.y*q.y*(1.0/2900) + q.z*q.z*(1.0/1700)))
	}
	return u
}

// stained is the share of the CSF about p that is blood.
func (b *bleeds) stained(p vec, wave float32) float32 {
	var k float32
	for i := range b.sah.places {
		s := &b.sah.places[i]
		q := p.sub(s.at)
		q.x *= s.flat
		k = max(k, smooth(s.soft, -s.soft, q.length()-s.radius+s.wander*wave))
	}
	return k
}

// outsideBrain finds the nearest collection between skull and brain: its
// distance, and what it is.
func (b *bleeds) outsideBrain(o *spot) (float32, *extra) {
	nearest := float32(100)
	var which *extra
	for i := range b.extra {
		e := &b.extra[i]
		if d := e.distance(o); d < nearest {
			nearest, which = d, e
		}
	}
	return nearest, which
}

func (e *extra) distance(o *spot) float32 {
	p := o.p
	wander := e.rough * o.lump
	switch e.layer {
	case lens:
		q := p.sub(e.ball)
		d := q.length() - e.radius + wander
		if e.suture {
			d = smax(d, -22-0.25*(p.z-40)-p.y, 5)
		}
		return d
	case crescent:
		if p.x*e.side < -6 {
			return 100
		}
		y, z := (p.y-e.at.y)/e.along, (p.z-e.at.z)/e.up
		r := y*y + z*z
		if r > 1.4 {
			return 100
		}
		t := e.thick * (smooth(1.15, 0.2, sqrt(r)))
		t += wander * min(1, t*0.3)
		d := o.vault - t*smooth(-34, -14, p.z)
		return smax(d, 1.2-p.x*e.side, 2)
	case falcine:
		x := o.b.x * e.side
		if x < -4 || x > 30 {
			return 100
		}
		y, z := (p.y-e.at.y)/e.along, (p.z-e.at.z)/e.up
		t := e.thick * smooth(1.1, 0.3, sqrt(y*y+z*z))
		if t < 0.3 {
			return 100
		}
		d := smax(x-t+wander*0.5, 0.5-x, 0.5)
		return smax(d, 2-core(o.b), 2)
	case tentorial:
		if p.x*e.side < 4 || p.y < 8 {
			return 100
		}
		up := o.b.z - tentorium(o.b)
		ax := abs(p.x)
		t := e.thick * smooth(1.1, 0.2, abs(p.y-e.at.y)/e.along) * smooth(8, 20, ax)
		if t < 0.3 || o.b.y < 8+0.62*max(ax-14, 0) {
			return 100
		}
		return smax(up-t+wander*0.5, 0.5-up, 0.5)
	}
	return 100
}

// inBrain is the effect of clots at a point: their HU and share, or, with
// share 0, what oedema adds.
func (b *bleeds) inBrain(o *spot) (hu float32, class Class, share float32) {
	var oedema float32
	for i := range b.clots {
		c := &b.clots[i]
		q := o.p.sub(c.at)
		if q.dot(q) > c.reach*c.reach {
			continue
		}
		d := ellipsoid(c.turn.apply(q), c.radii) + c.rough*(0.85*o.lump+0.45*o.fine)
		if k := edge(d, 1.6); k > share {
			share, class = k, Intraparenchymal
			hu = c.blood.at(o.down, o.lump, o.fine)
		}
		if d < c.rim {
			oedema = min(oedema, -c.drop*smooth(c.rim, c.rim*0.5, d))
		}
	}
	if share > 0 {
		return hu, class, share
	}
	return oedema, Normal, 0
}

// inVentricle is the HU and share of blood at a point of a ventricle.
func (b *bleeds) inVentricle(o *spot) (hu, share float32) {
	if len(b.pools) == 0 {
		return 0, 0
	}
	where := rightHorn
	switch {
	case o.b.z < -16 && o.b.y > 20 && abs(o.b.x) < 14:
		where = fourthVentricle
	case abs(o.b.x) < 7 && o.b.z < 8 && o.b.y < 28:
		where = thirdVentricle
	case o.b.x > 0:
		where = leftHorn
	}
	for i := range b.pools {
		w := &b.pools[i]
		if w.part != where {
			continue
		}
		var k float32
		if w.cast {
			full := 2.6*w.share - 1.2 // of noise with unit variance
			k = smooth(full+0.2, full-0.2, 0.7*o.wave+0.7*o.lump)
		} else {
			k = smooth(w.level-0.8, w.level+0.8, o.down)
		}
		if k > share {
			share, hu = k, w.hu+3*o.lump
		}
	}
	return hu, share
}
