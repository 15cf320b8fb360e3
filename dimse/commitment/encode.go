package commitment

import (
	"bytes"
	"compress/flate"
	"encoding/binary"

	"ichwatch/dimse/dicom"
)

// Encode writes the request as Action Information (PS3.4 Table J.3-1).
func (r *Request) Encode(ts dicom.TransferSyntax) []byte {
	e := newEncoder(ts)
	e.uid(dicom.TagTransactionUID, r.TransactionUID)
	e.sequence(dicom.TagReferencedSOPSequence, len(r.References), func(e *encoder, i int) { e.reference(r.References[i]) })
	return e.dataSet()
}

// Encode writes the result as Event Information (PS3.4 Table J.3-2).
func (r *Result) Encode(ts dicom.TransferSyntax) []byte {
	e := newEncoder(ts)
	e.uid(dicom.TagTransactionUID, r.TransactionUID)
	e.sequence(dicom.TagFailedSOPSequence, len(r.Failed), func(e *encoder, i int) {
		e.reference(r.Failed[i].Reference)
		e.element(dicom.TagFailureReason, "US", e.order.AppendUint16(nil, uint16(r.Failed[i].Reason)))
	})
	e.sequence(dicom.TagReferencedSOPSequence, len(r.Committed), func(e *encoder, i int) { e.reference(r.Committed[i]) })
	return e.dataSet()
}

// encoder writes elements in one transfer syntax.
type encoder struct {
	ts    dicom.TransferSyntax
	order byteOrder
	b     []byte
}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

func newEncoder(ts dicom.TransferSyntax) *encoder {
	e := &encoder{ts: ts, order: binary.LittleEndian}
	if ts.BigEndian {
		e.order = binary.BigEndian
	}
	return e
}

// header writes tag, VR and length (PS3.5 section 7.1); vr is "" for items.
func (e *encoder) header(tag dicom.Tag, vr string, length int) {
	e.b = e.order.AppendUint16(e.b, tag.Group())
	e.b = e.order.AppendUint16(e.b, tag.Element())
	switch {
	case !e.ts.ExplicitVR || vr == "":
		e.b = e.order.AppendUint32(e.b, uint32(length))
	case vr == "SQ":
		e.b = append(e.b, vr+"\x00\x00"...)
		e.b = e.order.AppendUint32(e.b, uint32(length))
	default:
		e.b = append(e.b, vr...)
		e.b = e.order.AppendUint16(e.b, uint16(length))
	}
}

func (e *encoder) element(tag dicom.Tag, vr string, value []byte) {
	e.header(tag, vr, len(value))
	e.b = append(e.b, value...)
}

// uid writes a UI value, padded with NUL to an even length (PS3.5 section 9.1).
func (e *encoder) uid(tag dicom.Tag, uid dicom.UID) {
	value := []byte(uid)
	if len(value)%2 == 1 {
		value = append(value, 0)
	}
	e.element(tag, "UI", value)
}

func (e *encoder) reference(r Reference) {
	e.uid(dicom.TagReferencedSOPClassUID, r.SOPClassUID)
	e.uid(dicom.TagReferencedSOPInstanceUID, r.SOPInstanceUID)
}

const tagItem dicom.Tag = 0xFFFE_E000

// sequence writes n items; nothing where there are none.
func (e *encoder) sequence(tag dicom.Tag, n int, write func(item *encoder, i int)) {
	if n == 0 {
		return
	}
	items, item := newEncoder(e.ts), newEncoder(e.ts)
	for i := range n {
		item.b = item.b[:0]
		write(item, i)
		items.element(tagItem, "", item.b)
	}
	e.element(tag, "SQ", items.b)
}

// dataSet returns what was written, deflated where the syntax is (PS3.5 section A.5).
func (e *encoder) dataSet() []byte {
	if !e.ts.Deflated {
		return e.b
	}
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.DefaultCompression) // fails for an unknown level only
	_, _ = w.Write(e.b)                                     // a Buffer takes everything
	_ = w.Close()
	if out.Len()%2 == 1 {
		out.WriteByte(0)
	}
	return out.Bytes()
}
