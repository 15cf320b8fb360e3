package mqtt

import (
	"sync"
	"time"
)

// A broker that speaks MQTT 3.1.1 has no way of saying that it does not take a
// message: it confirms what its access list forbids, or what it finds too large,
// and drops it (section 3.3.5; mosquitto and NATS do). So the confirmation is
// not believed alone. The client subscribes to the topics on which it publishes,
// and a message counts as delivered when it has come back. At QoS 0: the broker
// then keeps none of them for a client that is away, and NATS needs no consumer,
// which might have to find a new leader first. That the broker has stored the
// message is what its confirmation says.
type returns struct {
	mu      sync.Mutex
	topics  map[string]bool // that are read back on this connection
	waiting map[sent][]chan struct{}
	silent  time.Time // since when something is awaited and nothing comes; zero: nothing is
}

// sent is what identifies a message that was published: itself.
type sent struct{ topic, payload string }

func newReturns() *returns {
	return &returns{topics: map[string]bool{}, waiting: map[sent][]chan struct{}{}}
}

// read marks a topic as read back.
func (r *returns) read(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.topics[topic] = true
}

// await returns a channel that is closed when a message comes back; nil where
// that is not to be expected. It is called before the message leaves. forget
// ends the waiting.
func (r *returns) await(topic string, payload []byte) (back <-chan struct{}, forget func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.topics[topic] || len(topic)+len(payload) > maxReturned {
		return nil, func() {}
	}
	message, ch := sent{topic, string(payload)}, make(chan struct{})
	r.waiting[message] = append(r.waiting[message], ch)
	if r.silent.IsZero() {
		r.silent = time.Now()
	}
	return ch, func() { r.forget(message, ch) }
}

func (r *returns) forget(message sent, ch chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var others []chan struct{}
	for _, waiting := range r.waiting[message] {
		if waiting != ch {
			others = append(others, waiting)
		}
	}
	if r.waiting[message] = others; len(others) == 0 {
		delete(r.waiting, message)
	}
}

// arrived takes a message that the broker handed over. One that nobody waits for
// is a second copy, or somebody else's.
func (r *returns) arrived(topic string, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	message := sent{topic, string(payload)}
	if waiting := r.waiting[message]; len(waiting) > 0 {
		for _, ch := range waiting {
			close(ch)
		}
		if delete(r.waiting, message); len(r.waiting) > 0 {
			r.silent = time.Now()
		} else {
			r.silent = time.Time{}
		}
	}
}

// quiet returns for how long something has been awaited and nothing has come back.
func (r *returns) quiet() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent.IsZero() {
		return 0
	}
	return time.Since(r.silent)
}
