package receive

import (
	"sync"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
)

// tally is what an association has brought so far.
type tally struct {
	opened          time.Time
	stored, refused int
	bytes           int64
	studies         []string // the first few pseudonyms, in order of arrival
	seen            map[string]struct{}
}

// namedStudies is how many studies the line of an association names.
const namedStudies = 4

// associations keeps the tallies of those that are open.
type associations struct {
	mu   sync.Mutex
	byID map[string]*tally
}

func (as *associations) opened(id string) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.byID == nil {
		as.byID = make(map[string]*tally)
	}
	as.byID[id] = &tally{opened: time.Now(), seen: make(map[string]struct{})}
}

// closed forgets an association and returns its tally.
func (as *associations) closed(id string) (tally, bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	t, ok := as.byID[id]
	if !ok {
		return tally{}, false
	}
	delete(as.byID, id)
	return *t, true
}

func (as *associations) stored(id string, i spool.Instance) {
	as.mu.Lock()
	defer as.mu.Unlock()
	t, ok := as.byID[id]
	if !ok {
		return
	}
	t.stored++
	t.bytes += i.Size
	if _, ok := t.seen[i.Study]; ok {
		return
	}
	t.seen[i.Study] = struct{}{}
	if len(t.studies) < namedStudies {
		t.studies = append(t.studies, i.Study)
	}
}

// refused counts a refused object and returns how many there were.
func (as *associations) refused(id string) int {
	as.mu.Lock()
	defer as.mu.Unlock()
	t, ok := as.byID[id]
	if !ok {
		return 1
	}
	t.refused++
	return t.refused
}

// AssociationOpened begins to count what the association brings.
func (r *Receiver) AssociationOpened(a *dimse.Association) { r.open.opened(a.ID()) }

// AssociationClosed lets the studies of the association complete, and logs what
// became of the objects that it brought, if it brought any. That it came and
// went, the server logs.
func (r *Receiver) AssociationClosed(a *dimse.Association, err error) {
	r.Spool.AssociationClosed(a.ID(), err == nil)
	t, ok := r.open.closed(a.ID())
	if !ok || t.stored+t.refused == 0 {
		return
	}
	r.log().Info("objects received", "association", a.ID(), "stored", t.stored, "refused", t.refused,
		"bytes", t.bytes, "studies", len(t.seen), "study", t.studies, "took", time.Since(t.opened))
}
