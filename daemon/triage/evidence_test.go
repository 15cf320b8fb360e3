package triage

import (
	"math"
	"testing"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/manifest"
	"ichwatch/infer/study"
)

// evidenceRule asks for odds of more than 13.2: the roots of the slices' odds are to
// add up to 3.65. A slice that showsNormal adds 1/3, one that showsSubdural 3.
func evidenceRule() *study.Rule {
	return study.NewRule(infer.Classes(),
		map[infer.Class]float64{infer.Epidural: 0.5, infer.Subdural: 0.9, infer.Intraventricular: 0.5, infer.Intraparenchymal: 0.5, infer.Subarachnoid: 0.5},
		0.93, manifest.StudyRule{Kind: manifest.RuleEvidence, Power: 0.5, SliceThickness: 5, HeadHeight: 5, MinimumSlices: 8, MaximumGap: 15})
}

func weighEvidence(tr *Triage) { tr.Model.Rule = evidenceRule() }

// odds is the probability of a study whose slices' roots add up so.
func odds(roots float64) float64 { return math.Round(roots*roots/(1+roots*roots)*1e4) / 1e4 }

// The slice that takes the evidence over the threshold decides, although it stays
// below the threshold of its class; what follows adds to the score.
func TestPromise5_AlertWhereTheEvidenceSuffices(t *testing.T) {
	b := newBench(t, weighEvidence)
	const uid = "1.2.3"
	b.spool.StudyOpened(uid, "association")
	b.receive(uid, slices5(1, 3, showsNormal)...)
	b.settled(uid)
	b.receive(uid, slices5(4, 1, showsSubdural)...)
	m := b.nextAlert() // while the association is open
	if m.Type != alerts.TypeNew || m.Finding != "subdural" || m.Score != odds(4) || m.KeyImage != uid+".1.4" {
		t.Errorf("alert %+v, want a score of %v", m, odds(4))
	}
	b.receive(uid, slices5(5, 6, showsNormal)...)
	b.settled(uid)
	b.spool.AssociationClosed("association", true)
	if then := b.nextAlert(); then.Type != alerts.TypeUpdate || then.AlertID != m.AlertID || then.Score != odds(6) || then.KeyImage != m.KeyImage {
		t.Errorf("then %+v, want a score of %v", then, odds(6))
	}
	if o := b.nextOutcome(); o.Outcome != alerts.Positive || o.AlertID != m.AlertID || o.Finding != "subdural" || o.Score != odds(6) || o.Reason != "" {
		t.Errorf("outcome %+v", o)
	}
}

func TestPromise4_EvidenceThatDoesNotSuffice(t *testing.T) {
	for name, c := range map[string]struct {
		objects []object
		want    alerts.Outcome
		score   float64
	}{
		"nothing suspected": {slices5(1, 10, showsNormal), alerts.Negative, odds(10.0 / 3)},
		"too few":           {slices5(1, 7, showsNormal), alerts.NotAnalysed, odds(7.0 / 3)},
		"the model fails":   {with(slices5(1, 10, showsNormal), 3, breaks), alerts.Failed, odds(3)},
		// Of two series the one with more evidence is told of, not their sum.
		"two series": {append(slices5(1, 8, showsNormal), every(slices5(1, 10, showsNormal), func(o *object) { o.series = "1.2.3.9" })...), alerts.Negative, odds(10.0 / 3)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, weighEvidence)
			b.receiveStudy("1.2.3", c.objects...)
			if o := b.nextOutcome(); o.Outcome != c.want || o.Score != c.score || o.AlertID != "" {
				t.Errorf("outcome %+v, want %s at %v", o, c.want, c.score)
			}
		})
	}
}

// What is concluded of files has the score of the study, of each rule.
func TestConcludeHasTheScore(t *testing.T) {
	for name, c := range map[string]struct {
		rule *study.Rule
		want float64
	}{"adjacent": {newRule(), 0.8}, "evidence": {evidenceRule(), odds(6 + 8.0/3)}} {
		e := newExaminer(t)
		e.Model.Rule = c.rule
		var objects []Examined
		for _, o := range with(slices5(1, 10, showsNormal), 4, showsSubdural, showsSubdural) {
			r, err := e.Examine(t.Context(), o.reader(), dicom.CTImageStorage, dicom.ExplicitVRLittleEndian)
			if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, Examined{Series: "1", Result: r})
		}
		if got := e.Conclude(objects); got.Outcome != alerts.Positive || math.Abs(got.Score-c.want) > 1e-4 {
			t.Errorf("%s: %s at %v, want %v", name, got.Outcome, got.Score, c.want)
		}
	}
}
