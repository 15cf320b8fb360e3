package commit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
)

// Reports takes what destinations report to our listener. It is the SCU of
// storage commitment there.
type Reports struct {
	Spool      *spool.Spool
	Requesters []*Requester
	Log        *slog.Logger // nil discards

	refused refusals
}

var _ dimse.EventReportHandler = (*Reports)(nil)

// EventReport settles a report of the destination that the association comes
// from, by its AE title.
func (r *Reports) EventReport(ctx context.Context, a *dimse.Association, rq dimse.NEventReportRQ, data io.Reader) dimse.Result {
	result, _ := settle(ctx, r.Spool, orDiscard(r.Log).With("association", a.ID(), "calling", string(a.CallingAETitle())), rq, data,
		func(log *slog.Logger, attrs ...any) {
			r.refused.tell(ctx, log, a.CallingAETitle(), reportRefused, attrs...)
		},
		func(destination string) (*Requester, error) {
			for _, q := range r.Requesters {
				if q.Destination != destination {
					continue
				}
				if q.Dialer.CalledAETitle != a.CallingAETitle() {
					return nil, fmt.Errorf("it was asked of %s: if the destination reports under another AE title, give it as destinations[].commitment.called_ae_title", q.Dialer.CalledAETitle)
				}
				return q, nil
			}
			return nil, fmt.Errorf("destination %s is not asked for its commitment any more", destination)
		})
	return result
}

// maxReported bounds the references of a report: what one request may hold.
const maxReported = 10_000

// maxResends is how often an instance is sent again that a destination had
// confirmed and does not have.
const maxResends = 3

const reportRefused = "the report of a storage commitment is refused"

// settle records what a report says, and answers it with success only then; it
// returns whose report it was. refused logs why it is not taken; asker finds who
// asked, or says why the peer has no business to report it.
func settle(ctx context.Context, s *spool.Spool, log *slog.Logger, rq dimse.NEventReportRQ, data io.Reader,
	refused func(log *slog.Logger, attrs ...any), asker func(destination string) (*Requester, error),
) (dimse.Result, dicom.UID) {
	report, err := commitment.ReadResult(rq, data, commitment.Limits{References: maxReported})
	if err == nil {
		log = log.With("transaction", report.TransactionUID)
		err = record(ctx, s, log, report, asker)
	}
	if err != nil {
		result := answer(err)
		refused(log, "status", result.Status.String(), "err", err)
		return result, ""
	}
	return dimse.Result{Status: dimse.StatusSuccess}, report.TransactionUID
}

func record(ctx context.Context, s *spool.Spool, log *slog.Logger, report *commitment.Result, asker func(destination string) (*Requester, error)) error {
	destination, err := s.RequestedOf(ctx, report.TransactionUID)
	if errors.Is(err, spool.ErrUnknownTransaction) {
		return &commitment.RefusedError{Status: command.StatusInvalidArgumentValue, Comment: "Transaction UID is not known", Err: err}
	}
	if err != nil {
		return err
	}
	requester, err := asker(destination)
	if err != nil {
		return &commitment.RefusedError{Status: dimse.StatusNotAuthorized, Comment: "not asked of this AE title", Err: err}
	}
	now := time.Now()
	settled, err := s.CommitmentReported(ctx, report, now, now.Add(requester.delay(ctx, report)), judge)
	if err != nil {
		return err
	}
	requester.tell(ctx, log, report, settled)
	return nil
}

// judge decides about an instance that was not committed (PS3.3 section
// C.14.1.1).
func judge(reason command.Status, refused int) spool.LegState {
	switch reason {
	case command.StatusResourceLimitation, command.StatusDuplicateTransactionUID:
		return spool.LegSent
	case command.StatusNoSuchSOPInstance, command.StatusProcessingFailure:
		if refused < maxResends {
			return spool.LegPending
		}
	}
	return spool.LegParked
}

// own takes the reports that come over an association of a requester's own.
type own struct {
	*Requester
	transactionUID dicom.UID // of the last one
}

// EventReport settles a report of the destination that we called.
func (o *own) EventReport(ctx context.Context, a *dimse.Association, rq dimse.NEventReportRQ, data io.Reader) (result dimse.Result) {
	result, o.transactionUID = settle(ctx, o.Spool, o.state().log.With("association", a.ID()), rq, data,
		func(log *slog.Logger, attrs ...any) {
			o.refused.tell(ctx, log, a.CalledAETitle(), reportRefused, attrs...)
		},
		func(destination string) (*Requester, error) {
			if destination != o.Destination {
				return nil, fmt.Errorf("it was asked of %s", destination)
			}
			return o.Requester, nil
		})
	return result
}
