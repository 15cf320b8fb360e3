package adapt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"ichwatch/infer"
	"ichwatch/infer/assess"
)

// figures are of slices whose scores tell classes apart as well as right says.
func figures(t *testing.T, right float64) *assess.Figures {
	t.Helper()
	d := assess.Data{Classes: infer.Classes(), Thresholds: half()}
	for i := range 60 {
		c := infer.Class(i % 3) // normal, epidural, subdural
		s := assess.Slice{Patient: i / 3, Probabilities: []float64{0.2, 0.2, 0.2, 0, 0, 0}}
		if s.Truth.Shows[c] = c.Hemorrhage(); float64(i)/60 < right {
			s.Probabilities[c] += 0.4
		} else {
			s.Probabilities[(i+1)%3] += 0.4
		}
		d.Slices = append(d.Slices, s)
		study := assess.Study{Patient: i / 3, Truth: s.Truth, Scores: s.Probabilities, Outcome: assess.Negative}
		if s.Probabilities[1] > 0.5 || s.Probabilities[2] > 0.5 {
			study.Outcome = assess.Positive
		}
		d.Studies = append(d.Studies, study)
	}
	f, err := assess.Assess(d, assess.Options{Rounds: 100})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCompare(t *testing.T) {
	adapted := []infer.Class{infer.Epidural, infer.Subdural}
	good, bad := figures(t, 0.9), figures(t, 0.7)
	for _, c := range []struct {
		name          string
		before, after *assess.Figures
		worse         []string
	}{
		{"better", bad, good, nil},
		{"the same", good, good, nil},
		{"worse", good, bad, []string{"AUC of any hemorrhage in slices 0.", "AUC of any hemorrhage in studies 0.", "AUC of the adapted classes in slices, on average, 0."}},
	} {
		var s Summary
		s.Compare(c.before, c.after, adapted)
		if len(s.Worse) != len(c.worse) {
			t.Errorf("%s: %q", c.name, s.Worse)
			continue
		}
		for i, w := range c.worse {
			if !strings.HasPrefix(s.Worse[i], w) {
				t.Errorf("%s: %q, want %q", c.name, s.Worse[i], w)
			}
		}
	}
	if good.Slices.Any.ROC == nil || good.Slices.Classes[1].Calibration == nil {
		t.Error("the figures that were given lost their curves")
	}
}

func TestSummaryIsWrittenDown(t *testing.T) {
	s := &Summary{
		Schema: Schema, Disclaimer: "Not a medical device.", Program: "ichwatch test", Created: time.Date(2026, 2, 3, 4, 5, 0, 0, time.UTC),
		From: Ref{"base", strings.Repeat("ab", 32)}, To: Ref{"north", strings.Repeat("cd", 32)}, Unit: "study",
		ThresholdsBefore: half(), DefaultPoint: "balanced", Recomputed: Recomputed{63, 2e-6, 3e-6},
	}
	s.Describe(&Result{
		Patients: 20, With: 14, Without: 6, Learnt: 60, Strength: Strength(math.Inf(1)), FoldStrengths: []Strength{0.1, Strength(math.Inf(1))},
		Tried:   []Trial{{Strength(math.Inf(1)), 0.5}, {0.1, 0.625}},
		Classes: []ClassCount{{infer.Epidural, 12, 20, true}, {infer.Subarachnoid, 3, 5, false}},
	})
	d, fold := answers(60)
	var err error
	if s.Points, s.Lifted, err = held(d, fold).Points(Goals(), "so kept apart"); err != nil {
		t.Fatal(err)
	}
	for _, o := range s.Points {
		for _, c := range infer.Classes()[1:] {
			o.Thresholds[c] = 0.25
		}
	}
	s.Lifted = []Lift{{"specific", "studies", 0.125, 0.25, "balanced"}, {"specific", "subdural", 0.25, 0.5, "balanced"}}
	for i := range 9 {
		s.Undecided = append(s.Undecided, Undecided{fmt.Sprintf("study %d", i), "NOT-ANALYSED, too few", i == 0, true, i < 7})
	}
	s.Compare(figures(t, 0.9), figures(t, 0.7), []infer.Class{infer.Epidural})
	var card, text bytes.Buffer
	if err := s.Card(&card, "Tests only."); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"# north\n\n**Not a medical device.** Tests only.", strings.Repeat("ab", 32), strings.Repeat("cd", 32),
		"| studies | 20: 14 with a hemorrhage, 6 without |", "| slices, any hemorrhage | 0.9", "| studies, subdural | 0.", "**Worse than before: AUC",
		"| epidural | 12 | 20 | fitted | 0.5 | 0.25 | 0.25 | 0.25 |", "| subarachnoid | 3 | 5 | as they were: fewer than 10 studies | 0.5 | 0.25 |",
		"| | before | sensitive | balanced | specific |\n", "adapted one: so kept apart. The default is balanced.", "sensitive for a study sensitivity of 0.97",
		"To keep the operating points in order, specific takes thresholds of balanced that lie above its own: studies 0.25 in place of 0.125, subdural 0.5 in place of 0.25.\n",
		"Before and after alike, 9 of the studies could not be decided; they raise no alert, and count as missed where they bleed: study 0, which bleeds: NOT-ANALYSED, too few; study 1: NOT",
		"; study 7, before only: NOT-ANALYSED, too few; and 1 more in adaptation.json.\n",
		"| infinite | 0.5000 |\n| 0.1 | 0.6250 |\n\nFor", "(0.1, infinite)", "within 2e-06", "on studies that came later: `ichwatch assess --model",
	} {
		if !strings.Contains(card.String(), part) {
			t.Errorf("%q is not in the card:\n%s", part, &card)
		}
	}
	for _, part := range []string{"%!", "NaN", "Inf", "\n\n\n", "| slices, normal"} {
		if strings.Contains(card.String(), part) {
			t.Errorf("%q is in the card", part)
		}
	}
	s.StudyThresholdBefore = 0.75
	for i := range s.Points {
		s.Points[i].StudyThreshold = 0.5
	}
	var other bytes.Buffer
	if err := s.Card(&other, "Tests only."); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"| studies | 20 | 60 | | 0.75 | 0.5 | 0.5 | 0.5 |\n", ", and so is the threshold of studies: sensitive for a study sensitivity of 0.97 and a slice specificity of 0.85, "} {
		if !strings.Contains(other.String(), part) || strings.Contains(card.String(), part) {
			t.Errorf("%q is not in the card of a rule with a threshold of studies, or in the other:\n%s", part, &other)
		}
	}
	if err := s.JSON(&text); err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(text.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back["strength"] != "infinite" || back["patients_without_hemorrhage"] != 6.0 || len(back["worse"].([]any)) != 3 || strings.Contains(text.String(), `"roc"`) {
		t.Errorf("%s", &text)
	}
}
