package assess

import "ichwatch/infer"

// Figures are the results of an assessment, in the form in which they travel.
type Figures struct {
	Intervals Intervals    `json:"intervals"`
	Slices    SliceFigures `json:"slices"`
	Studies   StudyFigures `json:"studies"`
}

// Intervals says how intervals were found.
type Intervals struct {
	Level  float64 `json:"level"`
	Rounds int     `json:"rounds"`
	Seed   uint64  `json:"seed"`
	Unit   string  `json:"unit"`  // what was drawn: "patient" or "study"
	Units  int     `json:"units"` // how many there are
}

// SliceFigures are those of single slices.
type SliceFigures struct {
	Total   int      `json:"total"`
	Any     Binary   `json:"any_hemorrhage"`
	Classes []Binary `json:"classes"` // each against all others, in the order of the model
	// SixWay is what the highest probability says; nil for a model that does not
	// know normal slices.
	SixWay *Confusion `json:"six_way,omitempty"`
}

// StudyFigures are those of whole studies under the study rule. Sensitivity is
// the share of bleeding studies that raise an alert; one that was not analysed
// counts as missed. Specificity is the share of the others that raise none.
type StudyFigures struct {
	Total      int            `json:"total"`
	Undecided  int            `json:"undecided"` // NOT-ANALYSED or FAILED
	Outcomes   []OutcomeCount `json:"outcomes"`
	Any        Binary         `json:"any_hemorrhage"` // scored by the study's score, or the distance from the thresholds in log-odds
	Classes    []Binary       `json:"classes"`        // the hemorrhage classes: whether they reach their thresholds in a positive study
	Named      Named          `json:"named_class"`
	Predictive []Predictive   `json:"positive_predictive_value,omitempty"`
}

// Named says how often an alert names the right class: one that the study shows.
// False alarms do not count, nor studies whose classes are not stated.
type Named struct {
	Right int      `json:"right"`
	Of    int      `json:"of"`
	Share Estimate `json:"share"`
}

// OutcomeCount is how many studies ended in one way.
type OutcomeCount struct {
	Outcome  string `json:"outcome"`
	Bleeding int    `json:"bleeding"`
	Calm     int    `json:"calm"`
}

// Predictive is what an alert is worth where so many studies bleed.
type Predictive struct {
	Prevalence float64 `json:"prevalence"`
	Value      float64 `json:"value"`
}

// Binary is how well one question is answered.
type Binary struct {
	Name     string `json:"name"`
	Positive Count  `json:"positive"` // items that show it
	Negative Count  `json:"negative"`
	// Threshold is the one in use; nil where the answer takes the thresholds of
	// several classes.
	Threshold *float64 `json:"threshold,omitempty"`
	Matrix    Matrix   `json:"matrix"`

	Accuracy         Estimate `json:"accuracy"`
	Sensitivity      Estimate `json:"sensitivity"`
	Specificity      Estimate `json:"specificity"`
	AUC              Estimate `json:"auc"`
	AveragePrecision Estimate `json:"average_precision"`

	Calibration     *Calibration     `json:"calibration,omitempty"` // nil where the score is no probability
	OperatingPoints []OperatingPoint `json:"operating_points,omitempty"`
	ROC             []Point          `json:"roc,omitempty"` // x: 1 - specificity, y: sensitivity
	PR              []Point          `json:"pr,omitempty"`  // x: sensitivity, y: precision
}

// Count is how many items, of how many patients.
type Count struct {
	Items    int `json:"items"`
	Patients int `json:"patients"`
}

// Matrix counts answers at the threshold in use.
type Matrix struct {
	TruePositive  int `json:"tp"`
	FalsePositive int `json:"fp"`
	TrueNegative  int `json:"tn"`
	FalseNegative int `json:"fn"`
}

// Calibration tells whether probabilities mean what they say.
type Calibration struct {
	Brier Estimate `json:"brier"` // mean squared error, 0 is best
	Error Estimate `json:"expected_calibration_error"`
	Bins  []Bin    `json:"bins"`
}

// Bin is one of the reliability curve.
type Bin struct {
	From     float64 `json:"from"`
	To       float64 `json:"to"`
	Items    int     `json:"items"`
	Positive int     `json:"positive"`
	Said     float64 `json:"said"` // mean probability
	True     float64 `json:"true"` // share of positive items
}

// OperatingPoint is where a stated sensitivity is reached. It was chosen on the
// very data that it is described with, which flatters it.
type OperatingPoint struct {
	Asked       float64 `json:"asked_sensitivity"`
	Unreachable string  `json:"unreachable,omitempty"` // why there is none; the rest is empty then

	Threshold *float64 `json:"threshold,omitempty"` // for slices, and for studies whose rule has a threshold of its own
	// Thresholds are for other studies: those of the manifest, all moved by the same
	// log-odds.
	Thresholds  map[infer.Class]float64 `json:"thresholds,omitempty"`
	Sensitivity *Estimate               `json:"sensitivity,omitempty"`
	Specificity *Estimate               `json:"specificity,omitempty"`
}

// Confusion says which class had the highest probability in slices of one class.
type Confusion struct {
	Classes  []infer.Class `json:"classes"`
	Counts   [][]int       `json:"counts"` // by truth, then by answer
	Accuracy Estimate      `json:"accuracy"`
	// Several slices show more than one class and are left out; in SeveralRight of
	// them the answer is one of theirs.
	Several      int `json:"several_classes"`
	SeveralRight int `json:"several_classes_right"`
	Foreign      int `json:"class_unknown_to_model"`
}
