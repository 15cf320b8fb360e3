// Package assess says how well a model does on slices and studies whose truth is
// known: accuracy, sensitivity, specificity and the area under the ROC curve for
// each class and for any hemorrhage, with intervals; curves, calibration,
// confusion and operating points.
//
// Slices of one patient resemble each other, so intervals are drawn over
// patients: whole patients with replacement, percentiles of what comes out. Where
// that says nothing, because every draw gives 0 or 1, or where each patient
// counts once, the interval is Wilson's over as many trials as there are
// patients, not slices. What cannot be said of the data (no positives, a single
// patient) is said in words; no figure is ever NaN.
//
// An assessment describes a model on one set of data. What it raises is a
// suspected finding, not for diagnosis.
package assess
