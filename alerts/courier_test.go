package alerts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("broker down")

// memoryOutbox is an Outbox as its documentation says, without a disk.
type memoryOutbox struct {
	mu        sync.Mutex
	entries   []Entry
	next      map[int64]time.Time
	delivered []int64
	added     chan struct{}

	readErr, recordErr error
}

func newMemoryOutbox(keys ...string) *memoryOutbox {
	o := &memoryOutbox{next: map[int64]time.Time{}, added: make(chan struct{}, 1)}
	for _, k := range keys {
		o.add(k, TopicOutcome)
	}
	return o
}

func (o *memoryOutbox) add(key, topic string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.entries = append(o.entries, Entry{ID: int64(len(o.entries) + len(o.delivered) + 1), Key: key, Topic: topic, QoS: 1})
	select {
	case o.added <- struct{}{}:
	default:
	}
}

func (o *memoryOutbox) fail(read, record error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.readErr, o.recordErr = read, record
}

func (o *memoryOutbox) PendingMessages(_ context.Context, now time.Time, limit int) ([]Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.readErr != nil {
		return nil, o.readErr
	}
	heads := map[string]bool{}
	var due []Entry
	for _, e := range o.entries {
		if !heads[e.Key] && !o.next[e.ID].After(now) {
			due = append(due, e)
		}
		heads[e.Key] = true
	}
	slices.SortStableFunc(due, func(a, b Entry) int {
		return cmp.Or(-cmp.Compare(btoi(a.Topic == TopicAlert), btoi(b.Topic == TopicAlert)), cmp.Compare(a.Attempts, b.Attempts))
	})
	return due[:min(limit, len(due))], nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (o *memoryOutbox) MessageDelivered(_ context.Context, id int64, _ time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.recordErr != nil {
		return o.recordErr
	}
	o.entries = slices.DeleteFunc(o.entries, func(e Entry) bool { return e.ID == id })
	o.delivered = append(o.delivered, id)
	return nil
}

func (o *memoryOutbox) MessageFailed(_ context.Context, id int64, _ string, next time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.recordErr != nil {
		return o.recordErr
	}
	for i := range o.entries {
		if o.entries[i].ID == id {
			o.entries[i].Attempts++
			o.next[id] = next
		}
	}
	return nil
}

func (o *memoryOutbox) MessagesAdded() <-chan struct{} { return o.added }

func (o *memoryOutbox) pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.entries)
}

// publisherFunc is a Publisher.
type publisherFunc func(context.Context, Entry) error

func (f publisherFunc) Publish(ctx context.Context, e Entry) error { return f(ctx, e) }

// runCourier runs c in a bubble until stop is called.
func runCourier(t *testing.T, c *Courier) (stop func()) {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func TestPromise5_CourierKeepsOrderWithinAKey(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		keys := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 30).Draw(r, "keys")
		failures := rapid.MapOf(rapid.Int64Range(1, 30), rapid.IntRange(0, 6)).Draw(r, "failures")
		parallel := rapid.IntRange(1, 5).Draw(r, "parallel")
		synctest.Test(t, func(t *testing.T) {
			outbox := newMemoryOutbox(keys...)
			left := maps.Clone(failures)
			var mu sync.Mutex
			arrived := map[string][]int64{}
			stop := runCourier(t, &Courier{Outbox: outbox, Parallel: parallel, Publisher: publisherFunc(func(_ context.Context, e Entry) error {
				mu.Lock()
				defer mu.Unlock()
				arrived[e.Key] = append(arrived[e.Key], e.ID) // arrives even where the confirmation is lost
				if left[e.ID] > 0 {
					left[e.ID]--
					return errDown
				}
				return nil
			})})
			elapse(2 * time.Hour) // of the bubble
			stop()
			if n := outbox.pending(); n != 0 {
				t.Fatalf("%d entries still pending", n)
			}
			for i, key := range keys {
				id := int64(i + 1)
				if n := len(slices.DeleteFunc(slices.Clone(arrived[key]), func(x int64) bool { return x != id })); n != failures[id]+1 {
					t.Errorf("entry %d was sent %d times after %d failures", id, n, failures[id])
				}
			}
			for key, ids := range arrived {
				if !slices.IsSorted(ids) {
					t.Errorf("key %s out of order: %v", key, ids)
				}
			}
		})
	})
}

func TestCourierDoesNotWaitForAFailingKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// More failing keys than workers, each with an entry older than the sound one.
		var keys []string
		for i := range 50 {
			keys = append(keys, fmt.Sprintf("bad%d", i))
		}
		outbox := newMemoryOutbox(append(keys, "good", "good")...)
		good := make(chan time.Time, 2)
		stop := runCourier(t, &Courier{Outbox: outbox, Parallel: 2, Publisher: publisherFunc(func(_ context.Context, e Entry) error {
			if e.Key == "good" {
				good <- time.Now()
				return nil
			}
			return errDown
		})})
		defer stop()
		start := time.Now()
		for range 2 {
			if waited := (<-good).Sub(start); waited > time.Second {
				t.Errorf("a sound entry waited %v for the failing ones", waited)
			}
		}
	})
}

func TestCourierSendsAlertsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newMemoryOutbox("a", "b", "c")
		outbox.add("d", TopicAlert)
		sent := make(chan Entry)
		stop := runCourier(t, &Courier{Outbox: outbox, Parallel: 1, Publisher: publisherFunc(func(ctx context.Context, e Entry) error {
			select {
			case sent <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})})
		if e := <-sent; e.Topic != TopicAlert {
			t.Errorf("the first entry is of topic %s", e.Topic)
		}
		stop()
	})
}

func TestCourierBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newMemoryOutbox("a")
		var waited []time.Duration
		last := time.Now()
		stop := runCourier(t, &Courier{
			Outbox: outbox, MinRetry: time.Second, MaxRetry: 8 * time.Second, Poll: time.Millisecond,
			Publisher: publisherFunc(func(context.Context, Entry) error {
				waited = append(waited, time.Since(last))
				last = time.Now()
				return errDown
			}),
		})
		elapse(40 * time.Second)
		stop()
		most := []time.Duration{0, 1, 2, 4, 8, 8, 8}
		if len(waited) < len(most) {
			t.Fatalf("%d attempts in 40 s", len(waited))
		}
		for i, most := range most {
			most *= time.Second
			if waited[i] < most*3/4 || waited[i] > most+2*time.Millisecond {
				t.Errorf("attempt %d after %v, want %v or up to a quarter less", i+1, waited[i], most)
			}
		}
	})
}

func TestCourierWakesForANewEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newMemoryOutbox()
		sent := make(chan time.Time, 1)
		stop := runCourier(t, &Courier{Outbox: outbox, Poll: time.Hour, Publisher: publisherFunc(func(context.Context, Entry) error {
			sent <- time.Now()
			return nil
		})})
		defer stop()
		synctest.Wait()
		added := time.Now()
		outbox.add("a", TopicAlert)
		if waited := (<-sent).Sub(added); waited != 0 {
			t.Errorf("a new entry waited %v", waited)
		}
	})
}

func TestPromise5_CourierOutlivesItsOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newMemoryOutbox("a", "a")
		published := 0
		outbox.fail(errors.New("disk I/O error"), nil)
		stop := runCourier(t, &Courier{Outbox: outbox, Publisher: publisherFunc(func(context.Context, Entry) error {
			published++
			return nil
		})})
		elapse(10 * time.Second)
		outbox.fail(nil, errors.New("disk I/O error"))
		elapse(10 * time.Second)
		synctest.Wait()
		if published < 2 || published > 12 {
			t.Errorf("%d publications in 10 s in which nothing could be recorded; want some, but no flood", published)
		}
		outbox.fail(nil, nil)
		elapse(10 * time.Second)
		stop()
		if n := outbox.pending(); n != 0 {
			t.Errorf("%d entries pending after the disk came back", n)
		}
	})
}

func TestCourierStops(t *testing.T) {
	t.Run("a message that waits for its connection is neither lost nor failed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			outbox := newMemoryOutbox("a")
			stop := runCourier(t, &Courier{Outbox: outbox, Publisher: publisherFunc(func(ctx context.Context, _ Entry) error {
				<-ctx.Done()
				return ctx.Err()
			})})
			synctest.Wait()
			stop()
			if outbox.pending() != 1 || outbox.entries[0].Attempts != 0 {
				t.Errorf("entries = %+v, want one without attempts", outbox.entries)
			}
		})
	})
	t.Run("a message that was confirmed at the last moment is recorded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			outbox := newMemoryOutbox("a")
			stop := runCourier(t, &Courier{Outbox: outbox, Publisher: publisherFunc(func(ctx context.Context, _ Entry) error {
				<-ctx.Done()
				return nil
			})})
			synctest.Wait()
			stop()
			if outbox.pending() != 0 {
				t.Error("the confirmed entry is still pending")
			}
		})
	})
}

// elapse lets d pass on the bubble's clock and whatever is due then come to rest.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
