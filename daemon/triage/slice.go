package triage

import (
	"context"
	"errors"
	"io"

	"ichwatch/daemon/spool"
)

// examine looks at one instance and returns what it found. ok is false where
// ctx ended first: there is no finding then, and the instance stays pending.
func (r *run) examine(ctx context.Context, i spool.Instance) (f spool.Finding, ok bool) {
	start := r.now()
	result, err := r.examiner.examine(ctx, i.SOPClassUID, i.TransferSyntaxUID, func() (io.ReadSeekCloser, error) {
		return r.Spool.OpenDataSet(ctx, i.ID)
	})
	if err != nil {
		return spool.Finding{}, false
	}
	f = result.finding()
	f.InstanceID = i.ID
	f.At = r.now()
	f.Elapsed = f.At.Sub(start)

	log := r.Log.With("study", i.Study, "instance", i.ID)
	var panicked *panicError
	switch {
	case f.State == spool.FindingClassified:
		log.Debug("slice classified", "elapsed", f.Elapsed)
	case f.State == spool.FindingIneligible:
		log.Debug("slice is not for the model", "reason", f.Reason)
	case errors.As(result.Err, &panicked):
		log.Error("panic while a slice was analysed; the slice has failed", "panic", panicked, "stack", string(panicked.stack))
	case errors.Is(result.Err, errNoModel):
		log.Debug("slice failed", "reason", f.Reason)
	default:
		log.Warn("slice failed", "reason", f.Reason, "err", result.Err)
	}
	return f, true
}
