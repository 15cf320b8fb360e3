package onnx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ichwatch/infer/graph"
	"ichwatch/infer/manifest"
	"ichwatch/infer/pixel"
)

// Trial is what a provider is to prove: that it computes a model, itself, and as
// the CPU does.
type Trial struct {
	Provider  string            `json:"provider"`
	Library   string            `json:"library"` // ONNX Runtime
	SHA256    string            `json:"sha256"`  // of it
	Libraries map[string]string `json:"libraries,omitempty"`
	Model     string            `json:"model"`        // its folder
	ModelSHA  string            `json:"model_sha256"` // that it must have
	Engines   string            `json:"engines,omitempty"`
	Maps      bool              `json:"maps,omitempty"`
	Features  bool              `json:"features,omitempty"`
}

// Proof is what came out of a trial.
type Proof struct {
	// Nodes of the model's graph that were computed, by ONNX Runtime's name of the
	// provider that did. TensorRT counts what it compiled together as one.
	Nodes   map[string]int `json:"nodes"`
	Slowest time.Duration  `json:"slowest_ns"` // run, after the first of its size
}

// Try makes a trial in this process: it builds the provider's session, runs every
// bucket, compares with the CPU, and sees who computed the nodes. A provider that
// breaks down may take the process with it.
func Try(ctx context.Context, t Trial) (Proof, error) {
	p, err := accelerator(t.Provider)
	if err != nil {
		return Proof{}, err
	}
	r, err := OpenRuntime(t.Library, t.SHA256)
	if err != nil {
		return Proof{}, err
	}
	if _, err := p.verify(filepath.Dir(r.Library().Path), t.Libraries); err != nil {
		return Proof{}, err
	}
	m, err := manifest.Load(t.Model)
	if err != nil {
		return Proof{}, err
	}
	if m.SHA256() != t.ModelSHA {
		return Proof{}, fmt.Errorf("the model in %s has become another one", t.Model)
	}
	inputs, err := goldenInputs(pixel.NewPreprocessor(m))
	if err != nil {
		return Proof{}, err
	}
	options := Options{Maps: t.Maps, Features: t.Features}
	want, _, err := tryOn(ctx, cpu, m, configuration{Options: options}, inputs, nil)
	if err != nil {
		return Proof{}, fmt.Errorf("the CPU: %w", err)
	}
	if err := spread(want); err != nil {
		return Proof{}, err
	}
	dir, err := os.MkdirTemp("", "ichwatch-profile-")
	if err != nil {
		return Proof{}, err
	}
	defer os.RemoveAll(dir)
	_, slowest, err := tryOn(ctx, p, m, configuration{Options: options, dir: t.Engines, building: true, profile: filepath.Join(dir, "profile")}, inputs, want)
	if err != nil {
		return Proof{}, err
	}
	proof := Proof{Slowest: slowest}
	if proof.Nodes, err = nodes(dir, p); err != nil {
		return proof, err
	}
	return proof, nil
}

// tryOn makes a session, proves it against want, or gives its own answers where
// there is none, and destroys it.
func tryOn(ctx context.Context, p provider, m *manifest.Manifest, c configuration, inputs, want [][]float32) (answers [][]float32, slowest time.Duration, err error) {
	s, buckets, err := openBuckets(p, m, c)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		for _, b := range buckets {
			err = errors.Join(err, b.destroy())
		}
		err = errors.Join(err, s.destroy())
	}()
	if want != nil {
		slowest, err = prove(ctx, buckets, inputs, want)
		return nil, slowest, err
	}
	for _, input := range inputs {
		copy(buckets[0].input, input)
		if err := buckets[0].run(ctx); err != nil {
			return nil, 0, err
		}
		answers = append(answers, append([]float32(nil), buckets[0].logits...))
	}
	return answers, 0, nil
}

// openBuckets makes a session that ran once, and a runner for each bucket.
func openBuckets(p provider, m *manifest.Manifest, c configuration) (s *session, buckets []bucket, err error) {
	sizes, err := sizesOf(p, m)
	if err != nil {
		return nil, nil, err
	}
	if s, err = newSession(p, m, c); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		for _, b := range buckets {
			err = errors.Join(err, b.destroy())
		}
		err = errors.Join(err, s.destroy())
	}()
	if err := s.warmUp(); err != nil {
		return s, nil, err
	}
	for _, size := range sizes {
		r, err := s.newRunner(size)
		if err != nil {
			return s, buckets, err
		}
		buckets = append(buckets, bucket{batch: r, values: &r.values, size: size})
	}
	return s, buckets, nil
}

// sizesOf gives a provider's buckets that a model can take: where its file fixes
// the number of slices, one of one slice.
func sizesOf(p provider, m *manifest.Manifest) ([]int, error) {
	g, err := graph.Inspect(m.Model())
	if err != nil {
		return nil, err
	}
	for _, in := range g.Inputs {
		if len(in.Shape) > 0 && in.Shape[0] > 0 {
			return []int{1}, nil
		}
	}
	return p.buckets, nil
}

// event is one line of a profile.
type event struct {
	Category string `json:"cat"`
	Args     struct {
		Op       string `json:"op_name"`
		Provider string `json:"provider"`
		Node     string `json:"node_index"`
	} `json:"args"`
}

// nodes reads the profile in a folder: who computed how many nodes. It is an error
// where the provider computed none, or left a convolution or a matrix product,
// which is where the time goes, to another.
func nodes(dir string, p provider) (map[string]int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("the profile is not there: %d files, %w", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	var events []event
	if err := json.Unmarshal(text, &events); err != nil {
		return nil, fmt.Errorf("the profile cannot be read: %w", err)
	}
	return share(events, p)
}

func share(events []event, p provider) (map[string]int, error) {
	seen := map[event]bool{} // a node runs many times
	count, left := map[string]int{}, map[string]int{}
	for _, e := range events {
		if e.Category != "Node" || e.Args.Provider == "" || seen[e] || strings.HasPrefix(e.Args.Op, "Memcpy") {
			continue
		}
		seen[e] = true
		count[e.Args.Provider]++
		if e.Args.Provider != p.kernels && heavy(e.Args.Op) {
			left[e.Args.Provider]++
		}
	}
	if count[p.kernels] == 0 {
		return count, fmt.Errorf("%s computes nothing of the model; nodes by provider: %v", p.name, count)
	}
	if len(left) > 0 {
		return count, fmt.Errorf("%s leaves convolutions or matrix products to others: %v", p.name, left)
	}
	return count, nil
}

// heavy says whether an operator is one on which a model spends its time: Conv,
// FusedConv, QLinearConv, MatMul, Gemm and their kin.
func heavy(op string) bool {
	return strings.Contains(op, "Conv") || strings.Contains(op, "MatMul") || strings.Contains(op, "Gemm")
}
