// Package session remembers who is logged in, and slows down who guesses.
//
// Sessions live in memory: a restart of the daemon logs everybody out. A cookie
// holds a random token, the memory its hash alone.
package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sync"
	"time"

	"ichwatch/daemon/console/users"
)

// Session is one login.
type Session struct {
	ID   string // for the trail; no secret
	User users.User
	From string // network address at the login

	Since time.Time
	seen  time.Time
	key   [sha256.Size]byte
}

// Store keeps the sessions. Its fields are its configuration and must not change.
type Store struct {
	Idle time.Duration // without a request of a person
	Max  time.Duration // whatever the requests
	Now  func() time.Time

	mu   sync.Mutex
	open map[[sha256.Size]byte]*Session
}

// DisplayMax is how long a screen on the wall stays logged in, with or without
// requests.
const DisplayMax = 90 * 24 * time.Hour

// Bounds of what one user and all together may hold; the longest unused goes.
const (
	maxOfUser = 16
	maxOpen   = 1024
)

func (s *Store) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// Begin opens a session and returns its token.
func (s *Store) Begin(u users.User, from string) (token string, opened Session) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	token = base64.RawURLEncoding.EncodeToString(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	n := &Session{ID: rand.Text()[:8], User: u, From: from, Since: now, seen: now, key: sha256.Sum256([]byte(token))}
	if s.open == nil {
		s.open = make(map[[sha256.Size]byte]*Session)
	}
	s.open[n.key] = n
	s.bound(u.Name)
	return token, *n
}

// bound forgets what is over, and the longest unused where there are too many.
func (s *Store) bound(user string) {
	var all, his []*Session
	for key, o := range s.open {
		if s.over(o) {
			delete(s.open, key)
			continue
		}
		all = append(all, o)
		if o.User.Name == user {
			his = append(his, o)
		}
	}
	unused := func(a, b *Session) int { return a.seen.Compare(b.seen) }
	slices.SortFunc(his, unused)
	for _, o := range his[:max(0, len(his)-maxOfUser)] {
		delete(s.open, o.key)
	}
	slices.SortFunc(all, unused)
	for _, o := range all[:max(0, len(all)-maxOpen)] {
		delete(s.open, o.key)
	}
}

func (s *Store) over(o *Session) bool {
	now := s.now()
	if o.User.Role == users.Display {
		return now.Sub(o.Since) >= DisplayMax
	}
	return now.Sub(o.seen) >= s.Idle || now.Sub(o.Since) >= s.Max
}

// Find returns the session of a token. A request of a person keeps it alive, one
// that a page makes by itself does not. valid says whether the user is still who
// began it; where not, the session ends.
func (s *Store) Find(token string, person bool, valid func(users.User) bool) (Session, bool) {
	key := sha256.Sum256([]byte(token))
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.open[key]
	if !ok {
		return Session{}, false
	}
	if s.over(o) || !valid(o.User) {
		delete(s.open, key)
		return Session{}, false
	}
	if person {
		o.seen = s.now()
	}
	return *o, true
}

// End closes a session.
func (s *Store) End(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(token)))
}
