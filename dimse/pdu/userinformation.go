package pdu

import "ichwatch/dimse/dicom"

// The item types of PS3.8 section 9.3 and Annex D, and PS3.7 Annex D.
const (
	itemApplicationContext         = 0x10
	itemPresentationContextRQ      = 0x20
	itemPresentationContextAC      = 0x21
	itemAbstractSyntax             = 0x30
	itemTransferSyntax             = 0x40
	itemUserInformation            = 0x50
	itemMaximumLength              = 0x51
	itemImplementationClassUID     = 0x52
	itemAsynchronousOperations     = 0x53
	itemRoleSelection              = 0x54
	itemImplementationVersionName  = 0x55
	itemExtendedNegotiation        = 0x56
	itemCommonExtendedNegotiation  = 0x57
	itemUserIdentity               = 0x58
	itemUserIdentityServerResponse = 0x59
)

// UserInformation is item 50H with its sub-items. Unknown sub-items are
// skipped on receipt.
type UserInformation struct {
	// MaximumLength is the longest P-DATA-TF variable field that the sender of
	// this item accepts, in bytes; 0 is no limit. Item 51H, PS3.8 D.1.
	MaximumLength uint32
	// Items 52H and 55H, PS3.7 D.3.3.2.
	ImplementationClassUID    dicom.UID
	ImplementationVersionName string // at most 16 characters, "" for none
	// AsynchronousOperations is nil for the default of 1/1. Item 53H, PS3.7 D.3.3.3.
	AsynchronousOperations *AsynchronousOperations
	RoleSelections         []RoleSelection             // items 54H
	ExtendedNegotiations   []ExtendedNegotiation       // items 56H
	CommonExtended         []CommonExtendedNegotiation // items 57H, in a request only
	UserIdentity           *UserIdentity               // item 58H, in a request only
	// UserIdentityResponse is nil when there is none. Item 59H, in an answer only.
	UserIdentityResponse []byte
}

// AsynchronousOperations is the asynchronous operations window, item 53H.
// Zero is no limit.
type AsynchronousOperations struct {
	Invoked, Performed uint16
}

// RoleSelection is item 54H (PS3.7 D.3.3.4): in a request the roles that the
// requestor would take for a SOP class, in the answer those granted.
type RoleSelection struct {
	SOPClassUID dicom.UID
	SCU, SCP    bool
}

// ExtendedNegotiation is item 56H (PS3.7 D.3.3.5).
type ExtendedNegotiation struct {
	SOPClassUID dicom.UID
	Information []byte // service class application information
}

// CommonExtendedNegotiation is item 57H (PS3.7 D.3.3.6): which service class a
// SOP class belongs to, and which standard SOP classes it is related to.
type CommonExtendedNegotiation struct {
	SOPClassUID                dicom.UID
	ServiceClassUID            dicom.UID
	RelatedGeneralSOPClassUIDs []dicom.UID
}

// UserIdentityType says what a user identity item carries (PS3.7 D.3.3.7).
type UserIdentityType uint8

// The user identity types.
const (
	IdentityUsername         UserIdentityType = 1
	IdentityUsernamePasscode UserIdentityType = 2
	IdentityKerberos         UserIdentityType = 3
	IdentitySAML             UserIdentityType = 4
	IdentityJWT              UserIdentityType = 5
)

// UserIdentity is item 58H (PS3.7 D.3.3.7.1). It has no String method and must
// not reach a log.
type UserIdentity struct {
	Type                      UserIdentityType
	PositiveResponseRequested bool
	PrimaryField              []byte // username, ticket, assertion or token
	SecondaryField            []byte // passcode, else empty
}
