package onnx

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
)

// fault is what goes wrong in a run of a bucket; the run itself has taken place.
type fault func(ctx context.Context, v *values) error

// faulty is a batch in which faults happen.
type faulty struct {
	*runner
	fault *atomic.Pointer[fault]
}

func (f faulty) run(ctx context.Context) error {
	if err := f.runner.run(ctx); err != nil {
		return err
	}
	if fault := f.fault.Load(); fault != nil {
		return (*fault)(ctx, &f.values)
	}
	return nil
}

// onCPU is a batcher that calls itself cuda and computes on the CPU, until a fault
// is put in.
func onCPU(tb testing.TB, m *manifest.Manifest, jobs int, limit time.Duration) (*batcher, *atomic.Pointer[fault]) {
	tb.Helper()
	open(tb)
	faults := new(atomic.Pointer[fault])
	p := cpu
	p.name, p.buckets = CUDA, gpuBuckets
	s, buckets, err := openBuckets(p, m, configuration{})
	if err != nil {
		tb.Fatal(err)
	}
	for i := range buckets {
		buckets[i].batch = faulty{buckets[i].batch.(*runner), faults}
	}
	destroy := sync.OnceValue(func() error {
		var errs []error
		for _, b := range buckets {
			errs = append(errs, b.destroy())
		}
		return errors.Join(append(errs, s.destroy())...)
	})
	return newBatcher(CUDA, buckets, jobs, limit, destroy), faults
}

// accelerated is a classifier with that batcher in service.
func accelerated(t *testing.T, m *manifest.Manifest, limit time.Duration) (*Classifier, *atomic.Pointer[fault]) {
	t.Helper()
	const runners = 4
	b, faults := onCPU(t, m, runners, limit)
	c, err := open(t).NewClassifier(m, Options{Runners: runners, Acceleration: &Acceleration{
		Order: []string{TensorRT, CUDA, CPU}, Log: slog.New(slog.DiscardHandler),
		open: func(_ context.Context, name string) (backend, Proof, error) {
			if name == TensorRT {
				return nil, Proof{}, errors.New("no such library")
			}
			return b, Proof{Nodes: map[string]int{"CUDAExecutionProvider": 7}}, nil
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	<-c.chain.climbed
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, faults
}

func states(c *Classifier) string {
	var out []string
	for _, l := range c.Levels() {
		out = append(out, l.Provider+" "+string(l.State))
	}
	return strings.Join(out, ", ")
}

func TestTheNextLevelServesWhereOneIsRefused(t *testing.T) {
	c, _ := accelerated(t, load(t, "tiny"), time.Second)
	if got := states(c); got != "tensorrt refused, cuda serving, cpu standby" {
		t.Errorf("levels: %s", got)
	}
	if l := c.Levels(); l[0].Reason != "no such library" || l[1].Proof.Nodes["CUDAExecutionProvider"] != 7 || c.Provider() != CUDA {
		t.Errorf("%+v on %s", l, c.Provider())
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 12 {
				img := head(int16(10 + 9*((g+i)%8)))
				s, err := c.Classify(t.Context(), img)
				if err != nil {
					t.Error(err)
					return
				}
				if s.Provider != CUDA {
					t.Errorf("computed by %s", s.Provider)
				}
				sameLogits(t, s, tinyLogits(t, c, img))
			}
		})
	}
	wg.Wait()
}

func sameLogits(t *testing.T, s infer.Scores, want []float64) {
	t.Helper()
	for k, l := range want {
		if math.Abs(float64(s.Logits[k])-l) > 1e-4 {
			t.Errorf("logit %d is %v, want %v", k, s.Logits[k], l)
		}
	}
}

// TestPromise4_NoSliceIsLostWithItsProvider breaks a provider in every way in the
// middle of the work: each slice has its right answer, and the CPU goes on.
func TestPromise4_NoSliceIsLostWithItsProvider(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for name, c := range map[string]struct {
		fault fault
		says  error
	}{
		"an error": {func(context.Context, *values) error { return errors.New("CUDA error 700") }, nil},
		"no number": {func(_ context.Context, v *values) error {
			v.logits[len(v.logits)/2] = float32(math.NaN())
			for i := range v.logits {
				v.logits[i] /= 0
			}
			return nil
		}, ErrNotFinite},
		"too slow, and ends when told": {func(ctx context.Context, _ *values) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}, errSlow},
		"hangs": {func(context.Context, *values) error { <-hang; return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := load(t, "tiny")
			classifier, faults := accelerated(t, m, 50*time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var before, after atomic.Int32
			var wg sync.WaitGroup
			for g := range 6 {
				wg.Go(func() {
					for i := range 20 {
						if g == 0 && i == 5 {
							faults.Store(&c.fault)
						}
						img := head(int16(10 + 9*((g+i)%8)))
						s, err := classifier.Classify(ctx, img)
						if err != nil {
							t.Errorf("slice %d of %d: %v", i, g, err)
							continue
						}
						if s.Provider == CUDA {
							before.Add(1)
						} else {
							after.Add(1)
						}
						sameLogits(t, s, tinyLogits(t, classifier, img))
					}
				})
			}
			wg.Wait()
			if before.Load() == 0 || after.Load() == 0 || before.Load()+after.Load() != 120 {
				t.Errorf("%d slices before the fault, %d after", before.Load(), after.Load())
			}
			l := classifier.Levels()
			if got := states(classifier); got != "tensorrt refused, cuda taken out, cpu serving" || l[1].Reason == "" || classifier.Provider() != CPU {
				t.Errorf("levels: %s, %q", got, l[1].Reason)
			}
			if c.says != nil && !strings.Contains(l[1].Reason, c.says.Error()) {
				t.Errorf("reason %q, want %q", l[1].Reason, c.says)
			}
			if err := classifier.Check(ctx); err != nil {
				t.Errorf("the CPU is held against itself: %v", err)
			}
		})
	}
}

// Wrong numbers are found by holding them against the CPU.
func TestCheckTakesOutWhatDiffers(t *testing.T) {
	c, faults := accelerated(t, load(t, "tiny"), time.Second)
	wrong := fault(func(_ context.Context, v *values) error {
		for i := range v.logits {
			v.logits[i] += 0.2
		}
		return nil
	})
	faults.Store(&wrong)
	err := c.Check(t.Context())
	if !errors.Is(err, errDiffers) {
		t.Fatalf("Check: %v", err)
	}
	if got := states(c); got != "tensorrt refused, cuda taken out, cpu serving" {
		t.Errorf("levels: %s", got)
	}
	img := head(40)
	s, err := c.Classify(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	checkScores(t, s, tinyLogits(t, c, img))
}

// A slice for which the model itself has no number says nothing of the provider.
func TestAModelWithoutANumberIsNotTheProvidersFault(t *testing.T) {
	c, _ := accelerated(t, load(t, "nan"), time.Second)
	if _, err := c.Classify(t.Context(), head(-290)); !errors.Is(err, ErrNotFinite) {
		t.Errorf("Classify: %v, want ErrNotFinite", err)
	}
	if c.Provider() != CUDA {
		t.Errorf("levels: %s", states(c))
	}
}

// A context that ends is no fault of the provider either.
func TestAnEndedContextTakesNothingOut(t *testing.T) {
	c, faults := accelerated(t, load(t, "tiny"), 5*time.Second)
	entered, release := make(chan struct{}), make(chan struct{})
	wait := fault(func(context.Context, *values) error {
		close(entered)
		<-release
		return nil
	})
	faults.Store(&wait)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Classify(ctx, head(40))
		ended <- err
	}()
	<-entered
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Classify: %v", err)
	}
	faults.Store(nil)
	close(release)
	if s, err := c.Classify(t.Context(), head(40)); err != nil || s.Provider != CUDA {
		t.Errorf("the next slice: %v on %s", err, s.Provider)
	}
}

func TestCloseWhileAProviderIsBeingProven(t *testing.T) {
	proving := make(chan struct{})
	c, err := open(t).NewClassifier(load(t, "tiny"), Options{Runners: 1, Acceleration: &Acceleration{
		Order: []string{CUDA}, Log: slog.New(slog.DiscardHandler),
		open: func(ctx context.Context, _ string) (backend, Proof, error) {
			close(proving)
			<-ctx.Done()
			return nil, Proof{}, context.Cause(ctx)
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	<-proving
	if got := states(c); got != "cuda proving, cpu serving" {
		t.Errorf("levels: %s", got)
	}
	if s, err := c.Classify(t.Context(), head(40)); err != nil || s.Provider != CPU {
		t.Errorf("meanwhile: %v on %q", err, s.Provider)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Slices that come together are computed together, and the one that is alone does
// not wait for others.
func TestBatcherFillsBuckets(t *testing.T) {
	b, faults := onCPU(t, load(t, "tiny"), 8, 5*time.Second)
	var sizes []int
	note := fault(func(_ context.Context, v *values) error {
		sizes = append(sizes, len(v.logits)/6)
		return nil
	})
	faults.Store(&note)
	shape := b.buckets[0].input
	work := func(n int) {
		jobs := make([]*job, n)
		for i := range jobs {
			j, err := b.acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			copy(j.input, shape)
			jobs[i] = j
		}
		var wg sync.WaitGroup
		for _, j := range jobs {
			wg.Go(func() {
				if err := b.run(t.Context(), j); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, j := range jobs {
			b.release(j)
		}
	}
	work(1)
	work(8)
	work(3)
	if err := b.close(); err != nil {
		t.Error(err)
	}
	slices.Sort(sizes)
	if !slices.Contains(sizes, 8) || !slices.Contains(sizes, 1) || len(sizes) > 5 {
		t.Errorf("buckets of %v for 1, 8 and 3 slices", sizes)
	}
	if _, err := b.acquire(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}
