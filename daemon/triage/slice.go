package triage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// examine looks at one instance and returns what it found. ok is false where
// ctx ended first: there is no finding then, and the instance stays pending.
func (r *run) examine(ctx context.Context, i spool.Instance) (f spool.Finding, ok bool) {
	start := r.now()
	f = spool.Finding{InstanceID: i.ID, State: spool.FindingFailed}
	err := r.judge(ctx, i, &f)
	if ctx.Err() != nil {
		return f, false
	}
	f.At = r.now()
	f.Elapsed = f.At.Sub(start)

	log := r.Log.With("study", i.Study, "instance", i.ID)
	var (
		refused     *refusedError
		unsupported *pixel.UnsupportedError
		panicked    *panicError
	)
	switch {
	case err == nil:
		f.State = spool.FindingClassified
		log.Debug("slice classified", "elapsed", f.Elapsed)
		return f, true
	case errors.As(err, &refused):
		f.State, f.Reason = spool.FindingIneligible, refused.reason
	case errors.As(err, &unsupported):
		f.State, f.Reason = spool.FindingIneligible, unsupported.Error()
	case errors.Is(err, pixel.ErrNoHead):
		f.State, f.Reason = spool.FindingIneligible, noHead
	case errors.Is(err, pixel.ErrNoRescale):
		f.State, f.Reason = spool.FindingIneligible, "unusable rescale slope or intercept: no Hounsfield units"
	case errors.As(err, &panicked):
		f.Reason = "the analysis broke down"
		log.Error("panic while a slice was analysed; the slice has failed", "panic", panicked, "stack", string(panicked.stack))
		return f, true
	case errors.Is(err, errNoModel):
		f.Reason = errNoModel.Error()
		log.Debug("slice failed", "reason", f.Reason)
		return f, true
	default:
		f.Reason = failure(err)
		log.Warn("slice failed", "reason", f.Reason, "err", err)
		return f, true
	}
	log.Debug("slice is not for the model", "reason", f.Reason)
	return f, true
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

// judge fills in what can be known of an instance. Its error says why it was
// not classified.
func (r *run) judge(ctx context.Context, i spool.Instance, f *spool.Finding) (err error) {
	defer func() { // our own code, on somebody else's bytes
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	f.Position = nowhere
	if reason := r.Gate.refuseClass(i.SOPClassUID); reason != "" {
		return &refusedError{reason}
	}
	data, err := r.Spool.OpenDataSet(ctx, i.ID)
	if err != nil {
		return err
	}
	defer data.Close()

	syntax, known := dicom.LookupTransferSyntax(i.TransferSyntaxUID)
	if !known {
		return &refusedError{"unknown transfer syntax"}
	}
	header, err := dicom.Scan(data, syntax, scanOptions)
	if err != nil {
		return fmt.Errorf("read the header: %w", err)
	}
	if reason := r.Gate.Refuse(i.SOPClassUID, header); reason != "" {
		return &refusedError{reason}
	}
	place, _ := planeOf(header)
	f.Position = place.position()
	f.AcquiredAt = acquiredAt(header)
	switch header.PixelData {
	case dicom.TagPixelData:
	case 0:
		return fmt.Errorf("%w: no pixels", pixel.ErrMalformed)
	default:
		return &refusedError{"pixels are floating-point numbers"}
	}
	if r.Model == nil {
		return errNoModel
	}
	if _, err := data.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the pixels: %w", err)
	}
	img := r.images.Get().(*infer.Image)
	if err := pixel.Decode(describe(header), data, img); err != nil {
		return err
	}
	return r.classify(ctx, img, f)
}

// classify asks the model and takes its answer into f. img goes back to the
// others where nobody holds it any more.
func (r *run) classify(ctx context.Context, img *infer.Image, f *spool.Finding) error {
	model := r.Model.Classifier.Model()
	f.ModelName, f.ModelSHA256, f.Provider = model.Name, model.SHA256, r.Model.Classifier.Provider()
	scores, err := r.guard.classify(ctx, img)
	if ctx.Err() == nil && !errors.Is(err, errNoAnswer) {
		r.images.Put(img)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errModel, err)
	}
	if len(scores.Probabilities) != len(r.classes) {
		return fmt.Errorf("%w: %d of them for %d classes", errScores, len(scores.Probabilities), len(r.classes))
	}
	for _, p := range scores.Probabilities {
		if !(p >= 0 && p <= 1) { // NaN too, which the ledger could not hold
			return fmt.Errorf("%w: %v among them", errScores, p)
		}
	}
	f.Probabilities = scores.Probabilities
	return nil
}

// nowhere is the position of a slice that has none, in mm: beyond what the study
// rule takes for a position and, unlike NaN, fit for the ledger.
const nowhere = 1e9
