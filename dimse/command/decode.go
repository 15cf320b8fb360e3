package command

import (
	"encoding/binary"
	"errors"
	"fmt"

	godicom "github.com/grailbio/go-dicom"
	"github.com/grailbio/go-dicom/dicomio"
	"github.com/grailbio/go-dicom/dicomtag"

	"ichwatch/dimse/dicom"
)

// Errors of Unmarshal.
var (
	// ErrInvalid is matched by every error about the form of a command set.
	ErrInvalid = errors.New("invalid command set")
	// ErrTooLong: the command set is longer than MaxLength. It matches ErrInvalid.
	ErrTooLong = fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxLength)
)

// Unmarshal decodes a command set. It asks for what is needed to go on, Command
// Field and Command Data Set Type, and of a response Message ID Being Responded
// To and Status (PS3.7 section E.1); whether a message has all that its service
// demands beyond that is for the caller to judge. Elements that the message has no field
// for are skipped.
func Unmarshal(b []byte) (Message, error) {
	if err := walk(b); err != nil {
		return nil, err
	}
	set, err := decode(b)
	if err != nil {
		return nil, err
	}
	field, dataSetType := Field(set.us(dicomtag.CommandField)), set.us(dicomtag.CommandDataSetType)
	for _, tag := range []dicomtag.Tag{dicomtag.CommandField, dicomtag.CommandDataSetType} {
		if _, ok := set[tag].(uint16); !ok {
			return nil, fmt.Errorf("%w: no %s", ErrInvalid, dicomtag.DebugString(tag))
		}
	}
	// A response without a Status must not be taken for 0000H, Success.
	if field.IsResponse() {
		for _, tag := range []dicomtag.Tag{dicomtag.MessageIDBeingRespondedTo, dicomtag.Status} {
			if _, ok := set[tag].(uint16); !ok {
				return nil, fmt.Errorf("%w: a response without exactly one %s", ErrInvalid, dicomtag.DebugString(tag))
			}
		}
	}
	hasDataSet := dataSetType != noDataSet

	// A message whose type is never followed by a data set, and is all the
	// same, must not be taken for one that is not: it stays Generic.
	switch {
	case field == FieldCStoreRQ:
		aet, _ := dicom.ParseAETitle(set.str(dicomtag.MoveOriginatorApplicationEntityTitle)) // informative only
		m := &CStoreRQ{
			AffectedSOPClassUID:    set.uid(dicomtag.AffectedSOPClassUID),
			MessageID:              set.us(dicomtag.MessageID),
			Priority:               set.us(dicomtag.Priority),
			AffectedSOPInstanceUID: set.uid(dicomtag.AffectedSOPInstanceUID),
			DataSet:                hasDataSet,
			MoveOriginatorAETitle:  aet,
		}
		if aet != "" {
			m.MoveOriginatorMessageID = set.us(dicomtag.MoveOriginatorMessageID)
		}
		return m, nil
	case hasDataSet:
	case field == FieldCEchoRQ:
		return &CEchoRQ{
			AffectedSOPClassUID: set.uid(dicomtag.AffectedSOPClassUID),
			MessageID:           set.us(dicomtag.MessageID),
		}, nil
	case field == FieldCEchoRSP:
		return &CEchoRSP{
			AffectedSOPClassUID:       set.uid(dicomtag.AffectedSOPClassUID),
			MessageIDBeingRespondedTo: set.us(dicomtag.MessageIDBeingRespondedTo),
			Status:                    Status(set.us(dicomtag.Status)),
			ErrorComment:              set.str(dicomtag.ErrorComment),
		}, nil
	case field == FieldCStoreRSP:
		return &CStoreRSP{
			AffectedSOPClassUID:       set.uid(dicomtag.AffectedSOPClassUID),
			MessageIDBeingRespondedTo: set.us(dicomtag.MessageIDBeingRespondedTo),
			Status:                    Status(set.us(dicomtag.Status)),
			ErrorComment:              set.str(dicomtag.ErrorComment),
			AffectedSOPInstanceUID:    set.uid(dicomtag.AffectedSOPInstanceUID),
		}, nil
	case field == FieldCCancelRQ:
		return &CCancelRQ{MessageIDBeingRespondedTo: set.us(dicomtag.MessageIDBeingRespondedTo)}, nil
	}
	if m := decodeNormalized(field, set, hasDataSet); m != nil {
		return m, nil
	}
	m := &Generic{
		CommandField:            field,
		AffectedSOPClassUID:     set.uid(dicomtag.AffectedSOPClassUID),
		RequestedSOPClassUID:    set.uid(dicomtag.RequestedSOPClassUID),
		DataSet:                 hasDataSet,
		AffectedSOPInstanceUID:  set.uid(dicomtag.AffectedSOPInstanceUID),
		RequestedSOPInstanceUID: set.uid(dicomtag.RequestedSOPInstanceUID),
	}
	if field.IsResponse() {
		m.MessageIDBeingRespondedTo = set.us(dicomtag.MessageIDBeingRespondedTo)
		m.Status = Status(set.us(dicomtag.Status))
		m.ErrorComment = set.str(dicomtag.ErrorComment)
	} else {
		m.MessageID = set.us(dicomtag.MessageID)
	}
	return m, nil
}

// walk checks the frame of a command set without decoding a value.
func walk(b []byte) error {
	if len(b) > MaxLength {
		return ErrTooLong
	}
	size, last := len(b), -1
	for len(b) > 0 {
		at := size - len(b)
		if len(b) < 8 {
			return fmt.Errorf("%w: %d bytes after the last element", ErrInvalid, len(b))
		}
		group, element := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		length := binary.LittleEndian.Uint32(b[4:])
		b = b[8:]
		switch {
		case group != 0:
			return fmt.Errorf("%w: group %04XH at byte %d", ErrInvalid, group, at)
		case element <= last:
			return fmt.Errorf("%w: element (0000,%04X) at byte %d is out of order", ErrInvalid, element, at)
		case length > uint32(len(b)) || length%2 != 0:
			return fmt.Errorf("%w: element (0000,%04X) claims %d bytes where %d remain", ErrInvalid, element, length, len(b))
		}
		b, last = b[length:], element
	}
	return nil
}

// elements holds the values of a command set that have exactly one.
type elements map[dicomtag.Tag]any

func decode(b []byte) (elements, error) {
	d := dicomio.NewBytesDecoder(b, binary.LittleEndian, dicomio.ImplicitVR)
	d.PushLimit(int64(len(b)))
	set := elements{}
	for !d.EOF() {
		before := d.BytesRead()
		e := godicom.ReadElement(d, godicom.ReadOptions{})
		if err := d.Error(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if e == nil || d.BytesRead() <= before {
			return nil, fmt.Errorf("%w: no progress at byte %d", ErrInvalid, before)
		}
		if len(e.Value) == 1 {
			set[e.Tag] = e.Value[0]
		}
	}
	if err := d.Error(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return set, nil
}

func (s elements) us(t dicomtag.Tag) uint16 { v, _ := s[t].(uint16); return v }

func (s elements) str(t dicomtag.Tag) string { v, _ := s[t].(string); return v }

func (s elements) uid(t dicomtag.Tag) dicom.UID { return dicom.UID(s.str(t)) }
