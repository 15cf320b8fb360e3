package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"ichwatch/alerts"
)

const alertID = "a-wenwvaggtehut6un4tmq3cufze"

func TestStateAndPublish(t *testing.T) {
	_, addr := startMochi(t, nil)
	sub := subscribe(t, addr, "ichwatch/v1/north/ct1/#")
	c, stop := run(t, options("tcp://"+addr))

	m := receive(t, sub.messages)
	if state, boot := m.state(t); m.topic != "ichwatch/v1/north/ct1/state" || state != "online" || boot != 7 || !strings.Contains(m.payload, `"version":"0.1.0"`) {
		t.Errorf("first message %+v, want online, boot 7", m)
	}
	if err := c.Publish(t.Context(), alertEntry(1)); err != nil {
		t.Fatal(err)
	}
	if m = receiveAfter(t, sub.messages, m); m != (message{"ichwatch/v1/north/ct1/alert", `{"n":1}`, false}) {
		t.Errorf("got %+v", m)
	}
	if !c.Connected() {
		t.Error("not connected after a publication")
	}
	stop()
	m = receiveAfter(t, sub.messages, m)
	if m.payload != `{"schema":"ichwatch.state/v1","state":"offline","boot":7}` {
		t.Errorf("last message %+v, want offline", m)
	}
	if c.Connected() {
		t.Error("still connected after the end")
	}
	// And it is what a monitor that comes later finds.
	if m := receive(t, subscribe(t, addr, "ichwatch/v1/north/ct1/#").messages); !m.retained || !strings.Contains(m.payload, "offline") {
		t.Errorf("retained: %+v, want the state and nothing else", m)
	}
}

// receiveAfter takes the next message but for copies of the one before: QoS 1 is at
// least once.
func receiveAfter(t *testing.T, messages <-chan message, before message) message {
	t.Helper()
	m := receive(t, messages)
	for m.topic == before.topic && m.payload == before.payload {
		m = receive(t, messages)
	}
	return m
}

func TestPublishWaitsForAConnection(t *testing.T) {
	c, err := New(options("tcp://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Publish(ctx, alertEntry(1)) }()
	cancel()
	if err := receive(t, done); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
}

func TestHeartbeat(t *testing.T) {
	_, addr := startMochi(t, nil)
	sub := subscribe(t, addr, "+/+/+/+/health")
	o := options("tcp://" + addr)
	o.Heartbeat = 20 * time.Millisecond
	run(t, o)
	for range 3 {
		if m := receive(t, sub.messages); !strings.HasPrefix(m.payload, `{"schema":"ichwatch.health/v1","boot":7,"at":"`) || !strings.Contains(m.payload, `"interval_s":0.02`) {
			t.Errorf("got %+v", m)
		}
	}
}

func TestAcknowledgementRoundTrip(t *testing.T) {
	_, addr := startMochi(t, nil)
	got := make(chan alerts.Acknowledgement, 10)
	fails := make(chan error, 10)
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	o := options("tcp://" + addr)
	o.Now = func() time.Time { return now }
	o.Acknowledge = func(_ context.Context, a alerts.Acknowledgement) error {
		got <- a
		select {
		case err := <-fails:
			return err
		default:
			return nil
		}
	}
	sub := subscribe(t, addr, "ichwatch/v1/north/ct1/state")
	run(t, o)
	receive(t, sub.messages) // online, hence subscribed

	want := alerts.Acknowledgement{AlertID: alertID, By: "Dr. Ü", Comment: "called", At: now, Via: "mqtt"}
	payload := fmt.Appendf(nil, `{"alert_id":%q,"by":"Dr. Ü","comment":"called"}`, alertID)
	for _, err := range []error{nil, errDisk, alerts.ErrUnknownAlert, alerts.ErrAlreadyAcknowledged, alerts.ErrRetracted} {
		fails <- err
		sub.send(t, "ichwatch/v1/north/ct1/ack", payload)
		if a := receive(t, got); a != want {
			t.Errorf("got %+v, want %+v", a, want)
		}
		if errors.Is(err, errDisk) { // tried again, since the broker would not
			if a := receive(t, got); a != want {
				t.Errorf("again: got %+v, want %+v", a, want)
			}
		}
	}
}

// What somebody sends to the ack topic costs neither the connection nor the
// memory, and does not reach the log.
func TestPromise6_HostileAcknowledgements(t *testing.T) {
	_, addr := startMochi(t, nil)
	got := make(chan alerts.Acknowledgement, 1)
	log := new(logBuffer)
	o := options("tcp://" + addr)
	o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Acknowledge = func(_ context.Context, a alerts.Acknowledgement) error {
		got <- a
		return nil
	}
	sub := subscribe(t, addr, "ichwatch/v1/north/ct1/state")
	run(t, o)
	receive(t, sub.messages)

	const topic = "ichwatch/v1/north/ct1/ack"
	for _, hostile := range []string{
		"", "hello secret", `{"alert_id":"secret","by":"secret"}`, strings.Repeat("secret", 1<<20),
		`{"alert_id":"` + alertID + `","by":"x","at":"secret"}`, strings.Repeat("[", 1<<16),
	} {
		sub.send(t, topic, []byte(hostile))
	}
	sub.send(t, topic, fmt.Appendf(nil, `{"alert_id":%q,"by":"x"}`, alertID))
	if a := receive(t, got); a.AlertID != alertID {
		t.Errorf("got %+v", a)
	}
	if text := log.String(); strings.Contains(text, "secret") || strings.Count(text, "dropped a message") != 6 || strings.Contains(text, "lost the connection") {
		t.Errorf("log of six hostile messages on one connection:\n%s", text)
	}
}

// scriptedBroker answers CONNECT and then whatever answer says.
func scriptedBroker(t *testing.T, answer func(conn net.Conn, p packets.ControlPacket)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			for {
				p, err := packets.ReadPacket(conn)
				if err != nil {
					break
				}
				if _, ok := p.(*packets.ConnectPacket); ok {
					_, _ = conn.Write([]byte{0x20, 2, 0, 0}) // CONNACK: accepted
					continue
				}
				answer(conn, p)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); receive(t, done) })
	return ln.Addr().String()
}

// confirm answers PUBLISH with PUBACK, SUBSCRIBE with a grant.
func confirm(conn net.Conn, p packets.ControlPacket) {
	switch p := p.(type) {
	case *packets.PublishPacket:
		_, _ = conn.Write([]byte{0x40, 2, byte(p.MessageID >> 8), byte(p.MessageID)})
	case *packets.SubscribePacket:
		_, _ = conn.Write([]byte{0x90, 3, byte(p.MessageID >> 8), byte(p.MessageID), p.Qoss[0]})
	}
}

func TestPromise5_NothingIsDeliveredWithoutAConfirmation(t *testing.T) {
	t.Run("the broker keeps silent", func(t *testing.T) {
		addr := scriptedBroker(t, func(conn net.Conn, p packets.ControlPacket) {
			if pub, ok := p.(*packets.PublishPacket); !ok || !strings.HasSuffix(pub.TopicName, "/alert") {
				confirm(conn, p)
			}
		})
		o := options("tcp://" + addr)
		o.Timeout, o.ReadBack = 200*time.Millisecond, false
		c, _ := run(t, o)
		if err := c.Publish(t.Context(), alertEntry(1)); !errors.Is(err, ErrNotConfirmed) {
			t.Errorf("err = %v, want ErrNotConfirmed", err)
		}
	})
	t.Run("the connection breaks first", func(t *testing.T) {
		addr := scriptedBroker(t, func(conn net.Conn, p packets.ControlPacket) {
			if pub, ok := p.(*packets.PublishPacket); ok && strings.HasSuffix(pub.TopicName, "/alert") {
				_ = conn.Close()
				return
			}
			confirm(conn, p)
		})
		o := options("tcp://" + addr)
		o.ReadBack = false
		c, _ := run(t, o)
		if err := c.Publish(t.Context(), alertEntry(1)); !errors.Is(err, ErrConnectionLost) {
			t.Errorf("err = %v, want ErrConnectionLost", err)
		}
	})
}

// Told to stop while "online" is on its way, the client takes it back.
func TestStoppedBeforeOnlineIsConfirmed(t *testing.T) {
	states, more := make(chan string, 10), make(chan struct{})
	addr := scriptedBroker(t, func(conn net.Conn, p packets.ControlPacket) {
		if p, ok := p.(*packets.PublishPacket); ok {
			states <- string(p.Payload)
			if strings.Contains(string(p.Payload), stateOnline) {
				<-more
			}
		}
		confirm(conn, p)
	})
	o := options("tcp://" + addr)
	o.ReadBack = false
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if s := receive(t, states); !strings.Contains(s, stateOnline) {
		t.Errorf("said %s", s)
	}
	cancel()
	close(more)
	if s := receive(t, states); !strings.Contains(s, stateOffline) {
		t.Errorf("said %s last", s)
	}
	if err := receive(t, done); err != nil {
		t.Errorf("Run = %v", err)
	}
}

// A broker that lets nobody read gets the alerts all the same.
func TestPromise5_RefusedSubscriptions(t *testing.T) {
	addr := scriptedBroker(t, func(conn net.Conn, p packets.ControlPacket) {
		if s, ok := p.(*packets.SubscribePacket); ok {
			_, _ = conn.Write([]byte{0x90, 3, byte(s.MessageID >> 8), byte(s.MessageID), 0x80})
			return
		}
		confirm(conn, p)
	})
	log := new(logBuffer)
	o := options("tcp://" + addr)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	o.Acknowledge = func(context.Context, alerts.Acknowledgement) error { return nil }
	c, _ := run(t, o)
	if err := c.Publish(t.Context(), alertEntry(1)); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "level=ERROR") != 2 || !strings.Contains(text, "refused the subscription of ichwatch/v1/north/ct1/ack (return code 80H)") ||
		!strings.Contains(text, "refused the subscription of ichwatch/v1/north/ct1/alert") {
		t.Errorf("log:\n%s", text)
	}
	if about := faultsAbout(c); !slices.Equal(about, []string{AboutAcknowledgements, AboutReadBack}) {
		t.Errorf("faults about %v", about)
	}
}

func faultsAbout(c *Client) []string {
	var about []string
	for _, f := range c.Status().Faults {
		about = append(about, f.About)
	}
	return about
}

func TestOptionsAreChecked(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Options){
		"root":                func(o *Options) { o.Root = "" },
		"root must be":        func(o *Options) { o.Root = "a//b" },
		"site":                func(o *Options) { o.Site = "north/+" },
		"device":              func(o *Options) { o.Device = "ct\x00" },
		"tcp:// or tls://":    func(o *Options) { o.Brokers[0] = "http://x:1" },
		"host:port":           func(o *Options) { o.Brokers[0] = "tcp://" },
		"must not contain":    func(o *Options) { o.Brokers[0] = "tcp://user:s3cret@x:1" },
		"no such file":        func(o *Options) { o.Username, o.PasswordFile = "u", password+"x" },
		"a broker is missing": func(o *Options) { o.Brokers = nil },
		"or all with tls://":  func(o *Options) { o.Brokers = append(o.Brokers, "tls://y:1") },
		"needs a username":    func(o *Options) { o.PasswordFile = password },
		"authorities":         func(o *Options) { o.Brokers, o.CAFile = []string{"tls://x"}, password+"x" },
		"no PEM":              func(o *Options) { o.Brokers, o.CAFile = []string{"tls://x"}, password },
		"go together":         func(o *Options) { o.Brokers, o.KeyFile = []string{"tls://x"}, password },
		"whole seconds":       func(o *Options) { o.KeepAlive = time.Millisecond },
	} {
		o := options("tcp://x:1")
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: err = %v", name, err)
		}
	}
	all := options("nonsense")
	all.Root, all.Site, all.KeepAlive = "", "", 1
	if _, err := New(all); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("err = %v, want all four at once", err)
	}
	o := options("tls://broker.example")
	o.Username, o.PasswordFile = "u", password
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := c.o.password(); secret != "s3cret" || err != nil {
		t.Errorf("password = %q, %v", secret, err)
	}
	if c.brokers[0].Host != "broker.example:8883" || c.o.ClientID != "ichwatch-north-ct1" || c.Base() != "ichwatch/v1/north/ct1" {
		t.Errorf("host %s, client id %s, base %s", c.brokers[0].Host, c.o.ClientID, c.Base())
	}
}

// What a technician reads when the broker and the configuration do not fit.
func TestConnectErrorsSayWhatToDo(t *testing.T) {
	answering := func(answer ...byte) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = conn.Write(answer)
				_ = conn.Close()
			}
		}()
		t.Cleanup(func() { _ = ln.Close(); receive(t, done) })
		return ln.Addr().String()
	}
	for name, c := range map[string]struct{ broker, says string }{
		"not authorized":                 {"tcp://" + answering(0x20, 2, 0, 5), "alerts.mqtt.username and the content of alerts.mqtt.password_file"},
		"bad user name or password":      {"tcp://" + answering(0x20, 2, 0, 4), "alerts.mqtt.username and the content of alerts.mqtt.password_file"},
		"TLS to a port that hangs up":    {"tls://" + answering(), "no TLS at this port"},
		"TLS to a port that answers":     {"tls://" + answering(0x20, 2, 0, 1, 0), "no TLS at this port"},
		"a port that wants TLS, say":     {"tcp://" + answering(), "begins with tls://"},
		"the server is not available":    {"tcp://" + answering(0x20, 2, 0, 3), "server Unavailable"},
		"a port at which nobody listens": {"tcp://127.0.0.1:1", "connection refused"},
	} {
		client, err := New(options(c.broker))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.connect(t.Context(), client.brokers[0]); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: err = %v, want %q in it", name, err, c.says)
		}
	}
}

// Two devices of one name throw each other out for ever; the log says so.
func TestBriefConnectionsHintAtTheClientID(t *testing.T) {
	addr := scriptedBroker(t, func(conn net.Conn, p packets.ControlPacket) {
		confirm(conn, p) // "online", hence connected
		_ = conn.Close()
	})
	log := newWatchedLog("another client at the broker may have the same client_id")
	o := options("tcp://" + addr)
	o.MinRetry, o.ReadBack = time.Millisecond, false
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	run(t, o)
	receive(t, log.seen)
	if text := log.String(); strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "client_id=ichwatch-north-ct1") || !strings.Contains(text, "broker=tcp://"+addr) {
		t.Errorf("log:\n%s", text)
	}
}

// watchedLog tells when a text was written to it.
type watchedLog struct {
	logBuffer
	text string
	seen chan struct{}
	once sync.Once
}

func newWatchedLog(text string) *watchedLog {
	return &watchedLog{text: text, seen: make(chan struct{})}
}

func (l *watchedLog) Write(p []byte) (int, error) {
	n, err := l.logBuffer.Write(p)
	if strings.Contains(string(p), l.text) {
		l.once.Do(func() { close(l.seen) })
	}
	return n, err
}
