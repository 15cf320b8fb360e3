package pixel

import (
	"math"

	"ichwatch/infer"
)

// filter holds the weights of the triangle filter that takes side values to size
// values; widened by the scale when shrinking, which is what keeps fine texture
// from aliasing. The sums are those of torch's and Pillow's antialiased bilinear.
type filter struct {
	side, size int
	taps       int       // weights an output has at most
	first      []int     // by output: the input of its first weight
	weights    []float32 // by output, taps of them, zeros behind
}

// resize computes the weights, unless they are there.
func (f *filter) resize(side, size int) {
	if f.side == side && f.size == size {
		return
	}
	scale := float64(side) / float64(size)
	support := max(scale, 1)
	f.side, f.size = side, size
	f.taps = 2*int(math.Ceil(support)) + 1
	f.first = grown(f.first, size)
	f.weights = grown(f.weights, size*f.taps)
	most := 0
	for i := range size {
		centre := scale * (float64(i) + 0.5)
		first := max(int(centre-support+0.5), 0)
		n := min(int(centre+support+0.5), side) - first
		weights := f.weights[i*f.taps : (i+1)*f.taps]
		sum := 0.0
		for k := range n {
			sum += triangle((float64(first+k) - centre + 0.5) / support)
		}
		clear(weights)
		for k := range n {
			weights[k] = float32(triangle((float64(first+k)-centre+0.5)/support) / sum)
		}
		f.first[i], most = first, max(most, n)
	}
	// Closed up to the taps that are in use.
	for i := range size {
		copy(f.weights[i*most:(i+1)*most], f.weights[i*f.taps:i*f.taps+most])
	}
	f.taps, f.weights = most, f.weights[:size*most]
}

func triangle(x float64) float64 { return max(0, 1-math.Abs(x)) }

// bandRows is how many rows are filtered along at once, so that each weight is
// fetched once for all of them.
const bandRows = 4

// along filters a band of rows, which have room for taps beyond their end, and
// normalises.
func (f *filter) along(in, out *[bandRows][]float32, c *channel) {
	out0, out1, out2, out3 := out[0][:f.size], out[1][:f.size], out[2][:f.size], out[3][:f.size]
	for x, first := range f.first[:f.size] {
		weights := f.weights[x*f.taps : (x+1)*f.taps]
		in0, in1 := in[0][first:][:len(weights)], in[1][first:][:len(weights)]
		in2, in3 := in[2][first:][:len(weights)], in[3][first:][:len(weights)]
		var s0, s1, s2, s3 float32
		for k, w := range weights {
			s0 += w * in0[k]
			s1 += w * in1[k]
			s2 += w * in2[k]
			s3 += w * in3[k]
		}
		out0[x] = s0*c.scale + c.shift
		out1[x] = s1*c.scale + c.shift
		out2[x] = s2*c.scale + c.shift
		out3[x] = s3*c.scale + c.shift
	}
}

// window maps one row of a square from HU to 0..1; what lies outside the slice is
// air.
func (c *channel) window(img *infer.Image, y, left int, dst []float32) {
	air := c.table[uint16(Air&0xFFFF)]
	from, to := 0, 0
	if y >= 0 && y < img.Rows {
		from = min(max(0, -left), len(dst))
		to = max(from, min(len(dst), img.Columns-left))
	}
	for x := range dst[:from] {
		dst[x] = air
	}
	if from < to {
		row := img.HU[y*img.Columns+left+from : y*img.Columns+left+to]
		for x, hu := range row {
			dst[from+x] = c.table[uint16(hu)]
		}
	}
	for x := range dst[to:] {
		dst[to+x] = air
	}
}
