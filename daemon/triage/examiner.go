package triage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/drift"
	"ichwatch/infer/pixel"
)

// Examiner looks at one slice at a time: gate, pixels, model. It is the same for
// what the spool holds and for files of a labelled set. Its fields are its
// configuration and must not change once it is in use; it is safe for concurrent
// use.
type Examiner struct {
	Gate Gate
	// Model is nil where none could be brought into service: eligible slices
	// fail then.
	Model *Model
	// Service, where it is not nil, gives the model instead, anew for each object.
	Service Service

	Calls   int           // of the classifier under way at a time; default 1
	Timeout time.Duration // for the classification of one slice; default 30 s
	Collect bool          // fills in Result.Seen of classified slices

	images sync.Pool // of *infer.Image
	mu     sync.Mutex
	latest *guarded // the last model that was used
}

// guarded is a model behind its guard.
type guarded struct {
	*Model
	guard   *guard
	classes []infer.Class
}

// Result is what an Examiner found in one slice, or in an object of several
// frames.
type Result struct {
	// Frames has the results of the frames, in their order, where some of them are
	// for the model; what else is in the object's result sums them up then.
	Frames []Result

	State      spool.FindingState // classified, ineligible or failed
	Reason     string             // why not classified, for people; never identity
	Err        error              // behind the reason, for a log; nil where classified
	Position   float64            // mm along the slice normal; meaningless where the gate refused
	AcquiredAt time.Time          // zero where the header does not say

	Models        infer.Models // nil where none was asked
	Provider      string
	Probabilities []float32 // in the order of the model's classes; nil where not classified
	Features      []float32 // of infer.Scores; nil unless the classifier gives them

	Seen      drift.Collector // what the slice is like, where Examiner.Collect asks for it
	thickness float64         // mm; 0 where the header does not say
}

// finding is the result as the ledger keeps it, without the instance and its
// frames.
func (r *Result) finding() spool.Finding {
	return spool.Finding{
		State: r.State, Reason: r.Reason, Position: r.Position, AcquiredAt: r.AcquiredAt,
		Models: r.Models, Provider: r.Provider, Probabilities: r.Probabilities,
	}
}

// begin gives the model for an object, nil where there is none. done must be called
// at its end.
func (e *Examiner) begin() (g *guarded, done func()) {
	m, done := use(e.Service, e.Model)
	if m == nil {
		return nil, done
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.latest == nil || e.latest.Model != m {
		e.latest = &guarded{
			Model: m, classes: m.Rule.Classes(),
			guard: newGuard(m.Classifier, orDefault(e.Timeout, 30*time.Second), max(e.Calls, 1)),
		}
	}
	return e.latest, done
}

// image is memory for a slice, used before or new.
func (e *Examiner) image() *infer.Image {
	if img, ok := e.images.Get().(*infer.Image); ok {
		return img
	}
	return new(infer.Image)
}

// Examine looks at the data set of an object of the SOP class class in the
// transfer syntax syntax (both UIDs as the file meta information has them). The
// error is ctx's alone: nothing can be said of the slice then.
func (e *Examiner) Examine(ctx context.Context, data io.ReadSeeker, class, syntax dicom.UID) (Result, error) {
	return e.examine(ctx, class, syntax, func() (io.ReadSeekCloser, error) { return keptOpen{data}, nil }, nil)
}

// ExamineImage looks at a slice that is in Hounsfield units already and comes
// from elsewhere than a DICOM object: no gate, no pixels to decode. The error is
// ctx's alone. img is given away.
func (e *Examiner) ExamineImage(ctx context.Context, img *infer.Image) (Result, error) {
	model, done := e.begin()
	defer done()
	r := Result{Position: nowhere}
	err := caught(func() error {
		if model == nil {
			return errNoModel
		}
		return e.classify(ctx, model, img, &r)
	})
	return r, e.settle(ctx, &r, err)
}

// Decode gives the slice that Examine would show to the model, in Hounsfield
// units. Its error says why it would show none.
func (e *Examiner) Decode(data io.ReadSeeker, class, syntax dicom.UID) (*infer.Image, error) {
	img := new(infer.Image)
	err := caught(func() error {
		header, err := e.admit(class, syntax, data, &Result{})
		if err != nil {
			return err
		}
		return decode(context.Background(), data, header, img) // codecs have their own limits
	})
	if err != nil {
		return nil, err
	}
	return img, nil
}

// keptOpen leaves the closing to whoever opened.
type keptOpen struct{ io.ReadSeeker }

func (keptOpen) Close() error { return nil }

// examine opens the data set only where the SOP class may be for the model. Of an
// object of several frames, each, if not nil, is given every frame, by number, as
// soon as it is judged.
func (e *Examiner) examine(ctx context.Context, class, syntax dicom.UID, open func() (io.ReadSeekCloser, error),
	each func(frame int, r Result),
) (Result, error) {
	model, done := e.begin()
	defer done()
	r := Result{Position: nowhere}
	err := caught(func() error {
		if reason := e.Gate.refuseClass(class); reason != "" {
			return &refusedError{reason}
		}
		data, err := open()
		if err != nil {
			return err
		}
		defer data.Close()
		if multiFrame(class) {
			return e.judgeFrames(ctx, model, class, syntax, data, &r, each)
		}
		return e.judge(ctx, model, class, syntax, data, &r)
	})
	if len(r.Frames) > 0 && err == nil {
		return r, nil // they have settled it
	}
	return r, e.settle(ctx, &r, err)
}

// caught runs our own code on somebody else's bytes; a panic becomes an error.
func caught(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return work()
}

// settle puts the error of an examination into the state and the words of its
// result. It gives ctx's error where ctx ended first.
func (e *Examiner) settle(ctx context.Context, r *Result, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.Err = err
	var (
		refused     *refusedError
		unsupported *pixel.UnsupportedError
		panicked    *panicError
	)
	switch {
	case err == nil:
		r.State = spool.FindingClassified
	case errors.As(err, &refused):
		r.State, r.Reason = spool.FindingIneligible, refused.reason
	case errors.As(err, &unsupported):
		r.State, r.Reason = spool.FindingIneligible, unsupported.Error()
	case errors.Is(err, pixel.ErrNoHead):
		r.State, r.Reason = spool.FindingIneligible, noHead
	case errors.Is(err, pixel.ErrNoRescale):
		r.State, r.Reason = spool.FindingIneligible, "unusable rescale slope or intercept: no Hounsfield units"
	case errors.As(err, &panicked):
		r.State, r.Reason = spool.FindingFailed, "the analysis broke down"
	default:
		r.State, r.Reason = spool.FindingFailed, failure(err)
	}
	return nil
}

// Reasons that weighing a study knows again.
const (
	noHead      = "no head in the slice"
	fileMissing = "the object's file is missing"
)

// refusedError is a slice that is not for the model.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return e.reason }

var (
	// errModel is an error of the classifier.
	errModel = errors.New("the model gave an error")
	// errScores is an answer that no study rule can use.
	errScores = errors.New("the model's answer is no set of probabilities")
)

// failure puts an error into the words of an outcome: a kind, so that a
// study's slices that failed alike are counted together.
func failure(err error) string {
	switch {
	case errors.Is(err, errNoModel):
		return errNoModel.Error()
	case errors.Is(err, errNoAnswer):
		return errNoAnswer.Error()
	case errors.Is(err, errScores):
		return errScores.Error()
	case errors.Is(err, errModel):
		return errModel.Error()
	case errors.Is(err, spool.ErrMissing):
		return fileMissing
	case errors.Is(err, pixel.ErrMalformed), errors.Is(err, dicom.ErrMalformed), errors.Is(err, io.ErrUnexpectedEOF):
		return "the object is malformed"
	}
	return "the object could not be read"
}

// errNoModel says that no model is in service. Why not stands in the log since
// the start and is nothing for an outcome: it may name files of this machine.
var errNoModel = errors.New("no model in service; the log of the device says why")

// judge fills in what can be known of an object of one frame. Its error says why
// it was not classified.
func (e *Examiner) judge(ctx context.Context, model *guarded, class, syntax dicom.UID, data io.ReadSeeker, r *Result) error {
	header, err := e.admit(class, syntax, data, r)
	if err != nil {
		return err
	}
	if model == nil {
		return errNoModel
	}
	img := e.image()
	if err := decode(ctx, data, header, img); err != nil {
		return err
	}
	return e.classify(ctx, model, img, r)
}

// admit reads the header and asks the gate.
func (e *Examiner) admit(class, syntax dicom.UID, data io.Reader, r *Result) (*dicom.Header, error) {
	header, err := readHeader(syntax, data)
	if err != nil {
		return nil, err
	}
	return header, e.admitFrame(class, header, r)
}

// admitFrame asks the gate about a frame and takes from its header what every
// result has.
func (e *Examiner) admitFrame(class dicom.UID, header *dicom.Header, r *Result) error {
	if reason := e.Gate.Refuse(class, header); reason != "" {
		return &refusedError{reason}
	}
	place, _ := planeOf(header)
	r.Position = place.position()
	r.AcquiredAt = acquiredAt(header)
	if mm := floats(header, tagSliceThickness); len(mm) == 1 {
		r.thickness = mm[0]
	}
	switch header.PixelData {
	case dicom.TagPixelData:
		return nil
	case 0:
		return fmt.Errorf("%w: no pixels", pixel.ErrMalformed)
	default:
		return &refusedError{"pixels are floating-point numbers"}
	}
}

func readHeader(syntax dicom.UID, data io.Reader) (*dicom.Header, error) {
	known, ok := dicom.LookupTransferSyntax(syntax)
	if !ok {
		return nil, &refusedError{"unknown transfer syntax"}
	}
	header, err := dicom.Scan(data, known, scanOptions)
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	return header, nil
}

func decode(ctx context.Context, data io.ReadSeeker, header *dicom.Header, img *infer.Image) error {
	if err := rewind(data); err != nil {
		return err
	}
	return pixel.Decode(ctx, describe(header), data, img)
}

func rewind(data io.Seeker) error {
	if _, err := data.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the pixels: %w", err)
	}
	return nil
}

// classify asks the model and takes its answer into r. img goes back to the
// others where nobody holds it any more.
func (e *Examiner) classify(ctx context.Context, model *guarded, img *infer.Image, r *Result) error {
	r.Models, r.Provider = model.Classifier.Models(), model.Classifier.Provider()
	if e.Collect { // before: img may be lost to a call that hangs
		r.Seen.Add(img, r.thickness)
	}
	scores, err := model.guard.classify(ctx, img)
	if ctx.Err() == nil && !errors.Is(err, errNoAnswer) {
		e.images.Put(img)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errModel, err)
	}
	if scores.Provider != "" { // it may have changed meanwhile
		r.Provider = scores.Provider
	}
	if len(scores.Probabilities) != len(model.classes) {
		return fmt.Errorf("%w: %d of them for %d classes", errScores, len(scores.Probabilities), len(model.classes))
	}
	for _, p := range scores.Probabilities {
		if !(p >= 0 && p <= 1) { // NaN too, which the ledger could not hold
			return fmt.Errorf("%w: %v among them", errScores, p)
		}
	}
	r.Probabilities, r.Features = scores.Probabilities, scores.Features
	return nil
}

// nowhere is the position of a slice that has none, in mm: beyond what the study
// rule takes for a position and, unlike NaN, fit for the ledger.
const nowhere = 1e9
