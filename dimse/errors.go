package dimse

import (
	"errors"
	"fmt"

	"ichwatch/dimse/pdu"
)

// Errors that a caller decides on.
var (
	// ErrServerClosed is returned by Serve after Shutdown, Close or the end of
	// its context.
	ErrServerClosed = errors.New("dimse: server closed")

	// ErrNoPresentationContext: the peer accepted no context for this SOP class
	// in this transfer syntax, so the object cannot be sent unchanged.
	ErrNoPresentationContext = errors.New("dimse: no accepted presentation context")

	// ErrAssociationClosed: the association was released, aborted or lost.
	ErrAssociationClosed = errors.New("dimse: association is closed")

	// ErrReleased: the peer released an association on which a message was
	// still to come.
	ErrReleased = errors.New("dimse: association released by the peer")

	// ErrProtocol is matched by every breach of PS3.7 or PS3.8 by the peer.
	ErrProtocol = errors.New("dimse: protocol breach by the peer")

	// ErrTimeout is matched when the peer kept us waiting past a deadline.
	ErrTimeout = errors.New("dimse: peer did not answer in time")

	// ErrObjectTooLarge: an incoming object grew past Server.MaxObject.
	ErrObjectTooLarge = errors.New("dimse: object larger than the configured maximum")
)

// Rejection says why an association is refused: the three numbers of
// PS3.8 section 9.3.4, Table 9-21.
type Rejection struct {
	Result pdu.RejectResult
	Source pdu.RejectSource
	Reason uint8
}

// The rejections that this package gives, and that a Server.Admit may give.
var (
	RejectNoReason            = Rejection{pdu.RejectedPermanent, pdu.SourceServiceUser, pdu.ReasonNoReasonGiven}
	RejectApplicationContext  = Rejection{pdu.RejectedPermanent, pdu.SourceServiceUser, pdu.ReasonApplicationContextNotSupported}
	RejectCallingAETitle      = Rejection{pdu.RejectedPermanent, pdu.SourceServiceUser, pdu.ReasonCallingAETitleNotRecognized}
	RejectCalledAETitle       = Rejection{pdu.RejectedPermanent, pdu.SourceServiceUser, pdu.ReasonCalledAETitleNotRecognized}
	RejectProtocolVersion     = Rejection{pdu.RejectedPermanent, pdu.SourceServiceProviderACSE, pdu.ReasonProtocolVersionNotSupported}
	RejectACSE                = Rejection{pdu.RejectedPermanent, pdu.SourceServiceProviderACSE, pdu.ReasonNoReasonGiven}
	RejectTemporaryCongestion = Rejection{pdu.RejectedTransient, pdu.SourceServiceProviderPresentation, pdu.ReasonTemporaryCongestion}
	RejectLocalLimitExceeded  = Rejection{pdu.RejectedTransient, pdu.SourceServiceProviderPresentation, pdu.ReasonLocalLimitExceeded}
)

// Transient reports whether the same request may succeed later.
func (r Rejection) Transient() bool { return r.Result == pdu.RejectedTransient }

// String names the three numbers in the standard's words.
func (r Rejection) String() string {
	return pdu.AssociateRJ{Result: r.Result, Source: r.Source, Reason: r.Reason}.String()
}

// RejectedError is returned by Dial when the peer refused the association.
type RejectedError struct {
	Rejection
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("dimse: association rejected by the peer: %s%s", e.Rejection, e.hint())
}

func (e *RejectedError) hint() string {
	switch e.Rejection {
	case RejectCallingAETitle:
		return "; register our AE title and address at the peer"
	case RejectCalledAETitle:
		return "; check the peer's AE title in our configuration"
	}
	if e.Transient() {
		return "; the peer is busy or out of resources, try again later"
	}
	return ""
}

// AbortedError is returned when the peer sent an A-ABORT.
type AbortedError struct {
	Source pdu.AbortSource
	Reason pdu.AbortReason
}

func (e *AbortedError) Error() string {
	return "dimse: association aborted by the peer: " + pdu.Abort{Source: e.Source, Reason: e.Reason}.String()
}
