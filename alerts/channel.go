package alerts

import (
	"context"
	"slices"
	"sync"
)

// Channel is a way out beside the broker: a webhook, e-mail. It has entries of its
// own in the outbox, its own [Courier], and so its own order and retries: one
// that fails delays no other. Channel is the Publisher of that courier. It says in
// Faults, under its name, that its messages do not get through, until all have
// that did not.
type Channel struct {
	Name      string // in the outbox, and in messages to technicians
	Publisher Publisher
	Faults    *Faults

	mu      sync.Mutex
	failing map[int64]bool // entries
}

var _ Publisher = (*Channel)(nil)

// Publish implements Publisher. The first failure of a message is no fault yet.
func (c *Channel) Publish(ctx context.Context, e Entry) error {
	err := c.Publisher.Publish(ctx, e)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		if delete(c.failing, e.ID); len(c.failing) == 0 {
			c.Faults.Clear(c.Name)
		}
	case ctx.Err() == nil && e.Attempts > 0:
		if c.failing == nil {
			c.failing = map[int64]bool{}
		}
		c.failing[e.ID] = true
		c.Faults.Raise(c.Name, "messages do not get through", err, "topic", e.Topic)
	}
	return err
}

// Route says what a channel is told. The zero value tells it of nothing.
type Route struct {
	Channel  string    // Channel.Name
	Alerts   []Type    // messages about alerts
	Outcomes []Outcome // of studies; FAILED for whoever minds the device, say
	// UIDs lets a study and its key image be named by their UIDs. Off, they stay on
	// the device and a pseudonym stands for the study.
	UIDs bool
}

// Alert returns the entry, without its ID, that tells the channel of m; ok is
// false where it is not to be told. pseudonym is the study's and the entry's key.
func (r Route) Alert(m Message, pseudonym string) (e Entry, ok bool, err error) {
	if !slices.Contains(r.Alerts, m.Type) {
		return Entry{}, false, nil
	}
	if !r.UIDs {
		m.Study, m.KeyImage, m.KeyFrame = Study{Pseudonym: pseudonym}, "", 0
	}
	e, err = m.Entry(pseudonym)
	e.Channel = r.Channel
	return e, err == nil, err
}

// Outcome returns the entry that tells the channel of m, as Alert does.
func (r Route) Outcome(m OutcomeMessage, pseudonym string) (e Entry, ok bool, err error) {
	if !slices.Contains(r.Outcomes, m.Outcome) {
		return Entry{}, false, nil
	}
	if !r.UIDs {
		m.Study = Study{Pseudonym: pseudonym}
	}
	e, err = m.Entry(pseudonym)
	e.Channel = r.Channel
	return e, err == nil, err
}
