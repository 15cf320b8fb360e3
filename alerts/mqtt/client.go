package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"ichwatch/alerts"
)

// Topics of this package's own, beside those of the outbox's entries.
const (
	topicState  = "state"
	topicHealth = "health"
	topicAck    = "ack"
)

// Schemas of the messages on those topics.
const (
	SchemaState  = "ichwatch.state/v1"
	SchemaHealth = "ichwatch.health/v1"
)

const (
	stateOnline  = "online"
	stateOffline = "offline"
)

// manyBrief connections in a row that break soon after they stood are no accident.
const manyBrief = 3

// Client keeps a connection to a broker. It implements [alerts.Publisher].
type Client struct {
	o      Options
	broker *url.URL

	mu      sync.Mutex
	current *session      // nil without a connection
	changed chan struct{} // closed and replaced when current changes
}

var _ alerts.Publisher = (*Client)(nil)

// New checks the options; it does not connect.
func New(o Options) (*Client, error) {
	o, broker, err := o.complete()
	if err != nil {
		return nil, err
	}
	return &Client{o: o, broker: broker, changed: make(chan struct{})}, nil
}

// Base returns <root>/v1/<site>/<device>, below which all topics stand.
func (c *Client) Base() string {
	return c.o.Root + "/v1/" + c.o.Site + "/" + c.o.Device
}

// Connected reports whether the broker can be reached at this moment.
func (c *Client) Connected() bool {
	s, _ := c.session()
	return s != nil
}

// Run connects, and connects again whenever the connection breaks, until ctx
// ends; then it says "offline", disconnects and returns nil. A broker that
// cannot be reached is logged and tried again, at growing intervals.
func (c *Client) Run(ctx context.Context) error {
	wait, brief := c.o.MinRetry, 0 // brief: connections in a row that broke soon
	for ctx.Err() == nil {
		began := time.Now()
		wasUp, err := c.runSession(ctx)
		if ctx.Err() != nil {
			break
		}
		// A connection that breaks at once, as when two devices share a client
		// id, is no better than none. Each of the two throws the other out after
		// its own wait, which is at most MaxRetry.
		switch {
		case wasUp && time.Since(began) > 2*c.o.MaxRetry:
			wait, brief = c.o.MinRetry, 0
		case wasUp:
			brief++
		}
		log := c.o.Log.With("broker", c.broker.String())
		if brief >= manyBrief {
			log = log.With("hint", "another client at the broker may have the same client_id (made of site and device where it is not set): give each device its own", "client_id", c.o.ClientID)
		}
		if wasUp {
			log.Warn("the connection to the MQTT broker broke; connecting again", "after", wait, "err", err)
		} else {
			log.Warn("cannot connect to the MQTT broker; alerts wait in the outbox", "again after", wait, "err", err)
		}
		pause(ctx, wait)
		wait = min(2*wait, c.o.MaxRetry)
	}
	return nil
}

// Publish sends e below [Client.Base] and returns nil when the broker has
// confirmed it. Without a connection it waits for one.
func (c *Client) Publish(ctx context.Context, e alerts.Entry) error {
	for {
		s, changed := c.session()
		if s != nil {
			return s.publish(ctx, c.topic(e.Topic), e.Retain, e.Payload)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// runSession makes one connection and serves it to its end. wasUp tells whether
// it came to stand.
func (c *Client) runSession(ctx context.Context) (wasUp bool, err error) {
	s, err := c.connect(ctx)
	if err != nil {
		return false, err
	}
	// Acknowledgements are recorded until the connection is closed; what comes
	// too late stays with the broker.
	inbound, stop := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() { c.readAcknowledgements(inbound, s) })
	defer reader.Wait()
	defer stop()
	defer s.close()

	if c.o.Acknowledge != nil {
		switch err := s.subscribe(ctx, c.topic(topicAck)); {
		case errors.Is(err, ErrRefused):
			// Alerts that escalate for want of an answer are better than none.
			c.o.Log.Error("acknowledgements cannot be received over MQTT", "err", err)
		case err != nil:
			return false, err
		}
	}
	if err := s.publish(ctx, c.topic(topicState), true, c.state(stateOnline)); err != nil {
		return false, err
	}
	c.setSession(s)
	defer c.setSession(nil)
	c.o.Log.Info("connected to the MQTT broker", "broker", c.broker.String(), "base", c.Base())

	var beat <-chan time.Time
	if c.o.Heartbeat > 0 {
		t := time.NewTicker(c.o.Heartbeat)
		defer t.Stop()
		beat = t.C
		c.beat(ctx, s)
	}
	for {
		select {
		case <-s.lost:
			return true, s.lostErr
		case <-beat:
			c.beat(ctx, s)
		case <-ctx.Done():
			// An orderly DISCONNECT discards the will, so say it ourselves.
			if err := s.publish(context.WithoutCancel(ctx), c.topic(topicState), true, c.state(stateOffline)); err != nil {
				c.o.Log.Warn("could not tell the MQTT broker that this device goes offline", "err", err)
			}
			return true, nil
		}
	}
}

// beat publishes one heartbeat. A beat that fails is a beat that is missing,
// which is its meaning.
func (c *Client) beat(ctx context.Context, s *session) {
	if err := s.publish(ctx, c.topic(topicHealth), true, c.health()); err != nil && ctx.Err() == nil {
		c.o.Log.Warn("heartbeat not confirmed", "err", err)
	}
}

// readAcknowledgements records what people answer, in order of arrival.
func (c *Client) readAcknowledgements(ctx context.Context, s *session) {
	for {
		select {
		case m := <-s.inbox:
			if c.acknowledge(ctx, m) {
				m.Ack()
			}
		case <-s.lost:
			return
		case <-ctx.Done():
			return
		}
	}
}

// acknowledge handles one message of the ack topic and reports whether it is
// dealt with. Nothing that it logs repeats what was received, save the id of an
// alert once it is known to be one.
func (c *Client) acknowledge(ctx context.Context, m paho.Message) bool {
	a, err := alerts.ParseAcknowledgement(m.Payload())
	if err != nil {
		c.o.Log.Warn("dropped a message on the ack topic", "size", len(m.Payload()), "err", err)
		return true
	}
	a.At, a.Via = c.o.Now(), "mqtt"
	log := c.o.Log.With("alert", a.AlertID)
	for wait := c.o.MinRetry; ; wait = min(2*wait, c.o.MaxRetry) {
		err := c.o.Acknowledge(ctx, a)
		switch {
		case err == nil:
			log.Info("alert acknowledged", "via", a.Via)
			return true
		case errors.Is(err, alerts.ErrAlreadyAcknowledged), errors.Is(err, alerts.ErrRetracted):
			log.Info("acknowledgement changed nothing", "via", a.Via, "err", err)
			return true
		case errors.Is(err, alerts.ErrUnknownAlert):
			log.Warn("acknowledgement of an unknown alert", "via", a.Via)
			return true
		}
		if ctx.Err() != nil {
			return false // the broker keeps it for the next connection
		}
		log.Error("cannot record an acknowledgement; trying again", "via", a.Via, "after", wait, "err", err)
		pause(ctx, wait)
	}
}

// session returns the connection that stands, or nil, and a channel that is
// closed when that changes.
func (c *Client) session() (*session, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && !c.current.isOpen() {
		return nil, c.changed // runSession is about to notice
	}
	return c.current, c.changed
}

func (c *Client) setSession(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = s
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) topic(name string) string { return c.Base() + "/" + name }

func (c *Client) state(state string) []byte {
	version := c.o.Version
	if state == stateOffline {
		version = "" // the will is written before anything happens; keep both offlines alike
	}
	return encode(struct {
		Schema  string `json:"schema"`
		State   string `json:"state"`
		Boot    uint64 `json:"boot"`
		Version string `json:"version,omitempty"`
	}{SchemaState, state, c.o.Boot, version})
}

func (c *Client) health() []byte {
	return encode(struct {
		Schema   string    `json:"schema"`
		Boot     uint64    `json:"boot"`
		At       time.Time `json:"at"`
		Interval float64   `json:"interval_s"`
		Version  string    `json:"version,omitempty"`
	}{SchemaHealth, c.o.Boot, c.o.Now().UTC().Truncate(time.Millisecond), c.o.Heartbeat.Seconds(), c.o.Version})
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // structs of strings and numbers always encode
	}
	return b
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
