// Package commitment reads and writes the data sets of the Storage Commitment
// Push Model (PS3.4 Annex J, PS3.3 section C.14): the request that travels in
// an N-ACTION, and the result that travels in an N-EVENT-REPORT.
//
// Both are lists of references that a peer may have written: they are read with
// the bounded scanner of package dicom, in any transfer syntax, with sequences
// and items of defined or undefined length, up to a number of references.
// What is written is in ascending order, with defined lengths.
package commitment

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
)

// The one Action Type and the two Event Types (PS3.4 Tables J.3-1 and J.3-2).
const (
	ActionRequest uint16 = 1 // Request Storage Commitment

	EventSuccess  uint16 = 1 // Storage Commitment Request Successful
	EventFailures uint16 = 2 // Storage Commitment Request Complete - Failures Exist
)

// Reference names one SOP Instance (PS3.3 Table 10-11).
type Reference struct {
	SOPClassUID, SOPInstanceUID dicom.UID
}

// Failure is an instance that is not committed, and why.
type Failure struct {
	Reference
	// Reason is the Failure Reason (0008,1197): 0110H, 0112H, 0119H, 0122H,
	// 0131H or 0213H (PS3.3 section C.14.1.1).
	Reason command.Status
}

// Request asks for the safekeeping of what it references (PS3.4 section J.3.2).
type Request struct {
	TransactionUID dicom.UID
	References     []Reference
}

// Result is the answer (PS3.4 section J.3.3): each reference of the request is
// in one of the two lists.
type Result struct {
	TransactionUID dicom.UID
	Committed      []Reference
	Failed         []Failure
}

// EventTypeID is the Event Type that the result is.
func (r *Result) EventTypeID() uint16 {
	if len(r.Failed) > 0 {
		return EventFailures
	}
	return EventSuccess
}

// Limits bound what is read.
type Limits struct {
	References int // in both sequences together
}

// bytes is the longest data set that so many references may fill: two UIDs of 64
// characters, a Failure Reason and all headers have less than 256 bytes, and
// many peers add an attribute of their own.
func (l Limits) bytes() int64 { return 16<<10 + 1024*int64(l.References) }

// RefusedError is why a message of the service is not obeyed: the status of its
// response, and a comment for it.
type RefusedError struct {
	Status  command.Status
	Comment string
	Err     error // where there is more to tell; not for the peer
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("commitment: %v: %s", e.Status, e.Comment)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns Err.
func (e *RefusedError) Unwrap() error { return e.Err }

// Response is the answer to the peer.
func (e *RefusedError) Response() dimse.Result {
	return dimse.Result{Status: e.Status, ErrorComment: e.Comment}
}

// ReadRequest reads what an N-ACTION-RQ asks for, each instance once: an answer
// may cost reading it. Its error is a *RefusedError,
// unless the association has failed.
func ReadRequest(rq dimse.NActionRQ, data io.Reader, l Limits) (*Request, error) {
	if err := checkInstance(rq.SOPInstanceUID); err != nil {
		return nil, err
	}
	if rq.ActionTypeID != ActionRequest {
		return nil, refuse(command.StatusNoSuchActionType, "the one Action Type is 1", nil)
	}
	var r reader
	if err := r.read(rq.TransferSyntax, data, l); err != nil {
		return nil, err
	}
	if len(r.failed) > 0 {
		return nil, refuse(command.StatusInvalidArgumentValue, "Failed SOP Sequence in a request", nil)
	}
	if len(r.referenced) == 0 {
		return nil, refuse(command.StatusInvalidArgumentValue, "no reference in Referenced SOP Sequence", nil)
	}
	return &Request{r.transactionUID, distinct(r.referenced)}, nil
}

// distinct leaves out the references that came before.
func distinct(all []Reference) []Reference {
	seen := make(map[Reference]bool, len(all))
	return slices.DeleteFunc(all, func(r Reference) bool {
		was := seen[r]
		seen[r] = true
		return was
	})
}

// ReadResult reads what an N-EVENT-REPORT-RQ reports. Its error is a
// *RefusedError, unless the association has failed.
func ReadResult(rq dimse.NEventReportRQ, data io.Reader, l Limits) (*Result, error) {
	if err := checkInstance(rq.SOPInstanceUID); err != nil {
		return nil, err
	}
	if rq.EventTypeID != EventSuccess && rq.EventTypeID != EventFailures {
		return nil, refuse(command.StatusNoSuchEventType, "the Event Types are 1 and 2", nil)
	}
	var r reader
	if err := r.read(rq.TransferSyntax, data, l); err != nil {
		return nil, err
	}
	// Type 1 beside failures contradicts itself: what failed, failed.
	return &Result{r.transactionUID, r.referenced, r.failed}, nil
}

// checkInstance looks for the well-known instance (PS3.4 section J.3.5).
func checkInstance(uid dicom.UID) error {
	switch {
	case uid == dicom.StorageCommitmentPushModelInstance:
		return nil
	case uid.Valid() != nil:
		return refuse(command.StatusInvalidObjectInstance, "SOP Instance UID is not a UID", nil)
	}
	return refuse(command.StatusNoSuchSOPInstance, "not the well-known SOP Instance", nil)
}

func refuse(status command.Status, comment string, err error) error {
	return &RefusedError{status, comment, err}
}

// reader gathers what stands in a data set of either kind.
type reader struct {
	transactionUID dicom.UID
	referenced     []Reference
	failed         []Failure
	left           int // references that may yet come
}

// errTooMany ends the scan.
var errTooMany = errors.New("more references than are allowed")

func (r *reader) read(ts dicom.TransferSyntax, data io.Reader, l Limits) error {
	r.left = l.References
	h, err := dicom.Scan(data, ts, dicom.ScanOptions{
		Want:      func(t dicom.Tag) bool { return t == dicom.TagTransactionUID },
		MaxHeader: l.bytes(),
		MaxValue:  256,
		Sequences: map[dicom.Tag]func(*dicom.Header) error{
			dicom.TagReferencedSOPSequence: func(item *dicom.Header) error {
				reference, err := r.reference(item)
				r.referenced = append(r.referenced, reference)
				return err
			},
			dicom.TagFailedSOPSequence: func(item *dicom.Header) error {
				reference, err := r.reference(item)
				reason, ok := item.Uint16(dicom.TagFailureReason)
				if !ok {
					reason = uint16(command.StatusProcessingFailure)
				}
				r.failed = append(r.failed, Failure{reference, command.Status(reason)})
				return err
			},
		},
	})
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, errTooMany), errors.Is(err, dicom.ErrTooLarge):
		return refuse(command.StatusResourceLimitation, fmt.Sprintf("more than %d references", l.References), err)
	case errors.Is(err, dicom.ErrMalformed):
		return refuse(command.StatusInvalidArgumentValue, "data set is malformed", err)
	case err != nil:
		return err
	}
	r.transactionUID = h.UID(dicom.TagTransactionUID)
	if r.transactionUID == "" {
		return refuse(command.StatusInvalidArgumentValue, "no Transaction UID", nil)
	}
	if err := r.transactionUID.Valid(); err != nil {
		return refuse(command.StatusInvalidArgumentValue, "Transaction UID is not a UID", err)
	}
	return nil
}

func (r *reader) reference(item *dicom.Header) (Reference, error) {
	if r.left--; r.left < 0 {
		return Reference{}, errTooMany
	}
	reference := Reference{item.UID(dicom.TagReferencedSOPClassUID), item.UID(dicom.TagReferencedSOPInstanceUID)}
	if err := errors.Join(reference.SOPClassUID.Valid(), reference.SOPInstanceUID.Valid()); err != nil {
		return reference, refuse(command.StatusInvalidArgumentValue, "a reference without two valid UIDs", err)
	}
	return reference, nil
}
