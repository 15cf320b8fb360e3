package triage

import (
	"slices"
	"strings"
	"time"

	"ichwatch/dimse/dicom"
	"ichwatch/infer/pixel"
)

const (
	tagTimezoneOffsetFromUTC dicom.Tag = 0x0008_0201
	tagSliceThickness        dicom.Tag = 0x0018_0050
)

// wanted are the elements that triage reads. No identity is among them.
var wanted = []dicom.Tag{
	dicom.TagImageType, dicom.TagAcquisitionDate, dicom.TagAcquisitionDateTime, dicom.TagAcquisitionTime,
	dicom.TagModality, dicom.TagStudyDescription, dicom.TagSeriesDescription, tagTimezoneOffsetFromUTC,
	dicom.TagContrastBolusAgent, dicom.TagBodyPartExamined, tagSliceThickness, dicom.TagProtocolName,
	dicom.TagImagePositionPatient, dicom.TagImageOrientationPatient,
	dicom.TagSamplesPerPixel, dicom.TagPhotometricInterpretation, dicom.TagNumberOfFrames, dicom.TagRows, dicom.TagColumns,
	dicom.TagPixelSpacing, dicom.TagBitsAllocated, dicom.TagBitsStored, dicom.TagHighBit, dicom.TagPixelRepresentation,
	dicom.TagPixelPaddingValue, dicom.TagPixelPaddingRangeLimit, dicom.TagRescaleIntercept, dicom.TagRescaleSlope,
}

var scanOptions = dicom.ScanOptions{
	Want:     func(t dicom.Tag) bool { return slices.Contains(wanted, t) },
	MaxValue: 4096,
}

// describe takes what the decoder wants to know from a header.
func describe(h *dicom.Header) pixel.Description {
	number := func(t dicom.Tag) int { n, _ := h.Uint16(t); return int(n) }
	d := pixel.Description{
		Rows: number(dicom.TagRows), Columns: number(dicom.TagColumns), SamplesPerPixel: number(dicom.TagSamplesPerPixel),
		BitsAllocated: number(dicom.TagBitsAllocated), BitsStored: number(dicom.TagBitsStored), HighBit: number(dicom.TagHighBit),
		Signed:      number(dicom.TagPixelRepresentation) == 1,
		Photometric: h.String(dicom.TagPhotometricInterpretation),
		SyntaxUID:   string(h.TransferSyntax.UID),
		Syntax:      h.TransferSyntax.Name,
		BigEndian:   h.TransferSyntax.BigEndian, Deflated: h.TransferSyntax.Deflated, Encapsulated: h.TransferSyntax.Encapsulated,
		Offset: h.PixelDataOffset, Length: h.PixelDataLength,
	}
	if h.String(dicom.TagNumberOfFrames) != "" {
		frames, err := h.Int(dicom.TagNumberOfFrames)
		if err != nil {
			frames = -1 // which the decoder refuses
		}
		d.Frames = frames
	}
	slope, intercept := floats(h, dicom.TagRescaleSlope), floats(h, dicom.TagRescaleIntercept)
	if d.Rescaled = len(slope) == 1 && len(intercept) == 1; d.Rescaled {
		d.Slope, d.Intercept = slope[0], intercept[0]
	}
	d.Padding.Value, d.Padding.Set = h.Uint16(dicom.TagPixelPaddingValue)
	d.Padding.Limit, d.Padding.Ranged = h.Uint16(dicom.TagPixelPaddingRangeLimit)
	if spacing := floats(h, dicom.TagPixelSpacing); len(spacing) == 2 {
		d.PixelSpacing = [2]float64(spacing)
	}
	return d
}

// acquiredAt returns when the slice was acquired, zero where the header does not
// say. Without an offset the scanner's clock is taken to be in this device's zone.
func acquiredAt(h *dicom.Header) time.Time {
	// The fraction of VR DT and TM, up to six digits, is read even where the
	// layout does not name it.
	zone := time.Local
	if t, err := time.Parse("-0700", h.String(tagTimezoneOffsetFromUTC)); err == nil {
		zone = t.Location()
	}
	stated := h.String(dicom.TagAcquisitionDateTime)
	if stated == "" {
		date, clock := h.String(dicom.TagAcquisitionDate), h.String(dicom.TagAcquisitionTime)
		if len(date) != len("20060102") || clock == "" {
			return time.Time{}
		}
		stated = date + clock
	}
	for _, layout := range []string{"20060102150405-0700", "200601021504-0700", "20060102150405", "200601021504", "2006010215"} {
		if t, err := time.ParseInLocation(layout, strings.TrimSpace(stated), zone); err == nil {
			return t
		}
	}
	return time.Time{}
}
