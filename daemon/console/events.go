package console

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// hub keeps the list as it was rendered last, for everybody who looks at it.
type hub struct {
	mu      sync.Mutex
	streams int
	of      map[string]int // by session
	wanted  chan struct{}  // capacity 1: somebody has begun to look
	list    []byte         // nil before the first
	changed chan struct{}  // closed at the next list, and replaced
}

// Bounds of what may be open: of all, and of one session.
const (
	maxStreams          = 512
	maxStreamsOfSession = 12
)

func (h *hub) init() {
	h.of = map[string]int{}
	h.wanted = make(chan struct{}, 1)
	h.changed = make(chan struct{})
}

// enter counts a stream; false: there are too many.
func (h *hub) enter(session string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams >= maxStreams || h.of[session] >= maxStreamsOfSession {
		return false
	}
	h.streams++
	h.of[session]++
	select {
	case h.wanted <- struct{}{}:
	default:
	}
	return true
}

func (h *hub) leave(session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams--
	if h.of[session]--; h.of[session] == 0 {
		delete(h.of, session)
	}
}

func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams > 0
}

// now returns the list as it is, nil before the first, and a channel that is
// closed at the next.
func (h *hub) now() ([]byte, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list, h.changed
}

func (h *hub) put(list []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if bytes.Equal(list, h.list) {
		return
	}
	h.list = list
	close(h.changed)
	h.changed = make(chan struct{})
}

// How often the ledger is read at most while somebody looks, and how many times
// as long as reading takes is left to others; and how often in any case.
const (
	leastGap  = 200 * time.Millisecond
	restRatio = 5
	mostGap   = 2 * time.Second
	inAnyCase = 20 * time.Second
)

// watch renders the list at every change of the ledger, while somebody looks.
func (s *Server) watch(ctx context.Context) {
	for {
		changed := s.Spool.Changes()
		began := time.Now()
		if s.hub.watched() {
			if list, err := s.renderList(ctx); err != nil && ctx.Err() == nil {
				s.Log.Error("the page's list cannot be made; trying again", "err", err)
			} else if err == nil {
				s.hub.put(list)
			}
		} else {
			select {
			case <-s.hub.wanted:
				continue
			case <-ctx.Done():
				return
			}
		}
		gap := time.NewTimer(min(max(leastGap, restRatio*time.Since(began)), mostGap))
		select {
		case <-gap.C:
		case <-ctx.Done():
			gap.Stop()
			return
		}
		again := time.NewTimer(inAnyCase)
		select {
		case <-changed:
		case <-s.hub.wanted:
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *Server) renderList(ctx context.Context) ([]byte, error) {
	l, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = s.pages.ExecuteTemplate(&out, "rows", l)
	return out.Bytes(), err
}

// beat is how often a stream says that it lives; the page takes a silence of
// twice that for a lost connection.
const beat = 5 * time.Second

// events is the stream of lists (server-sent events). It tells of the session's
// end, and keeps none alive.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return // the page asks whether the session still holds
	}
	session := of(r).ID
	if !s.hub.enter(session) {
		http.Error(w, "too many open pages", http.StatusServiceUnavailable)
		return
	}
	defer s.hub.leave(session)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	send := func(event string, data []byte) bool {
		var b bytes.Buffer
		fmt.Fprintf(&b, "event: %s\n", event)
		for line := range bytes.Lines(data) {
			b.WriteString("data: ")
			b.Write(bytes.TrimRight(line, "\r\n"))
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
		if out.SetWriteDeadline(time.Now().Add(3*beat)) != nil {
			return false
		}
		_, err := w.Write(b.Bytes())
		return err == nil && out.Flush() == nil
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	if !send("beat", []byte("-")) {
		return
	}
	var sent []byte
	for {
		list, changed := s.hub.now()
		if list != nil && !bytes.Equal(list, sent) {
			if !send("list", list) {
				return
			}
			sent = list
		}
		select {
		case <-changed:
		case <-tick.C:
			if _, ok := s.find(r, false); !ok {
				send("ended", []byte("-"))
				return
			}
			if !send("beat", []byte("-")) {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
