package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Errors of a publication. After each of them the outbox sends again.
var (
	// ErrConnectionLost: the connection broke before the broker had confirmed.
	ErrConnectionLost = errors.New("the connection to the MQTT broker was lost")
	// ErrNotConfirmed: the broker did not confirm in time.
	ErrNotConfirmed = errors.New("the MQTT broker did not confirm in time")
	// ErrRefused: the broker refused a subscription.
	ErrRefused = errors.New("the MQTT broker refused the subscription")
)

// session is one connection to the broker, from CONNECT to its end.
type session struct {
	client  paho.Client
	timeout time.Duration

	conn net.Conn    // set while connecting
	keep func() bool // takes conn out of the reach of connecting's context

	lost    chan struct{} // closed when the connection is gone
	lostErr error         // why; to be read after lost
	once    sync.Once

	inbox chan paho.Message // what arrived on the ack topic
}

// connect opens a connection and returns when the broker has accepted it. ctx
// bounds the attempt, not the connection.
func (c *Client) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()

	s := &session{timeout: c.o.Timeout, lost: make(chan struct{}), inbox: make(chan paho.Message, 64)}
	password, err := c.o.password()
	if err != nil {
		return nil, err
	}
	options := paho.NewClientOptions().
		AddBroker(c.broker.String()).
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
	if err := token.Error(); err != nil {
		return nil, c.explain(err)
	}
	if !s.keep() {
		s.close()
		return nil, context.Cause(ctx)
	}
	return s, nil
}

// open dials the broker. Until s.keep is called, the end of ctx closes the connection.
func (s *session) open(ctx context.Context, c *Client) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.broker.Host)
	if err != nil {
		return nil, err
	}
	if overTLS(c.broker) {
		config, err := c.o.tlsConfig(c.broker.Hostname())
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

// explain adds to an error of connecting what a technician can do about it.
func (c *Client) explain(err error) error {
	_, foreign := errors.AsType[tls.RecordHeaderError](err)
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case errors.Is(err, packets.ErrorRefusedNotAuthorised), errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		return fmt.Errorf("%w: the broker does not take this login; compare alerts.mqtt.username and the content of alerts.mqtt.password_file with the broker's users", err)
	case overTLS(c.broker) && (foreign || closed):
		return fmt.Errorf("%w: there seems to be no TLS at this port of the broker; alerts.mqtt.broker needs its TLS port (8883 as a rule)", err)
	case !overTLS(c.broker) && closed:
		return fmt.Errorf("%w: the broker closed the connection instead of answering; where this is its TLS port, alerts.mqtt.broker begins with tls://", err)
	}
	return err
}

// publish returns nil when the broker has confirmed.
func (s *session) publish(ctx context.Context, topic string, retain bool, payload []byte) error {
	return s.wait(ctx, s.client.Publish(topic, 1, retain, payload))
}

// subscribe returns nil when the broker has granted QoS 1 on topic.
func (s *session) subscribe(ctx context.Context, topic string) error {
	token := s.client.Subscribe(topic, 1, nil)
	if err := s.wait(ctx, token); err != nil {
		return err
	}
	if granted := token.(*paho.SubscribeToken).Result()[topic]; granted != 1 {
		return fmt.Errorf("%w of %s (return code %02XH): grant this user read access to it", ErrRefused, topic, granted)
	}
	return nil
}

// wait waits for token, but not past the end of ctx, of the connection or of the time-out.
func (s *session) wait(ctx context.Context, token paho.Token) error {
	deadline := time.NewTimer(s.timeout)
	defer deadline.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-s.lost:
		return fmt.Errorf("%w: %w", ErrConnectionLost, s.lostErr)
	case <-deadline.C:
		return fmt.Errorf("%w (%v)", ErrNotConfirmed, s.timeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// receive takes a message from the library, which must not be kept waiting.
func (s *session) receive(m paho.Message) {
	select {
	case s.inbox <- m:
	default:
		// More than the broker should have under way. Without this
		// connection the broker keeps them, and sends them to the next one.
		_ = s.conn.Close()
	}
}

// lose marks the connection as gone.
func (s *session) lose(err error) {
	s.once.Do(func() {
		s.lostErr = err
		close(s.lost)
	})
}

// isOpen reports whether the connection stands.
func (s *session) isOpen() bool { return s.client.IsConnectionOpen() }

// close ends the connection with DISCONNECT; the will is not sent.
func (s *session) close() {
	s.client.Disconnect(uint(min(s.timeout, time.Second).Milliseconds()))
	s.lose(net.ErrClosed)
}
