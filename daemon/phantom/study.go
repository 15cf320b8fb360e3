package phantom

import (
	"fmt"
	"sync"
	"sync/atomic"

	"ichwatch/dimse/dicom"
)

// Options choose a study. The zero value of a field leaves it to the seed.
type Options struct {
	Seed           uint64
	Class          Class
	Number         int       // goes into the identity (PHANTOM^EPIDURAL^0007); 0 = from the seed
	Rows, Columns  int       // 512 when 0
	Slices         int       // enough to cover the head when 0
	SliceThickness float64   // mm; 0 = drawn from what scanners offer
	FieldOfView    float64   // mm, of the longer side; 0 = drawn
	GantryTilt     *float64  // degrees; nil = drawn
	Plain          bool      // no rare artefacts: motion, metal, post-operative air
	TransferSyntax dicom.UID // ExplicitVRLittleEndian when empty
}

const (
	minMatrix, maxMatrix = 64, 2048
	maxSlices            = 1000

	// A bleed below this volume in mm³ would not be seen: it is drawn again.
	leastBleed = 700
	maxDraws   = 12
)

func (o Options) validate() error {
	switch {
	case o.Class >= numClasses:
		return fmt.Errorf("phantom: class %d does not exist", o.Class)
	case o.Rows < minMatrix || o.Rows > maxMatrix || o.Columns < minMatrix || o.Columns > maxMatrix:
		return fmt.Errorf("phantom: matrix %dx%d; choose rows and columns from %d to %d", o.Rows, o.Columns, minMatrix, maxMatrix)
	case o.Slices < 0 || o.Slices > maxSlices:
		return fmt.Errorf("phantom: %d slices; choose 1 to %d, or 0 to cover the head", o.Slices, maxSlices)
	case o.SliceThickness != 0 && !(o.SliceThickness >= 0.4 && o.SliceThickness <= 20):
		return fmt.Errorf("phantom: slice thickness %g mm; choose 0.4 to 20", o.SliceThickness)
	case o.FieldOfView != 0 && !(o.FieldOfView >= 100 && o.FieldOfView <= 600):
		return fmt.Errorf("phantom: field of view %g mm; choose 100 to 600", o.FieldOfView)
	case o.GantryTilt != nil && !(*o.GantryTilt >= -30 && *o.GantryTilt <= 30):
		return fmt.Errorf("phantom: gantry tilt %g degrees; choose -30 to 30", *o.GantryTilt)
	}
	return checkTransferSyntax(o.TransferSyntax)
}

// Study is one head, its bleeds and its acquisition. It is immutable: every
// method may be called from several goroutines at once.
type Study struct {
	options Options
	head    head
	bleeds  bleeds
	scan    acquisition
	id      identity
	tile    func() []float32
	truth   []atomic.Pointer[SliceTruth]
}

// New draws a study. It returns an error only for options out of range.
func New(o Options) (*Study, error) {
	if o.Rows == 0 {
		o.Rows = 512
	}
	if o.Columns == 0 {
		o.Columns = 512
	}
	if o.TransferSyntax == "" {
		o.TransferSyntax = dicom.ExplicitVRLittleEndian
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Study{options: o}
	s.head = newHead(newDraw(o.Seed, "head"))
	s.scan.down = vec{0, 1, 0}
	d := newDraw(o.Seed, "bleed "+o.Class.String())
	healthy := s.head
	for range maxDraws {
		s.head = healthy
		s.bleeds = newBleeds(d, o.Class, &s.head)
		if o.Class == Normal || s.extent(o.Class) >= leastBleed {
			break
		}
	}
	if d := newDraw(o.Seed, "surgery"); !o.Plain && d.chance(0.04) {
		s.bleeds.postoperativeAir(d)
	}
	s.scan = newAcquisition(newDraw(o.Seed, "acquisition"), o, &s.head)
	s.id = newIdentity(newDraw(o.Seed, "identity"), o, &s.head)
	s.tile = sync.OnceValue(s.scan.noiseTile)
	s.truth = make([]atomic.Pointer[SliceTruth], s.scan.slices)
	return s, nil
}

// Class returns what the study chiefly shows.
func (s *Study) Class() Class { return s.options.Class }

// Slices returns the number of slices, feet to head.
func (s *Study) Slices() int { return s.scan.slices }

// Rows and Columns give the matrix.
func (s *Study) Rows() int { return s.options.Rows }

// Columns returns the number of pixels in a row.
func (s *Study) Columns() int { return s.options.Columns }

// PixelSpacing returns the distance between pixel centres in mm, the same down
// a column and along a row.
func (s *Study) PixelSpacing() float64 { return s.scan.pixel }
