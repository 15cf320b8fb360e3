package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"ichwatch/alerts"
	"ichwatch/dimse/dimsetest"
)

// natsNode is a NATS server with JetStream and its MQTT gateway.
type natsNode struct {
	t       *testing.T
	program string
	config  string
	mqtt    string // address of the gateway
	monitor string // address of its HTTP monitor
	cmd     *exec.Cmd
	log     *logBuffer
}

// natsUsers are what the handbook tells to configure; the subjects of NATS have
// dots where topics have slashes.
const natsUsers = `
authorization {
  users = [
    { user: ichwatch, password: s3cret, allowed_connection_types: ["MQTT"], permissions: {
      publish: ["ichwatch.v1.north.ct1.alert", "ichwatch.v1.north.ct1.outcome", "ichwatch.v1.north.ct1.state"]
      subscribe: ["ichwatch.v1.north.ct1.alert", "ichwatch.v1.north.ct1.outcome", "ichwatch.v1.north.ct1.state", "ichwatch.v1.north.ct1.ack", "$MQTT.sub.>"] } }
    { user: oncall, password: s3cret, allowed_connection_types: ["MQTT"], permissions: {
      publish: ["ichwatch.v1.north.ct1.ack"]
      subscribe: ["ichwatch.v1.north.ct1.alert", "ichwatch.v1.north.ct1.outcome", "ichwatch.v1.north.ct1.state", "$MQTT.sub.>"] } }
  ]
}
`

// newNATS configures a cluster of n nodes; store is added to what each says of
// JetStream, extra to the whole.
func newNATS(t *testing.T, n int, users, store, extra string) []*natsNode {
	t.Helper()
	program := dimsetest.Installed(t, "nats-server")
	// With more than one message at a time on its way to a receiver, one whose
	// node dies gets what it had not yet confirmed after ack_wait, behind later
	// messages (against MQTT 3.1.1 section 4.6).
	var nodes []*natsNode
	var routes, clusters []string
	for range n {
		clusters = append(clusters, freeAddr(t))
		routes = append(routes, "nats-route://"+clusters[len(clusters)-1])
	}
	for i := range n {
		dir := t.TempDir()
		node := &natsNode{t: t, program: program, config: filepath.Join(dir, "nats.conf"), mqtt: freeAddr(t), monitor: freeAddr(t)}
		text := fmt.Sprintf("server_name: n%d\nlisten: %s\nhttp: %s\njetstream { store_dir: %q, %s }\nmqtt { listen: %s, ack_wait: 2s, max_ack_pending: 1 }\n%s\n%s\n",
			i+1, freeAddr(t), node.monitor, dir, store, node.mqtt, users, extra)
		if n > 1 {
			text += fmt.Sprintf("cluster { name: alerts, listen: %s, routes: [%s] }\n", clusters[i], strings.Join(routes, ", "))
		}
		if err := os.WriteFile(node.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, node)
	}
	return nodes
}

func (n *natsNode) start() {
	n.t.Helper()
	n.cmd, n.log = exec.Command(n.program, "-c", n.config), new(logBuffer)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.kill)
}

// kill ends the node as a power cut does.
func (n *natsNode) kill() {
	if n.cmd.ProcessState == nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	}
}

// awaitReady waits until the node says that it is part of the cluster and has
// caught up with it.
func (n *natsNode) awaitReady() {
	n.t.Helper()
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for deadline := time.Now().Add(2 * patience); ; <-retry.C {
		rsp, err := client.Get("http://" + n.monitor + "/healthz")
		if err == nil {
			_ = rsp.Body.Close()
			if rsp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("the node is not ready: %v; log:\n%s", err, n.log)
		}
	}
}

func startNATS(t *testing.T, n int, users, store, extra string) []*natsNode {
	t.Helper()
	nodes := newNATS(t, n, users, store, extra)
	for _, node := range nodes {
		node.start()
	}
	for _, node := range nodes {
		node.awaitReady()
	}
	return nodes
}

// onCall is a receiver as the handbook wants it: QoS 1, a session that stays, all
// nodes known to it.
func onCall(t *testing.T, nodes []*natsNode, user string, arrived func(payload []byte)) {
	t.Helper()
	o := paho.NewClientOptions().SetClientID("oncall").SetCleanSession(false).SetUsername(user).SetPassword("s3cret").
		SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond).SetMaxReconnectInterval(200 * time.Millisecond).
		SetConnectTimeout(5 * time.Second).SetKeepAlive(2 * time.Second).SetPingTimeout(2 * time.Second).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { arrived(m.Payload()) })
	for _, n := range nodes {
		o.AddBroker("tcp://" + n.mqtt)
	}
	c := paho.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(2*patience) || token.Error() != nil {
		t.Fatalf("connect the receiver: %v", token.Error())
	}
	if token := c.Subscribe("ichwatch/v1/north/ct1/alert", 1, nil); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("subscribe the receiver: %v", token.Error())
	}
	t.Cleanup(func() { c.Disconnect(100) })
}

// newNATSSite is a device at a cluster.
func newNATSSite(t *testing.T, nodes []*natsNode, user string) *site {
	t.Helper()
	s := &site{T: t, studies: newStudies(), log: new(logBuffer)}
	onCall(t, nodes, map[string]string{"ichwatch": "oncall"}[user], s.receiver(t))
	s.options = options("")
	s.options.Brokers = nil
	for _, n := range nodes {
		s.options.Brokers = append(s.options.Brokers, "tcp://"+n.mqtt)
	}
	s.options.Acknowledge = func(context.Context, alerts.Acknowledgement) error { return nil }
	s.options.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if user != "" {
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte("s3cret"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.options.Username, s.options.PasswordFile = user, password
	}
	return s
}

// connectedTo returns the node that holds the device's connection.
func (s *site) connectedTo(nodes []*natsNode) *natsNode {
	s.Helper()
	for _, n := range nodes {
		if status := s.client.Status(); status.Connected && status.Broker == "tcp://"+n.mqtt {
			return n
		}
	}
	s.Fatalf("connected to none of the nodes: %+v", s.client.Status())
	return nil
}

// TestPromise5_NATSCluster kills nodes of a JetStream cluster, with messages in
// mid-stream through its MQTT gateway. Every message arrives, at least once, under
// the same id, in order within its study; alarms, if any, are over in the end.
func TestPromise5_NATSCluster(t *testing.T) {
	t.Parallel()
	nodes := startNATS(t, 3, natsUsers, "", "")
	s := newNATSSite(t, nodes, "ichwatch")
	s.alert()

	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "step\tdecided\tarrived\tcopies\tall there after\tdevice then at\talarms so far")
	name := func(n *natsNode) string { return fmt.Sprintf("n%d", slices.Index(nodes, n)+1) }
	stream := func(step string, strike func()) {
		t.Helper()
		for range 10 {
			s.decide(t, 0, wards...)
		}
		s.await(t, s.total()+10, wards...)
		began := time.Now()
		strike()
		s.await(t, s.decidedOf(wards...), wards...)
		took := time.Since(began)
		s.until("an empty outbox", func() bool { return s.pending() == 0 })
		decided, copies := s.check(t)
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%v\t%s\t%d\n", step, decided, s.total(), copies, took.Round(time.Millisecond), name(s.connectedTo(nodes)), strings.Count(s.log.String(), "level=ERROR"))
	}
	bystander := func() *natsNode {
		return nodes[(slices.Index(nodes, s.connectedTo(nodes))+1)%len(nodes)]
	}
	revive := func(n *natsNode) { n.start(); n.awaitReady() }

	stream("whole cluster", func() {})
	victim := bystander()
	stream("another node killed", victim.kill)
	revive(victim)
	for range 2 {
		victim = s.connectedTo(nodes)
		stream("the node with the connection killed ("+name(victim)+")", victim.kill)
		revive(victim)
	}
	held, other := s.connectedTo(nodes), bystander()
	stood, _ := s.watch(AboutConnection, "never")
	stream("two nodes killed: no quorum, until one is back", func() {
		held.kill()
		other.kill()
		receive(t, stood)
		revive(held)
	})
	revive(other)
	s.until("the end of the faults", func() bool { return len(s.client.Status().Faults) == 0 && s.client.Connected() })
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
	log := s.log.String()
	if alarms, ends := strings.Count(log, "level=ERROR"), strings.Count(log, `msg="over: `); alarms != ends || strings.Contains(log, "forgotten") || strings.Contains(log, "s3cret") {
		t.Errorf("%d alarms, %d ends, and no session is to be forgotten; log:\n%s", alarms, ends, log)
	}
}

// TestPromise5_NATSRefusals: what a NATS server does not take, it confirms all the
// same, or ends the connection over it.
func TestPromise5_NATSRefusals(t *testing.T) {
	t.Parallel()
	rights := func(publish, subscribe string) string {
		return strings.NewReplacer(
			`publish: ["ichwatch.v1.north.ct1.alert", `, `publish: [`+publish,
			`subscribe: ["ichwatch.v1.north.ct1.alert", "ichwatch.v1.north.ct1.outcome", "ichwatch.v1.north.ct1.state", "ichwatch.v1.north.ct1.ack", `, `subscribe: [`+subscribe,
		).Replace(natsUsers)
	}
	const own = `"ichwatch.v1.north.ct1.alert", "ichwatch.v1.north.ct1.outcome", "ichwatch.v1.north.ct1.state", `
	const write, ack = `"ichwatch.v1.north.ct1.alert", `, `"ichwatch.v1.north.ct1.ack", `
	for name, c := range map[string]struct {
		users, extra string
		large        bool // one message of 5,000 bytes is among them
		about, says  string
		arrive       bool // all the others, nevertheless
	}{
		"alert may not be written": {rights("", own+ack), "", false, alerts.TopicAlert, "its access list does not let this user write there", false},
		"ack may not be read":      {rights(write, own), "", false, AboutAcknowledgements, "grant this user the right to read the topic", true},
		"own topics not readable":  {rights(write, ack), "", false, AboutReadBack, "grant this user the right to read the topic", true},
		"message too large":        {natsUsers, "max_payload: 4000", true, alerts.TopicAlert, "the broker ends the connection each time this message is sent", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newNATSSite(t, startNATS(t, 1, c.users, "", c.extra), "ichwatch")
			s.options.Timeout = time.Second
			s.alert()
			_, said := s.watch(c.about, c.says)
			if c.large {
				s.decide(t, 5000, "s-large")
			}
			for range 3 {
				s.decide(t, 0, wards...)
			}
			receive(t, said)
			switch {
			case c.arrive:
				s.await(t, s.decidedOf(wards...), wards...)
			case s.total() != 0 || s.pending() != 3*len(wards):
				t.Errorf("%d arrived, %d wait; want none, and all", s.total(), s.pending())
			}
		})
	}
}

// A receiver that stays away fills the store of the server, which keeps for it;
// full, the server lets nobody in, that receiver neither. It takes more room, and
// a restart.
func TestPromise5_NATSStoreFull(t *testing.T) {
	t.Parallel()
	nodes := startNATS(t, 1, "", "max_file_store: 40000", "")
	s := newNATSSite(t, nodes, "")
	away := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + nodes[0].mqtt).SetClientID("away").SetCleanSession(false).
		SetDefaultPublishHandler(func(paho.Client, paho.Message) {}))
	if token := away.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	if token := away.Subscribe("ichwatch/v1/north/ct1/alert", 1, nil); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	away.Disconnect(100)
	s.alert()
	_, said := s.watch(AboutConnection, "store") // whether it hangs up on the message or, next, on us
	for range 20 {
		s.decide(t, 1000, wards...)
	}
	receive(t, said)
	if s.pending() == 0 || !strings.Contains(nodes[0].log.String(), "resource limits exceeded") {
		t.Errorf("%d messages wait; the server's log:\n%s", s.pending(), nodes[0].log)
	}
	nodes[0].kill()
	text, err := os.ReadFile(nodes[0].config)
	if err == nil {
		err = os.WriteFile(nodes[0].config, bytes.Replace(text, []byte("max_file_store: 40000"), nil, 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	nodes[0].start()
	s.await(t, s.decidedOf(wards...), wards...)
	s.until("the end of the faults", func() bool { return len(s.client.Status().Faults) == 0 && s.client.Connected() })
	decided, copies := s.check(t)
	t.Logf("%d decided, %d arrived, %d copies", decided, s.total(), copies)
}
