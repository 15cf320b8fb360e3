package alerts

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Fault is a trouble with a way out that a technician has to know of.
type Fault struct {
	About  string    // what suffers, in a word
	Since  time.Time // it stands
	Reason string    // what happened and what to do about it
}

// Advised is an error with what a technician can do about it.
type Advised struct {
	Err    error
	Advice string // the same words for the same trouble
}

// Advise adds advice to err.
func Advise(err error, advice string) *Advised { return &Advised{err, advice} }

func (e *Advised) Error() string { return e.Err.Error() + ": " + e.Advice }
func (e *Advised) Unwrap() error { return e.Err }

// Faults keeps the faults that stand. Each is one alarm in the log when it
// begins, one as a reminder from time to time, and a line when it is over, however
// often it occurs; between them a warning for each further thing to be done.
type Faults struct {
	Log    *slog.Logger     // required
	Now    func() time.Time // default time.Now
	Remind time.Duration    // default 1 h

	mu       sync.Mutex
	standing map[string]*alarm
}

// alarm is a fault and what was said of it.
type alarm struct {
	Fault
	what    string
	alarmed time.Time       // last
	told    map[string]bool // advice, since then
}

// Raise says that a fault is there, or still there. what names it in the log.
func (f *Faults) Raise(about, what string, err error, attrs ...any) {
	advice := err.Error()
	if a, ok := errors.AsType[*Advised](err); ok {
		advice = a.Advice
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := clock(f.Now)
	a := f.standing[about]
	if a == nil {
		a = &alarm{Fault: Fault{About: about, Since: now}, what: what}
		if f.standing == nil {
			f.standing = map[string]*alarm{}
		}
		f.standing[about] = a
	}
	a.Reason = err.Error()
	attrs = append(attrs, "about", about, "since", a.Since.Format(time.RFC3339), "err", err)
	if now.Sub(a.alarmed) >= orDefault(f.Remind, time.Hour) {
		a.alarmed = now
		a.told = map[string]bool{advice: true}
		f.Log.Error(what, attrs...)
	} else if !a.told[advice] {
		a.told[advice] = true
		f.Log.Warn("still: "+what, attrs...)
	}
}

// Clear says that a fault is over, if it was there.
func (f *Faults) Clear(about string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.standing[about]; a != nil {
		delete(f.standing, about)
		f.Log.Info("over: "+a.what, "about", about, "lasted", clock(f.Now).Sub(a.Since).Round(time.Millisecond))
	}
}

// Stands reports whether a fault is there.
func (f *Faults) Stands(about string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.standing[about] != nil
}

// List returns the faults, the oldest first.
func (f *Faults) List() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Fault
	for a := range maps.Values(f.standing) {
		all = append(all, a.Fault)
	}
	slices.SortFunc(all, func(a, b Fault) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.About, b.About)) })
	return all
}
