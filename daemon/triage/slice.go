package triage

import (
	"context"
	"errors"
	"io"

	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
)

// examine looks at one instance and returns what it found: the finding of the
// instance, and behind it those of its frames where it has several. ok is false
// where ctx ended first: there is no finding then, and the instance stays pending.
//
// What a frame shows is recorded as soon as it is known, so that an alert leaves
// at the deciding frame; the caller records it again with the rest, which settles
// the instance.
func (r *run) examine(ctx context.Context, i spool.Instance) (found []spool.Finding, ok bool) {
	start := r.now()
	finding := func(frame int, result Result) spool.Finding {
		f := result.finding()
		f.InstanceID, f.Frame = i.ID, frame
		f.At = r.now()
		f.Elapsed = f.At.Sub(start)
		return f
	}
	var frames []spool.Finding
	result, err := r.examiner.examine(ctx, i.SOPClassUID, i.TransferSyntaxUID, func() (io.ReadSeekCloser, error) {
		return r.Spool.OpenDataSet(ctx, i.ID)
	}, func(frame int, result Result) {
		f := finding(frame, result)
		frames = append(frames, f)
		r.log(i, f, result.Err)
		if f.State != spool.FindingClassified {
			return
		}
		if err := r.Spool.RecordFinding(ctx, f); err != nil {
			r.Log.Warn("cannot record a frame's finding yet", "study", i.Study, "instance", i.ID, "err", err)
			return
		}
		r.judged.add(i.StudyInstanceUID)
	})
	if err != nil {
		return nil, false
	}
	r.observe(i.StudyInstanceUID, &result)
	f := finding(0, result)
	if result.Frames == nil {
		r.log(i, f, result.Err)
		return []spool.Finding{f}, true
	}
	return append([]spool.Finding{f}, frames...), true
}

// observe tells what the classified slices of an instance are like.
func (r *run) observe(study dicom.UID, result *Result) {
	if r.Observer == nil {
		return
	}
	if result.Frames == nil && result.State == spool.FindingClassified {
		r.Observer.Seen(study, &result.Seen)
	}
	for k := range result.Frames {
		r.observe(study, &result.Frames[k])
	}
}

// log says what became of a slice.
func (r *run) log(i spool.Instance, f spool.Finding, err error) {
	log := r.Log.With("study", i.Study, "instance", i.ID)
	if f.Frame > 0 {
		log = log.With("frame", f.Frame)
	}
	var panicked *panicError
	switch {
	case f.State == spool.FindingClassified:
		log.Debug("slice classified", "elapsed", f.Elapsed)
	case f.State == spool.FindingIneligible:
		log.Debug("slice is not for the model", "reason", f.Reason)
	case errors.As(err, &panicked):
		log.Error("panic while a slice was analysed; the slice has failed", "panic", panicked, "stack", string(panicked.stack))
	case errors.Is(err, errNoModel):
		log.Debug("slice failed", "reason", f.Reason)
	default:
		log.Warn("slice failed", "reason", f.Reason, "err", err)
	}
}
