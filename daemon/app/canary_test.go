package app

import (
	"testing"
)

// The canary's slices are the same at every time, and show both.
func TestCanarySlices(t *testing.T) {
	first, err := canary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := canary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bleeds := 0
	for i, c := range first {
		if c.Bleed {
			bleeds++
		}
		if string(bytesOf(c.Image.HU)) != string(bytesOf(again[i].Image.HU)) {
			t.Errorf("slice %d differs from run to run", i)
		}
	}
	if bleeds < 5 || len(first)-bleeds < 4 {
		t.Errorf("%d slices, %d with a bleed", len(first), bleeds)
	}
}

func bytesOf(hu []int16) (out []byte) {
	for _, v := range hu {
		out = append(out, byte(v), byte(v>>8))
	}
	return out
}

func BenchmarkCanary(b *testing.B) {
	for b.Loop() {
		if _, err := canary(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
