package pdu

import (
	"encoding/binary"
	"fmt"
	"math"

	"ichwatch/dimse/dicom"
)

// Append appends the encoded p to b. It fails where a field does not fit into
// the length that the standard gives it, and for a *PDataTF, which a [Writer]
// writes.
func Append(b []byte, p PDU) ([]byte, error) {
	start := len(b)
	b, err := p.appendFields(append(b, byte(p.Type()), 0, 0, 0, 0, 0))
	if err != nil {
		return b[:start], fmt.Errorf("pdu: encode %s: %w", p.Type(), err)
	}
	binary.BigEndian.PutUint32(b[start+2:], uint32(len(b)-start-HeaderLength))
	return b, nil
}

func (p *AssociateRQ) appendFields(b []byte) ([]byte, error) {
	b, err := p.appendAssociate(b)
	for i := 0; err == nil && i < len(p.PresentationContexts); i++ {
		pc := p.PresentationContexts[i]
		b, err = appendItem(b, itemPresentationContextRQ, func(b []byte) ([]byte, error) {
			b, err := appendUIDItem(append(b, pc.ID, 0, 0, 0), itemAbstractSyntax, pc.AbstractSyntax)
			for i := 0; err == nil && i < len(pc.TransferSyntaxes); i++ {
				b, err = appendUIDItem(b, itemTransferSyntax, pc.TransferSyntaxes[i])
			}
			return b, err
		})
	}
	if err != nil {
		return b, err
	}
	return appendItem(b, itemUserInformation, p.UserInformation.append)
}

func (p *AssociateAC) appendFields(b []byte) ([]byte, error) {
	b, err := p.appendAssociate(b)
	for i := 0; err == nil && i < len(p.PresentationContexts); i++ {
		pc := p.PresentationContexts[i]
		b, err = appendItem(b, itemPresentationContextAC, func(b []byte) ([]byte, error) {
			b = append(b, pc.ID, 0, byte(pc.Result), 0)
			if pc.TransferSyntax == "" { // as some peers answer a rejected context
				return b, nil
			}
			return appendUIDItem(b, itemTransferSyntax, pc.TransferSyntax)
		})
	}
	if err != nil {
		return b, err
	}
	return appendItem(b, itemUserInformation, p.UserInformation.append)
}

func (p *AssociateRJ) appendFields(b []byte) ([]byte, error) {
	return append(b, 0, byte(p.Result), byte(p.Source), p.Reason), nil
}

func (*ReleaseRQ) appendFields(b []byte) ([]byte, error) { return append(b, 0, 0, 0, 0), nil }

func (*ReleaseRP) appendFields(b []byte) ([]byte, error) { return append(b, 0, 0, 0, 0), nil }

func (p *Abort) appendFields(b []byte) ([]byte, error) {
	return append(b, 0, 0, byte(p.Source), byte(p.Reason)), nil
}

func (*PDataTF) appendFields(b []byte) ([]byte, error) {
	return b, fmt.Errorf("a P-DATA-TF is written by a Writer")
}

func (p *Associate) appendAssociate(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint16(b, p.ProtocolVersion)
	b = append(b, 0, 0)
	b = append(b, p.CalledAETitle[:]...)
	b = append(b, p.CallingAETitle[:]...)
	b = append(b, p.Reserved[:]...)
	return appendUIDItem(b, itemApplicationContext, p.ApplicationContext)
}

func (u *UserInformation) append(b []byte) ([]byte, error) {
	b = append(b, itemMaximumLength, 0, 0, 4)
	b = binary.BigEndian.AppendUint32(b, u.MaximumLength)

	var err error
	item := func(typ byte, fields func(b []byte) ([]byte, error)) {
		if err == nil {
			b, err = appendItem(b, typ, fields)
		}
	}
	if u.ImplementationClassUID != "" {
		item(itemImplementationClassUID, func(b []byte) ([]byte, error) {
			return append(b, u.ImplementationClassUID...), nil
		})
	}
	if w := u.AsynchronousOperations; w != nil {
		item(itemAsynchronousOperations, func(b []byte) ([]byte, error) {
			b = binary.BigEndian.AppendUint16(b, w.Invoked)
			return binary.BigEndian.AppendUint16(b, w.Performed), nil
		})
	}
	for _, r := range u.RoleSelections {
		item(itemRoleSelection, func(b []byte) ([]byte, error) {
			b, err := appendCounted(b, r.SOPClassUID)
			return append(b, bit(r.SCU), bit(r.SCP)), err
		})
	}
	if u.ImplementationVersionName != "" {
		item(itemImplementationVersionName, func(b []byte) ([]byte, error) {
			return append(b, u.ImplementationVersionName...), nil
		})
	}
	for _, x := range u.ExtendedNegotiations {
		item(itemExtendedNegotiation, func(b []byte) ([]byte, error) {
			b, err := appendCounted(b, x.SOPClassUID)
			return append(b, x.Information...), err
		})
	}
	for _, x := range u.CommonExtended {
		item(itemCommonExtendedNegotiation, x.append)
	}
	if id := u.UserIdentity; id != nil {
		item(itemUserIdentity, func(b []byte) ([]byte, error) {
			b = append(b, byte(id.Type), bit(id.PositiveResponseRequested))
			b, err := appendCounted(b, id.PrimaryField)
			if err != nil {
				return b, err
			}
			return appendCounted(b, id.SecondaryField)
		})
	}
	if u.UserIdentityResponse != nil {
		item(itemUserIdentityServerResponse, func(b []byte) ([]byte, error) {
			return appendCounted(b, u.UserIdentityResponse)
		})
	}
	return b, err
}

func (x *CommonExtendedNegotiation) append(b []byte) ([]byte, error) {
	b, err := appendCounted(b, x.SOPClassUID)
	if err == nil {
		b, err = appendCounted(b, x.ServiceClassUID)
	}
	if err != nil {
		return b, err
	}
	var related []byte
	for i := 0; err == nil && i < len(x.RelatedGeneralSOPClassUIDs); i++ {
		related, err = appendCounted(related, x.RelatedGeneralSOPClassUIDs[i])
	}
	if err != nil {
		return b, err
	}
	return appendCounted(b, related)
}

// appendItem appends an item: type, a reserved byte, the length of the fields
// in 16 bits, and the fields.
func appendItem(b []byte, typ byte, fields func(b []byte) ([]byte, error)) ([]byte, error) {
	start := len(b)
	b, err := fields(append(b, typ, 0, 0, 0))
	if err != nil {
		return b, err
	}
	length := len(b) - start - 4
	if length > math.MaxUint16 {
		return b, fmt.Errorf("item %02XH has %d bytes, more than its length can say", typ, length)
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(length))
	return b, nil
}

func appendUIDItem(b []byte, typ byte, uid dicom.UID) ([]byte, error) {
	return appendItem(b, typ, func(b []byte) ([]byte, error) { return append(b, uid...), nil })
}

// appendCounted appends v after its length in 16 bits.
func appendCounted[T ~string | ~[]byte](b []byte, v T) ([]byte, error) {
	if len(v) > math.MaxUint16 {
		return b, fmt.Errorf("a field of %d bytes, more than its length can say", len(v))
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...), nil
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}
