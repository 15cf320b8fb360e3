package mqtt

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ichwatch/alerts"
)

// studies is an outbox in memory that keeps to what alerts.Outbox asks for, and
// what a receiver saw of it.
type studies struct {
	added chan struct{}

	mu      sync.Mutex
	n       int64
	entries []alerts.Entry
	next    map[int64]time.Time
	seq     map[string]int   // of the last message, by study
	arrived map[string][]int // seqs in order of arrival, by alert
	changed chan struct{}    // closed and replaced when something arrives
}

func newStudies() *studies {
	return &studies{
		added: make(chan struct{}, 1), next: map[int64]time.Time{}, seq: map[string]int{},
		arrived: map[string][]int{}, changed: make(chan struct{}),
	}
}

// note is what the messages of these tests hold.
type note struct {
	AlertID string `json:"alert_id"`
	Seq     int    `json:"seq"`
	Pad     string `json:"pad,omitempty"`
}

// decide adds one message to each study.
func (o *studies) decide(t *testing.T, pad int, keys ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		o.n++
		o.seq[key]++
		payload, err := json.Marshal(note{alerts.ID("ct1", key, 1), o.seq[key], strings.Repeat("x", pad)})
		if err != nil {
			t.Fatal(err)
		}
		o.entries = append(o.entries, alerts.Entry{ID: o.n, Key: key, Topic: alerts.TopicAlert, QoS: 1, Payload: payload})
	}
	select {
	case o.added <- struct{}{}:
	default:
	}
}

func (o *studies) PendingMessages(_ context.Context, now time.Time, limit int) ([]alerts.Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	heads := map[string]bool{}
	var due []alerts.Entry
	for _, e := range o.entries {
		if !heads[e.Key] && !o.next[e.ID].After(now) {
			due = append(due, e)
		}
		heads[e.Key] = true
	}
	slices.SortStableFunc(due, func(a, b alerts.Entry) int { return cmp.Compare(a.Attempts, b.Attempts) })
	return due[:min(limit, len(due))], nil
}

func (o *studies) MessageDelivered(_ context.Context, id int64, _ time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.entries = slices.DeleteFunc(o.entries, func(e alerts.Entry) bool { return e.ID == id })
	return nil
}

func (o *studies) MessageFailed(_ context.Context, id int64, _ string, next time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.entries {
		if o.entries[i].ID == id {
			o.entries[i].Attempts++
			o.next[id] = next
		}
	}
	return nil
}

func (o *studies) MessagesAdded() <-chan struct{} { return o.added }

// receiver takes what arrives on the alert topic.
func (o *studies) receiver(t *testing.T) func(payload []byte) {
	return func(payload []byte) {
		var n note
		if err := json.Unmarshal(payload, &n); err != nil {
			t.Errorf("%q arrived: %v", payload, err)
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.arrived[n.AlertID] = append(o.arrived[n.AlertID], n.Seq)
		close(o.changed)
		o.changed = make(chan struct{})
	}
}

// await waits until at least n different messages of the studies have arrived.
func (o *studies) await(t *testing.T, n int, keys ...string) {
	t.Helper()
	deadline := time.After(3 * patience)
	for {
		o.mu.Lock()
		got, changed := 0, o.changed
		for _, key := range keys {
			got += len(distinct(o.arrived[alerts.ID("ct1", key, 1)]))
		}
		o.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d of %d messages arrived", got, n)
		}
	}
}

// distinct returns the seqs in the order in which each arrived first.
func distinct(seqs []int) []int {
	var first []int
	for _, seq := range seqs {
		if !slices.Contains(first, seq) {
			first = append(first, seq)
		}
	}
	return first
}

// check compares what was decided with what arrived: all of it, at least once,
// under the same ids, in order within each study.
func (o *studies) check(t *testing.T) (decided, copies int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.arrived) != len(o.seq) {
		t.Errorf("%d alert ids arrived of %d alerts", len(o.arrived), len(o.seq))
	}
	for key, last := range o.seq {
		got := o.arrived[alerts.ID("ct1", key, 1)]
		first := distinct(got)
		if len(first) != last || !slices.IsSorted(first) {
			t.Errorf("%s: seqs arrived first in the order %v, want 1 to %d", key, first, last)
		}
		decided += last
		copies += len(got) - len(first)
	}
	return decided, copies
}

func (o *studies) pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.entries)
}

func (o *studies) total() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, seqs := range o.arrived {
		n += len(distinct(seqs))
	}
	return n
}

func (o *studies) decidedOf(keys ...string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		n += o.seq[key]
	}
	return n
}
