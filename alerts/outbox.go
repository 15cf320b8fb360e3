package alerts

import (
	"context"
	"encoding/json"
	"time"
)

// Topics of entries. A Publisher prepends what names the site and the device.
const (
	TopicAlert   = "alert"
	TopicOutcome = "outcome"
)

// Entry is one message in the outbox.
type Entry struct {
	ID        int64  // the outbox's own, growing
	Channel   string // the [Channel] that it is for; empty: the broker
	Key       string // the study's pseudonym; order is kept among the entries of a key
	Topic     string // TopicAlert or TopicOutcome
	Payload   []byte // JSON
	QoS       byte   // MQTT quality of service, 1
	Retain    bool   // false: a stale alarm is a hazard
	Attempts  int    // failed so far
	CreatedAt time.Time
}

func newEntry(key, topic string, m json.Marshaler) (Entry, error) {
	payload, err := json.Marshal(m)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Key: key, Topic: topic, Payload: payload, QoS: 1}, nil
}

// Outbox holds messages from the transaction that decided them until a
// publisher has confirmed them. It survives a power cut. It is that of one
// channel: where there are several, each has an Outbox of its own entries.
type Outbox interface {
	// PendingMessages returns at most limit entries that may be sent at now:
	// of every key only the oldest undelivered entry (so that order is kept by
	// construction), and that one only if its last failure's next time has
	// come. Alerts stand before everything else, then the entry with the
	// fewest attempts, then the oldest: a key that keeps failing cannot starve
	// the others.
	PendingMessages(ctx context.Context, now time.Time, limit int) ([]Entry, error)

	// MessageDelivered removes the entry from the pending ones. For an alert it
	// is [EventConfirm], and a message of type new or escalate starts the
	// clock of its level (OpenAlert.Since), on whichever channel it is first
	// confirmed. It must be durable on return.
	MessageDelivered(ctx context.Context, id int64, at time.Time) error

	// MessageFailed counts an attempt and keeps the entry back until next.
	MessageFailed(ctx context.Context, id int64, reason string, next time.Time) error

	// MessagesAdded is signalled after entries were committed. It has capacity
	// one: a signal means "look", not "one".
	MessagesAdded() <-chan struct{}
}

// Publisher takes an entry to its receivers.
type Publisher interface {
	// Publish returns nil only when the broker has confirmed the entry. It may
	// wait for a connection as long as ctx lives, and bounds by itself the wait
	// for the confirmation. It is called for several entries at a time.
	Publish(ctx context.Context, e Entry) error
}
