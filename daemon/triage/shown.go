package triage

import (
	"context"
	"fmt"
	"io"

	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// Shown is a slice for people to look at.
type Shown struct {
	infer.Image
	// Sides are the letters of the patient's directions at the left, right, upper
	// and lower edge: R and L, A and P, H and F. Empty where the header does not say.
	Sides [4]string
}

// Show decodes a frame, from 1 on, of an object of the SOP class class in the
// transfer syntax syntax. It is decoded as it is for a model, but no gate is
// asked; an error says why it cannot be shown.
func Show(ctx context.Context, data io.ReadSeeker, class, syntax dicom.UID, frame int) (*Shown, error) {
	s := new(Shown)
	err := caught(func() error {
		header, err := readHeader(syntax, data)
		if err != nil {
			return err
		}
		if header.PixelData != dicom.TagPixelData {
			return fmt.Errorf("%w: no pixels that can be shown", pixel.ErrMalformed)
		}
		if !multiFrame(class) {
			s.Sides = sides(header)
			return decode(ctx, data, header, &s.Image)
		}
		return s.frame(ctx, data, header, frame)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Shown) frame(ctx context.Context, data io.ReadSeeker, header *dicom.Header, number int) error {
	if err := rewind(data); err != nil {
		return err
	}
	headers, err := frameHeaders(data, header)
	if err != nil {
		return err
	}
	if number < 1 || number > len(headers) {
		return fmt.Errorf("%w: no frame %d", pixel.ErrMalformed, number)
	}
	if err := rewind(data); err != nil {
		return err
	}
	frames, err := pixel.Open(describe(headers[0]), data)
	if err != nil {
		return err
	}
	for range number - 1 {
		if err := frames.Skip(); err != nil {
			return err
		}
	}
	s.Sides = sides(headers[number-1])
	return frames.Next(ctx, describe(headers[number-1]), &s.Image)
}

// sides reads (0020,0037): where the rows and columns of a slice run to in the
// patient (PS3.3 section C.7.6.2.1.1).
func sides(h *dicom.Header) [4]string {
	if _, ok := planeOf(h); !ok {
		return [4]string{}
	}
	cosines := floats(h, dicom.TagImageOrientationPatient)
	left, right := towards(vector(cosines[:3]))
	top, bottom := towards(vector(cosines[3:]))
	return [4]string{left, right, top, bottom}
}

// towards names where a direction comes from and where it leads.
func towards(v vector) (from, to string) {
	letters := [3][2]string{{"R", "L"}, {"A", "P"}, {"F", "H"}}
	axis := 0
	for i := range v {
		if abs(v[i]) > abs(v[axis]) {
			axis = i
		}
	}
	if v[axis] < 0 {
		return letters[axis][1], letters[axis][0]
	}
	return letters[axis][0], letters[axis][1]
}

func abs(f float64) float64 { return max(f, -f) }
