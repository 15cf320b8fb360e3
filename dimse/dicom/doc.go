// Package dicom holds what PS3.5, PS3.6 and PS3.10 say and the network protocol
// needs to know: UIDs, AE titles, transfer syntaxes, the header of a Part 10
// file, and a scanner that finds a handful of attributes in a data set which
// anybody may have sent.
//
// The scanner is not a parser. It goes over the elements of a data set once, up
// to the pixels, and keeps the values it is asked for as they were sent:
//
//	h, err := dicom.Scan(r, rq.TransferSyntax, dicom.ScanOptions{
//		Want: func(t dicom.Tag) bool { return t == dicom.TagStudyInstanceUID },
//	})
//	study := h.UID(dicom.TagStudyInstanceUID)
//
// Since nobody vouches for the bytes, it has properties that general parsers
// lack. It does not recurse: nesting costs it an integer, and stops at 64. It
// believes no length: memory grows with the bytes that arrived, never with those
// that were announced. It reads no further than a limit, and what a deflate
// stream inflates to counts against that limit. Tags at the top level ascend,
// so that no attribute has two values and every reader sees the same one.
//
// A sequence stays closed unless the caller asks for its items, one level deep,
// as storage commitment needs them (ScanOptions.Sequences).
//
// What a fault leaves behind is still worth having: Scan returns the header as
// far as it got, and a *MalformedError that names the element and its offset.
package dicom
