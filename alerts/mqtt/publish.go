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
	case errors.Is(err, ErrNotReturned) && c.failed(e) >= manyReturns:
		return c.notPassedOn(e, "the MQTT broker confirms messages and does not pass them on", alerts.Advise(err, adviceNotReturned))
	case errors.Is(err, ErrConnectionLost) && c.failed(e) >= manyLosses:
		return c.notPassedOn(e, "the MQTT broker ends the connection over a message", alerts.Advise(err, adviceDeadly))
	}
	return err
}

// How often in a row a message must have failed for the fault to be seen in the
// broker's rules and not in a node that was just changing places (NATS needs some
// seconds for that), or in other messages on the same connection.
const (
	manyReturns = 2 // did not come back
	manyLosses  = 5 // the connection was lost
)

// failed counts how often in a row e was not delivered.
func (c *Client) failed(e alerts.Entry) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures[e.ID]++
	return c.failures[e.ID]
}

// passedOn notes that e is delivered. The fault of a topic is over when nothing
// is left that it does not take.
func (c *Client) passedOn(e alerts.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.failures, e.ID)
	if _, ok := c.stuck[e.ID]; !ok {
		return
	}
	delete(c.stuck, e.ID)
	for topic := range maps.Values(c.stuck) {
		if topic == e.Topic {
			return
		}
	}
	c.faults.Clear(e.Topic)
}

// notPassedOn raises the fault of e's topic.
func (c *Client) notPassedOn(e alerts.Entry, what string, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck[e.ID] = e.Topic
	c.faults.Raise(e.Topic, what, err, "topic", c.topic(e.Topic), "bytes", len(e.Payload))
	return err
}

// isStuck reports whether there are messages that the broker does not take.
func (c *Client) isStuck() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stuck) > 0
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
