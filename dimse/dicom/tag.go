package dicom

import "fmt"

// Tag is a data element tag, group<<16 | element, so that tags order as the
// elements of a data set do (PS3.5 Section 7.1).
type Tag uint32

// Attributes that the program reads, named by their keywords in PS3.6 Section 6.
const (
	TagSpecificCharacterSet      Tag = 0x0008_0005
	TagImageType                 Tag = 0x0008_0008
	TagSOPClassUID               Tag = 0x0008_0016
	TagSOPInstanceUID            Tag = 0x0008_0018
	TagStudyDate                 Tag = 0x0008_0020
	TagSeriesDate                Tag = 0x0008_0021
	TagAcquisitionDate           Tag = 0x0008_0022
	TagContentDate               Tag = 0x0008_0023
	TagAcquisitionDateTime       Tag = 0x0008_002A
	TagStudyTime                 Tag = 0x0008_0030
	TagSeriesTime                Tag = 0x0008_0031
	TagAcquisitionTime           Tag = 0x0008_0032
	TagContentTime               Tag = 0x0008_0033
	TagModality                  Tag = 0x0008_0060
	TagManufacturer              Tag = 0x0008_0070
	TagStationName               Tag = 0x0008_1010
	TagStudyDescription          Tag = 0x0008_1030
	TagSeriesDescription         Tag = 0x0008_103E
	TagManufacturerModelName     Tag = 0x0008_1090
	TagReferencedSOPClassUID     Tag = 0x0008_1150
	TagReferencedSOPInstanceUID  Tag = 0x0008_1155
	TagTransactionUID            Tag = 0x0008_1195
	TagFailureReason             Tag = 0x0008_1197
	TagFailedSOPSequence         Tag = 0x0008_1198
	TagReferencedSOPSequence     Tag = 0x0008_1199
	TagContrastBolusAgent        Tag = 0x0018_0010
	TagBodyPartExamined          Tag = 0x0018_0015
	TagSliceThickness            Tag = 0x0018_0050
	TagKVP                       Tag = 0x0018_0060
	TagProtocolName              Tag = 0x0018_1030
	TagGantryDetectorTilt        Tag = 0x0018_1120
	TagConvolutionKernel         Tag = 0x0018_1210
	TagPatientPosition           Tag = 0x0018_5100
	TagStudyInstanceUID          Tag = 0x0020_000D
	TagSeriesInstanceUID         Tag = 0x0020_000E
	TagSeriesNumber              Tag = 0x0020_0011
	TagAcquisitionNumber         Tag = 0x0020_0012
	TagInstanceNumber            Tag = 0x0020_0013
	TagImagePositionPatient      Tag = 0x0020_0032
	TagImageOrientationPatient   Tag = 0x0020_0037
	TagFrameOfReferenceUID       Tag = 0x0020_0052
	TagSliceLocation             Tag = 0x0020_1041
	TagSamplesPerPixel           Tag = 0x0028_0002
	TagPhotometricInterpretation Tag = 0x0028_0004
	TagPlanarConfiguration       Tag = 0x0028_0006
	TagNumberOfFrames            Tag = 0x0028_0008
	TagRows                      Tag = 0x0028_0010
	TagColumns                   Tag = 0x0028_0011
	TagPixelSpacing              Tag = 0x0028_0030
	TagBitsAllocated             Tag = 0x0028_0100
	TagBitsStored                Tag = 0x0028_0101
	TagHighBit                   Tag = 0x0028_0102
	TagPixelRepresentation       Tag = 0x0028_0103
	TagPixelPaddingValue         Tag = 0x0028_0120
	TagPixelPaddingRangeLimit    Tag = 0x0028_0121
	TagBurnedInAnnotation        Tag = 0x0028_0301
	TagWindowCenter              Tag = 0x0028_1050
	TagWindowWidth               Tag = 0x0028_1051
	TagRescaleIntercept          Tag = 0x0028_1052
	TagRescaleSlope              Tag = 0x0028_1053
	TagRescaleType               Tag = 0x0028_1054
	TagLossyImageCompression     Tag = 0x0028_2110
	TagModalityLUTSequence       Tag = 0x0028_3000

	// The attributes of pixels, of which the three that hold them are each the last
	// that Scan looks at.
	TagExtendedOffsetTable        Tag = 0x7FE0_0001
	TagExtendedOffsetTableLengths Tag = 0x7FE0_0002
	TagFloatPixelData             Tag = 0x7FE0_0008
	TagDoubleFloatPixelData       Tag = 0x7FE0_0009
	TagPixelData                  Tag = 0x7FE0_0010
)

// Delimiters of sequences and fragments (PS3.5 Section 7.5); they have no VR in
// any transfer syntax.
const (
	tagItem                     Tag = 0xFFFE_E000
	tagItemDelimitationItem     Tag = 0xFFFE_E00D
	tagSequenceDelimitationItem Tag = 0xFFFE_E0DD
)

// Group returns the group number.
func (t Tag) Group() uint16 { return uint16(t >> 16) }

// Element returns the element number within the group.
func (t Tag) Element() uint16 { return uint16(t) }

// String returns the tag as the standard writes it: "(0028,0010)".
func (t Tag) String() string { return fmt.Sprintf("(%04X,%04X)", t.Group(), t.Element()) }

func (t Tag) isPixelData() bool {
	return t == TagPixelData || t == TagFloatPixelData || t == TagDoubleFloatPixelData
}
