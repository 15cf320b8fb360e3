package assess

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// question is one thing that is asked of every item (a slice or a study): whether
// it shows a class, or any hemorrhage.
type question struct {
	item    string // "slice", "study", for words
	unit    string // "patient", "study": what intervals are drawn over
	patient []int
	truth   []bool
	score   []float64 // the higher, the more it speaks for yes
	called  []bool    // the answer at the threshold in use
	chosen  []choice  // operating points
	// probability: the scores are probabilities, so that calibration can be asked.
	probability bool

	order              []int // by falling score
	positive, negative int
	withPositive       int // patients that have one
	withNegative       int
	all                int  // patients
	single             bool // each patient has one item
}

// choice is an operating point under measurement.
type choice struct {
	called []bool
}

func (q *question) prepare() {
	q.order = make([]int, len(q.score))
	for i := range q.order {
		q.order[i] = i
	}
	slices.SortStableFunc(q.order, func(a, b int) int { return cmp.Compare(q.score[b], q.score[a]) })
	positive, negative, all := map[int]bool{}, map[int]bool{}, map[int]bool{}
	for i, yes := range q.truth {
		all[q.patient[i]] = true
		if yes {
			q.positive++
			positive[q.patient[i]] = true
		} else {
			q.negative++
			negative[q.patient[i]] = true
		}
	}
	q.withPositive, q.withNegative, q.all = len(positive), len(negative), len(all)
	q.single = q.all == len(q.truth)
}

// The order of a question's figures; those of the chosen points follow in pairs.
const (
	figAccuracy = iota
	figSensitivity
	figSpecificity
	figAUC
	figPrecision
	figBrier
	figCalibration
	numFigures
)

func (q *question) figures() []figure {
	trials := func(n int) int {
		if q.single {
			return n
		}
		return 0
	}
	none, noPositive, noNegative := "", "", ""
	if len(q.truth) == 0 {
		none = fmt.Sprintf("there is no %s", q.item)
	}
	if q.positive == 0 {
		noPositive = fmt.Sprintf("no %s shows it", q.item)
	}
	if q.negative == 0 {
		noNegative = fmt.Sprintf("no %s is without it", q.item)
	}
	both := cmp.Or(none, noPositive, noNegative)
	uncalibrated := none
	if !q.probability {
		uncalibrated = "the score is no probability"
	}
	fewer, who := q.withPositive, q.unit+" with it"
	if q.withNegative < fewer {
		fewer, who = q.withNegative, q.unit+" without it"
	}
	sensitivity := figure{undefined: noPositive, patients: q.withPositive, who: q.unit + " with it", ratio: true, trials: trials(q.positive)}
	specificity := figure{undefined: noNegative, patients: q.withNegative, who: q.unit + " without it", ratio: true, trials: trials(q.negative)}
	out := []figure{
		figAccuracy:    {undefined: none, patients: q.all, who: q.unit, ratio: true, trials: trials(len(q.truth))},
		figSensitivity: sensitivity,
		figSpecificity: specificity,
		figAUC:         {undefined: both, patients: fewer, who: who, ratio: true},
		figPrecision:   {undefined: both, patients: fewer, who: who, ratio: true},
		figBrier:       {undefined: uncalibrated, patients: q.all, who: q.unit},
		figCalibration: {undefined: uncalibrated, patients: q.all, who: q.unit},
	}
	for range q.chosen {
		out = append(out, sensitivity, specificity)
	}
	return out
}

func (q *question) measure(weight, dst []float64) {
	dst[figAccuracy], dst[figSensitivity], dst[figSpecificity] = q.rates(weight, q.called)
	dst[figAUC], dst[figPrecision] = q.areas(weight)
	dst[figBrier], dst[figCalibration] = math.NaN(), math.NaN()
	if q.probability {
		dst[figBrier], dst[figCalibration] = q.calibration(weight)
	}
	for i, c := range q.chosen {
		_, dst[numFigures+2*i], dst[numFigures+2*i+1] = q.rates(weight, c.called)
	}
}

// rates compares answers with the truth.
func (q *question) rates(weight []float64, called []bool) (accuracy, sensitivity, specificity float64) {
	var right [2]float64 // by truth
	var all [2]float64
	for i, yes := range q.truth {
		w, k := weight[q.patient[i]], 0
		if yes {
			k = 1
		}
		all[k] += w
		if called[i] == yes {
			right[k] += w
		}
	}
	return (right[0] + right[1]) / (all[0] + all[1]), right[1] / all[1], right[0] / all[0]
}

// areas gives the area under the ROC curve, which is how often a positive item
// scores higher than a negative one (ties count half), and the average precision,
// which is the area under the steps of the precision-recall curve.
func (q *question) areas(weight []float64) (auc, precision float64) {
	var above, total, negatives float64 // positives so far, all of them; negatives so far
	for i, yes := range q.truth {
		if yes {
			total += weight[q.patient[i]]
		}
	}
	for start := 0; start < len(q.order); {
		score, p, n := q.score[q.order[start]], 0.0, 0.0
		for ; start < len(q.order) && q.score[q.order[start]] == score; start++ {
			if i := q.order[start]; q.truth[i] {
				p += weight[q.patient[i]]
			} else {
				n += weight[q.patient[i]]
			}
		}
		auc += n * (above + p/2)
		above += p
		negatives += n
		if p > 0 {
			precision += p * above / (above + negatives)
		}
	}
	return auc / (total * negatives), precision / total
}

// numBins is how many bins of equal width calibration is looked at in.
const numBins = 10

func bin(p float64) int { return min(int(p*numBins), numBins-1) }

// calibration gives the Brier score, the mean squared distance of the probability
// from the truth, and the expected calibration error, the mean distance between
// what the bins say and what is in them.
func (q *question) calibration(weight []float64) (brier, ece float64) {
	var said, shown, all [numBins]float64
	sum := 0.0
	for i, p := range q.score {
		w, k, y := weight[q.patient[i]], bin(p), 0.0
		if q.truth[i] {
			y = 1
		}
		brier += w * (p - y) * (p - y)
		said[k] += w * p
		shown[k] += w * y
		all[k] += w
		sum += w
	}
	for k := range said {
		ece += math.Abs(said[k] - shown[k])
	}
	return brier / sum, ece / sum
}

// reliability is the calibration curve.
func (q *question) reliability() []Bin {
	bins := make([]Bin, numBins)
	for k := range bins {
		bins[k].From, bins[k].To = float64(k)/numBins, float64(k+1)/numBins
	}
	for i, p := range q.score {
		b := &bins[bin(p)]
		b.Items++
		b.Said += p
		if q.truth[i] {
			b.Positive++
		}
	}
	for k := range bins {
		if b := &bins[k]; b.Items > 0 {
			b.Said = *rounded(b.Said / float64(b.Items))
			b.True = *rounded(float64(b.Positive) / float64(b.Items))
		}
	}
	return bins
}

// binary puts the measured figures of a question together.
func (q *question) binary(name string, e []Estimate) Binary {
	b := Binary{
		Name:     name,
		Positive: Count{q.positive, q.withPositive}, Negative: Count{q.negative, q.withNegative},
		Accuracy: e[figAccuracy], Sensitivity: e[figSensitivity], Specificity: e[figSpecificity],
		AUC: e[figAUC], AveragePrecision: e[figPrecision],
	}
	for i, yes := range q.truth {
		switch {
		case yes && q.called[i]:
			b.Matrix.TruePositive++
		case yes:
			b.Matrix.FalseNegative++
		case q.called[i]:
			b.Matrix.FalsePositive++
		default:
			b.Matrix.TrueNegative++
		}
	}
	if q.probability {
		b.Calibration = &Calibration{Brier: e[figBrier], Error: e[figCalibration], Bins: q.reliability()}
	}
	b.ROC, b.PR = q.curves()
	return b
}
