package onnx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// errDiffers: a provider computes something else than the CPU.
var errDiffers = errors.New("differs from the CPU")

// What rounding may do to a logit: so much, and such a part of it. Providers add
// up in another order, and those of reduced precision were assessed in it.
const (
	toleranceAbsolute = 0.05
	toleranceRelative = 0.02
)

// compare says whether two answers to one input are the same but for rounding.
func compare(got, want []float32) error {
	if i := notFinite(got); i >= 0 {
		return fmt.Errorf("logit %d: %w", i, ErrNotFinite)
	}
	for i := range want {
		if off := math.Abs(float64(got[i]) - float64(want[i])); off > toleranceAbsolute+toleranceRelative*math.Abs(float64(want[i])) {
			return fmt.Errorf("%w: logit %d is %g, the CPU has %g", errDiffers, i, got[i], want[i])
		}
	}
	return nil
}

// goldenHeads are as many as the largest bucket takes.
const goldenHeads = 8

// goldenInputs are what a model is given to prove a provider: heads of skull,
// brain, ventricles and a bleed in different places, each unlike the others, so
// that an answer in the place of another is found.
func goldenInputs(p *pixel.Preprocessor) ([][]float32, error) {
	shape := p.Shape()
	inputs := make([][]float32, goldenHeads)
	for i := range inputs {
		inputs[i] = make([]float32, shape[0]*shape[1]*shape[2])
		if err := p.Input(goldenHead(i), inputs[i]); err != nil {
			return nil, fmt.Errorf("golden input %d: %w", i, err)
		}
	}
	return inputs, nil
}

func goldenHead(n int) *infer.Image {
	const side = 256
	img := &infer.Image{Rows: side, Columns: side, HU: make([]int16, side*side), PixelSpacing: [2]float64{0.9, 0.9}}
	angle := float64(n) * 2 * math.Pi / goldenHeads
	bleedX, bleedY := 0.55*math.Cos(angle), 0.55*math.Sin(angle)
	for y := range side {
		for x := range side {
			// The head is an ellipse of radius 1.
			u, v := (float64(x)-side/2)/(84+2*float64(n)), (float64(y)-side/2)/(104-2*float64(n))
			hu := -1000.0
			switch r := math.Hypot(u, v); {
			case r > 1:
			case r > 0.96:
				hu = 20 // scalp
			case r > 0.88:
				hu = 900 // skull
			case math.Hypot(u-bleedX, v-bleedY) < 0.08+0.02*float64(n):
				hu = 60 + 3*float64(n)
			case math.Hypot((math.Abs(u)-0.15)*2, v) < 0.3:
				hu = 8 // ventricles
			default:
				hu = 32 + 4*math.Sin(9*u+float64(n))*math.Cos(7*v)
			}
			img.HU[y*side+x] = int16(hu)
		}
	}
	return img
}

// prove runs every bucket, full and with a place left over, each input in every
// place, and compares with what the CPU says. It returns the longest time of a run
// after the first of its size.
func prove(ctx context.Context, buckets []bucket, inputs, want [][]float32) (slowest time.Duration, err error) {
	for _, b := range buckets {
		one := len(b.input) / b.size
		for turn := range len(inputs) {
			filled := b.size
			if turn%2 == 1 && b.size > 1 {
				filled--
			}
			clear(b.input)
			for at := range filled {
				copy(b.input[at*one:], inputs[(turn+at)%len(inputs)])
			}
			begun := time.Now()
			if err := b.run(ctx); err != nil {
				return 0, fmt.Errorf("%d slices at once: %w", b.size, err)
			}
			if turn > 0 {
				slowest = max(slowest, time.Since(begun))
			}
			for at := range filled {
				if err := compare(b.outputs(b.size, at)[0], want[(turn+at)%len(inputs)]); err != nil {
					return 0, fmt.Errorf("%d slices at once, place %d: %w", b.size, at, err)
				}
			}
		}
	}
	return slowest, nil
}

// spread says whether the inputs tell anything: a model that answers the same to
// all of them proves nothing.
func spread(answers [][]float32) error {
	for _, a := range answers[1:] {
		if !slices.Equal(a, answers[0]) {
			return nil
		}
	}
	return errors.New("the model says the same of every golden input, which proves nothing")
}
