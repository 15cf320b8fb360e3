// Package ensemble lets several models answer as one. One model alone is the
// ensemble of itself, and answers as it would without this package.
//
// The members vote with equal weights and in log-odds: for each class the
// distances of their probabilities from their own thresholds,
// logit(p) - logit(threshold), are averaged, and a slice counts where the mean is
// not below 0. The same is said in terms that everything else understands:
//
//	probability of the ensemble = sigmoid(mean of logit(p))
//	threshold of the ensemble   = sigmoid(mean of logit(threshold))
//
// so that the study rule, alerts and reports have one probability and one
// threshold for each class, as of a single model; the threshold of the study, where
// the rule has one, is the members' mean in the same way. Any hemorrhage is, likewise, 1
// minus the ensemble's probability of normal. The probabilities of the classes
// need not add up to 1.
//
// Members are asked for the same classes, in whatever order, and decided upon by
// the same study rule; each has its own preprocessing, activation and thresholds.
// There is no half an ensemble: a member that does not load leaves no model, and
// one that fails on a slice fails the slice.
package ensemble

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
	"ichwatch/infer/study"
)

// Ensemble is what one model or several mean together, at one operating point.
// New alone makes valid ones.
type Ensemble struct {
	Members    []*manifest.Manifest // as they were given
	Point      string               // the name of the operating point, of every member
	Classes    []infer.Class        // in the order of the first member
	Thresholds map[infer.Class]float64
	StudyRule  manifest.StudyRule
	// StudyThreshold is that of the study where StudyRule asks for one, otherwise 0.
	StudyThreshold float64

	points []*manifest.OperatingPoint // of the members
}

// ErrNoCommonPoint: the members' default operating points differ.
var ErrNoCommonPoint = errors.New("the models' default operating points differ; name one that all of them have")

// New puts models together at the operating point of that name, which each of
// them must have; an empty name is their default. Its error names the manifests
// that do not fit. It wraps a *manifest.UnknownPointError or ErrNoCommonPoint
// where it is about the operating point.
func New(point string, members ...*manifest.Manifest) (*Ensemble, error) {
	if len(members) == 0 {
		return nil, errors.New("no model")
	}
	first := members[0]
	e := &Ensemble{Members: members, Classes: first.Classes, StudyRule: first.StudyRule}
	for i, m := range members[1:] {
		if err := fit(members[:i+1], m); err != nil {
			return nil, err
		}
	}
	e.Point = point
	if point == "" {
		e.Point = first.DefaultPoint
		for _, m := range members[1:] {
			if m.DefaultPoint != e.Point {
				return nil, fmt.Errorf("%w: %s has %s, %s has %s", ErrNoCommonPoint, first.Where(), e.Point, m.Where(), m.DefaultPoint)
			}
		}
	}
	for _, m := range members {
		p, err := m.Point(e.Point)
		if err != nil {
			return nil, err
		}
		e.points = append(e.points, p)
	}
	e.Thresholds = e.thresholds()
	if e.StudyRule.Kind == manifest.RuleEvidence {
		e.StudyThreshold = e.mean(func(p *manifest.OperatingPoint) float64 { return p.StudyThreshold })
	}
	return e, nil
}

// CommonPoints are the names of the operating points that all members have, in the
// order of the first.
func CommonPoints(members []*manifest.Manifest) []string {
	names := manifest.PointNames(members[0].OperatingPoints)
	for _, m := range members[1:] {
		has := manifest.PointNames(m.OperatingPoints)
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(has, name) })
	}
	return names
}

// fit looks whether m may join those before it.
func fit(before []*manifest.Manifest, m *manifest.Manifest) error {
	first := before[0]
	apart := func(what string) error {
		return fmt.Errorf("%s and %s cannot answer together: %s", first.Where(), m.Where(), what)
	}
	if in, here := names(first.Classes), names(m.Classes); !slices.Equal(in, here) {
		return apart(fmt.Sprintf("their classes are %s and %s", strings.Join(in, ", "), strings.Join(here, ", ")))
	}
	if first.StudyRule != m.StudyRule {
		return apart(fmt.Sprintf("their study rules are %q and %q", first.StudyRule, m.StudyRule))
	}
	for _, other := range before {
		if other.SHA256() == m.SHA256() {
			return fmt.Errorf("%s and %s are the same model, which would vote twice", other.Where(), m.Where())
		}
	}
	return nil
}

// names sorts, so that the order does not matter.
func names(classes []infer.Class) []string {
	var out []string
	for _, c := range slices.Sorted(slices.Values(classes)) {
		out = append(out, c.String())
	}
	return out
}

func (e *Ensemble) thresholds() map[infer.Class]float64 {
	out := map[infer.Class]float64{}
	for _, c := range e.Classes {
		if c.Hemorrhage() {
			out[c] = e.mean(func(p *manifest.OperatingPoint) float64 { return p.Thresholds[c] })
		}
	}
	return out
}

// mean of a threshold over the members, in log-odds; of one member, as it stands.
func (e *Ensemble) mean(of func(*manifest.OperatingPoint) float64) float64 {
	if len(e.points) == 1 {
		return of(e.points[0])
	}
	sum := 0.0
	for _, p := range e.points {
		sum += infer.LogOdds(of(p))
	}
	return infer.Probability(sum / float64(len(e.points)))
}

// Models names the members.
func (e *Ensemble) Models() infer.Models {
	var out infer.Models
	for _, m := range e.Members {
		out = append(out, m.Ref())
	}
	return out
}

// Rule decides about studies from the ensemble's answers.
func (e *Ensemble) Rule() *study.Rule {
	return study.NewRule(e.Classes, e.Thresholds, e.StudyThreshold, e.StudyRule)
}

// Expected is what the manifest of a single model states of the operating point;
// nil where it states nothing, and of several models: how well they do together
// stands in no manifest.
func (e *Ensemble) Expected() *manifest.Expected {
	if len(e.points) > 1 {
		return nil
	}
	return e.points[0].Expected
}

// Describe says in a line for each member what may be expected of it alone.
func (e *Ensemble) Describe() []string {
	var lines []string
	for i, m := range e.Members {
		lines = append(lines, fmt.Sprintf("%v, operating point %s: %s", m.Ref(), e.Point, e.points[i].Describe()))
	}
	return lines
}
