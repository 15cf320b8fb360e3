package adapt

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/optimize"

	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
)

// normalShare is the share of all weight in a fit that slices without a
// hemorrhage have; the fitted classes share the rest evenly. So the training
// recipes draw their slices too (models/train, normal_share).
const normalShare = 1.0 / 3

// table is what every fit of an adaptation looks at, a row a slice. It does not
// change.
type table struct {
	start      Head
	activation manifest.Activation
	active     []int // classes that are fitted, by their index in the head
	size       int   // of a row of features
	scale      float64
	features   [][]float64 // divided by scale
	base       [][]float64 // logits of the head that the fits start from
	target     [][]float64 // by class
	weight     []float64   // of each row; together 1
	learnt     []int       // rows that have a weight
}

// newTable prepares the fits. Normal is fitted wherever a class is.
func newTable(d *Data, start Head, adapted []infer.Class) *table {
	t := &table{start: start, activation: d.Activation, size: len(start.Weight) / len(d.Classes), weight: d.balance(adapted)}
	for k, c := range d.Classes {
		if c == infer.Normal || slices.Contains(adapted, c) {
			t.active = append(t.active, k)
		}
	}
	square := 0.0
	for i, s := range d.Slices {
		row := make([]float64, t.size)
		for j, f := range s.Features {
			row[j] = float64(f)
		}
		square += floats.Dot(row, row)
		t.features = append(t.features, row)
		t.base = append(t.base, start.Logits(s.Features))
		t.target = append(t.target, d.targets(s))
		if t.weight[i] > 0 {
			t.learnt = append(t.learnt, i)
		}
	}
	t.scale = math.Sqrt(square / float64(len(d.Slices)))
	if t.scale == 0 {
		t.scale = 1
	}
	for _, row := range t.features {
		floats.Scale(1/t.scale, row)
	}
	return t
}

// targets are what the activation should give for a slice. With softmax the
// classes that it shows share the 1 evenly.
func (d *Data) targets(s Slice) []float64 {
	target := make([]float64, len(d.Classes))
	shown := s.Truth.Classes()
	for k, c := range d.Classes {
		if slices.Contains(shown, c) {
			target[k] = 1
		}
	}
	if sum := floats.Sum(target); d.Activation == manifest.Softmax && sum > 0 {
		floats.Scale(1/sum, target)
	}
	return target
}

// balance weighs the slices, together 1: those without a hemorrhage have
// normalShare of it, the fitted classes the rest in equal parts. What shows a
// class that is not fitted weighs as a slice of the fitted classes does on average:
// its logit stays, and the others are to leave it its slices. What shows no class
// that the model has, or is in doubt, or bleeds and nobody says how, weighs nothing.
func (d *Data) balance(adapted []infer.Class) []float64 {
	var count [assess.NumClasses]float64
	for _, s := range d.Slices {
		if shown := s.Truth.Classes(); !s.Doubtful {
			for _, c := range shown {
				count[c] += 1 / float64(len(shown))
			}
		}
	}
	fitted := 0.0
	for _, c := range adapted {
		fitted += count[c]
	}
	weight := make([]float64, len(d.Slices))
	for i, s := range d.Slices {
		shown := s.Truth.Classes()
		foreign := s.Truth.Any() && !slices.ContainsFunc(shown, func(c infer.Class) bool { return slices.Contains(d.Classes, c) })
		if s.Doubtful || foreign {
			continue
		}
		for _, c := range shown {
			w := (1 - normalShare) / fitted // of a class that is not fitted
			switch {
			case c == infer.Normal:
				w = normalShare / count[c]
			case slices.Contains(adapted, c):
				w = (1 - normalShare) / float64(len(adapted)) / count[c]
			}
			weight[i] += w / float64(len(shown))
		}
	}
	floats.Scale(1/floats.Sum(weight), weight)
	return weight
}

// An objective is what a fit makes small: the weighted mean loss over rows plus
// the penalty on the change. Its parameters are the change of each active class's
// weights, in units of 1/scale, and of its bias.
type objective struct {
	*table
	rows     []int
	strength float64
}

func (t *table) parameters() int { return len(t.active) * (t.size + 1) }

// value gives the objective at p and, unless gradient is nil, its gradient.
func (o *objective) value(p, gradient []float64) float64 {
	clear(gradient)
	width := o.size + 1
	logits := make([]float64, len(o.start.Bias))
	slope := make([]float64, len(logits)) // of a row's loss, by logit
	loss, total := 0.0, 0.0
	for _, row := range o.rows {
		x, w := o.features[row], o.weight[row]
		copy(logits, o.base[row])
		for a, k := range o.active {
			change := p[a*width : (a+1)*width]
			logits[k] += floats.Dot(change[:o.size], x) + change[o.size]
		}
		loss += w * o.rowLoss(logits, o.target[row], slope)
		total += w
		if gradient == nil {
			continue
		}
		for a, k := range o.active {
			g := gradient[a*width : (a+1)*width]
			floats.AddScaled(g[:o.size], w*slope[k], x)
			g[o.size] += w * slope[k]
		}
	}
	if gradient != nil {
		floats.Scale(1/total, gradient)
		floats.AddScaled(gradient, o.strength, p)
	}
	return loss/total + o.strength/2*floats.Dot(p, p)
}

// rowLoss is the cross-entropy of one row, with its slope in each logit.
func (t *table) rowLoss(logits, target, slope []float64) (loss float64) {
	if t.activation == manifest.Sigmoid {
		for k, z := range logits {
			loss += max(z, 0) + math.Log1p(math.Exp(-math.Abs(z))) - target[k]*z
			slope[k] = sigmoid(z) - target[k]
		}
		return loss
	}
	whole := logSumExp(logits)
	for k, z := range logits {
		loss += target[k] * (whole - z)
		slope[k] = math.Exp(z-whole) - target[k]
	}
	return loss
}

// lost is the weighted loss over rows, as their part of the whole table's.
func (t *table) lost(rows []int, p []float64) float64 {
	if len(rows) == 0 {
		return 0
	}
	total := 0.0
	for _, row := range rows {
		total += t.weight[row]
	}
	return total * (&objective{table: t, rows: rows}).value(p, nil)
}

// head puts a change onto the head that the fits start from.
func (t *table) head(p []float64) Head {
	h := Head{Weight: slices.Clone(t.start.Weight), Bias: slices.Clone(t.start.Bias)}
	for a, k := range t.active {
		change := p[a*(t.size+1) : (a+1)*(t.size+1)]
		for j := range t.size {
			h.Weight[k*t.size+j] += float32(change[j] / t.scale)
		}
		h.Bias[k] += float32(change[t.size])
	}
	return h
}

// alongStrengths fits with each strength up to strengths[last], each from where
// the one before ended, and calls visit with the change. p is not to be kept.
func (t *table) alongStrengths(ctx context.Context, rows []int, last int, visit func(s int, p []float64)) error {
	p := make([]float64, t.parameters())
	for s := range last + 1 {
		if !math.IsInf(float64(strengths[s]), 1) { // an infinite one changes nothing
			var err error
			if p, err = fit(ctx, &objective{t, rows, float64(strengths[s])}, p); err != nil {
				return err
			}
		}
		visit(s, p)
	}
	return nil
}

// Slopes by their largest part: a fit ends below flat, and one that ends above
// steep has found no lowest point. Losses are of the order of 1.
const flat, steep = 1e-5, 1e-4

// fit finds the lowest point of the objective, from p on. There is one only, as
// the objective is strictly convex.
func fit(ctx context.Context, o *objective, p []float64) ([]float64, error) {
	// Value and slope cost one pass, and are asked for one after the other.
	at, slope := make([]float64, len(p)), make([]float64, len(p))
	var value float64
	known := false
	look := func(p []float64) {
		if !known || !slices.Equal(at, p) {
			copy(at, p)
			value, known = o.value(p, slope), true
		}
	}
	result, err := optimize.Minimize(optimize.Problem{
		Func: func(p []float64) float64 { look(p); return value },
		Grad: func(g, p []float64) { look(p); copy(g, slope) },
		Status: func() (optimize.Status, error) {
			if ctx.Err() != nil {
				return optimize.Failure, context.Cause(ctx)
			}
			return optimize.NotTerminated, nil
		},
	}, p, &optimize.Settings{GradientThreshold: flat, MajorIterations: 2000, Converger: optimize.NeverTerminate{}}, &optimize.LBFGS{})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if result == nil {
		return nil, fmt.Errorf("fit the head: %w", err)
	}
	// Where rounding lets the line search find nothing lower, it gives up with an
	// error: the slope says whether that was at the bottom.
	look(result.X)
	if steepest := floats.Norm(slope, math.Inf(1)); !(steepest < steep) {
		return nil, fmt.Errorf("fit the head: no lowest point was found, the slope is still %g after %d steps (%v)", steepest, result.MajorIterations, err)
	}
	return slices.Clone(result.X), nil
}
