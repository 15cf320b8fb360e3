package command

import (
	"encoding/binary"
	"fmt"
	"strings"

	godicom "github.com/grailbio/go-dicom"
	"github.com/grailbio/go-dicom/dicomio"
	"github.com/grailbio/go-dicom/dicomtag"

	"ichwatch/dimse/dicom"
)

// The values of Command Data Set Type (0000,0800). Any value but noDataSet
// means that one follows; this is the one that DCMTK sends.
const (
	dataSetPresent uint16 = 0x0001
	noDataSet      uint16 = 0x0101
)

// Marshal encodes m as a command set: Implicit VR Little Endian, in ascending
// order, led by its Command Group Length.
func Marshal(m Message) ([]byte, error) {
	e := encoder{out: dicomio.NewBytesEncoder(binary.LittleEndian, dicomio.ImplicitVR)}
	m.encode(&e)
	if e.err == nil {
		e.err = e.out.Error()
	}
	if e.err != nil {
		return nil, fmt.Errorf("command: encode %s: %w", m.Field(), e.err)
	}
	elements := e.out.Bytes()

	group := encoder{out: dicomio.NewBytesEncoder(binary.LittleEndian, dicomio.ImplicitVR)}
	group.element(dicomtag.CommandGroupLength, uint32(len(elements)))
	if group.err != nil {
		return nil, fmt.Errorf("command: encode %s: %w", m.Field(), group.err)
	}
	set := append(group.out.Bytes(), elements...)
	if len(set) > MaxLength {
		return nil, fmt.Errorf("command: encode %s: %w", m.Field(), ErrTooLong)
	}
	return set, nil
}

// encoder writes elements; the first error stays.
type encoder struct {
	out *dicomio.Encoder
	err error
}

func (e *encoder) element(tag dicomtag.Tag, value any) {
	if e.err != nil {
		return
	}
	element, err := godicom.NewElement(tag, value)
	if err != nil {
		e.err = err
		return
	}
	godicom.WriteElement(e.out, element)
}

func (e *encoder) us(tag dicomtag.Tag, v uint16) { e.element(tag, v) }

// uid writes u unless it is empty.
func (e *encoder) uid(tag dicomtag.Tag, u dicom.UID) {
	if u != "" {
		e.element(tag, string(u))
	}
}

func (e *encoder) dataSet(present bool) {
	if present {
		e.us(dicomtag.CommandDataSetType, dataSetPresent)
	} else {
		e.us(dicomtag.CommandDataSetType, noDataSet)
	}
}

// errorComment writes s as a value of VR LO, cut to its maximum length, with
// what the default repertoire does not have replaced.
func (e *encoder) errorComment(s string) {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '\\' {
			return '?'
		}
		return r
	}, s)
	if s = strings.Trim(s[:min(len(s), MaxErrorComment)], " "); s != "" {
		e.element(dicomtag.ErrorComment, s)
	}
}

func (m *CEchoRQ) encode(e *encoder) {
	e.uid(dicomtag.AffectedSOPClassUID, m.AffectedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(FieldCEchoRQ))
	e.us(dicomtag.MessageID, m.MessageID)
	e.dataSet(false)
}

func (m *CEchoRSP) encode(e *encoder) {
	e.uid(dicomtag.AffectedSOPClassUID, m.AffectedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(FieldCEchoRSP))
	e.us(dicomtag.MessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	e.dataSet(false)
	e.us(dicomtag.Status, uint16(m.Status))
	e.errorComment(m.ErrorComment)
}

func (m *CStoreRQ) encode(e *encoder) {
	e.uid(dicomtag.AffectedSOPClassUID, m.AffectedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(FieldCStoreRQ))
	e.us(dicomtag.MessageID, m.MessageID)
	e.us(dicomtag.Priority, m.Priority)
	e.dataSet(m.DataSet)
	e.uid(dicomtag.AffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	if m.MoveOriginatorAETitle != "" {
		e.element(dicomtag.MoveOriginatorApplicationEntityTitle, string(m.MoveOriginatorAETitle))
		e.us(dicomtag.MoveOriginatorMessageID, m.MoveOriginatorMessageID)
	}
}

func (m *CStoreRSP) encode(e *encoder) {
	e.uid(dicomtag.AffectedSOPClassUID, m.AffectedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(FieldCStoreRSP))
	e.us(dicomtag.MessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	e.dataSet(false)
	e.us(dicomtag.Status, uint16(m.Status))
	e.errorComment(m.ErrorComment)
	e.uid(dicomtag.AffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
}

func (m *CCancelRQ) encode(e *encoder) {
	e.us(dicomtag.CommandField, uint16(FieldCCancelRQ))
	e.us(dicomtag.MessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	e.dataSet(false)
}

func (m *Generic) encode(e *encoder) {
	e.uid(dicomtag.AffectedSOPClassUID, m.AffectedSOPClassUID)
	e.uid(dicomtag.RequestedSOPClassUID, m.RequestedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(m.CommandField))
	if m.CommandField.IsResponse() {
		e.us(dicomtag.MessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	} else {
		e.us(dicomtag.MessageID, m.MessageID)
	}
	e.dataSet(m.DataSet)
	if m.CommandField.IsResponse() {
		e.us(dicomtag.Status, uint16(m.Status))
		e.errorComment(m.ErrorComment)
	}
	e.uid(dicomtag.AffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	e.uid(dicomtag.RequestedSOPInstanceUID, m.RequestedSOPInstanceUID)
}
