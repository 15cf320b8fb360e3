package onnx

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"ichwatch/infer/manifest"
	"ichwatch/infer/pixel"
)

// building keeps trials apart: two engines built at once crash.
var building sync.Mutex

const (
	// openTime is how long a session that was proven elsewhere may take to be made
	// here. What takes longer is left to itself.
	openTime = 2 * time.Minute
	// leastLimit is the time of a run at least, however fast it was when it was
	// proven: others use the GPU too.
	leastLimit = time.Second
)

// climber brings a provider into service.
type climber struct {
	*Acceleration
	runtime    *Runtime
	manifest   *manifest.Manifest
	options    Options
	preprocess *pixel.Preprocessor
	cpu        *pool
}

// open proves a provider elsewhere, then makes its session here and compares once
// more.
func (c *climber) open(ctx context.Context, name string) (backend, Proof, error) {
	p, err := accelerator(name)
	if err != nil {
		return nil, Proof{}, err
	}
	libraries, err := p.verify(filepath.Dir(c.runtime.library.Path), c.Libraries)
	if err != nil {
		return nil, Proof{}, err
	}
	building.Lock()
	defer building.Unlock()
	trial := Trial{
		Provider: name, Library: c.runtime.library.Path, SHA256: c.runtime.library.SHA256, Libraries: libraries,
		Model: filepath.Dir(c.manifest.Where()), ModelSHA: c.manifest.SHA256(),
		Maps: c.options.Maps, Features: c.options.Features,
	}
	engines := engineCache{dir: c.Engines}
	if name == TensorRT {
		if trial.Engines, err = engines.open(trial, c.manifest.Precisions); err != nil {
			return nil, Proof{}, err
		}
	}
	proof, err := c.Prove(ctx, trial)
	if err != nil {
		return nil, Proof{}, err
	}
	if name == TensorRT {
		if err := engines.seal(trial.Engines); err != nil {
			return nil, Proof{}, err
		}
	}
	b, err := c.openHere(ctx, p, trial, proof)
	return b, proof, err
}

// openHere makes the session in this process. It may hang as any call of a driver
// may, and goes on by itself then.
func (c *climber) openHere(ctx context.Context, p provider, t Trial, proof Proof) (backend, error) {
	type opened struct {
		b   backend
		err error
	}
	ready, late := make(chan opened), make(chan struct{})
	defer close(late)
	go func() {
		b, err := c.serve(ctx, p, t, proof)
		select {
		case ready <- opened{b, err}:
		case <-late:
			if err == nil {
				_ = b.close() // nobody has used it
			}
		}
	}()
	patience := time.NewTimer(openTime)
	defer patience.Stop()
	select {
	case o := <-ready:
		return o.b, o.err
	case <-patience.C:
		return nil, fmt.Errorf("%w: its session is not there after %v", errHung, openTime)
	}
}

func (c *climber) serve(ctx context.Context, p provider, t Trial, proof Proof) (backend, error) {
	inputs, err := goldenInputs(c.preprocess)
	if err != nil {
		return nil, err
	}
	want := make([][]float32, len(inputs))
	for i, input := range inputs {
		if want[i], err = answerOf(ctx, c.cpu, input); err != nil {
			return nil, fmt.Errorf("the CPU: %w", err)
		}
	}
	s, buckets, err := openBuckets(p, c.manifest, configuration{Options: c.options, dir: t.Engines})
	if err != nil {
		return nil, err
	}
	destroy := func() error {
		var errs []error
		for _, b := range buckets {
			errs = append(errs, b.destroy())
		}
		return errors.Join(append(errs, s.destroy())...)
	}
	slowest, err := prove(ctx, buckets, inputs, want)
	if err != nil {
		return nil, errors.Join(err, destroy())
	}
	limit := max(leastLimit, 20*max(slowest, proof.Slowest))
	return newBatcher(p.name, buckets, c.options.Runners, limit, destroy), nil
}
