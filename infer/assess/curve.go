package assess

import (
	"math"
)

// Point is one of a curve, where everything scored at or above Threshold counts.
type Point struct {
	X         float64 `json:"x"`
	Y         float64 `json:"y"`
	Threshold float64 `json:"threshold"`
}

// mostPoints is how many a curve keeps: more than a screen shows.
const mostPoints = 200

// curves gives the ROC curve (1 - specificity to the right, sensitivity up) and
// the precision-recall curve (sensitivity to the right, precision up), from the
// highest threshold down. They are nil where one of both kinds of item is missing.
func (q *question) curves() (roc, pr []Point) {
	if q.positive == 0 || q.negative == 0 {
		return nil, nil
	}
	top := q.score[q.order[0]]
	roc = append(roc, Point{0, 0, top})
	tp, fp := 0.0, 0.0
	for start := 0; start < len(q.order); {
		score := q.score[q.order[start]]
		for ; start < len(q.order) && q.score[q.order[start]] == score; start++ {
			if q.truth[q.order[start]] {
				tp++
			} else {
				fp++
			}
		}
		roc = append(roc, Point{fp / float64(q.negative), tp / float64(q.positive), score})
		pr = append(pr, Point{tp / float64(q.positive), tp / (tp + fp), score})
	}
	pr = append([]Point{{0, pr[0].Y, top}}, pr...)
	return thin(roc), thin(pr)
}

// thin leaves out points that lie on the line between their neighbours, and then
// those nearest to the last kept one, so that what stays is spread along the
// curve. The ends stay.
func thin(curve []Point) []Point {
	var kept []Point
	for i, p := range curve {
		if n := len(kept); n >= 2 && i > 0 {
			a, b := kept[n-2], kept[n-1]
			if cross := (b.X-a.X)*(p.Y-a.Y) - (b.Y-a.Y)*(p.X-a.X); math.Abs(cross) < 1e-12 {
				kept = kept[:n-1]
			}
		}
		kept = append(kept, p)
	}
	for tolerance := 1e-3; len(kept) > mostPoints; tolerance *= 1.5 {
		spread := kept[:1:1]
		for i, p := range kept[1:] {
			last := spread[len(spread)-1]
			if i == len(kept)-2 || math.Abs(p.X-last.X)+math.Abs(p.Y-last.Y) >= tolerance {
				spread = append(spread, p)
			}
		}
		kept = spread
	}
	for i := range kept {
		p := &kept[i]
		p.X, p.Y, p.Threshold = *rounded(p.X), *rounded(p.Y), *rounded(p.Threshold)
	}
	return kept
}
