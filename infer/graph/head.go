package graph

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Head is how a classification network ends:
//
//	pooled = mean of features over the map        [slices, Features]
//	logits = Gemm(pooled, weight, bias)           [slices, Classes]
//	cam    = Conv(features, weight as a kernel)   [slices, Classes, h, w]
//
// so that the mean of a class's activation map plus its bias is its logit.
type Head struct {
	Classes, Features int
	Weight            []float32 // class by class, Features of each
	Bias              []float32 // a number for each class
	Pooled            string    // the tensor that goes into the last layer

	weight, bias, kernel string // the initializers' names
}

// HeadError is a model that does not end as a Head.
type HeadError struct{ Reason string }

// Error tells what is otherwise, and what to do.
func (e *HeadError) Error() string {
	return "the model does not end in a pooled linear layer with activation maps of the same weights: " + e.Reason +
		"; models/train exports models that do"
}

func otherwise(format string, args ...any) error { return &HeadError{fmt.Sprintf(format, args...)} }

// node is a node of the graph, with those of its attributes that are read here.
type node struct {
	op              string
	inputs, outputs []string
	ints            map[string]int64
	floats          map[string]float32
}

// tensor is an initializer; its values are read when they are asked for.
type tensor struct {
	dims    []int64
	element uint64
	raw     []byte // little-endian
	floats  []byte // packed, which is little-endian too
}

type network struct {
	producer map[string]*node // of each tensor
	readers  map[string]int   // how many inputs of nodes each tensor is
	weights  map[string]*tensor
}

// FindHead looks at how a model ends that declares these outputs. What is not
// understood is a *HeadError.
func FindHead(model []byte, logits, cam string) (*Head, error) {
	n, err := readNetwork(model)
	if err != nil {
		return nil, err
	}
	h := &Head{}
	gemm := n.producer[logits]
	switch {
	case gemm == nil || gemm.op != "Gemm" || len(gemm.inputs) != 3:
		return nil, otherwise("%q is made by %s, wanted is Gemm with a bias", logits, gemm)
	case gemm.float("alpha", 1) != 1 || gemm.float("beta", 1) != 1 || gemm.ints["transA"] != 0 || gemm.ints["transB"] != 1:
		return nil, otherwise("the Gemm that makes %q scales or transposes its input, or keeps its weight the other way round", logits)
	}
	h.Pooled, h.weight, h.bias = gemm.inputs[0], gemm.inputs[1], gemm.inputs[2]
	features, err := n.pooledFrom(h.Pooled)
	if err != nil {
		return nil, err
	}
	conv := n.producer[cam]
	switch {
	case conv == nil || conv.op != "Conv" || len(conv.inputs) != 2:
		return nil, otherwise("%q is made by %s, wanted is Conv without a bias", cam, conv)
	case conv.inputs[0] != features:
		return nil, otherwise("the activation maps are made of %q, the logits of %q", conv.inputs[0], features)
	}
	h.kernel = conv.inputs[1]

	shape := n.shapeOf(h.weight)
	if len(shape) != 2 || shape[0] < 1 || shape[1] < 1 {
		return nil, otherwise("the weight of the last layer is no table of float32 in the file (%v)", shape)
	}
	h.Classes, h.Features = int(shape[0]), int(shape[1])
	for _, w := range []struct {
		name string
		want []int64
	}{{h.bias, shape[:1]}, {h.kernel, []int64{shape[0], shape[1], 1, 1}}} {
		if got := n.shapeOf(w.name); !slices.Equal(got, w.want) {
			return nil, otherwise("%q has shape %v, wanted is float32 %v in the file", w.name, got, w.want)
		}
	}
	for _, name := range []string{h.weight, h.bias, h.kernel} {
		if n.readers[name] != 1 {
			return nil, otherwise("%q is used %d times, wanted is once", name, n.readers[name])
		}
	}
	if h.Weight, err = n.weights[h.weight].values(); err != nil {
		return nil, err
	}
	if h.Bias, err = n.weights[h.bias].values(); err != nil {
		return nil, err
	}
	kernel, err := n.weights[h.kernel].values()
	if err != nil {
		return nil, err
	}
	if !slices.Equal(kernel, h.Weight) {
		return nil, otherwise("the activation maps have other weights than the logits")
	}
	return h, nil
}

// Expose gives the model with the last layer's input as one more output, named
// Pooled.
func (h *Head) Expose(model []byte) ([]byte, error) {
	kind := appendBytes(nil, 1, appendVarint(nil, 1, Float32)) // tensor_type { elem_type }
	output := appendBytes(appendBytes(nil, valueInfoName, []byte(h.Pooled)), valueInfoType, kind)
	return edit(model, modelGraph, func(graph []byte) ([]byte, error) {
		return appendBytes(slices.Clip(graph), graphOutput, output), nil
	})
}

// Replace gives the model with other weights in its head, in the form of Weight
// and Bias: in the last layer and in the activation maps.
func (h *Head) Replace(model []byte, weight, bias []float32) ([]byte, error) {
	if len(weight) != len(h.Weight) || len(bias) != len(h.Bias) {
		return nil, fmt.Errorf("replace the head: %d weights and %d biases for %d classes of %d features", len(weight), len(bias), h.Classes, h.Features)
	}
	values := map[string][]float32{h.weight: weight, h.kernel: weight, h.bias: bias}
	return edit(model, modelGraph, func(graph []byte) ([]byte, error) {
		return edit(graph, graphInitializer, func(t []byte) ([]byte, error) {
			if v, ours := values[nameOf(t, tensorName)]; ours {
				return setValues(t, v)
			}
			return t, nil
		})
	})
}

// setValues gives a TensorProto with other values, where the old ones stood.
func setValues(t []byte, values []float32) ([]byte, error) {
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	var out []byte
	written := false
	err := each(t, func(f field) error {
		switch {
		case f.number != tensorFloats && f.number != tensorBytes:
			out = append(out, f.raw...)
		case !written:
			out, written = appendBytes(out, tensorBytes, raw), true
		}
		return nil
	})
	return out, err
}

// pooledFrom goes back from a pooled tensor to what it is the mean of.
func (n *network) pooledFrom(name string) (string, error) {
	for range 4 {
		made := n.producer[name]
		if made == nil || len(made.inputs) == 0 {
			return "", otherwise("%q, which goes into the last layer, is not the mean of feature maps", name)
		}
		name = made.inputs[0]
		switch made.op {
		case "ReduceMean", "GlobalAveragePool":
			return name, nil
		case "Flatten", "Reshape", "Squeeze", "Identity":
		default:
			return "", otherwise("a node %s stands between the feature maps and the last layer", made)
		}
	}
	return "", otherwise("no mean of feature maps goes into the last layer")
}

func (n *network) shapeOf(name string) []int64 {
	t := n.weights[name]
	if t == nil || t.element != Float32 {
		return nil
	}
	return t.dims
}

// String names the node's operator.
func (n *node) String() string {
	if n == nil {
		return "no node"
	}
	return n.op
}

func (n *node) float(name string, unset float32) float32 {
	if v, ok := n.floats[name]; ok {
		return v
	}
	return unset
}

func (t *tensor) values() ([]float32, error) {
	b := t.raw
	if b == nil {
		b = t.floats
	}
	size := int64(4)
	for _, d := range t.dims {
		if d < 1 || size > int64(len(b)) || d > int64(len(b)) {
			size = -1
			break
		}
		size *= d
	}
	if size != int64(len(b)) {
		return nil, otherwise("a weight of shape %v has %d bytes", t.dims, len(b))
	}
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

func readNetwork(model []byte) (*network, error) {
	n := &network{producer: map[string]*node{}, readers: map[string]int{}, weights: map[string]*tensor{}}
	graph, err := path(model, modelGraph)
	if err != nil {
		return nil, err
	}
	return n, each(graph, func(f field) error {
		switch f.number {
		case graphNode:
			made, err := readNode(f.bytes)
			if err != nil {
				return err
			}
			for _, name := range made.inputs {
				n.readers[name]++
			}
			for _, name := range made.outputs {
				n.producer[name] = made
			}
		case graphInitializer:
			t, err := readWeight(f.bytes)
			if err != nil {
				return err
			}
			n.weights[nameOf(f.bytes, tensorName)] = t
		}
		return nil
	})
}

func readNode(b []byte) (*node, error) {
	n := &node{ints: map[string]int64{}, floats: map[string]float32{}}
	err := each(b, func(f field) error {
		switch f.number {
		case nodeInput:
			n.inputs = append(n.inputs, string(f.bytes))
		case nodeOutput:
			n.outputs = append(n.outputs, string(f.bytes))
		case nodeOpType:
			n.op = string(f.bytes)
		case nodeAttribute:
			name := nameOf(f.bytes, attributeName)
			return each(f.bytes, func(a field) error {
				switch a.number {
				case attributeInt:
					n.ints[name] = int64(a.varint)
				case attributeFloat:
					if len(a.raw) < 4 {
						return errors.Join(ErrNotONNX, errors.New("a float attribute that is none"))
					}
					n.floats[name] = math.Float32frombits(binary.LittleEndian.Uint32(a.raw[len(a.raw)-4:]))
				}
				return nil
			})
		}
		return nil
	})
	return n, err
}

func readWeight(b []byte) (*tensor, error) {
	t := &tensor{}
	err := each(b, func(f field) error {
		switch f.number {
		case tensorDims:
			packed := f.bytes
			if packed == nil {
				t.dims = append(t.dims, int64(f.varint))
			}
			for len(packed) > 0 {
				d, size := binary.Uvarint(packed)
				if size <= 0 {
					return fmt.Errorf("%w: it breaks off in a shape", ErrNotONNX)
				}
				t.dims, packed = append(t.dims, int64(d)), packed[size:]
			}
		case tensorType:
			t.element = f.varint
		case tensorFloats:
			t.floats = f.bytes
		case tensorBytes:
			t.raw = f.bytes
		}
		return nil
	})
	return t, err
}
