package onnx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"

	ort "github.com/yalue/onnxruntime_go"

	"ichwatch/infer/manifest"
)

// provider is one way to compute a model. A chain of them, each tried and proven
// against the CPU before it serves, has its place here: an entry more is a name
// and what it sets in fresh options.
type provider struct {
	name      string
	configure func(*ort.SessionOptions) error
}

// cpu computes each run on one thread: as many runs at once as there are cores
// are faster than one run on all of them, and a batch gains nothing.
var cpu = provider{
	name: "cpu",
	configure: func(o *ort.SessionOptions) error {
		return errors.Join(
			o.SetIntraOpNumThreads(1),
			o.SetInterOpNumThreads(1),
			o.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll),
		)
	},
}

// session is one model on one provider. Runs may go side by side; destroy only
// after the last.
type session struct {
	provider string
	ort      *ort.DynamicAdvancedSession
	input    ort.Shape // of one slice
	logits   ort.Shape
}

// newSession hands the manifest's verified bytes to the runtime, which copies
// them.
func newSession(p provider, m *manifest.Manifest) (*session, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("session options: %w", err)
	}
	defer o.Destroy()
	if err := p.configure(o); err != nil {
		return nil, fmt.Errorf("configure provider %s: %w", p.name, err)
	}
	s, err := ort.NewDynamicAdvancedSessionWithONNXData(m.Model(),
		[]string{m.Input.Name}, []string{m.Outputs.Logits}, o)
	if err != nil {
		return nil, fmt.Errorf("load model %s on %s: %w", m.Ref(), p.name, err)
	}
	return &session{
		provider: p.name,
		ort:      s,
		input:    ort.NewShape(1, int64(len(m.Windows)), int64(m.Input.Height), int64(m.Input.Width)),
		logits:   ort.NewShape(1, int64(len(m.Classes))),
	}, nil
}

// warmUp runs the model once on a slice of zeros, as nothing before a run tells
// whether it works, and looks at what comes out.
func (s *session) warmUp() error {
	input, err := ort.NewEmptyTensor[float32](s.input)
	if err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	defer input.Destroy()
	outputs := []ort.Value{nil} // the runtime makes it, in the shape that the model has
	if err := s.ort.Run([]ort.Value{input}, outputs); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	defer outputs[0].Destroy()
	logits, ok := outputs[0].(*ort.Tensor[float32])
	if !ok {
		return errors.New("warm-up: the logits are not of float32")
	}
	if !logits.GetShape().Equals(s.logits) {
		return fmt.Errorf("warm-up: the logits have shape %v, the manifest's classes ask for %v", logits.GetShape(), s.logits)
	}
	if i := notFinite(logits.GetData()); i >= 0 {
		return fmt.Errorf("warm-up: logit %d is %v", i, logits.GetData()[i])
	}
	return nil
}

func (s *session) destroy() error { return s.ort.Destroy() }

// runner is what one run at a time needs: tensors that are made once, and
// options through which it can be stopped.
type runner struct {
	input, logits []float32 // the tensors' memory
	tensors       [2]*ort.Tensor[float32]
	options       *ort.RunOptions
	pins          runtime.Pinner
}

func (s *session) newRunner() (r *runner, err error) {
	r = &runner{
		input:  make([]float32, s.input.FlattenedSize()),
		logits: make([]float32, s.logits.FlattenedSize()),
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a runner: %w", err), r.destroy())
		}
	}()
	// The library keeps pointers to this memory between calls.
	r.pins.Pin(&r.input[0])
	r.pins.Pin(&r.logits[0])
	if r.tensors[0], err = ort.NewTensor(s.input, r.input); err != nil {
		return r, err
	}
	if r.tensors[1], err = ort.NewTensor(s.logits, r.logits); err != nil {
		return r, err
	}
	r.options, err = ort.NewRunOptions()
	return r, err
}

// run computes the logits of what stands in the input, until ctx ends.
func (r *runner) run(ctx context.Context, s *session) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- r.options.Terminate() })
	err := s.ort.RunWithOptions([]ort.Value{r.tensors[0]}, []ort.Value{r.tensors[1]}, r.options)
	runtime.KeepAlive(r) // the wrapper holds no reference while it runs
	if !stop() {
		// The flag stays until it is taken back, and would stop the next run too.
		return errors.Join(context.Cause(ctx), <-stopped, r.options.UnsetTerminate())
	}
	return err
}

func (r *runner) destroy() error {
	var errs []error
	for _, t := range r.tensors {
		if t != nil {
			errs = append(errs, t.Destroy())
		}
	}
	if r.options != nil {
		errs = append(errs, r.options.Destroy())
	}
	r.pins.Unpin()
	return errors.Join(errs...)
}

// notFinite gives the index of the first value that is NaN or infinite, or -1.
func notFinite(values []float32) int {
	for i, v := range values {
		if bits := math.Float32bits(v); bits&0x7F800000 == 0x7F800000 {
			return i
		}
	}
	return -1
}
