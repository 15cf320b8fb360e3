package dicom_test

import (
	"bytes"
	"testing"

	"ichwatch/dimse/dicom"
)

// ctHeader is a data set with the elements of a usual CT slice: 26 that are
// wanted among 85, a sequence, private elements, and the pixels.
func ctHeader() []byte {
	var b bytes.Buffer
	add := func(tag dicom.Tag, vr, value string) { b.WriteString(explicit(tag, vr, value)) }
	add(dicom.TagSpecificCharacterSet, "CS", "ISO_IR 100")
	add(dicom.TagImageType, "CS", `ORIGINAL\PRIMARY\AXIAL`)
	add(dicom.TagSOPClassUID, "UI", "1.2.840.10008.5.1.4.1.1.2\x00")
	add(dicom.TagSOPInstanceUID, "UI", "1.2.826.0.1.3680043.9.4245.37962871327076506894628225055884023")
	for i := range dicom.Tag(8) {
		add(0x0008_0020+i, "DA", "20240102")
	}
	add(dicom.TagModality, "CS", "CT")
	add(dicom.TagManufacturer, "LO", "MANUFACTURER")
	b.WriteString("\x08\x00\x40\x11" + "SQ\x00\x00\xff\xff\xff\xff" + "\xfe\xff\x00\xe0\xff\xff\xff\xff")
	add(0x0008_1155, "UI", "1.2.840.10008.5.1.4.1.1.2\x00")
	b.WriteString("\xfe\xff\x0d\xe0\x00\x00\x00\x00" + "\xfe\xff\xdd\xe0\x00\x00\x00\x00")
	for i := range dicom.Tag(6) {
		add(0x0010_0010+i, "LO", "ANONYMOUS^")
	}
	for i := range dicom.Tag(20) {
		add(0x0018_1000+i, "DS", "120.0000")
	}
	for i := range dicom.Tag(15) {
		add(0x0019_1000+i, "UN", "\x00\x01\x02\x03")
	}
	add(dicom.TagStudyInstanceUID, "UI", "1.2.826.0.1.3680043.9.4245.37962871327076506894628225055884024")
	add(dicom.TagSeriesInstanceUID, "UI", "1.2.826.0.1.3680043.9.4245.37962871327076506894628225055884025")
	add(dicom.TagSeriesNumber, "IS", "2 ")
	add(dicom.TagInstanceNumber, "IS", "17")
	add(dicom.TagImagePositionPatient, "DS", `-125.000\-125.000\17.500 `)
	add(dicom.TagImageOrientationPatient, "DS", `1.0\0.0\0.0\0.0\1.0\0.0 `)
	add(dicom.TagSamplesPerPixel, "US", "\x01\x00")
	add(dicom.TagPhotometricInterpretation, "CS", "MONOCHROME2 ")
	add(dicom.TagRows, "US", "\x00\x02")
	add(dicom.TagColumns, "US", "\x00\x02")
	add(dicom.TagPixelSpacing, "DS", `0.488\0.488 `)
	add(dicom.TagBitsAllocated, "US", "\x10\x00")
	add(dicom.TagBitsStored, "US", "\x10\x00")
	add(dicom.TagHighBit, "US", "\x0f\x00")
	add(dicom.TagPixelRepresentation, "US", "\x01\x00")
	add(dicom.TagWindowCenter, "DS", "40")
	add(dicom.TagWindowWidth, "DS", "80")
	add(dicom.TagRescaleIntercept, "DS", "-1024 ")
	add(dicom.TagRescaleSlope, "DS", "1 ")
	add(dicom.TagPixelData, "OW", string(make([]byte, 512*512*2)))
	return b.Bytes()
}

// wanted is what a receiver asks for; a switch is the fastest set of constants.
func wanted(t dicom.Tag) bool {
	switch t {
	case dicom.TagImageType, dicom.TagSOPClassUID, dicom.TagSOPInstanceUID, dicom.TagModality,
		dicom.TagStudyInstanceUID, dicom.TagSeriesInstanceUID, dicom.TagSeriesNumber, dicom.TagInstanceNumber,
		dicom.TagImagePositionPatient, dicom.TagImageOrientationPatient, dicom.TagSamplesPerPixel,
		dicom.TagPhotometricInterpretation, dicom.TagRows, dicom.TagColumns, dicom.TagPixelSpacing,
		dicom.TagBitsAllocated, dicom.TagBitsStored, dicom.TagHighBit, dicom.TagPixelRepresentation,
		dicom.TagWindowCenter, dicom.TagWindowWidth, dicom.TagRescaleIntercept, dicom.TagRescaleSlope:
		return true
	}
	return false
}

func BenchmarkScanBytes(b *testing.B) {
	in, ts := ctHeader(), syntax(dicom.ExplicitVRLittleEndian)
	b.ReportAllocs()
	for b.Loop() {
		if h, err := dicom.ScanBytes(in, ts, dicom.ScanOptions{Want: wanted}); err != nil || len(h.Elements) != 23 {
			b.Fatalf("%d elements, %v", len(h.Elements), err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	in, ts := ctHeader(), syntax(dicom.ExplicitVRLittleEndian)
	r := bytes.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(in)
		if h, err := dicom.Scan(r, ts, dicom.ScanOptions{Want: wanted}); err != nil || len(h.Elements) != 23 {
			b.Fatalf("%d elements, %v", len(h.Elements), err)
		}
	}
}
