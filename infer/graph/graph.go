// Package graph reads ONNX models as protobuf messages, before a runtime sees
// them: what they declare (Inspect) and how they end (FindHead). It changes
// nothing but the end: the last layer's input becomes an output, or its weights
// are exchanged. All else stays byte for byte.
//
// The numbers of messages and fields are onnx.proto's.
package graph

import (
	"errors"
	"fmt"
	"slices"
)

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
	modelProto:        {modelGraph: graphProto, 20: trainingInfoProto, 25: functionProto},
	graphProto:        {graphNode: nodeProto, graphInitializer: tensorProto, 15: sparseTensorProto},
	nodeProto:         {nodeAttribute: attributeProto},
	attributeProto:    {5: tensorProto, 6: graphProto, 10: tensorProto, 11: graphProto, 22: sparseTensorProto, 23: sparseTensorProto},
	sparseTensorProto: {1: tensorProto, 2: tensorProto},
	functionProto:     {7: nodeProto, 11: attributeProto},
	trainingInfoProto: {1: graphProto, 2: graphProto},
}

const (
	modelGraph                                                    = 7
	graphNode, graphInitializer, graphInput, graphOutput          = 1, 5, 11, 12
	nodeInput, nodeOutput, nodeOpType, nodeAttribute              = 1, 2, 4, 5
	attributeName, attributeFloat, attributeInt                   = 1, 2, 3
	tensorDims, tensorType, tensorFloats, tensorName, tensorBytes = 1, 2, 4, 8, 9
	tensorExternalData, tensorDataLocation                        = 13, 14
	valueInfoName, valueInfoType                                  = 1, 2
)

// maxDepth bounds graphs within attributes within graphs.
const maxDepth = 64

// Why a model is refused; what FindHead finds wrong has an error of its own.
var (
	ErrExternalData = errors.New("keeps weights in another file, which its hash does not cover; export it with external_data=False")
	ErrExternalOp   = errors.New("has an EPContext node, which loads a compiled model from another file")
	ErrNotONNX      = errors.New("is not an ONNX model")
)

// Signature is the outside of a model.
type Signature struct {
	Inputs, Outputs []Tensor
	initializers    map[string]bool
}

// Tensor is one input or output as the model declares it.
type Tensor struct {
	Name     string
	ElemType uint64  // Float32 or another
	Shape    []int64 // -1: any; nil where it is not declared
}

// Float32 is the element type of float32.
const Float32 = 1

// Inspect walks a model, refuses one that needs more than its own bytes and tells
// its inputs and outputs.
func Inspect(model []byte) (*Signature, error) {
	s := &Signature{initializers: map[string]bool{}}
	if err := s.walk(model, modelProto, 0); err != nil {
		return nil, err
	}
	// Old models list their weights among the inputs.
	s.Inputs = slices.DeleteFunc(s.Inputs, func(t Tensor) bool { return s.initializers[t.Name] })
	if len(s.Inputs) == 0 || len(s.Outputs) == 0 {
		return nil, fmt.Errorf("%w: it has no inputs or no outputs", ErrNotONNX)
	}
	return s, nil
}

func (s *Signature) walk(b []byte, kind message, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: nested more than %d deep", ErrNotONNX, maxDepth)
	}
	return each(b, func(f field) error {
		switch {
		case kind == tensorProto && (f.number == tensorExternalData || f.number == tensorDataLocation && f.varint != 0):
			return ErrExternalData
		case kind == nodeProto && f.number == nodeOpType && string(f.bytes) == "EPContext":
			return ErrExternalOp
		case kind == graphProto && depth == 1 && (f.number == graphInput || f.number == graphOutput):
			t, err := readTensor(f.bytes)
			if err != nil {
				return err
			}
			if f.number == graphInput {
				s.Inputs = append(s.Inputs, t)
			} else {
				s.Outputs = append(s.Outputs, t)
			}
		}
		inner, enter := submessages[kind][f.number]
		if !enter {
			return nil
		}
		if f.bytes == nil {
			return fmt.Errorf("%w: field %d is no message", ErrNotONNX, f.number)
		}
		if err := s.walk(f.bytes, inner, depth+1); err != nil {
			return err
		}
		if kind == graphProto && depth == 1 && f.number == graphInitializer {
			s.initializers[nameOf(f.bytes, tensorName)] = true
		}
		return nil
	})
}

// readTensor reads a ValueInfoProto: name = 1, type = 2 { tensor_type = 1 {
// elem_type = 1, shape = 2 { dim = 1 { dim_value = 1 } } } }.
func readTensor(b []byte) (Tensor, error) {
	t := Tensor{Name: nameOf(b, valueInfoName)}
	tensor, err := path(b, valueInfoType, 1)
	if err != nil {
		return t, err
	}
	err = each(tensor, func(f field) (err error) {
		switch f.number {
		case 1:
			t.ElemType = f.varint
		case 2:
			t.Shape, err = readShape(f.bytes)
		}
		return err
	})
	return t, err
}

func readShape(b []byte) ([]int64, error) {
	shape := []int64{}
	err := each(b, func(f field) error {
		if f.number != 1 {
			return nil
		}
		shape = append(shape, -1)
		return each(f.bytes, func(d field) error {
			if d.number == 1 {
				shape[len(shape)-1] = int64(d.varint)
			}
			return nil
		})
	})
	return shape, err
}
