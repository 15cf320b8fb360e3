package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// broker is the MQTT broker of the demo, on a free port of the loopback interface, and the on-call staff's subscription.
type broker struct {
	server *mochi.Server
	addr   string
	base   string // <root>/v1/<site>/<device>
	board  *board
}

func startBroker(b *board, base string) (*broker, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	srv := mochi.New(&mochi.Options{
		InlineClient: true,
		Logger:       slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err := srv.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	if err := srv.AddListener(listeners.NewNet("demo", ln)); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	if err := srv.Serve(); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	br := &broker{server: srv, addr: ln.Addr().String(), base: base, board: b}
	for topic, receive := range map[string]func([]byte){alerts.TopicAlert: br.alert, alerts.TopicOutcome: br.outcome} {
		err := srv.Subscribe(base+"/"+topic, 1, func(_ *mochi.Client, _ packets.Subscription, pk packets.Packet) {
			receive(pk.Payload)
		})
		if err != nil {
			return nil, fmt.Errorf("embedded broker: subscribe: %w", err)
		}
	}
	return br, nil
}

func (b *broker) close() { _ = b.server.Close() } // its clients are gone or going

func (b *broker) alert(payload []byte) {
	arrived := time.Now()
	var m alerts.Message
	if err := json.Unmarshal(payload, &m); err != nil {
		return // not one of ours; the summary will miss it
	}
	b.board.keepAlert(payload)
	b.board.update(dicom.UID(m.InstanceUID), func(r *Row) (string, bool) {
		if r.AlertID != m.AlertID { // the answer to an earlier one does not count for it
			r.Retracted, r.Acknowledged, r.AcknowledgedBy, r.Level = false, false, "", 0
		}
		r.AlertID, r.Finding, r.Score, r.Threshold, r.Level = m.AlertID, m.Finding, m.Score, m.Threshold, max(r.Level, m.Level)
		r.Alerts++
		switch m.Type {
		case alerts.TypeNew:
			r.AlertAfter = float64(arrived.Sub(m.ReceivedAt).Microseconds()) / 1000
			r.AlertAtSlice = r.Sent
			text := fmt.Sprintf("ALERT: suspected %s hemorrhage, score %s, %.0f ms after the slice was on disk", m.Finding, r.against(), r.AlertAfter)
			if !r.ByHand {
				text += fmt.Sprintf(", %d of %d slices sent", r.Sent, r.Slices)
			}
			return text, true
		case alerts.TypeEscalate:
			return fmt.Sprintf("ESCALATION to level %d: nobody has acknowledged", m.Level), true
		case alerts.TypeRetract:
			r.Retracted = true
			return "alert withdrawn: " + m.Reason, true
		default:
			return fmt.Sprintf("alert updated: %s, score %s", m.Finding, r.against()), true
		}
	})
}

func (b *broker) outcome(payload []byte) {
	var m alerts.OutcomeMessage
	if err := json.Unmarshal(payload, &m); err != nil {
		return
	}
	b.board.update(dicom.UID(m.InstanceUID), func(r *Row) (string, bool) {
		r.Outcome, r.Reason, r.Score, r.Threshold, r.Classified = m.Outcome, m.Reason, m.Score, m.Threshold, m.Counts.Classified
		if m.Finding != "" {
			r.Finding = m.Finding
		}
		text := fmt.Sprintf("outcome %s, %d slices classified", m.Outcome, m.Counts.Classified)
		if m.Reason != "" {
			text += ": " + m.Reason
		}
		if r.Wrong() {
			text += "; the small model is wrong here, the phantom is " + r.Study
		}
		return text, false
	})
}

// acknowledge answers an alert as a person would, through the broker.
func (b *broker) acknowledge(alertID, by string) error {
	payload, err := json.Marshal(map[string]string{"schema": alerts.SchemaAck, "alert_id": alertID, "by": by})
	if err != nil {
		return err
	}
	return b.server.Publish(b.base+"/ack", payload, false, 1)
}
