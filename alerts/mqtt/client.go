package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// What a fault may be about, beside the topics of messages.
const (
	AboutConnection       = "connection"
	AboutAcknowledgements = "acknowledgements"
	AboutReadBack         = "read_back"
)

// Status is how the client and its broker get on.
type Status struct {
	Broker    string         // that is connected or in turn
	Connected bool           // at this moment
	Since     time.Time      // Connected has been so; zero before the first connection
	Faults    []alerts.Fault // that stand, the oldest first
}

// Client keeps a connection to a broker. It implements [alerts.Publisher].
type Client struct {
	o       Options
	brokers []*url.URL
	faults  *alerts.Faults

	mu      sync.Mutex
	broker  string        // in turn
	current *session      // nil without a connection
	since   time.Time     // current has been nil, or not
	changed chan struct{} // closed and replaced when current changes

	failures map[int64]int    // in a row, of entries
	stuck    map[int64]string // topics of entries that the broker does not take
}

var _ alerts.Publisher = (*Client)(nil)

// New checks the options; it does not connect.
func New(o Options) (*Client, error) {
	o, brokers, err := o.complete()
	if err != nil {
		return nil, err
	}
	return &Client{
		o: o, brokers: brokers, broker: brokers[0].String(), changed: make(chan struct{}),
		failures: map[int64]int{}, stuck: map[int64]string{},
		faults: &alerts.Faults{Log: o.Log, Now: o.Now},
	}, nil
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

// Status tells how the client and the broker get on.
func (c *Client) Status() Status {
	connected := c.Connected()
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{Broker: c.broker, Connected: connected, Since: c.since, Faults: c.faults.List()}
}

const noConnection = "no connection to the MQTT broker; alerts wait in the outbox"

// Run connects, and connects again whenever the connection breaks, until ctx
// ends; then it says "offline", disconnects and returns nil. A broker that
// cannot be reached is a fault that is logged, and tried again after the others,
// at growing intervals.
func (c *Client) Run(ctx context.Context) error {
	r := newRotation(c.brokers, c.o.MinRetry, c.o.MaxRetry)
	for ctx.Err() == nil {
		broker := r.broker()
		c.turnTo(broker)
		began := time.Now()
		wasUp, err := c.runSession(ctx, broker, r)
		if ctx.Err() != nil {
			break
		}
		var stood time.Duration
		if wasUp {
			stood = time.Since(began)
		}
		wait := r.next(stood)
		c.lost(broker, r, wasUp, err)
		c.o.Log.Debug("connecting again to the MQTT broker", "after", wait, "next", r.broker().String())
		pause(ctx, wait)
	}
	return nil
}

// lost says that there is no connection to broker. One that stood for long may
// break, and one of several be away, without being a fault already.
func (c *Client) lost(broker *url.URL, r *rotation, wasUp bool, err error) {
	log := c.o.Log.With("broker", broker.String())
	attrs := []any{"broker", broker.String()}
	if wasUp && r.brief >= manyBrief {
		err = fmt.Errorf("%w: %w", errTooBrief, err)
		attrs = append(attrs, "client_id", c.o.ClientID)
	}
	if _, ok := errors.AsType[*alerts.Advised](err); !ok { // not from connect
		err = alerts.Advise(err, adviceForLoss(err))
	}
	switch {
	case r.brief > 0, r.gone(), c.faults.Stands(AboutConnection):
		c.faults.Raise(AboutConnection, noConnection, err, attrs...)
	case wasUp && c.isStuck():
		log.Debug("lost the connection to the MQTT broker over a message, as said; connecting again", "err", err)
	case wasUp:
		log.Warn("lost the connection to the MQTT broker; connecting again", "err", err)
	default:
		log.Warn("no connection to the MQTT broker at this address; trying the next one", "err", err)
	}
}

// runSession makes one connection and serves it to its end. wasUp tells whether
// it came to stand.
func (c *Client) runSession(ctx context.Context, broker *url.URL, r *rotation) (wasUp bool, err error) {
	s, err := c.connect(ctx, broker)
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

	if err := c.subscribe(ctx, s); err != nil {
		return false, err
	}
	online := c.state(stateOnline)
	returned, forget := s.returns.await(c.topic(topicState), online)
	defer forget()
	if err := s.confirm(ctx, c.topic(topicState), true, online); err != nil {
		if ctx.Err() != nil {
			c.farewell(ctx, s) // it is on its way
		}
		return false, err
	}
	c.greet(s, r)
	c.setSession(s)
	defer c.setSession(nil)
	return true, c.serve(ctx, s, r, returned)
}

// subscribe asks for acknowledgements, and for what is read back. What the
// broker refuses is a fault, and no reason to have no connection: alerts that
// escalate for want of an answer are better than none.
func (c *Client) subscribe(ctx context.Context, s *session) error {
	if c.o.Acknowledge != nil {
		switch err := s.subscribe(ctx, s.ack, 1); {
		case errors.Is(err, ErrRefused):
			c.faults.Raise(AboutAcknowledgements, "acknowledgements cannot be received over MQTT", alerts.Advise(err, "grant this user the right to read the topic, in the broker's access list"))
		case err != nil:
			return err
		default:
			c.faults.Clear(AboutAcknowledgements)
		}
	}
	if !c.o.ReadBack {
		return nil
	}
	var refused error
	for _, name := range []string{topicState, alerts.TopicAlert, alerts.TopicOutcome} {
		switch err := s.subscribe(ctx, c.topic(name), 0); {
		case errors.Is(err, ErrRefused):
			refused = errors.Join(refused, err)
		case err != nil:
			return err
		default:
			s.returns.read(c.topic(name))
		}
	}
	if refused != nil {
		c.faults.Raise(AboutReadBack, "nobody can say whether the MQTT broker passes messages on", alerts.Advise(refused, "grant this user the right to read the topic, or set alerts.mqtt.read_back: false"))
		return nil
	}
	c.faults.Clear(AboutReadBack)
	return nil
}

// greet says that the connection stands.
func (c *Client) greet(s *session, r *rotation) {
	if r.brief > 0 || c.isStuck() {
		return // said already, and about to be said again
	}
	c.o.Log.Info("connected to the MQTT broker", "broker", s.broker.String(), "base", c.Base())
	if !s.known && c.connectedBefore() {
		c.o.Log.Warn("the MQTT broker has forgotten this device's session: acknowledgements that were sent while it was away are lost; see to it that the broker keeps sessions (mosquitto: persistence true)", "broker", s.broker.String())
	}
}

// serve keeps s until it ends, and returns why it did; nil when ctx ended.
// returned is closed when "online" comes back; it may be nil.
func (c *Client) serve(ctx context.Context, s *session, r *rotation, returned <-chan struct{}) error {
	var beat, late <-chan time.Time
	if c.o.Heartbeat > 0 {
		t := time.NewTicker(c.o.Heartbeat)
		defer t.Stop()
		beat = t.C
		c.beat(ctx, s)
	}
	if returned != nil {
		t := time.NewTimer(c.o.Timeout)
		defer t.Stop()
		late = t.C
	}
	settled := time.NewTimer(r.settling())
	defer settled.Stop()
	for {
		select {
		case <-s.lost:
			return s.lostErr
		case <-settled.C:
			c.faults.Clear(AboutConnection)
		case <-returned:
			c.faults.Clear(topicState)
			returned, late = nil, nil
		case <-late:
			c.faults.Raise(topicState, "the MQTT broker confirms messages and does not pass them on", alerts.Advise(ErrNotReturned, adviceNotReturned), "topic", c.topic(topicState))
			late = nil
		case <-beat:
			c.beat(ctx, s)
		case <-ctx.Done():
			c.farewell(ctx, s)
			return nil
		}
	}
}

// farewell says that the device goes offline: the orderly DISCONNECT that follows
// discards the will.
func (c *Client) farewell(ctx context.Context, s *session) {
	if err := s.confirm(context.WithoutCancel(ctx), c.topic(topicState), true, c.state(stateOffline)); err != nil {
		c.o.Log.Warn("could not tell the MQTT broker that this device goes offline", "err", err)
	}
}

// beat publishes one heartbeat. A beat that fails is a beat that is missing,
// which is its meaning.
func (c *Client) beat(ctx context.Context, s *session) {
	if err := s.confirm(ctx, c.topic(topicHealth), true, c.health()); err != nil && ctx.Err() == nil {
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

// connectedBefore reports whether there has been a connection in this life.
func (c *Client) connectedBefore() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.since.IsZero()
}

func (c *Client) setSession(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.since = s, c.o.Now()
	close(c.changed)
	c.changed = make(chan struct{})
}

// turnTo notes which broker is in turn.
func (c *Client) turnTo(broker *url.URL) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broker = broker.String()
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
