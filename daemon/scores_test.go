package main

import (
	"encoding/json"
	"strings"
	"testing"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
)

// A score is told beside the threshold that it was held against, wherever it is told.
func TestScoresAreToldWithTheirThresholds(t *testing.T) {
	last := alerts.Message{Finding: "subdural", Score: 0.2897, Threshold: 0.2414, OperatingPoint: "balanced"}
	said := spool.StudyRecord{Study: spool.Study{Pseudonym: "s-1", Outcome: alerts.Positive}, Score: &spool.Score{Score: 0.2897, Threshold: 0.2414, OperatingPoint: "balanced"}}
	said.Alerts = []spool.AlertRecord{{State: alerts.StateDelivered, Last: last}}
	old := spool.StudyRecord{Study: spool.Study{Pseudonym: "s-2", Outcome: alerts.Negative}, Score: &spool.Score{Score: 0.125}}
	unasked := spool.StudyRecord{Study: spool.Study{Pseudonym: "s-3", Outcome: alerts.NotAnalysed}, Reason: "shut"}
	b := newBooks(spool.Account{Studies: []spool.StudyRecord{said, old, unasked}})
	written := func(as format) string {
		var out strings.Builder
		if err := b.write(&out, &out, as); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	table := written(formatTable)
	for _, part := range []string{
		"POSITIVE at -, score 0.2897, threshold 0.2414 (balanced) ", "subdural, score 0.2897, threshold 0.2414 (balanced), delivered",
		"NEGATIVE at -, score 0.1250 ", "NOT-ANALYSED at -: shut",
	} {
		if !strings.Contains(table, part) {
			t.Errorf("%q is not in\n%s", part, table)
		}
	}
	lines := strings.Split(written(formatCSV), "\n")
	for i, end := range []string{",score,threshold,operating_point", ",0.2897,0.2414,balanced", ",0.125,,", ",,,"} {
		if !strings.HasSuffix(lines[i], end) {
			t.Errorf("line %d: %s, want %s at its end", i, lines[i], end)
		}
	}
	var back struct {
		Studies []map[string]any
	}
	if err := json.Unmarshal([]byte(written(formatJSON)), &back); err != nil {
		t.Fatal(err)
	}
	first, second, third := back.Studies[0], back.Studies[1], back.Studies[2]
	if first["score"] != 0.2897 || first["threshold"] != 0.2414 || first["operating_point"] != "balanced" || second["score"] != 0.125 || second["threshold"] != nil || third["score"] != nil {
		t.Errorf("%v", back.Studies)
	}
	if alert := first["alerts"].([]any)[0].(map[string]any); alert["threshold"] != 0.2414 || alert["operating_point"] != "balanced" {
		t.Errorf("%v", alert)
	}

	o := outlook{Alerts: []openAlert{{AlertID: "a-1", Study: "s-1", Finding: last.Finding, scored: scoredOf(last)}}}
	var text, form strings.Builder
	if err := o.write(&text, "text"); err != nil {
		t.Fatal(err)
	}
	if err := o.write(&form, formatJSON); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "study s-1, subdural, score 0.2897, threshold 0.2414 (balanced), raised") || !strings.Contains(form.String(), `"threshold": 0.2414,`) {
		t.Errorf("%s\n%s", &text, &form)
	}
}
