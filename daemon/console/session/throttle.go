package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Throttle slows down who guesses passwords. Nobody is ever locked out for good:
// what is used up fills again by itself, and who has logged in from a device
// before has tries of that device's own, which no stranger can use up. What a
// stranger can do to a name is to keep unknown devices waiting.
type Throttle struct {
	Now func() time.Time

	once sync.Once
	key  []byte // of the marks of known devices

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

// The tries: so many at once, then one each so often.
var (
	ofAddress = bucket{20, 6 * time.Second}  // of one network address, whatever the names
	ofPair    = bucket{5, 30 * time.Second}  // of one name from one address
	ofName    = bucket{30, 10 * time.Second} // of one name from anywhere
	ofDevice  = bucket{10, 30 * time.Second} // of one name on a known device, in place of all these
)

type bucket struct {
	burst int
	every time.Duration
}

// maxBuckets bounds the memory; those that are full again go first.
const maxBuckets = 20000

func (t *Throttle) init() {
	t.once.Do(func() {
		t.key = make([]byte, sha256.Size)
		_, _ = rand.Read(t.key) // never fails (crypto/rand)
		t.buckets = make(map[string]*rate.Limiter)
		if t.Now == nil {
			t.Now = time.Now
		}
	})
}

// Wait says how long name has to wait at address before it may try again, and
// takes one try where that is not at all. mark is what Mark has given to the
// device before; "" of a new one.
func (t *Throttle) Wait(name, address, mark string) time.Duration {
	t.init()
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.Now()
	if id, ok := t.known(name, mark); ok {
		return take(now, t.of("device "+id+" "+name, ofDevice, now))
	}
	return take(now, t.of("address "+address, ofAddress, now), t.of("pair "+address+" "+name, ofPair, now), t.of("name "+name, ofName, now))
}

// take takes a try of every limiter, or of none.
func take(now time.Time, limiters ...*rate.Limiter) time.Duration {
	var wait time.Duration
	for _, l := range limiters {
		if missing := 1 - l.TokensAt(now); missing > 0 {
			wait = max(wait, time.Duration(missing/float64(l.Limit())*float64(time.Second)))
		}
	}
	if wait == 0 {
		for _, l := range limiters {
			l.AllowN(now, 1)
		}
	}
	return wait
}

func (t *Throttle) of(key string, b bucket, now time.Time) *rate.Limiter {
	l, ok := t.buckets[key]
	if !ok {
		if len(t.buckets) >= maxBuckets {
			t.forget(now)
		}
		l = rate.NewLimiter(rate.Every(b.every), b.burst)
		t.buckets[key] = l
	}
	return l
}

// forget drops the limiters that are full again, and where those are few, any:
// half of the room is free afterwards.
func (t *Throttle) forget(now time.Time) {
	for key, l := range t.buckets {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(t.buckets, key)
		}
	}
	for key := range t.buckets {
		if len(t.buckets) <= maxBuckets/2 {
			return
		}
		delete(t.buckets, key)
	}
}

// Mark makes the mark of a device on which name has logged in.
func (t *Throttle) Mark(name string) string {
	t.init()
	id := rand.Text()
	return id + "." + t.sign(name, id)
}

// known reads a mark. It is good until the daemon starts anew.
func (t *Throttle) known(name, mark string) (id string, ok bool) {
	const length = 26 // of rand.Text
	if len(mark) < length+1 || len(mark) > 256 {
		return "", false
	}
	id = mark[:length]
	return id, hmac.Equal([]byte(mark), []byte(id+"."+t.sign(name, id)))
}

func (t *Throttle) sign(name, id string) string {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(id + " " + name))
	return hex.EncodeToString(mac.Sum(nil))
}

// Pace bounds how fast one network address may ask for anything.
type Pace struct {
	Now func() time.Time

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

// A page with its slices asks for some hundred things at once, and seldom again.
const (
	paceBurst  = 600
	pacePerSec = 100
)

// Allow says whether address may ask now.
func (p *Pace) Allow(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.buckets == nil || len(p.buckets) >= maxBuckets {
		p.buckets = make(map[string]*rate.Limiter)
	}
	l, ok := p.buckets[address]
	if !ok {
		l = rate.NewLimiter(pacePerSec, paceBurst)
		p.buckets[address] = l
	}
	return l.AllowN(p.Now(), 1)
}
