package onnx

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ichwatch/infer"
	"ichwatch/infer/manifest"
	"ichwatch/infer/pixel"
)

func TestMain(m *testing.M) {
	if as := os.Getenv(childEnv); as != "" {
		os.Exit(child(as))
	}
	goleak.VerifyTestMain(m)
}

// libraryPath finds the real library.
func libraryPath(tb testing.TB) string {
	tb.Helper()
	path := os.Getenv("ICHWATCH_ONNXRUNTIME")
	if path == "" {
		path = filepath.Join("..", "..", "bin", "libonnxruntime.so.1")
	}
	if _, err := os.Stat(path); err != nil {
		const how = "ONNX Runtime is missing: make runtime, or ICHWATCH_ONNXRUNTIME=<libonnxruntime.so.1>"
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			tb.Fatal(how)
		}
		tb.Skip(how)
	}
	return path
}

func open(tb testing.TB) *Runtime {
	tb.Helper()
	r, err := OpenRuntime(libraryPath(tb), "")
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func load(tb testing.TB, name string) *manifest.Manifest {
	tb.Helper()
	m, err := manifest.Load(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func classifier(tb testing.TB, name string, o Options) *Classifier {
	tb.Helper()
	c, err := open(tb).NewClassifier(load(tb, name), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// head is a disc of one density in air: large enough to be a head.
func head(hu int16) *infer.Image {
	img := &infer.Image{Rows: 100, Columns: 100, HU: make([]int16, 100*100)}
	for y := range 100 {
		for x := range 100 {
			if (y-50)*(y-50)+(x-48)*(x-48) < 40*40 {
				img.HU[y*100+x] = hu
			} else {
				img.HU[y*100+x] = -1000
			}
		}
	}
	return img
}

// tinyLogits computes what testdata/make_models.py's tiny model does.
func tinyLogits(tb testing.TB, c *Classifier, img *infer.Image) []float64 {
	tb.Helper()
	shape := c.Preprocessor().Shape()
	input := make([]float32, shape[0]*shape[1]*shape[2])
	if err := c.Preprocessor().Input(img, input); err != nil {
		tb.Fatal(err)
	}
	plane := shape[1] * shape[2]
	logits := make([]float64, 6)
	for k := range logits {
		logits[k] = float64(k) / 8
		for channel := range shape[0] {
			mean := 0.0
			for _, v := range input[channel*plane : (channel+1)*plane] {
				mean += float64(v) / float64(plane)
			}
			logits[k] += float64(k-2) * float64(channel+1) / 4 * mean
		}
	}
	return logits
}

func checkScores(tb testing.TB, s infer.Scores, want []float64) {
	tb.Helper()
	sum := 0.0
	for _, l := range want {
		sum += math.Exp(l)
	}
	for k, l := range want {
		if math.Abs(float64(s.Logits[k])-l) > 1e-4 {
			tb.Fatalf("logit %d is %v, want %v", k, s.Logits[k], l)
		}
		if p := math.Exp(l) / sum; math.Abs(float64(s.Probabilities[k])-p) > 1e-4 {
			tb.Fatalf("probability %d is %v, want %v", k, s.Probabilities[k], p)
		}
	}
}

func TestClassify(t *testing.T) {
	c := classifier(t, "tiny", Options{})
	if c.Provider() != "cpu" || !slices.Equal(c.Models(), infer.Models{load(t, "tiny").Ref()}) {
		t.Errorf("provider %q, model %v", c.Provider(), c.Models())
	}
	for _, hu := range []int16{20, 40, 75, 3000} {
		img := head(hu)
		s, err := c.Classify(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		checkScores(t, s, tinyLogits(t, c, img))
	}
}

// Many slices at once, with the collector running all the time: the tensors'
// memory must hold, and no slice get another's scores.
func TestClassifyConcurrentlyUnderCollection(t *testing.T) {
	c := classifier(t, "tiny", Options{Runners: 3})
	images := []*infer.Image{head(10), head(45), head(90)}
	want := make([][]float64, len(images))
	for i, img := range images {
		want[i] = tinyLogits(t, c, img)
	}
	done := make(chan struct{})
	var collector, wg sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				runtime.GC()
			}
		}
	})
	for g := range 6 {
		wg.Go(func() {
			for i := range 60 {
				k := (g + i) % len(images)
				s, err := c.Classify(t.Context(), images[k])
				if err != nil {
					t.Error(err)
					return
				}
				for j, l := range want[k] {
					if math.Abs(float64(s.Logits[j])-l) > 1e-4 {
						t.Errorf("logit %d of image %d is %v, want %v", j, k, s.Logits[j], l)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	close(done)
	collector.Wait()
}

func TestClassifyWithoutHead(t *testing.T) {
	c := classifier(t, "tiny", Options{Runners: 1})
	for range 2 { // the runner comes back
		if _, err := c.Classify(t.Context(), head(-1000)); !errors.Is(err, pixel.ErrNoHead) {
			t.Fatalf("Classify: %v, want ErrNoHead", err)
		}
	}
}

func TestClassifyRefusesAnswersThatAreNoNumber(t *testing.T) {
	c := classifier(t, "nan", Options{Runners: 1})
	dark, bright := head(-290), head(3000)  // below and above every window
	s, err := c.Classify(t.Context(), dark) // the mean is negative
	if !errors.Is(err, ErrNotFinite) || s.Logits != nil {
		t.Errorf("Classify: %v, %v, want ErrNotFinite and no scores", s, err)
	}
	if _, err := c.Classify(t.Context(), bright); err != nil {
		t.Errorf("the next slice: %v", err)
	}
}

func TestClassifyStopsWithTheContext(t *testing.T) {
	c := classifier(t, "slow", Options{Runners: 1})
	endless, quick := head(3000), head(-290) // quick is below every window: nothing to count
	if _, err := c.Classify(t.Context(), quick); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, err := c.Classify(ctx, endless)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Classify: %v, want the deadline's error", err)
		}
		// The runner's flag was taken back.
		if _, err := c.Classify(t.Context(), quick); err != nil {
			t.Fatalf("after a slice that was stopped: %v", err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("shutting down")
	cancel(why)
	if _, err := c.Classify(ctx, quick); !errors.Is(err, why) {
		t.Errorf("Classify with an ended context: %v", err)
	}
}

// A slice that waits for a runner leaves with its context, and with Close; the
// one that runs is not cut off by Close.
func TestCloseTurnsAwayWhoWaits(t *testing.T) {
	c, err := open(t).NewClassifier(load(t, "slow"), Options{Runners: 1})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	defer stop()
	ran, waited, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.Classify(running, head(3000))
		ran <- err
	}()
	for len(c.cpu.jobs) != 0 { // until it has taken the only runner
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Classify(ctx, head(40)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting with a deadline: %v", err)
	}
	go func() {
		_, err := c.Classify(t.Context(), head(40))
		waited <- err
	}()
	go func() { closed <- c.Close() }()
	if err := <-waited; !errors.Is(err, ErrClosed) {
		t.Errorf("waiting for a runner: %v, want ErrClosed", err)
	}
	select {
	case err := <-closed:
		t.Fatalf("Close came back before the running slice: %v", err)
	default:
	}
	stop()
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Errorf("the running slice: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := c.Classify(t.Context(), head(40)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestCloseWhileClassifying(t *testing.T) {
	r := open(t)
	m := load(t, "tiny")
	for range 5 {
		c, err := r.NewClassifier(m, Options{Runners: 2})
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan struct{}, 4)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					if _, err := c.Classify(t.Context(), head(40)); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
					select {
					case started <- struct{}{}:
					default:
					}
				}
			})
		}
		<-started
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

func TestNewClassifierFindsTheWrongShape(t *testing.T) {
	c, err := open(t).NewClassifier(load(t, "hidden"), Options{})
	if err == nil {
		c.Close()
		t.Fatal("a model with seven logits was taken for six classes")
	}
	t.Log(err)
}

func TestActivate(t *testing.T) {
	logits := []float32{-1000, 0, 1000}
	soft := activate(manifest.Softmax, logits)
	if want := []float32{0, 0, 1}; !slices.Equal(soft.Probabilities, want) {
		t.Errorf("softmax of %v is %v, want %v", logits, soft.Probabilities, want)
	}
	sigmoid := activate(manifest.Sigmoid, logits)
	if want := []float32{0, 0.5, 1}; !slices.Equal(sigmoid.Probabilities, want) {
		t.Errorf("sigmoid of %v is %v, want %v", logits, sigmoid.Probabilities, want)
	}
	logits[0] = 7
	if soft.Logits[0] != -1000 {
		t.Error("the scores share the runner's memory")
	}
}

func BenchmarkClassifyTiny(b *testing.B) {
	c := classifier(b, "tiny", Options{})
	img := head(40)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Classify(b.Context(), img); err != nil {
			b.Fatal(err)
		}
	}
}
