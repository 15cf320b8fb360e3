package dimse

import (
	"fmt"

	"ichwatch/dimse/command"
	"ichwatch/dimse/pdu"
)

// breach is a way in which a peer breaks the protocol.
type breach uint8

const (
	breachPDU breach = iota
	breachUnknownPDU
	breachUnexpectedPDU
	breachFragment
	breachContext
	breachContextID
	breachCommand
	breachResponse
)

// breaches says each breach in words, and the Reason/Diag of the A-ABORT that
// answers it on an association (PS3.8 section 9.3.8).
var breaches = [...]struct {
	reason pdu.AbortReason
	when   string
}{
	breachPDU:           {pdu.AbortInvalidPDUParameterValue, "a PDU that cannot be read, whose lengths contradict each other, or that is longer than was offered"},
	breachUnknownPDU:    {pdu.AbortUnrecognizedPDU, "a PDU of a type that PS3.8 does not define"},
	breachUnexpectedPDU: {pdu.AbortUnexpectedPDU, "a PDU that is not due: a second association request, an answer to nothing, a release request in mid-message"},
	breachFragment:      {pdu.AbortUnexpectedPDUParameter, "a fragment of a data set where a command is due, or of a command within a data set"},
	breachContext:       {pdu.AbortInvalidPDUParameterValue, "a message on a presentation context that is not accepted, or on two of them"},
	breachContextID:     {pdu.AbortInvalidPDUParameterValue, "a presentation context id that is even or used twice"},
	breachCommand:       {pdu.AbortInvalidPDUParameterValue, fmt.Sprintf("a command set that cannot be read, or of more than %d bytes or %d fragments", command.MaxLength, maxCommandFragments)},
	breachResponse:      {pdu.AbortReasonNotSpecified, "a response to nothing that was asked, or other than the one that is due"},
}

// protocolError is a breach of the protocol that only the state or the
// negotiation shows. It matches ErrProtocol.
type protocolError struct {
	kind   breach
	detail string
}

func (e *protocolError) Error() string { return ErrProtocol.Error() + ": " + e.detail }

func (e *protocolError) Is(target error) bool { return target == ErrProtocol }

func breachf(kind breach, format string, args ...any) error {
	return &protocolError{kind, fmt.Sprintf(format, args...)}
}

// withdrawals are why a Server gives an association up that the peer has not
// broken: by an A-ABORT of the service user.
var withdrawals = []string{
	"silence between messages longer than the idle time-out",
	"a stall in mid-message longer than the read time-out",
	"an answer of ours that the peer does not take within the write time-out, as far as it takes the A-ABORT",
	"an object larger than the maximum",
	"a fault of ours while a message is answered",
	"too many connections at a time, while the user identity of this one is checked",
	"the end of the program, after its grace",
}

// Aborts lists why a Server aborts associations, and association requests.
func Aborts() []Policy[pdu.Abort] {
	asUser := pdu.Abort{Source: pdu.AbortServiceUser}
	// Before there is an association, AA-1 leaves it at that.
	all := []Policy[pdu.Abort]{{asUser, "in place of an association request: what is none; and in one, " + breaches[breachContextID].when}}
	for kind, b := range breaches {
		if breach(kind) != breachContextID {
			all = append(all, Policy[pdu.Abort]{pdu.Abort{Source: pdu.AbortServiceProvider, Reason: b.reason}, b.when})
		}
	}
	for _, when := range withdrawals {
		all = append(all, Policy[pdu.Abort]{asUser, when})
	}
	return all
}
