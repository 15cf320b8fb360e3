package graph

import (
	"bytes"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// phantom is a model as models/train exports them.
const phantom = "../../models/resnet18-phantom/model.onnx"

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	model, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return model
}

func TestFindHead(t *testing.T) {
	h, err := FindHead(read(t, phantom), "logits", "cam")
	if err != nil {
		t.Fatal(err)
	}
	if h.Classes != 6 || h.Features != 128 || len(h.Weight) != 6*128 || len(h.Bias) != 6 || h.Pooled == "" {
		t.Errorf("%d classes of %d features, %d weights, %d biases, pooled %q", h.Classes, h.Features, len(h.Weight), len(h.Bias), h.Pooled)
	}
}

// A head that is exchanged for itself leaves every byte of the model.
func TestReplaceByTheSameIsByteIdentical(t *testing.T) {
	model := read(t, phantom)
	h, err := FindHead(model, "logits", "cam")
	if err != nil {
		t.Fatal(err)
	}
	same, err := h.Replace(model, h.Weight, h.Bias)
	if err != nil || !bytes.Equal(same, model) {
		t.Errorf("%d bytes became %d, or other ones (%v)", len(model), len(same), err)
	}
}

func TestReplace(t *testing.T) {
	model := read(t, phantom)
	h, err := FindHead(model, "logits", "cam")
	if err != nil {
		t.Fatal(err)
	}
	weight, bias := slices.Clone(h.Weight), slices.Clone(h.Bias)
	weight[128], bias[5] = 7.5, float32(math.Pi)
	edited, err := h.Replace(model, weight, bias)
	if err != nil {
		t.Fatal(err)
	}
	if len(edited) != len(model) {
		t.Errorf("%d bytes became %d", len(model), len(edited))
	}
	again, err := FindHead(edited, "logits", "cam") // which compares kernel and weight
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Weight, weight) || !slices.Equal(again.Bias, bias) {
		t.Error("the head is not the one that was written")
	}
	if back, err := again.Replace(edited, h.Weight, h.Bias); err != nil || !bytes.Equal(back, model) {
		t.Errorf("the way back leads elsewhere (%v)", err)
	}
	if _, err := h.Replace(model, weight[1:], bias); err == nil {
		t.Error("a weight too few was taken")
	}
}

func TestExpose(t *testing.T) {
	model := read(t, phantom)
	h, err := FindHead(model, "logits", "cam")
	if err != nil {
		t.Fatal(err)
	}
	exposed, err := h.Expose(model)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Inspect(exposed)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range s.Outputs {
		names = append(names, o.Name)
	}
	if !slices.Equal(names, []string{"logits", "cam", h.Pooled}) || s.Outputs[2].ElemType != Float32 || s.Outputs[2].Shape != nil {
		t.Errorf("outputs %q, the last %+v", names, s.Outputs[2])
	}
}

// Models that end otherwise are refused, and the reason is named. Each is the
// sound one with a few bytes changed and none moved.
func TestFindHeadRefuses(t *testing.T) {
	const gemm = "\x05alpha\x15\x00\x00\x80\x3f"
	for _, c := range []struct{ name, old, new, says string }{
		{"no Gemm", "\x22\x04Gemm", "\x22\x04Gemn", `"logits" is made by Gemn`},
		{"scaled", gemm, "\x05alpha\x15\x00\x00\x00\x40", "scales or transposes"},
		{"the other way round", "\x06transB\x18\x01", "\x06transB\x18\x00", "scales or transposes"},
		{"quantised weight", "\x42\x0dnet.fc.weight", "\x42\x0dnet.fc.wait!!", "no table of float32 in the file"},
		{"bias elsewhere", "\x42\x0bnet.fc.bias", "\x42\x0bnet.fc.base", `"net.fc.bias" has shape []`},
		{"half a weight", "\x08\x06\x08\x80\x01\x10\x01", "\x08\x06\x08\x80\x01\x10\x0a", "no table of float32"},
		{"no mean", "ReduceMean\x2a", "ReduceLast\x2a", "a node ReduceLast stands between"},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := read(t, phantom)
			if !bytes.Contains(model, []byte(c.old)) || len(c.old) != len(c.new) {
				t.Fatalf("the model has no %q, or %q is of another length", c.old, c.new)
			}
			model = bytes.Replace(model, []byte(c.old), []byte(c.new), 1)
			h, err := FindHead(model, "logits", "cam")
			var head *HeadError
			if h != nil || !errors.As(err, &head) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("FindHead: %v", err)
			}
		})
	}
	model := read(t, phantom)
	for _, c := range []struct{ logits, cam, says string }{
		{"cam", "cam", `"cam" is made by Conv, wanted is Gemm`},
		{"logits", "logits", `"logits" is made by Gemm, wanted is Conv`},
		{"logits", "", `"" is made by no node`},
		{"scores", "cam", `"scores" is made by no node`},
	} {
		if _, err := FindHead(model, c.logits, c.cam); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q, %q: %v", c.logits, c.cam, err)
		}
	}
	h, err := FindHead(model, "logits", "cam")
	if err != nil {
		t.Fatal(err)
	}
	other := slices.Clone(h.Weight)
	other[0]++
	h.kernel = "" // the activation maps stay behind
	if model, err = h.Replace(model, other, h.Bias); err != nil {
		t.Fatal(err)
	}
	if _, err := FindHead(model, "logits", "cam"); err == nil || !strings.Contains(err.Error(), "other weights than the logits") {
		t.Errorf("maps of other weights: %v", err)
	}
}

// FuzzEdit: whatever the bytes, an edit that changes nothing gives the same
// bytes, and no head is found whose numbers do not fit together.
func FuzzEdit(f *testing.F) {
	for _, path := range seeds {
		f.Add(read(f, path))
	}
	f.Add([]byte{0xba, 0x00, 0x82, 0x00, 1, 2}) // keys and lengths longer than they need be
	f.Fuzz(func(t *testing.T, model []byte) {
		same, err := edit(model, modelGraph, func(graph []byte) ([]byte, error) {
			return edit(graph, graphInitializer, func(t []byte) ([]byte, error) { return t, nil })
		})
		if err == nil && !bytes.Equal(same, model) {
			t.Fatalf("%x became %x", model, same)
		}
		if h, err := FindHead(model, "logits", "cam"); err == nil && (h.Classes < 1 || h.Features < 1 || len(h.Weight) != h.Classes*h.Features || len(h.Bias) != h.Classes) {
			t.Fatalf("%d classes of %d features with %d weights and %d biases", h.Classes, h.Features, len(h.Weight), len(h.Bias))
		}
	})
}
