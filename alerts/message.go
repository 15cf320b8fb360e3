package alerts

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Schemas of the messages, the value of their "schema" member. A receiver
// ignores members that it does not know; a change that it could not ignore gets
// a new version.
const (
	SchemaAlert   = "ichwatch.alert/v1"
	SchemaOutcome = "ichwatch.outcome/v1"
)

// ErrInvalid is matched by every error about a message that must not leave.
var ErrInvalid = errors.New("invalid message")

// Type tells a receiver what a message does to its alert.
type Type string

// The types of an alert's messages.
const (
	TypeNew      Type = "new"      // seq 1
	TypeUpdate   Type = "update"   // replaces what was said before
	TypeRetract  Type = "retract"  // withdraws the alert
	TypeEscalate Type = "escalate" // nobody has acknowledged; Level says how far it went
)

// Study names the study of a message: by its UID or, where the site does not
// want UIDs to leave the device, by its pseudonym; never by both. No other
// identity travels.
type Study struct {
	InstanceUID string `json:"study_instance_uid,omitempty"`
	Pseudonym   string `json:"study_pseudonym,omitempty"`
}

// Model names a model that found something, down to its bytes.
type Model struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // of model.onnx, lower-case hex
}

// Message is one message about an alert (schema [SchemaAlert]). All messages of
// an alert share AlertID; Seq grows by one with each. Encoding adds the schema
// and the disclaimer, and brings times to UTC milliseconds.
type Message struct {
	AlertID string `json:"alert_id"`
	Seq     int    `json:"seq"` // from 1
	Type    Type   `json:"type"`
	Level   int    `json:"level"`            // 0: first notice; n: escalated n times
	Reason  string `json:"reason,omitempty"` // why updated or retracted; for people, without identity

	Site   string `json:"site"`
	Device string `json:"device"`
	Study

	Finding string  `json:"finding"` // the class: "epidural", "subdural", ...
	Score   float64 `json:"score"`   // 0..1, of the study rule
	// Threshold is what Score was held against, the same number's threshold in the
	// study rule at OperatingPoint: a score means nothing without it. Both are absent
	// from messages of releases that did not say them.
	Threshold      float64 `json:"threshold,omitempty"`
	OperatingPoint string  `json:"operating_point,omitempty"`  // of the models, by its name
	KeyImage       string  `json:"sop_instance_uid,omitempty"` // the slice to look at first; with InstanceUID only
	KeyFrame       int     `json:"frame_number,omitempty"`     // of KeyImage, from 1 on, where that has several
	Models         []Model `json:"models"`                     // all that found it together: one, or the members of an ensemble

	AcquiredAt time.Time `json:"acquired_at,omitzero"` // of the key image; absent when the header does not say
	ReceivedAt time.Time `json:"received_at"`          // key image durable on this device
	DetectedAt time.Time `json:"detected_at"`          // decision
}

// ID returns the id of a study's n-th alert (n from 1) on a device: the same
// for the same arguments, on every machine and after every restart. study is
// the pseudonym, so that the id of an alert does not lead back to a UID.
func ID(device, study string, n int) string {
	h := sha256.New()
	for _, s := range []string{device, study} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s))) // a hash never fails
		h.Write([]byte(s))
	}
	_ = binary.Write(h, binary.BigEndian, uint32(n))
	return "a-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:16]))
}

// Differs reports whether m tells people something that before did not: another
// finding, key image, models, operating point or threshold, or a score that moved by
// a hundredth or more.
func (m Message) Differs(before Message) bool {
	return m.Finding != before.Finding || m.KeyImage != before.KeyImage || m.KeyFrame != before.KeyFrame || !slices.Equal(m.Models, before.Models) ||
		m.OperatingPoint != before.OperatingPoint || roundScore(m.Threshold) != roundScore(before.Threshold) || math.Abs(m.Score-before.Score) >= 0.01
}

// Entry returns the outbox entry that carries m, without its ID. key is the key
// under which order is kept.
func (m Message) Entry(key string) (Entry, error) {
	return newEntry(key, TopicAlert, m)
}

// MarshalJSON implements json.Marshaler. It fails with [ErrInvalid] rather than
// let an incomplete message leave.
func (m Message) MarshalJSON() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	m.Score, m.Threshold = roundScore(m.Score), roundScore(m.Threshold)
	m.AcquiredAt, m.ReceivedAt, m.DetectedAt = utc(m.AcquiredAt), utc(m.ReceivedAt), utc(m.DetectedAt)
	type members Message
	return json.Marshal(struct {
		Schema string `json:"schema"`
		members
		Disclaimer string `json:"disclaimer"`
	}{SchemaAlert, members(m), Disclaimer})
}

// UnmarshalJSON implements json.Unmarshaler. It refuses another schema with
// [ErrInvalid].
func (m *Message) UnmarshalJSON(data []byte) error {
	type members Message
	decoded := struct {
		Schema string `json:"schema"`
		*members
	}{members: (*members)(m)}
	if err := json.Unmarshal(data, &decoded); err != nil {
		return err
	}
	return checkSchema(decoded.Schema, SchemaAlert)
}

func (m Message) validate() error {
	var missing problems
	missing.unless(m.AlertID != "", "alert_id is empty")
	missing.unless(m.Seq >= 1, "seq is below 1")
	missing.unless(m.Type == TypeNew || m.Type == TypeUpdate || m.Type == TypeRetract || m.Type == TypeEscalate, "type is none of new, update, retract, escalate")
	missing.unless(m.Level >= 0, "level is below 0")
	missing.unless(m.Type != TypeEscalate || m.Level >= 1, "an escalation needs a level from 1")
	missing.unless(m.Site != "" && m.Device != "", "site or device is empty")
	missing.unless(m.Study.valid(), "exactly one of study_instance_uid and study_pseudonym is needed")
	missing.unless(m.Finding != "", "finding is empty")
	missing.unless(validScore(m.Score) && validScore(m.Threshold), "score or threshold is not within 0..1")
	// Beside a pseudonym it would lead back to the study.
	missing.unless((m.KeyImage != "") == (m.InstanceUID != ""), "sop_instance_uid goes with study_instance_uid, and with nothing else")
	missing.unless(m.KeyFrame == 0 || m.KeyFrame > 0 && m.KeyImage != "", "frame_number counts from 1 and goes with sop_instance_uid")
	missing.unless(len(m.Models) > 0 && complete(m.Models), "models are missing or incomplete")
	missing.unless(!m.ReceivedAt.IsZero() && !m.DetectedAt.IsZero(), "received_at or detected_at is missing")
	return missing.err("alert")
}

// complete reports whether every model has its name and its hash.
func complete(models []Model) bool {
	return !slices.ContainsFunc(models, func(m Model) bool { return m.Name == "" || m.SHA256 == "" })
}

func (s Study) valid() bool { return (s.InstanceUID == "") != (s.Pseudonym == "") }

// problems collects what is wrong with a message, so that one error names it all.
type problems []string

func (p *problems) unless(ok bool, problem string) {
	if !ok {
		*p = append(*p, problem)
	}
}

func (p problems) err(kind string) error {
	if len(p) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: %s", ErrInvalid, kind, strings.Join(p, "; "))
}

func checkSchema(got, want string) error {
	if got != want {
		return fmt.Errorf("%w: schema is not %s", ErrInvalid, want)
	}
	return nil
}

func validScore(s float64) bool { return s >= 0 && s <= 1 } // false for NaN

// roundScore keeps four decimals: more would promise a precision that no model has.
func roundScore(s float64) float64 { return math.Round(s*1e4) / 1e4 }

// utc brings a time to what travels; a zero time stays zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Millisecond)
}
