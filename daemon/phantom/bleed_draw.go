package phantom

// newBleeds draws the bleeds of a class and, now and then, a second one as it
// comes with the first.
func newBleeds(d draw, class Class, h *head) bleeds {
	var b bleeds
	switch class {
	case Epidural:
		b.epidural(d, h)
		if d.chance(0.12) {
			b.epidural(d, h)
		}
		if d.chance(0.12) {
			b.contusions(d, 1+d.intn(2))
		}
	case Subdural:
		b.subdural(d, h)
		if d.chance(0.15) {
			b.convexityStain(d, h)
		}
	case Intraventricular:
		b.intraventricular(d, h, false)
		if d.chance(0.2) {
			b.deepClot(d, 4, 12)
		}
	case Intraparenchymal:
		switch {
		case d.chance(0.22):
			b.contusions(d, 1+d.intn(4))
			if d.chance(0.3) {
				b.convexityStain(d, h)
			}
		case d.chance(0.45):
			b.lobarClot(d, h)
		default:
			b.deepClot(d, 5, 26)
			if d.chance(0.25) {
				b.intraventricular(d, h, true)
			}
		}
	case Subarachnoid:
		if d.chance(0.4) {
			b.convexityStain(d, h)
			if d.chance(0.4) {
				b.convexityStain(d, h)
			}
		} else {
			b.cisternStain(d, h)
			if d.chance(0.2) {
				b.intraventricular(d, h, true)
			}
		}
	case Normal:
		if d.chance(0.03) {
			// clear fluid over a shrunken brain
			side := d.side()
			b.extra = append(b.extra, extra{
				layer: crescent, side: side, at: vec{0, d.between(-50, -20), d.between(10, 30)}, thick: d.between(3, 8),
				along: d.between(35, 60), up: d.between(30, 50), blood: density{hu: d.between(2, 10)}, rough: 0.4,
			})
		}
	}
	return b
}

// postoperativeAir adds air under the front of the vault, as after a burr hole.
func (b *bleeds) postoperativeAir(d draw) {
	b.extra = append(b.extra, extra{
		layer: crescent, side: d.side(), at: vec{0, d.between(-75, -60), d.between(15, 40)}, thick: d.between(3, 11),
		along: d.between(18, 34), up: d.between(15, 30), blood: density{hu: -970}, rough: 0.3,
	})
}

func (b *bleeds) epidural(d draw, h *head) {
	side := d.side()
	dir := vec{side * d.between(0.75, 1), d.between(-0.5, 0.5), d.between(-0.15, 0.65)}.unit()
	switch {
	case d.chance(0.12): // frontal
		dir = vec{side * d.between(0.3, 0.7), -1, d.between(0, 0.5)}.unit()
	case d.chance(0.1): // occipital or in the posterior fossa
		dir = vec{side * d.between(0.3, 0.7), 0.9, d.between(-0.4, 0.3)}.unit()
	}
	half := d.between(15, 38)
	t := clamp(half*d.between(0.28, 0.75), 4, 30)
	e := extra{class: Epidural, layer: lens, side: side, thick: t, rough: d.between(0.2, 0.7)}
	e.at = h.onVault(dir)
	// the skull curves away under the lens: its sphere is the flatter for it
	e.radius = (half*half + t*t) / (2 * t)
	e.ball = e.at.add(dir.scale(e.radius - t))
	e.suture = e.at.y > -14 && e.at.y < 20
	e.blood = freshBlood(d)
	b.extra = append(b.extra, e)
	b.pushes = append(b.pushes, push{at: e.at, by: t * d.between(0.5, 0.8), fades: 30 + half*0.4})
	b.addShift(-side*t*d.between(0.15, 0.45), e.at)
}

func freshBlood(d draw) density {
	x := density{hu: d.between(58, 82), second: d.between(32, 48)}
	if d.chance(0.3) {
		x.mixed = d.between(0.4, 1) // still bleeding: the swirl sign
	}
	return x
}

// addShift joins another midline shift to what is there.
func (b *bleeds) addShift(by float32, at vec) {
	c := vec{0, at.y * 0.5, at.z*0.5 + 5}
	if b.shift.by != 0 {
		c = c.add(b.shift.centre).scale(0.5)
	}
	b.shift.by = clamp(b.shift.by+by, -16, 16)
	b.shift.centre = c
}

func (b *bleeds) subdural(d draw, h *head) {
	side := d.side()
	kind := d.r.Float64()
	switch {
	case kind < 0.08:
		b.flatSubdural(d, falcine, side)
		if d.chance(0.4) {
			b.flatSubdural(d, tentorial, side)
		}
		return
	case kind < 0.14:
		b.flatSubdural(d, tentorial, side)
		return
	}
	b.crescent(d, side, h)
	if d.chance(0.15) {
		b.crescent(d, -side, h)
	}
	if d.chance(0.2) {
		b.flatSubdural(d, falcine, side)
	}
	if d.chance(0.2) {
		b.flatSubdural(d, tentorial, side)
	}
}

func (b *bleeds) crescent(d draw, side float32, h *head) {
	e := extra{
		class: Subdural, layer: crescent, side: side, at: vec{0, d.between(-25, 35), d.between(8, 42)},
		thick: d.logBetween(3.5, 20), along: d.between(50, 95), up: d.between(34, 70), rough: d.between(0.2, 0.6),
	}
	e.blood = subduralBlood(d, e.at.y)
	if e.blood.hu < 30 {
		e.thick = max(e.thick, 6)
	}
	b.extra = append(b.extra, e)
	b.pushes = append(b.pushes, push{at: vec{side * 66, e.at.y, e.at.z}, by: e.thick * d.between(0.4, 0.7), fades: 38})
	// an old brain makes room for it
	b.addShift(-side*e.thick*d.between(0.25, 0.75)*(1-0.5*h.atrophy), e.at)
}

// subduralBlood is acute, mixed, subacute (near the brain's own density),
// chronic, or fresh blood settled in a chronic one.
func subduralBlood(d draw, centre float32) density {
	switch k := d.r.Float64(); {
	case k < 0.5:
		return density{hu: d.between(54, 76)}
	case k < 0.65:
		return density{hu: d.between(56, 74), second: d.between(20, 40), mixed: d.between(0.4, 1)}
	case k < 0.77:
		return density{hu: d.between(33, 46)}
	case k < 0.87:
		return density{hu: d.between(12, 28), second: d.between(30, 45), mixed: d.between(0, 0.6)}
	}
	return density{hu: d.between(48, 68), second: d.between(15, 32), level: centre + d.between(-20, 30), sharp: d.between(1, 18)}
}

func (b *bleeds) flatSubdural(d draw, l layer, side float32) {
	e := extra{
		class: Subdural, layer: l, side: side, at: vec{0, d.between(-20, 55), d.between(25, 55)},
		thick: d.between(2.5, 6.5), along: d.between(30, 70), up: d.between(25, 50), blood: density{hu: d.between(52, 74)}, rough: 0.3,
	}
	if l == tentorial {
		e.at.y = d.between(35, 60)
		e.along = d.between(20, 40)
	}
	b.extra = append(b.extra, e)
}

// clotOf makes a clot of the mean radius r, elongated at random.
func clotOf(d draw, at vec, r float32) clot {
	c := clot{at: at, radii: vec{r * d.between(0.7, 1.15), r * d.between(0.8, 1.45), r * d.between(0.7, 1.2)}}
	c.turn = rotated(d.between(-30, 30), d.between(-25, 25), d.between(-25, 25))
	c.rough = clamp(r*d.between(0.06, 0.22), 0.3, 3.5)
	c.blood = density{hu: d.between(55, 80)}
	switch k := d.r.Float64(); {
	case k < 0.15: // some days old: paler
		c.blood.hu = d.between(44, 58)
	case k < 0.27:
		c.blood.second, c.blood.mixed = d.between(35, 50), d.between(0.4, 1)
	case k < 0.34 && r > 10:
		c.blood.second, c.blood.level, c.blood.sharp = d.between(30, 42), at.y+d.between(-0.3, 0.3)*r, d.between(0.7, 2)
	}
	c.rim = d.between(1.2, 2.5) + r*d.between(0.1, 0.5)
	c.drop = d.between(5, 14)
	c.reach = max(c.radii.x, c.radii.y, c.radii.z) + c.rim + 4*c.rough + 1
	return c
}

func (b *bleeds) addClot(d draw, c clot, r float32) {
	b.clots = append(b.clots, c)
	b.pushes = append(b.pushes, push{at: c.at, by: r * d.between(0.3, 0.55), fades: 10 + 1.1*r})
	if c.at.z > -15 && r > 9 {
		s := float32(-1)
		if c.at.x < 0 {
			s = 1
		}
		b.addShift(s*(r-8)*d.between(0.1, 0.45), c.at)
	}
}

func (b *bleeds) deepClot(d draw, least, most float64) {
	side := d.side()
	r := d.logBetween(least, most)
	var at vec
	switch k := d.r.Float64(); {
	case k < 0.48:
		at = vec{side * d.between(23, 30), d.between(-10, 8), d.between(-2, 12)}
	case k < 0.75:
		at = vec{side * d.between(10, 16), d.between(6, 18), d.between(2, 12)}
		r = min(r, 17)
	case k < 0.85:
		at = vec{d.between(-4, 4), d.between(16, 24), d.between(-38, -28)}
		r = min(r, 10)
	default:
		at = vec{side * d.between(14, 34), d.between(45, 62), d.between(-46, -32)}
		r = min(r, 19)
	}
	b.addClot(d, clotOf(d, at, r), r)
}

func (b *bleeds) lobarClot(d draw, h *head) {
	dir := vec{d.side() * d.between(0.45, 1), d.between(-1, 1), d.between(0.05, 0.8)}.unit()
	r := d.logBetween(5, 28)
	at := h.onVault(dir)
	at = at.sub(dir.scale(r*0.75 + d.between(7, 14)))
	b.addClot(d, clotOf(d, at, r), r)
}

// contusions are small mixed clots where the brain struck the skull.
func (b *bleeds) contusions(d draw, n int) {
	side := d.side()
	base := vec{side * d.between(12, 26), d.between(-68, -56), d.between(-6, 14)}
	if d.chance(0.45) {
		base = vec{side * d.between(44, 54), d.between(-26, 2), d.between(-28, -8)}
	}
	for range n {
		r := d.logBetween(3.2, 11)
		at := base.add(vec{d.normal(0, 6), d.normal(0, 6), d.normal(0, 7)})
		c := clotOf(d, at, r)
		c.rough = min(3, r*d.between(0.15, 0.35))
		c.blood.mixed, c.blood.second = d.between(0.2, 0.9), d.between(30, 45)
		b.addClot(d, c, r*0.6)
	}
}

// intraventricular fills parts of the ventricles. after: blood that broke in
// from elsewhere; then less of it.
func (b *bleeds) intraventricular(d draw, h *head, after bool) {
	hu := d.between(54, 78)
	h.ventricle += d.between(0.05, 0.5)
	h.third += d.between(0, 2.5)
	settled := func(p part) {
		b.pools = append(b.pools, pool{part: p, level: d.between(33, 49), hu: hu + d.normal(0, 3)})
	}
	casts := func(p part) {
		b.pools = append(b.pools, pool{part: p, cast: true, share: d.between(0.3, 1.05), hu: hu + d.normal(0, 4)})
	}
	k := d.r.Float64()
	switch {
	case after || k < 0.4:
		settled(leftHorn)
		if d.chance(0.75) {
			settled(rightHorn)
		} else if d.chance(0.5) {
			b.pools[len(b.pools)-1].part = rightHorn
		}
		if d.chance(0.25) {
			casts(thirdVentricle)
		}
	case k < 0.75:
		side := part(d.intn(2))
		casts(side)
		settled(1 - side)
		if d.chance(0.5) {
			casts(thirdVentricle)
		}
		if d.chance(0.35) {
			casts(fourthVentricle)
		}
	default:
		casts(leftHorn)
		casts(rightHorn)
		casts(thirdVentricle)
		if d.chance(0.7) {
			casts(fourthVentricle)
		}
	}
}

// cisternStain is the bleed of a burst aneurysm: cisterns first, then
// fissures and sulci.
func (b *bleeds) cisternStain(d draw, h *head) {
	b.sah.hu = d.between(48, 68)
	b.sah.places = append(b.sah.places, stainPlace{
		at: vec{d.normal(0, 8), d.normal(-8, 6), d.normal(-15, 4)}, radius: d.between(20, 52),
		soft: d.between(4, 12), wander: d.between(3, 12), flat: d.between(0.7, 1.1),
	})
	h.gap = max(h.gap, d.between(1.1, 2))
	h.ventricle += d.between(0, 0.35)
	h.third += d.between(0, 1.5)
}

// convexityStain is blood in some sulci, as after a blow.
func (b *bleeds) convexityStain(d draw, h *head) {
	if b.sah.hu == 0 {
		b.sah.hu = d.between(48, 68)
	}
	dir := vec{d.side() * d.between(0.3, 1), d.between(-1, 1), d.between(0.0, 0.9)}.unit()
	at := h.onVault(dir)
	at = at.scale(0.88)
	b.sah.places = append(b.sah.places, stainPlace{at: at, radius: d.between(13, 34), soft: d.between(3, 7), wander: d.between(2, 7), flat: 1})
	h.sulcus = max(h.sulcus, d.between(0.5, 1.1))
}
