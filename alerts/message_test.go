package alerts

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	sampleID   = "a-2k5cwemxxqd3hrfu4ky5vkx7ny"
	sampleHash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

var sampleTime = time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)

func sampleMessage() Message {
	return Message{
		AlertID: sampleID, Seq: 1, Type: TypeNew,
		Site: "north", Device: "ct1", Study: Study{InstanceUID: "1.2.3"},
		Finding: "subdural", Score: 0.93, Threshold: 0.24137, OperatingPoint: "balanced", KeyImage: "1.2.3.4", Models: []Model{{"resnet18", sampleHash}, {"densenet121", sampleHash}},
		AcquiredAt: sampleTime, ReceivedAt: sampleTime, DetectedAt: sampleTime,
	}
}

func sampleOutcome(o Outcome) OutcomeMessage {
	m := OutcomeMessage{
		Site: "north", Device: "ct1", Study: Study{Pseudonym: "s-abcdefghij"}, Seq: 1,
		Outcome: o, Counts: Counts{Received: 34, Classified: 30, Ineligible: 3, Failed: 1},
		Models: []Model{{"resnet18", sampleHash}}, Threshold: 0.24, OperatingPoint: "balanced", ReceivedAt: sampleTime, DecidedAt: sampleTime,
	}
	switch o {
	case Positive:
		m.Finding, m.Score, m.AlertID = "epidural", 0.8, sampleID
	case NotAnalysed, Failed:
		m.Reason, m.Models, m.Threshold, m.OperatingPoint = "no slice of modality CT", nil, 0, ""
	}
	return m
}

func TestMessageTravelsAsDescribed(t *testing.T) {
	got, err := json.MarshalIndent(sampleMessage(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "schema": "ichwatch.alert/v1",
  "alert_id": "a-2k5cwemxxqd3hrfu4ky5vkx7ny",
  "seq": 1,
  "type": "new",
  "level": 0,
  "site": "north",
  "device": "ct1",
  "study_instance_uid": "1.2.3",
  "finding": "subdural",
  "score": 0.93,
  "threshold": 0.2414,
  "operating_point": "balanced",
  "sop_instance_uid": "1.2.3.4",
  "models": [
    {
      "name": "resnet18",
      "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    },
    {
      "name": "densenet121",
      "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    }
  ],
  "acquired_at": "2026-02-03T04:05:06.789Z",
  "received_at": "2026-02-03T04:05:06.789Z",
  "detected_at": "2026-02-03T04:05:06.789Z",
  "disclaimer": "Suspected finding, not for diagnosis."
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestMessagesFitTheirSchemas(t *testing.T) {
	alertSchema, outcomeSchema := loadSchema(t, "alert.v1.json"), loadSchema(t, "outcome.v1.json")
	findings := []string{"epidural", "subdural", "intraventricular", "intraparenchymal", "subarachnoid"}
	when := rapid.Map(rapid.Int64Range(0, 4e9), func(s int64) time.Time {
		return time.Unix(s, s%1e9).In(time.FixedZone("", int(s%86400)/2))
	})
	study := rapid.SampledFrom([]Study{{InstanceUID: "1.2.840.1"}, {Pseudonym: "s-abcdefghij"}})
	text := rapid.StringN(1, 40, -1)

	rapid.Check(t, func(r *rapid.T) {
		m := Message{
			AlertID: ID(text.Draw(r, "device"), text.Draw(r, "study"), 1),
			Seq:     rapid.IntRange(1, 1e6).Draw(r, "seq"),
			Type:    rapid.SampledFrom([]Type{TypeNew, TypeUpdate, TypeRetract, TypeEscalate}).Draw(r, "type"),
			Level:   rapid.IntRange(1, 9).Draw(r, "level"),
			Site:    text.Draw(r, "site"), Device: text.Draw(r, "device"), Study: study.Draw(r, "study"),
			Finding:    rapid.SampledFrom(findings).Draw(r, "finding"),
			Score:      rapid.Float64Range(0, 1).Draw(r, "score"),
			Threshold:  rapid.Float64Range(0, 1).Draw(r, "threshold"),
			Models:     []Model{{"m", sampleHash}},
			AcquiredAt: rapid.OneOf(when, rapid.Just(time.Time{})).Draw(r, "acquired"),
			ReceivedAt: when.Draw(r, "received"), DetectedAt: when.Draw(r, "detected"),
		}
		if m.InstanceUID != "" {
			m.KeyImage = "1.2.3.4"
		}
		e, err := m.Entry("s-key")
		if err != nil {
			r.Fatal(err)
		}
		if p := alertSchema.checkJSON(t, e.Payload, true); p != nil {
			r.Fatalf("%s: %v", e.Payload, p)
		}
		var back Message
		if err := json.Unmarshal(e.Payload, &back); err != nil {
			r.Fatal(err)
		}
		if back.AlertID != m.AlertID || back.Seq != m.Seq || back.Site != m.Site || back.Differs(m) {
			r.Fatalf("%+v came back as %+v", m, back)
		}

		o := sampleOutcome(rapid.SampledFrom([]Outcome{Positive, Negative, NotAnalysed, Failed}).Draw(r, "outcome"))
		o.Study, o.AcquiredAt = m.Study, m.AcquiredAt
		if e, err = o.Entry("s-key"); err != nil {
			r.Fatal(err)
		}
		if p := outcomeSchema.checkJSON(t, e.Payload, true); p != nil {
			r.Fatalf("%s: %v", e.Payload, p)
		}
		for _, member := range []string{`"score"`, `"threshold":0.24,`, `"operating_point":"balanced"`} {
			if there := strings.Contains(string(e.Payload), member); there != (o.Models != nil) {
				r.Fatalf("%s: has %s: %v, has a model: %v", e.Payload, member, there, o.Models != nil)
			}
		}
	})
}

// What every message says, and which places it may name an identity in.
func TestPromise7_MessagesHoldNoIdentity(t *testing.T) {
	for name, allowed := range map[string][]string{
		"alert.v1.json":   {"study_instance_uid", "study_pseudonym", "sop_instance_uid"},
		"outcome.v1.json": {"study_instance_uid", "study_pseudonym"},
	} {
		for member := range loadSchema(t, name).Properties {
			named := false
			for _, word := range []string{"patient", "name", "birth", "record", "accession", "study", "instance", "series"} {
				named = named || strings.Contains(member, word)
			}
			if named && !strings.Contains(strings.Join(allowed, " "), member) {
				t.Errorf("%s: %s may carry an identity", name, member)
			}
		}
	}
}

func TestIncompleteMessagesDoNotLeave(t *testing.T) {
	for name, spoil := range map[string]func(*Message){
		"no id":           func(m *Message) { m.AlertID = "" },
		"no seq":          func(m *Message) { m.Seq = 0 },
		"no type":         func(m *Message) { m.Type = "" },
		"level below 0":   func(m *Message) { m.Level = -1 },
		"escalate to 0":   func(m *Message) { m.Type = TypeEscalate },
		"no device":       func(m *Message) { m.Device = "" },
		"no study":        func(m *Message) { m.Study = Study{} },
		"study twice":     func(m *Message) { m.Pseudonym = "s-x" },
		"no finding":      func(m *Message) { m.Finding = "" },
		"score above one": func(m *Message) { m.Score = 1.1 },
		"score no number": func(m *Message) { m.Score = math.NaN() },
		"odd threshold":   func(m *Message) { m.Threshold = -0.1 },
		"no key image":    func(m *Message) { m.KeyImage = "" },
		"frame below one": func(m *Message) { m.KeyFrame = -1 },
		"a frame of none": func(m *Message) { m.Study, m.KeyImage, m.KeyFrame = Study{Pseudonym: "s-1"}, "", 3 },
		"UID, pseudonym":  func(m *Message) { m.Study = Study{Pseudonym: "s-abcdefghij"} },
		"no model":        func(m *Message) { m.Models = nil },
		"half a model":    func(m *Message) { m.Models = append(m.Models, Model{Name: "densenet121"}) },
		"no detection":    func(m *Message) { m.DetectedAt = time.Time{} },
	} {
		m := sampleMessage()
		spoil(&m)
		if _, err := m.Entry("k"); !errors.Is(err, ErrInvalid) {
			t.Errorf("alert, %s: err = %v, want ErrInvalid", name, err)
		}
	}
	for name, spoil := range map[string]func(*OutcomeMessage){
		"no outcome":               func(m *OutcomeMessage) { m.Outcome = "" },
		"failed without reason":    func(m *OutcomeMessage) { m.Outcome = Failed },
		"not analysed, no reason":  func(m *OutcomeMessage) { m.Outcome = NotAnalysed },
		"negative out of nothing":  func(m *OutcomeMessage) { m.Counts.Classified = 0 },
		"negative with a finding":  func(m *OutcomeMessage) { m.Finding = "subdural" },
		"positive without alert":   func(m *OutcomeMessage) { m.Outcome, m.Finding = Positive, "subdural" },
		"positive without finding": func(m *OutcomeMessage) { m.Outcome, m.AlertID = Positive, sampleID },
		"threshold of no model":    func(m *OutcomeMessage) { m.Models = nil },
		"threshold no number":      func(m *OutcomeMessage) { m.Threshold = math.NaN() },
		"no decision time":         func(m *OutcomeMessage) { m.DecidedAt = time.Time{} },
	} {
		m := sampleOutcome(Negative)
		spoil(&m)
		if _, err := m.Entry("k"); !errors.Is(err, ErrInvalid) {
			t.Errorf("outcome, %s: err = %v, want ErrInvalid", name, err)
		}
	}
}

// What a ledger holds of releases that did not say thresholds can be said again.
func TestMessagesWithoutThresholdTravel(t *testing.T) {
	m := sampleMessage()
	m.Threshold, m.OperatingPoint = 0, ""
	text, err := json.Marshal(m)
	if err != nil || strings.Contains(string(text), "threshold") || strings.Contains(string(text), "operating_point") {
		t.Errorf("%s, %v", text, err)
	}
	if p := loadSchema(t, "alert.v1.json").checkJSON(t, text, true); p != nil {
		t.Error(p)
	}
}

func TestOtherSchemasAreRefused(t *testing.T) {
	var m Message
	if err := json.Unmarshal([]byte(`{"schema":"ichwatch.outcome/v1"}`), &m); !errors.Is(err, ErrInvalid) {
		t.Errorf("an outcome read as an alert: err = %v, want ErrInvalid", err)
	}
	var o OutcomeMessage
	if err := json.Unmarshal([]byte(`{"schema":"ichwatch.outcome/v2"}`), &o); !errors.Is(err, ErrInvalid) {
		t.Errorf("an outcome of another version: err = %v, want ErrInvalid", err)
	}
}

// The id is part of what receivers keep: it must never change for the same
// alert, so it is written down here.
func TestPromise5_IDIsStable(t *testing.T) {
	if got := ID("ct1", "s-abcdefghij", 1); got != "a-wenwvaggtehut6un4tmq3cufze" {
		t.Errorf("ID = %s", got)
	}
	seen := map[string]string{}
	for _, args := range []struct {
		device, study string
		n             int
	}{{"ct1", "s-a", 1}, {"ct1", "s-a", 2}, {"ct1", "s-b", 1}, {"ct2", "s-a", 1}, {"ct1s", "-a", 1}} {
		id := ID(args.device, args.study, args.n)
		if !validID(id) {
			t.Errorf("%s is not of its own form", id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%v and %s have the same id", args, other)
		}
		seen[id] = args.device + args.study
	}
}

func TestDiffers(t *testing.T) {
	m := sampleMessage()
	same := m
	same.Score, same.DetectedAt, same.Seq, same.Type = m.Score+0.004, m.DetectedAt.Add(time.Hour), 2, TypeUpdate
	if same.Differs(m) {
		t.Error("times, seq, type and a hair's breadth of score are nothing new")
	}
	for name, change := range map[string]func(*Message){
		"finding": func(m *Message) { m.Finding = "epidural" },
		"score":   func(m *Message) { m.Score = 0.98 },
		"limit":   func(m *Message) { m.Threshold += 0.0002 },
		"point":   func(m *Message) { m.OperatingPoint = "sensitive" },
		"image":   func(m *Message) { m.KeyImage = "1.9" },
		"frame":   func(m *Message) { m.KeyFrame = 9 },
		"model":   func(m *Message) { m.Models = []Model{{"resnet18", strings.Repeat("0", 64)}} },
	} {
		changed := m
		change(&changed)
		if !changed.Differs(m) {
			t.Errorf("another %s is news", name)
		}
	}
}
