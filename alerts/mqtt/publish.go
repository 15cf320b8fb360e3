package mqtt

import (
	"context"
	"errors"
	"maps"

	"ichwatch/alerts"
)

// Publish sends e below [Client.Base] and returns nil when the broker has
// confirmed it and, where that is wanted, handed it back. Without a connection
// it waits for one.
func (c *Client) Publish(ctx context.Context, e alerts.Entry) error {
	s, err := c.wait(ctx)
	if err != nil {
		return err
	}
	err = s.publish(ctx, c.topic(e.Topic), e.Retain, e.Payload)
	switch {
	case err == nil:
		c.passedOn(e)
	case errors.Is(err, ErrNotReturned):
		return c.notPassedOn(e, "the MQTT broker confirms messages and does not pass them on", &advised{err, adviceNotReturned})
	case errors.Is(err, ErrConnectionLost) && c.lostAgain(e):
		return c.notPassedOn(e, "the MQTT broker ends the connection over a message", &advised{err, adviceDeadly})
	}
	return err
}

// passedOn notes that e is delivered. The fault of a topic is over when nothing
// is left that it does not take.
func (c *Client) passedOn(e alerts.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.losses, e.ID)
	if _, ok := c.stuck[e.ID]; !ok {
		return
	}
	delete(c.stuck, e.ID)
	for topic := range maps.Values(c.stuck) {
		if topic == e.Topic {
			return
		}
	}
	c.faults.clear(e.Topic)
}

// notPassedOn raises the fault of e's topic.
func (c *Client) notPassedOn(e alerts.Entry, what string, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck[e.ID] = e.Topic
	c.faults.raise(e.Topic, what, err, "topic", c.topic(e.Topic), "bytes", len(e.Payload))
	return err
}

// isStuck reports whether there are messages that the broker does not take.
func (c *Client) isStuck() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stuck) > 0
}

// manyLosses of the connection around one message, one after the other, are the
// message's fault.
const manyLosses = 5

// lostAgain counts the connections that were lost around e.
func (c *Client) lostAgain(e alerts.Entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.losses[e.ID]++
	return c.losses[e.ID] >= manyLosses
}

// wait returns the connection that stands, as soon as one does.
func (c *Client) wait(ctx context.Context) (*session, error) {
	for {
		s, changed := c.session()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
