package pdu

import (
	"encoding/binary"
	"fmt"

	"ichwatch/dimse/dicom"
)

// associateFixedLength is the length of what precedes the items of an
// A-ASSOCIATE-RQ or -AC.
const associateFixedLength = 2 + 2 + 16 + 16 + 32

// decode decodes the variable field of a PDU other than P-DATA-TF. Strings and
// byte fields of the result do not alias b.
func decode(t Type, b []byte) (PDU, error) {
	var (
		p   PDU
		err error
	)
	switch t {
	case TypeAssociateRQ:
		p, err = decodeAssociateRQ(b)
	case TypeAssociateAC:
		p, err = decodeAssociateAC(b)
	case TypeAssociateRJ, TypeReleaseRQ, TypeReleaseRP, TypeAbort:
		if len(b) != 4 {
			err = fmt.Errorf("%d bytes where there are always 4", len(b))
			break
		}
		switch t {
		case TypeAssociateRJ:
			p = &AssociateRJ{RejectResult(b[1]), RejectSource(b[2]), b[3]}
		case TypeReleaseRQ:
			p = &ReleaseRQ{}
		case TypeReleaseRP:
			p = &ReleaseRP{}
		case TypeAbort:
			p = &Abort{AbortSource(b[2]), AbortReason(b[3])}
		}
	default:
		err = fmt.Errorf("not a type that PS3.8 defines")
	}
	if err != nil {
		return nil, &Error{t, err.Error()}
	}
	return p, nil
}

func decodeAssociateRQ(b []byte) (*AssociateRQ, error) {
	p := &AssociateRQ{UserInformation: UserInformation{MaximumLength: DefaultMaximumLength}}
	items, err := p.decodeAssociate(b)
	if err != nil {
		return nil, err
	}
	return p, decodeVariableItems(items, &p.ApplicationContext, &p.UserInformation, itemPresentationContextRQ, func(b []byte) error {
		pc, err := decodePresentationContextRQ(b)
		p.PresentationContexts = append(p.PresentationContexts, pc)
		return err
	})
}

func decodeAssociateAC(b []byte) (*AssociateAC, error) {
	p := &AssociateAC{UserInformation: UserInformation{MaximumLength: DefaultMaximumLength}}
	items, err := p.decodeAssociate(b)
	if err != nil {
		return nil, err
	}
	return p, decodeVariableItems(items, &p.ApplicationContext, &p.UserInformation, itemPresentationContextAC, func(b []byte) error {
		pc, err := decodePresentationContextAC(b)
		p.PresentationContexts = append(p.PresentationContexts, pc)
		return err
	})
}

// decodeVariableItems decodes what follows the fixed fields of both PDUs, which
// differ in the type of their presentation context items alone (PS3.8 Tables
// 9-11 and 9-17).
func decodeVariableItems(items []byte, application *dicom.UID, user *UserInformation, contextItem byte, context func([]byte) error) error {
	seen := map[byte]bool{}
	contexts := 0
	return eachItem(items, func(typ byte, b []byte) error {
		if err := once(seen, typ); err != nil {
			return err
		}
		switch typ {
		case itemApplicationContext:
			*application = dicom.ParseUID(b)
		case contextItem:
			if contexts++; contexts > MaxPresentationContexts {
				return fmt.Errorf("more than %d presentation contexts", MaxPresentationContexts)
			}
			return context(b)
		case itemUserInformation:
			return user.decode(b)
		}
		return nil
	})
}

// decodeAssociate decodes the fixed fields and returns the items after them.
func (p *Associate) decodeAssociate(b []byte) ([]byte, error) {
	if len(b) < associateFixedLength {
		return nil, fmt.Errorf("%d bytes, fewer than its fixed fields have", len(b))
	}
	p.ProtocolVersion = binary.BigEndian.Uint16(b)
	copy(p.CalledAETitle[:], b[4:20])
	copy(p.CallingAETitle[:], b[20:36])
	copy(p.Reserved[:], b[36:68])
	return b[associateFixedLength:], nil
}

func decodePresentationContextRQ(b []byte) (pc PresentationContextRQ, err error) {
	if len(b) < 4 {
		return pc, fmt.Errorf("item 20H of %d bytes", len(b))
	}
	pc.ID = b[0] // the three bytes after it are reserved; some peers put FFH there
	err = eachItem(b[4:], func(typ byte, b []byte) error {
		switch typ {
		case itemAbstractSyntax:
			if pc.AbstractSyntax != "" {
				return fmt.Errorf("presentation context %d has two abstract syntaxes", pc.ID)
			}
			pc.AbstractSyntax = dicom.ParseUID(b)
		case itemTransferSyntax:
			pc.TransferSyntaxes = append(pc.TransferSyntaxes, dicom.ParseUID(b))
		}
		return nil
	})
	return pc, err
}

func decodePresentationContextAC(b []byte) (pc PresentationContextAC, err error) {
	if len(b) < 4 {
		return pc, fmt.Errorf("item 21H of %d bytes", len(b))
	}
	pc.ID, pc.Result = b[0], ContextResult(b[2])
	err = eachItem(b[4:], func(typ byte, b []byte) error {
		if typ == itemTransferSyntax {
			pc.TransferSyntax = dicom.ParseUID(b)
		}
		return nil
	})
	return pc, err
}

func (u *UserInformation) decode(b []byte) error {
	return eachItem(b, func(typ byte, b []byte) error {
		f := fields{b: b}
		switch typ {
		case itemMaximumLength:
			u.MaximumLength = f.uint32()
		case itemImplementationClassUID:
			u.ImplementationClassUID = dicom.ParseUID(f.rest())
		case itemAsynchronousOperations:
			u.AsynchronousOperations = &AsynchronousOperations{f.uint16(), f.uint16()}
		case itemRoleSelection:
			u.RoleSelections = append(u.RoleSelections, RoleSelection{f.uid(), f.uint8() == 1, f.uint8() == 1})
		case itemImplementationVersionName:
			u.ImplementationVersionName = string(f.rest())
		case itemExtendedNegotiation:
			u.ExtendedNegotiations = append(u.ExtendedNegotiations, ExtendedNegotiation{f.uid(), clone(f.rest())})
		case itemCommonExtendedNegotiation:
			x := CommonExtendedNegotiation{SOPClassUID: f.uid(), ServiceClassUID: f.uid()}
			related := fields{b: f.counted()}
			for len(related.b) > 0 && !related.short {
				x.RelatedGeneralSOPClassUIDs = append(x.RelatedGeneralSOPClassUIDs, related.uid())
			}
			f.short = f.short || related.short
			f.rest() // room for later versions of the item
			u.CommonExtended = append(u.CommonExtended, x)
		case itemUserIdentity:
			u.UserIdentity = &UserIdentity{
				Type:                      UserIdentityType(f.uint8()),
				PositiveResponseRequested: f.uint8() == 1,
				PrimaryField:              clone(f.counted()),
				SecondaryField:            clone(f.counted()),
			}
		case itemUserIdentityServerResponse:
			u.UserIdentityResponse = clone(f.counted())
		default:
			f.rest()
		}
		if f.short || len(f.b) > 0 {
			return fmt.Errorf("the fields of item %02XH do not fill its %d bytes", typ, len(b))
		}
		return nil
	})
}

// once refuses a second application context or user information item.
func once(seen map[byte]bool, typ byte) error {
	if typ != itemApplicationContext && typ != itemUserInformation {
		return nil
	}
	if seen[typ] {
		return fmt.Errorf("two items %02XH", typ)
	}
	seen[typ] = true
	return nil
}

// eachItem calls f with the type and the fields of each item in b.
func eachItem(b []byte, f func(typ byte, b []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return fmt.Errorf("%d bytes after the last item", len(b))
		}
		typ, length := b[0], int(binary.BigEndian.Uint16(b[2:]))
		b = b[4:]
		if length > len(b) {
			return fmt.Errorf("item %02XH claims %d bytes where %d remain", typ, length, len(b))
		}
		if err := f(typ, b[:length]); err != nil {
			return err
		}
		b = b[length:]
	}
	return nil
}

// fields reads the fields of an item off its front. Reading past the end sets
// short and yields zeros.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.b) {
		f.short, f.b = true, nil
		return make([]byte, min(n, 4)) // n is above 4 only for a counted field
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) uint8() uint8    { return f.take(1)[0] }
func (f *fields) uint16() uint16  { return binary.BigEndian.Uint16(f.take(2)) }
func (f *fields) uint32() uint32  { return binary.BigEndian.Uint32(f.take(4)) }
func (f *fields) counted() []byte { return f.take(int(f.uint16())) }
func (f *fields) uid() dicom.UID  { return dicom.ParseUID(f.counted()) }

func (f *fields) rest() []byte {
	v := f.b
	f.b = nil
	return v
}

// clone copies a field; an empty one becomes an empty, non-nil slice, so that
// "sent empty" stays distinct from "not sent".
func clone(b []byte) []byte { return append([]byte{}, b...) }
