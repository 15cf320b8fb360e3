package pixel

import (
	"fmt"
	"math"
	"sync"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
)

// Preprocessor turns slices into the input of one model: the head is found, a
// square around it cut out, windowed in HU once a channel, resampled to the
// model's size and normalised. It is safe for concurrent use and allocates
// nothing once it has seen a slice of the size.
type Preprocessor struct {
	crop          manifest.Crop
	height, width int
	channels      []*channel
}

// channel is one window. Its table spares the clamping: of every HU there can be
// (by its bits), what the window makes of it. A slice touches few of its pages.
type channel struct {
	table        [1 << 16]float32 // 0..1
	scale, shift float32          // the normalisation
}

// NewPreprocessor takes crop, windows, input size and normalisation from m.
func NewPreprocessor(m *manifest.Manifest) *Preprocessor {
	p := &Preprocessor{crop: m.Crop, height: m.Input.Height, width: m.Input.Width}
	for i, w := range m.Windows {
		c := &channel{scale: float32(1 / m.Normalisation.Std[i])}
		c.shift = float32(-m.Normalisation.Mean[i] / m.Normalisation.Std[i])
		low, width := float32(w.Centre-w.Width/2), float32(w.Width)
		for hu := math.MinInt16; hu <= math.MaxInt16; hu++ {
			c.table[uint16(hu)] = min(max((float32(hu)-low)/width, 0), 1)
		}
		p.channels = append(p.channels, c)
	}
	return p
}

// Shape is that of one slice's input: channels, height, width.
func (p *Preprocessor) Shape() [3]int { return [3]int{len(p.channels), p.height, p.width} }

// Square gives the part of the slice that Input hands to the model, to put an
// activation map back onto the slice. ErrNoHead where there is no head in it.
func (p *Preprocessor) Square(img *infer.Image) (Square, error) {
	head, err := FindHead(img, p.crop)
	if err != nil {
		return Square{}, err
	}
	return square(head, p.crop.Margin), nil
}

// Input writes the model's input for one slice to dst, channel by channel, row
// by row. dst has room for exactly one, see Shape. ErrNoHead where there is no
// head in the slice.
func (p *Preprocessor) Input(img *infer.Image, dst []float32) error {
	plane := p.height * p.width
	if len(dst) != len(p.channels)*plane {
		return fmt.Errorf("preprocess: room for %d values, %d are needed", len(dst), len(p.channels)*plane)
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	head, err := s.findHead(img, p.crop)
	if err != nil {
		return fmt.Errorf("preprocess: %w", err)
	}
	sq := square(head, p.crop.Margin)
	s.vertical.resize(sq.Side, p.height)
	s.horizontal.resize(sq.Side, p.width)
	for i := range p.channels {
		s.resample(img, sq, p.channels[i], dst[i*plane:(i+1)*plane], p.height, p.width)
	}
	return nil
}

// scratch is the memory of one slice in work.
type scratch struct {
	mask, eroded         []uint8
	stack                []int32
	vertical, horizontal filter
	rows                 []float32 // ring of windowed rows of the square
	band                 []float32 // some rows of output height and input width
	spare                []float32 // takes the rows of a band beyond the last
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// resample windows the square and brings it to height x width. Down the columns
// first: each output row is a blend of a few windowed rows, which are kept in a
// ring. Then along the rows, a band of them at a time.
func (s *scratch) resample(img *infer.Image, sq Square, c *channel, dst []float32, height, width int) {
	taps := s.vertical.taps
	s.rows = grown(s.rows, taps*sq.Side)
	s.spare = grown(s.spare, width)
	// Behind each row of the band lie zeros, where the padding of weights falls.
	length := sq.Side + s.horizontal.taps
	s.band = grown(s.band, bandRows*length)
	clear(s.band)
	windowed := 0 // rows of the square that are or were in the ring
	var in, out [bandRows][]float32
	for i := range in {
		in[i] = s.band[i*length : (i+1)*length]
	}
	for y := range height {
		first := s.vertical.first[y]
		last := min(first+taps, sq.Side)
		for windowed = max(windowed, first); windowed < last; windowed++ {
			slot := windowed % taps * sq.Side
			c.window(img, sq.Top+windowed, sq.Left, s.rows[slot:slot+sq.Side])
		}
		i := y % bandRows
		s.blend(in[i][:sq.Side], s.vertical.weights[y*taps:][:last-first], first)
		out[i] = dst[y*width : (y+1)*width]
		if y == height-1 {
			for i++; i < bandRows; i++ {
				out[i] = s.spare
			}
		}
		if i >= bandRows-1 {
			s.horizontal.along(&in, &out, c)
		}
	}
}

// blend gives one row between the windowed rows from first on.
func (s *scratch) blend(dst, weights []float32, first int) {
	row := func(k int) []float32 {
		at := (first + k) % s.vertical.taps * len(dst)
		return s.rows[at:][:len(dst)]
	}
	n := len(weights)
	for n > 1 && weights[n-1] == 0 {
		n--
	}
	// As many at once as are left: reading and writing dst is most of the cost.
	for k := 0; k < n; {
		w := weights[k:n]
		if k > 0 {
			a := row(k)
			for x := range dst {
				dst[x] += w[0] * a[x]
			}
			k++
			continue
		}
		switch a := row(0); len(w) {
		case 1:
			for x := range dst {
				dst[x] = w[0] * a[x]
			}
			k = 1
		case 2, 3:
			b, wa, wb := row(1), w[0], w[1]
			for x := range dst {
				dst[x] = wa*a[x] + wb*b[x]
			}
			k = 2
		case 4:
			b, c, d := row(1), row(2), row(3)
			wa, wb, wc, wd := w[0], w[1], w[2], w[3]
			for x := range dst {
				dst[x] = wa*a[x] + wb*b[x] + wc*c[x] + wd*d[x]
			}
			k = 4
		default:
			b, c, d, e := row(1), row(2), row(3), row(4)
			wa, wb, wc, wd, we := w[0], w[1], w[2], w[3], w[4]
			for x := range dst {
				dst[x] = wa*a[x] + wb*b[x] + wc*c[x] + wd*d[x] + we*e[x]
			}
			k = 5
		}
	}
}
