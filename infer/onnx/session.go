package onnx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"

	ort "github.com/yalue/onnxruntime_go"

	"ichwatch/infer/graph"
	"ichwatch/infer/manifest"
)

// session is one model on one provider. Runs may go side by side; destroy only
// after the last.
type session struct {
	provider string
	ort      *ort.DynamicAdvancedSession
	input    ort.Shape // of one slice
	logits   ort.Shape
	names    []string  // of the outputs: the logits and, where wanted, the activation maps and the features
	maps     ort.Shape // of the activation maps of one slice, known after the warm-up; nil where not wanted
	features ort.Shape // of the last layer's input for one slice; nil where not wanted
}

// configuration is how a session is made.
type configuration struct {
	Options
	dir      string // of a provider's engines
	building bool   // engines may be written
	profile  string // prefix of the file that is written when the session is destroyed; empty: none
}

// newSession hands the manifest's verified bytes to the runtime, which copies
// them.
func newSession(p provider, m *manifest.Manifest, c configuration) (*session, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("session options: %w", err)
	}
	defer o.Destroy()
	s := &session{
		provider: p.name,
		input:    ort.NewShape(1, int64(len(m.Windows)), int64(m.Input.Height), int64(m.Input.Width)),
		logits:   ort.NewShape(1, int64(len(m.Classes))),
		names:    []string{m.Outputs.Logits},
	}
	at := placement{dir: c.dir, building: c.building, input: m.Input.Name, shape: s.input, precisions: m.Precisions}
	if err := p.configure(o, at); err != nil {
		return nil, fmt.Errorf("configure provider %s: %w", p.name, err)
	}
	if c.profile != "" {
		if err := o.EnableProfiling(c.profile); err != nil {
			return nil, fmt.Errorf("profile provider %s: %w", p.name, err)
		}
	}
	if c.Maps && m.Outputs.CAM != "" {
		s.names = append(s.names, m.Outputs.CAM)
		s.maps = ort.NewShape(1, int64(len(m.Classes)), 0, 0) // the sizes come with the warm-up
	}
	model := m.Model()
	if c.Features {
		head, err := graph.FindHead(model, m.Outputs.Logits, m.Outputs.CAM)
		if err != nil {
			return nil, fmt.Errorf("features of model %s: %w", m.Ref(), err)
		}
		if model, err = head.Expose(model); err != nil {
			return nil, fmt.Errorf("features of model %s: %w", m.Ref(), err)
		}
		s.names = append(s.names, head.Pooled)
		s.features = ort.NewShape(1, int64(head.Features))
	}
	s.ort, err = ort.NewDynamicAdvancedSessionWithONNXData(model, []string{m.Input.Name}, s.names, o)
	if err != nil {
		return nil, fmt.Errorf("load model %s on %s: %w", m.Ref(), p.name, err)
	}
	return s, nil
}

// warmUp runs the model once on a slice of zeros, as nothing before a run tells
// whether it works, and looks at what comes out.
func (s *session) warmUp() error {
	input, err := ort.NewEmptyTensor[float32](s.input)
	if err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	defer input.Destroy()
	outputs := make([]ort.Value, len(s.names)) // the runtime makes them, in the shape that the model has
	if err := s.ort.Run([]ort.Value{input}, outputs); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	defer func() {
		for _, o := range outputs {
			o.Destroy()
		}
	}()
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
	if s.features != nil {
		features, ok := outputs[len(outputs)-1].(*ort.Tensor[float32])
		if !ok || !features.GetShape().Equals(s.features) {
			return fmt.Errorf("warm-up: the features are not of float32 in shape %v", s.features)
		}
	}
	if s.maps == nil {
		return nil
	}
	maps, ok := outputs[1].(*ort.Tensor[float32])
	if !ok {
		return errors.New("warm-up: the activation maps are not of float32")
	}
	shape := maps.GetShape().Clone()
	if len(shape) != 4 || shape[0] != 1 || shape[1] != s.logits[1] || shape.FlattenedSize() < 1 {
		return fmt.Errorf("warm-up: the activation maps have shape %v, wanted is one map for each of %d classes", shape, s.logits[1])
	}
	s.maps = shape
	return nil
}

func (s *session) destroy() error { return s.ort.Destroy() }

// values are what goes into the model and what comes out, for one slice or for
// several of them one behind the other.
type values struct {
	input, logits []float32
	maps          []float32 // nil where the session gives none
	features      []float32 // likewise
}

// newValues makes room for n slices.
func (s *session) newValues(n int) values {
	room := func(shape ort.Shape) []float32 {
		if shape == nil {
			return nil
		}
		return make([]float32, n*int(shape.FlattenedSize()))
	}
	return values{input: room(s.input), logits: room(s.logits), maps: room(s.maps), features: room(s.features)}
}

// outputs of the slice at a place among n.
func (v *values) outputs(n, at int) [3][]float32 {
	part := func(all []float32) []float32 {
		size := len(all) / n
		return all[at*size : (at+1)*size]
	}
	return [3][]float32{part(v.logits), part(v.maps), part(v.features)}
}

// check says whether the answer is one of numbers. What names it begins with what.
func (v *values) check() error {
	for i, out := range [...][]float32{v.logits, v.maps, v.features} {
		if at := notFinite(out); at >= 0 {
			return fmt.Errorf("%s %d: %w", [...]string{"logit", "activation map value", "feature"}[i], at, ErrNotFinite)
		}
	}
	return nil
}

// runner is what one run at a time needs: tensors that are made once, and
// options through which it can be stopped.
type runner struct {
	values
	session *session
	tensors []*ort.Tensor[float32] // in the order of the session: input, outputs
	outputs []ort.Value            // the tensors but for the first
	options *ort.RunOptions
	pins    runtime.Pinner
}

// newRunner makes a runner of n slices.
func (s *session) newRunner(n int) (r *runner, err error) {
	r = &runner{values: s.newValues(n), session: s}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a runner: %w", err), r.destroy())
		}
	}()
	for _, t := range []struct {
		shape  ort.Shape
		memory []float32
	}{{s.input, r.input}, {s.logits, r.logits}, {s.maps, r.maps}, {s.features, r.features}} {
		if t.memory == nil {
			continue
		}
		r.pins.Pin(&t.memory[0]) // the library keeps pointers to this memory between calls
		shape := t.shape.Clone()
		shape[0] = int64(n)
		tensor, err := ort.NewTensor(shape, t.memory)
		if err != nil {
			return r, err
		}
		r.tensors = append(r.tensors, tensor)
		if len(r.tensors) > 1 {
			r.outputs = append(r.outputs, tensor)
		}
	}
	r.options, err = ort.NewRunOptions()
	return r, err
}

// run computes the logits of what stands in the input, until ctx ends.
func (r *runner) run(ctx context.Context) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- r.options.Terminate() })
	err := r.session.ort.RunWithOptions([]ort.Value{r.tensors[0]}, r.outputs, r.options)
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
		errs = append(errs, t.Destroy())
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
