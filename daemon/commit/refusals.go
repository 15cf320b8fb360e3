package commit

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"ichwatch/dimse/dicom"
)

const (
	// refusalInterval is how often it is worth a line that a peer is refused.
	refusalInterval = time.Minute
	// maxRefused is how many peers are told apart within it: their AE titles may
	// be made up.
	maxRefused = 64
)

// refusals keeps a peer that is refused again and again from filling the log.
type refusals struct {
	mu   sync.Mutex
	told map[dicom.AETitle]time.Time
}

// tell logs a refusal, and at debug level those that follow within the interval.
func (r *refusals) tell(ctx context.Context, log *slog.Logger, peer dicom.AETitle, message string, attrs ...any) {
	level := slog.LevelDebug
	if r.first(peer, time.Now()) {
		level = slog.LevelWarn
	}
	log.Log(ctx, level, message, attrs...)
}

func (r *refusals) first(peer dicom.AETitle, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.told, func(_ dicom.AETitle, at time.Time) bool { return now.Sub(at) >= refusalInterval })
	if _, again := r.told[peer]; again || len(r.told) >= maxRefused {
		return false
	}
	if r.told == nil {
		r.told = make(map[dicom.AETitle]time.Time)
	}
	r.told[peer] = now
	return true
}
