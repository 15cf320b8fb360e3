package ensemble

import (
	"math"

	"ichwatch/infer/onnx"
	"ichwatch/infer/pixel"
)

// blend gives the mean of the members' maps. They may differ in their cells and in
// the part of the slice that they cover: the blend covers all of it, with cells as
// fine as the finest.
//
// The logits of one network are larger than another's, and so are its maps. Each
// is therefore brought to the same spread before the mean is taken: the standard
// deviation of its values about each class's mean, over all classes. The blend
// has the mean of their spreads, and stays in the units of a logit. Where a member
// did not look, it says nothing: its class's mean.
func (c *Classifier) blend(maps []*onnx.Maps) *onnx.Maps {
	if len(maps) == 1 {
		return maps[0]
	}
	squares := make([]pixel.Square, len(maps))
	levels := make([]level, len(maps))
	spread := 0.0
	for i, m := range maps {
		squares[i], levels[i] = m.Square, levelOf(m)
		spread += levels[i].spread / float64(len(maps))
	}
	out := &onnx.Maps{Classes: len(c.members[0].at), Square: around(squares)}
	for _, m := range maps {
		share := float64(out.Square.Side) / float64(m.Square.Side)
		out.Rows = max(out.Rows, int(math.Ceil(float64(m.Rows)*share)))
		out.Columns = max(out.Columns, int(math.Ceil(float64(m.Columns)*share)))
	}
	out.Values = make([]float32, out.Classes*out.Rows*out.Columns)
	for k := range out.Classes {
		cells := out.Map(k)
		for y := range out.Rows {
			row := float64(out.Square.Top) + (float64(y)+0.5)*float64(out.Square.Side)/float64(out.Rows)
			for x := range out.Columns {
				column := float64(out.Square.Left) + (float64(x)+0.5)*float64(out.Square.Side)/float64(out.Columns)
				sum := 0.0
				for i, m := range maps {
					class := c.members[i].at[k]
					mean := levels[i].means[class]
					sum += mean
					if v, seen := m.Sample(class, row, column); seen && levels[i].spread > 0 {
						sum += (float64(v) - mean) / levels[i].spread * spread
					}
				}
				cells[y*out.Columns+x] = float32(sum / float64(len(maps)))
			}
		}
	}
	return out
}

// level is how large the values of a member's maps are.
type level struct {
	means  []float64 // by class
	spread float64   // about them
}

func levelOf(m *onnx.Maps) level {
	l := level{means: make([]float64, m.Classes)}
	n := float64(m.Rows * m.Columns)
	for k := range m.Classes {
		for _, v := range m.Map(k) {
			l.means[k] += float64(v) / n
		}
		for _, v := range m.Map(k) {
			d := float64(v) - l.means[k]
			l.spread += d * d / (n * float64(m.Classes))
		}
	}
	l.spread = math.Sqrt(l.spread)
	return l
}

// around is the smallest square that holds all of them, centred on what they
// cover.
func around(squares []pixel.Square) pixel.Square {
	first := squares[0]
	top, left, bottom, right := first.Top, first.Left, first.Top+first.Side, first.Left+first.Side
	for _, s := range squares[1:] {
		top, left = min(top, s.Top), min(left, s.Left)
		bottom, right = max(bottom, s.Top+s.Side), max(right, s.Left+s.Side)
	}
	side := max(bottom-top, right-left)
	return pixel.Square{Top: (top + bottom - side) >> 1, Left: (left + right - side) >> 1, Side: side}
}
