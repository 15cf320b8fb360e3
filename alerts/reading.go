package alerts

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Verdict is what a reader makes of a suspected finding. It closes an alert for
// the list of those on call; it is the record of an opinion about this device's
// suspicion, and no report.
type Verdict string

// The verdicts.
const (
	Confirmed  Verdict = "confirmed"
	FalseAlarm Verdict = "false-alarm"
	Unsure     Verdict = "unsure"
)

// Verdicts lists them.
func Verdicts() []Verdict { return []Verdict{Confirmed, FalseAlarm, Unsure} }

// ParseVerdict reads a verdict.
func ParseVerdict(s string) (Verdict, error) {
	for _, v := range Verdicts() {
		if string(v) == s {
			return v, nil
		}
	}
	return "", fmt.Errorf("a verdict is one of %v", Verdicts())
}

// Reading is a verdict with who gave it. Readings of an alert are numbered from
// 1 and never change; the last one holds.
type Reading struct {
	AlertID string    `json:"alert_id"`
	Number  int       `json:"number"` // 0: not recorded yet
	Verdict Verdict   `json:"verdict"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Via     string    `json:"via"` // "page"
	Comment string    `json:"comment,omitempty"`
}

// ErrOverruled is matched where somebody else's verdict came in between: see
// OverruledError.
var ErrOverruled = errors.New("somebody else has given a verdict meanwhile")

// OverruledError tells whose verdict stands, and that the person who wanted to
// give another had not seen it.
type OverruledError struct{ Standing Reading }

func (e *OverruledError) Error() string {
	return fmt.Sprintf("%v: %s, by %s", ErrOverruled, strings.ReplaceAll(string(e.Standing.Verdict), "-", " "), e.Standing.By)
}

// Unwrap makes the error match ErrOverruled.
func (e *OverruledError) Unwrap() error { return ErrOverruled }
