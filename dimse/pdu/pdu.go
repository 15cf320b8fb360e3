// Package pdu codes the protocol data units of the DICOM upper layer, PS3.8
// section 9.3, and nothing else: what a PDU means in a given state is the
// business of package dimse.
//
// A [Reader] yields PDUs from a stream as archive/tar yields files: the
// association PDUs arrive decoded, a P-DATA-TF arrives as a header only, and
// its presentation data values (PDVs) are then read as a stream. No length
// that a peer claims is believed before it was compared with the length of
// what encloses it, and nothing is allocated on a claim's word.
package pdu

import (
	"errors"
	"fmt"

	"ichwatch/dimse/dicom"
)

// Type is a PDU type (PS3.8 section 9.3.1).
type Type uint8

// The seven PDU types.
const (
	TypeAssociateRQ Type = 0x01
	TypeAssociateAC Type = 0x02
	TypeAssociateRJ Type = 0x03
	TypePDataTF     Type = 0x04
	TypeReleaseRQ   Type = 0x05
	TypeReleaseRP   Type = 0x06
	TypeAbort       Type = 0x07
)

var typeNames = [...]string{
	TypeAssociateRQ: "A-ASSOCIATE-RQ",
	TypeAssociateAC: "A-ASSOCIATE-AC",
	TypeAssociateRJ: "A-ASSOCIATE-RJ",
	TypePDataTF:     "P-DATA-TF",
	TypeReleaseRQ:   "A-RELEASE-RQ",
	TypeReleaseRP:   "A-RELEASE-RP",
	TypeAbort:       "A-ABORT",
}

// String names the type in the standard's words.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("PDU type %02XH", uint8(t))
}

const (
	// HeaderLength is the length of a PDU's header: type, a reserved byte, and
	// the length of what follows as 32 bits, most significant byte first.
	HeaderLength = 6

	// PDVHeaderLength is the length of what precedes a PDV's value: its length
	// (4 bytes), presentation context id and message control header.
	PDVHeaderLength = 6

	// MaxAssociateLength bounds the variable field of an A-ASSOCIATE-RQ or -AC.
	// 128 contexts with ten transfer syntaxes each fit into half of it.
	MaxAssociateLength = 128 << 10

	// DefaultMaximumLength is what a peer is taken to accept that sent no
	// Maximum Length item (51H), mandatory as it is.
	DefaultMaximumLength = 16384

	// ProtocolVersion has bit 0 set, for version 1, the only one there is.
	ProtocolVersion = 0x0001

	// MaxPresentationContexts is the number of odd 8-bit context ids.
	MaxPresentationContexts = 128
)

// ErrInvalid is matched by every error about the form of a PDU.
var ErrInvalid = errors.New("invalid PDU")

// ErrUnrecognized is matched, beside [ErrInvalid], by the error for a PDU type
// that PS3.8 does not define.
var ErrUnrecognized = errors.New("unrecognized PDU")

// Error is an error in the form of a PDU. It matches [ErrInvalid].
type Error struct {
	Type   Type
	Detail string
}

func (e *Error) Error() string { return fmt.Sprintf("invalid %s: %s", e.Type, e.Detail) }

// Is reports whether target is ErrInvalid, or ErrUnrecognized for an unknown type.
func (e *Error) Is(target error) bool {
	return target == ErrInvalid ||
		target == ErrUnrecognized && (e.Type < TypeAssociateRQ || e.Type > TypeAbort)
}

// PDU is one of *AssociateRQ, *AssociateAC, *AssociateRJ, *PDataTF,
// *ReleaseRQ, *ReleaseRP and *Abort.
type PDU interface {
	Type() Type
	// appendFields appends the variable field: what follows the header.
	appendFields(b []byte) ([]byte, error)
}

// AssociateRQ is an A-ASSOCIATE-RQ (PS3.8 section 9.3.2).
type AssociateRQ struct {
	Associate
	PresentationContexts []PresentationContextRQ // items 20H
	UserInformation      UserInformation
}

// AssociateAC is an A-ASSOCIATE-AC (PS3.8 section 9.3.3).
type AssociateAC struct {
	Associate
	PresentationContexts []PresentationContextAC // items 21H
	UserInformation      UserInformation
}

// Associate holds the fields that A-ASSOCIATE-RQ and -AC share. An acceptor
// echoes the AE titles and the reserved bytes as they came.
type Associate struct {
	ProtocolVersion    uint16
	CalledAETitle      [16]byte // padded with spaces
	CallingAETitle     [16]byte // padded with spaces
	Reserved           [32]byte
	ApplicationContext dicom.UID // item 10H
}

// AETitleField pads t with spaces to the 16 bytes of the field.
func AETitleField(t dicom.AETitle) (f [16]byte) {
	for i := copy(f[:], t); i < len(f); i++ {
		f[i] = ' '
	}
	return f
}

// PresentationContextRQ is a proposed context, item 20H (PS3.8 section 9.3.2.2).
type PresentationContextRQ struct {
	ID               uint8
	AbstractSyntax   dicom.UID   // sub-item 30H
	TransferSyntaxes []dicom.UID // sub-items 40H
}

// ContextResult is the answer to a proposed context (PS3.8 Table 9-18).
type ContextResult uint8

// The results of a proposed context.
const (
	Acceptance                   ContextResult = 0
	UserRejection                ContextResult = 1
	NoReason                     ContextResult = 2
	AbstractSyntaxNotSupported   ContextResult = 3
	TransferSyntaxesNotSupported ContextResult = 4
)

// String names the result in the standard's words.
func (r ContextResult) String() string {
	switch r {
	case Acceptance:
		return "acceptance"
	case UserRejection:
		return "user-rejection"
	case NoReason:
		return "no-reason"
	case AbstractSyntaxNotSupported:
		return "abstract-syntax-not-supported"
	case TransferSyntaxesNotSupported:
		return "transfer-syntaxes-not-supported"
	}
	return fmt.Sprintf("result %d", uint8(r))
}

// PresentationContextAC answers a proposed context, item 21H (PS3.8 section
// 9.3.3.2). A rejected context too carries one transfer syntax, which has no
// meaning then.
type PresentationContextAC struct {
	ID             uint8
	Result         ContextResult
	TransferSyntax dicom.UID // sub-item 40H
}

// RejectResult is the Result of an A-ASSOCIATE-RJ (PS3.8 Table 9-21).
type RejectResult uint8

// The results of an A-ASSOCIATE-RJ.
const (
	RejectedPermanent RejectResult = 1
	RejectedTransient RejectResult = 2
)

// RejectSource is the Source of an A-ASSOCIATE-RJ (PS3.8 Table 9-21).
type RejectSource uint8

// The sources of an A-ASSOCIATE-RJ.
const (
	SourceServiceUser                 RejectSource = 1
	SourceServiceProviderACSE         RejectSource = 2
	SourceServiceProviderPresentation RejectSource = 3
)

// The reasons of an A-ASSOCIATE-RJ; their meaning depends on the source.
const (
	ReasonNoReasonGiven                  = 1 // service-user, ACSE
	ReasonApplicationContextNotSupported = 2 // service-user
	ReasonCallingAETitleNotRecognized    = 3 // service-user
	ReasonCalledAETitleNotRecognized     = 7 // service-user
	ReasonProtocolVersionNotSupported    = 2 // ACSE
	ReasonTemporaryCongestion            = 1 // presentation
	ReasonLocalLimitExceeded             = 2 // presentation
)

// AssociateRJ is an A-ASSOCIATE-RJ (PS3.8 section 9.3.4).
type AssociateRJ struct {
	Result RejectResult
	Source RejectSource
	Reason uint8
}

// String names result, source and reason in the standard's words.
func (p AssociateRJ) String() string {
	result := fmt.Sprintf("result %d", uint8(p.Result))
	switch p.Result {
	case RejectedPermanent:
		result = "rejected-permanent"
	case RejectedTransient:
		result = "rejected-transient"
	}
	source, reasons := fmt.Sprintf("source %d", uint8(p.Source)), map[uint8]string(nil)
	switch p.Source {
	case SourceServiceUser:
		source, reasons = "service-user", map[uint8]string{
			1: "no-reason-given", 2: "application-context-name-not-supported",
			3: "calling-AE-title-not-recognized", 7: "called-AE-title-not-recognized",
		}
	case SourceServiceProviderACSE:
		source, reasons = "service-provider (ACSE)", map[uint8]string{
			1: "no-reason-given", 2: "protocol-version-not-supported",
		}
	case SourceServiceProviderPresentation:
		source, reasons = "service-provider (presentation)", map[uint8]string{
			1: "temporary-congestion", 2: "local-limit-exceeded",
		}
	}
	reason, ok := reasons[p.Reason]
	if !ok {
		reason = fmt.Sprintf("reason %d", p.Reason)
	}
	return result + ", " + source + ", " + reason
}

// ReleaseRQ is an A-RELEASE-RQ (PS3.8 section 9.3.6).
type ReleaseRQ struct{}

// ReleaseRP is an A-RELEASE-RP (PS3.8 section 9.3.7).
type ReleaseRP struct{}

// AbortSource is the Source of an A-ABORT (PS3.8 section 9.3.8).
type AbortSource uint8

// The sources of an A-ABORT.
const (
	AbortServiceUser     AbortSource = 0
	AbortServiceProvider AbortSource = 2
)

// AbortReason is the Reason/Diag of an A-ABORT; it is significant only when
// the source is the service provider.
type AbortReason uint8

// The reasons of an A-ABORT.
const (
	AbortReasonNotSpecified       AbortReason = 0
	AbortUnrecognizedPDU          AbortReason = 1
	AbortUnexpectedPDU            AbortReason = 2
	AbortUnrecognizedPDUParameter AbortReason = 4
	AbortUnexpectedPDUParameter   AbortReason = 5
	AbortInvalidPDUParameterValue AbortReason = 6
)

// Abort is an A-ABORT (PS3.8 section 9.3.8).
type Abort struct {
	Source AbortSource
	Reason AbortReason
}

// String names source and reason in the standard's words.
func (p Abort) String() string {
	switch p.Source {
	case AbortServiceUser:
		return "service-user"
	case AbortServiceProvider:
		names := map[AbortReason]string{
			0: "reason-not-specified", 1: "unrecognized-PDU", 2: "unexpected-PDU",
			4: "unrecognized-PDU-parameter", 5: "unexpected-PDU-parameter",
			6: "invalid-PDU-parameter-value",
		}
		if name, ok := names[p.Reason]; ok {
			return "service-provider, " + name
		}
		return fmt.Sprintf("service-provider, reason %d", uint8(p.Reason))
	}
	return fmt.Sprintf("source %d, reason %d", uint8(p.Source), uint8(p.Reason))
}

// PDataTF is the header of a P-DATA-TF (PS3.8 section 9.3.5). Its PDVs are
// read with [Reader.NextPDV] and written with a [Writer].
type PDataTF struct {
	Length uint32 // of the PDV items together
}

// PDV is the header of a presentation data value item (PS3.8 section 9.3.5.1
// and Annex E).
type PDV struct {
	ContextID uint8
	Command   bool   // a fragment of a command set, else of a data set
	Last      bool   // the last fragment of its command or data set
	Length    uint32 // of the fragment
}

// Type returns the PDU's type.
func (*AssociateRQ) Type() Type { return TypeAssociateRQ }

// Type returns the PDU's type.
func (*AssociateAC) Type() Type { return TypeAssociateAC }

// Type returns the PDU's type.
func (*AssociateRJ) Type() Type { return TypeAssociateRJ }

// Type returns the PDU's type.
func (*PDataTF) Type() Type { return TypePDataTF }

// Type returns the PDU's type.
func (*ReleaseRQ) Type() Type { return TypeReleaseRQ }

// Type returns the PDU's type.
func (*ReleaseRP) Type() Type { return TypeReleaseRP }

// Type returns the PDU's type.
func (*Abort) Type() Type { return TypeAbort }
