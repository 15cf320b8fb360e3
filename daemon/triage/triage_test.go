package triage

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/infer"
	"ichwatch/infer/manifest"
	"ichwatch/infer/pixel"
	"ichwatch/infer/study"
)

// patience is how long a test waits for something that should happen.
const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a slice's first pixel, in HU, makes the fake classifier do.
const (
	showsNormal = iota
	showsEpidural
	showsSubdural
	showsNothing // no head in it
	breaks       // the classifier gives an error
	panics
	hangs // until the test is over
	obeys // hangs until its context ends
	answersNaN
	answersShort
)

// identity stands wherever a header can hold text.
const identity = "SECRET^NAME"

// fakeModel stands for a model behind the boundary interface.
type fakeModel struct {
	hash string
	over chan struct{} // closed at the end of the test
}

func (m *fakeModel) Models() infer.Models { return infer.Models{{Name: "fake", SHA256: m.hash}} }
func (m *fakeModel) Provider() string     { return "cpu" }

func (m *fakeModel) Classify(ctx context.Context, img *infer.Image) (infer.Scores, error) {
	p := []float32{0.9, 0.05, 0.05, 0, 0, 0}
	switch img.HU[0] {
	case showsEpidural:
		p = []float32{0.02, 0.97, 0.01, 0, 0, 0}
	case showsSubdural:
		p = []float32{0.1, 0.1, 0.8, 0, 0, 0}
	case showsNothing:
		return infer.Scores{}, fmt.Errorf("classify: %w", pixel.ErrNoHead)
	case breaks:
		return infer.Scores{}, errors.New("provider lost")
	case panics:
		panic("provider gone " + identity)
	case hangs:
		<-m.over
		return infer.Scores{}, errors.New("late")
	case obeys:
		<-ctx.Done()
		return infer.Scores{}, ctx.Err()
	case answersNaN:
		p[0] = float32(math.NaN())
	case answersShort:
		p = p[:3]
	}
	return infer.Scores{Logits: p, Probabilities: p}, nil
}

// object is a data set to receive.
type object struct {
	class    dicom.UID
	syntax   dicom.UID
	series   dicom.UID
	number   int
	position float64 // mm towards the head
	shows    int16   // its pixels, in HU
	set      map[dicom.Tag]string
	drop     []dicom.Tag
	damaged  bool   // an element longer than the data set
	raw      []byte // the whole data set, where it is made elsewhere
}

// dataSet encodes o by hand (PS3.5 section 7.1.2): 8 by 8 pixels in Explicit VR
// Little Endian, an identity wherever text is allowed.
func (o object) dataSet(study dicom.UID) []byte {
	if o.raw != nil {
		return o.raw
	}
	text := map[dicom.Tag]string{
		dicom.TagImageType: `ORIGINAL\PRIMARY\AXIAL`, dicom.TagModality: "CT",
		dicom.TagAcquisitionDate: "20260203", dicom.TagAcquisitionTime: fmt.Sprintf("0405%02d.5", o.number%60), tagTimezoneOffsetFromUTC: "+0000",
		dicom.TagStudyDescription: identity, dicom.TagSeriesDescription: identity, dicom.TagProtocolName: identity,
		0x0010_0010: identity, 0x0010_0020: identity,
		dicom.TagStudyInstanceUID: string(study), dicom.TagSeriesInstanceUID: string(o.series),
		dicom.TagImagePositionPatient: fmt.Sprintf(`-100\-100\%g`, o.position), dicom.TagImageOrientationPatient: `1\0\0\0\1\0`,
		dicom.TagPhotometricInterpretation: "MONOCHROME2", dicom.TagRescaleIntercept: "-1024", dicom.TagRescaleSlope: "1",
	}
	numbers := map[dicom.Tag]uint16{
		dicom.TagSamplesPerPixel: 1, dicom.TagRows: 8, dicom.TagColumns: 8, dicom.TagBitsAllocated: 16, dicom.TagBitsStored: 16,
		dicom.TagHighBit: 15, dicom.TagPixelRepresentation: 0,
	}
	for t, v := range o.set {
		text[t] = v
	}
	for _, t := range o.drop {
		delete(text, t)
		delete(numbers, t)
	}
	var b bytes.Buffer
	element := func(t dicom.Tag, vr string, value []byte) {
		if len(value)%2 == 1 {
			value = append(value, ' ')
		}
		b.Write(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, t.Group()), t.Element()))
		b.WriteString(vr)
		if vr == "OW" {
			b.Write(binary.LittleEndian.AppendUint32([]byte{0, 0}, uint32(len(value))))
		} else {
			b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(value))))
		}
		b.Write(value)
	}
	tags := append([]dicom.Tag{0x0010_0010, 0x0010_0020, dicom.TagStudyInstanceUID, dicom.TagSeriesInstanceUID}, wanted...)
	for _, t := range sorted(tags) {
		if v, ok := text[t]; ok {
			element(t, "LO", []byte(v)) // the scanner of headers does not mind the VR
		} else if v, ok := numbers[t]; ok {
			element(t, "US", binary.LittleEndian.AppendUint16(nil, v))
		}
	}
	if o.damaged {
		b.Write([]byte{0x28, 0, 0x30, 0x20, 'L', 'O', 0xFF, 0xFF})
		return b.Bytes()
	}
	var pixels []byte
	for range 64 {
		pixels = binary.LittleEndian.AppendUint16(pixels, uint16(o.shows+1024))
	}
	element(dicom.TagPixelData, "OW", pixels)
	return b.Bytes()
}

// bench is a spool with a triage at work on it.
type bench struct {
	t      *testing.T
	dir    string // of the spool
	spool  *spool.Spool
	triage *Triage
	log    *dimsetest.Output
	stop   func()
	seen   []alerts.Entry
}

func newRule() *study.Rule {
	return study.NewRule(infer.Classes(),
		map[infer.Class]float64{infer.Epidural: 0.5, infer.Subdural: 0.5, infer.Intraventricular: 0.5, infer.Intraparenchymal: 0.5, infer.Subarachnoid: 0.5},
		0, manifest.StudyRule{Kind: manifest.RuleAdjacent, Slices: 2, Of: 3, MinimumSlices: 8, MaximumGap: 15})
}

// newBench starts a triage; change may alter it before.
func newBench(t *testing.T, change func(*Triage)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), log: new(dimsetest.Output)}
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.open(log)
	t.Cleanup(func() {
		if err := b.spool.Close(); err != nil {
			t.Error(err)
		}
	})
	model := &fakeModel{hash: strings.Repeat("ab", 32), over: make(chan struct{})}
	t.Cleanup(func() { close(model.over) })
	b.triage = &Triage{
		Spool: b.spool, Model: &Model{Classifier: model, Rule: newRule(), OperatingPoint: "balanced"},
		Gate: Gate{RefuseImageTypes: []string{"LOCALIZER", "SECONDARY", "DERIVED"}},
		Site: "north", Device: "ct1",
		Workers: 3, Quiet: 60 * time.Millisecond, Timeout: 5 * time.Second, Retry: 20 * time.Millisecond, Log: log,
	}
	if change != nil {
		change(b.triage)
	}
	b.start()
	return b
}

func (b *bench) open(log *slog.Logger) {
	b.t.Helper()
	var err error
	b.spool, err = spool.Open(b.t.Context(), spool.Options{Dir: b.dir, Destinations: []string{"pacs"}, Device: "ct1", Log: log})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.triage.Run(ctx) }()
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					b.t.Errorf("Run = %v", err)
				}
			case <-time.After(patience):
				b.t.Error("Run does not end")
			}
		})
	}
	b.t.Cleanup(b.stop)
}

// receive makes objects durable, as the receiver does.
func (b *bench) receive(study dicom.UID, objects ...object) {
	b.t.Helper()
	for _, o := range objects {
		if o.class == "" {
			o.class = dicom.CTImageStorage
		}
		if o.syntax == "" {
			o.syntax = dicom.ExplicitVRLittleEndian
		}
		if o.series == "" {
			o.series = study + ".1"
		}
		data := o.dataSet(study)
		in, err := b.spool.Create(dicom.FileMeta{
			SOPClassUID: o.class, SOPInstanceUID: o.series + dicom.UID(fmt.Sprintf(".%d", o.number)),
			TransferSyntaxUID: o.syntax, SourceAETitle: "CT",
		})
		if err != nil {
			b.t.Fatal(err)
		}
		if _, err := in.Write(data); err != nil {
			b.t.Fatal(err)
		}
		ts, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
		h, _ := dicom.ScanBytes(data, ts, dicom.ScanOptions{}) // partial where damaged
		if _, _, err := in.Commit(b.t.Context(), h); err != nil {
			b.t.Fatal(err)
		}
	}
}

// receiveStudy makes objects durable as one association brings them.
func (b *bench) receiveStudy(study dicom.UID, objects ...object) {
	b.t.Helper()
	b.spool.StudyOpened(study, "association")
	b.receive(study, objects...)
	b.spool.AssociationClosed("association", true)
}

// next waits for the next message of a study and takes it out of the outbox, as
// a courier does.
func (b *bench) next() alerts.Entry {
	b.t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-look.C {
		entries, err := b.spool.PendingMessages(b.t.Context(), time.Now(), 1)
		if err != nil {
			b.t.Fatal(err)
		}
		if len(entries) == 1 {
			if err := b.spool.MessageDelivered(b.t.Context(), entries[0].ID, time.Now()); err != nil {
				b.t.Fatal(err)
			}
			b.seen = append(b.seen, entries[0])
			return entries[0]
		}
	}
	b.t.Fatalf("no message within %v; log:\n%s", patience, b.log)
	panic("unreachable")
}

func (b *bench) nextAlert() (m alerts.Message) {
	b.t.Helper()
	if e := b.next(); e.Topic != alerts.TopicAlert || json.Unmarshal(e.Payload, &m) != nil {
		b.t.Fatalf("got %s %s, want an alert", e.Topic, e.Payload)
	}
	return m
}

func (b *bench) nextOutcome() (m alerts.OutcomeMessage) {
	b.t.Helper()
	if e := b.next(); e.Topic != alerts.TopicOutcome || json.Unmarshal(e.Payload, &m) != nil {
		b.t.Fatalf("got %s %s, want an outcome", e.Topic, e.Payload)
	}
	return m
}

// settled waits until no slice of a study is pending.
func (b *bench) settled(study dicom.UID) {
	b.t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-look.C {
		s, err := b.spool.Study(b.t.Context(), study)
		if err != nil {
			b.t.Fatal(err)
		}
		if s.Pending == 0 {
			return
		}
	}
	b.t.Fatalf("slices still pending after %v; log:\n%s", patience, b.log)
}

// run of n slices 5 mm apart, first number first, all showing the same.
func slices5(first, n int, shows int16) []object {
	var all []object
	for i := range n {
		all = append(all, object{number: first + i, position: 5 * float64(first+i), shows: shows})
	}
	return all
}

func with(objects []object, at int, shows ...int16) []object {
	for i, s := range shows {
		objects[at+i].shows = s
	}
	return objects
}

func every(objects []object, change func(*object)) []object {
	for i := range objects {
		change(&objects[i])
	}
	return objects
}

func TestPromise4_EveryStudyHasAnOutcome(t *testing.T) {
	noModel := func(tr *Triage) { tr.Model = nil }
	hasty := func(tr *Triage) { tr.Timeout = 500 * time.Millisecond }
	for name, c := range map[string]struct {
		objects []object
		change  func(*Triage)
		want    alerts.Outcome
		reason  string
		counts  alerts.Counts
	}{
		"nothing suspected":   {slices5(1, 10, showsNormal), nil, alerts.Negative, "", alerts.Counts{Received: 10, Classified: 10}},
		"suspected":           {with(slices5(1, 10, showsNormal), 4, showsSubdural, showsSubdural), nil, alerts.Positive, "", alerts.Counts{Received: 10, Classified: 10}},
		"one slice alone":     {with(slices5(1, 10, showsNormal), 4, showsSubdural), nil, alerts.Negative, "", alerts.Counts{Received: 10, Classified: 10}},
		"air at the vertex":   {with(slices5(1, 10, showsNormal), 9, showsNothing), nil, alerts.Negative, "", alerts.Counts{Received: 10, Classified: 9, Ineligible: 1}},
		"too few":             {slices5(1, 7, showsNormal), nil, alerts.NotAnalysed, "7 slices at distinct positions", alerts.Counts{Received: 7, Classified: 7}},
		"a gap":               {append(slices5(1, 6, showsNormal), slices5(10, 6, showsNormal)...), nil, alerts.NotAnalysed, "20.0 mm apart", alerts.Counts{Received: 12, Classified: 12}},
		"a report":            {[]object{{class: "1.2.840.10008.5.1.4.1.1.88.22", number: 1}}, nil, alerts.NotAnalysed, "none of 1 objects is for the model: SOP class is Enhanced SR", alerts.Counts{Received: 1, Ineligible: 1}},
		"an unknown class":    {[]object{{class: "1.2.3.4", number: 1}}, nil, alerts.NotAnalysed, "SOP class is 1.2.3.4", alerts.Counts{Received: 1, Ineligible: 1}},
		"localizers":          {every(slices5(1, 2, showsNormal), func(o *object) { o.set = map[dicom.Tag]string{dicom.TagImageType: `ORIGINAL\PRIMARY\LOCALIZER`} }), nil, alerts.NotAnalysed, "image type LOCALIZER", alerts.Counts{Received: 2, Ineligible: 2}},
		"no rescale":          {every(slices5(1, 9, showsNormal), func(o *object) { o.drop = []dicom.Tag{dicom.TagRescaleSlope} }), nil, alerts.NotAnalysed, "no Hounsfield units", alerts.Counts{Received: 9, Ineligible: 9}},
		"JPEG XL":             {every(slices5(1, 9, showsNormal), func(o *object) { o.syntax = dicom.JPEGXL }), nil, alerts.NotAnalysed, "not supported: transfer syntax JPEG XL", alerts.Counts{Received: 9, Ineligible: 9}},
		"forwarding alone":    {slices5(1, 9, showsSubdural), func(tr *Triage) { tr.Gate.Closed = "triage is switched off" }, alerts.NotAnalysed, "triage is switched off", alerts.Counts{Received: 9, Ineligible: 9}},
		"the model fails":     {with(slices5(1, 10, showsNormal), 3, breaks), nil, alerts.Failed, "1 of 10 slices could not be analysed: the model gave an error", alerts.Counts{Received: 10, Classified: 9, Failed: 1}},
		"the model panics":    {with(slices5(1, 10, showsNormal), 3, panics, panics), nil, alerts.Failed, "2 of 10 slices could not be analysed: the analysis broke down", alerts.Counts{Received: 10, Classified: 8, Failed: 2}},
		"the model hangs":     {slices5(1, 10, hangs), hasty, alerts.Failed, "10 of 10 slices could not be analysed: the model did not answer in time", alerts.Counts{Received: 10, Failed: 10}},
		"the model is slow":   {with(slices5(1, 10, showsNormal), 3, obeys), hasty, alerts.Failed, "1 of 10 slices could not be analysed: the model did not answer in time", alerts.Counts{Received: 10, Classified: 9, Failed: 1}},
		"the model raves":     {with(slices5(1, 10, showsNormal), 3, answersNaN, answersShort), nil, alerts.Failed, "2 of 10 slices could not be analysed: the model's answer", alerts.Counts{Received: 10, Classified: 8, Failed: 2}},
		"no model":            {slices5(1, 10, showsNormal), noModel, alerts.Failed, errNoModel.Error(), alerts.Counts{Received: 10, Failed: 10}},
		"no model, no slices": {[]object{{class: "1.2.3.4", number: 1}}, noModel, alerts.NotAnalysed, "SOP class", alerts.Counts{Received: 1, Ineligible: 1}},
		"a part not seen":     {append(slices5(1, 8, showsNormal), every(slices5(9, 2, showsNormal), func(o *object) { o.drop = []dicom.Tag{dicom.TagRescaleSlope} })...), nil, alerts.Negative, "2 objects of the analysed series are not for the model: no rescale slope", alerts.Counts{Received: 10, Classified: 8, Ineligible: 2}},
		"a damaged slice":     {every(slices5(1, 10, showsNormal), func(o *object) { o.damaged = o.number == 5 }), nil, alerts.Failed, "1 of 10 slices could not be analysed: the object is malformed", alerts.Counts{Received: 10, Classified: 9, Failed: 1}},
		"suspected, though some failed": {
			with(slices5(1, 10, showsNormal), 3, breaks, showsEpidural, showsEpidural), nil,
			alerts.Positive, "1 of 10 slices could not be analysed",
			alerts.Counts{Received: 10, Classified: 9, Failed: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting for the disk and for quiet
			b := newBench(t, c.change)
			const uid = "1.2.3"
			b.receiveStudy(uid, c.objects...)
			var id string
			if c.want == alerts.Positive {
				id = b.nextAlert().AlertID
			}
			m := b.nextOutcome()
			if m.Outcome != c.want || !strings.Contains(m.Reason, c.reason) || (c.reason == "") != (m.Reason == "") || m.Counts != c.counts {
				t.Errorf("outcome %s (%s) %+v\nwant %s (%s) %+v", m.Outcome, m.Reason, m.Counts, c.want, c.reason, c.counts)
			}
			if m.AlertID != id || m.Seq != 1 || m.InstanceUID != uid || m.Site != "north" {
				t.Errorf("outcome %+v with alert %q", m, id)
			}
		})
	}
}

func TestPromise5_AlertAtTheDecidingSlice(t *testing.T) {
	b := newBench(t, nil)
	const uid = "1.2.3"
	b.spool.StudyOpened(uid, "association")
	b.receive(uid, with(slices5(1, 5, showsNormal), 3, showsSubdural, showsSubdural)...)
	m := b.nextAlert() // while the association is open
	want := alerts.Message{
		AlertID: alerts.ID("ct1", b.spool.Pseudonym(uid), 1), Seq: 1, Type: alerts.TypeNew, Site: "north", Device: "ct1",
		Study: alerts.Study{InstanceUID: uid}, Finding: "subdural", Score: 0.8, Threshold: 0.5, OperatingPoint: "balanced", KeyImage: m.KeyImage,
		Models:     []alerts.Model{{Name: "fake", SHA256: strings.Repeat("ab", 32)}},
		AcquiredAt: m.AcquiredAt, ReceivedAt: m.ReceivedAt, DetectedAt: m.DetectedAt,
	}
	if diff := cmp.Diff(want, m); diff != "" || m.KeyImage != uid+".1.4" && m.KeyImage != uid+".1.5" {
		t.Errorf("key image %s; -want +got:\n%s", m.KeyImage, diff)
	}
	if sec := m.AcquiredAt.Second(); m.AcquiredAt.Year() != 2026 || sec != 4 && sec != 5 || m.DetectedAt.Before(m.ReceivedAt) {
		t.Errorf("acquired %v, received %v, detected %v", m.AcquiredAt, m.ReceivedAt, m.DetectedAt)
	}
	b.receive(uid, slices5(6, 5, showsNormal)...)
	b.settled(uid)
	b.spool.AssociationClosed("association", true)
	o := b.nextOutcome() // and not another alert before it
	if o.Outcome != alerts.Positive || o.AlertID != m.AlertID || o.Finding != "subdural" || o.Counts.Classified != 10 ||
		o.Score != 0.8 || o.Threshold != 0.5 || o.OperatingPoint != "balanced" {
		t.Errorf("outcome %+v", o)
	}
	for _, line := range []string{"alert raised", "study decided"} {
		_, after, _ := strings.Cut(b.log.String(), line)
		if said, _, _ := strings.Cut(after, "\n"); !strings.Contains(said, "threshold=0.5 operating_point=balanced") || !strings.Contains(said, "score=0.8") {
			t.Errorf("the log says %q", said)
		}
	}
}

// TestPromise4_TorsoIsNoNegative: a scanner that breaks off has not shown the rest. What it showed first was normal; that
// is no outcome of the study. When it has sent everything, there is one.
func TestPromise4_TorsoIsNoNegative(t *testing.T) {
	b := newBench(t, nil)
	const uid = "1.2.3"
	b.spool.StudyOpened(uid, "aborted")
	b.receive(uid, slices5(1, 10, showsNormal)...)
	b.spool.AssociationClosed("aborted", false)
	if o := b.nextOutcome(); o.Outcome != alerts.NotAnalysed || !strings.Contains(o.Reason, "broke off") {
		t.Errorf("outcome %+v", o)
	}
	b.receiveStudy(uid, slices5(11, 5, showsNormal)...)
	if o := b.nextOutcome(); o.Outcome != alerts.Negative || o.Counts.Classified != 15 || o.Seq != 2 {
		t.Errorf("outcome of the whole %+v", o)
	}
}

func TestOpenAssociationHoldsTheOutcome(t *testing.T) {
	b := newBench(t, nil)
	b.spool.StudyOpened("1.2.3", "another association")
	b.receive("1.2.3", slices5(1, 10, showsNormal)...)
	b.receiveStudy("1.2.4", slices5(1, 10, showsNormal)...) // later
	if o := b.nextOutcome(); o.InstanceUID != "1.2.4" {
		t.Errorf("first outcome of study %s, want 1.2.4", o.InstanceUID)
	}
	b.spool.AssociationClosed("another association", true)
	if o := b.nextOutcome(); o.InstanceUID != "1.2.3" || o.Outcome != alerts.Negative {
		t.Errorf("second outcome %+v", o)
	}
}

func TestPromise5_FinalDecisionUpdatesTheAlert(t *testing.T) {
	b := newBench(t, nil)
	const uid = "1.2.3"
	b.spool.StudyOpened(uid, "association")
	b.receive(uid, slices5(1, 2, showsSubdural)...)
	first := b.nextAlert()
	b.receive(uid, with(slices5(3, 8, showsNormal), 5, showsEpidural, showsEpidural)...)
	b.spool.AssociationClosed("association", true)
	m := b.nextAlert()
	if m.AlertID != first.AlertID || m.Type != alerts.TypeUpdate || m.Seq != 2 || first.Finding != "subdural" || m.Finding != "epidural" {
		t.Errorf("first %+v\nthen  %+v", first, m)
	}
	if o := b.nextOutcome(); o.Outcome != alerts.Positive || o.Finding != "epidural" || o.AlertID != first.AlertID {
		t.Errorf("outcome %+v", o)
	}
}

func TestPromise5_FinalDecisionWithdrawsTheAlert(t *testing.T) {
	b := newBench(t, nil)
	const uid = "1.2.3"
	b.spool.StudyOpened(uid, "association")
	b.receive(uid, with(slices5(1, 10, showsNormal), 3, showsSubdural, showsSubdural)...)
	first := b.nextAlert()
	// Thin slices between the two that decided: they are no neighbours any more.
	b.receive(uid, object{number: 20, position: 22}, object{number: 21, position: 23})
	b.spool.AssociationClosed("association", true)
	m := b.nextAlert()
	if m.AlertID != first.AlertID || m.Type != alerts.TypeRetract || m.Seq != 2 {
		t.Errorf("then %+v", m)
	}
	if o := b.nextOutcome(); o.Outcome != alerts.Negative || o.AlertID != first.AlertID {
		t.Errorf("outcome %+v", o)
	}
}

func TestPromise4_LateSlicesOpenTheStudyAgain(t *testing.T) {
	b := newBench(t, nil)
	const uid = "1.2.3"
	b.receiveStudy(uid, slices5(1, 10, showsNormal)...)
	if o := b.nextOutcome(); o.Outcome != alerts.Negative || o.Seq != 1 {
		t.Fatalf("outcome %+v", o)
	}
	b.receiveStudy(uid, slices5(11, 2, showsEpidural)...)
	m := b.nextAlert()
	if o := b.nextOutcome(); m.Type != alerts.TypeNew || o.Outcome != alerts.Positive || o.Seq != 2 || o.AlertID != m.AlertID {
		t.Errorf("alert %+v\noutcome %+v", m, o)
	}
}

func TestPromise4_RestartLeavesNothingBehind(t *testing.T) {
	b := newBench(t, nil)
	const uid = "1.2.3"
	b.spool.StudyOpened(uid, "association")
	b.receive(uid, append(slices5(1, 9, showsNormal), object{number: 10, position: 50, shows: obeys})...)
	b.stop()
	b.receive(uid, slices5(11, 3, showsNormal)...) // while nobody looks
	s, err := b.spool.Study(t.Context(), uid)
	if err != nil || s.Pending < 4 {
		t.Fatalf("%d slices pending, %v; the one under way must not have failed", s.Pending, err)
	}
	b.triage.Timeout = 500 * time.Millisecond
	b.start()
	b.settled(uid)
	b.spool.AssociationClosed("association", true)
	if o := b.nextOutcome(); o.Outcome != alerts.Failed || o.Counts != (alerts.Counts{Received: 13, Classified: 12, Failed: 1}) {
		t.Errorf("outcome %+v", o)
	}
}

// A slice that the disk has lost before anybody looked at it was not seen: the
// others alone are no negative study.
func TestPromise4_LostSliceIsNoNegative(t *testing.T) {
	b := newBench(t, nil)
	b.stop()
	b.receiveStudy("1.2.3", slices5(1, 10, showsNormal)...)
	if err := b.spool.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "instances", "*", "*"))
	if err != nil || len(files) != 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	b.open(b.triage.Log)
	b.triage.Spool = b.spool
	b.start()
	o := b.nextOutcome()
	if o.Outcome != alerts.Failed || !strings.Contains(o.Reason, "1 of 10 slices could not be analysed: the object's file is missing") ||
		o.Counts != (alerts.Counts{Received: 10, Classified: 9, Failed: 1}) {
		t.Errorf("outcome %s (%s) %+v", o.Outcome, o.Reason, o.Counts)
	}
}

// A model that was taken away between the slices of a study leaves a study that
// nobody has seen as a whole.
func TestPromise4_ModelGoneInMidStudy(t *testing.T) {
	b := newBench(t, nil)
	const uid = "1.2.3"
	b.spool.StudyOpened(uid, "association")
	b.receive(uid, slices5(1, 10, showsNormal)...)
	b.settled(uid)
	b.stop()
	b.triage.Model = nil
	b.start()
	b.spool.AssociationClosed("association", true)
	if o := b.nextOutcome(); o.Outcome != alerts.Failed || !strings.Contains(o.Reason, "no longer in service") {
		t.Errorf("outcome %+v", o)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	nameless := &Model{Classifier: &fakeModel{}, Rule: newRule()}
	for name, tr := range map[string]*Triage{
		"no site": {Device: "ct1"}, "no device": {Site: "north"}, "no hash": {Site: "north", Device: "ct1", Model: nameless},
	} {
		if err := tr.Run(t.Context()); err == nil {
			t.Errorf("%s: Run did not refuse it", name)
		}
	}
}

func TestPromise3_NothingWaitsForTheModel(t *testing.T) {
	b := newBench(t, nil)
	b.receive("1.2.3", slices5(1, 10, hangs)...)
	legs, err := b.spool.DueLegs(t.Context(), "pacs", time.Now(), 100)
	if err != nil || len(legs) != 10 {
		t.Errorf("%d legs are due while the model hangs, want 10 (%v)", len(legs), err)
	}
}

func TestPromise7_NoIdentityInLogsAndMessages(t *testing.T) {
	b := newBench(t, func(tr *Triage) {
		tr.Pseudonymous = true
		tr.Gate.BodyParts = []string{"HEAD"}
		tr.Gate.AcceptMissingBodyPart = true
	})
	const uid = "1.2.345"
	odd := func(t dicom.Tag) object {
		o := object{number: int(t), position: 5, set: map[dicom.Tag]string{t: identity}}
		return o
	}
	objects := with(slices5(1, 10, showsNormal), 3, panics, showsSubdural, showsSubdural)
	for _, tag := range wanted {
		objects = append(objects, odd(tag))
	}
	b.receiveStudy(uid, objects...)
	m, o := b.nextAlert(), b.nextOutcome()
	if m.Pseudonym != b.spool.Pseudonym(uid) || o.Pseudonym != m.Pseudonym || m.InstanceUID != "" || o.InstanceUID != "" {
		t.Errorf("alert about %+v, outcome about %+v", m.Study, o.Study)
	}
	for _, e := range b.seen {
		if strings.Contains(string(e.Payload), uid) {
			t.Errorf("a UID beside the pseudonym: %s", e.Payload)
		}
	}
	findings, err := b.spool.StudyFindings(t.Context(), uid)
	if err != nil || len(findings) != len(objects) {
		t.Fatalf("%d findings, %v", len(findings), err)
	}
	for _, text := range append([]string{b.log.String(), fmt.Sprintf("%+v", findings)}, string(b.seen[0].Payload), string(b.seen[1].Payload)) {
		if i := strings.Index(text, "SECRET"); i >= 0 {
			t.Errorf("identity in ...%s", text[max(0, i-300):min(len(text), i+50)])
		}
	}
}

func sorted(tags []dicom.Tag) []dicom.Tag {
	tags = slices.Clone(tags)
	slices.Sort(tags)
	return slices.Compact(tags)
}
