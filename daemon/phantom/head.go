package phantom

// head is one drawn anatomy. Lengths are those of an average adult; the whole
// is scaled by inverse (canonical mm per real mm along each axis).
type head struct {
	age     float32 // years
	female  bool
	inverse vec
	atrophy float32 // 0 young .. 1 shrunken

	// skull
	width, front, back, height float32 // half axes of the inner vault
	egg1, egg2, square         float32 // narrowing to the front; 2 = ellipsoid, 0 = box
	plagio                     float32 // one-sided flattening of the back of the head
	thick, thickFront          float32 // mm of vault bone
	table, diploe              float32 // HU
	scalp                      float32
	sinusFrontal, sinusSphen   float32 // sizes
	mastoid                    float32 // share of air in the mastoid
	sinusFluid                 float32 // level below which sinuses hold fluid; far back = dry
	sutures                    float32 // width in mm
	swelling                   []swelling

	// brain
	grey, white, csf, dura, vessel float32 // HU
	gap                            float32 // mm of CSF between brain and skull
	sulcus, sulcusDepth            float32 // mm
	ventricle, third               float32 // factors
	hornAsymmetry                  float32
	leuko                          float32 // periventricular lucency, HU
	choroid, pineal, falxCalc, bg  float32 // radius mm; HU over brain for bg
	infarct                        []infarct

	shape, wave, fold, depth, fine, grain noiseField
	shapeMM, waveMM                       float32
}

// swelling is a scalp contusion: tissue of the given HU between skin and
// skull. It comes with and without a bleed inside.
type swelling struct {
	at     vec // on the skull
	radius float32
	height float32
	hu     float32
}

// infarct is an old defect of CSF-like density, or a recent darkening.
type infarct struct {
	at, radii vec
	drop      float32
}

func newHead(d draw) head {
	h := head{female: d.chance(0.5)}
	h.age = clamp(d.normal(55, 20), 16, 95)
	child := d.chance(0.05)
	if child {
		h.age = d.between(3, 15)
	}
	size := d.normal(1, 0.03)
	if h.female {
		size *= 0.965
	}
	if child {
		size *= mix(0.86, 0.97, h.age/16)
	}
	h.inverse = vec{1 / (size * d.normal(1, 0.035)), 1 / (size * d.normal(1, 0.03)), 1 / (size * d.normal(1, 0.03))}
	old := smooth(35, 90, h.age)
	h.atrophy = clamp(old*d.between(0.45, 1.2)+d.between(0, 0.15), 0, 1)

	h.width, h.front, h.back, h.height = 67, 80, 84, 76
	h.egg1, h.egg2 = d.normal(0.09, 0.04), d.normal(0.10, 0.03)
	h.square = d.between(0.9, 1.8)
	h.plagio = d.normal(0, 2.5)
	h.thick = clamp(d.normal(6.2, 1.2), 3.5, 10)
	if child {
		h.thick *= mix(0.45, 0.9, h.age/16)
	}
	h.thickFront = clamp(d.normal(1.5, 1.5), 0, 6)
	if h.female && h.age > 50 && d.chance(0.15) {
		h.thickFront = d.between(5, 10) // hyperostosis frontalis
	}
	h.table = d.normal(1500, 150)
	h.diploe = d.normal(750, 150)
	h.scalp = clamp(d.normal(5.5, 1.5), 2.5, 10)
	h.sinusFrontal = clamp(d.normal(0.9, 0.35), 0, 1.7)
	if child {
		h.sinusFrontal *= 0.3
	}
	h.sinusSphen = clamp(d.normal(1, 0.15), 0.5, 1.3)
	h.mastoid = clamp(d.normal(0.2, 0.5), -0.8, 1)
	h.sinusFluid = 1000
	if d.chance(0.12) {
		h.sinusFluid = d.between(-75, -35)
	}
	h.sutures = d.between(0, 1.2) * (1 - 0.6*old)
	for n := map[bool]int{true: 1 + d.intn(2), false: 0}[d.chance(0.22)]; n > 0; n-- {
		h.swelling = append(h.swelling, h.drawSwelling(d))
	}

	h.grey, h.white = d.normal(39, 1.4), d.normal(30.2, 1.4)
	h.white = clamp(h.white, h.grey-9.5, h.grey-6)
	h.csf = d.normal(7, 2.5)
	h.dura, h.vessel = d.normal(54, 4), d.normal(48, 5)
	h.gap = 0.3 + d.between(0, 0.7) + 2.0*h.atrophy*d.between(0.4, 1.1)
	h.sulcus = d.between(0.05, 0.5) + 0.9*h.atrophy*d.between(0.5, 1.2)
	h.sulcusDepth = d.between(9, 14) + 3*h.atrophy
	h.ventricle = d.normal(0.85, 0.1) + 0.55*h.atrophy*d.between(0.5, 1.3)
	h.third = d.normal(1.3, 0.3) + 2.8*h.atrophy
	h.hornAsymmetry = d.normal(0, 0.08)
	h.leuko = d.between(0, 7) * old
	if d.chance(0.75 * float64(smooth(10, 45, h.age))) {
		h.choroid = d.between(1, 4.5)
	}
	if d.chance(0.7 * float64(smooth(5, 25, h.age))) {
		h.pineal = d.between(1, 3.2)
	}
	if d.chance(0.06) {
		h.falxCalc = d.between(1, 3)
	}
	if d.chance(0.08) {
		h.bg = d.between(15, 80)
	}
	if d.chance(0.08 * float64(1+2*old)) {
		at := vec{d.side() * d.between(20, 52), d.between(-50, 65), d.between(0, 45)}
		r := d.between(7, 20)
		h.infarct = append(h.infarct, infarct{at, vec{r * d.between(0.6, 1.2), r * d.between(0.7, 1.5), r * d.between(0.6, 1.2)}, d.between(6, 24)})
	}

	h.shape = newNoiseField(d, 75)
	h.shapeMM = d.between(0.8, 2.2)
	h.wave = newNoiseField(d, 34)
	h.waveMM = d.between(0.8, 1.8)
	h.fold = newNoiseField(d, d.between(9.5, 12.5))
	h.depth = newNoiseField(d, 22)
	h.fine = newNoiseField(d, 3.2)
	h.grain = newNoiseField(d, 7)
	return h
}

func (h *head) drawSwelling(d draw) swelling {
	dir := vec{d.side() * d.between(0.1, 1), d.between(-1, 1), d.between(0, 0.8)}.unit()
	return swelling{at: h.onVault(dir), radius: d.between(14, 34), height: d.between(3, 14), hu: d.between(35, 70)}
}

// onVault is where a ray from the origin meets the inner vault.
func (h *head) onVault(dir vec) vec {
	p := dir.scale(60)
	for range 6 {
		p = p.sub(dir.scale(h.vault(p)))
	}
	return p
}

// vault is the radial distance of p from the inner surface of the cranial
// vault, negative inside.
func (h *head) vault(p vec) float32 {
	y := p.y - 3
	l := h.back
	if y < 0 {
		l = h.front
	}
	t := clamp(y/l, -1.3, 1.3)
	if y > 0 {
		l -= h.plagio * p.x * (1.0 / 60) * t
	}
	u := p.x / (h.width * (1 + h.egg1*t - h.egg2*t*t))
	v := y / l
	w := p.z / h.height
	if p.z < 0 {
		w = p.z / 118
	}
	u, v, w = u*u, v*v, w*w
	f4 := u*u + v*v + w*w + h.square*(u*v+u*w+v*w)
	f := sqrt(sqrt(f4))
	r := sqrt(p.x*p.x + y*y + p.z*p.z)
	return r - r/max(f, 1e-3)
}

// cavity is the signed distance from the inside of the skull: the vault, cut
// by the floor of the front fossa, joined to the two middle fossae, the
// posterior fossa and the foramen magnum, less the clivus, the sphenoid body
// and the petrous bones.
func (h *head) cavity(p vec, vault float32) float32 {
	if p.z > 16 {
		return vault
	}
	ax := abs(p.x)
	floor := mix(-16+6*bell((ax-27)/14)-4*bell(ax/6), -19, smooth(-44, -24, p.y))
	d := smax(vault, floor-p.z, 9)
	d = smin(d, ellipsoid(vec{ax - 35, p.y + 10, p.z + 17}, vec{27, 33, 23}), 6)
	d = smin(d, ellipsoid(vec{p.x, p.y - 38, p.z + 22}, vec{56, 45, 42}), 6)
	if p.z < -45 {
		y := p.y - 33
		d = smin(d, max(sqrt(p.x*p.x+y*y)-15, p.z+45), 4)
	}
	d = smax(d, -sphenoidBody(p), 3)
	d = smax(d, -clivus(p), 3)
	return smax(d, -petrous(p, ax), 3)
}

func sphenoidBody(p vec) float32 {
	return ellipsoid(vec{p.x, p.y + 22, p.z + 38}, vec{15, 21, 14})
}

func clivus(p vec) float32 {
	q := p
	q.x *= 0.4
	return cone(q, vec{0, -4, -24}, vec{0, 17, -62}, 3.5, 4)
}

func petrous(p vec, ax float32) float32 {
	return cone(vec{ax, p.y, p.z}, vec{60, 30, -29}, vec{13, 0, -31}, 11.5, 5)
}

// boneThickness is the thickness of the bone around the cavity at p.
func (h *head) boneThickness(p vec, lump, wave float32) float32 {
	t := h.thick + 0.2*lump + 0.6*wave
	ax := abs(p.x)
	if p.y < 0 {
		t += h.thickFront * smooth(-30, -75, p.y) * (0.6 + 0.4*bell((ax-14)/10))
		if p.z < 40 {
			t += (1.5 + 3*h.sinusFrontal) * bell(ax/32) * bell((p.z+6)/18) * smooth(-55, -75, p.y)
		}
	} else {
		t += 1.6 * bell(ax/13) * smooth(50, 80, p.y) // the occipital crest
		t -= 2 * bell((ax-62)/14) * bell(p.z/25)     // the temporal squama is thin
	}
	if p.z < 0 {
		t = mix(t, 3.6, smooth(-6, -24, p.z)*smooth(70, 40, p.y))
	}
	return max(t, 1.2)
}

// outer is the distance from the skin.
func (h *head) outer(p vec, vault, bone float32) float32 {
	d := vault - bone - h.scalp
	if p.z < 5 {
		d += 3 * smooth(0, -50, p.z)
		face := ellipsoid(vec{p.x, p.y + 48, p.z + 66}, vec{58, 48, 66})
		d = smin(d, face, 12)
		d = smin(d, ellipsoid(vec{p.x, p.y - 24, p.z + 84}, vec{60, 58, 62}), 14)
		if p.y < -70 {
			d = smin(d, cone(p, vec{0, -88, -26}, vec{0, -112, -62}, 7, 11), 7)
			// the sockets lie behind the brow
			d = smax(d, 9-ellipsoid(vec{abs(p.x) - 32, p.y + 112, p.z + 32}, vec{21, 14, 17})-9, 6)
		}
		if ax := abs(p.x); ax > 66 {
			d = smin(d, max(ellipsoid(vec{ax - 82, p.y - 20 - 0.35*(ax-82), p.z + 30}, vec{9, 16, 30}), 3-ellipsoid(vec{ax - 88, p.y - 14, p.z + 30}, vec{10, 11, 20})), 3)
		}
	}
	for i := range h.swelling {
		s := &h.swelling[i]
		if q := p.sub(s.at); q.dot(q) < 4*s.radius*s.radius {
			d -= s.height * bell(q.length()/s.radius)
		}
	}
	return d
}
