package labelled

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ichwatch/infer"
	"ichwatch/infer/assess"
)

const columns = "file,study,normal,epidural,subdural,intraventricular,intraparenchymal,subarachnoid"

func parse(t *testing.T, text string) *Labels {
	t.Helper()
	l, err := parseLabels("labels.csv", strings.NewReader(text), infer.Classes())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLabels(t *testing.T) {
	l := parse(t, "\ufeffFile,Study,patient,sop_instance_uid,series,"+`epidural,subdural,intraventricular,intraparenchymal,subarachnoid,trace,fracture,bleed_ml
a/./1.dcm,s1,p1,1.2.1,9.1,0,1,1,0,0,0,1,3.5
a/2.dcm,s1,p2,1.2.2,,0,0,0,0,0,1,0,0
,s1,p1,1.2.3,,0,0,0,0,0,0,0,0
`)
	if len(l.Rows) != 3 || l.Studies != 2 || l.Patients != 2 || l.Unit != "patient" {
		t.Fatalf("%d rows, %d studies, %d patients, %s", len(l.Rows), l.Studies, l.Patients, l.Unit)
	}
	first, second, third := l.Rows[0], l.Rows[1], l.Rows[2]
	if first.File != "a/1.dcm" || first.Line != 2 || first.Instance != "1.2.1" || first.Series != "9.1" || second.Series == "" {
		t.Errorf("%+v", first)
	}
	if got := first.Truth.Classes(); !slices.Equal(got, []infer.Class{infer.Subdural, infer.Intraventricular}) || second.Truth.Any() {
		t.Errorf("truth %v, %v", got, second.Truth.Classes())
	}
	if first.Doubtful || !second.Doubtful || third.Doubtful {
		t.Error("which slices are doubtful")
	}
	if first.Study != third.Study || first.Study == second.Study || first.Patient == second.Patient { // s1 of p2 is another study
		t.Errorf("studies %d %d %d", first.Study, second.Study, third.Study)
	}
	if !slices.Equal(l.Ignored, []string{"fracture"}) {
		t.Errorf("ignored: %v", l.Ignored)
	}
	if l = parse(t, "file,patient,any,epidural,Subdural\na,1,1,,1\nb,1,1,1,\nc,2,0,,0\nd,2,1,,\n"); !l.Rows[0].Truth.Unclassified || !l.Rows[1].Truth.Unclassified || l.Rows[2].Truth != (assess.Truth{}) || !l.Rows[3].Truth.Any() {
		t.Errorf("classes not stated: %+v", l.Rows)
	}
	if l = parse(t, "any,"+columns+"\n1,a,s,0,0,1,0,0,0\n0,b,s,1,0,0,0,0,0\n"); l.Rows[0].Truth.Unclassified || !l.Rows[0].Truth.Shows[infer.Subdural] || l.Rows[1].Truth.Any() || l.Ignored != nil {
		t.Errorf("classes stated: %+v", l)
	}
	if l = parse(t, columns+"\na,s,1,0,0,0,0,0\n"); l.Unit != "study" || l.Patients != 1 {
		t.Errorf("%d of %s", l.Patients, l.Unit)
	}
}

// What is wrong with a table is told with its lines, counted and bounded.
func TestLabelsRefused(t *testing.T) {
	many := columns + "\n"
	for i := range 50 {
		many += fmt.Sprintf("f%d,s,2,0,0,0,0,0\n", i)
	}
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":          {"", []string{"is empty"}},
		"no rows":        {columns + "\n", []string{"labels.csv:1: has no row"}},
		"class missing":  {strings.Replace(columns, "epidural", "epidual", 1) + "\n", []string{"missing (1): epidural", "epidual"}},
		"column twice":   {columns + ",file\n", []string{"file is there twice"}},
		"no slice named": {strings.Replace(columns, "file", "name", 1) + "\n", []string{"neither a column file nor sop_instance_uid"}},
		"no study":       {strings.Replace(columns, "study", "head", 1) + "\n", []string{"neither a column study nor patient"}},
		"two kinds":      {columns + "\na,s,1,0,1,0,0,0\nb,s,2,0,0,0,0,0\n", []string{"labels.csv:3: labels are neither", "labels.csv:2: rows contradict"}},
		"not 0 or 1":     {columns + "\na,s,1,0,yes,0,0,0\n", []string{"labels.csv:2: labels are neither 0 nor 1 (1): line 2 subdural"}},
		"contradiction":  {columns + "\na,s,1,0,1,0,0,0\nb,s,0,0,0,0,0,0\n", []string{"rows contradict themselves", "(2): line 2, line 3"}},
		"any against":    {"file,study,any,epidural\na,s,0,1\nb,s,1,0\nc,s,0,\n", []string{"rows contradict themselves", "(1): line 2"}},
		"any in full":    {"any," + columns + "\n1,a,s,0,0,0,0,0,0\n0,a,s,0,1,0,0,0,0\n", []string{"rows contradict themselves", "(2): line 2, line 3"}},
		"any empty":      {"file,study,any,epidural\na,s,,1\n", []string{"neither 0 nor 1 (1): line 2 any"}},
		"nameless":       {columns + "\n,s,1,0,0,0,0,0\nb,,1,0,0,0,0,0\n", []string{"rows name no slice", "(2): "}},
		"twice":          {columns + "\na,s,1,0,0,0,0,0\n./a,s,1,0,0,0,0,0\n", []string{"line 3 (as line 2)"}},
		"ragged":         {columns + "\na,s\n", []string{"labels.csv:2:1: wrong number of fields"}},
		"quotes":         {columns + "\na,s,1,0,0,0,0,0\nb,s,1,\"0\"0,0,0,0,0\n", []string{"labels.csv:3:"}},
		"no patient":     {"patient," + columns + "\np,a,s,1,0,0,0,0,0\n,b,s,1,0,0,0,0,0\n", []string{"labels.csv:3: rows name no patient", "(1): line 3"}},
		"two patients":   {"patient," + columns + "\np,a,1.2.3,1,0,0,0,0,0\nq,b,1.2.3,1,0,0,0,0,0\n", []string{"labels.csv:3: rows give a study to another patient", "(1): line 3"}},
		"many":           {many, []string{"labels are neither 0 nor 1 (50)", "line 9 normal and 42 more"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseLabels("labels.csv", strings.NewReader(c.text), infer.Classes())
			if err == nil {
				t.Fatal("it is accepted")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			for _, line := range strings.Split(err.Error(), "\n") {
				if !strings.HasPrefix(line, "labels.csv:") {
					t.Errorf("%q has no place", line)
				}
			}
			if len(err.Error()) > 600 {
				t.Errorf("%d characters", len(err.Error()))
			}
		})
	}
	_, err := parseLabels("labels.csv", strings.NewReader(columns+"\na,s,1,0,yes,0,0,0\n"), infer.Classes())
	if list, ok := errors.AsType[*ListError](err); !ok || len(list.Items) != 1 {
		t.Errorf("%T", err)
	}
}

func TestParseFormat(t *testing.T) {
	for _, f := range []Format{Auto, Phantom, CTICH, Images} {
		if got, err := ParseFormat(string(f)); err != nil || got != f {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	if _, err := ParseFormat("nifti"); err == nil {
		t.Error("nifti is known")
	}
}
