package alerts

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParseAcknowledgement(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want Acknowledgement
	}{
		"shortest": {`{"alert_id":"` + sampleID + `","by":"Dr. Ü"}`, Acknowledgement{AlertID: sampleID, By: "Dr. Ü"}},
		"longest": {
			`{"schema":"ichwatch.ack/v1","alert_id":"` + sampleID + `","by":"on call 2","at":"2026-02-03T04:05:06.789Z","comment":"called the ward"} `,
			Acknowledgement{AlertID: sampleID, By: "on call 2", StatedAt: sampleTime, Comment: "called the ward"},
		},
		"with a note": {
			`{"alert_id":"` + sampleID + `","by":"x","note":"phoned","ward":{"beds":[1,2]},"schema":"ichwatch.ack/v1"}`,
			Acknowledgement{AlertID: sampleID, By: "x"},
		},
	} {
		got, err := ParseAcknowledgement([]byte(c.in))
		if err != nil || !got.StatedAt.Equal(c.want.StatedAt) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		got.StatedAt, c.want.StatedAt = time.Time{}, time.Time{}
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		if p := loadSchema(t, "ack.v1.json").checkJSON(t, []byte(c.in), false); p != nil {
			t.Errorf("%s: %v", name, p)
		}
	}
}

var hostileAcks = map[string]string{
	"empty":         ``,
	"not JSON":      `hello`,
	"null":          `null`,
	"array":         `[]`,
	"cut":           `{"alert_id":"` + sampleID + `","by":"x"`,
	"two":           `{"alert_id":"` + sampleID + `","by":"x"}{}`,
	"no by":         `{"alert_id":"` + sampleID + `"}`,
	"blank by":      `{"alert_id":"` + sampleID + `","by":"  "}`,
	"long by":       `{"alert_id":"` + sampleID + `","by":"` + strings.Repeat("x", 65) + `"}`,
	"line break":    `{"alert_id":"` + sampleID + `","by":"x\nlevel=ERROR"}`,
	"escape":        `{"alert_id":"` + sampleID + `","by":"\u001b[2J"}`,
	"right to left": `{"alert_id":"` + sampleID + `","by":"\u202Ex"}`,
	"not UTF-8":     "{\"alert_id\":\"" + sampleID + "\",\"by\":\"\xff\"}",
	"foreign id":    `{"alert_id":"../../etc/passwd","by":"x"}`,
	"upper-case id": `{"alert_id":"` + strings.ToUpper(sampleID) + `","by":"x"}`,
	"wrong type":    `{"alert_id":1,"by":"x"}`,
	"wrong time":    `{"alert_id":"` + sampleID + `","by":"x","at":"noon"}`,
	"time in Unix":  `{"alert_id":"` + sampleID + `","by":"x","at":1770091506}`,
	"wrong schema":  `{"alert_id":"` + sampleID + `","by":"x","schema":"ichwatch.ack/v2"}`,
	"long comment":  `{"alert_id":"` + sampleID + `","by":"x","comment":"` + strings.Repeat("y", 501) + `"}`,
	"too large":     `{"alert_id":"` + sampleID + `","by":"x"` + strings.Repeat(" ", MaxAckSize) + `}`,
	"deep":          strings.Repeat("[", MaxAckSize),
}

func TestPromise6_HostileAcknowledgements(t *testing.T) {
	for name, in := range hostileAcks {
		a, err := ParseAcknowledgement([]byte(in))
		if !errors.Is(err, ErrMalformedAck) {
			t.Errorf("%s: %+v, %v; want ErrMalformedAck", name, a, err)
			continue
		}
		if strings.Contains(in, `"at"`) && !strings.Contains(err.Error(), "at is not a time") {
			t.Errorf("%s: %v, want the member at named", name, err)
		}
		for _, word := range []string{"etc", "hello", "ERROR", "noon"} {
			if strings.Contains(in, word) && strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error repeats what was received: %v", name, err)
			}
		}
	}
}

func FuzzParseAcknowledgement(f *testing.F) {
	for _, in := range hostileAcks {
		f.Add([]byte(in))
	}
	f.Add([]byte(`{"alert_id":"` + sampleID + `","by":"x","at":"2026-02-03T04:05:06Z","comment":"ok"}`))
	schema := loadSchema(f, "ack.v1.json")
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := ParseAcknowledgement(in)
		if err != nil {
			if !errors.Is(err, ErrMalformedAck) || a != (Acknowledgement{}) {
				t.Fatalf("%+v, %v", a, err)
			}
			return
		}
		if len(in) > MaxAckSize || !utf8.ValidString(a.By) || strings.ContainsAny(a.By+a.Comment, "\x00\n\r\x1b") {
			t.Fatalf("accepted %q", in)
		}
		// What was accepted can be said again within the schema.
		out, err := json.Marshal(map[string]string{"alert_id": a.AlertID, "by": a.By, "comment": a.Comment})
		if err != nil {
			t.Fatal(err)
		}
		if p := schema.checkJSON(t, out, true); p != nil {
			t.Fatalf("accepted %q: %v", in, p)
		}
	})
}
