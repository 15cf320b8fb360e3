package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ichwatch/alerts"
)

// site is a broker, a device that alerts through it, and a receiver that knows
// nothing of the device's troubles.
type site struct {
	*testing.T
	*studies
	broker  *mosquitto
	gate    *gate  // of the device
	device  string // the listener behind the gate
	watched string // the listener of the receiver
	files   string
	lines   []string
	limit   int    // of the broker's files, in blocks; 0: none
	rival   func() // stops the other device
	options Options
	client  *Client
	log     *logBuffer
}

var wards = []string{"s-1", "s-2", "s-3", "s-4", "s-5", "s-6"}

// write puts a file where the broker can read it without privileges.
func (s *site) write(name, text string) string {
	s.Helper()
	path := filepath.Join(s.files, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
	return path
}

func (s *site) password(args ...string) {
	s.Helper()
	if out, err := exec.Command(requirePeer(s.T, "mosquitto_passwd"), args...).CombinedOutput(); err != nil {
		s.Fatalf("mosquitto_passwd: %v\n%s", err, out)
	}
	if err := os.Chmod(filepath.Join(s.files, "users"), 0o644); err != nil {
		s.Fatal(err)
	}
}

// start starts the broker, and has the receiver subscribe before the device can.
func (s *site) start() {
	s.Helper()
	_, port, _ := strings.Cut(s.watched, ":")
	_, device, _ := strings.Cut(s.device, ":")
	conf := fmt.Sprintf("per_listener_settings true\nmax_inflight_messages 0\nlistener %s 127.0.0.1\nallow_anonymous true\nlistener %s 127.0.0.1\n%s\n",
		port, device, strings.Join(s.lines, "\n"))
	s.broker = startMosquittoWith(s.T, s.watched, conf, s.limit)
	if !dialUntil(s.device, patience) {
		s.Fatal("mosquitto does not listen for the device")
	}
	// At QoS 0: what a killed broker had still to hand over to a receiver is not
	// what is tested here, and a receiver that has nothing to say to the broker
	// reads to the last byte of what it sent.
	sub := subscribeAt(s.T, 0, s.watched, "ichwatch/v1/north/ct1/alert")
	arrived := s.receiver(s.T)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range sub.messages {
			arrived([]byte(m.payload))
		}
	}()
	s.Cleanup(func() { sub.Disconnect(100); close(sub.messages); <-done })
}

// restart kills the broker and starts it again, with the device kept out until
// the receiver is there.
func (s *site) restart() {
	s.Helper()
	s.gate.set(false)
	s.broker.kill()
	s.start()
	s.gate.set(true)
}

func (s *site) reload() {
	s.Helper()
	if err := s.broker.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.Fatal(err)
	}
}

// watch looks at the status until the test ends, and tells when a fault about
// something stood, and when it said what it should.
func (s *site) watch(about, says string) (stood, said <-chan time.Time) {
	first, then := make(chan time.Time, 1), make(chan time.Time, 1)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		look := time.NewTicker(2 * time.Millisecond)
		defer look.Stop()
		for {
			for _, f := range s.client.Status().Faults {
				if f.About != about {
					continue
				}
				select {
				case first <- f.Since:
				default:
				}
				if strings.Contains(f.Reason, says) {
					then <- f.Since
					return
				}
			}
			select {
			case <-look.C:
			case <-stop:
				return
			}
		}
	}()
	s.Cleanup(func() { close(stop); <-done })
	return first, then
}

func (s *site) until(what string, done func() bool) {
	s.Helper()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for deadline := time.Now().Add(2 * patience); !done(); <-retry.C {
		if time.Now().After(deadline) {
			s.Fatalf("waited in vain for %s; %+v; log:\n%s", what, s.client.Status(), s.log)
		}
	}
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, studies: newStudies(), device: freeAddr(t), watched: freeAddr(t), files: t.TempDir(), log: new(logBuffer)}
	for d := s.files; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // mosquitto drops its privileges
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	s.gate = newGate(t, s.device)
	s.gate.set(false) // until the broker and the receiver are there
	s.options = options("tcp://" + s.gate.addr())
	s.options.Timeout, s.options.KeepAlive = time.Second, 2*time.Second
	s.options.MaxRetry = 300 * time.Millisecond // and twice that makes a connection
	s.options.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return s
}

// alert starts the device.
func (s *site) alert() {
	s.client, _ = run(s.T, s.options)
	courier := &alerts.Courier{
		Outbox: s.studies, Publisher: s.client, Log: s.options.Log,
		Poll: 20 * time.Millisecond, MinRetry: 50 * time.Millisecond, MaxRetry: 400 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- courier.Run(ctx) }()
	s.Cleanup(func() {
		cancel()
		if err := receive(s.T, done); err != nil {
			s.Errorf("Courier.Run = %v", err)
		}
	})
}
