package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/infer"
	"ichwatch/infer/adapt"
	"ichwatch/infer/assess"
	"ichwatch/infer/assess/report"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/graph"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
	"ichwatch/infer/study"
)

// site is what an adaptation works on: a model, and what its frozen layers made of
// the slices of a site.
type site struct {
	*examined
	base   *ensemble.Ensemble // of one model
	model  *manifest.Manifest // that one
	head   *graph.Head        // of model
	start  adapt.Head         // the same, as the fits take it
	data   adapt.Data
	slices []int       // of data, by their index in the set
	before assess.Data // what the model itself says
	// undecided are studies that it can say nothing of.
	undecided []report.Undecided
}

// tolerance is how far logits and probabilities may lie from what they should be,
// as a part of them where they are above 1.
const tolerance = 1e-4

// newSite takes what was classified, and sees to it that head makes of the
// features what the model said.
func newSite(base *ensemble.Ensemble, head *graph.Head, x *examined) (*site, error) {
	m := base.Members[0]
	s := &site{
		examined: x, base: base, model: m, head: head, start: adapt.Head{Weight: head.Weight, Bias: head.Bias},
		data: adapt.Data{Classes: m.Classes, Activation: m.Activation},
	}
	before, counts, _ := x.Data(base.Classes, base.Thresholds, base.StudyThreshold)
	if err := someClassified(counts); err != nil {
		return nil, err
	}
	s.before, s.undecided = before, counts.Undecided
	for i := range x.Results {
		r, l := &x.Results[i], &x.Set.Slices[i]
		if r.State != spool.FindingClassified {
			continue
		}
		for k, p := range s.start.Probabilities(m.Activation, r.Features) {
			if off := math.Abs(p - float64(r.Probabilities[k])); !(off <= tolerance) { // NaN too
				return nil, fmt.Errorf("adapt %s: its last layer does not do what was read from the file: in line %d of the labels %s is off by %g", m.Ref(), l.Line, m.Classes[k], off)
			}
		}
		s.data.Slices = append(s.data.Slices, adapt.Slice{Patient: l.Patient, Truth: l.Truth, Doubtful: l.Doubtful, Features: r.Features})
		s.slices = append(s.slices, i)
	}
	return s, nil
}

// compare finds the new thresholds and both models' figures, and puts them into
// the summary. What the adapted model says of a patient are fits that never saw
// that patient.
func (s *site) compare(sum *adapt.Summary, r *adapt.Result, o assess.Options) error {
	// Scores do not depend on thresholds: a rule that nothing meets serves to find some.
	b, nothing := s.base, map[infer.Class]float64{}
	for _, c := range b.Classes {
		nothing[c] = 1
	}
	scored := func(probabilities [][]float64) *assess.Data {
		d, _ := s.answered(probabilities, nothing, math.Inf(1))
		d.StudyThreshold = b.StudyThreshold
		return &d
	}
	held := &adapt.Held{All: scored(r.OutOfFold), Fold: r.Fold, Options: o}
	for k, without := range r.WithoutFold {
		held.Without[k] = scored(without)
	}
	protocol := fmt.Sprintf("%d-fold cross-validation by %s on the %d of the site, thresholds of each fold from the others", adapt.Folds, r.Unit, r.Patients)
	var err error
	if sum.Points, sum.Lifted, err = held.Points(adapt.Goals(), protocol); err != nil {
		return fmt.Errorf("operating points: %w", err)
	}
	sum.ThresholdsBefore, sum.StudyThresholdBefore, sum.DefaultPoint = b.Thresholds, b.StudyThreshold, adapt.DefaultGoal
	for _, point := range sum.Points {
		if point.Name == b.Point { // the site had chosen it
			sum.DefaultPoint = b.Point
		}
	}
	point := sum.Default()
	afterwards, undecided := s.answered(r.OutOfFold, point.Thresholds, point.StudyThreshold)
	sum.Undecided = mergeUndecided(s.undecided, undecided)

	before, err := assess.Assess(s.before, o)
	if err != nil {
		return err
	}
	after, err := assess.Assess(afterwards, o)
	if err != nil {
		return err
	}
	sum.Compare(before, after, r.Adapted())
	return nil
}

// answered is what the daemon would make of these answers about s.slices, at these
// thresholds.
func (s *site) answered(said [][]float64, thresholds map[infer.Class]float64, studyThreshold float64) (assess.Data, []report.Undecided) {
	probabilities := make([][]float64, len(s.Results))
	for k, i := range s.slices {
		probabilities[i] = said[k]
	}
	d, counts, _ := s.Answered(study.NewRule(s.base.Classes, thresholds, studyThreshold, s.base.StudyRule), probabilities).Data(s.base.Classes, thresholds, studyThreshold)
	return d, counts.Undecided
}

// mergeUndecided lists the studies that either model leaves undecided.
func mergeUndecided(before, after []report.Undecided) (out []adapt.Undecided) {
	numbers := map[int]*adapt.Undecided{}
	for _, u := range slices.Concat(before, after) {
		if numbers[u.Study] == nil {
			numbers[u.Study] = &adapt.Undecided{Study: u.Name(), Why: u.Outcome + ", " + u.Reason, Bleeding: u.Bleeding}
		}
	}
	for _, u := range before {
		numbers[u.Study].Before = true
	}
	for _, u := range after {
		numbers[u.Study].After = true
	}
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		out = append(out, *numbers[n])
	}
	return out
}

// write fills the folder, loads it as the daemon would, computes it again, and
// puts it in its place.
func (s *site) write(ctx context.Context, f *manifest.Folder, sum *adapt.Summary, r *adapt.Result) error {
	model, err := s.head.Replace(s.model.Model(), r.Head.Weight, r.Head.Bias)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(model)
	sum.To.SHA256 = hex.EncodeToString(hash[:])
	provenance := map[string]any{
		"adapted_at": sum.Created.Format(time.RFC3339), "program": sum.Program, "unit": sum.Unit, "patients": sum.Patients,
		"slices": sum.Slices, "classes": r.Adapted(), "strength": sum.Strength.String(),
	}
	if words := sum.LiftedWords(); len(words) > 0 {
		provenance["thresholds_raised"] = words
	}
	text, err := s.model.Adapted(manifest.Adaptation{
		Name: sum.To.Name, SHA256: sum.To.SHA256, Points: sum.Points, DefaultPoint: sum.DefaultPoint,
		Provenance: provenance,
	})
	if err != nil {
		return err
	}
	if err := errors.Join(f.Write(s.model.File.Name, model), f.Write(manifest.FileName, text)); err != nil {
		return err
	}
	adapted, err := manifest.Load(f.Path())
	if err != nil {
		return fmt.Errorf("the adapted model does not load: %w", err)
	}
	if sum.Recomputed, err = s.recompute(ctx, adapted, r.Head); err != nil {
		return err
	}
	var card, summary bytes.Buffer
	if err := errors.Join(sum.Card(&card, s.model.IntendedUse), sum.JSON(&summary)); err != nil {
		return err
	}
	if err := errors.Join(f.Write("MODEL_CARD.md", card.Bytes()), f.Write("adaptation.json", summary.Bytes())); err != nil {
		return err
	}
	return f.Commit()
}

// mostRecomputed is how many slices are run once more, through the adapted model.
const mostRecomputed = 64

// recompute runs some of the slices through the adapted model: its logits must be
// head times features, and the mean of an activation map plus the bias its logit.
func (s *site) recompute(ctx context.Context, m *manifest.Manifest, head adapt.Head) (r adapt.Recomputed, err error) {
	c, err := s.library.NewClassifier(m, onnx.Options{Runners: 1, Maps: true, Features: true})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	step := (len(s.slices) + mostRecomputed - 1) / mostRecomputed
	for i := 0; i < len(s.slices); i += step {
		img, err := s.Image(s.slices[i])
		if err != nil {
			return r, err
		}
		scores, maps, err := c.Explain(ctx, img)
		if err != nil {
			return r, err
		}
		for k, want := range head.Logits(scores.Features) {
			mapped := float64(head.Bias[k])
			cells := maps.Map(k)
			for _, v := range cells {
				mapped += float64(v) / float64(len(cells))
			}
			logit := float64(scores.Logits[k])
			fromHead, fromMap := math.Abs(logit-want), math.Abs(logit-mapped)
			r.Logits, r.Maps = max(r.Logits, fromHead), max(r.Maps, fromMap)
			if !(max(fromHead, fromMap) <= tolerance*max(1, math.Abs(want))) { // NaN too
				return r, fmt.Errorf("the adapted model does not do what it should: in line %d of the labels the logit of %s is %g, head times features %g, the activation map says %g",
					s.Set.Slices[s.slices[i]].Line, m.Classes[k], logit, want, mapped)
			}
		}
		r.Slices++
	}
	return r, nil
}
