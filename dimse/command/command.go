// Package command codes DIMSE command sets (PS3.7 section 6.3.1 and Annex E)
// as typed messages, and names their statuses (PS3.7 Annex C).
//
// The elements are coded by grailbio/go-dicom, whose dictionary has group 0000.
// That package was not made for hostile input: it recurses on sequences and
// allocates what a length claims. So [Unmarshal] first walks the set itself
// and hands over only what is at most [MaxLength] bytes long, of group 0000, in
// ascending order, and of lengths that fit.
package command

import (
	"fmt"

	"ichwatch/dimse/dicom"
)

// MaxLength bounds a command set. The longest that the services here need,
// a C-STORE-RQ with UIDs of 64 characters, has about 300 bytes.
const MaxLength = 4 << 10

// MaxErrorComment is the length of an Error Comment (PS3.7 Annex C).
const MaxErrorComment = 64

// Field is the Command Field (0000,0100) (PS3.7 Table E.1-1).
type Field uint16

// The command fields.
const (
	FieldCStoreRQ        Field = 0x0001
	FieldCStoreRSP       Field = 0x8001
	FieldCGetRQ          Field = 0x0010
	FieldCFindRQ         Field = 0x0020
	FieldCMoveRQ         Field = 0x0021
	FieldCEchoRQ         Field = 0x0030
	FieldCEchoRSP        Field = 0x8030
	FieldNEventReportRQ  Field = 0x0100
	FieldNEventReportRSP Field = 0x8100
	FieldNGetRQ          Field = 0x0110
	FieldNSetRQ          Field = 0x0120
	FieldNActionRQ       Field = 0x0130
	FieldNActionRSP      Field = 0x8130
	FieldNCreateRQ       Field = 0x0140
	FieldNDeleteRQ       Field = 0x0150
	FieldCCancelRQ       Field = 0x0FFF
)

// responseBit tells a response from a request.
const responseBit Field = 0x8000

var fieldNames = map[Field]string{
	FieldCStoreRQ: "C-STORE", FieldCGetRQ: "C-GET", FieldCFindRQ: "C-FIND",
	FieldCMoveRQ: "C-MOVE", FieldCEchoRQ: "C-ECHO", FieldNEventReportRQ: "N-EVENT-REPORT",
	FieldNGetRQ: "N-GET", FieldNSetRQ: "N-SET", FieldNActionRQ: "N-ACTION",
	FieldNCreateRQ: "N-CREATE", FieldNDeleteRQ: "N-DELETE", FieldCCancelRQ: "C-CANCEL",
}

// IsResponse reports whether f is the field of a response.
func (f Field) IsResponse() bool { return f&responseBit != 0 }

// Response is the field of the response to a request of field f.
func (f Field) Response() Field { return f | responseBit }

// String names the command: "C-STORE-RQ".
func (f Field) String() string {
	name, ok := fieldNames[f&^responseBit]
	switch {
	case !ok:
		return fmt.Sprintf("command field %04XH", uint16(f))
	case f.IsResponse():
		return name + "-RSP"
	}
	return name + "-RQ"
}

// Message is a command set: one of *CEchoRQ, *CEchoRSP, *CStoreRQ, *CStoreRSP,
// *CCancelRQ, *NEventReportRQ, *NEventReportRSP, *NActionRQ, *NActionRSP, and
// *Generic for every other command.
type Message interface {
	// Field is the command that the message is.
	Field() Field
	// HasDataSet reports whether a data set follows the command set:
	// Command Data Set Type (0000,0800) is anything but 0101H.
	HasDataSet() bool

	encode(*encoder)
}

// CEchoRQ is a C-ECHO-RQ (PS3.7 Table 9.3-12).
type CEchoRQ struct {
	AffectedSOPClassUID dicom.UID
	MessageID           uint16
}

// CEchoRSP is a C-ECHO-RSP (PS3.7 Table 9.3-13).
type CEchoRSP struct {
	AffectedSOPClassUID       dicom.UID
	MessageIDBeingRespondedTo uint16
	Status                    Status
	ErrorComment              string
}

// The values of Priority (0000,0700).
const (
	PriorityMedium uint16 = 0
	PriorityHigh   uint16 = 1
	PriorityLow    uint16 = 2
)

// CStoreRQ is a C-STORE-RQ (PS3.7 Table 9.3-1).
type CStoreRQ struct {
	AffectedSOPClassUID    dicom.UID
	MessageID              uint16
	Priority               uint16
	AffectedSOPInstanceUID dicom.UID
	// DataSet is true in every conformant request.
	DataSet bool
	// The move originator is sent when its AE title is not empty.
	MoveOriginatorAETitle   dicom.AETitle
	MoveOriginatorMessageID uint16
}

// CStoreRSP is a C-STORE-RSP (PS3.7 Table 9.3-2).
type CStoreRSP struct {
	AffectedSOPClassUID       dicom.UID
	MessageIDBeingRespondedTo uint16
	Status                    Status
	ErrorComment              string
	AffectedSOPInstanceUID    dicom.UID
}

// CCancelRQ is a C-CANCEL-RQ (PS3.7 section 9.3.2.3).
type CCancelRQ struct {
	MessageIDBeingRespondedTo uint16
}

// Generic holds what the command sets of all services have in common, enough
// to refuse what is not supported. A request has a MessageID, a response a
// MessageIDBeingRespondedTo and a Status. UIDs are "" where there are none.
type Generic struct {
	CommandField              Field
	AffectedSOPClassUID       dicom.UID
	RequestedSOPClassUID      dicom.UID
	MessageID                 uint16
	MessageIDBeingRespondedTo uint16
	DataSet                   bool
	Status                    Status
	ErrorComment              string
	AffectedSOPInstanceUID    dicom.UID
	RequestedSOPInstanceUID   dicom.UID
}

// Refuse is the response of the given status to a request of any kind.
func (m *Generic) Refuse(s Status, comment string) *Generic {
	rsp := &Generic{
		CommandField:              m.CommandField.Response(),
		AffectedSOPClassUID:       m.AffectedSOPClassUID,
		MessageIDBeingRespondedTo: m.MessageID,
		Status:                    s,
		ErrorComment:              comment,
		AffectedSOPInstanceUID:    m.AffectedSOPInstanceUID,
	}
	// The N-services answer what was requested as what is affected (PS3.7 10.1).
	if rsp.AffectedSOPClassUID == "" {
		rsp.AffectedSOPClassUID = m.RequestedSOPClassUID
		rsp.AffectedSOPInstanceUID = m.RequestedSOPInstanceUID
	}
	return rsp
}

// Field returns FieldCEchoRQ.
func (*CEchoRQ) Field() Field { return FieldCEchoRQ }

// Field returns FieldCEchoRSP.
func (*CEchoRSP) Field() Field { return FieldCEchoRSP }

// Field returns FieldCStoreRQ.
func (*CStoreRQ) Field() Field { return FieldCStoreRQ }

// Field returns FieldCStoreRSP.
func (*CStoreRSP) Field() Field { return FieldCStoreRSP }

// Field returns FieldCCancelRQ.
func (*CCancelRQ) Field() Field { return FieldCCancelRQ }

// Field returns m.CommandField.
func (m *Generic) Field() Field { return m.CommandField }

// HasDataSet returns false.
func (*CEchoRQ) HasDataSet() bool { return false }

// HasDataSet returns false.
func (*CEchoRSP) HasDataSet() bool { return false }

// HasDataSet returns m.DataSet.
func (m *CStoreRQ) HasDataSet() bool { return m.DataSet }

// HasDataSet returns false.
func (*CStoreRSP) HasDataSet() bool { return false }

// HasDataSet returns false.
func (*CCancelRQ) HasDataSet() bool { return false }

// HasDataSet returns m.DataSet.
func (m *Generic) HasDataSet() bool { return m.DataSet }
