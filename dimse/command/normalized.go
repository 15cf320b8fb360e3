package command

import (
	"github.com/grailbio/go-dicom/dicomtag"

	"ichwatch/dimse/dicom"
)

// NEventReportRQ is an N-EVENT-REPORT-RQ (PS3.7 Table 10.3-1).
type NEventReportRQ struct {
	AffectedSOPClassUID dicom.UID
	MessageID           uint16
	// DataSet is true where Event Information follows.
	DataSet                bool
	AffectedSOPInstanceUID dicom.UID
	EventTypeID            uint16
}

// NEventReportRSP is an N-EVENT-REPORT-RSP (PS3.7 Table 10.3-2).
type NEventReportRSP struct {
	AffectedSOPClassUID       dicom.UID
	MessageIDBeingRespondedTo uint16
	DataSet                   bool // an Event Reply follows
	Status                    Status
	ErrorComment              string
	AffectedSOPInstanceUID    dicom.UID
	EventTypeID               uint16 // 0: not sent
}

// NActionRQ is an N-ACTION-RQ (PS3.7 Table 10.3-7).
type NActionRQ struct {
	RequestedSOPClassUID dicom.UID
	MessageID            uint16
	// DataSet is true where Action Information follows.
	DataSet                 bool
	RequestedSOPInstanceUID dicom.UID
	ActionTypeID            uint16
}

// NActionRSP is an N-ACTION-RSP (PS3.7 Table 10.3-8).
type NActionRSP struct {
	AffectedSOPClassUID       dicom.UID
	MessageIDBeingRespondedTo uint16
	DataSet                   bool // an Action Reply follows
	Status                    Status
	ErrorComment              string
	AffectedSOPInstanceUID    dicom.UID
	ActionTypeID              uint16 // 0: not sent
}

// Field returns FieldNEventReportRQ.
func (*NEventReportRQ) Field() Field { return FieldNEventReportRQ }

// Field returns FieldNEventReportRSP.
func (*NEventReportRSP) Field() Field { return FieldNEventReportRSP }

// Field returns FieldNActionRQ.
func (*NActionRQ) Field() Field { return FieldNActionRQ }

// Field returns FieldNActionRSP.
func (*NActionRSP) Field() Field { return FieldNActionRSP }

// HasDataSet returns m.DataSet.
func (m *NEventReportRQ) HasDataSet() bool { return m.DataSet }

// HasDataSet returns m.DataSet.
func (m *NEventReportRSP) HasDataSet() bool { return m.DataSet }

// HasDataSet returns m.DataSet.
func (m *NActionRQ) HasDataSet() bool { return m.DataSet }

// HasDataSet returns m.DataSet.
func (m *NActionRSP) HasDataSet() bool { return m.DataSet }

// decodeNormalized decodes the DIMSE-N messages that have a type of their own;
// nil for every other field.
func decodeNormalized(field Field, set elements, dataSet bool) Message {
	switch field {
	case FieldNEventReportRQ:
		return &NEventReportRQ{
			AffectedSOPClassUID:    set.uid(dicomtag.AffectedSOPClassUID),
			MessageID:              set.us(dicomtag.MessageID),
			DataSet:                dataSet,
			AffectedSOPInstanceUID: set.uid(dicomtag.AffectedSOPInstanceUID),
			EventTypeID:            set.us(dicomtag.EventTypeID),
		}
	case FieldNEventReportRSP:
		return &NEventReportRSP{
			AffectedSOPClassUID:       set.uid(dicomtag.AffectedSOPClassUID),
			MessageIDBeingRespondedTo: set.us(dicomtag.MessageIDBeingRespondedTo),
			DataSet:                   dataSet,
			Status:                    Status(set.us(dicomtag.Status)),
			ErrorComment:              set.str(dicomtag.ErrorComment),
			AffectedSOPInstanceUID:    set.uid(dicomtag.AffectedSOPInstanceUID),
			EventTypeID:               set.us(dicomtag.EventTypeID),
		}
	case FieldNActionRQ:
		return &NActionRQ{
			RequestedSOPClassUID:    set.uid(dicomtag.RequestedSOPClassUID),
			MessageID:               set.us(dicomtag.MessageID),
			DataSet:                 dataSet,
			RequestedSOPInstanceUID: set.uid(dicomtag.RequestedSOPInstanceUID),
			ActionTypeID:            set.us(dicomtag.ActionTypeID),
		}
	case FieldNActionRSP:
		return &NActionRSP{
			AffectedSOPClassUID:       set.uid(dicomtag.AffectedSOPClassUID),
			MessageIDBeingRespondedTo: set.us(dicomtag.MessageIDBeingRespondedTo),
			DataSet:                   dataSet,
			Status:                    Status(set.us(dicomtag.Status)),
			ErrorComment:              set.str(dicomtag.ErrorComment),
			AffectedSOPInstanceUID:    set.uid(dicomtag.AffectedSOPInstanceUID),
			ActionTypeID:              set.us(dicomtag.ActionTypeID),
		}
	}
	return nil
}

func (m *NEventReportRQ) encode(e *encoder) {
	e.uid(dicomtag.AffectedSOPClassUID, m.AffectedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(FieldNEventReportRQ))
	e.us(dicomtag.MessageID, m.MessageID)
	e.dataSet(m.DataSet)
	e.uid(dicomtag.AffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	e.us(dicomtag.EventTypeID, m.EventTypeID)
}

func (m *NEventReportRSP) encode(e *encoder) {
	e.uid(dicomtag.AffectedSOPClassUID, m.AffectedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(FieldNEventReportRSP))
	e.us(dicomtag.MessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	e.dataSet(m.DataSet)
	e.us(dicomtag.Status, uint16(m.Status))
	e.errorComment(m.ErrorComment)
	e.uid(dicomtag.AffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	e.typeID(dicomtag.EventTypeID, m.EventTypeID)
}

func (m *NActionRQ) encode(e *encoder) {
	e.uid(dicomtag.RequestedSOPClassUID, m.RequestedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(FieldNActionRQ))
	e.us(dicomtag.MessageID, m.MessageID)
	e.dataSet(m.DataSet)
	e.uid(dicomtag.RequestedSOPInstanceUID, m.RequestedSOPInstanceUID)
	e.us(dicomtag.ActionTypeID, m.ActionTypeID)
}

func (m *NActionRSP) encode(e *encoder) {
	e.uid(dicomtag.AffectedSOPClassUID, m.AffectedSOPClassUID)
	e.us(dicomtag.CommandField, uint16(FieldNActionRSP))
	e.us(dicomtag.MessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	e.dataSet(m.DataSet)
	e.us(dicomtag.Status, uint16(m.Status))
	e.errorComment(m.ErrorComment)
	e.uid(dicomtag.AffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	e.typeID(dicomtag.ActionTypeID, m.ActionTypeID)
}

// typeID writes the type of an action or event in a response, which may leave
// it out.
func (e *encoder) typeID(tag dicomtag.Tag, id uint16) {
	if id != 0 {
		e.us(tag, id)
	}
}
