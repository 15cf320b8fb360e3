package phantom

// HU of what surrounds the brain.
const (
	huAir    = -1000
	huFat    = -92
	huMuscle = 55
	huSkin   = 30
	huEye    = 12
)

// outside gives the HU of a point between skin and cranial cavity. cavity,
// bone and outer are the distances at p; lump is slow noise.
func (h *head) outside(p vec, cavity, bone, outer, lump float32) float32 {
	ax := abs(p.x)
	low := p.z < 14
	if low {
		if hu, ok := h.airSpaces(p, ax, cavity, bone); ok {
			return hu
		}
	}
	if cavity < bone {
		return h.vaultBone(p, cavity, bone, outer)
	}
	if low {
		if hu, ok := h.baseBone(p, ax, cavity); ok {
			return hu
		}
		if hu, ok := h.orbit(p, ax); ok {
			return hu
		}
	}
	return h.softTissue(p, ax, cavity-bone, outer, lump)
}

func (h *head) vaultBone(p vec, cavity, bone, outer float32) float32 {
	table := clamp(bone*0.28, 0.9, 2.2)
	d := min(cavity, bone-cavity)
	if p.z > 0 && h.sutures > 0 && p.y > -70 {
		// coronal and lambdoid sutures, jagged
		wiggle := 3 * h.fine.at(p)
		if s := abs(p.y + 22 + 0.25*(p.z-40) + wiggle); s < h.sutures {
			return 250
		}
		if s := abs(p.y - 62 - 0.55*(30-p.z) + 0.5*abs(p.x) - 12 + wiggle); s < h.sutures && p.z > 10 {
			return 250
		}
	}
	inner := h.diploe
	if d > table-0.8 {
		inner += 220 * h.fine.at(p)
	}
	if p.z < -12 {
		inner += 250
	}
	return mix(h.table, inner, smooth(table-0.9, table+0.9, d))
}

// airSpaces finds the paranasal sinuses, the ear canals and the pharynx, and
// the thin bone about them.
func (h *head) airSpaces(p vec, ax, cavity, bone float32) (float32, bool) {
	d := float32(100)
	septum := float32(1)
	if p.y < -74 && h.sinusFrontal > 0.25 {
		k := h.sinusFrontal
		q := vec{ax - 9*k, p.y + 90.5, p.z + 5 - 2*k}
		d = max(ellipsoid(q, vec{15 * k, 7 + 3*k, 15 * k})+1.2*h.grain.at(p), 1.6-cavity, cavity-bone+1.8)
		septum = ax - 0.6
	}
	if p.z < -14 {
		switch {
		case p.y < -18 && p.y > -80 && ax < 14 && p.z > -46:
			// ethmoid cells, then the sphenoid sinus behind them
			if p.y < -42 {
				d = max(ax-8-0.1*(p.y+78)-0.8*h.grain.at(p), p.z+19, -44-p.z, p.y+42, -78-p.y)
				septum = abs(h.grain.at(p))*3.4 - 0.9
			} else {
				d = ellipsoid(vec{ax - 6, p.y + 27, p.z + 38}, vec{10 * h.sinusSphen, 14 * h.sinusSphen, 10 * h.sinusSphen}) + 0.8*h.grain.at(p)
				septum = abs(p.x+0.12*p.y+3) - 0.5
			}
		case ax < 17 && p.z <= -44 && p.y < -20:
			d = max(ax-13-0.1*(-44-p.z)-h.grain.at(p), ellipsoid(vec{ax, p.y + 56, p.z + 66}, vec{26, 40, 28}))
			septum = min(ax-0.9, abs(ax-6+1.5*h.grain.at(p))-1.8)
		case ax >= 17 && ax < 52 && p.z < -40 && p.y < -35:
			d = ellipsoid(vec{ax - 31, p.y + 60, p.z + 62}, vec{14, 18, 18}) + h.grain.at(p)
		case p.z < -60 && ax < 16 && p.y > -20 && p.y < 8:
			d = ellipsoid(vec{p.x, p.y + 8, p.z + 76}, vec{13, 9, 18})
		}
		if ax > 58 && p.y > 0 && p.y < 30 {
			d = min(d, cone(vec{ax, p.y, p.z}, vec{52, 13, -36}, vec{84, 15, -34}, 3.2, 3.6))
		}
		if ax > 40 && p.y > 14 && p.y < 56 {
			// mastoid cells
			m := ellipsoid(vec{ax - 60, p.y - 34, p.z + 42}, vec{11, 15, 20})
			if m < 0 {
				n := h.grain.at(p)
				if n > 0.15-0.6*h.mastoid {
					return mix(-850, 300, smooth(0, 3, abs(h.fine.at(p))*2.2+m*0.1+1.2)), true
				}
				return 750, true
			}
		}
		// tympanic cavity
		d = min(d, ellipsoid(vec{ax - 50, p.y - 13, p.z + 34}, vec{3.5, 5, 6}))
	}
	switch {
	case d > 1.1:
		return 0, false
	case d > 0:
		if p.z < -50 && ax < 16 && p.y > -20 {
			return huMuscle, true // the pharynx has no bone
		}
		return 620, true
	case septum < 0:
		if p.z < -44 && ax > 2 {
			return 45, true // turbinates
		}
		return 350, true
	case p.y > h.sinusFluid && p.y < -15:
		return 18, true
	}
	return huAir, true
}

// baseBone is what the skull base has beside the shell of the fossae.
func (h *head) baseBone(p vec, ax, cavity float32) (float32, bool) {
	if p.z > 6 {
		return 0, false
	}
	q := vec{ax, p.y, p.z}
	if d := petrous(p, ax); d < 0 {
		// otic capsule: the densest bone; canals within
		if c := cone(q, vec{40, 14, -32}, vec{24, 10, -31}, 2.4, 2); c < 0 {
			return 150, true
		}
		return 1350 + 350*smooth(0, -5, d) + 200*h.grain.at(p), true
	}
	if d := sphenoidBody(p); d < 0 {
		return mix(900, 420, smooth(-1, -3, d)), true
	}
	if d := clivus(p); d < 0 {
		return mix(1000, 400, smooth(-1, -2.5, d)), true
	}
	if d := ellipsoid(vec{ax - 60, p.y - 34, p.z + 42}, vec{13, 17, 22}); d < 0 {
		return 850, true
	}
	if p.y < -15 {
		// the greater wing: the outer wall of the orbit
		if d := cone(q, vec{50, -66, -28}, vec{27, -34, -27}, 3.2, 4.5); d < 0 {
			return 850, true
		}
		if d := cone(q, vec{46, -76, -20}, vec{52, -62, -52}, 4.5, 5); d < 0 {
			return 900, true
		}
		// the orbit's roof and rim
		if d := cone(q, vec{16, -82, -14}, vec{46, -76, -18}, 4, 4.5); d < 0 {
			return 900, true
		}
		if d := cone(q, vec{8, -88, -20}, vec{4, -98, -38}, 2.5, 2); d < 0 {
			return 700, true
		}
	}
	if p.z < -30 {
		if d := min(cone(q, vec{54, -64, -50}, vec{69, -32, -48}, 4, 2.6), cone(q, vec{69, -32, -48}, vec{63, -2, -42}, 2.6, 3.4)); d < 0 {
			return 950, true // zygomatic arch
		}
		if d := cone(q, vec{51, -3, -47}, vec{50, -8, -80}, 6, 4); d < 0 {
			return mix(1000, 500, smooth(-1, -3, d)), true // condyle and ramus
		}
		if p.z < -58 {
			// atlas, and the dens in front of the cord
			y := p.y - 32
			ring := sqrt(p.x*p.x*0.75+y*y) - 20
			if r := abs(ring); r < 4.5 && p.z < -72 && p.z > -84 {
				return 800, true
			}
			if d := cone(p, vec{0, 16, -71}, vec{0, 17, -95}, 5, 6); d < 0 {
				return 750, true
			}
			// occipital condyles
			if d := ellipsoid(vec{ax - 20, p.y - 22, p.z + 66}, vec{6, 11, 7}); d < 0 {
				return 750, true
			}
		}
		if d := cone(q, vec{38, -36, -55}, vec{36, -30, -90}, 2, 2); d < 0 {
			return 600, true // pterygoid
		}
	}
	return 0, false
}

func (h *head) orbit(p vec, ax float32) (float32, bool) {
	if p.y > -34 || p.z > -8 || p.z < -54 {
		return 0, false
	}
	q := vec{ax, p.y, p.z}
	// a cone that narrows to the apex, open in front
	d := cone(q, vec{31, -84, -31}, vec{17, -38, -28}, 18, 4)
	if d > 1.2 {
		return 0, false
	}
	if d > 0 {
		if p.y < -86 {
			return 0, false
		}
		return 550, true
	}
	eye := q.sub(vec{32, -80, -32})
	r := eye.length()
	switch {
	case r < 12.3:
		if r > 11.2 {
			return 48, true
		}
		if ellipsoid(eye.sub(vec{0, -7.5, 0}), vec{4.6, 2.1, 4.6}) < 0 {
			return 75, true
		}
		return huEye, true
	case cone(q, vec{31, -69, -31}, vec{18, -40, -28}, 2.2, 2) < 0:
		return 36, true
	case cone(q, vec{43, -76, -32}, vec{20, -42, -28}, 1.8, 2.3) < 0, cone(q, vec{22, -78, -32}, vec{15, -42, -28}, 1.8, 2.3) < 0,
		cone(q, vec{31, -76, -20}, vec{18, -42, -25}, 2, 2) < 0, cone(q, vec{31, -76, -44}, vec{18, -42, -32}, 2, 2) < 0:
		return huMuscle, true
	case p.y < -88:
		return huSkin, true
	}
	return huFat, true
}

func (h *head) softTissue(p vec, ax, skull, outer, lump float32) float32 {
	if outer > -1.7 {
		return huSkin + 15*smooth(0, -1.5, outer)
	}
	for i := range h.swelling {
		s := &h.swelling[i]
		if q := p.sub(s.at); q.dot(q) < 3.2*s.radius*s.radius && skull < h.scalp*0.4+s.height*bell(q.length()/s.radius)*0.9 {
			if k := bell(q.length() / s.radius); k > 0.15 {
				return mix(huMuscle-10, s.hu, k) + 9*lump
			}
		}
	}
	if p.z < 34 && ax > 40 && p.y < 12 && p.y > -64 {
		// temporalis
		if skull < (3+0.12*(34-p.z))*smooth(-64, -50, p.y)*smooth(14, 0, p.y) {
			return huMuscle + 4*lump
		}
	}
	if p.z < -18 {
		n := h.grain.at(p)
		if p.y > 30 && p.z < -30 && outer < -7 {
			// neck muscles with fat planes
			if abs(h.depth.at(p)) < 0.22 || ax < 1.2 {
				return huFat + 20*n
			}
			return huMuscle + 6*n
		}
		if p.y < 30 && outer < -6 {
			if p.z < -40 && h.depth.at(p) > -0.15 {
				return huMuscle + 6*n
			}
			return huFat + 15*n
		}
	}
	if skull < 1.4 {
		return huMuscle - 25 // galea
	}
	return huFat + 12*lump
}
