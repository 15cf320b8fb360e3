package dicom

import (
	"slices"
	"strings"
)

// TransferSyntax says how a data set is encoded (PS3.5 Section 10 and Annex A).
type TransferSyntax struct {
	UID     UID
	Keyword string // PS3.6 Table A-1: "JPEGLSLossless"; "" for a private one
	Name    string
	// ExplicitVR is true where every element carries its value representation.
	ExplicitVR bool
	// BigEndian is true for the retired Explicit VR Big Endian only.
	BigEndian bool
	// Deflated is true where the whole data set is a deflate stream (RFC 1951).
	Deflated bool
	// Encapsulated is true where the pixel data is a sequence of fragments
	// (PS3.5 Section A.4), whether compressed or not.
	Encapsulated bool
}

// Transfer syntaxes, named by their keywords in PS3.6 Table A-1.
const (
	ImplicitVRLittleEndian                         UID = "1.2.840.10008.1.2"
	ExplicitVRLittleEndian                         UID = "1.2.840.10008.1.2.1"
	EncapsulatedUncompressedExplicitVRLittleEndian UID = "1.2.840.10008.1.2.1.98"
	DeflatedExplicitVRLittleEndian                 UID = "1.2.840.10008.1.2.1.99"
	ExplicitVRBigEndian                            UID = "1.2.840.10008.1.2.2"
	JPEGBaseline8Bit                               UID = "1.2.840.10008.1.2.4.50"
	JPEGExtended12Bit                              UID = "1.2.840.10008.1.2.4.51"
	JPEGExtended35                                 UID = "1.2.840.10008.1.2.4.52"
	JPEGSpectralSelectionNonHierarchical68         UID = "1.2.840.10008.1.2.4.53"
	JPEGSpectralSelectionNonHierarchical79         UID = "1.2.840.10008.1.2.4.54"
	JPEGFullProgressionNonHierarchical1012         UID = "1.2.840.10008.1.2.4.55"
	JPEGFullProgressionNonHierarchical1113         UID = "1.2.840.10008.1.2.4.56"
	JPEGLossless                                   UID = "1.2.840.10008.1.2.4.57"
	JPEGLosslessNonHierarchical15                  UID = "1.2.840.10008.1.2.4.58"
	JPEGExtendedHierarchical1618                   UID = "1.2.840.10008.1.2.4.59"
	JPEGExtendedHierarchical1719                   UID = "1.2.840.10008.1.2.4.60"
	JPEGSpectralSelectionHierarchical2022          UID = "1.2.840.10008.1.2.4.61"
	JPEGSpectralSelectionHierarchical2123          UID = "1.2.840.10008.1.2.4.62"
	JPEGFullProgressionHierarchical2426            UID = "1.2.840.10008.1.2.4.63"
	JPEGFullProgressionHierarchical2527            UID = "1.2.840.10008.1.2.4.64"
	JPEGLosslessHierarchical28                     UID = "1.2.840.10008.1.2.4.65"
	JPEGLosslessHierarchical29                     UID = "1.2.840.10008.1.2.4.66"
	JPEGLosslessSV1                                UID = "1.2.840.10008.1.2.4.70"
	JPEGLSLossless                                 UID = "1.2.840.10008.1.2.4.80"
	JPEGLSNearLossless                             UID = "1.2.840.10008.1.2.4.81"
	JPEG2000Lossless                               UID = "1.2.840.10008.1.2.4.90"
	JPEG2000                                       UID = "1.2.840.10008.1.2.4.91"
	JPEG2000MCLossless                             UID = "1.2.840.10008.1.2.4.92"
	JPEG2000MC                                     UID = "1.2.840.10008.1.2.4.93"
	JPIPReferenced                                 UID = "1.2.840.10008.1.2.4.94"
	JPIPReferencedDeflate                          UID = "1.2.840.10008.1.2.4.95"
	MPEG2MPML                                      UID = "1.2.840.10008.1.2.4.100"
	MPEG2MPMLF                                     UID = "1.2.840.10008.1.2.4.100.1"
	MPEG2MPHL                                      UID = "1.2.840.10008.1.2.4.101"
	MPEG2MPHLF                                     UID = "1.2.840.10008.1.2.4.101.1"
	MPEG4HP41                                      UID = "1.2.840.10008.1.2.4.102"
	MPEG4HP41F                                     UID = "1.2.840.10008.1.2.4.102.1"
	MPEG4HP41BD                                    UID = "1.2.840.10008.1.2.4.103"
	MPEG4HP41BDF                                   UID = "1.2.840.10008.1.2.4.103.1"
	MPEG4HP422D                                    UID = "1.2.840.10008.1.2.4.104"
	MPEG4HP422DF                                   UID = "1.2.840.10008.1.2.4.104.1"
	MPEG4HP423D                                    UID = "1.2.840.10008.1.2.4.105"
	MPEG4HP423DF                                   UID = "1.2.840.10008.1.2.4.105.1"
	MPEG4HP42STEREO                                UID = "1.2.840.10008.1.2.4.106"
	MPEG4HP42STEREOF                               UID = "1.2.840.10008.1.2.4.106.1"
	HEVCMP51                                       UID = "1.2.840.10008.1.2.4.107"
	HEVCM10P51                                     UID = "1.2.840.10008.1.2.4.108"
	JPEGXLLossless                                 UID = "1.2.840.10008.1.2.4.110"
	JPEGXLJPEGRecompression                        UID = "1.2.840.10008.1.2.4.111"
	JPEGXL                                         UID = "1.2.840.10008.1.2.4.112"
	HTJ2KLossless                                  UID = "1.2.840.10008.1.2.4.201"
	HTJ2KLosslessRPCL                              UID = "1.2.840.10008.1.2.4.202"
	HTJ2K                                          UID = "1.2.840.10008.1.2.4.203"
	JPIPHTJ2KReferenced                            UID = "1.2.840.10008.1.2.4.204"
	JPIPHTJ2KReferencedDeflate                     UID = "1.2.840.10008.1.2.4.205"
	RLELossless                                    UID = "1.2.840.10008.1.2.5"
	DeflatedImageFrameCompression                  UID = "1.2.840.10008.1.2.8.1"
)

// transferSyntaxes is in an acceptor's order of preference: native first, then
// what loses nothing, then what does, then what carries no pixels at all (JPIP).
// The syntaxes of SMPTE ST 2110 (real-time video), MIME and XML cannot carry a
// C-STORE and are left out, and so is Papyrus 3, which no association ever saw.
var transferSyntaxes = []TransferSyntax{
	// Lossless.
	{UID: ExplicitVRLittleEndian, Keyword: "ExplicitVRLittleEndian", Name: "Explicit VR Little Endian", ExplicitVR: true},
	{UID: ImplicitVRLittleEndian, Keyword: "ImplicitVRLittleEndian", Name: "Implicit VR Little Endian"},
	{UID: DeflatedExplicitVRLittleEndian, Keyword: "DeflatedExplicitVRLittleEndian", Name: "Deflated Explicit VR Little Endian", ExplicitVR: true, Deflated: true},
	{UID: EncapsulatedUncompressedExplicitVRLittleEndian, Keyword: "EncapsulatedUncompressedExplicitVRLittleEndian", Name: "Encapsulated Uncompressed Explicit VR Little Endian", ExplicitVR: true, Encapsulated: true},
	{UID: ExplicitVRBigEndian, Keyword: "ExplicitVRBigEndian", Name: "Explicit VR Big Endian (Retired)", ExplicitVR: true, BigEndian: true},
	{UID: JPEGLosslessSV1, Keyword: "JPEGLosslessSV1", Name: "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGLossless, Keyword: "JPEGLossless", Name: "JPEG Lossless, Non-Hierarchical (Process 14)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGLSLossless, Keyword: "JPEGLSLossless", Name: "JPEG-LS Lossless Image Compression", ExplicitVR: true, Encapsulated: true},
	{UID: RLELossless, Keyword: "RLELossless", Name: "RLE Lossless", ExplicitVR: true, Encapsulated: true},
	{UID: JPEG2000Lossless, Keyword: "JPEG2000Lossless", Name: "JPEG 2000 Image Compression (Lossless Only)", ExplicitVR: true, Encapsulated: true},
	{UID: HTJ2KLossless, Keyword: "HTJ2KLossless", Name: "High-Throughput JPEG 2000 Image Compression (Lossless Only)", ExplicitVR: true, Encapsulated: true},
	{UID: HTJ2KLosslessRPCL, Keyword: "HTJ2KLosslessRPCL", Name: "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)", ExplicitVR: true, Encapsulated: true},
	{UID: DeflatedImageFrameCompression, Keyword: "DeflatedImageFrameCompression", Name: "Deflated Image Frame Compression", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGXLLossless, Keyword: "JPEGXLLossless", Name: "JPEG XL Lossless", ExplicitVR: true, Encapsulated: true},
	{UID: JPEG2000MCLossless, Keyword: "JPEG2000MCLossless", Name: "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGLosslessNonHierarchical15, Keyword: "JPEGLosslessNonHierarchical15", Name: "JPEG Lossless, Non-Hierarchical (Process 15) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGLosslessHierarchical28, Keyword: "JPEGLosslessHierarchical28", Name: "JPEG Lossless, Hierarchical (Process 28) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGLosslessHierarchical29, Keyword: "JPEGLosslessHierarchical29", Name: "JPEG Lossless, Hierarchical (Process 29) (Retired)", ExplicitVR: true, Encapsulated: true},
	// Lossy, or free to be.
	{UID: JPEGBaseline8Bit, Keyword: "JPEGBaseline8Bit", Name: "JPEG Baseline (Process 1)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGExtended12Bit, Keyword: "JPEGExtended12Bit", Name: "JPEG Extended (Process 2 and 4)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGExtended35, Keyword: "JPEGExtended35", Name: "JPEG Extended (Process 3 and 5) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGSpectralSelectionNonHierarchical68, Keyword: "JPEGSpectralSelectionNonHierarchical68", Name: "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGSpectralSelectionNonHierarchical79, Keyword: "JPEGSpectralSelectionNonHierarchical79", Name: "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGFullProgressionNonHierarchical1012, Keyword: "JPEGFullProgressionNonHierarchical1012", Name: "JPEG Full Progression, Non-Hierarchical (Process 10 and 12) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGFullProgressionNonHierarchical1113, Keyword: "JPEGFullProgressionNonHierarchical1113", Name: "JPEG Full Progression, Non-Hierarchical (Process 11 and 13) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGExtendedHierarchical1618, Keyword: "JPEGExtendedHierarchical1618", Name: "JPEG Extended, Hierarchical (Process 16 and 18) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGExtendedHierarchical1719, Keyword: "JPEGExtendedHierarchical1719", Name: "JPEG Extended, Hierarchical (Process 17 and 19) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGSpectralSelectionHierarchical2022, Keyword: "JPEGSpectralSelectionHierarchical2022", Name: "JPEG Spectral Selection, Hierarchical (Process 20 and 22) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGSpectralSelectionHierarchical2123, Keyword: "JPEGSpectralSelectionHierarchical2123", Name: "JPEG Spectral Selection, Hierarchical (Process 21 and 23) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGFullProgressionHierarchical2426, Keyword: "JPEGFullProgressionHierarchical2426", Name: "JPEG Full Progression, Hierarchical (Process 24 and 26) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGFullProgressionHierarchical2527, Keyword: "JPEGFullProgressionHierarchical2527", Name: "JPEG Full Progression, Hierarchical (Process 25 and 27) (Retired)", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGLSNearLossless, Keyword: "JPEGLSNearLossless", Name: "JPEG-LS Lossy (Near-Lossless) Image Compression", ExplicitVR: true, Encapsulated: true},
	{UID: JPEG2000, Keyword: "JPEG2000", Name: "JPEG 2000 Image Compression", ExplicitVR: true, Encapsulated: true},
	{UID: JPEG2000MC, Keyword: "JPEG2000MC", Name: "JPEG 2000 Part 2 Multi-component Image Compression", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG2MPML, Keyword: "MPEG2MPML", Name: "MPEG2 Main Profile / Main Level", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG2MPMLF, Keyword: "MPEG2MPMLF", Name: "Fragmentable MPEG2 Main Profile / Main Level", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG2MPHL, Keyword: "MPEG2MPHL", Name: "MPEG2 Main Profile / High Level", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG2MPHLF, Keyword: "MPEG2MPHLF", Name: "Fragmentable MPEG2 Main Profile / High Level", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP41, Keyword: "MPEG4HP41", Name: "MPEG-4 AVC/H.264 High Profile / Level 4.1", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP41F, Keyword: "MPEG4HP41F", Name: "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP41BD, Keyword: "MPEG4HP41BD", Name: "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP41BDF, Keyword: "MPEG4HP41BDF", Name: "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP422D, Keyword: "MPEG4HP422D", Name: "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP422DF, Keyword: "MPEG4HP422DF", Name: "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP423D, Keyword: "MPEG4HP423D", Name: "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP423DF, Keyword: "MPEG4HP423DF", Name: "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP42STEREO, Keyword: "MPEG4HP42STEREO", Name: "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", ExplicitVR: true, Encapsulated: true},
	{UID: MPEG4HP42STEREOF, Keyword: "MPEG4HP42STEREOF", Name: "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", ExplicitVR: true, Encapsulated: true},
	{UID: HEVCMP51, Keyword: "HEVCMP51", Name: "HEVC/H.265 Main Profile / Level 5.1", ExplicitVR: true, Encapsulated: true},
	{UID: HEVCM10P51, Keyword: "HEVCM10P51", Name: "HEVC/H.265 Main 10 Profile / Level 5.1", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGXLJPEGRecompression, Keyword: "JPEGXLJPEGRecompression", Name: "JPEG XL JPEG Recompression", ExplicitVR: true, Encapsulated: true},
	{UID: JPEGXL, Keyword: "JPEGXL", Name: "JPEG XL", ExplicitVR: true, Encapsulated: true},
	{UID: HTJ2K, Keyword: "HTJ2K", Name: "High-Throughput JPEG 2000 Image Compression", ExplicitVR: true, Encapsulated: true},
	// Pixels by reference.
	{UID: JPIPReferenced, Keyword: "JPIPReferenced", Name: "JPIP Referenced", ExplicitVR: true},
	{UID: JPIPReferencedDeflate, Keyword: "JPIPReferencedDeflate", Name: "JPIP Referenced Deflate", ExplicitVR: true, Deflated: true},
	{UID: JPIPHTJ2KReferenced, Keyword: "JPIPHTJ2KReferenced", Name: "JPIP HTJ2K Referenced", ExplicitVR: true},
	{UID: JPIPHTJ2KReferencedDeflate, Keyword: "JPIPHTJ2KReferencedDeflate", Name: "JPIP HTJ2K Referenced Deflate", ExplicitVR: true, Deflated: true},
}

var transferSyntaxByUID = func() map[UID]TransferSyntax {
	m := make(map[UID]TransferSyntax, len(transferSyntaxes))
	for _, ts := range transferSyntaxes {
		m[ts.UID] = ts
	}
	return m
}()

// LookupTransferSyntax returns the transfer syntax of that UID; false if this
// package does not know it, and so not how its data sets are encoded.
func LookupTransferSyntax(uid UID) (TransferSyntax, bool) {
	ts, ok := transferSyntaxByUID[uid]
	return ts, ok
}

// PrivateTransferSyntax describes a transfer syntax that no table has, from the
// first bytes of a data set in it, eight at least. Whatever it does to the pixels,
// what such syntaxes do to the elements before them is one of the standard's
// little endian encodings; an explicit one shows by the two capital letters after
// its first tag (PS3.5 section 7.1.2). Its pixels are opaque.
func PrivateTransferSyntax(uid UID, start []byte) TransferSyntax {
	ts := TransferSyntax{UID: uid, Name: string(uid)}
	if len(start) >= 6 {
		capital := func(c byte) bool { return c >= 'A' && c <= 'Z' }
		ts.ExplicitVR = capital(start[4]) && capital(start[5])
	}
	return ts
}

// TransferSyntaxes returns every known transfer syntax in the order in which an
// acceptor prefers them: native encodings first, lossless before lossy. The
// slice is the caller's.
func TransferSyntaxes() []TransferSyntax { return slices.Clone(transferSyntaxes) }

// TransferSyntaxByName returns the transfer syntax that a person means: by UID,
// keyword or name, whatever the case, the spaces and the hyphens.
func TransferSyntaxByName(name string) (TransferSyntax, bool) {
	ts, ok := transferSyntaxByName[plainName(name)]
	return ts, ok
}

var transferSyntaxByName = func() map[string]TransferSyntax {
	m := make(map[string]TransferSyntax, 3*len(transferSyntaxes))
	for _, ts := range transferSyntaxes {
		for _, name := range []string{string(ts.UID), ts.Keyword, ts.Name} {
			m[plainName(name)] = ts
		}
	}
	return m
}()

// plainName leaves of a name what people agree on.
func plainName(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -_,", r) {
			return -1
		}
		return r
	}, s))
}

// String returns the syntax's name, or its UID where it has none.
func (ts TransferSyntax) String() string {
	if ts.Name != "" {
		return ts.Name
	}
	return string(ts.UID)
}
