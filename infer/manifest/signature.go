package manifest

import (
	"slices"

	"ichwatch/infer/graph"
)

// signature compares the manifest with what the model declares. A wrong input
// name would otherwise show only when the first slice runs.
func (p *problems) signature(m *Manifest, g *graph.Signature) {
	if p.has("input") || p.has("windows") || p.has("classes") || p.has("outputs") {
		return // what is wanted of the model is not clear yet
	}
	if len(g.Inputs) != 1 {
		p.add("input", "the model has %d inputs, wanted is one", len(g.Inputs))
		return
	}
	classes := int64(len(m.Classes))
	p.tensor("input.name", m.Input.Name, g.Inputs,
		[]int64{-1, int64(len(m.Windows)), int64(m.Input.Height), int64(m.Input.Width)}, "slices, windows, height, width")
	p.tensor("outputs.logits", m.Outputs.Logits, g.Outputs, []int64{-1, classes}, "slices, classes")
	if m.Outputs.CAM != "" {
		p.tensor("outputs.cam", m.Outputs.CAM, g.Outputs, []int64{-1, classes, -1, -1}, "slices, classes, height, width")
	}
}

// tensor checks one input or output; -1 in the wanted shape is any size.
func (p *problems) tensor(key, name string, declared []graph.Tensor, want []int64, axes string) {
	if name == "" || p.has(key) {
		return
	}
	i := slices.IndexFunc(declared, func(t graph.Tensor) bool { return t.Name == name })
	if i < 0 {
		names := make([]string, len(declared))
		for i, t := range declared {
			names[i] = t.Name
		}
		p.add(key, "is %q, the model has %q", name, names)
		return
	}
	t := declared[i]
	if t.ElemType != graph.Float32 {
		p.add(key, "%q is not of float32 in the model (element type %d)", name, t.ElemType)
	}
	if t.Shape == nil {
		return // not declared: the first run shows it
	}
	fits := len(t.Shape) == len(want)
	for axis := 0; fits && axis < len(want); axis++ {
		has := t.Shape[axis]
		switch {
		case has < 0:
		case axis == 0:
			fits = has == 1 // a model with a fixed batch of one is as good on a CPU
		default:
			fits = want[axis] < 0 || has == want[axis]
		}
	}
	if !fits {
		p.add(key, "%q has shape %v in the model, the manifest wants %v (%s; -1: any)", name, t.Shape, want, axes)
	}
}
