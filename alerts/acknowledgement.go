package alerts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// SchemaAck is the optional "schema" member of an acknowledgement.
const SchemaAck = "ichwatch.ack/v1"

// Limits of an acknowledgement that comes from a network.
const (
	MaxAckSize    = 4096 // bytes of JSON
	maxAckBy      = 64   // characters
	maxAckComment = 500  // characters
)

// ErrMalformedAck is matched by every error of [ParseAcknowledgement]. None of
// them repeats what was received.
var ErrMalformedAck = errors.New("malformed acknowledgement")

// Acknowledgement is a person's answer to an alert.
type Acknowledgement struct {
	AlertID  string
	By       string    // who, in the words of the channel: a name, a role, a pager
	At       time.Time // when it reached this device, by this device's clock
	StatedAt time.Time // when it was given, by the sender's clock; zero when not said
	Via      string    // how: "mqtt", "page", ...
	Comment  string
}

// ParseAcknowledgement reads an acknowledgement of schema [SchemaAck]: a JSON
// object with alert_id and by, perhaps schema, at (RFC 3339) and comment. Other
// members are ignored: an answer must not be lost for a note beside it. At and
// Via are left to the caller.
func ParseAcknowledgement(data []byte) (Acknowledgement, error) {
	if len(data) > MaxAckSize {
		return Acknowledgement{}, fmt.Errorf("%w: %d bytes, at most %d are read", ErrMalformedAck, len(data), MaxAckSize)
	}
	if !utf8.Valid(data) {
		return Acknowledgement{}, fmt.Errorf("%w: not UTF-8", ErrMalformedAck)
	}
	var in struct {
		Schema  string          `json:"schema"`
		AlertID string          `json:"alert_id"`
		By      string          `json:"by"`
		At      json.RawMessage `json:"at"`
		Comment string          `json:"comment"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&in); err != nil {
		// The decoder's error quotes its input; an attacker's bytes stay out of the log.
		return Acknowledgement{}, fmt.Errorf("%w: not a JSON object with text in alert_id, by and comment", ErrMalformedAck)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Acknowledgement{}, fmt.Errorf("%w: something follows the JSON object", ErrMalformedAck)
	}
	var stated time.Time
	if in.At != nil && json.Unmarshal(in.At, &stated) != nil {
		return Acknowledgement{}, fmt.Errorf("%w: at is not a time as in \"2026-02-03T04:05:06Z\" (RFC 3339, with its zone); it may be left out", ErrMalformedAck)
	}
	switch {
	case in.Schema != "" && in.Schema != SchemaAck:
		return Acknowledgement{}, fmt.Errorf("%w: schema is not %s", ErrMalformedAck, SchemaAck)
	case !validID(in.AlertID):
		return Acknowledgement{}, fmt.Errorf("%w: alert_id is not the id of an alert", ErrMalformedAck)
	case !validText(in.By, maxAckBy) || strings.TrimSpace(in.By) == "":
		return Acknowledgement{}, fmt.Errorf("%w: by must be 1 to %d printable characters", ErrMalformedAck, maxAckBy)
	case !validText(in.Comment, maxAckComment):
		return Acknowledgement{}, fmt.Errorf("%w: comment must be at most %d printable characters", ErrMalformedAck, maxAckComment)
	}
	return Acknowledgement{AlertID: in.AlertID, By: in.By, StatedAt: stated, Comment: in.Comment}, nil
}

// validID reports whether s has the form of [ID].
func validID(s string) bool {
	const digits = 26 // base32 of 16 bytes
	rest, ok := strings.CutPrefix(s, "a-")
	return ok && len(rest) == digits && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func validText(s string, limit int) bool {
	return utf8.RuneCountInString(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
