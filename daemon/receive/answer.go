package receive

import (
	"errors"
	"fmt"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
)

// refusal is an error that knows its answer. Its comment goes to the peer and
// into logs, and so names attributes, never values.
type refusal struct {
	status  dimse.Status
	comment string // at most 64 characters (PS3.7 Annex C)
	cause   error  // may be nil
}

func refuse(status dimse.Status, comment string, cause error) error {
	return &refusal{status, comment, cause}
}

func (r *refusal) Error() string {
	if r.cause == nil {
		return r.comment
	}
	return fmt.Sprintf("%s: %v", r.comment, r.cause)
}

func (r *refusal) Unwrap() error { return r.cause }

// answer turns an error of store into what the peer is told (PS3.4 Table
// B.2-1). The statuses say whose turn it is: after A700H and 0110H the object
// was not at fault and may be sent again; after A900H and C000H it was.
func answer(err error) dimse.Result {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return dimse.Result{Status: r.status, ErrorComment: r.comment}
	case errors.Is(err, spool.ErrFull):
		return dimse.Result{Status: dimse.StatusOutOfResources, ErrorComment: "disk full: keep the object and send it again later"}
	case errors.Is(err, dimse.ErrObjectTooLarge):
		return dimse.Result{Status: dimse.StatusOutOfResources, ErrorComment: "object is larger than the configured maximum"}
	case errors.Is(err, errBrokenOff): // nobody is there to read it
		return dimse.Result{Status: dimse.StatusProcessingFailure, ErrorComment: "object broken off"}
	}
	return dimse.Result{Status: dimse.StatusProcessingFailure, ErrorComment: "could not be stored: see the log, then send it again"}
}
