package dicom

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// FileMeta is the file meta information of a Part 10 file (PS3.10 Table 7.1-1):
// what stands before the data set.
type FileMeta struct {
	SOPClassUID       UID
	SOPInstanceUID    UID
	TransferSyntaxUID UID
	// ImplementationClassUID and ImplementationVersionName tell who wrote the
	// file. WriteFileMeta puts this implementation's where they are empty.
	ImplementationClassUID    UID
	ImplementationVersionName string
	// SourceAETitle, SendingAETitle and ReceivingAETitle are optional.
	SourceAETitle    AETitle
	SendingAETitle   AETitle
	ReceivingAETitle AETitle
}

// Elements of the file meta information.
const (
	tagMediaStorageSOPClassUID         Tag = 0x0002_0002
	tagMediaStorageSOPInstanceUID      Tag = 0x0002_0003
	tagTransferSyntaxUID               Tag = 0x0002_0010
	tagImplementationClassUID          Tag = 0x0002_0012
	tagImplementationVersionName       Tag = 0x0002_0013
	tagSourceApplicationEntityTitle    Tag = 0x0002_0016
	tagSendingApplicationEntityTitle   Tag = 0x0002_0017
	tagReceivingApplicationEntityTitle Tag = 0x0002_0018
)

const (
	preamble    = 128
	magic       = "DICM"
	groupLength = "\x02\x00\x00\x00UL\x04\x00" // (0002,0000), UL, 4 bytes to come
	maxFileMeta = 64 << 10                     // of the group, in bytes; real ones have about 200
)

// ErrNotPart10 is matched where a file does not begin as PS3.10 Section 7.1 has
// it: 128 bytes, "DICM", and a group 0002 of sensible length.
var ErrNotPart10 = errors.New("dicom: no Part 10 file")

// WriteFileMeta writes the preamble, the prefix and the file meta information m
// to w in one piece and returns their length, which is where the data set, left
// to the caller, begins. It refuses UIDs and AE titles that break their rules.
func WriteFileMeta(w io.Writer, m FileMeta) (n int64, err error) {
	m.ImplementationClassUID = cmp.Or(m.ImplementationClassUID, ImplementationClassUID)
	m.ImplementationVersionName = cmp.Or(m.ImplementationVersionName, ImplementationVersionName)

	group := make([]byte, 0, 512)
	// File Meta Information Version (0002,0001), OB: 00H 01H.
	group = append(group, 0x02, 0x00, 0x01, 0x00, 'O', 'B', 0, 0, 2, 0, 0, 0, 0x00, 0x01)
	for _, e := range []struct {
		tag Tag
		uid UID
	}{
		{tagMediaStorageSOPClassUID, m.SOPClassUID},
		{tagMediaStorageSOPInstanceUID, m.SOPInstanceUID},
		{tagTransferSyntaxUID, m.TransferSyntaxUID},
		{tagImplementationClassUID, m.ImplementationClassUID},
	} {
		if err := e.uid.Valid(); err != nil {
			return 0, fmt.Errorf("dicom: write file meta information, element %v: %w", e.tag, err)
		}
		group = appendText(group, e.tag, "UI", string(e.uid), 0)
	}
	if len(m.ImplementationVersionName) > 16 {
		return 0, fmt.Errorf("dicom: write file meta information: implementation version name has %d characters where 16 are the most", len(m.ImplementationVersionName))
	}
	group = appendText(group, tagImplementationVersionName, "SH", m.ImplementationVersionName, ' ')
	for _, e := range []struct {
		tag   Tag
		title AETitle
	}{
		{tagSourceApplicationEntityTitle, m.SourceAETitle},
		{tagSendingApplicationEntityTitle, m.SendingAETitle},
		{tagReceivingApplicationEntityTitle, m.ReceivingAETitle},
	} {
		if e.title == "" {
			continue
		}
		title, err := ParseAETitle(string(e.title))
		if err != nil {
			return 0, fmt.Errorf("dicom: write file meta information, element %v: %w", e.tag, err)
		}
		group = appendText(group, e.tag, "AE", string(title), ' ')
	}

	file := make([]byte, preamble, preamble+len(magic)+12+len(group))
	file = append(file, magic...)
	file = append(file, groupLength...)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(group)))
	file = append(file, group...)
	written, err := w.Write(file)
	if err != nil {
		return int64(written), fmt.Errorf("dicom: write file meta information: %w", err)
	}
	return int64(written), nil
}

// appendText appends an element of a short-form VR in Explicit VR Little Endian,
// its value padded to an even length.
func appendText(b []byte, t Tag, vr, value string, pad byte) []byte {
	n := len(value)
	b = binary.LittleEndian.AppendUint16(b, t.Group())
	b = binary.LittleEndian.AppendUint16(b, t.Element())
	b = append(b, vr...)
	b = binary.LittleEndian.AppendUint16(b, uint16(n+n%2))
	b = append(b, value...)
	if n%2 != 0 {
		b = append(b, pad)
	}
	return b
}

// ReadFileMeta reads the file meta information that r begins with, and of r not
// a byte more: n is how many bytes it took and where the data set begins. The
// error matches ErrNotPart10 if r is no Part 10 file, ErrMalformed if its file
// meta information is damaged or lacks one of the UIDs that it is for.
func ReadFileMeta(r io.Reader) (m FileMeta, n int64, err error) {
	// The group length comes first, by PS3.10 Table 7.1-1.
	var start [preamble + len(magic) + 12]byte
	k, err := io.ReadFull(r, start[:])
	n = int64(k)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return m, n, fmt.Errorf("%w: ends after %d bytes", ErrNotPart10, n)
	case err != nil:
		return m, n, fmt.Errorf("dicom: read file meta information: %w", err)
	}
	rest, ok := bytes.CutPrefix(start[preamble:], []byte(magic))
	if !ok {
		return m, n, fmt.Errorf("%w: no %q after the preamble", ErrNotPart10, magic)
	}
	rest, ok = bytes.CutPrefix(rest, []byte(groupLength))
	if !ok {
		return m, n, fmt.Errorf("%w: no group length where the file meta information begins", ErrNotPart10)
	}
	length := int64(binary.LittleEndian.Uint32(rest))
	if length > maxFileMeta {
		return m, n, fmt.Errorf("%w: file meta information of %d bytes where %d are the most", ErrNotPart10, length, maxFileMeta)
	}

	group, err := io.ReadAll(io.LimitReader(r, length))
	n += int64(len(group))
	if err != nil {
		return m, n, fmt.Errorf("dicom: read file meta information: %w", err)
	}
	if int64(len(group)) < length {
		return m, n, fmt.Errorf("dicom: file meta information ends after %d of %d bytes: %w", len(group), length, ErrTruncated)
	}
	h, err := scanFileMeta(group)
	if err != nil {
		return m, n, fmt.Errorf("dicom: file meta information: %w", err)
	}
	m = FileMeta{
		SOPClassUID:               h.UID(tagMediaStorageSOPClassUID),
		SOPInstanceUID:            h.UID(tagMediaStorageSOPInstanceUID),
		TransferSyntaxUID:         h.UID(tagTransferSyntaxUID),
		ImplementationClassUID:    h.UID(tagImplementationClassUID),
		ImplementationVersionName: h.String(tagImplementationVersionName),
		SourceAETitle:             AETitle(h.String(tagSourceApplicationEntityTitle)),
		SendingAETitle:            AETitle(h.String(tagSendingApplicationEntityTitle)),
		ReceivingAETitle:          AETitle(h.String(tagReceivingApplicationEntityTitle)),
	}
	for _, uid := range []UID{m.SOPClassUID, m.SOPInstanceUID, m.TransferSyntaxUID} {
		if err := uid.Valid(); err != nil {
			return m, n, fmt.Errorf("dicom: file meta information: %w: %w", ErrMalformed, err)
		}
	}
	return m, n, nil
}

// scanFileMeta scans the elements of group 0002 after its length.
func scanFileMeta(group []byte) (*Header, error) {
	s := newScanner(TransferSyntax{UID: ExplicitVRLittleEndian, ExplicitVR: true}, ScanOptions{
		Want: func(t Tag) bool { return t.Group() == 0x0002 },
	})
	s.meta = true
	s.window.buf = group
	err := s.dataSet()
	return s.header, err
}
