package phantom

import "math"

// acquisition is how a study was scanned and reconstructed.
type acquisition struct {
	slices    int
	thickness float64 // mm along the normal
	increment float64 // mm of table feed
	pixel     float64 // mm
	tilt      float64 // degrees
	centre    [3]float64
	firstZ    float64 // table position of the first slice
	descend   bool

	pose    rotation // patient axes to head axes
	descale vec
	down    vec // gravity in head coordinates

	subslices int
	vendor    vendor
	kernel    kernel
	kvp       int
	current   int
	psf       float32 // mm, sigma
	sharpen   float32 // share of edge enhancement
	noise     float32 // HU in the middle of the head
	grainPx   float32 // sigma of the noise texture in pixels
	capping   float32 // HU beside the skull
	petrous   float32 // HU of the dark bar between the petrous bones
	streak    float32 // HU of streaks through the skull base
	drift     float32 // calibration error, HU

	holder  holder
	motion  motion
	metal   []metal
	padding bool
	round   bool // the reconstruction circle is padded
	signed  bool
	seed    uint64
}

type vendor struct{ maker, model, station string }

type kernel struct {
	name    string
	sharp   float64 // 0 smooth .. 1 bone
	vendors int     // index into vendors
}

var vendors = []vendor{
	{"ICHWATCH PHANTOM A", "SYNTHETIC 16", "CT01"},
	{"ICHWATCH PHANTOM B", "SYNTHETIC 64", "CT02"},
	{"ICHWATCH PHANTOM C", "SYNTHETIC 320", "CT03"},
}

var kernels = []kernel{
	{"STANDARD", 0.35, 0},
	{"SOFT", 0.15, 0},
	{"DETAIL", 0.6, 0},
	{"H20s", 0.1, 1},
	{"H31s", 0.35, 1},
	{"H40s", 0.5, 1},
	{"FC21", 0.3, 2},
	{"FC26", 0.45, 2},
	{"FC64", 0.62, 2},
}

// holder is the cradle under the head, a curved shell filled with foam, and
// the table under it.
type holder struct {
	kind   int // 0 none, 1 arc, 2 trough
	x, y   float32
	radius float32
	wall   float32
	hu     float32
	foam   float32
	rise   float32 // cosine of the angle to which the arc rises
	table  float32 // y of the table top; large = out of the field
	pad    float32
}

type motion struct {
	dx, dy, turn float32 // mm, mm, degrees
	share        float32
	slices       [2]int
}

type metal struct {
	at     vec // head coordinates
	radius float32
	burst  float32 // HU of its streaks next to it
}

func newAcquisition(d draw, o Options, h *head) acquisition {
	a := acquisition{seed: o.Seed}
	a.thickness = o.SliceThickness
	a.tilt = 0
	if d.chance(0.3) {
		a.tilt = math.Round(2*float64(clamp(d.normal(11, 6), -10, 24))) / 2
	}
	if o.GantryTilt != nil {
		a.tilt = *o.GantryTilt
	}
	wide := 1 / h.inverse.y

	// pose
	yaw, roll := d.normal(0, 5), d.normal(0, 4)
	if d.chance(0.15) {
		yaw = d.normal(0, 14)
	}
	pitch := d.normal(0, 7) - 0.7*float32(a.tilt)
	a.pose = rotated(yaw, roll, pitch)
	a.descale = h.inverse
	a.down = a.pose.apply(vec{0, 1, 0})

	// coverage: from the skull base or the face to above the vertex
	low := -float64(d.between(46, 84)) / float64(h.inverse.z)
	high := float64(d.between(80, 91)) / float64(h.inverse.z)
	drawn := float64(d.pick(5, 5, 5, 5, 5, 4, 4.5, 4.8, 3, 3, 2.5, 6, 7, 8))
	if a.thickness == 0 {
		a.thickness = drawn
		if o.Slices > 0 {
			a.thickness = math.Max(0.5, math.Round((high-low)/float64(o.Slices)*10)/10)
		}
	}
	a.increment = a.thickness
	if d.chance(0.1) && o.SliceThickness == 0 && o.Slices == 0 {
		a.increment = math.Round(a.thickness*float64(d.pick(0.8, 1.2))*10) / 10
	}
	a.slices = o.Slices
	if a.slices == 0 {
		a.slices = int(math.Ceil((high-low)/a.increment)) + 1
	} else {
		middle := (low + high) / 2
		low = middle - a.increment*float64(a.slices-1)/2
	}
	a.firstZ = math.Round(low*10) / 10
	a.descend = d.chance(0.1)
	a.subslices = 2
	if a.thickness > 2 {
		a.subslices = 3
	}
	if a.thickness > 6 {
		a.subslices = 4
	}

	fov := float64(d.normal(235, 12))
	if d.chance(0.2) {
		fov = float64(d.between(255, 340))
	}
	if o.FieldOfView > 0 {
		fov = o.FieldOfView
	}
	fov = math.Max(fov, 120)
	a.pixel = math.Round(fov/float64(max(o.Rows, o.Columns))*1e6) / 1e6
	loose := math.Max(2, (fov-225)/5)
	a.centre = [3]float64{float64(d.normal(0, loose)), float64(d.normal(4, loose)), 0}
	for i := range a.centre {
		a.centre[i] = math.Round(a.centre[i]*10) / 10
	}

	a.kernel = kernels[d.intn(len(kernels))]
	a.vendor = vendors[a.kernel.vendors]
	a.kvp = int(d.pick(120, 120, 120, 120, 130, 140, 100))
	a.current = 10 * (12 + d.intn(30))
	a.psf = mix(0.62, 0.34, float32(a.kernel.sharp)) * d.between(0.85, 1.25)
	a.sharpen = max(0, float32(a.kernel.sharp)-0.3) * d.between(0.2, 0.9)
	a.noise = d.logBetween(1.9, 4.8) * (0.75 + 0.6*float32(a.kernel.sharp)) * clamp(sqrt(5/float32(a.thickness)), 0.8, 1.6)
	a.noise = min(a.noise, 11)
	a.grainPx = mix(1.15, 0.65, float32(a.kernel.sharp)) * d.between(0.85, 1.3) * clamp(0.46/float32(a.pixel), 0.6, 2.2)
	a.capping = max(0, d.normal(3, 3))
	a.petrous = max(0, d.normal(3, 3))
	a.streak = max(0, d.normal(2.2, 1.8))
	a.drift = d.normal(1.2, 2.2)

	back := wide*(h.back+h.thick+h.scalp) + 3
	a.holder = holder{
		kind: d.intn(3), x: d.normal(0, 6), wall: d.between(1.5, 4.5), hu: d.between(-250, 250), foam: d.between(-990, -930),
		rise: d.between(-0.35, 0.75), table: 400, pad: d.between(2, 14), radius: d.between(86, 128),
	}
	a.holder.y = back + a.holder.pad - a.holder.radius
	if a.holder.kind == 0 || d.chance(0.3) {
		a.holder.table = back + a.holder.pad + d.between(6, 40)
	}
	if !o.Plain {
		if d.chance(0.06) {
			a.motion = motion{dx: d.normal(0, 2.2), dy: d.normal(0, 1.5), turn: d.normal(0, 2), share: d.between(0.2, 0.5)}
			first := d.intn(a.slices)
			a.motion.slices = [2]int{first, min(a.slices, first+1+d.intn(a.slices/2+1))}
		}
		if d.chance(0.05) {
			a.metal = append(a.metal, metal{at: vec{d.side() * d.between(20, 50), d.between(-70, -40), -92}, radius: d.between(2, 5), burst: d.between(100, 400)})
		}
		if d.chance(0.02) {
			dir := vec{d.side() * d.between(0.4, 1), d.between(-1, 1), d.between(0, 0.7)}.unit()
			a.metal = append(a.metal, metal{at: h.onVault(dir).add(dir.scale(h.thick)), radius: d.between(1, 2.5), burst: d.between(40, 160)})
		}
	}
	a.padding = d.chance(0.35)
	a.round = a.padding && d.chance(0.7)
	a.signed = d.chance(0.5)
	return a
}

// order is the place from the feet of slice i in the order of acquisition.
func (a *acquisition) order(i int) int {
	if a.descend {
		return a.slices - 1 - i
	}
	return i
}

// column is the direction down an image's columns, in patient coordinates.
func (a *acquisition) column() [3]float64 {
	s, c := math.Sincos(a.tilt * math.Pi / 180)
	return [3]float64{0, c, -s}
}

// normal is the direction through the slices, towards the head.
func (a *acquisition) normal() [3]float64 {
	s, c := math.Sincos(a.tilt * math.Pi / 180)
	return [3]float64{0, s, c}
}

// origin is the position in mm of the centre of slice i's first pixel.
func (a *acquisition) origin(i, rows, columns int) [3]float64 {
	col := a.column()
	w, h := float64(columns-1)/2*a.pixel, float64(rows-1)/2*a.pixel
	return [3]float64{
		a.centre[0] - w,
		a.centre[1] - h*col[1],
		a.firstZ + float64(i)*a.increment - h*col[2],
	}
}

// toHead turns a direction or a position in patient mm into canonical head mm.
func (a *acquisition) toHead(p vec) vec {
	q := a.pose.apply(p)
	return vec{q.x * a.descale.x, q.y * a.descale.y, q.z * a.descale.z}
}
