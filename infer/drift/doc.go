// Package drift watches whether the slices that arrive, and what the models
// suspect in them, stay what they were: a scanner that was recalibrated, another
// protocol, other patients, a model that has gone blind.
//
// What is watched of each study is the mean over its slices of four numbers
// (Feature), and whether it was positive. What is usual is learned from the first
// studies, or stands in the model's manifest. Beyond that each is watched by a
// cumulative sum of log-likelihood ratios (CUSUM; Page, Biometrika 1954;41:100):
//
//	S = max(0, S + log p(x | drifted) / p(x | usual)), an alarm where S >= h
//
// A study without drift multiplies exp(S) by 1 on average, so that the mean number
// of studies between two false alarms is at least exp(h), whatever is watched
// (Lorden, Ann Math Stat 1971;42:1897): with h = log 10,000, one in 10,000 studies
// for each number and direction. What was learned from few studies is uncertain:
// "usual" is then taken at the near end of its 95 % interval, exact for the rate of
// positives (Clopper and Pearson, Biometrika 1934;26:404).
//
// Nothing of a patient is kept: counts, means, sums.
package drift
