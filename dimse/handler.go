package dimse

import (
	"context"
	"io"
	"net"

	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// Handler answers the messages that a [Server] receives. Its methods are
// called from one goroutine per association, one message at a time, and from
// many associations at once.
//
// ctx ends when the Server closes; that the peer is gone shows in data alone. A
// panic aborts the association and nothing else.
type Handler interface {
	// Echo answers a C-ECHO-RQ (PS3.4 Annex A).
	Echo(ctx context.Context, a *Association) Status

	// Store answers a C-STORE-RQ (PS3.4 Annex B). It is called when the command
	// set has arrived; data then yields exactly the bytes of the data set in
	// rq.TransferSyntax, as they come in: io.EOF at its end, and an error when
	// the association dies or the object grows past Server.MaxObject, in which
	// case nothing of it may be kept. What Store leaves unread is drained.
	// data is valid only until Store returns.
	Store(ctx context.Context, a *Association, rq CStoreRQ, data io.Reader) Result
}

// AssociationObserver may be implemented by a [Handler] that wants to know
// which associations are open.
type AssociationObserver interface {
	// AssociationOpened is called after acceptance, before the first message.
	AssociationOpened(a *Association)
	// AssociationClosed is called once for every AssociationOpened, when no
	// further message can come. err is nil after an orderly release.
	AssociationClosed(a *Association, err error)
}

// CStoreRQ is a C-STORE request (PS3.7 section 9.1.1): what its command set
// says, and the transfer syntax of the context it came or goes on.
type CStoreRQ struct {
	SOPClassUID    dicom.UID // Affected SOP Class UID
	SOPInstanceUID dicom.UID // Affected SOP Instance UID
	TransferSyntax dicom.TransferSyntax
	Priority       uint16 // 0 medium, 1 high, 2 low

	// Set where the request is a sub-operation of a C-MOVE: who asked for that, and
	// the Message ID of its C-MOVE-RQ. They are about this C-STORE and no other:
	// who receives the object and stores it elsewhere performs an operation of its
	// own, of which they must be left out (PS3.7 section 9.1.1.1).
	MoveOriginatorAETitle   dicom.AETitle
	MoveOriginatorMessageID uint16

	// MessageID is the peer's on receipt; on sending it is chosen by the
	// Association and ignored here.
	MessageID uint16
}

// Result is the answer to a C-STORE request.
type Result struct {
	Status Status
	// ErrorComment travels with a status other than Success, cut to 64
	// characters (PS3.7 Annex C). It must carry no identity. A peer's is made
	// printable; what it carries nobody knows, and no log should have it.
	ErrorComment string
}

// Status is a DIMSE status code (PS3.7 Annex C, PS3.4 Table B.2-1).
type Status = command.Status

// The statuses that C-ECHO and C-STORE use; package command has them all.
const (
	StatusSuccess               = command.StatusSuccess
	StatusProcessingFailure     = command.StatusProcessingFailure
	StatusNoSuchSOPClass        = command.StatusNoSuchSOPClass
	StatusInvalidObjectInstance = command.StatusInvalidObjectInstance
	StatusMissingAttribute      = command.StatusMissingAttribute
	StatusSOPClassNotSupported  = command.StatusSOPClassNotSupported
	StatusNotAuthorized         = command.StatusNotAuthorized
	StatusDuplicateSOPInstance  = command.StatusDuplicateSOPInstance
	StatusDuplicateInvocation   = command.StatusDuplicateInvocation
	StatusUnrecognizedOperation = command.StatusUnrecognizedOperation
	StatusOutOfResources        = command.StatusOutOfResources
	StatusDataSetMismatch       = command.StatusDataSetMismatch
	StatusCannotUnderstand      = command.StatusCannotUnderstand
	StatusCoercion              = command.StatusCoercion
	StatusElementsDiscarded     = command.StatusElementsDiscarded
	StatusDataSetMismatchWarn   = command.StatusDataSetMismatchWarn
)

// PresentationContext is a negotiated context (PS3.8 section 7.1.1.13).
type PresentationContext struct {
	ID             uint8 // odd
	AbstractSyntax dicom.UID
	// Result is zero where the context was accepted; only then may messages
	// travel on it, in TransferSyntax.
	Result         pdu.ContextResult
	TransferSyntax dicom.UID
}

// ProposedContext is what a requestor proposes: one abstract syntax and the
// transfer syntaxes it can send it in, preferred first.
type ProposedContext struct {
	AbstractSyntax   dicom.UID
	TransferSyntaxes []dicom.UID
}

// AssociateRequestInfo is what a peer asked for, before it is accepted.
type AssociateRequestInfo struct {
	RemoteAddr net.Addr
	// As sent, trimmed of spaces and NUL.
	CallingAETitle, CalledAETitle dicom.AETitle
	Contexts                      []ProposedContext
	ImplementationClassUID        dicom.UID
	ImplementationVersionName     string
	UserIdentity                  *pdu.UserIdentity // nil when none was sent
	TLS                           bool              // it came over TLS
	// CertificateNames are the DNS names and the common name of the certificate
	// that it was asked for in TLS; that a request came so far vouches for them.
	CertificateNames []string
}
