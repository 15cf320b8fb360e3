package mqtt

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"ichwatch/alerts"
)

// brokerFault is a row of the matrix.
type brokerFault struct {
	name   string
	lines  func(s *site) []string // of the device's listener; nil: anonymous
	absent bool                   // the fault is there before the device
	begin  func(s *site)
	about  string // what the alarm is about; empty: none is due
	says   string // what it tells the technician
	during func(s *site)
	end    func(s *site)
	// restarts: the end kills the broker, which is a fault of its own.
	restarts bool
	// flaps: the fault comes and goes. Where the machine is so slow that a
	// connection in between counts as one, it is several, one after the other.
	flaps bool
}

func anonymous(*site) []string { return []string{"allow_anonymous true"} }

var brokerFaults = []brokerFault{
	{
		name: "down at start", absent: true,
		begin: func(*site) {},
		about: AboutConnection, says: "the broker closed the connection instead of answering",
		end: func(s *site) { s.start(); s.gate.set(true) },
	},
	{
		name:  "killed 10 times in mid-stream, no persistence",
		begin: func(s *site) { flap(s) },
		about: AboutConnection, says: "the broker",
		end: func(*site) {}, flaps: true,
	},
	{
		name: "killed 10 times in mid-stream, persistence",
		lines: func(s *site) []string {
			return []string{"allow_anonymous true", "persistence true", "persistence_location " + s.files + "/", "autosave_on_changes true", "autosave_interval 1"}
		},
		begin: func(s *site) { flap(s) },
		about: AboutConnection, says: "the broker",
		end: func(*site) {}, flaps: true,
	},
	{
		name:  "accepts, never PUBACK",
		begin: func(s *site) { s.gate.turn(gateSwallow) },
		about: AboutConnection, says: "takes messages and does not confirm them",
		end: func(s *site) { s.gate.turn(gateOpen) },
	},
	{
		name:  "accepts TCP, never CONNACK",
		begin: func(s *site) { s.gate.turn(gateSilent) },
		about: AboutConnection, says: "does not speak MQTT in time",
		end: func(s *site) { s.gate.turn(gateOpen) },
	},
	{
		name:  "half-open connection",
		begin: func(s *site) { s.gate.freeze() },
		end:   func(*site) {},
	},
	{
		name: "credentials revoked",
		lines: func(s *site) []string {
			s.password("-b", "-c", filepath.Join(s.files, "users"), "ichwatch", "s3cret")
			s.options.Username, s.options.PasswordFile = "ichwatch", s.write("secret", "s3cret\n")
			return []string{"allow_anonymous false", "password_file " + filepath.Join(s.files, "users")}
		},
		begin: func(s *site) {
			s.password("-b", filepath.Join(s.files, "users"), "ichwatch", "other")
			s.reload()
		},
		about: AboutConnection, says: "compare alerts.mqtt.username and the content of alerts.mqtt.password_file",
		end: func(s *site) {
			s.password("-b", filepath.Join(s.files, "users"), "ichwatch", "s3cret")
			s.reload()
		},
	},
	{
		name: "topic refused by the access list",
		lines: func(s *site) []string {
			return []string{"allow_anonymous true", "acl_file " + s.write("acl", "topic readwrite ichwatch/v1/north/ct1/#\n")}
		},
		begin: func(s *site) {
			s.write("acl", "topic readwrite ichwatch/v1/north/ct1/state\ntopic read ichwatch/v1/north/ct1/#\n")
			s.reload()
		},
		about: alerts.TopicAlert, says: "its access list does not let this user write there",
		end: func(s *site) {
			s.write("acl", "topic readwrite ichwatch/v1/north/ct1/#\n")
			s.reload()
		},
	},
	badCertificate("certificate expired", "is not valid at this time: renew it there", true, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
	badCertificate("certificate of an unknown authority", "alerts.mqtt.ca_file must hold the authority that did", false, func(*x509.Certificate) {}),
	badCertificate("certificate for another name", "put a name that stands in it into alerts.mqtt.broker", true, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"broker.example.org"} }),
	{
		name: "a second device with the same client id",
		begin: func(s *site) {
			o := s.options
			o.Log = slog.New(slog.DiscardHandler)
			_, s.rival = run(s.T, o)
		},
		about: AboutConnection, says: "another client at the broker may have the same client_id",
		during: func(s *site) { // at least MaxRetry between two connections
			begun, lines := time.Now(), strings.Count(s.log.String(), "connecting again")
			s.until("some more of it", func() bool { return strings.Count(s.log.String(), "connecting again") >= lines+5 })
			if took := time.Since(begun); took < 3*s.options.MaxRetry {
				s.Errorf("connected 5 times in %v: a hot loop", took)
			}
		},
		end: func(s *site) { s.rival() }, flaps: true,
	},
	{
		name: "session forgotten",
		begin: func(s *site) {
			s.until("a connection that stood", func() bool { return time.Since(s.client.Status().Since) > 2*s.options.MaxRetry })
			s.restart()
		},
		restarts: true,
		end: func(s *site) {
			s.until("a word about it", func() bool { return strings.Contains(s.log.String(), "has forgotten this device's session") })
		},
	},
	{
		name: "disk full (mosquitto goes on from memory)",
		lines: func(s *site) []string {
			s.limit = 1
			return []string{"allow_anonymous true", "persistence true", "persistence_location " + s.files + "/", "autosave_on_changes true", "autosave_interval 1"}
		},
		begin: func(s *site) {
			filler := subscribe(s.T, s.watched, "none").Publish("filler", 1, true, strings.Repeat("x", 1000))
			if !filler.WaitTimeout(patience) || filler.Error() != nil {
				s.Fatal(filler.Error())
			}
			s.until("a file that is cut off", func() bool {
				info, err := os.Stat(filepath.Join(s.files, "mosquitto.db"))
				return err == nil && info.Size() == int64(s.limit)*512
			})
		},
		end: func(*site) {},
	},
	{
		name:  "one message too large (message_size_limit: confirmed, dropped)",
		lines: func(*site) []string { return []string{"allow_anonymous true", "message_size_limit 4000"} },
		begin: func(s *site) { s.decide(s.T, 5000, "s-large") },
		about: alerts.TopicAlert, says: "its limit for the size of a message is too small",
		during: othersGoOn,
		end: func(s *site) {
			s.lines = []string{"allow_anonymous true"}
			s.restart()
		},
		restarts: true,
	},
	{
		name:  "one message too large (max_packet_size: disconnected)",
		lines: func(*site) []string { return []string{"allow_anonymous true", "max_packet_size 4000"} },
		begin: func(s *site) { s.decide(s.T, 5000, "s-large") },
		about: alerts.TopicAlert, says: "the broker ends the connection each time this message is sent",
		during: othersGoOn,
		end: func(s *site) {
			s.lines = []string{"allow_anonymous true"}
			s.restart()
		},
		restarts: true,
	},
}

// secure makes a certificate for the broker, for loopback and from the authority
// whom the device trusts, but for what is changed; lines configure it.
func secure(s *site, trusted bool, change func(*x509.Certificate)) (lines []string) {
	s.Helper()
	trust := newAuthority(s.T, s.files, "authority")
	s.options.CAFile = trust.file
	if !trusted {
		trust = newAuthority(s.T, s.T.TempDir(), "another")
	}
	_, _, cert, key := trust.sign(s.T, s.files, certificate("broker", change))
	return []string{"allow_anonymous true", "certfile " + cert, "keyfile " + key}
}

// badCertificate is a fault of the broker's certificate, from the start to its
// replacement.
func badCertificate(name, says string, trusted bool, change func(*x509.Certificate)) brokerFault {
	return brokerFault{
		name: name, absent: true,
		lines: func(s *site) []string {
			s.gate.opaque = true
			s.options.Brokers = []string{"tls://" + s.gate.addr()}
			return secure(s, trusted, change)
		},
		begin: func(s *site) { s.start(); s.gate.set(true) },
		about: AboutConnection, says: says,
		end: func(s *site) {
			s.lines = secure(s, true, func(*x509.Certificate) {})
			s.restart()
		},
	}
}

// flap kills the broker over and over while messages are on their way.
func flap(s *site) {
	for range 10 {
		for range 10 {
			s.decide(s.T, 0, wards...)
		}
		arrived := s.total()
		s.await(s.T, arrived+20, wards...)
		s.restart()
	}
}

// othersGoOn: what one study waits for, the others do not.
func othersGoOn(s *site) {
	for range 5 {
		s.decide(s.T, 0, wards...)
	}
	s.await(s.T, s.decidedOf(wards...), wards...)
	s.until("the large message to wait alone", func() bool { return s.pending() == 1 })
}

// TestPromise5_BrokerFaults breaks a real broker, or the way to it, in every way
// that can be had, while a device alerts. Each time: every message arrives, at
// least once, under the same id, in order within its study; one alarm says what
// is to be done, and it is over when the fault is.
func TestPromise5_BrokerFaults(t *testing.T) {
	requirePeer(t, "mosquitto")
	var rows sync.Map
	t.Run("matrix", func(t *testing.T) {
		for i, f := range brokerFaults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				rows.Store(i, breakBroker(t, f))
			})
		}
	})
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\tdecided\tarrived\tcopies\talarm after\tover after\talarm says")
	for i := range brokerFaults {
		if row, ok := rows.Load(i); ok {
			fmt.Fprintln(table, row)
		}
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
}

func breakBroker(t *testing.T, f brokerFault) string {
	s := newSite(t)
	if f.lines == nil {
		f.lines = anonymous
	}
	s.lines = f.lines(s)
	if !f.absent {
		s.start()
		s.gate.set(true)
		s.alert()
		s.decide(t, 0, wards...)
		s.await(t, len(wards), wards...)
	}
	if f.absent {
		s.alert()
	}
	stood, said := s.watch(f.about, f.says)
	began := time.Now()
	f.begin(s)
	for range 5 {
		s.decide(t, 0, wards...)
	}
	after, says := "-", "-"
	if f.about != "" {
		after = max(0, receive(t, stood).Sub(began)).Round(time.Millisecond).String()
		receive(t, said)
		says = f.says
	}
	if f.during != nil {
		f.during(s)
	}
	ended := time.Now()
	f.end(s)
	keys := wards
	if s.seq["s-large"] > 0 {
		keys = append(slices.Clone(wards), "s-large")
	}
	s.await(t, s.decidedOf(keys...), keys...)
	s.until("an empty outbox", func() bool { return s.pending() == 0 })
	s.until("the end of the fault", func() bool { return len(s.client.Status().Faults) == 0 && s.client.Connected() })
	over := time.Since(ended)
	decided, copies := s.check(t)

	log := s.log.String()
	for line := range strings.Lines(log) {
		if strings.Contains(line, "level=ERROR") && !strings.Contains(line, "about="+f.about) && !(f.restarts && strings.Contains(line, "about="+AboutConnection)) {
			t.Errorf("an alarm too much: %s", line)
		}
	}
	alarms := regexp.MustCompile("level=ERROR .* about="+f.about+" ").FindAllString(log, -1)
	ends := regexp.MustCompile("over: .* about="+f.about+" ").FindAllString(log, -1)
	want := min(len(f.about), 1)
	if f.flaps {
		want = max(1, len(alarms))
	}
	if len(alarms) != want || len(ends) != want {
		t.Errorf("%d alarms and %d ends about %s, want %d; log:\n%s", len(alarms), len(ends), f.about, want, log)
	}
	if strings.Contains(log, "s3cret") {
		t.Error("the password is in the log")
	}
	return fmt.Sprintf("%s\t%d\t%d\t%d\t%s\t%s\t%s", f.name, decided, s.total(), copies, after, over.Round(time.Millisecond), says)
}
