package spool

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"ichwatch/dimse/dicom"
)

// wakeups are the channels on which the workers wait. Each holds one signal: it
// says that there is something to look at, never how much.
type wakeups struct {
	slices   chan struct{}
	messages chan struct{}
	mu       sync.Mutex
	named    map[string]chan struct{} // by what for, and for whom
	changed  chan struct{}            // closed at the next change, and replaced
}

func (w *wakeups) init() {
	w.slices = make(chan struct{}, 1)
	w.messages = make(chan struct{}, 1)
	w.named = make(map[string]chan struct{})
	w.changed = make(chan struct{})
}

// change tells everybody who wants to know that the ledger is not what it was.
func (w *wakeups) change() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *wakeups) leg(destination string) chan struct{} { return w.of("leg " + destination) }
func (w *wakeups) commitment(destination string) chan struct{} {
	return w.of("commitment " + destination)
}

// reportDue wakes who waits for the reports to a peer. Peers for which nobody
// does may be many: their AE titles may be made up.
func (w *wakeups) reportDue(peer dicom.AETitle) {
	w.mu.Lock()
	c, ok := w.named["report "+string(peer)]
	w.mu.Unlock()
	if ok {
		signal(c)
	}
}

func (w *wakeups) of(name string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.named[name]
	if !ok {
		c = make(chan struct{}, 1)
		w.named[name] = c
	}
	return c
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting to be seen already
	}
}

// SlicesAdded receives after a commit has left a new triage job. The channel
// holds one signal: look for work first, then wait.
func (s *Spool) SlicesAdded() <-chan struct{} { return s.wake.slices }

// LegsAdded receives after a leg to the destination was added or made due
// again. The channel holds one signal: look for work first, then wait.
func (s *Spool) LegsAdded(destination string) <-chan struct{} { return s.wake.leg(destination) }

// CommitmentsDue receives after a leg to the destination was sent, or may be
// asked for again. The channel holds one signal: look for work first, then wait.
func (s *Spool) CommitmentsDue(destination string) <-chan struct{} {
	return s.wake.commitment(destination)
}

// ReportsDue receives after a peer has asked for a commitment, or its report may
// be tried again; the first call begins it. The channel holds one signal: look
// for work first, then wait.
func (s *Spool) ReportsDue(peer dicom.AETitle) <-chan struct{} {
	return s.wake.of("report " + string(peer))
}

// Changes returns a channel that is closed at the next change of the ledger,
// whatever it is. Any number may wait for one: take the channel, look, wait.
func (s *Spool) Changes() <-chan struct{} {
	s.wake.mu.Lock()
	defer s.wake.mu.Unlock()
	return s.wake.changed
}

// MessagesAdded receives after a commit has left a message in the outbox. The
// channel holds one signal: look for work first, then wait.
func (s *Spool) MessagesAdded() <-chan struct{} { return s.wake.messages }

// holds remembers which open associations have carried which studies. It lives
// in memory: no association outlives the process.
type holds struct {
	mu            sync.Mutex
	byAssociation map[string]map[dicom.UID]struct{}
}

func (h *holds) init() { h.byAssociation = make(map[string]map[dicom.UID]struct{}) }

// StudyOpened notes that an association carries the study: it will not count as
// quiet before AssociationClosed.
func (s *Spool) StudyOpened(study dicom.UID, associationID string) {
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	studies := s.holds.byAssociation[associationID]
	if studies == nil {
		studies = make(map[dicom.UID]struct{})
		s.holds.byAssociation[associationID] = studies
	}
	studies[study] = struct{}{}
}

// AssociationClosed lets go of the studies that the association carried. orderly
// says that it was released, and not aborted or lost in mid-study.
func (s *Spool) AssociationClosed(associationID string, orderly bool) {
	s.holds.mu.Lock()
	studies := slices.Collect(maps.Keys(s.holds.byAssociation[associationID]))
	s.holds.mu.Unlock()
	if len(studies) > 0 {
		// Before the hold ends, so that nobody finds the study quiet in between.
		if err := s.ended(context.Background(), studies, orderly); err != nil && !errors.Is(err, ErrClosed) {
			s.log.Error("cannot note how an association ended; its studies count as broken off", "association", associationID, "err", err)
		}
	}
	s.holds.mu.Lock()
	defer s.holds.mu.Unlock()
	delete(s.holds.byAssociation, associationID)
}

// held returns the studies that some open association carries.
func (h *holds) held() map[dicom.UID]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[dicom.UID]struct{})
	for _, studies := range h.byAssociation {
		maps.Copy(all, studies)
	}
	return all
}
