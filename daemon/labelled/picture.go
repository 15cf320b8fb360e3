package labelled

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"slices"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/assess/report"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/onnx"
	"ichwatch/infer/pixel"
)

// pictureSide is that of a picture in pixels.
const pictureSide = 288

// Pictures shows the slices that were judged most wrongly, n missed ones and n
// false alarms at most, with the activation map of the class that was missed or
// called. c answers as what was assessed did, and gives maps.
func (x *Examination) Pictures(ctx context.Context, c *ensemble.Classifier, d *assess.Data, slice []int, n int) ([]report.Picture, error) {
	missed, alarms := d.Worst(n)
	var out []report.Picture
	for i, k := range slices.Concat(missed, alarms) {
		p, err := x.picture(ctx, c, d, k, slice[k], i < len(missed))
		if err != nil {
			return nil, fmt.Errorf("draw line %d of the labels: %w", x.Set.Slices[slice[k]].Line, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (x *Examination) picture(ctx context.Context, c *ensemble.Classifier, d *assess.Data, datum, slice int, missed bool) (report.Picture, error) {
	l, s := &x.Set.Slices[slice], &d.Slices[datum]
	p := report.Picture{
		Slice: fmt.Sprintf("Line %d of the labels", l.Line), Missed: missed,
		Truth: s.Truth, Any: assess.AnyScore(d.Classes, s.Probabilities),
	}
	class := leading(d, s, missed)
	p.Class, p.Score = d.Classes[class], s.Probabilities[class]
	img, err := x.Image(slice)
	if err != nil {
		return p, err
	}
	_, maps, err := c.Explain(ctx, img)
	var square pixel.Square
	switch {
	case err == nil:
		square = maps.Square
	case errors.Is(err, onnx.ErrNoMaps):
		maps = nil
		if square, err = c.Square(img); err != nil {
			return p, err
		}
	default:
		return p, err
	}
	if p.Plain, err = encode(draw(img, square, nil, 0)); err != nil || maps == nil {
		return p, err
	}
	p.Peak = float64(slices.Max(maps.Map(class)))
	p.Overlay, err = encode(draw(img, square, maps, class))
	return p, err
}

// leading is the class to be shown: of a missed slice the true one that came
// nearest to its threshold, otherwise the one farthest above it.
func leading(d *assess.Data, s *assess.Slice, missed bool) int {
	best, highest := 0, math.Inf(-1)
	for i, c := range d.Classes {
		if shown, known := s.Truth.Class(c); !c.Hemorrhage() || missed && known && !shown {
			continue
		}
		if e := d.ClassExcess(i, s.Probabilities[i]); e > highest {
			best, highest = i, e
		}
	}
	return best
}

// draw shows a square of a slice in the brain window (40/80 HU), with the
// activation map of a class laid over it where maps is not nil.
func draw(img *infer.Image, square pixel.Square, maps *onnx.Maps, class int) image.Image {
	var low, high float32
	if maps != nil {
		cells := maps.Map(class)
		for _, v := range cells {
			low += v / float32(len(cells))
		}
		high = slices.Max(cells)
	}
	plain := image.NewGray(image.Rect(0, 0, pictureSide, pictureSide))
	over := image.NewNRGBA(plain.Rect)
	for y := range pictureSide {
		for x := range pictureSide {
			grey := brainWindow(mean(img, square, y, x))
			plain.SetGray(x, y, color.Gray{Y: grey})
			if maps == nil {
				continue
			}
			v, _ := maps.At(class, square.Top+y*square.Side/pictureSide, square.Left+x*square.Side/pictureSide)
			over.SetNRGBA(x, y, warm(grey, (v-low)/max(high-low, 1e-6)))
		}
	}
	if maps == nil {
		return plain
	}
	return over
}

// mean is that of the slice's pixels under one of the picture.
func mean(img *infer.Image, square pixel.Square, y, x int) float64 {
	span := func(at int) (first, last int) {
		first = at * square.Side / pictureSide
		return first, max((at+1)*square.Side/pictureSide, first+1)
	}
	top, bottom := span(y)
	left, right := span(x)
	sum := 0.0
	for row := square.Top + top; row < square.Top+bottom; row++ {
		for column := square.Left + left; column < square.Left+right; column++ {
			hu := -1024.0
			if row >= 0 && row < img.Rows && column >= 0 && column < img.Columns {
				hu = float64(img.HU[row*img.Columns+column])
			}
			sum += min(max(hu, 0), 80) // windowed first, or the skull bleeds into its neighbours
		}
	}
	return sum / float64((bottom-top)*(right-left))
}

func brainWindow(hu float64) uint8 { return uint8(hu/80*255 + 0.5) }

// warm lays a share of 0..1 over a grey, from nothing over yellow to red.
func warm(grey uint8, share float32) color.NRGBA {
	share = min(max(share, 0), 1)
	alpha := 0.6 * share
	mix := func(to float32) uint8 { return uint8(float32(grey)*(1-alpha) + to*alpha + 0.5) }
	return color.NRGBA{R: mix(255), G: mix(220 * (1 - share)), B: mix(20), A: 255}
}

func encode(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	e := png.Encoder{CompressionLevel: png.BestCompression}
	if err := e.Encode(&b, img); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
