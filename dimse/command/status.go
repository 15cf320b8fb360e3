package command

import "fmt"

// Status is the Status (0000,0900) of a response: PS3.7 Annex C for every
// service, PS3.4 Table B.2-1 for storage, PS3.4 Annex J for commitment.
type Status uint16

// Statuses of all services (PS3.7 Annex C).
const (
	StatusSuccess               Status = 0x0000
	StatusCancel                Status = 0xFE00
	StatusPending               Status = 0xFF00
	StatusAttributeListError    Status = 0x0107 // a warning
	StatusSOPClassNotSupported  Status = 0x0122
	StatusClassInstanceConflict Status = 0x0119
	StatusDuplicateSOPInstance  Status = 0x0111
	StatusDuplicateInvocation   Status = 0x0210
	StatusInvalidArgumentValue  Status = 0x0115
	StatusInvalidAttributeValue Status = 0x0106
	StatusInvalidObjectInstance Status = 0x0117
	StatusMissingAttribute      Status = 0x0120
	StatusMissingAttributeValue Status = 0x0121
	StatusMistypedArgument      Status = 0x0212
	StatusNoSuchArgument        Status = 0x0114
	StatusNoSuchAttribute       Status = 0x0105
	StatusNoSuchEventType       Status = 0x0113
	StatusNoSuchSOPInstance     Status = 0x0112
	StatusNoSuchSOPClass        Status = 0x0118
	StatusNoSuchActionType      Status = 0x0123
	StatusNotAuthorized         Status = 0x0124
	StatusProcessingFailure     Status = 0x0110
	StatusResourceLimitation    Status = 0x0213
	StatusUnrecognizedOperation Status = 0x0211
)

// StatusDuplicateTransactionUID is a Failure Reason (0008,1197) of storage
// commitment and no status of a response (PS3.3 section C.14.1.1).
const StatusDuplicateTransactionUID Status = 0x0131

// Statuses of storage (PS3.4 Table B.2-1). A7xxH, A9xxH and Cxxx stand for
// classes of 256 and 4096 codes.
const (
	StatusOutOfResources      Status = 0xA700
	StatusDataSetMismatch     Status = 0xA900
	StatusCannotUnderstand    Status = 0xC000
	StatusCoercion            Status = 0xB000 // a warning
	StatusElementsDiscarded   Status = 0xB006 // a warning
	StatusDataSetMismatchWarn Status = 0xB007 // a warning
)

var statusNames = map[Status]string{
	StatusSuccess:               "Success",
	StatusCancel:                "Cancel",
	StatusPending:               "Pending",
	StatusAttributeListError:    "Warning: attribute list error",
	StatusSOPClassNotSupported:  "Refused: SOP class not supported",
	StatusClassInstanceConflict: "Failure: class-instance conflict",
	StatusDuplicateSOPInstance:  "Failure: duplicate SOP instance",
	StatusDuplicateInvocation:   "Failure: duplicate invocation",
	StatusInvalidArgumentValue:  "Failure: invalid argument value",
	StatusInvalidAttributeValue: "Failure: invalid attribute value",
	StatusInvalidObjectInstance: "Failure: invalid SOP instance",
	StatusMissingAttribute:      "Failure: missing attribute",
	StatusMissingAttributeValue: "Failure: missing attribute value",
	StatusMistypedArgument:      "Failure: mistyped argument",
	StatusNoSuchArgument:        "Failure: no such argument",
	StatusNoSuchAttribute:       "Failure: no such attribute",
	StatusNoSuchEventType:       "Failure: no such event type",
	StatusNoSuchSOPInstance:     "Failure: no such SOP instance",
	StatusNoSuchSOPClass:        "Failure: no such SOP class",
	StatusNoSuchActionType:      "Failure: no such action type",
	StatusNotAuthorized:         "Refused: not authorized",
	StatusProcessingFailure:     "Failure: processing failure",
	StatusResourceLimitation:    "Failure: resource limitation",
	StatusUnrecognizedOperation: "Failure: unrecognized operation",
	StatusOutOfResources:        "Refused: out of resources",
	StatusDataSetMismatch:       "Error: data set does not match SOP class",
	StatusCannotUnderstand:      "Error: cannot understand",
	StatusCoercion:              "Warning: coercion of data elements",
	StatusElementsDiscarded:     "Warning: elements discarded",
	StatusDataSetMismatchWarn:   "Warning: data set does not match SOP class",

	StatusDuplicateTransactionUID: "Failure: duplicate transaction UID",
}

// String gives the code in the standard's notation and its name:
// "A700H (Refused: out of resources)".
func (s Status) String() string { return s.Code() + " (" + s.Name() + ")" }

// Code is the code in the standard's notation: "A700H".
func (s Status) Code() string { return fmt.Sprintf("%04XH", uint16(s)) }

// Name is the status in words: "Refused: out of resources".
func (s Status) Name() string {
	name, ok := statusNames[s]
	switch {
	case ok:
		return name
	case s&0xFF00 == StatusOutOfResources:
		return statusNames[StatusOutOfResources]
	case s&0xFF00 == StatusDataSetMismatch:
		return statusNames[StatusDataSetMismatch]
	case s&0xF000 == StatusCannotUnderstand:
		return statusNames[StatusCannotUnderstand]
	case s.IsWarning():
		return "Warning"
	case s.IsPending():
		return "Pending"
	}
	return "Failure"
}

// IsWarning reports whether the operation was done, with a remark: 0001H,
// Bxxx, 0107H and 0116H (PS3.7 Annex C).
func (s Status) IsWarning() bool {
	return s == 0x0001 || s&0xF000 == 0xB000 || s == StatusAttributeListError || s == 0x0116
}

// IsPending reports whether further responses follow: FF00H and FF01H.
func (s Status) IsPending() bool { return s == 0xFF00 || s == 0xFF01 }

// IsDone reports whether the operation was done, with a remark or without.
// What is neither done nor a failure was canceled, or is pending.
func (s Status) IsDone() bool { return s == StatusSuccess || s.IsWarning() }

// IsFailure reports whether the operation was not done.
func (s Status) IsFailure() bool {
	return s != StatusSuccess && s != StatusCancel && !s.IsWarning() && !s.IsPending()
}
