package onnx

import (
	"errors"
	"math"
	"slices"
	"testing"

	"ichwatch/infer/graph"
	"ichwatch/infer/manifest"
)

// phantomModel is one whose end is understood.
func phantomModel(tb testing.TB) *manifest.Manifest {
	tb.Helper()
	m, err := manifest.Load("../../models/resnet18-phantom")
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// The features go into the last layer: times its weight, plus its bias, they are
// the logits; and to give them changes no answer.
func TestFeatures(t *testing.T) {
	m := phantomModel(t)
	h, err := graph.FindHead(m.Model(), m.Outputs.Logits, m.Outputs.CAM)
	if err != nil {
		t.Fatal(err)
	}
	r := open(t)
	plain, err := r.NewClassifier(m, Options{Runners: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, o := range []Options{{Runners: 1, Features: true}, {Runners: 2, Features: true, Maps: true}} {
		c, err := r.NewClassifier(m, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var last []float32
		for _, hu := range []int16{25, 70} {
			img := head(hu)
			want, err := plain.Classify(t.Context(), img)
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.Classify(t.Context(), img)
			if err != nil {
				t.Fatal(err)
			}
			if want.Features != nil || len(s.Features) != h.Features || slices.Equal(s.Features, last) {
				t.Fatalf("%d features where none were asked for, %d where they were", len(want.Features), len(s.Features))
			}
			last = s.Features
			for k := range h.Classes {
				logit := float64(h.Bias[k])
				for j, f := range s.Features {
					logit += float64(h.Weight[k*h.Features+j]) * float64(f)
				}
				if math.Abs(logit-float64(s.Logits[k])) > 1e-4 || math.Abs(float64(s.Logits[k]-want.Logits[k])) > 1e-4 {
					t.Errorf("class %d: head x features %v, logit %v, without features %v", k, logit, s.Logits[k], want.Logits[k])
				}
			}
			if !o.Maps {
				continue
			}
			if e, _, err := c.Explain(t.Context(), img); err != nil || !slices.Equal(e.Features, s.Features) {
				t.Errorf("Explain gives other features (%v)", err)
			}
		}
	}
}

func TestFeaturesNeedAHead(t *testing.T) {
	_, err := open(t).NewClassifier(load(t, "tiny"), Options{Features: true})
	var otherwise *graph.HeadError
	if !errors.As(err, &otherwise) {
		t.Errorf("a model that ends in an Add: %v", err)
	}
}
