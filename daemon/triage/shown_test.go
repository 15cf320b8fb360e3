package triage

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dicom"
	"ichwatch/infer/pixel"
)

// What people are shown is what the phantom drew, with the patient's right on the
// left.
func TestShow(t *testing.T) {
	p, err := phantom.New(phantom.Options{Seed: 1, Class: phantom.Epidural, Rows: 64, Columns: 64, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	if err := p.WriteDataSet(&data, 5); err != nil {
		t.Fatal(err)
	}
	shown, err := Show(t.Context(), bytes.NewReader(data.Bytes()), dicom.CTImageStorage, dicom.ExplicitVRLittleEndian, 0)
	if err != nil {
		t.Fatal(err)
	}
	if shown.Sides != [4]string{"R", "L", "A", "P"} {
		t.Errorf("sides %v", shown.Sides)
	}
	if want := p.HU(5, nil); !slices.Equal(shown.HU, want) || shown.Rows != 64 || shown.Columns != 64 {
		t.Errorf("%d by %d pixels differ from what was drawn", shown.Rows, shown.Columns)
	}
	for n := range data.Len() / 97 { // cut off anywhere
		if _, err := Show(t.Context(), bytes.NewReader(data.Bytes()[:97*n]), dicom.CTImageStorage, dicom.ExplicitVRLittleEndian, 0); err == nil {
			t.Fatalf("%d bytes were shown", 97*n)
		}
	}
	_, err = Show(t.Context(), bytes.NewReader(data.Bytes()), dicom.EnhancedCTImageStorage, dicom.ExplicitVRLittleEndian, 1)
	if err == nil {
		t.Error("a slice was shown as a frame of an object that has none")
	}
	if _, err = Show(t.Context(), bytes.NewReader(data.Bytes()), dicom.CTImageStorage, "1.2.3", 0); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("an unknown syntax: %v", err)
	}
}

// A frame of an enhanced object is found by its number.
func TestShowFrame(t *testing.T) {
	data := enhanced{shows: []int16{30, 70, 110}}.dataSet("1.2")
	for frame, want := range []int16{1: 30, 70, 110} {
		if frame == 0 {
			continue
		}
		shown, err := Show(t.Context(), bytes.NewReader(data), dicom.EnhancedCTImageStorage, dicom.ExplicitVRLittleEndian, frame)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(shown.HU, []int16{want, want, want, want}) {
			t.Errorf("frame %d shows %v, want %d", frame, shown.HU, want)
		}
	}
	for _, frame := range []int{0, -1, 1 << 30} {
		if _, err := Show(t.Context(), bytes.NewReader(data), dicom.EnhancedCTImageStorage, dicom.ExplicitVRLittleEndian, frame); !errors.Is(err, pixel.ErrMalformed) {
			t.Errorf("frame %d: %v", frame, err)
		}
	}
}

func TestTowards(t *testing.T) {
	for v, want := range map[vector][2]string{
		{1, 0, 0}: {"R", "L"}, {-1, 0, 0}: {"L", "R"}, {0, 1, 0}: {"A", "P"}, {0, -0.9, 0.3}: {"P", "A"}, {0, 0, 1}: {"F", "H"}, {0.1, 0.2, -0.9}: {"H", "F"},
	} {
		if from, to := towards(v); [2]string{from, to} != want {
			t.Errorf("%v: from %s to %s", v, from, to)
		}
	}
}
