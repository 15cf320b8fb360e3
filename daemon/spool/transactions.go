package spool

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
)

// CommitmentTransaction is a storage commitment that a peer has asked for (PS3.4
// section J.3.2). It is open until its report was delivered.
type CommitmentTransaction struct {
	ID          int64
	Peer        dicom.AETitle // who asked, and gets the report
	Request     commitment.Request
	RequestedAt time.Time
	Attempts    int    // to deliver the report, that failed so far
	LastReason  string // of the last one
}

// Errors of OpenTransaction.
var (
	// ErrTransactionInUse: the peer waits for the report on other references
	// under the same Transaction UID, or did in vain.
	ErrTransactionInUse = errors.New("the transaction UID is in use for another request")
	// ErrTooManyTransactions: too many reports have not been delivered yet.
	ErrTooManyTransactions = errors.New("too many open transactions")
)

// TransactionLimits bound what is open at a time.
type TransactionLimits struct {
	PerPeer int
	All     int
}

// storedSyntax is the transfer syntax of a request in the ledger.
var storedSyntax, _ = dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)

// OpenTransaction records durably that a peer asks for a commitment; first is
// when another association may be opened for the report. The same request under
// the same Transaction UID is one transaction, which a repetition opens again
// where it was given up.
func (s *Spool) OpenTransaction(ctx context.Context, peer dicom.AETitle, rq *commitment.Request, first time.Time, l TransactionLimits) error {
	request := rq.Encode(storedSyntax)
	err := s.write(ctx, durable, StepTransactionOpened, func(tx *transaction) error {
		var earlier []byte
		var state string
		err := tx.row(`SELECT request, state FROM transactions WHERE peer = ? AND transaction_uid = ?`, []any{peer, rq.TransactionUID}, &earlier, &state)
		switch {
		case err == nil && !bytes.Equal(earlier, request):
			return ErrTransactionInUse
		case err == nil && state == "open":
			_, err := tx.exec(`UPDATE transactions SET requested_at = ?, next_attempt = min(next_attempt, ?) WHERE peer = ? AND transaction_uid = ?`,
				instant(s.now()), instant(first), peer, rq.TransactionUID)
			return err
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		}
		var ofPeer, all int
		if err := tx.row(`SELECT count(*), coalesce(sum(peer = ?), 0) FROM transactions WHERE state = 'open'`, []any{peer}, &all, &ofPeer); err != nil {
			return err
		}
		if ofPeer >= l.PerPeer || all >= l.All {
			return ErrTooManyTransactions
		}
		_, err = tx.exec(`INSERT INTO transactions (peer, transaction_uid, request, requested_at, next_attempt) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (peer, transaction_uid) DO UPDATE SET
					state = 'open', requested_at = excluded.requested_at, next_attempt = excluded.next_attempt, attempts = 0, last_reason = '', settled_at = NULL`,
			peer, rq.TransactionUID, request, instant(s.now()), instant(first))
		return err
	})
	if err != nil {
		return fmt.Errorf("record a storage commitment transaction: %w", err)
	}
	s.wake.reportDue(peer)
	return nil
}

const selectTransactions = `SELECT id, peer, request, requested_at, attempts, last_reason FROM transactions WHERE state = 'open' `

// OpenTransactions returns at most limit transactions whose reports the peer has
// not got yet, the oldest first, without those excepted.
func (s *Spool) OpenTransactions(ctx context.Context, peer dicom.AETitle, limit int, except ...int64) ([]CommitmentTransaction, error) {
	ids, err := json.Marshal(append([]int64{}, except...))
	if err != nil {
		return nil, err
	}
	return s.transactions(ctx, selectTransactions+`AND peer = ? AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY requested_at, id LIMIT ?`, peer, string(ids), limit)
}

// DueTransactions returns those that are to be tried at now, the oldest first.
func (s *Spool) DueTransactions(ctx context.Context, peer dicom.AETitle, now time.Time, limit int) ([]CommitmentTransaction, error) {
	return s.transactions(ctx, selectTransactions+`AND peer = ? AND next_attempt <= ? ORDER BY id LIMIT ?`, peer, instant(now), limit)
}

func (s *Spool) transactions(ctx context.Context, query string, args ...any) ([]CommitmentTransaction, error) {
	open, err := collect(scanTransaction)(s.ledger.queries.query(ctx, query, args...))
	if err != nil {
		return nil, fmt.Errorf("look for storage commitment transactions: %w", err)
	}
	return open, nil
}

func scanTransaction(row scanner) (t CommitmentTransaction, err error) {
	var request []byte
	if err := row.Scan(&t.ID, &t.Peer, &request, (*instant)(&t.RequestedAt), &t.Attempts, &t.LastReason); err != nil {
		return t, err
	}
	rq, err := commitment.ReadRequest(dimse.NActionRQ{
		SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest, TransferSyntax: storedSyntax,
	}, bytes.NewReader(request), commitment.Limits{References: len(request)})
	if err != nil {
		return t, fmt.Errorf("the request in the ledger is damaged: %w", err)
	}
	t.Request = *rq
	return t, nil
}

// NextTransactionDue returns when the next report to a peer is to be tried; ok
// is false when there is none.
func (s *Spool) NextTransactionDue(ctx context.Context, peer dicom.AETitle) (due time.Time, ok bool, err error) {
	next, err := collect(scanCount)(s.ledger.queries.query(ctx,
		`SELECT next_attempt FROM transactions WHERE state = 'open' AND peer = ? ORDER BY next_attempt LIMIT 1`, peer))
	if err != nil || len(next) == 0 {
		return time.Time{}, false, err
	}
	return time.Unix(0, next[0]).UTC(), true, nil
}

// ReportDelivered forgets a transaction, as the peer has taken the report: what
// peers may ask for without end must not fill the ledger. It does nothing to a
// transaction that is settled, nor to one that was asked for again since: the
// peer may have asked after it took the report.
func (s *Spool) ReportDelivered(ctx context.Context, t CommitmentTransaction) error {
	err := s.write(ctx, durable, StepReportDelivered, func(tx *transaction) error {
		_, err := tx.exec(`DELETE FROM transactions WHERE id = ? AND state = 'open' AND requested_at = ?`, t.ID, instant(t.RequestedAt))
		return err
	})
	if err != nil {
		return fmt.Errorf("record that the report of transaction %d is delivered: %w", t.ID, err)
	}
	return nil
}

// ReportFailed counts an attempt to deliver a report, and says when to try again.
func (s *Spool) ReportFailed(ctx context.Context, id int64, reason string, next time.Time) error {
	var peer dicom.AETitle
	err := s.write(ctx, rebuildable, StepReportFailed, func(tx *transaction) error {
		err := tx.row(`UPDATE transactions SET attempts = attempts + 1, last_reason = ?, next_attempt = ? WHERE id = ? AND state = 'open' RETURNING peer`,
			[]any{reason, instant(next), id}, &peer)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record that the report of transaction %d failed: %w", id, err)
	}
	s.wake.reportDue(peer)
	return nil
}

// ParkTransactions gives up the reports of what was asked before a time, and
// forgets what was given up before it. It returns what it gave up.
func (s *Spool) ParkTransactions(ctx context.Context, before time.Time) ([]CommitmentTransaction, error) {
	old, err := s.transactions(ctx, selectTransactions+`AND requested_at < ? ORDER BY id`, instant(before))
	if err != nil {
		return nil, err
	}
	err = s.write(ctx, durable, StepTransactionsParked, func(tx *transaction) error {
		for _, t := range old {
			if _, err := tx.exec(`UPDATE transactions SET state = 'parked', settled_at = ? WHERE id = ? AND state = 'open'`, instant(s.now()), t.ID); err != nil {
				return err
			}
			if err := tx.record(Event{At: s.now(), Kind: EventReportParked, Detail: string(t.Peer) + ": " + t.LastReason}); err != nil {
				return err
			}
		}
		_, err := tx.exec(`DELETE FROM transactions WHERE state <> 'open' AND settled_at < ?`, instant(before))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("park storage commitment transactions: %w", err)
	}
	return old, nil
}
