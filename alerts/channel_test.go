package alerts

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoute(t *testing.T) {
	m := sampleMessage()
	m.Study, m.KeyImage = Study{InstanceUID: "1.2.3"}, "1.2.3.4"
	all := Route{Channel: "pager", Alerts: []Type{TypeNew}, Outcomes: []Outcome{Failed}, UIDs: true}
	blind := all
	blind.UIDs = false
	for name, c := range map[string]struct {
		route Route
		kind  Type
		ok    bool
		named bool
	}{
		"nobody asked":     {Route{}, TypeNew, false, false},
		"of another type":  {all, TypeUpdate, false, false},
		"by UID":           {all, TypeNew, true, true},
		"by its pseudonym": {blind, TypeNew, true, false},
	} {
		m.Type = c.kind
		e, ok, err := c.route.Alert(m, "s-key")
		if err != nil || ok != c.ok {
			t.Errorf("%s: %v, %v", name, ok, err)
			continue
		}
		payload := string(e.Payload)
		if ok && (e.Channel != "pager" || e.Key != "s-key" || e.Topic != TopicAlert ||
			strings.Contains(payload, "1.2.3") != c.named || strings.Contains(payload, "s-key") == c.named) {
			t.Errorf("%s: %+v, %s", name, e, payload)
		}
	}
	o := OutcomeMessage{
		Site: "north", Device: "ct1", Study: Study{InstanceUID: "1.2.3"}, Seq: 1, Outcome: Failed, Reason: "no model",
		ReceivedAt: time.Unix(1, 0), DecidedAt: time.Unix(2, 0),
	}
	if e, ok, err := blind.Outcome(o, "s-key"); err != nil || !ok || strings.Contains(string(e.Payload), "1.2.3") || e.Channel != "pager" || e.Topic != TopicOutcome {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
	o.Outcome = NotAnalysed
	if _, ok, err := blind.Outcome(o, "s-key"); ok || err != nil {
		t.Errorf("%v, %v; want nothing", ok, err)
	}
	o.Outcome, o.Reason = Failed, ""
	if _, ok, err := blind.Outcome(o, "s-key"); ok || !errors.Is(err, ErrInvalid) {
		t.Errorf("%v, %v; want ErrInvalid", ok, err)
	}
}

// One channel hangs, one fails, one works: each for itself.
func TestPromise5_AFailingChannelDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		faults := &Faults{Log: slog.New(slog.NewTextHandler(&log, nil))}
		mended := make(chan struct{})
		publishers := map[string]publisherFunc{
			"works": func(context.Context, Entry) error { return nil },
			"hangs": func(ctx context.Context, _ Entry) error { <-ctx.Done(); return ctx.Err() },
			"fails": func(context.Context, Entry) error {
				select {
				case <-mended:
					return nil
				default:
					return Advise(errDown, "start it")
				}
			},
		}
		outboxes := map[string]*memoryOutbox{}
		for name, p := range publishers {
			outboxes[name] = newMemoryOutbox("a", "a", "b")
			stop := runCourier(t, &Courier{Outbox: outboxes[name], Publisher: &Channel{Name: name, Publisher: p, Faults: faults}})
			defer stop()
		}
		elapse(time.Minute)
		if w, f, h := outboxes["works"].pending(), outboxes["fails"].pending(), outboxes["hangs"].pending(); w != 0 || f != 3 || h != 3 {
			t.Errorf("pending: works %d, fails %d, hangs %d; want 0, 3, 3", w, f, h)
		}
		if all := faults.List(); len(all) != 1 || all[0].About != "fails" || all[0].Reason != "broker down: start it" {
			t.Errorf("faults %+v", all)
		}
		close(mended)
		elapse(time.Minute)
		if n := outboxes["fails"].pending(); n != 0 || len(faults.List()) != 0 {
			t.Errorf("%d pending, faults %+v; want none", n, faults.List())
		}
		if text := log.String(); strings.Count(text, "level=ERROR") != 1 || strings.Count(text, "over: ") != 1 {
			t.Errorf("log:\n%s", text)
		}
		if got := outboxes["fails"].delivered; slices.Index(got, 1) > slices.Index(got, 2) {
			t.Errorf("delivered %v", got)
		}
	})
}
