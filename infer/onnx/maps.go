package onnx

import (
	"context"
	"errors"
	"fmt"

	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// ErrNoMaps: the model has no activation maps, or Options.Maps was not set.
var ErrNoMaps = errors.New("the model gives no activation maps")

// Maps are the class activation maps of one slice: where in it the model sees
// what speaks for each class. They explain an answer and outline nothing.
type Maps struct {
	Classes int       // in the order of the manifest
	Rows    int       // of one map
	Columns int       // of one map
	Values  []float32 // map by map, row by row; what adds to the class's logit, in its units
	Square  pixel.Square
}

// Map gives the map of one class, row by row.
func (m *Maps) Map(class int) []float32 {
	n := m.Rows * m.Columns
	return m.Values[class*n : (class+1)*n]
}

// At gives the map of a class at a pixel of the slice, between the cells'
// centres by straight lines. inside is false where the model did not see that
// pixel.
func (m *Maps) At(class, row, column int) (v float32, inside bool) {
	return m.Sample(class, float64(row)+0.5, float64(column)+0.5)
}

// Sample is At between the pixels: the centre of the first one of the slice lies
// at 0.5, 0.5.
func (m *Maps) Sample(class int, row, column float64) (v float32, inside bool) {
	side := float64(m.Square.Side)
	y, x := row-float64(m.Square.Top), column-float64(m.Square.Left)
	if y < 0 || x < 0 || y >= side || x >= side {
		return 0, false
	}
	cells := m.Map(class)
	top, bottom, down := between(y/side, m.Rows)
	left, right, along := between(x/side, m.Columns)
	upper := cells[top*m.Columns+left]*(1-along) + cells[top*m.Columns+right]*along
	lower := cells[bottom*m.Columns+left]*(1-along) + cells[bottom*m.Columns+right]*along
	return upper*(1-down) + lower*down, true
}

// between gives the two cells of n that a place in 0..1 lies between, and how far
// towards the second.
func between(place float64, n int) (first, second int, share float32) {
	at := min(max(place*float64(n)-0.5, 0), float64(n-1))
	first = int(at)
	return first, min(first+1, n-1), float32(at - float64(first))
}

// Explain is Classify with the activation maps. Its errors are those of Classify
// and ErrNoMaps.
func (c *Classifier) Explain(ctx context.Context, img *infer.Image) (infer.Scores, *Maps, error) {
	shape := c.maps
	if shape == nil {
		return infer.Scores{}, nil, fmt.Errorf("explain with %s: %w", c.model, ErrNoMaps)
	}
	m := &Maps{Classes: int(shape[1]), Rows: int(shape[2]), Columns: int(shape[3])}
	s, err := c.classify(ctx, img, m)
	if err == nil {
		m.Square, err = c.preprocess.Square(img)
	}
	if err != nil {
		return infer.Scores{}, nil, fmt.Errorf("explain with %s: %w", c.model, err)
	}
	return s, m, nil
}
