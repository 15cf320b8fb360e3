package pixel

import (
	"errors"
	"fmt"
	"math"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
)

// ErrNoHead: nothing in the slice is large and dense enough to be a head.
var ErrNoHead = errors.New("no head found in the slice")

// gridCells is how many cells the head finder's grid has along the shorter side
// of a slice, at least; it has fewer than three times as many where the sides
// are alike.
const gridCells = 128

// clippedAir is how far, in HU, the head stands out at least from air that an
// export has cut off: JPEG noise stays below it, and gray and white matter above
// it in every brain window.
const clippedAir = 10

// Box is a part of a slice, in pixels, both ends included.
type Box struct{ Top, Left, Bottom, Right int }

// Square is the part of a slice that a model sees, in pixels. It may reach beyond
// the slice on any side.
type Square struct{ Top, Left, Side int }

// FindHead gives the box of the largest connected thing that is at least as
// dense as the threshold. It looks at every s-th pixel only (s so that a grid of
// some 128 cells a side is left); one erosion cuts thin bridges to a table or a
// head holder. In a slice that was exported in one window, so that nothing in it
// lies below the threshold, the lowest value is taken for air; see
// manifest.Crop.
func FindHead(img *infer.Image, c manifest.Crop) (Box, error) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	return s.findHead(img, c)
}

func (s *scratch) findHead(img *infer.Image, c manifest.Crop) (Box, error) {
	if img.Rows < 1 || img.Columns < 1 || len(img.HU) != img.Rows*img.Columns {
		return Box{}, fmt.Errorf("image of %d x %d has %d pixels", img.Rows, img.Columns, len(img.HU))
	}
	step := max(1, min(img.Rows, img.Columns)/gridCells)
	height, width := (img.Rows+step-1)/step, (img.Columns+step-1)/step
	mask := s.erodedMask(img, headFrom(img, c.Threshold, step), step, height, width)
	largest := s.largestComponent(mask, width)
	if largest.cells == 0 || float64(largest.cells) < c.MinimumArea*float64(height*width) {
		return Box{}, ErrNoHead
	}
	// One cell more on each side undoes the erosion; a cell stands for step x step
	// pixels.
	return Box{
		Top:    max(0, (largest.top-1)*step),
		Left:   max(0, (largest.left-1)*step),
		Bottom: min(img.Rows, (largest.bottom+2)*step) - 1,
		Right:  min(img.Columns, (largest.right+2)*step) - 1,
	}, nil
}

// headFrom gives the lowest HU that may belong to the head: the threshold or,
// where all the grid reaches it, what stands out from the lowest there is.
func headFrom(img *infer.Image, threshold float64, step int) int32 {
	from := int32(math.Ceil(min(max(threshold, math.MinInt16), math.MaxInt16+1)))
	lowest := int32(math.MaxInt16)
	for y := 0; y < img.Rows; y += step {
		for x := 0; x < img.Columns; x += step {
			hu := int32(img.HU[y*img.Columns+x])
			if hu < from {
				return from // at the first pixel, as a rule
			}
			lowest = min(lowest, hu)
		}
	}
	return lowest + clippedAir
}

// erodedMask gives the grid with a 1 where a cell and its eight neighbours are at
// least as dense as from, row by row. Cells at the rim have neighbours outside, which do
// not; so the rim is empty, and neighbours of set cells always exist.
func (s *scratch) erodedMask(img *infer.Image, from int32, step, height, width int) []uint8 {
	s.mask, s.eroded = grown(s.mask, height*width), grown(s.eroded, height*width)
	// Rows are eroded along x while they are read, then along y.
	for y := range height {
		row := s.mask[y*width : (y+1)*width]
		pixels := img.HU[y*step*img.Columns : (y*step+1)*img.Columns]
		before, here := uint8(0), set(pixels[0], from)
		for x := range row {
			after := uint8(0)
			if x+1 < width {
				after = set(pixels[(x+1)*step], from)
			}
			row[x] = before & here & after
			before, here = here, after
		}
	}
	clear(s.eroded)
	for i := width; i < (height-1)*width; i++ {
		s.eroded[i] = s.mask[i-width] & s.mask[i] & s.mask[i+width]
	}
	return s.eroded
}

func set(hu int16, from int32) uint8 {
	if int32(hu) >= from {
		return 1
	}
	return 0
}

// component is a 4-connected set of cells and its box, both ends included.
type component struct {
	cells                    int
	top, left, bottom, right int
}

// largestComponent takes the mask apart; the first in raster order wins among
// equals.
func (s *scratch) largestComponent(mask []uint8, width int) (largest component) {
	for start := range mask {
		if mask[start] == 0 {
			continue
		}
		c := component{top: start / width, left: width}
		stack := append(s.stack[:0], int32(start))
		mask[start] = 0
		for len(stack) > 0 {
			i := int(stack[len(stack)-1])
			stack = stack[:len(stack)-1]
			y, x := i/width, i%width
			c.cells++
			c.left, c.bottom, c.right = min(c.left, x), max(c.bottom, y), max(c.right, x)
			for _, j := range [4]int{i - width, i - 1, i + 1, i + width} {
				if mask[j] != 0 {
					mask[j] = 0
					stack = append(stack, int32(j))
				}
			}
		}
		s.stack = stack
		if c.cells > largest.cells {
			largest = c
		}
	}
	return largest
}

// square puts a square around a box, with a margin on each side.
func square(b Box, margin float64) Square {
	height, width := b.Bottom-b.Top+1, b.Right-b.Left+1
	factor := 1 + float64(2*margin)
	side := int(math.Floor(float64(float64(max(height, width))*factor) + 0.5))
	// Shifts divide downwards, also below zero.
	return Square{
		Top:  (b.Top + b.Bottom + 1 - side) >> 1,
		Left: (b.Left + b.Right + 1 - side) >> 1,
		Side: side,
	}
}

// grown gives s with length n, in new memory where it has none.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
