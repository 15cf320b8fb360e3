package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"ichwatch/alerts"
)

// Errors of a publication. After each of them the outbox sends again.
var (
	// ErrConnectionLost: the connection broke before the broker had confirmed.
	ErrConnectionLost = errors.New("the connection to the MQTT broker was lost")
	// ErrNotConfirmed: the broker did not confirm in time.
	ErrNotConfirmed = errors.New("the MQTT broker did not confirm in time")
	// ErrNotReturned: the broker confirmed, and did not hand the message back.
	ErrNotReturned = errors.New("the MQTT broker did not hand the message back")
	// ErrRefused: the broker refused a subscription.
	ErrRefused = errors.New("the MQTT broker refused the subscription")
	// ErrNoAnswer: there is a connection, and no broker that answers in time.
	ErrNoAnswer = errors.New("no answer from the MQTT broker")
)

// session is one connection to the broker, from CONNECT to its end.
type session struct {
	client  paho.Client
	broker  *url.URL
	known   bool // the broker has kept what belongs to this client id
	timeout time.Duration

	conn net.Conn    // set while connecting
	keep func() bool // takes conn out of the reach of connecting's context

	lost    chan struct{} // closed when the connection is gone
	lostErr error         // why; to be read after lost
	once    sync.Once

	ack     string            // the topic of acknowledgements
	inbox   chan paho.Message // what arrived on it
	returns *returns
}

// connect opens a connection to broker and returns when it has accepted it. ctx
// bounds the attempt, not the connection.
func (c *Client) connect(ctx context.Context, broker *url.URL) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()

	s := &session{
		broker: broker, timeout: c.o.Timeout, lost: make(chan struct{}),
		ack: c.topic(topicAck), inbox: make(chan paho.Message, 64), returns: newReturns(),
	}
	password, err := c.o.password()
	if err != nil {
		return nil, alerts.Advise(err, "alerts.mqtt.password_file must be a file that the daemon can read")
	}
	options := paho.NewClientOptions().
		AddBroker(broker.String()).
		SetClientID(c.o.ClientID).
		SetUsername(c.o.Username).
		SetPassword(password).
		SetProtocolVersion(4). // 3.1.1, and no fallback to 3.1
		SetCleanSession(false).
		SetConnectRetry(false).
		SetAutoReconnect(false). // Client.Run does, with a new session
		SetAutoAckDisabled(true).
		SetKeepAlive(c.o.KeepAlive).
		SetPingTimeout(c.o.Timeout).
		SetConnectTimeout(c.o.Timeout).
		SetWriteTimeout(c.o.Timeout).
		SetBinaryWill(c.topic(topicState), c.state(stateOffline), 1, true).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return s.open(ctx, c) }).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { s.receive(m) }).
		SetConnectionLostHandler(func(_ paho.Client, err error) { s.lose(err) })
	s.client = paho.NewClient(options)

	token := s.client.Connect()
	<-token.Done() // within ctx: open ties the connection to it
	switch err := token.Error(); {
	case err != nil && s.conn != nil && (ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)):
		return nil, advise(fmt.Errorf("%w (%v)", ErrNoAnswer, c.o.Timeout), broker)
	case err != nil:
		return nil, advise(err, broker)
	}
	s.known = token.(*paho.ConnectToken).SessionPresent()
	if !s.keep() {
		s.close()
		return nil, context.Cause(ctx)
	}
	return s, nil
}

// open dials the broker. Until s.keep is called, the end of ctx closes the connection.
func (s *session) open(ctx context.Context, c *Client) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.broker.Host)
	if err != nil {
		return nil, err
	}
	if overTLS(s.broker) {
		config, err := c.o.tlsConfig(s.broker.Hostname())
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // what the handshake says is the cause
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = secured
	}
	s.conn = newBoundedConn(conn)
	s.keep = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return s.conn, nil
}

// publish returns nil when the broker has confirmed and, on a topic that is read
// back, has handed the message back.
func (s *session) publish(ctx context.Context, topic string, retain bool, payload []byte) error {
	back, forget := s.returns.await(topic, payload)
	defer forget()
	if err := s.confirm(ctx, topic, retain, payload); err != nil || back == nil {
		return err
	}
	err := s.wait(ctx, back, ErrNotReturned)
	if errors.Is(err, ErrNotReturned) && s.returns.quiet() > manyTimeouts*s.timeout {
		s.abandon(err) // nothing at all: another connection, or another broker, may do better
	}
	return err
}

// confirm publishes and returns nil when the broker has confirmed. A connection
// on which it does not is given up: what it has open there would be kept for ever.
func (s *session) confirm(ctx context.Context, topic string, retain bool, payload []byte) error {
	token := s.client.Publish(topic, 1, retain, payload)
	if err := s.wait(ctx, token.Done(), ErrNotConfirmed); err != nil {
		if errors.Is(err, ErrNotConfirmed) {
			s.abandon(err)
		}
		return err
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("%w: %w", ErrConnectionLost, err)
	}
	return nil
}

// manyTimeouts without a single message that came back are the connection's fault.
const manyTimeouts = 3

// subscribe returns nil when the broker has granted qos on topic.
func (s *session) subscribe(ctx context.Context, topic string, qos byte) error {
	token := s.client.Subscribe(topic, qos, nil)
	if err := s.wait(ctx, token.Done(), ErrNotConfirmed); err != nil {
		return err
	}
	if err := token.Error(); err != nil {
		return err
	}
	if granted := token.(*paho.SubscribeToken).Result()[topic]; granted != qos {
		return fmt.Errorf("%w of %s (return code %02XH): grant this user read access to it", ErrRefused, topic, granted)
	}
	return nil
}

// wait waits for done, but not past the end of ctx, of the connection or of the
// time-out, whose error is late.
func (s *session) wait(ctx context.Context, done <-chan struct{}, late error) error {
	deadline := time.NewTimer(s.timeout)
	defer deadline.Stop()
	select {
	case <-done:
		return nil
	case <-s.lost:
		return fmt.Errorf("%w: %w", ErrConnectionLost, s.lostErr)
	case <-deadline.C:
		return fmt.Errorf("%w (%v)", late, s.timeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// receive takes a message from the library, which must not be kept waiting.
func (s *session) receive(m paho.Message) {
	if m.Topic() != s.ack {
		if !m.Retained() { // what was said at another time is no answer
			s.returns.arrived(m.Topic(), m.Payload())
		}
		m.Ack()
		return
	}
	select {
	case s.inbox <- m:
	default:
		// More than the broker should have under way. Without this
		// connection the broker keeps them, and sends them to the next one.
		_ = s.conn.Close()
	}
}

// abandon ends the connection as the loss of it would.
func (s *session) abandon(why error) {
	s.lose(why)
	_ = s.conn.Close() // for the sake of the library, which notices
}

// lose marks the connection as gone.
func (s *session) lose(err error) {
	s.once.Do(func() {
		s.lostErr = err
		close(s.lost)
	})
}

// isOpen reports whether the connection stands.
func (s *session) isOpen() bool {
	select {
	case <-s.lost:
		return false
	default:
		return s.client.IsConnectionOpen()
	}
}

// close ends the connection with DISCONNECT; the will is not sent.
func (s *session) close() {
	s.client.Disconnect(uint(min(s.timeout, time.Second).Milliseconds()))
	s.lose(net.ErrClosed)
}
