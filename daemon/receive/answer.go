package receive

import (
	"errors"
	"fmt"
	"slices"

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

// Answers lists every status that a C-STORE gets from a Receiver, and when (PS3.4
// Table B.2-1). The statuses say whose turn it is: after A700H and 0110H the
// object was not at fault and may be sent again; after A900H and C000H it was.
func Answers() []dimse.Policy[dimse.Status] {
	all := []dimse.Policy[dimse.Status]{
		{Answer: dimse.StatusSuccess, When: "the object is on disk, with its directory entry and its row in the ledger; again, where the same data set was there already"},
		{Answer: dimse.StatusDataSetMismatch, When: "the SOP Class or Instance UID of the data set is not that of the command"},
		{Answer: dimse.StatusCannotUnderstand, When: "the data set lacks the SOP Class, SOP Instance, Study or Series Instance UID, or is malformed before them"},
	}
	for _, f := range append(slices.Clone(faults), otherFault) {
		if f.when != "" {
			all = append(all, dimse.Policy[dimse.Status]{Answer: f.status, When: f.when})
		}
	}
	return all
}

// fault is a failure that the object is not to blame for.
type fault struct {
	err           error
	status        dimse.Status
	comment, when string // when is empty where the association is gone, and with it who would read the answer
}

var faults = []fault{
	{spool.ErrFull, dimse.StatusOutOfResources, "disk full: keep the object and send it again later", "the disk is full, or its free space below the reserve"},
	{dimse.ErrObjectTooLarge, dimse.StatusOutOfResources, "object is larger than the configured maximum", ""},
	{errBrokenOff, dimse.StatusProcessingFailure, "object broken off", ""},
}

var otherFault = fault{nil, dimse.StatusProcessingFailure, "could not be stored: see the log, then send it again", "any other failure of ours"}

// answer turns an error of store into what the peer is told.
func answer(err error) dimse.Result {
	if r, ok := errors.AsType[*refusal](err); ok {
		return dimse.Result{Status: r.status, ErrorComment: r.comment}
	}
	for _, f := range faults {
		if errors.Is(err, f.err) {
			return dimse.Result{Status: f.status, ErrorComment: f.comment}
		}
	}
	return dimse.Result{Status: otherFault.status, ErrorComment: otherFault.comment}
}
