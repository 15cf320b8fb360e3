package mail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"ichwatch/alerts"
)

// letter is what a mail says.
type letter struct {
	subject string
	thread  string // the same for all mails that belong together
	lines   [][2]string
}

// compose writes the mail about an entry (RFC 5322).
func (m *Mailer) compose(e alerts.Entry) ([]byte, error) {
	var l letter
	var err error
	switch e.Topic {
	case alerts.TopicAlert:
		var message alerts.Message
		if err = json.Unmarshal(e.Payload, &message); err == nil {
			l = aboutAlert(message)
		}
	case alerts.TopicOutcome:
		var message alerts.OutcomeMessage
		if err = json.Unmarshal(e.Payload, &message); err == nil {
			l = aboutOutcome(message, e.Key)
		}
	default:
		err = fmt.Errorf("no mail is known for messages of topic %s", e.Topic)
	}
	if err != nil {
		return nil, err
	}
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	_, domain, _ := strings.Cut(m.From, "@")
	sum := sha256.Sum256(append([]byte(e.Topic+"\n"), e.Payload...))
	var b bytes.Buffer
	for _, h := range [][2]string{
		{"From", m.From},
		{"To", strings.Join(m.To, ", ")},
		{"Subject", mime.QEncoding.Encode("utf-8", oneLine(l.subject))},
		{"Date", now().Format(time.RFC1123Z)},
		{"Message-ID", "<" + hex.EncodeToString(sum[:16]) + "@" + domain + ">"},
		{"References", "<" + l.thread + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834: no out-of-office replies
		{"Importance", "high"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	fmt.Fprintf(w, "%s\r\n\r\n", alerts.Disclaimer)
	for _, line := range l.lines {
		if line[1] != "" {
			fmt.Fprintf(w, "%-11s %s\r\n", line[0], oneLine(line[1]))
		}
	}
	fmt.Fprint(w, "\r\nNobody reads an answer to this mail.\r\n")
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func aboutAlert(m alerts.Message) letter {
	what := map[alerts.Type]string{
		alerts.TypeNew: "suspected", alerts.TypeUpdate: "changed: suspected", alerts.TypeRetract: "withdrawn: suspected",
		alerts.TypeEscalate: fmt.Sprintf("NOT YET ACKNOWLEDGED (level %d): suspected", m.Level),
	}[m.Type]
	return letter{
		subject: fmt.Sprintf("%s/%s: %s %s hemorrhage, not for diagnosis", m.Site, m.Device, what, m.Finding),
		thread:  m.AlertID,
		lines: [][2]string{
			{"Message", fmt.Sprintf("%s, number %d of this alert", m.Type, m.Seq)},
			{"Finding", m.Finding},
			{"Score", fmt.Sprintf("%.2f", m.Score)},
			{"Reason", m.Reason},
			{"Study", m.InstanceUID + m.Pseudonym}, // one of them
			{"Key image", m.KeyImage},
			{"Received", when(m.ReceivedAt)},
			{"Detected", when(m.DetectedAt)},
			{"Models", models(m.Models)},
			{"Alert", m.AlertID},
		},
	}
}

func aboutOutcome(m alerts.OutcomeMessage, key string) letter {
	return letter{
		subject: fmt.Sprintf("%s/%s: study %s, not for diagnosis", m.Site, m.Device, m.Outcome),
		thread:  "outcome-" + key,
		lines: [][2]string{
			{"Outcome", string(m.Outcome)},
			{"Reason", m.Reason},
			{"Finding", m.Finding},
			{"Study", m.InstanceUID + m.Pseudonym},
			{"Slices", fmt.Sprintf("%d received, %d classified, %d failed", m.Counts.Received, m.Counts.Classified, m.Counts.Failed)},
			{"Received", when(m.ReceivedAt)},
			{"Decided", when(m.DecidedAt)},
			{"Models", models(m.Models)},
			{"Alert", m.AlertID},
		},
	}
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func models(all []alerts.Model) string {
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// oneLine keeps a text from being more than one header or line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return ' '
		}
		return r
	}, s)
}
