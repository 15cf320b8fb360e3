package phantom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	sdicom "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"ichwatch/dimse/dicom"
)

// Rescale of every phantom: HU = stored value - 1024 (PS3.3 C.8.2.1).
const rescaleIntercept = -1024

// paddingSigned is the stored value of pixels outside the reconstruction in
// signed images; unsigned ones have 0.
const paddingSigned = -2000

// ErrTransferSyntax is matched where a phantom cannot be written in the
// transfer syntax asked for.
var ErrTransferSyntax = errors.New("phantom: transfer syntax not supported")

func checkTransferSyntax(uid dicom.UID) error {
	switch uid {
	case dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian, dicom.ExplicitVRBigEndian, dicom.DeflatedExplicitVRLittleEndian:
		return nil
	}
	return fmt.Errorf("%w: %s; choose implicit or explicit VR little endian, explicit VR big endian, or deflated", ErrTransferSyntax, uid.Name())
}

// WriteSlice renders slice i and writes it to w as a Part 10 file of CT Image
// Storage (PS3.3 A.3).
func (s *Study) WriteSlice(w io.Writer, i int) error {
	if i < 0 || i >= s.Slices() {
		return fmt.Errorf("phantom: slice %d of %d", i, s.Slices())
	}
	if _, err := dicom.WriteFileMeta(w, dicom.FileMeta{
		SOPClassUID:       dicom.CTImageStorage,
		SOPInstanceUID:    s.InstanceUID(i),
		TransferSyntaxUID: s.options.TransferSyntax,
		SourceAETitle:     "ICHPHANTOM",
	}); err != nil {
		return fmt.Errorf("phantom: slice %d: %w", i, err)
	}
	if err := s.WriteDataSet(w, i); err != nil {
		return fmt.Errorf("phantom: slice %d: %w", i, err)
	}
	return nil
}

// WriteDataSet writes slice i as WriteSlice does, without the file meta
// information: what a C-STORE carries.
func (s *Study) WriteDataSet(w io.Writer, i int) error {
	ts, _ := dicom.LookupTransferSyntax(s.options.TransferSyntax)
	hu := s.HU(i, nil)
	elements, err := s.elements(i)
	if err != nil {
		return err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if ts.BigEndian {
		order = binary.BigEndian
	}
	var b bytes.Buffer
	b.Grow(2*len(hu) + 4096)
	dw, err := sdicom.NewWriter(&b)
	if err != nil {
		return err
	}
	dw.SetTransferSyntax(order, !ts.ExplicitVR)
	for _, e := range elements {
		if err := dw.WriteElement(e); err != nil {
			return fmt.Errorf("element %v: %w", e.Tag, err)
		}
	}
	out := s.appendPixels(b.Bytes(), ts, i, hu)
	if !ts.Deflated {
		_, err = w.Write(out)
		return err
	}
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.DefaultCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(out); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if packed.Len()%2 == 1 {
		packed.WriteByte(0) // PS3.5 A.5
	}
	_, err = w.Write(packed.Bytes())
	return err
}

// appendPixels adds the PixelData element: OW, 16 bits allocated.
func (s *Study) appendPixels(b []byte, ts dicom.TransferSyntax, i int, hu []int16) []byte {
	var order binary.AppendByteOrder = binary.LittleEndian
	if ts.BigEndian {
		order = binary.BigEndian
	}
	b = order.AppendUint16(b, 0x7fe0)
	b = order.AppendUint16(b, 0x0010)
	if ts.ExplicitVR {
		b = append(b, 'O', 'W', 0, 0)
	}
	b = order.AppendUint32(b, uint32(2*len(hu)))
	padding := uint16(s.padding())
	columns := s.options.Columns
	cx, cy := float32(columns-1)/2, float32(s.options.Rows-1)/2
	radius := max(cx, cy) + 0.5
	for k, v := range hu {
		stored := uint16(v - rescaleIntercept)
		if s.scan.round {
			dx, dy := float32(k%columns)-cx, float32(k/columns)-cy
			if dx*dx+dy*dy > radius*radius {
				stored = padding
			}
		}
		b = order.AppendUint16(b, stored)
	}
	return b
}

func (s *Study) padding() int16 {
	if s.scan.signed {
		return paddingSigned
	}
	return 0
}

// ds formats a decimal string (VR DS: at most 16 characters).
func ds(v float64) string {
	for digits := 7; digits >= 0; digits-- {
		t := strconv.FormatFloat(v, 'f', digits, 64)
		if strings.Contains(t, ".") {
			t = strings.TrimRight(strings.TrimRight(t, "0"), ".")
		}
		if t == "-0" {
			t = "0"
		}
		if len(t) <= 16 {
			return t
		}
	}
	return "0"
}

func dsList(v ...float64) []string {
	out := make([]string, len(v))
	for i := range v {
		out[i] = ds(v[i])
	}
	return out
}

// elements are those of the data set before PixelData, in ascending order.
func (s *Study) elements(i int) ([]*sdicom.Element, error) {
	a := &s.scan
	o := &s.options
	slot := a.order(i)
	at := a.origin(slot, o.Rows, o.Columns)
	col := a.column()
	table := a.firstZ + float64(slot)*a.increment
	when := s.id.date.Add(4*time.Minute + time.Duration(i)*time.Second)
	date, clock := s.id.date.Format("20060102"), s.id.date.Format("150405")
	now := when.Format("150405") + ".000000"
	today := when.Format("20060102")

	bits, sign := 12, 0
	if a.signed {
		bits, sign = 16, 1
	}
	type field struct {
		tag   tag.Tag
		value any
	}
	str := func(v ...string) []string { return v }
	num := func(v ...int) []int { return v }
	fields := []field{
		{tag.SpecificCharacterSet, str("ISO_IR 100")},
		{tag.ImageType, str("ORIGINAL", "PRIMARY", "AXIAL")},
		{tag.InstanceCreationDate, str(today)},
		{tag.InstanceCreationTime, str(now)},
		{tag.SOPClassUID, str(string(dicom.CTImageStorage))},
		{tag.SOPInstanceUID, str(string(s.InstanceUID(i)))},
		{tag.StudyDate, str(date)},
		{tag.SeriesDate, str(date)},
		{tag.AcquisitionDate, str(today)},
		{tag.ContentDate, str(today)},
		{tag.StudyTime, str(clock)},
		{tag.SeriesTime, str(clock)},
		{tag.AcquisitionTime, str(now)},
		{tag.ContentTime, str(now)},
		{tag.AccessionNumber, str(s.id.accession)},
		{tag.Modality, str("CT")},
		{tag.Manufacturer, str(a.vendor.maker)},
		{tag.InstitutionName, str("ICHWATCH SYNTHETIC")},
		{tag.ReferringPhysicianName, str("")},
		{tag.StationName, str(a.vendor.station)},
		{tag.StudyDescription, str("CT HEAD WITHOUT CONTRAST (SYNTHETIC)")},
		{tag.SeriesDescription, str("HEAD " + ds(a.thickness) + "MM " + a.kernel.name)},
		{tag.ManufacturerModelName, str(a.vendor.model)},
		{tag.PatientName, str(s.id.name)},
		{tag.PatientID, str(s.id.id)},
		{tag.PatientBirthDate, str(s.id.birth)},
		{tag.PatientSex, str(s.id.sex)},
		{tag.PatientAge, str(s.id.age)},
		{tag.BodyPartExamined, str("HEAD")},
		{tag.ScanOptions, str("AXIAL MODE")},
		{tag.SliceThickness, dsList(a.thickness)},
		{tag.KVP, str(strconv.Itoa(a.kvp))},
		{tag.SpacingBetweenSlices, dsList(a.increment * a.normal()[2])},
		{tag.DataCollectionDiameter, dsList(math.Max(250, math.Ceil(a.pixel*float64(max(o.Rows, o.Columns)))))},
		{tag.DeviceSerialNumber, str(strings.ReplaceAll(a.vendor.station, "CT", "000"))},
		{tag.SoftwareVersions, str("ichwatch phantom 1")},
		{tag.ProtocolName, str("HEAD ROUTINE")},
		{tag.ReconstructionDiameter, dsList(a.pixel * float64(max(o.Rows, o.Columns)))},
		{tag.GantryDetectorTilt, dsList(a.tilt)},
		{tag.TableHeight, str("150")},
		{tag.RotationDirection, str("CW")},
		{tag.ExposureTime, str("1000")},
		{tag.XRayTubeCurrent, str(strconv.Itoa(a.current))},
		{tag.Exposure, str(strconv.Itoa(a.current))},
		{tag.FilterType, str("HEAD")},
		{tag.ConvolutionKernel, str(a.kernel.name)},
		{tag.PatientPosition, str("HFS")},
		{tag.StudyInstanceUID, str(string(s.id.study))},
		{tag.SeriesInstanceUID, str(string(s.id.series))},
		{tag.StudyID, str("1")},
		{tag.SeriesNumber, str("2")},
		{tag.AcquisitionNumber, str("1")},
		{tag.InstanceNumber, str(strconv.Itoa(i + 1))},
		{tag.ImagePositionPatient, dsList(at[0], at[1], at[2])},
		{tag.ImageOrientationPatient, dsList(1, 0, 0, col[0], col[1], col[2])},
		{tag.FrameOfReferenceUID, str(string(s.id.frame))},
		{tag.PositionReferenceIndicator, str("OM")},
		{tag.SliceLocation, dsList(table)},
		{tag.ImageComments, str("Synthetic phantom, no patient. Not for diagnosis.")},
		{tag.SamplesPerPixel, num(1)},
		{tag.PhotometricInterpretation, str("MONOCHROME2")},
		{tag.Rows, num(o.Rows)},
		{tag.Columns, num(o.Columns)},
		{tag.PixelSpacing, dsList(a.pixel, a.pixel)},
		{tag.BitsAllocated, num(16)},
		{tag.BitsStored, num(bits)},
		{tag.HighBit, num(bits - 1)},
		{tag.PixelRepresentation, num(sign)},
	}
	if a.padding {
		fields = append(fields, field{tag.PixelPaddingValue, num(int(s.padding()))})
	}
	fields = append(fields, []field{
		{tag.BurnedInAnnotation, str("NO")},
		{tag.WindowCenter, str("40")},
		{tag.WindowWidth, str("80")},
		{tag.RescaleIntercept, str(strconv.Itoa(rescaleIntercept))},
		{tag.RescaleSlope, str("1")},
		{tag.RescaleType, str("HU")},
		{tag.LossyImageCompression, str("00")},
	}...)
	out := make([]*sdicom.Element, 0, len(fields))
	for _, f := range fields {
		e, err := sdicom.NewElement(f.tag, f.value)
		if err != nil {
			return nil, fmt.Errorf("element %v: %w", f.tag, err)
		}
		if f.tag == tag.PixelPaddingValue && a.signed {
			e.RawValueRepresentation = "SS"
		}
		out = append(out, e)
	}
	return out, nil
}
