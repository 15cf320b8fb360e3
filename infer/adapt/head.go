package adapt

import (
	"math"

	"ichwatch/infer/manifest"
)

// Head is the last layer of a model: logits = Weight features + Bias.
type Head struct {
	Weight []float32 // class by class, as many of each as there are features
	Bias   []float32 // a number for each class
}

// Logits gives those of one slice, in float64.
func (h Head) Logits(features []float32) []float64 {
	out := make([]float64, len(h.Bias))
	for k, b := range h.Bias {
		out[k] = float64(b)
		for j, f := range features {
			out[k] += float64(h.Weight[k*len(features)+j]) * float64(f)
		}
	}
	return out
}

// Probabilities gives those of one slice.
func (h Head) Probabilities(a manifest.Activation, features []float32) []float64 {
	p := h.Logits(features)
	if a == manifest.Sigmoid {
		for k, z := range p {
			p[k] = sigmoid(z)
		}
		return p
	}
	whole := logSumExp(p)
	for k, z := range p {
		p[k] = math.Exp(z - whole)
	}
	return p
}

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

func logSumExp(z []float64) float64 {
	highest := math.Inf(-1)
	for _, v := range z {
		highest = max(highest, v)
	}
	sum := 0.0
	for _, v := range z {
		sum += math.Exp(v - highest)
	}
	return highest + math.Log(sum)
}
