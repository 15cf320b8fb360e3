package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dimsetest"
)

// people are mosquitto and those on call behind it: they read every message and acknowledge every alert, once, at its
// first notice or after its first escalation.
type people struct {
	broker string
	wg     sync.WaitGroup

	mu       sync.Mutex
	rng      *rand.Rand
	alerts   map[string]map[int]string // payloads, by alert id and seq
	outcomes map[string]map[int]string // by Study Instance UID and seq
	study    map[string]string         // of each alert
	answered map[string]bool
	again    int // messages of this life that had come before
	wrong    []string
}

const topics = "ichwatch/v1/north/ct1/"

func newPeople(t *testing.T, rng *rand.Rand) *people {
	t.Helper()
	port := dimsetest.FreePort(t)
	p := &people{
		broker: net.JoinHostPort("127.0.0.1", port), rng: rand.New(rand.NewPCG(rng.Uint64(), 2)),
		alerts: map[string]map[int]string{}, outcomes: map[string]map[int]string{}, study: map[string]string{}, answered: map[string]bool{},
	}
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n", port), 0o600); err != nil {
		t.Fatal(err)
	}
	startPeer(t, "mosquitto", "-c", conf)
	eventually(t, "mosquitto listens", func() bool {
		conn, err := net.Dial("tcp", p.broker)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	t.Cleanup(p.wg.Wait) // when mosquitto_sub has ended
	subscribed := make(chan struct{})
	var once sync.Once
	printed := startPeer(t, "mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-q", "1", "-v", "-t", "#")
	p.wg.Go(func() {
		lines := bufio.NewScanner(printed)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			topic, payload, _ := strings.Cut(lines.Text(), " ")
			switch topic {
			case "test":
				once.Do(func() { close(subscribed) })
			case topics + alerts.TopicAlert:
				p.alert(t, payload)
			case topics + alerts.TopicOutcome:
				p.outcome(payload)
			}
		}
	})
	eventually(t, "mosquitto_sub is subscribed", func() bool {
		dimsetest.Run(t, "mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-t", "test", "-m", "subscribed")
		select {
		case <-subscribed:
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
	return p
}

// startPeer runs a program until the test ends and returns what it prints.
func startPeer(t *testing.T, name string, args ...string) io.Reader {
	t.Helper()
	cmd := exec.Command(dimsetest.Program(t, name), args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // its error is that it was killed
	})
	return out
}

func (p *people) alert(t *testing.T, payload string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var m alerts.Message
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		p.wrong = append(p.wrong, fmt.Sprintf("an alert is not understood: %v: %s", err, payload))
		return
	}
	if study, known := p.study[m.AlertID]; known && study != m.InstanceUID {
		p.wrong = append(p.wrong, fmt.Sprintf("alert %s is of study %s and of %s", m.AlertID, study, m.InstanceUID))
	}
	p.study[m.AlertID] = m.InstanceUID
	p.note(p.alerts, m.AlertID, m.Seq, payload)
	patient := m.InstanceUID[len(m.InstanceUID)-4]%2 == 0 // waits for an escalation
	if p.answered[m.AlertID] || m.Level == 0 && patient {
		return
	}
	p.answered[m.AlertID] = true
	_, port, _ := net.SplitHostPort(p.broker)
	p.wg.Go(func() {
		out, err := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-q", "1", "-t", topics+"ack",
			"-m", fmt.Sprintf(`{"alert_id":%q,"by":"Dr. Test"}`, m.AlertID)).CombinedOutput()
		if err != nil {
			t.Errorf("mosquitto_pub: %v\n%s", err, out)
		}
	})
}

func (p *people) outcome(payload string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var m alerts.OutcomeMessage
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		p.wrong = append(p.wrong, fmt.Sprintf("an outcome is not understood: %v: %s", err, payload))
		return
	}
	p.note(p.outcomes, m.InstanceUID, m.Seq, payload)
}

// note keeps a message. The same number never stands over another content, and none is left out.
func (p *people) note(said map[string]map[int]string, key string, seq int, payload string) {
	if said[key] == nil {
		said[key] = map[int]string{}
	}
	before, known := said[key][seq]
	switch {
	case known && before != payload:
		p.wrong = append(p.wrong, fmt.Sprintf("number %d of %s came with two contents:\n%s\n%s", seq, key, before, payload))
	case known:
		p.again++
	case seq != len(said[key])+1:
		p.wrong = append(p.wrong, fmt.Sprintf("number %d of %s came after %d others", seq, key, len(said[key])))
	}
	said[key][seq] = payload
}

func (p *people) ended() (wrong []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wrong, p.wrong = p.wrong, nil
	return wrong
}

// repeated returns how many messages of this life had come before.
func (p *people) repeated() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.again
	p.again = 0
	return n
}

// holds compares the ledger's record of a study with what has to become of it and what the people were told of it.
func (p *people) holds(r spool.StudyRecord, want alerts.Outcome) (wrong []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	study := string(r.StudyInstanceUID)
	// A study whose sender seems to have broken off is never called negative.
	torso := want == alerts.Negative && r.Outcome == alerts.NotAnalysed && !r.Released
	if r.Outcome != want && !torso {
		wrong = append(wrong, fmt.Sprintf("its outcome is %s (%s) instead of %s", r.Outcome, r.Reason, want))
	}
	if raised := len(r.Alerts); (raised == 1) != (want == alerts.Positive) || raised > 1 {
		wrong = append(wrong, fmt.Sprintf("%d alerts were raised, and its outcome is to be %s", raised, want))
	}
	if len(p.outcomes[study]) == 0 {
		wrong = append(wrong, "nobody was told its outcome "+string(r.Outcome))
	} else if last := p.outcomes[study][len(p.outcomes[study])]; !strings.Contains(last, `"outcome":"`+string(r.Outcome)+`"`) {
		wrong = append(wrong, "the last that people were told is not its outcome "+string(r.Outcome)+": "+last)
	}
	of := map[string]bool{}
	for _, a := range r.Alerts {
		of[a.AlertID] = true
		switch {
		case len(p.alerts[a.AlertID]) != a.Last.Seq:
			wrong = append(wrong, fmt.Sprintf("of alert %s the ledger has sent %d messages, %d arrived", a.AlertID, a.Last.Seq, len(p.alerts[a.AlertID])))
		case a.State != alerts.StateAcknowledged && a.State != alerts.StateRetracted, a.State == alerts.StateAcknowledged && a.By != "Dr. Test":
			wrong = append(wrong, fmt.Sprintf("alert %s was answered and is %s by %q", a.AlertID, a.State, a.By))
		}
	}
	for id, s := range p.study {
		if s == study && !of[id] {
			wrong = append(wrong, fmt.Sprintf("people know alert %s of it and the ledger does not", id))
		}
	}
	return wrong
}
