package triage

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// newExaminer is one beside no spool.
func newExaminer(t *testing.T) *Examiner {
	t.Helper()
	model := &fakeModel{hash: "ab", over: make(chan struct{})}
	t.Cleanup(func() { close(model.over) })
	return &Examiner{Gate: Gate{RefuseImageTypes: []string{"LOCALIZER"}}, Model: &Model{Classifier: model, Rule: newRule()}, Calls: 2}
}

func (o object) reader() *bytes.Reader { return bytes.NewReader(o.dataSet("1.2.3")) }

// A slice from a file goes through the same gate, decoder and model as one of
// the spool.
func TestExamineWithoutASpool(t *testing.T) {
	e := newExaminer(t)
	for name, c := range map[string]struct {
		object object
		class  dicom.UID
		state  spool.FindingState
		reason string
	}{
		"bleed":     {object{shows: showsEpidural, position: 35}, dicom.CTImageStorage, spool.FindingClassified, ""},
		"localizer": {object{set: map[dicom.Tag]string{dicom.TagImageType: "ORIGINAL\\PRIMARY\\LOCALIZER"}}, dicom.CTImageStorage, spool.FindingIneligible, "image type LOCALIZER"},
		"no head":   {object{shows: showsNothing}, dicom.CTImageStorage, spool.FindingIneligible, noHead},
		"damaged":   {object{damaged: true}, dicom.CTImageStorage, spool.FindingFailed, "the object is malformed"},
		"panic":     {object{shows: panics}, dicom.CTImageStorage, spool.FindingFailed, "the analysis broke down"},
		"class":     {object{}, dicom.MRImageStorage, spool.FindingIneligible, "SOP class is MR Image Storage"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := e.Examine(t.Context(), c.object.reader(), c.class, dicom.ExplicitVRLittleEndian)
			if err != nil || r.State != c.state || r.Reason != c.reason {
				t.Fatalf("%s (%q), %v; want %s (%q)", r.State, r.Reason, err, c.state, c.reason)
			}
			if classified := c.state == spool.FindingClassified; (r.Err == nil) != classified || (r.Probabilities != nil) != classified {
				t.Errorf("err %v, probabilities %v", r.Err, r.Probabilities)
			}
			if c.state == spool.FindingClassified && (r.Position != c.object.position || !slices.Equal(r.Models, infer.Models{{Name: "fake", SHA256: "ab"}})) {
				t.Errorf("position %v, model %v", r.Position, r.Models)
			}
			img, err := e.Decode(c.object.reader(), c.class, dicom.ExplicitVRLittleEndian)
			decodes := c.state == spool.FindingClassified || c.object.shows != 0
			if (err == nil) != decodes {
				t.Fatalf("Decode: %v", err)
			}
			if decodes && (img.Rows != 8 || img.HU[0] != c.object.shows) {
				t.Errorf("%d rows, first pixel %d HU, want %d", img.Rows, img.HU[0], c.object.shows)
			}
		})
	}
	if _, err := e.Examine(t.Context(), object{}.reader(), dicom.CTImageStorage, "1.2.3"); err != nil {
		t.Errorf("an unknown syntax is a result: %v", err)
	}
}

func TestExamineImage(t *testing.T) {
	e := newExaminer(t)
	r, err := e.ExamineImage(t.Context(), showing(showsSubdural))
	if err != nil || r.State != spool.FindingClassified || r.Probabilities[infer.Subdural] != 0.8 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err = e.ExamineImage(t.Context(), showing(showsNothing)); err != nil || !errors.Is(r.Err, pixel.ErrNoHead) || r.State != spool.FindingIneligible {
		t.Fatalf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = e.ExamineImage(ctx, showing(showsNormal)); !errors.Is(err, context.Canceled) {
		t.Fatalf("after the end: %v", err)
	}
	e = &Examiner{}
	if r, err = e.ExamineImage(t.Context(), showing(showsNormal)); err != nil || r.Reason != errNoModel.Error() {
		t.Fatalf("%+v, %v", r, err)
	}
}

// What is concluded of files is what the daemon concludes of the same objects.
func TestConclude(t *testing.T) {
	e := newExaminer(t)
	examine := func(series dicom.UID, objects []object) (out []Examined) {
		for _, o := range objects {
			r, err := e.Examine(t.Context(), o.reader(), dicom.CTImageStorage, dicom.ExplicitVRLittleEndian)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, Examined{Series: series, Result: r})
		}
		return out
	}
	calm := examine("1", slices5(0, 10, showsNormal))
	for name, c := range map[string]struct {
		objects []Examined
		want    alerts.Outcome
	}{
		"calm":       {calm, alerts.Negative},
		"short":      {calm[:5], alerts.NotAnalysed},
		"bleeds":     {append(examine("2", with(slices5(0, 10, showsNormal), 4, showsEpidural, showsEpidural)), calm...), alerts.Positive},
		"one broken": {examine("1", with(slices5(0, 10, showsNormal), 4, breaks)), alerts.Failed},
		"nothing":    {nil, alerts.NotAnalysed},
	} {
		t.Run(name, func(t *testing.T) {
			got := e.Conclude(c.objects)
			if got.Outcome != c.want {
				t.Fatalf("%s (%s), want %s", got.Outcome, got.Reason, c.want)
			}
			for _, f := range got.Findings {
				if want := c.want == alerts.Positive && f.Class == infer.Epidural; f.Positive != want {
					t.Errorf("%v: positive %t, score %v", f.Class, f.Positive, f.Score)
				}
			}
			if len(c.objects) > 0 && len(got.Findings) != 5 {
				t.Errorf("%d findings", len(got.Findings))
			}
		})
	}
}
