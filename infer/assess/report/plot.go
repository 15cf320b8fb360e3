package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"ichwatch/infer/assess"
)

// A plot is a square of 0..1 to the right and 0..1 upwards, with room for the
// axes' words. Colours and line patterns are the page's: classes s0, s1 and so on.
const (
	plotSide = 320
	plotLeft = 46
	plotTop  = 10
	plotWide = plotLeft + plotSide + 14
	plotHigh = plotTop + plotSide + 42
)

type plot struct{ strings.Builder }

func newPlot(title, description, x, y string) *plot {
	p := &plot{}
	e := template.HTMLEscapeString
	fmt.Fprintf(p, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s"><title>%s</title><desc>%s</desc>`,
		plotWide, plotHigh, e(title), e(title), e(description))
	for i := range 6 {
		v := float64(i) / 5
		fmt.Fprintf(p, `<path class="grid" d="M%.1f %.1fH%d"/><path class="grid" d="M%.1f %.1fV%d"/>`,
			right(0), up(v), plotLeft+plotSide, right(v), up(0), plotTop)
		fmt.Fprintf(p, `<text class="tick" x="%d" y="%.1f" text-anchor="end">%.1f</text>`, plotLeft-6, up(v)+4, v)
		fmt.Fprintf(p, `<text class="tick" x="%.1f" y="%.1f" text-anchor="middle">%.1f</text>`, right(v), up(0)+16, v)
	}
	fmt.Fprintf(p, `<text class="axis" x="%.1f" y="%d" text-anchor="middle">%s</text>`, right(0.5), plotHigh-6, e(x))
	fmt.Fprintf(p, `<text class="axis" transform="translate(12 %.1f) rotate(-90)" text-anchor="middle">%s</text>`, up(0.5), e(y))
	return p
}

func right(x float64) float64 { return plotLeft + x*plotSide }
func up(y float64) float64    { return plotTop + (1-y)*plotSide }

func (p *plot) line(class string, points []assess.Point) {
	if len(points) == 0 {
		return
	}
	fmt.Fprintf(p, `<path class="curve %s" d="`, class)
	for i, at := range points {
		letter := 'L'
		if i == 0 {
			letter = 'M'
		}
		fmt.Fprintf(p, "%c%.1f %.1f", letter, right(at.X), up(at.Y))
	}
	p.WriteString(`"/>`)
}

func (p *plot) dot(class string, x, y, radius float64) {
	fmt.Fprintf(p, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="%.1f"/>`, class, right(x), up(y), radius)
}

func (p *plot) end() template.HTML {
	p.WriteString("</svg>")
	return template.HTML(p.String())
}

// rocPlot draws a ROC curve for each question, and a dot where it stands with the
// thresholds in use.
func rocPlot(all []assess.Binary) template.HTML {
	p := newPlot("ROC curves", describe(all, "area under the curve", func(b assess.Binary) assess.Estimate { return b.AUC }), "1 − specificity", "sensitivity")
	p.line("chance", []assess.Point{{X: 0, Y: 0}, {X: 1, Y: 1}})
	for i := len(all) - 1; i >= 0; i-- { // the first on top
		class := fmt.Sprintf("s%d", i)
		p.line(class, all[i].ROC)
		if all[i].Sensitivity.Defined() && all[i].Specificity.Defined() {
			p.dot(class, 1-all[i].Specificity.Value, all[i].Sensitivity.Value, 4)
		}
	}
	return p.end()
}

// prPlot draws a precision-recall curve for each question.
func prPlot(all []assess.Binary) template.HTML {
	p := newPlot("Precision-recall curves", describe(all, "average precision", func(b assess.Binary) assess.Estimate { return b.AveragePrecision }), "sensitivity (recall)", "precision")
	for i := len(all) - 1; i >= 0; i-- {
		p.line(fmt.Sprintf("s%d", i), all[i].PR)
	}
	return p.end()
}

// describe says in words what curves show.
func describe(all []assess.Binary, what string, of func(assess.Binary) assess.Estimate) string {
	var parts []string
	for _, b := range all {
		parts = append(parts, b.Name+" "+text(of(b)))
	}
	return what + ": " + strings.Join(parts, "; ")
}

// reliabilityPlot draws what the probabilities say against what is there: a dot
// a bin, its area by the number of slices, with Wilson's interval as if slices
// were independent.
func reliabilityPlot(b assess.Binary) template.HTML {
	p := newPlot("Calibration of "+b.Name, "expected calibration error "+text(b.Calibration.Error)+"; Brier score "+text(b.Calibration.Brier),
		"probability given", "share that shows it")
	p.line("chance", []assess.Point{{X: 0, Y: 0}, {X: 1, Y: 1}})
	var curve []assess.Point
	most := 0
	for _, bin := range b.Calibration.Bins {
		most = max(most, bin.Items)
		if bin.Items > 0 {
			curve = append(curve, assess.Point{X: bin.Said, Y: bin.True})
		}
	}
	p.line("s0", curve)
	for _, bin := range b.Calibration.Bins {
		if bin.Items == 0 {
			continue
		}
		low, high := assess.WilsonInterval(float64(bin.Positive), float64(bin.Items))
		fmt.Fprintf(p, `<path class="whisker s0" d="M%.1f %.1fV%.1f"/>`, right(bin.Said), up(low), up(high))
		p.dot("s0", bin.Said, bin.True, 3+7*math.Sqrt(float64(bin.Items)/float64(most)))
	}
	return p.end()
}

// intervalBar draws an area with its interval on a line from chance to 1; what is
// worse than chance stands at its left end.
func intervalBar(e assess.Estimate) template.HTML {
	const wide, high, mid = 132.0, 16.0, 8.0
	var b strings.Builder
	at := func(v float64) float64 { return 4 + max(2*v-1, 0)*(wide-8) }
	fmt.Fprintf(&b, `<svg class="bar" viewBox="0 0 %g %g" aria-hidden="true"><path class="grid" d="M%.1f %gH%.1f"/><path class="grid" d="M%.1f 3V13M%.1f 3V13"/>`,
		wide, high, at(0), mid, at(1), at(0), at(1))
	if e.Defined() {
		if e.Method != "" {
			fmt.Fprintf(&b, `<path class="whisker s0" d="M%.1f %gH%.1f"/>`, at(e.Low), mid, at(e.High))
		}
		fmt.Fprintf(&b, `<circle class="dot s0" cx="%.1f" cy="%g" r="3.5"/>`, at(e.Value), mid)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}
