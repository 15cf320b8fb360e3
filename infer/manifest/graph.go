package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// The parts of an ONNX model that are looked at before a runtime sees it. The
// numbers are onnx.proto's.

// message is a kind of protobuf message that the walk enters.
type message int

const (
	modelProto message = iota
	graphProto
	nodeProto
	attributeProto
	tensorProto
	sparseTensorProto
	functionProto
	trainingInfoProto
)

// submessages tells which fields of a message hold which messages: every way
// from a model to a tensor.
var submessages = map[message]map[int]message{
	modelProto:        {7: graphProto, 20: trainingInfoProto, 25: functionProto},
	graphProto:        {1: nodeProto, 5: tensorProto, 15: sparseTensorProto},
	nodeProto:         {5: attributeProto},
	attributeProto:    {5: tensorProto, 6: graphProto, 10: tensorProto, 11: graphProto, 22: sparseTensorProto, 23: sparseTensorProto},
	sparseTensorProto: {1: tensorProto, 2: tensorProto},
	functionProto:     {7: nodeProto, 11: attributeProto},
	trainingInfoProto: {1: graphProto, 2: graphProto},
}

const (
	graphInput, graphOutput, graphInitializer = 11, 12, 5
	nodeOpType                                = 4
	tensorName, tensorExternalData            = 8, 13
	tensorDataLocation                        = 14
	valueInfoName, valueInfoType              = 1, 2
)

// maxDepth bounds graphs within attributes within graphs.
const maxDepth = 64

var (
	errExternalData = errors.New("keeps weights in another file, which its hash does not cover; export it with external_data=False")
	errExternalOp   = errors.New("has an EPContext node, which loads a compiled model from another file")
	errNotONNX      = errors.New("is not an ONNX model")
)

// graph is the outside of a model.
type graph struct {
	inputs, outputs []tensorInfo
	initializers    map[string]bool
}

// tensorInfo is one input or output as the model declares it.
type tensorInfo struct {
	name     string
	elemType uint64  // 1: float32
	shape    []int64 // -1: any; nil where it is not declared
}

const elemFloat32 = 1

// inspect walks a model, refuses one that needs more than its own bytes and
// tells its inputs and outputs.
func inspect(model []byte) (*graph, error) {
	g := &graph{initializers: map[string]bool{}}
	if err := g.walk(model, modelProto, 0); err != nil {
		return nil, err
	}
	// Old models list their weights among the inputs.
	g.inputs = slices.DeleteFunc(g.inputs, func(t tensorInfo) bool { return g.initializers[t.name] })
	if len(g.inputs) == 0 || len(g.outputs) == 0 {
		return nil, fmt.Errorf("%w: it has no inputs or no outputs", errNotONNX)
	}
	return g, nil
}

func (g *graph) walk(b []byte, kind message, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: nested more than %d deep", errNotONNX, maxDepth)
	}
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		b = rest
		switch {
		case kind == tensorProto && (f.number == tensorExternalData || f.number == tensorDataLocation && f.varint != 0):
			return errExternalData
		case kind == nodeProto && f.number == nodeOpType && string(f.bytes) == "EPContext":
			return errExternalOp
		case kind == graphProto && depth == 1 && (f.number == graphInput || f.number == graphOutput):
			t, err := readTensorInfo(f.bytes)
			if err != nil {
				return err
			}
			if f.number == graphInput {
				g.inputs = append(g.inputs, t)
			} else {
				g.outputs = append(g.outputs, t)
			}
		}
		if inner, enter := submessages[kind][f.number]; enter {
			if f.bytes == nil {
				return fmt.Errorf("%w: field %d is no message", errNotONNX, f.number)
			}
			if err := g.walk(f.bytes, inner, depth+1); err != nil {
				return err
			}
			if kind == graphProto && depth == 1 && f.number == graphInitializer {
				g.initializers[nameOf(f.bytes, tensorName)] = true
			}
		}
	}
	return nil
}

// field is one field of a protobuf message.
type field struct {
	number int
	varint uint64
	bytes  []byte // not nil exactly where the field is of bytes
}

// nextField takes the first field off b. Groups, which ONNX has none of, are
// refused.
func nextField(b []byte) (f field, rest []byte, err error) {
	key, n := binary.Uvarint(b)
	if n <= 0 || key>>3 == 0 || key>>3 > math.MaxInt32 {
		return field{}, nil, fmt.Errorf("%w: it ends or breaks off in a field", errNotONNX)
	}
	f.number, b = int(key>>3), b[n:]
	var length uint64
	switch key & 7 {
	case 0:
		f.varint, n = binary.Uvarint(b)
		if n <= 0 {
			return field{}, nil, fmt.Errorf("%w: it breaks off in a number", errNotONNX)
		}
		return f, b[n:], nil
	case 1:
		length = 8
	case 5:
		length = 4
	case 2:
		length, n = binary.Uvarint(b)
		if n <= 0 {
			return field{}, nil, fmt.Errorf("%w: it breaks off in a length", errNotONNX)
		}
		b = b[n:]
	default:
		return field{}, nil, fmt.Errorf("%w: wire type %d", errNotONNX, key&7)
	}
	if length > uint64(len(b)) {
		return field{}, nil, fmt.Errorf("%w: a field claims %d bytes where %d are left", errNotONNX, length, len(b))
	}
	if key&7 == 2 {
		f.bytes = b[:length:length]
	}
	return f, b[length:], nil
}

// path follows fields of bytes inwards and gives the last; nil where one is
// missing.
func path(b []byte, numbers ...int) ([]byte, error) {
	for _, number := range numbers {
		var found []byte
		for len(b) > 0 {
			f, rest, err := nextField(b)
			if err != nil {
				return nil, err
			}
			if b = rest; f.number == number && f.bytes != nil {
				found = f.bytes
			}
		}
		if b = found; b == nil {
			return nil, nil
		}
	}
	return b, nil
}

func nameOf(b []byte, number int) string {
	name, err := path(b, number)
	if err != nil {
		return ""
	}
	return string(name)
}

// readTensorInfo reads a ValueInfoProto: name = 1, type = 2 { tensor_type = 1 {
// elem_type = 1, shape = 2 { dim = 1 { dim_value = 1 } } } }.
func readTensorInfo(b []byte) (tensorInfo, error) {
	t := tensorInfo{name: nameOf(b, valueInfoName)}
	tensor, err := path(b, valueInfoType, 1)
	if err != nil {
		return t, err
	}
	for len(tensor) > 0 {
		f, rest, err := nextField(tensor)
		if err != nil {
			return t, err
		}
		switch tensor = rest; f.number {
		case 1:
			t.elemType = f.varint
		case 2:
			if t.shape, err = readShape(f.bytes); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

func readShape(b []byte) ([]int64, error) {
	shape := []int64{}
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return nil, err
		}
		if b = rest; f.number != 1 {
			continue
		}
		size := int64(-1)
		for dim := f.bytes; len(dim) > 0; {
			d, rest, err := nextField(dim)
			if err != nil {
				return nil, err
			}
			if dim = rest; d.number == 1 {
				size = int64(d.varint)
			}
		}
		shape = append(shape, size)
	}
	return shape, nil
}

// signature compares the manifest with what the model declares. A wrong input
// name would otherwise show only when the first slice runs.
func (p *problems) signature(m *Manifest, g *graph) {
	if p.has("input") || p.has("windows") || p.has("classes") || p.has("outputs") {
		return // what is wanted of the model is not clear yet
	}
	if len(g.inputs) != 1 {
		p.add("input", "the model has %d inputs, wanted is one", len(g.inputs))
		return
	}
	classes := int64(len(m.Classes))
	p.tensor("input.name", m.Input.Name, g.inputs,
		[]int64{-1, int64(len(m.Windows)), int64(m.Input.Height), int64(m.Input.Width)}, "slices, windows, height, width")
	p.tensor("outputs.logits", m.Outputs.Logits, g.outputs, []int64{-1, classes}, "slices, classes")
	if m.Outputs.CAM != "" {
		p.tensor("outputs.cam", m.Outputs.CAM, g.outputs, []int64{-1, classes, -1, -1}, "slices, classes, height, width")
	}
}

// tensor checks one input or output; -1 in the wanted shape is any size.
func (p *problems) tensor(key, name string, declared []tensorInfo, want []int64, axes string) {
	if name == "" || p.has(key) {
		return
	}
	i := slices.IndexFunc(declared, func(t tensorInfo) bool { return t.name == name })
	if i < 0 {
		names := make([]string, len(declared))
		for i, t := range declared {
			names[i] = t.name
		}
		p.add(key, "is %q, the model has %q", name, names)
		return
	}
	t := declared[i]
	if t.elemType != elemFloat32 {
		p.add(key, "%q is not of float32 in the model (element type %d)", name, t.elemType)
	}
	if t.shape == nil {
		return // not declared: the first run shows it
	}
	fits := len(t.shape) == len(want)
	for axis := 0; fits && axis < len(want); axis++ {
		has := t.shape[axis]
		switch {
		case has < 0:
		case axis == 0:
			fits = has == 1 // a model with a fixed batch of one is as good on a CPU
		default:
			fits = want[axis] < 0 || has == want[axis]
		}
	}
	if !fits {
		p.add(key, "%q has shape %v in the model, the manifest wants %v (%s; -1: any)", name, t.shape, want, axes)
	}
}
