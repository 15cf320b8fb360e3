package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ichwatch/alerts"
)

// outbox is an alerts.Outbox in memory; the spool's is tested in its own package.
type outbox struct {
	mu      sync.Mutex
	entries []alerts.Entry
	added   chan struct{}
	empty   chan struct{} // closed when everything is delivered
}

func newOutbox(n int) *outbox {
	o := &outbox{added: make(chan struct{}, 1), empty: make(chan struct{})}
	for i := range n {
		id := int64(i + 1)
		o.entries = append(o.entries, alerts.Entry{
			ID: id, Key: fmt.Sprintf("s-%d", i%5), Topic: alerts.TopicAlert, QoS: 1,
			Payload: fmt.Appendf(nil, `{"alert_id":%q,"seq":1}`, alerts.ID("ct1", fmt.Sprint(id), 1)),
		})
	}
	return o
}

func (o *outbox) PendingMessages(_ context.Context, _ time.Time, limit int) ([]alerts.Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	heads := map[string]bool{}
	var due []alerts.Entry
	for _, e := range o.entries {
		if !heads[e.Key] && len(due) < limit {
			due = append(due, e)
		}
		heads[e.Key] = true
	}
	return due, nil
}

func (o *outbox) MessageDelivered(_ context.Context, id int64, _ time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.entries = slices.DeleteFunc(o.entries, func(e alerts.Entry) bool { return e.ID == id })
	if len(o.entries) == 0 {
		close(o.empty)
	}
	return nil
}

func (o *outbox) MessageFailed(context.Context, int64, string, time.Time) error { return nil }
func (o *outbox) MessagesAdded() <-chan struct{}                                { return o.added }

func carry(t *testing.T, o *outbox, c *Client) {
	t.Helper()
	courier := &alerts.Courier{Outbox: o, Publisher: c, Log: slog.New(slog.DiscardHandler), Poll: 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- courier.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, done); err != nil {
			t.Errorf("Courier.Run = %v", err)
		}
	})
}

// expectAll waits until every entry of an outbox of n has arrived.
func expectAll(t *testing.T, n int, seen map[string]int, messages <-chan message) {
	t.Helper()
	for i := range n {
		want := fmt.Sprintf(`{"alert_id":%q,"seq":1}`, alerts.ID("ct1", fmt.Sprint(i+1), 1))
		for seen[want] == 0 {
			seen[receive(t, messages).payload]++
		}
	}
	if len(seen) != n {
		t.Errorf("%d different messages arrived, want %d", len(seen), n)
	}
}

func TestPromise5_WillOnKill(t *testing.T) {
	broker := startMosquitto(t, freeAddr(t))
	sub := subscribe(t, broker.addr, "ichwatch/v1/north/ct1/state")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "ICHWATCH_TEST_MQTT_VICTIM=tcp://"+broker.addr)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if state, boot := receive(t, sub.messages).state(t); state != "online" || boot != 7 {
		t.Errorf("state %s, boot %d; want online, 7", state, boot)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if state, boot := receive(t, sub.messages).state(t); state != "offline" || boot != 7 {
		t.Errorf("state %s, boot %d; want offline, 7", state, boot)
	}
	late := receive(t, subscribe(t, broker.addr, "ichwatch/v1/north/ct1/state").messages)
	if state, _ := late.state(t); state != "offline" || !late.retained {
		t.Errorf("%+v; want offline retained", late)
	}
}

func TestPromise5_BrokerDownAtStart(t *testing.T) {
	addr := freeAddr(t)
	gate := newGate(t, addr) // closed until the subscriber is there
	gate.set(false)
	c, _ := run(t, options("tcp://"+gate.addr()))
	const n = 20
	box := newOutbox(n)
	carry(t, box, c)
	if c.Connected() {
		t.Fatal("connected to a broker that is not there")
	}
	startMosquitto(t, addr)
	sub := subscribe(t, addr, "ichwatch/v1/north/ct1/alert")
	gate.set(true)
	expectAll(t, n, map[string]int{}, sub.messages)
	receive(t, box.empty)
}

func TestPromise5_BrokerKilledAndRestarted(t *testing.T) {
	addr := freeAddr(t)
	broker := startMosquitto(t, addr)
	gate := newGate(t, addr)
	sub := subscribe(t, addr, "ichwatch/v1/north/ct1/alert")
	c, _ := run(t, options("tcp://"+gate.addr()))
	const n = 400
	box := newOutbox(n)
	carry(t, box, c)

	seen := map[string]int{}
	for range n / 4 {
		seen[receive(t, sub.messages).payload]++
	}
	gate.set(false)
	broker.kill()
	select {
	case <-box.empty:
		t.Fatal("everything was delivered before the broker died: the test needs more entries")
	default:
	}
	// What had reached the subscriber by then counts; then a new life.
	for len(sub.messages) > 0 {
		seen[receive(t, sub.messages).payload]++
	}
	startMosquitto(t, addr)
	again := subscribe(t, addr, "ichwatch/v1/north/ct1/alert")
	gate.set(true)
	receive(t, box.empty)
	both := make(chan message, 2*n)
	go func() {
		for m := range again.messages {
			both <- m
		}
	}()
	t.Cleanup(func() { close(again.messages) })
	for len(sub.messages) > 0 {
		both <- receive(t, sub.messages)
	}
	expectAll(t, n, seen, both)
}

// An acknowledgement that is sent while the device is away is waiting when it returns.
func TestPromise5_AcknowledgementWaitsForTheDevice(t *testing.T) {
	broker := startMosquitto(t, freeAddr(t))
	got := make(chan alerts.Acknowledgement, 1)
	o := options("tcp://" + broker.addr)
	o.Acknowledge = func(_ context.Context, a alerts.Acknowledgement) error {
		got <- a
		return nil
	}
	sub := subscribe(t, broker.addr, "ichwatch/v1/north/ct1/state")
	_, stop := run(t, o)
	receive(t, sub.messages)
	stop()
	receive(t, sub.messages)

	peer := exec.Command(requirePeer(t, "mosquitto_pub"), "-h", "127.0.0.1", "-p", broker.addr[strings.LastIndex(broker.addr, ":")+1:],
		"-q", "1", "-t", "ichwatch/v1/north/ct1/ack", "-m", fmt.Sprintf(`{"alert_id":%q,"by":"on call"}`, alertID))
	if out, err := peer.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
	run(t, o)
	if a := receive(t, got); a.AlertID != alertID || a.By != "on call" || a.Via != "mqtt" {
		t.Errorf("got %+v", a)
	}
}

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	users, password := filepath.Join(dir, "users"), filepath.Join(dir, "password")
	if out, err := exec.Command(requirePeer(t, "mosquitto_passwd"), "-b", "-c", users, "ichwatch", "s3cret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v\n%s", err, out)
	}
	if err := os.Chmod(users, 0o644); err != nil { // mosquitto drops its privileges first
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	broker := startMosquitto(t, freeAddr(t), "allow_anonymous false", "password_file "+users)
	if err := os.WriteFile(password, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(logBuffer)
	o := options("tcp://" + broker.addr)
	o.Username, o.PasswordFile, o.Log = "ichwatch", password, slog.New(slog.NewTextHandler(log, nil))
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.connect(t.Context(), c.brokers[0]); err == nil {
		t.Fatal("connected with a wrong password")
	}
	// Corrected while the daemon runs.
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ = run(t, o)
	if err := c.Publish(t.Context(), alertEntry(1)); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the password is in the log:\n%s", log)
	}
}
