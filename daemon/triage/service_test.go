package triage

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/infer"
)

// changing is a service whose model is exchanged by the test. It counts who uses
// which.
type changing struct {
	mu    sync.Mutex
	model *Model
	users map[*Model]int
}

func (c *changing) Use() (*Model, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.model
	c.users[m]++
	return m, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.users[m]--
	}
}

func (c *changing) exchange(m *Model) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.model = m
}

func newChanging(hash string) *changing {
	return &changing{model: another(hash), users: map[*Model]int{}}
}

func another(hash string) *Model {
	return &Model{Classifier: &fakeModel{hash: strings.Repeat(hash, 32)}, Rule: newRule()}
}

// TestPromise4_ModelExchangedInMidStudy: whichever model a slice met first, in the
// end each has one finding, by the model in service, and the study its outcome.
func TestPromise4_ModelExchangedInMidStudy(t *testing.T) {
	for _, c := range []struct {
		name    string
		shows   int16
		outcome alerts.Outcome
		restart bool
	}{
		{"negative", showsNormal, alerts.Negative, false},
		{"positive", showsEpidural, alerts.Positive, false},
		{"over a restart", showsNormal, alerts.Negative, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			service := newChanging("ab")
			b := newBench(t, func(tr *Triage) { tr.Service = service })
			const uid = "1.2.3"
			objects := slices5(1, 20, c.shows)
			b.spool.StudyOpened(uid, "association")
			b.receive(uid, objects[:9]...)
			b.settled(uid)
			if c.restart {
				b.stop()
			}
			service.exchange(another("cd"))
			if c.restart {
				b.start()
			}
			b.receive(uid, objects[9:]...)
			b.spool.AssociationClosed("association", true)
			var o alerts.OutcomeMessage
			for e := b.next(); ; e = b.next() { // the alert, and that its model has changed
				if e.Topic == alerts.TopicOutcome {
					if err := json.Unmarshal(e.Payload, &o); err != nil {
						t.Fatal(err)
					}
					break
				}
			}
			if o.Outcome != c.outcome || o.Counts != (alerts.Counts{Received: 20, Classified: 20}) || len(o.Models) != 1 || o.Models[0].SHA256 != strings.Repeat("cd", 32) {
				t.Errorf("outcome %+v", o)
			}
			findings, err := b.spool.StudyFindings(t.Context(), uid)
			if err != nil || len(findings) != 20 {
				t.Fatalf("%d findings (%v)", len(findings), err)
			}
			for _, f := range findings {
				if f.State != spool.FindingClassified || len(f.Models) != 1 || f.Models[0] != (infer.ModelRef{Name: "fake", SHA256: strings.Repeat("cd", 32)}) {
					t.Errorf("finding %+v", f)
				}
			}
			b.stop()
			for m, n := range service.users {
				if n != 0 {
					t.Errorf("%v is still in use %d times", m.Classifier.Models(), n)
				}
			}
		})
	}
}
