package onnx

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ichwatch/infer/manifest"
)

const childEnv = "ICHWATCH_TEST_CHILD"

// child is this program as the process of a trial.
func child(as string) int {
	switch as {
	case "pretend": // that the CPU is a GPU
		pretend()
	case "hang":
		select {}
	case "eat":
		memory := make([]byte, 4<<30)
		for i := 0; ; i = (i + os.Getpagesize()) % len(memory) {
			memory[i] = 1
		}
	case "die":
		os.Stderr.WriteString("first\ncuInit failed\n")
		return 134
	}
	if err := Answer(context.Background(), os.Stdin, os.Stdout); err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	return 0
}

// pretend puts the CPU in the place of the GPU's providers.
func pretend() (restore func()) {
	before := accelerators
	p := cpu
	p.name, p.buckets = CUDA, gpuBuckets
	accelerators = []provider{tensorRT, p}
	return func() { accelerators = before }
}

// self has this program make trials.
func self(t *testing.T, as string) Child {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Child{Command: []string{"env", childEnv + "=" + as, program}, Timeout: time.Minute}
}

// beside is a folder with the real library and others beside it.
func beside(t *testing.T, files map[string][]byte) (library string) {
	t.Helper()
	dir := t.TempDir()
	library = filepath.Join(dir, "libonnxruntime.so.1")
	real, err := filepath.Abs(libraryPath(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, library); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return library
}

// The whole way with ONNX Runtime itself: a trial in a process of its own, the
// proof by its profile, the session here, buckets.
func TestAProvenProviderComesIntoService(t *testing.T) {
	t.Cleanup(pretend())
	m := phantomModel(t)
	c, err := open(t).NewClassifier(m, Options{Runners: 2, Maps: true, Acceleration: &Acceleration{
		Order: []string{CUDA, CPU}, Prove: self(t, "pretend").Prove, Log: slog.New(slog.DiscardHandler),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	<-c.chain.climbed
	l := c.Levels()[0]
	if l.State != Serving || l.Proof.Nodes["CPUExecutionProvider"] < 20 || l.Proof.Slowest <= 0 {
		t.Fatalf("%+v", l)
	}
	t.Logf("%+v", l.Proof)
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	plain, err := open(t).NewClassifier(m, Options{Runners: 1, Maps: true})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for i := range goldenHeads {
		img := goldenHead(i)
		want, wantMaps, err := plain.Explain(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		got, maps, err := c.Explain(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		if err := compare(got.Logits, want.Logits); err != nil || got.Provider != CUDA {
			t.Errorf("%v, computed by %s", err, got.Provider)
		}
		if err := compare(maps.Values, wantMaps.Values); err != nil {
			t.Errorf("activation maps: %v", err)
		}
	}
}

// Libraries broken on purpose. The classifier works, on the CPU, and says why.
func TestRefusedProviders(t *testing.T) {
	sound, err := os.ReadFile(libraryPath(t))
	if err != nil {
		t.Fatal(err)
	}
	lib, err := Inspect(libraryPath(t))
	if err != nil {
		t.Fatal(err)
	}
	cudaLibrary := cuda.libraries[1]
	no := func(context.Context, Trial) (Proof, error) {
		t.Error("a trial was made")
		return Proof{}, nil
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		known map[string]string
		prove func(context.Context, Trial) (Proof, error)
		says  string
	}{
		"the library is missing": {nil, nil, no, sharedLibrary + " beside ONNX Runtime"},
		"nobody knows its hash": {
			map[string][]byte{sharedLibrary: sound}, nil, no, "has SHA-256 " + lib.SHA256 + ", which no entry of onnxruntime.libraries gives",
		},
		"it has another hash": {
			map[string][]byte{sharedLibrary: sound}, map[string]string{sharedLibrary: strings.Repeat("0", 64)}, no, "its entry of onnxruntime.libraries says 0000",
		},
		"it is cut short": {
			map[string][]byte{sharedLibrary: sound[:len(sound)/2]}, nil, no, "cut short",
		},
		"it is no library": {
			map[string][]byte{sharedLibrary: []byte("<html>")}, nil, no, "is no shared library",
		},
		"it is there, whole and verified, and no provider": {
			map[string][]byte{sharedLibrary: sound, cudaLibrary: sound},
			map[string]string{sharedLibrary: lib.SHA256, cudaLibrary: lib.SHA256},
			self(t, "answer").Prove, "configure provider cuda",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			other := *r
			other.library.Path = beside(t, c.files)
			classifier, err := other.NewClassifier(phantomModel(t), Options{Runners: 1, Acceleration: &Acceleration{
				Order: []string{CUDA, CPU}, Libraries: c.known, Prove: c.prove, Log: slog.New(slog.DiscardHandler),
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer classifier.Close()
			<-classifier.chain.climbed
			l := classifier.Levels()[0]
			if l.State != Refused || !strings.Contains(l.Reason, c.says) {
				t.Errorf("%s: %q", l.State, l.Reason)
			}
			t.Log(l.Reason)
			if s, err := classifier.Classify(t.Context(), head(40)); err != nil || s.Provider != CPU {
				t.Errorf("the CPU: %v, %q", err, s.Provider)
			}
		})
	}
}

func TestTrialsThatDoNotEndWell(t *testing.T) {
	trial := Trial{Provider: CUDA, Library: libraryPath(t), Model: "testdata/tiny", ModelSHA: load(t, "tiny").SHA256()}
	other := trial
	other.ModelSHA = strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		as     string
		change func(*Child)
		trial  Trial
		want   error
		says   string
	}{
		"hangs":                  {"hang", func(c *Child) { c.Timeout = 200 * time.Millisecond }, trial, ErrTrialTimeout, "more than 200ms"},
		"eats":                   {"eat", func(c *Child) { c.Memory = 256 << 20 }, trial, ErrTrialMemory, "more than 256 MiB"},
		"dies":                   {"die", nil, trial, nil, "the trial broke down: exit status 134: cuInit failed"},
		"does not start":         {"", func(c *Child) { c.Command = []string{"/no/such/program"} }, trial, os.ErrNotExist, "start a trial"},
		"gives another answer":   {"", func(c *Child) { c.Command = []string{"echo", "hello"} }, trial, nil, "cannot be read"},
		"gets another model":     {"pretend", nil, other, nil, "has become another one"},
		"has no library to load": {"answer", nil, trial, nil, "beside ONNX Runtime"},
	} {
		t.Run(name, func(t *testing.T) {
			child := self(t, c.as)
			if c.change != nil {
				c.change(&child)
			}
			_, err := child.Prove(t.Context(), c.trial)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Prove: %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := self(t, "hang").Prove(ctx, trial); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// What computes the nodes is believed by the profile alone.
func TestShare(t *testing.T) {
	node := func(provider, op, index string) (e event) {
		e.Category, e.Args.Provider, e.Args.Op, e.Args.Node = "Node", provider, op, index
		return e
	}
	const gpu, host = "CUDAExecutionProvider", "CPUExecutionProvider"
	for name, c := range map[string]struct {
		events []event
		own    int
		says   string
	}{
		"all":               {[]event{node(gpu, "Conv", "1"), node(gpu, "Conv", "1"), node(gpu, "Relu", "2"), node(host, "Shape", "3"), node(host, "MemcpyToHost", "4")}, 2, ""},
		"none":              {[]event{node(host, "Conv", "1"), node(host, "MemcpyToHost", "2")}, 0, "computes nothing"},
		"not the essential": {[]event{node(gpu, "Relu", "1"), node(host, "FusedConv", "2")}, 1, "leaves convolutions"},
		"not the last":      {[]event{node(gpu, "Conv", "1"), node(host, "Gemm", "2")}, 1, "leaves convolutions"},
	} {
		t.Run(name, func(t *testing.T) {
			count, err := share(c.events, cuda)
			if count[gpu] != c.own || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v", count, err)
			}
		})
	}
}

func TestEngineCache(t *testing.T) {
	c := engineCache{dir: filepath.Join(t.TempDir(), "engines")}
	trial := Trial{ModelSHA: strings.Repeat("a", 64), SHA256: "1", Libraries: map[string]string{"x": "1"}}
	fill := func(t *testing.T) string {
		t.Helper()
		dir, err := c.open(trial, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o700), os.WriteFile(filepath.Join(dir, "sub", "e.engine"), []byte("engine"), 0o600), c.seal(dir)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	kept := func(dir string) bool {
		again, err := c.open(trial, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, gone := os.Stat(filepath.Join(again, "sub", "e.engine"))
		return again == dir && gone == nil
	}
	dir := fill(t)
	if !kept(dir) {
		t.Error("a sound cache was thrown away")
	}
	for name, damage := range map[string]func(dir string) error{
		"changed": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "sub", "e.engine"), []byte("enginf"), 0o600)
		},
		"added":    func(dir string) error { return os.WriteFile(filepath.Join(dir, "other.engine"), nil, 0o600) },
		"linked":   func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "link")) },
		"unsealed": func(dir string) error { return os.Remove(filepath.Join(dir, sums)) },
	} {
		if err := damage(dir); err != nil {
			t.Fatal(err)
		}
		if kept(dir) {
			t.Errorf("%s: the engines are still used", name)
		}
		if dir = fill(t); !kept(dir) {
			t.Errorf("after %s: a new cache is not kept", name)
		}
	}
	other := trial
	other.Libraries = map[string]string{"x": "2"}
	if again, err := c.open(other, nil); err != nil || again == dir {
		t.Errorf("other libraries have the same folder %s (%v)", again, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("engines of the libraries before are still there: %v", err)
	}
	if _, err := (engineCache{}).open(trial, nil); err == nil || !strings.Contains(err.Error(), "onnxruntime.engines") {
		t.Errorf("without a folder: %v", err)
	}
	for _, precisions := range [][]string{{manifest.Float16}, {manifest.Int8}} {
		if again, err := c.open(trial, precisions); err != nil || filepath.Base(again) == filepath.Base(dir) {
			t.Errorf("%v has the same folder (%v)", precisions, err)
		}
	}
}
