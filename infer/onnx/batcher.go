package onnx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// errHung: a run did not come back, not even when it was told to end.
	errHung = errors.New("a run hangs")
	// errSlow: a run was ended since it took too long.
	errSlow = errors.New("a run took too long")
	// errGone: the session failed before and is not run again.
	errGone = errors.New("the session has failed")
)

// flush is how long slices wait for others to be computed with. A GPU takes a
// few milliseconds for a batch.
const flush = 3 * time.Millisecond

// left are the backends that failed. Their memory stays: what hangs in a driver may
// write to it as long as the process lives.
var left struct {
	sync.Mutex
	backends []backend
}

// batch is what computes several slices at once: a runner, or what a test puts in
// its place.
type batch interface {
	run(ctx context.Context) error
	destroy() error
}

// bucket is a batch of one size.
type bucket struct {
	batch
	*values
	size int
}

// batcher is a backend that computes the slices that are there together, in
// buckets of fixed sizes, one bucket at a time: a full one at once, any other as
// soon as nobody is preparing a slice or flush has passed. A session that failed
// is never run again, nor destroyed: it may be in use by what hangs.
type batcher struct {
	name    string
	buckets []bucket // ascending
	destroy func() error
	limit   time.Duration // of one run

	jobs   chan *job     // those at rest
	count  int           // of all
	leased atomic.Int32  // those that are not at rest
	queue  chan *job     // room for all
	closed chan struct{} // no new work from here on
	failed chan struct{} // no work at all from here on
	once   sync.Once     // guards closing of failed
	why    error         // to be read once failed is closed
	stop   chan struct{} // ends the loop
	ended  chan struct{} // the loop has ended
}

// newBatcher prepares as many jobs as there are slices at a time. destroy gives
// the session back.
func newBatcher(name string, buckets []bucket, jobs int, limit time.Duration, destroy func() error) *batcher {
	b := &batcher{
		name: name, buckets: buckets, destroy: destroy, limit: limit, count: jobs,
		jobs: make(chan *job, jobs), queue: make(chan *job, 2*jobs),
		closed: make(chan struct{}), failed: make(chan struct{}), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	for range jobs {
		b.jobs <- b.newJob()
	}
	go b.loop()
	return b
}

func (b *batcher) newJob() *job {
	one := b.buckets[0]
	like := func(all []float32) []float32 {
		if all == nil {
			return nil
		}
		return make([]float32, len(all)/one.size)
	}
	return &job{
		values: values{input: like(one.input), logits: like(one.logits), maps: like(one.maps), features: like(one.features)},
		done:   make(chan error, 1),
	}
}

func (b *batcher) provider() string { return b.name }

// abandon ends all work: what waits is told why, what hangs is left.
func (b *batcher) abandon(why error) {
	b.once.Do(func() {
		b.why = why
		close(b.failed)
		left.Lock()
		defer left.Unlock()
		left.backends = append(left.backends, b)
	})
}

// gone says why nothing is run any more, once failed is closed.
func (b *batcher) gone() error { return fmt.Errorf("%w: %w", errGone, b.why) }

func (b *batcher) acquire(ctx context.Context) (*job, error) {
	select {
	case <-b.failed:
		return nil, b.gone()
	default:
	}
	j, err := take(ctx, b.jobs, b.closed)
	if err == nil {
		b.leased.Add(1)
	}
	return j, err
}

func (b *batcher) release(j *job) {
	b.leased.Add(-1)
	if j.lost {
		j = b.newJob()
	}
	b.jobs <- j
}

// run waits for the batch before it and for its own.
func (b *batcher) run(ctx context.Context, j *job) error {
	select {
	case <-b.failed:
		return b.gone()
	case b.queue <- j:
	}
	patience := time.NewTimer(2*b.limit + b.limit/2 + flush)
	defer patience.Stop()
	select {
	case err := <-j.done:
		return err
	case <-b.failed: // with this slice or before it
		j.lost = true
		return b.gone()
	case <-patience.C:
		j.lost = true
		b.abandon(errHung)
		return errHung
	case <-ctx.Done():
		j.lost = true
		return context.Cause(ctx)
	}
}

// loop computes until it is stopped or a run fails.
func (b *batcher) loop() {
	defer close(b.ended)
	together := make([]*job, 0, b.most())
	for {
		select {
		case j := <-b.queue:
			together = b.gather(append(together[:0], j))
		case <-b.stop:
			return
		case <-b.failed:
			return
		}
		err := b.compute(together)
		for _, j := range together {
			j.done <- err
		}
		if err != nil {
			b.abandon(err)
			return
		}
	}
}

func (b *batcher) most() int { return b.buckets[len(b.buckets)-1].size }

// gather takes further slices to the first.
func (b *batcher) gather(together []*job) []*job {
	timer := time.NewTimer(flush)
	defer timer.Stop()
	for len(together) < b.most() {
		select {
		case j := <-b.queue:
			together = append(together, j)
			continue
		default:
		}
		if len(together) >= int(b.leased.Load()) {
			return together // nobody is preparing another
		}
		select {
		case j := <-b.queue:
			together = append(together, j)
		case <-timer.C:
			return together
		}
	}
	return together
}

// compute runs the smallest bucket that takes the slices.
func (b *batcher) compute(together []*job) error {
	at := slices.IndexFunc(b.buckets, func(k bucket) bool { return k.size >= len(together) })
	k := b.buckets[at]
	one := len(k.input) / k.size
	for i, j := range together {
		copy(k.input[i*one:], j.input)
	}
	clear(k.input[len(together)*one:])
	ctx, cancel := context.WithTimeoutCause(context.Background(), b.limit, fmt.Errorf("%w: more than %v", errSlow, b.limit))
	defer cancel()
	if err := k.run(ctx); err != nil {
		return err
	}
	for i, j := range together {
		out := k.outputs(k.size, i)
		copy(j.logits, out[0])
		copy(j.maps, out[1])
		copy(j.features, out[2])
	}
	return nil
}

func (b *batcher) close() error {
	close(b.closed)
	for range b.count { // a slice in work comes back first
		<-b.jobs
	}
	select {
	case <-b.failed:
		return nil
	default:
	}
	close(b.stop)
	<-b.ended
	return b.destroy()
}
