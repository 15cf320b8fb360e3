package mqtt

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"ichwatch/alerts"
)

// patience is how long a test waits for something that should happen.
const patience = time.Minute

func TestMain(m *testing.M) {
	if broker := os.Getenv("ICHWATCH_TEST_MQTT_VICTIM"); broker != "" {
		victim(broker)
		return
	}
	goleak.VerifyTestMain(m)
}

// logBuffer is a log that a test can read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func options(broker string) Options {
	return Options{
		Brokers: []string{broker}, Root: "ichwatch", Site: "north", Device: "ct1", Boot: 7, Version: "0.1.0", ReadBack: true,
		MinRetry: 20 * time.Millisecond, MaxRetry: 100 * time.Millisecond, Timeout: 5 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

// run starts a client; stop ends it in order.
func run(t *testing.T, o Options) (c *Client, stop func()) {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	stop = func() {
		t.Helper()
		once.Do(func() {
			cancel()
			if err := receive(t, done); err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return c, stop
}

// receive waits for what comes out of ch.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came within %v", patience)
		panic("unreachable")
	}
}

// message is what a subscriber saw.
type message struct {
	topic    string
	payload  string
	retained bool
}

func (m message) state(t *testing.T) (state string, boot uint64) {
	t.Helper()
	var v struct {
		Schema, State string
		Boot          uint64
	}
	if err := json.Unmarshal([]byte(m.payload), &v); err != nil || v.Schema != SchemaState {
		t.Fatalf("%+v is no state: %v", m, err)
	}
	return v.State, v.Boot
}

// subscriber is a client of a broker that is not under test.
type subscriber struct {
	paho.Client
	messages chan message
}

func subscribe(t *testing.T, addr, filter string) *subscriber {
	t.Helper()
	return subscribeAt(t, 1, addr, filter)
}

func subscribeAt(t *testing.T, qos byte, addr, filter string) *subscriber {
	t.Helper()
	s := &subscriber{messages: make(chan message, 1000)}
	s.Client = paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + addr).SetAutoReconnect(false).SetClientID(fmt.Sprintf("sub-%p", s)))
	if token := s.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("connect to %s: %v", addr, token.Error())
	}
	token := s.Subscribe(filter, qos, func(_ paho.Client, m paho.Message) {
		s.messages <- message{m.Topic(), string(m.Payload()), m.Retained()}
	})
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("subscribe to %s: %v", filter, token.Error())
	}
	t.Cleanup(func() { s.Disconnect(100) })
	return s
}

func (s *subscriber) send(t *testing.T, topic string, payload []byte) {
	t.Helper()
	if token := s.Publish(topic, 1, false, payload); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("publish to %s: %v", topic, token.Error())
	}
}

// allowAll lets everybody into an embedded broker.
type allowAll struct{ mochi.HookBase }

func (*allowAll) ID() string { return "allow-all" }
func (*allowAll) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (*allowAll) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*allowAll) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// startMochi runs an embedded broker for as long as the test.
func startMochi(t *testing.T, tlsConfig *tls.Config) (server *mochi.Server, addr string) {
	t.Helper()
	server = mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(allowAll), nil); err != nil {
		t.Fatal(err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0", TLSConfig: tlsConfig})
	if err := server.AddListener(listener); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server, listener.Address()
}

// mosquitto is a real broker in a process of its own.
type mosquitto struct {
	addr string
	cmd  *exec.Cmd
	log  *logBuffer
}

// requirePeer returns the path of a peer program; without it the test is
// skipped or, where peers are required, failed.
func requirePeer(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		if path := filepath.Join(dir, name); dir != "" {
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				return path
			}
		}
	}
	if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
		t.Fatalf("%s is not installed, and ICHWATCH_REQUIRE_PEERS is set: install the package of that name", name)
	}
	t.Skipf("%s is not installed", name)
	panic("unreachable")
}

// freeAddr returns an address on loopback that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// startMosquitto starts a broker on addr with lines added to its configuration
// and returns when it takes connections.
func startMosquitto(t *testing.T, addr string, lines ...string) *mosquitto {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) == 0 {
		lines = []string{"allow_anonymous true"}
	}
	return startMosquittoWith(t, addr, fmt.Sprintf("listener %s %s\npersistence false\n%s\n", port, host, strings.Join(lines, "\n")), 0)
}

// startMosquittoWith starts a broker with a whole configuration, which has it
// listen on addr, and returns when it takes connections there. fileLimit, in
// blocks of 512 bytes, is what it can write into a file; 0: as much as it wants.
func startMosquittoWith(t *testing.T, addr, configuration string, fileLimit int) *mosquitto {
	t.Helper()
	program := requirePeer(t, "mosquitto")
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(config, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &mosquitto{addr: addr, cmd: exec.Command(program, "-c", config), log: new(logBuffer)}
	if fileLimit > 0 { // as a full disk; without the signal that would kill it
		m.cmd = exec.Command("sh", "-c", `trap "" XFSZ; ulimit -f $2; exec "$0" -c "$1"`, program, config, strconv.Itoa(fileLimit))
	}
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	if !dialUntil(addr, patience) {
		t.Fatalf("mosquitto does not listen on %s:\n%s", addr, m.log)
	}
	return m
}

// kill ends the broker as a power cut does.
func (m *mosquitto) kill() {
	if m.cmd.ProcessState == nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
	}
}

func dialUntil(addr string, limit time.Duration) bool {
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-retry.C {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return true
		}
	}
	return false
}

// victim is the process that a test kills: it connects, says so, and waits.
func victim(broker string) {
	o := options(broker)
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	c, err := New(o)
	if err != nil {
		panic(err)
	}
	if err := c.Run(context.Background()); err != nil {
		panic(err)
	}
}

var errDisk = errors.New("disk I/O error")

func alertEntry(id int64) alerts.Entry {
	return alerts.Entry{ID: id, Key: "s-key", Topic: alerts.TopicAlert, Payload: fmt.Appendf(nil, `{"n":%d}`, id), QoS: 1}
}
