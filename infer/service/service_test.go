package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ichwatch/infer"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder makes a model folder: a copy of the tiny model, of another name and hash.
func folder(tb testing.TB, dir, name string) string {
	tb.Helper()
	const source = "../onnx/testdata/tiny"
	text, err := os.ReadFile(filepath.Join(source, manifest.FileName))
	if err != nil {
		tb.Fatal(err)
	}
	model, err := os.ReadFile(filepath.Join(source, "model.onnx"))
	if err != nil {
		tb.Fatal(err)
	}
	model = append(append(model, 6<<3|2, byte(len(name))), name...) // ModelProto.doc_string
	sum := sha256.Sum256(model)
	text = regexp.MustCompile(`sha256: \w+`).ReplaceAll(text, []byte("sha256: "+hex.EncodeToString(sum[:])))
	text = bytes.Replace(text, []byte("name: tiny"), []byte("name: "+name), 1)
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(path, 0o700), os.WriteFile(filepath.Join(path, manifest.FileName), text, 0o600), os.WriteFile(filepath.Join(path, "model.onnx"), model, 0o600)); err != nil {
		tb.Fatal(err)
	}
	return path
}

// fake is a classifier whose answers the test bends. It fails the test where it is
// used after it was closed, or closed while it is used.
type fake struct {
	t       *testing.T
	models  infer.Models
	shift   atomic.Int32 // of every logit
	blind   atomic.Bool  // answers the same to everything
	gpu     atomic.Bool  // another provider than the CPU serves, and shift is its fault
	differs atomic.Bool  // it is found to differ from the CPU
	users   atomic.Int32
	closed  atomic.Bool
}

func (f *fake) Models() infer.Models { return f.models }

func (f *fake) Provider() string {
	if f.gpu.Load() {
		return "cuda"
	}
	return "cpu"
}

func (f *fake) Classify(ctx context.Context, img *infer.Image) (infer.Scores, error) {
	f.users.Add(1)
	defer f.users.Add(-1)
	if f.closed.Load() {
		f.t.Error("a closed model is asked")
	}
	if ctx.Err() != nil {
		return infer.Scores{}, context.Cause(ctx)
	}
	bleed := float32(img.HU[0])
	if f.blind.Load() {
		bleed = 0
	}
	shift := float32(f.shift.Load())
	return infer.Scores{Logits: []float32{-bleed, bleed + shift, 0, 0, 0, 0}, Probabilities: []float32{1 / (1 + bleed), 0, 0, 0, 0, 0}}, nil
}

func (f *fake) Check(context.Context) error {
	if f.differs.Load() && f.gpu.Load() {
		f.Distrust(nil)
		return errors.New("golden input 3 differs")
	}
	return nil
}

func (f *fake) Distrust(error) bool {
	if !f.gpu.Swap(false) {
		return false
	}
	f.shift.Store(0)
	return true
}

func (f *fake) Close() error {
	if f.closed.Swap(true) || f.users.Load() > 0 {
		f.t.Error("closed twice, or in use")
	}
	return nil
}

// bench is a service over fakes, by the name of their folder.
type bench struct {
	t *testing.T
	*Service
	options Options
	dir     string // of the models
	mu      sync.Mutex
	fakes   map[string]*fake // the last of each
	refuse  map[string]error // loading
	bent    map[string]bool
	changed int
	damaged atomic.Bool // the canary's slices
}

func newBench(t *testing.T, configured ...string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), fakes: map[string]*fake{}, bent: map[string]bool{}, refuse: map[string]error{}}
	for _, name := range []string{"one", "two", "three"} {
		folder(t, b.dir, name)
	}
	b.options = Options{
		State: filepath.Join(t.TempDir(), "service"), Configured: b.choice(configured...), Version: "1",
		Load: b.load, Cases: b.cases, Changed: func(*Running) { b.changed++ },
		Attach: func(r *Running) any { return r.Ensemble.Models().String() },
		Log:    slog.New(slog.DiscardHandler),
	}
	t.Cleanup(b.stop)
	return b
}

func (b *bench) choice(names ...string) (c Choice) {
	for _, name := range names {
		c.Models = append(c.Models, filepath.Join(b.dir, name))
	}
	return c
}

func (b *bench) load(e *ensemble.Ensemble) (Classifier, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := e.Members[0].Name
	if err := b.refuse[name]; err != nil {
		return nil, err
	}
	b.fakes[name] = &fake{t: b.t, models: e.Models()}
	if b.bent[name] {
		b.fakes[name].shift.Store(1)
	}
	return b.fakes[name], nil
}

// bend lets a model answer otherwise from now on, however often it is loaded.
func (b *bench) bend(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bent[name] = true
	b.fakes[name].shift.Store(1)
}

func (b *bench) cases(context.Context) (out []Case, err error) {
	for i := range 8 {
		c := Case{Image: &infer.Image{Rows: 1, Columns: 1, HU: []int16{int16(i)}}, Bleed: i >= 4}
		if b.damaged.Load() {
			c.Image.HU[0]++
		}
		out = append(out, c)
	}
	return out, nil
}

func (b *bench) open() error {
	var err error
	b.Service, err = Open(b.options)
	return err
}

func (b *bench) stop() {
	if b.Service == nil {
		return
	}
	if err := b.Close(); err != nil {
		b.t.Error(err)
	}
	b.Service = nil
	for name, f := range b.fakes {
		if !f.closed.Load() {
			b.t.Errorf("%s is still in memory", name)
		}
	}
}

func (b *bench) serves(want string) {
	b.t.Helper()
	r, done := b.Use()
	defer done()
	got := "none"
	if r != nil {
		got = r.Choice.String()
		if r.Attached != r.Ensemble.Models().String() {
			b.t.Errorf("attached is %v", r.Attached)
		}
	}
	if got != want {
		b.t.Errorf("in service: %s, want %s", got, want)
	}
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestActivateAndRollBackSurviveRestarts(t *testing.T) {
	b := newBench(t, "one")
	b.must(b.open())
	b.must(b.TryCanary(t.Context()))
	b.serves("one")
	change, err := b.Activate(t.Context(), b.choice("two", "three"), false)
	b.must(err)
	if change.Active[0].Name != "two" || change.Active[1].Name != "three" || change.Previous[0].Name != "one" || change.Canary != (Canary{8, 1}) || *change.Before != (Canary{8, 1}) || b.changed != 1 {
		t.Errorf("%+v", change)
	}
	b.serves("two + three")
	b.stop()
	b.must(b.open())
	b.serves("two + three")
	b.must(b.TryCanary(t.Context()))
	if a := b.Alarm(); a != (Alarm{}) {
		t.Errorf("alarm %+v", a)
	}
	_, err = b.Rollback(t.Context())
	b.must(err)
	b.serves("one")
	b.stop()
	b.must(b.open())
	b.serves("one")
	_, err = b.Rollback(t.Context()) // from the rollback
	b.must(err)
	b.serves("two + three")
	b.stop()

	// Whoever names other models in the configuration means them.
	b.options.Configured = b.choice("three")
	b.must(b.open())
	b.serves("three")
	if _, err := b.Rollback(t.Context()); !errors.Is(err, ErrNoWayBack) {
		t.Errorf("Rollback: %v", err)
	}
}

func TestActivateRefuses(t *testing.T) {
	b := newBench(t, "one")
	b.must(b.open())
	b.must(os.WriteFile(filepath.Join(b.dir, "three", "model.onnx"), []byte("damaged"), 0o600))
	b.refuse["two"] = errors.New("the warm-up failed")
	for name, says := range map[string]string{"three": "model.sha256", "two": "the warm-up failed", "none": "no such file"} {
		if _, err := b.Activate(t.Context(), b.choice(name), true); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	delete(b.refuse, "two")
	load := b.Options.Load
	b.Options.Load = func(e *ensemble.Ensemble) (Classifier, error) {
		c, err := load(e)
		c.(*fake).blind.Store(true)
		return c, err
	}
	if _, err := b.Activate(t.Context(), b.choice("two"), false); !errors.Is(err, ErrCanaryTruth) {
		t.Errorf("a model that sees nothing: %v", err)
	}
	b.serves("one")
	if s, err := ReadSelection(b.State, b.Configured); s != nil || err != nil {
		t.Errorf("something was written down: %+v, %v", s, err)
	}
	change, err := b.Activate(t.Context(), b.choice("two"), true)
	if err != nil || len(change.Warnings) != 1 {
		t.Errorf("by force: %+v, %v", change, err)
	}
	b.serves("two")
}

// No slice meets a closed model, and none waits for an exchange.
func TestPromise4_SlicesUnderWayKeepTheirModel(t *testing.T) {
	b := newBench(t, "one")
	b.must(b.open())
	over := make(chan struct{})
	var slicesSeen atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			img := &infer.Image{Rows: 1, Columns: 1, HU: []int16{1}}
			for {
				select {
				case <-over:
					return
				default:
				}
				r, done := b.Use()
				if _, err := r.Classifier.Classify(t.Context(), img); err != nil || !slices.Equal(r.Classifier.Models(), r.Ensemble.Models()) {
					t.Errorf("%v", err)
				}
				slicesSeen.Add(1)
				done()
				done() // twice does no harm
			}
		})
	}
	for i := range 20 {
		_, err := b.Activate(t.Context(), b.choice([]string{"one", "two", "three"}[i%3]), false)
		b.must(err)
	}
	close(over)
	wg.Wait()
	if slicesSeen.Load() == 0 {
		t.Error("no slice was seen")
	}
	held, done := b.Use()
	b.must(func() error { _, err := b.Activate(t.Context(), b.choice("one"), false); return err }())
	if held.Classifier.(*fake).closed.Load() {
		t.Error("a model in use was closed")
	}
	done()
}

func TestCanary(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(b *bench, now *fake)
		serves string
		alarm  string
		clears bool // by the next canary
	}{
		"all is well": {func(*bench, *fake) {}, "two", "", false},
		"a provider computes otherwise": {func(_ *bench, f *fake) {
			f.gpu.Store(true)
			f.shift.Store(1)
		}, "two", "a provider was taken out: the model answers otherwise", true},
		"a provider is found out": {func(_ *bench, f *fake) {
			f.gpu.Store(true)
			f.differs.Store(true)
		}, "two", "a provider was taken out: golden input 3 differs", true},
		"memory was damaged":          {func(_ *bench, f *fake) { f.shift.Store(1) }, "two", "was loaded anew, and answers as it should again", true},
		"the model answers otherwise": {func(b *bench, f *fake) { b.bend("two") }, "one", "rolled back from two to one: the model answers otherwise", false},
		"the machine computes otherwise": {func(b *bench, f *fake) {
			b.bend("two")
			b.bend("one")
		}, "two", "did the library or the machine change?", false},
		"the disk is damaged": {func(b *bench, f *fake) {
			b.must(os.WriteFile(filepath.Join(b.dir, "two", "model.onnx"), nil, 0o600))
			f.shift.Store(1)
		}, "one", "rolled back from two to one: the model answers otherwise", false},
		"no way back, and the disk is damaged": {func(b *bench, f *fake) {
			b.must(os.RemoveAll(filepath.Join(b.dir, "one")))
			b.must(os.WriteFile(filepath.Join(b.dir, "two", "model.onnx"), nil, 0o600))
			f.shift.Store(1)
		}, "none", "no model is in service: the canary failed", false},
		"what decodes is damaged": {func(b *bench, _ *fake) { b.damaged.Store(true) }, "two", ErrCanaryInput.Error(), false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "one")
			b.must(b.open())
			b.must(b.TryCanary(t.Context()))
			_, err := b.Activate(t.Context(), b.choice("two"), false)
			b.must(err)
			c.damage(b, b.fakes["two"])
			b.must(b.TryCanary(t.Context()))
			b.serves(c.serves)
			if got := b.Alarm().Text; !strings.HasPrefix(got, c.alarm) && !strings.Contains(got, c.alarm) || c.alarm == "" && got != "" {
				t.Errorf("alarm %q, want %q", got, c.alarm)
			}
			if (b.Fault() != nil) != (c.serves == "none") {
				t.Errorf("fault %v", b.Fault())
			}
			b.must(b.TryCanary(t.Context()))
			if cleared := b.Alarm().Text == ""; cleared != (c.clears || c.alarm == "") {
				t.Errorf("after the next canary: %q", b.Alarm().Text)
			}
			// An alarm that asks for a person is there after a restart too.
			standing := strings.HasPrefix(c.alarm, "rolled back")
			clear(b.bent)
			b.stop()
			if c.serves == "none" {
				return
			}
			b.must(b.open())
			b.serves(c.serves)
			if (b.Alarm().Text != "") != standing {
				t.Errorf("after a restart: %q", b.Alarm().Text)
			}
			if standing {
				if _, err := b.Rollback(t.Context()); !errors.Is(err, ErrNoWayBack) {
					t.Errorf("back to what failed: %v", err)
				}
				_, err := b.Activate(t.Context(), b.choice("three"), false)
				b.must(err)
				if b.Alarm().Text != "" {
					t.Errorf("after a command: %q", b.Alarm().Text)
				}
			}
		})
	}
}

// Another release may make other slices; that is where its canary begins anew.
func TestCanaryOfAnotherRelease(t *testing.T) {
	b := newBench(t, "one")
	b.must(b.open())
	b.must(b.TryCanary(t.Context()))
	b.stop()
	b.options.Version = "2"
	b.damaged.Store(true)
	b.must(b.open())
	b.must(b.TryCanary(t.Context()))
	if a := b.Alarm().Text; a != "" {
		t.Errorf("alarm %q", a)
	}
	b.fakes["one"].shift.Store(1)
	b.must(b.TryCanary(t.Context()))
	if a := b.Alarm().Text; !strings.Contains(a, "loaded anew") {
		t.Errorf("alarm %q", a)
	}
}

func TestRolledBackAtTheStart(t *testing.T) {
	b := newBench(t, "one")
	b.must(b.open())
	_, err := b.Activate(t.Context(), b.choice("two"), false)
	b.must(err)
	b.stop()
	b.must(os.WriteFile(filepath.Join(b.dir, "two", "model.onnx"), nil, 0o600))
	for range 2 {
		b.must(b.open())
		b.serves("one")
		if a := b.Alarm().Text; !strings.Contains(a, "rolled back to one") {
			t.Errorf("alarm %q", a)
		}
		b.stop()
	}
	// What lies in an activated folder now is not what was activated.
	folder(t, b.dir, "two")
	b.must(b.open())
	_, err = b.Activate(t.Context(), b.choice("two"), false)
	b.must(err)
	b.stop()
	b.must(os.RemoveAll(filepath.Join(b.dir, "two")))
	b.must(os.Rename(folder(t, b.dir, "other"), filepath.Join(b.dir, "two")))
	b.must(b.open())
	b.serves("one")
	if a := b.Alarm().Text; !strings.Contains(a, "when it was activated") {
		t.Errorf("alarm %q", a)
	}
}

func TestChooseWithoutADaemon(t *testing.T) {
	b := newBench(t, "one")
	change, err := Choose(b.options.State, b.options.Configured, Verifier{}, b.choice("two"))
	if err != nil || change.Active[0].Name != "two" {
		t.Fatal(change, err)
	}
	b.must(b.open())
	b.serves("two")
	b.stop()
	if _, err := Choose(b.options.State, b.options.Configured, Verifier{}, b.choice("none")); err == nil {
		t.Error("a folder that is not there was chosen")
	}
	_, err = ChoosePrevious(b.options.State, b.options.Configured, Verifier{})
	b.must(err)
	b.must(b.open())
	b.serves("one")
	b.stop()
	b.must(os.WriteFile(filepath.Join(b.options.State, selectionName), []byte("{"), 0o600))
	b.must(b.open())
	b.serves("one")
	if a := b.Alarm().Text; !strings.Contains(a, "is damaged or of another release") {
		t.Errorf("alarm %q", a)
	}
}

func TestNothingInServiceAndThenSomething(t *testing.T) {
	b := newBench(t, "none")
	if err := b.open(); err == nil || b.Fault() == nil {
		t.Errorf("Open: %v, fault %v", err, b.Fault())
	}
	b.serves("none")
	b.must(b.TryCanary(t.Context()))
	change, err := b.Activate(t.Context(), b.choice("one"), false)
	if err != nil || change.Previous != nil || change.Before != nil || b.Fault() != nil {
		t.Errorf("%+v, %v, %v", change, err, b.Fault())
	}
	b.serves("one")
}

func TestUntil(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	for _, c := range []struct {
		now  time.Time
		want time.Duration
	}{
		{time.Date(2026, 3, 10, 3, 59, 59, 0, zone), time.Second},
		{time.Date(2026, 3, 10, 4, 0, 0, 0, zone), 24 * time.Hour},
		{time.Date(2026, 3, 28, 4, 0, 0, 0, zone), 23 * time.Hour}, // summer time begins
		{time.Date(2026, 10, 24, 5, 0, 0, 0, zone), 24 * time.Hour},
	} {
		if got := until(c.now, 4*time.Hour); got != c.want {
			t.Errorf("at %v: %v, want %v", c.now, got, c.want)
		}
	}
}
