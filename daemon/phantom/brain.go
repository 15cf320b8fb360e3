package phantom

// spot is one point inside the cranial cavity, with what its slice's coarse
// grid knows of it.
type spot struct {
	p     vec     // head coordinates
	b     vec     // where this tissue lay before the bleed pushed it
	depth float32 // mm from the inner skull
	vault float32 // mm from the inner vault alone, without the base
	free  float32 // mm from the inner skull or an extra-axial bleed, whichever is nearer
	lump  float32 // noise of some 20 mm, unit variance
	down  float32 // mm along gravity from the origin
	wave  float32 // noise of some 35 mm
	fine  float32 // noise of some 7 mm; evaluated only where blood is near
	blood float32 // share of the subarachnoid CSF that is replaced by blood
}

// inside gives the HU of a point in the cranial cavity, and the class and
// share of the bleed in it.
func (s *Study) inside(o *spot) (float32, Class, float32) {
	h := &s.head
	if hu, ok := h.dural(o); ok {
		return hu, Normal, 0
	}
	stem := float32(50)
	if o.b.z < 6 && abs(o.b.x) < 26 && o.b.y > -6 && o.b.y < 46 {
		stem = brainstem(o.b)
	}
	ax := abs(o.b.x)
	below := o.b.y > 4+0.62*max(ax-14, 0) && o.b.z < tentorium(o.b)
	var t tissue
	switch {
	case stem < 0:
		t = tissue{hu: h.white + 2.5, csf: 40, vessel: 9}
		if o.b.z > -22 {
			if d := cone(o.b, vec{0, 24, -2}, vec{0, 26, -22}, 0.9, 1); d < 2 {
				t.csf, t.ventricle = d, true // the aqueduct
			}
		} else if d := fourth(o.b); d < 3 {
			t.csf, t.ventricle = d, true
		}
	case below:
		t = h.cerebellum(o, ax, stem)
	default:
		t = h.cerebrum(o, ax, stem)
	}
	hu := t.hu + 0.9*o.lump
	for i := range h.infarct {
		f := &h.infarct[i]
		if d := ellipsoid(o.b.sub(f.at), f.radii) + 1.5*o.lump; d < 0 {
			hu -= f.drop * smooth(0, -4, d)
		}
	}
	// blood in the brain
	class, share := Normal, float32(0)
	if len(s.bleeds.clots) > 0 {
		var add float32
		if add, class, share = s.bleeds.inBrain(o); share > 0 || add != 0 {
			if share > 0 {
				hu = mix(hu, add, share)
			} else {
				hu += add
			}
		}
	}
	if t.csf < 1.2 {
		fluid := h.csf
		wet := edge(t.csf, 1.1) * (1 - share) // a clot fills the sulci in it
		if t.ventricle {
			if v, k := s.bleeds.inVentricle(o); k > 0 {
				fluid = mix(fluid, v, k)
				if wet*k > share {
					class, share = Intraventricular, wet*k
				}
			}
		} else if o.blood > 0 {
			v := s.bleeds.sah.hu + 4*o.lump
			fluid = mix(fluid, v, o.blood)
			if wet*o.blood > share {
				class, share = Subarachnoid, wet*o.blood
			}
		}
		hu = mix(hu, fluid, wet)
	}
	if t.vessel < 0.8 {
		hu = mix(hu, h.vessel, edge(t.vessel, 0.8))
	}
	if t.calc > 0 {
		hu = max(hu, t.calc)
	}
	return hu, class, share
}

// tissue is what the brain has at a point: its HU, the signed distance from
// the nearest CSF (negative in it), that from a vessel, and calcification.
type tissue struct {
	hu, csf, vessel, calc float32
	ventricle             bool
}

// dural finds the falx, the tentorium and the venous sinuses.
func (h *head) dural(o *spot) (float32, bool) {
	ax := abs(o.p.x)
	p := &o.p
	if ax < 6 && o.depth < 8 && (p.z > 6 || p.y > 45) && p.z > -18 {
		if ax < 3.6-0.5*o.depth+1.2*smooth(20, 75, p.y) {
			return h.vessel + 4, true
		}
	}
	if p.y > 22 && o.depth < 5.5 && ax > 4 {
		if z := p.z + 20; z*z+o.depth*o.depth < 24 {
			return h.vessel + 3, true
		}
	}
	if bx := abs(o.b.x); bx < 1.6 && p.z > -14 {
		lower := core(o.b)
		if lower > 2 && (p.y > 12 && p.z > tentoriumRidge(p.y)-1 || o.depth < 26+12*smooth(-60, 10, p.y)) {
			if bx < 0.75 {
				if h.falxCalc > 0 && p.y < 0 && h.depth.at(*p) > 0.8 && o.depth < 20 {
					return 350, true
				}
				return h.dura, true
			}
		}
	}
	if p.y > 8 && p.z < 8 && p.z > -26 {
		ax := abs(o.b.x)
		if o.b.y > 6+0.62*max(ax-14, 0) {
			if d := abs(o.b.z - tentorium(o.b)); d < 0.8 && (ax > 19 || o.b.y > 38) {
				return h.dura - 2, true
			}
			// the straight sinus
			if ax < 2 && o.b.y > 32 && abs(o.b.z-tentoriumRidge(o.b.y)) < 2 {
				return h.vessel + 2, true
			}
		}
	}
	return 0, false
}

func tentoriumRidge(y float32) float32 { return 3 - 0.46*(y-30) }

// tentorium is the height of the tentorium over x and y: a tent with its
// ridge along the straight sinus.
func tentorium(p vec) float32 {
	t := clamp(abs(p.x)*(1.0/58), 0, 1)
	return mix(tentoriumRidge(max(p.y, 26)), -21, t*(1.5-0.5*t))
}

// core is the distance outward from the middle block (corpus callosum and
// below) where the hemispheres are joined; negative in it.
func core(p vec) float32 {
	y, z := (p.y-2)*(1.0/40), (p.z-2)*(1.0/27)
	return (sqrt(y*y+z*z) - 1) * 30
}

func brainstem(p vec) float32 {
	d := smin(ellipsoid(vec{p.x, p.y - 12, p.z + 10}, vec{17, 12.5, 13}), ellipsoid(vec{p.x, p.y - 21, p.z + 32}, vec{16, 13, 14}), 5)
	if p.z < -36 {
		d = smin(d, cone(p, vec{0, 26, -44}, vec{0, 31, -95}, 9, 6.5), 5)
	}
	// the notch between the peduncles
	return smax(d, 3.5-sqrt(p.x*p.x+(p.y+1)*(p.y+1)), 2)
}

func fourth(p vec) float32 {
	return ellipsoid(vec{p.x, p.y - 39, p.z + 35}, vec{9, 5, 9})
}

func (h *head) cerebellum(o *spot, ax, stem float32) tissue {
	p := o.b
	t := tissue{vessel: 9}
	body := ellipsoid(vec{p.x, p.y - 51, p.z + 34}, vec{58, 36, 35})
	body = smin(body, ellipsoid(vec{p.x, p.y - 46, p.z + 14}, vec{15, 17, 16}), 6)
	body = smin(body, ellipsoid(vec{ax - 17, p.y - 32, p.z + 33}, vec{14, 11, 10}), 6)
	// vallecula and the great cistern under the vermis
	body = smax(body, 7-ellipsoid(vec{p.x, p.y - 72, p.z + 64}, vec{16, 16, 14})-7, 4)
	surface := min(o.free-h.gap*0.8-0.4, -body, (tentorium(p)-p.z)*0.8-0.5*h.gap-0.3)
	t.csf = surface
	if stem < 3 && -stem > t.csf && p.y < 34 {
		t.csf = max(t.csf, -stem+1)
	}
	if v := fourth(p) / h.ventricleFourth(); v < t.csf && v < 3 {
		t.csf, t.ventricle = v, true
	}
	// folia: fine leaves about a shallow horizontal fissure
	n := h.fine.at(vec{p.x * 0.35, p.y * 0.6, p.z * 1.3})
	leaf := abs(n) * 2
	deep := smooth(6, 14, -body)
	t.hu = mix(h.grey-0.5, h.white+3, deep*0.75+0.25*smooth(0.6, 1.6, leaf))
	if leaf < 0.5*h.sulcus && surface < 9 {
		t.csf = min(t.csf, (leaf-0.4*h.sulcus)*1.5)
	}
	if p.y < 12 && ax < 5 {
		t.vessel = cone(p, vec{0, 8, -50}, vec{0, 1, -20}, 1.7, 1.7)
	}
	return t
}

func (h *head) ventricleFourth() float32 { return 0.6 + 0.4*h.ventricle }

// cerebrum is the brain above the tentorium.
func (h *head) cerebrum(o *spot, ax, stem float32) tissue {
	p := o.b
	t := tissue{csf: 50, vessel: 9}
	// a collection on the surface presses out the fluid under it
	surface := o.free - h.gap*(1-0.85*smooth(1, 5, o.depth-o.free))*(0.75+0.5*smooth(30, 65, ax)+0.35*smooth(-30, -70, p.y))
	// the fissure between the hemispheres
	if ax < 30 {
		joined := core(p)
		if joined > -6 {
			wide := 0.5 + 0.3*h.gap
			surface = min(surface, smax(ax-wide, -joined, 3))
		}
	}
	cleft := float32(50)
	if ax > 30 && p.z > -16 && p.z < 26 && p.y > -40 && p.y < 36 {
		cleft = h.sylvian(p, ax)
		surface = min(surface, cleft)
	}
	if stem < 8 && p.z < -2 {
		// the ambient cistern about the midbrain
		surface = min(surface, abs(stem-1.3)-0.8-0.3*h.gap)
	}
	if p.z < -7 && p.z > -27 && ax < 20 && p.y < 8 && p.y > -26 {
		surface = min(surface, suprasellar(p)-0.3*h.gap)
	}
	if p.z < 4 && ax < 16 && p.y > 22 && p.y < 38 {
		surface = min(surface, ellipsoid(vec{p.x, p.y - 26 - ax*ax*0.03, p.z + 4}, vec{11, 1.5 + 0.5*h.gap, 6}))
	}
	if p.z < -4 && p.z > -24 && ax < 44 && p.y < 2 {
		// the stem of the Sylvian fissure and the artery in it
		d := cone(vec{ax, p.y, p.z}, vec{9, -9, -17}, vec{38, -14, -9}, 1.2+0.4*h.gap, 1.2+0.4*h.gap)
		surface = min(surface, d)
		t.vessel = cone(vec{ax, p.y, p.z}, vec{6, -10, -17}, vec{36, -13, -10}, 1.3, 1.1)
		if ax < 4 {
			t.vessel = min(t.vessel, cone(p, vec{0, 1, -22}, vec{0, 1, -16}, 1.6, 1.6))
		}
	}
	t.csf = surface

	deep := float32(50)
	if ax < 46 && p.z > -30 && p.z < 38 && p.y < 74 && p.y > -52 {
		deep = h.ventricles(p, ax)
		if deep < t.csf {
			t.csf, t.ventricle = deep, true
		}
	}
	grey := edge(surface-3.1, 2.2)
	if surface < 27 && surface > -1 {
		grey, t.csf = h.cortex(o, surface, grey, t)
		if t.csf < deep {
			t.ventricle = false
		}
	}
	if deep < 60 && grey < 1 {
		if g := h.basalGanglia(p, ax); g > grey {
			grey = g
		}
	}
	t.hu = mix(h.white, h.grey, grey)
	if deep < 14 && grey < 0.5 {
		t.hu -= h.leuko * smooth(14, 2, deep) * (1 + 0.4*o.lump)
	}
	if h.bg > 0 && ax > 16 && ax < 24 && p.y > -10 && p.y < 6 {
		if d := ellipsoid(vec{ax - 19, p.y + 2, p.z}, vec{3, 6, 5}); d < 0 {
			t.calc = t.hu + h.bg*smooth(0, -2, d)
		}
	}
	if h.choroid > 0 && ax < 32 {
		if d := ellipsoid(vec{ax - 20 - 1.5*o.lump, p.y - 29, p.z - 11}, vec{h.choroid, h.choroid * 1.5, h.choroid * 1.2}); d < 0 {
			t.calc = 70 + 160*smooth(0, -1.5, d)
		}
	}
	if h.pineal > 0 && ax < 5 {
		if d := p.distance(vec{0, 24, 1}) - h.pineal; d < 0 {
			t.calc = 80 + 150*smooth(0, -1.5, d)
		}
	}
	return t
}

// cortex folds the surface: the share of grey matter, and the distance from
// the CSF in the sulci.
func (h *head) cortex(o *spot, surface, grey float32, t tissue) (float32, float32) {
	p := o.b
	r := max(p.length(), 15)
	k := 0.45 + 33/r
	q := p.scale(k)
	n := abs(h.fold.at(q)) * h.fold.mm / k
	deepest := h.sulcusDepth * (1 + 0.4*h.depth.at(p))
	squeeze := smooth(11, 0, o.depth-o.free) // a bleed on the surface closes the sulci under it
	open := (h.sulcus*squeeze + 0.22*o.blood) * (1.1 - surface/max(deepest, 4))
	if ax := abs(p.x); ax < o.free {
		open *= mix(0.55, 1, min(1, ax/20)) // the medial sulci stay narrow
	}
	if surface < 2 {
		open += (0.2 + 0.2*h.gap) * (1 - 0.5*surface) * squeeze
	}
	d := n
	if surface > deepest {
		e := surface - deepest
		d = sqrt(n*n + e*e)
	}
	grey = max(grey, edge(d-open-2.9, 2.2))
	return grey, min(t.csf, d-open)
}

// sylvian is the distance from the lateral fissure and the insular cleft.
func (h *head) sylvian(p vec, ax float32) float32 {
	wide := 0.35 + 0.45*h.gap
	insula := ellipsoid(vec{ax - 16, p.y + 3, p.z - 4}, vec{24.5, 24, 17})
	cleft := smax(abs(insula)-wide, 33-ax, 2)
	lid := abs(p.y+16-1.5*(p.z-2)+0.1*(ax-40))*0.55 - wide*0.9
	return smin(cleft, max(lid, 41-ax, p.y-22), 2)
}

// suprasellar is the distance from the five-pointed cistern above the sella.
func suprasellar(p vec) float32 {
	y := p.y + 9
	r := sqrt(p.x*p.x+y*y) + 1e-3
	c := -y / r
	c2 := c * c
	star := 10.5 + 4.5*c*(5-20*c2+16*c2*c2)
	return max((r-star)*0.7, abs(p.z+17)-6.5)
}

// basalGanglia is the share of deep grey matter.
func (h *head) basalGanglia(p vec, ax float32) float32 {
	if ax > 36 || p.z > 26 || p.z < -14 || p.y < -36 || p.y > 32 {
		return 0
	}
	caudate := ellipsoid(vec{ax - 14 - 0.15*(p.y+20), p.y + 20, p.z - 8}, vec{5.5, 11, 12})
	y := p.y + 3
	lentiform := ellipsoid(vec{ax - 24.5 - 0.22*y, y, p.z - 1}, vec{6.5, 16, 11})
	thalamus := ellipsoid(vec{ax - 11 - 0.35*(p.y-12), p.y - 12, p.z - 5}, vec{8.5, 14, 11})
	return edge(min(caudate, lentiform, thalamus), 1.8)
}

// ventricles is the distance from the lateral and third ventricles.
func (h *head) ventricles(p vec, ax float32) float32 {
	// asymmetry: one side a little larger
	k := h.ventricle
	if p.x > 0 {
		k += h.hornAsymmetry
	} else {
		k -= h.hornAsymmetry
	}
	q := vec{ax, p.y, p.z}
	d := float32(50)
	if ax < 4+h.third && p.y > -16 && p.y < 26 {
		d = max(ellipsoid(vec{ax, p.y - 3, p.z + 1}, vec{h.third * (0.7 + 0.3*k), 17, 11}), -12-p.z)
	}
	if p.z > -4 {
		// frontal horn, flattened against the caudate; body; atrium; occipital horn
		f := q.sub(vec{8, -24, 11})
		f.x += 0.2 * f.y
		d = min(d, ellipsoid(vec{f.x + 0.25*f.z, f.y, f.z}, vec{3.6 * k, 13, 10}))
		if p.z > 8 {
			d = smin(d, cone(vec{ax, p.y, (p.z-21)*1.25 + 21}, vec{9, -16, 20}, vec{14, 22, 20}, 4.6*k, 5*k), 3)
		}
		d = smin(d, cone(q, vec{15, 22, 19}, vec{22, 32, 8}, 4.6*k, 5.2*k), 3)
		if p.y > 26 {
			w := vec{(ax-21)*1.2 + 21, p.y, p.z}
			d = smin(d, cone(w, vec{22, 32, 8}, vec{17, 56 + 6*k, 4}, 4.8*k, 1.6*k), 2)
		}
	}
	if p.z < 10 && ax > 16 {
		w := vec{ax, p.y, p.z}
		d = smin(d, cone(w, vec{23, 31, 5}, vec{31, 8, -14}, 3.4*k, 1.5*k), 2)
		d = smin(d, cone(w, vec{31, 8, -14}, vec{26, -12, -19}, 1.5*k, 1.3*k), 1)
	}
	// the septum between the horns
	return max(d, 0.7-2*ax)
}
