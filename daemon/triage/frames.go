package triage

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/infer/pixel"
)

// Sequences of objects of several frames (PS3.3 section C.7.6.16). What the
// functional groups say of a frame, the attributes of a single-frame object say
// at its top level: a frame gets a header such as a slice would have, and goes
// the same way from there.
const (
	tagSharedFunctionalGroups   dicom.Tag = 0x5200_9229
	tagPerFrameFunctionalGroups dicom.Tag = 0x5200_9230

	tagContrastBolusAgentSequence dicom.Tag = 0x0018_0012
)

// macros are the sequences of a functional group that tell where a frame lies and
// what its pixels mean.
var macros = []dicom.Tag{
	0x0018_9329, // CT Image Frame Type
	0x0020_9111, // Frame Content
	0x0020_9113, // Plane Position
	0x0020_9116, // Plane Orientation
	0x0028_9110, // Pixel Measures
	0x0028_9145, // Pixel Value Transformation
}

// asSlice has the attributes that are read of a functional group, and which one
// says the same of a slice.
var asSlice = map[dicom.Tag]dicom.Tag{
	0x0008_9007:                      dicom.TagImageType,           // Frame Type
	0x0018_9074:                      dicom.TagAcquisitionDateTime, // Frame Acquisition DateTime
	dicom.TagImagePositionPatient:    dicom.TagImagePositionPatient,
	dicom.TagImageOrientationPatient: dicom.TagImageOrientationPatient,
	dicom.TagPixelSpacing:            dicom.TagPixelSpacing,
	tagSliceThickness:                tagSliceThickness,
	dicom.TagRescaleIntercept:        dicom.TagRescaleIntercept,
	dicom.TagRescaleSlope:            dicom.TagRescaleSlope,
}

// multiFrame reports whether objects of a SOP class have their frames described
// by functional groups.
func multiFrame(class dicom.UID) bool {
	return class == dicom.EnhancedCTImageStorage || class == dicom.LegacyConvertedEnhancedCTImageStorage
}

// frameHeaders gives each frame of an object its own header. data stands at the
// beginning of the data set, and header is that of the object.
func frameHeaders(data io.Reader, header *dicom.Header) ([]*dicom.Header, error) {
	d := describe(header)
	if d.Frames < 1 || d.Frames > pixel.MaxFrames {
		return nil, &refusedError{fmt.Sprintf("number of frames is not 1 to %d", pixel.MaxFrames)}
	}
	object := overlay(header) // with what the shared groups say
	groups := make([][]dicom.Element, 0, min(d.Frames, 512))
	err := dicom.Walk(data, header.TransferSyntax, dicom.WalkOptions{
		MaxValue: scanOptions.MaxValue,
		Enter: func(path []dicom.Item, t dicom.Tag) bool {
			switch len(path) {
			case 0:
				return t == tagSharedFunctionalGroups || t == tagPerFrameFunctionalGroups || t == tagContrastBolusAgentSequence
			case 1:
				return slices.Contains(macros, t)
			}
			return false
		},
		Visit: func(path []dicom.Item, e dicom.Element) error {
			if len(path) > 0 && path[0].Sequence == tagContrastBolusAgentSequence {
				put(object, dicom.Element{Tag: dicom.TagContrastBolusAgent, Value: []byte("GIVEN")})
			}
			as, known := asSlice[e.Tag]
			if len(path) != 2 || !known || path[1].Number > 0 {
				return nil
			}
			e.Tag = as
			if path[0].Sequence == tagSharedFunctionalGroups {
				put(object, e)
				return nil
			}
			if path[0].Number >= d.Frames {
				return fmt.Errorf("%w: functional groups for more than %d frames", pixel.ErrMalformed, d.Frames)
			}
			for len(groups) <= path[0].Number {
				groups = append(groups, nil)
			}
			groups[path[0].Number] = append(groups[path[0].Number], e)
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("read the functional groups: %w", err)
	}
	headers := make([]*dicom.Header, d.Frames)
	for k := range headers {
		headers[k] = overlay(object)
		if k < len(groups) {
			for _, e := range groups[k] {
				put(headers[k], e)
			}
		}
	}
	return headers, nil
}

// overlay is a header that may be changed without changing h.
func overlay(h *dicom.Header) *dicom.Header {
	out := *h
	out.Elements = slices.Clone(h.Elements)
	return &out
}

// put sets an element of a header, in its place.
func put(h *dicom.Header, e dicom.Element) {
	at, found := slices.BinarySearchFunc(h.Elements, e.Tag, func(e dicom.Element, t dicom.Tag) int { return cmp.Compare(e.Tag, t) })
	if found {
		h.Elements[at] = e
	} else {
		h.Elements = slices.Insert(h.Elements, at, e)
	}
}

// judgeFrames is judge for an object of several frames. Where none of them is for
// the model the object is refused as a whole.
func (e *Examiner) judgeFrames(ctx context.Context, model *guarded, class, syntax dicom.UID, data io.ReadSeeker, r *Result, each func(int, Result)) error {
	header, err := readHeader(syntax, data)
	if err != nil {
		return err
	}
	if err := rewind(data); err != nil {
		return err
	}
	headers, err := frameHeaders(data, header)
	if err != nil {
		return err
	}
	results := make([]Result, len(headers))
	var refused error // of the first
	for k, h := range headers {
		results[k].Position = nowhere
		err := e.admitFrame(class, h, &results[k])
		if settled := e.settle(ctx, &results[k], err); settled != nil {
			return settled
		}
		if k == 0 {
			refused = err
		}
	}
	if !slices.ContainsFunc(results, func(r Result) bool { return r.State == spool.FindingClassified }) {
		return refused
	}
	if model == nil {
		return errNoModel
	}
	if err := rewind(data); err != nil {
		return err
	}
	frames, err := pixel.Open(describe(headers[0]), data)
	if err != nil {
		return err
	}
	for k := range results {
		f := &results[k]
		if f.State != spool.FindingClassified {
			_ = frames.Skip() // where it fails, so does the next frame that is read
		} else if err := e.settle(ctx, f, caught(func() error { return e.judgeFrame(ctx, model, frames, headers[k], f) })); err != nil {
			return err
		}
		if each != nil {
			each(k+1, *f)
		}
	}
	r.Frames = results
	r.sumUp()
	return nil
}

// judgeFrame looks at the next of the frames.
func (e *Examiner) judgeFrame(ctx context.Context, model *guarded, frames *pixel.Frames, header *dicom.Header, r *Result) error {
	img := e.image()
	if err := frames.Next(ctx, describe(header), img); err != nil {
		return err
	}
	return e.classify(ctx, model, img, r)
}

// sumUp says of an object what its frames come to: failed where one has, and
// otherwise classified, for one is for the model.
func (r *Result) sumUp() {
	r.State = spool.FindingClassified
	for _, f := range r.Frames {
		if r.AcquiredAt.IsZero() {
			r.AcquiredAt = f.AcquiredAt
		}
		if f.Models != nil {
			r.Models, r.Provider = f.Models, f.Provider
		}
		if f.State == spool.FindingFailed && r.State != spool.FindingFailed {
			r.State, r.Reason, r.Err = f.State, f.Reason, f.Err
		}
	}
}
