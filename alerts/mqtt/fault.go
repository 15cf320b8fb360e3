package mqtt

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// What a fault may be about, beside the topics of messages.
const (
	AboutConnection       = "connection"
	AboutAcknowledgements = "acknowledgements"
	AboutReadBack         = "read_back"
)

// Fault is a trouble with the broker that a technician has to know of.
type Fault struct {
	About  string    // one of the above, or the topic that suffers
	Since  time.Time // it stands
	Reason string    // what happened and what to do about it
}

// Status is how the client and its broker get on.
type Status struct {
	Broker    string    // that is connected or in turn
	Connected bool      // at this moment
	Since     time.Time // Connected has been so; zero before the first connection
	Faults    []Fault   // that stand, the oldest first
}

// advised is an error with what a technician can do about it.
type advised struct {
	error
	advice string // the same words for the same trouble
}

func (e *advised) Error() string { return e.error.Error() + ": " + e.advice }
func (e *advised) Unwrap() error { return e.error }

// faults keeps the faults that stand. Each is one alarm in the log when it
// begins, one as a reminder from time to time, and a line when it is over, however
// often it occurs; between them a warning for each further thing to be done.
type faults struct {
	log    *slog.Logger
	now    func() time.Time
	remind time.Duration

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

// raise says that a fault is there, or still there. what names it in the log.
func (f *faults) raise(about, what string, err error, attrs ...any) {
	advice := err.Error()
	if a, ok := errors.AsType[*advised](err); ok {
		advice = a.advice
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	a := f.standing[about]
	if a == nil {
		a = &alarm{Fault: Fault{About: about, Since: now}, what: what}
		f.standing[about] = a
	}
	a.Reason = err.Error()
	attrs = append(attrs, "about", about, "since", a.Since.Format(time.RFC3339), "err", err)
	if now.Sub(a.alarmed) >= f.remind {
		a.alarmed = now
		a.told = map[string]bool{advice: true}
		f.log.Error(what, attrs...)
	} else if !a.told[advice] {
		a.told[advice] = true
		f.log.Warn("still: "+what, attrs...)
	}
}

// clear says that a fault is over, if it was there.
func (f *faults) clear(about string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.standing[about]; a != nil {
		delete(f.standing, about)
		f.log.Info("over: "+a.what, "about", about, "lasted", f.now().Sub(a.Since).Round(time.Millisecond))
	}
}

// stands reports whether a fault is there.
func (f *faults) stands(about string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.standing[about] != nil
}

// list returns the faults, the oldest first.
func (f *faults) list() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Fault
	for a := range maps.Values(f.standing) {
		all = append(all, a.Fault)
	}
	slices.SortFunc(all, func(a, b Fault) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.About, b.About)) })
	return all
}
