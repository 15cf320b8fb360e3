package alerts

import (
	"encoding/json"
	"time"
)

// Outcome is the end of a study. There is no fifth: a study without one is
// still on its way.
type Outcome string

// The outcomes.
const (
	Positive    Outcome = "POSITIVE"     // hemorrhage suspected
	Negative    Outcome = "NEGATIVE"     // analysed completely, nothing suspected
	NotAnalysed Outcome = "NOT-ANALYSED" // not a study for this model; the reason says why
	Failed      Outcome = "FAILED"       // should have been analysed and could not be; the reason says why
)

// Counts tells how much of a study the outcome rests on.
type Counts struct {
	Received   int `json:"received"`   // instances
	Classified int `json:"classified"` // slices that the model has seen
	Ineligible int `json:"ineligible"` // instances that are not for this model
	Failed     int `json:"failed"`     // slices that should have been classified and were not
}

// OutcomeMessage is the outcome of a study (schema [SchemaOutcome]). Every study
// gets one; late slices may bring another with the next Seq, which replaces it.
type OutcomeMessage struct {
	Site   string `json:"site"`
	Device string `json:"device"`
	Study
	Seq int `json:"seq"` // from 1, of this study's outcomes

	Outcome Outcome `json:"outcome"`
	// Reason is required for NOT-ANALYSED and FAILED. For POSITIVE and NEGATIVE
	// it may hold what a reader should know, as "3 of 34 slices failed".
	Reason  string  `json:"reason,omitempty"`
	Finding string  `json:"finding,omitempty"` // with POSITIVE: the class
	Score   float64 `json:"score"`             // 0..1, of the study rule; travels only beside Models: no number where nothing was asked
	// Threshold is what Score was held against, at OperatingPoint; both as in Message.
	Threshold      float64 `json:"threshold,omitempty"`
	OperatingPoint string  `json:"operating_point,omitempty"`
	AlertID        string  `json:"alert_id,omitempty"` // of the study's latest alert, retracted or not
	Models         []Model `json:"models,omitempty"`   // all that were asked together; absent where none was
	Counts         Counts  `json:"counts"`

	AcquiredAt time.Time `json:"acquired_at,omitzero"` // earliest known acquisition
	ReceivedAt time.Time `json:"received_at"`          // last instance
	DecidedAt  time.Time `json:"decided_at"`
}

// Entry returns the outbox entry that carries m, without its ID. key is the key
// under which order is kept.
func (m OutcomeMessage) Entry(key string) (Entry, error) {
	return newEntry(key, TopicOutcome, m)
}

// MarshalJSON implements json.Marshaler. It fails with [ErrInvalid] rather than
// let an incomplete message leave.
func (m OutcomeMessage) MarshalJSON() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	m.Score, m.Threshold = roundScore(m.Score), roundScore(m.Threshold)
	m.AcquiredAt, m.ReceivedAt, m.DecidedAt = utc(m.AcquiredAt), utc(m.ReceivedAt), utc(m.DecidedAt)
	type members OutcomeMessage
	message := struct {
		Schema string `json:"schema"`
		members
		Score      *float64 `json:"score,omitempty"` // in the place of the member's: a 0 would read as "no blood"
		Disclaimer string   `json:"disclaimer"`
	}{Schema: SchemaOutcome, members: members(m), Disclaimer: Disclaimer}
	if len(m.Models) > 0 {
		message.Score = &m.Score
	}
	return json.Marshal(message)
}

// UnmarshalJSON implements json.Unmarshaler. It refuses another schema with
// [ErrInvalid].
func (m *OutcomeMessage) UnmarshalJSON(data []byte) error {
	type members OutcomeMessage
	decoded := struct {
		Schema string `json:"schema"`
		*members
	}{members: (*members)(m)}
	if err := json.Unmarshal(data, &decoded); err != nil {
		return err
	}
	return checkSchema(decoded.Schema, SchemaOutcome)
}

func (m OutcomeMessage) validate() error {
	var missing problems
	missing.unless(m.Site != "" && m.Device != "", "site or device is empty")
	missing.unless(m.Study.valid(), "exactly one of study_instance_uid and study_pseudonym is needed")
	missing.unless(m.Seq >= 1, "seq is below 1")
	switch m.Outcome {
	case Positive:
		missing.unless(m.Finding != "" && m.AlertID != "", "POSITIVE needs finding and alert_id")
	case Negative:
		missing.unless(m.Finding == "", "NEGATIVE has no finding")
		missing.unless(m.Counts.Classified > 0, "NEGATIVE needs classified slices")
	case NotAnalysed, Failed:
		missing.unless(m.Reason != "", string(m.Outcome)+" needs a reason")
		missing.unless(m.Finding == "", string(m.Outcome)+" has no finding")
	default:
		missing.unless(false, "outcome is none of POSITIVE, NEGATIVE, NOT-ANALYSED, FAILED")
	}
	missing.unless(validScore(m.Score) && validScore(m.Threshold), "score or threshold is not within 0..1")
	missing.unless(len(m.Models) > 0 || m.Threshold == 0 && m.OperatingPoint == "", "a threshold goes with the models that were asked")
	missing.unless(complete(m.Models), "a model is incomplete")
	missing.unless(!m.ReceivedAt.IsZero() && !m.DecidedAt.IsZero(), "received_at or decided_at is missing")
	return missing.err("outcome")
}
