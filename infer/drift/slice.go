package drift

import (
	"math"

	"ichwatch/infer"
)

// Soft tissue of a head, in HU: brain, blood, ventricles, muscle, and noise about
// them.
const (
	softest, hardest = -50, 150
	stride           = 4 // of the grid of pixels that is looked at
)

// Collector adds the slices of a study up. The zero value is empty.
type Collector struct {
	sums   [4]float64 // by the index in features
	counts [4]int
}

// Add takes a slice; thickness is in mm, 0 where it is not known. It looks at every
// fourth pixel of every fourth row, and keeps nothing of img.
func (c *Collector) Add(img *infer.Image, thickness float64) {
	var n, sum, squares float64
	for y := 0; y < img.Rows; y += stride {
		row := img.HU[y*img.Columns : (y+1)*img.Columns]
		for x := 0; x < img.Columns; x += stride {
			if v := row[x]; v >= softest && v <= hardest {
				f := float64(v)
				n++
				sum += f
				squares += f * f
			}
		}
	}
	if n >= 100 { // less is no tissue
		mean := sum / n
		c.add(TissueHU, mean)
		c.add(TissueSD, math.Sqrt(max(0, squares/n-mean*mean)))
	}
	if mm := img.PixelSpacing[0]; mm > 0 {
		c.add(PixelMM, mm)
	}
	if thickness > 0 {
		c.add(Thickness, thickness)
	}
}

func (c *Collector) add(f Feature, v float64) {
	for i := range features {
		if features[i].Feature == f {
			c.sums[i] += v
			c.counts[i]++
		}
	}
}

// Merge takes what another has collected.
func (c *Collector) Merge(other *Collector) {
	for i := range c.sums {
		c.sums[i] += other.sums[i]
		c.counts[i] += other.counts[i]
	}
}

// Means are those of the slices so far; nil where there are none.
func (c *Collector) Means() map[Feature]float64 {
	var out map[Feature]float64
	for i, n := range c.counts {
		if n > 0 {
			if out == nil {
				out = map[Feature]float64{}
			}
			out[features[i].Feature] = c.sums[i] / float64(n)
		}
	}
	return out
}
