package graph

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// seeds are models of every kind that is at hand.
var seeds = []string{
	"../onnx/testdata/tiny/model.onnx",
	"../onnx/testdata/slow/model.onnx",
	"../manifest/testdata/external/model.onnx",
	"../manifest/testdata/external_in_subgraph/model.onnx",
}

func TestInspect(t *testing.T) {
	node := func(op string) []byte { return appendBytes(nil, 1, appendBytes(nil, nodeOpType, []byte(op))) }
	value := func(field int) []byte { return appendBytes(nil, field, appendBytes(nil, valueInfoName, []byte("x"))) }
	sound := bytes.Join([][]byte{node("Relu"), value(graphInput), value(graphOutput)}, nil)
	deep := []byte{}
	for range maxDepth {
		deep = appendBytes(nil, 1, appendBytes(nil, 5, appendBytes(nil, 6, deep)))
	}
	weight := appendBytes(nil, 5, appendBytes(nil, tensorName, []byte("x")))
	for _, c := range []struct {
		name  string
		model []byte
		want  error
	}{
		{"sound", appendBytes(nil, 7, sound), nil},
		{"nothing", nil, ErrNotONNX},
		{"text", []byte("version https://git-lfs"), ErrNotONNX},
		{"cut", appendBytes(nil, 7, sound)[:10], ErrNotONNX},
		{"only weights for inputs", appendBytes(nil, 7, append(weight, sound...)), ErrNotONNX},
		{"compiled elsewhere", appendBytes(nil, 7, append(node("EPContext"), sound...)), ErrExternalOp},
		{"deep", appendBytes(nil, 7, append(deep, sound...)), ErrNotONNX},
		{"in a function", append(appendBytes(nil, 25, appendBytes(nil, 7, appendBytes(nil, 5, appendBytes(nil, 5, appendBytes(nil, tensorExternalData, nil))))), appendBytes(nil, 7, sound)...), ErrExternalData},
		{"by its location", appendBytes(nil, 7, append(appendBytes(nil, 5, []byte{tensorDataLocation << 3, 1}), sound...)), ErrExternalData},
		{"located inside", appendBytes(nil, 7, append(appendBytes(nil, 5, []byte{tensorDataLocation << 3, 0}), sound...)), nil},
		{"sparse", appendBytes(nil, 7, append(appendBytes(nil, 15, appendBytes(nil, 1, []byte{tensorDataLocation << 3, 1})), sound...)), ErrExternalData},
		{"a message that is a number", append([]byte{7 << 3, 1}, appendBytes(nil, 7, sound)...), ErrNotONNX},
	} {
		if _, err := Inspect(c.model); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// FuzzInspect: any bytes end in an answer; one that is accepted names its inputs.
func FuzzInspect(f *testing.F) {
	for _, path := range seeds {
		model, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(model)
	}
	f.Fuzz(func(t *testing.T, model []byte) {
		s, err := Inspect(model)
		if err == nil && (len(s.Inputs) == 0 || len(s.Outputs) == 0) {
			t.Fatal("a model without inputs or outputs was accepted")
		}
	})
}
