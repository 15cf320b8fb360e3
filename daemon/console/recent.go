package console

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Line is a line of the log.
type Line struct {
	At    time.Time
	Level slog.Level
	Text  string
}

// Recent keeps the last lines of the log, for the page. No line of the daemon's
// log names a patient.
type Recent struct {
	mu    sync.Mutex
	lines []Line
}

// keptLines is how many lines Recent keeps.
const keptLines = 400

// Tee makes a handler that writes to next and keeps what is of level Info or
// above.
func (r *Recent) Tee(next slog.Handler) slog.Handler {
	return &tee{next: next, keep: r, text: slog.NewTextHandler(r, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

// Write implements io.Writer for the text of a line; its time and level come
// with Handle.
func (r *Recent) Write(p []byte) (int, error) {
	r.lines[len(r.lines)-1].Text = strings.TrimSpace(string(p)) // under Handle's lock
	return len(p), nil
}

// Lines returns what is kept, the latest first.
func (r *Recent) Lines() []Line {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := slices.Clone(r.lines)
	slices.Reverse(lines)
	return lines
}

// tee is a slog.Handler with two ends.
type tee struct {
	next slog.Handler
	text slog.Handler
	keep *Recent
}

func (t *tee) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || t.next.Enabled(ctx, level)
}

func (t *tee) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelInfo {
		t.keep.mu.Lock()
		t.keep.lines = append(t.keep.lines[max(0, len(t.keep.lines)+1-keptLines):], Line{At: record.Time, Level: record.Level})
		_ = t.text.Handle(ctx, record) // writes to memory
		t.keep.mu.Unlock()
	}
	if !t.next.Enabled(ctx, record.Level) {
		return nil
	}
	return t.next.Handle(ctx, record)
}

func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &tee{t.next.WithAttrs(attrs), t.text.WithAttrs(attrs), t.keep}
}

func (t *tee) WithGroup(name string) slog.Handler {
	return &tee{t.next.WithGroup(name), t.text.WithGroup(name), t.keep}
}
