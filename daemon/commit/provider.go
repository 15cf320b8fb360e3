package commit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
)

// Provider is the SCP of storage commitment, for scanners. Its exported fields
// are its configuration and must not change once it is in use. Zero values mean
// the defaults named beside them.
type Provider struct {
	Spool *spool.Spool
	Log   *slog.Logger // nil discards

	// SameAssociation lets a report go over an association of the peer's own: that
	// of the request while it is open, or a later one.
	SameAssociation bool
	// Peers are the AE titles that take reports over a new association.
	Peers map[dicom.AETitle]Peer

	MaxReferences int           // in one request; 10000
	MaxOpen       int           // transactions of one AE title; 100
	MaxAge        time.Duration // of a report that nobody takes; 7 days
	MinRetry      time.Duration // wait after a first failure; 10 s
	MaxRetry      time.Duration // longest wait; 10 min

	refused refusals
	mu      sync.Mutex
	reading chan struct{}     // one answer at a time is read from the disk
	reports map[int64]attempt // by transaction
	peers   map[dicom.AETitle]*circuit
}

// Peer is how an AE title is called with a report.
type Peer struct {
	Addr string // host:port
	// Dialer has our AE title, the time-outs and TLS; the rest is set here.
	Dialer dimse.Dialer
}

// attempt is the last one to deliver a report over an association of the peer's
// own, or one that is under way over any.
type attempt struct {
	association string
	at          time.Time
	underWay    bool
}

var _ dimse.ActionHandler = (*Provider)(nil)

const (
	// openInAll is how many times MaxOpen transactions of all peers together may
	// be: the AE titles may be made up.
	openInAll = 10

	// sameAssociationGrace is how long a new association is put off after a
	// request that came over one on which its report can go. It goes there at
	// once, or that association has died.
	sameAssociationGrace = 10 * time.Second
)

// Action answers a request for storage commitment. The answer is success when
// the request is in the ledger.
func (p *Provider) Action(ctx context.Context, a *dimse.Association, rq dimse.NActionRQ, data io.Reader) dimse.Result {
	log := p.log().With("association", a.ID(), "calling", string(a.CallingAETitle()))
	request, err := p.open(ctx, a, rq, data)
	if err != nil {
		result := answer(err)
		p.refused.tell(ctx, log, a.CallingAETitle(), "storage commitment refused", "status", result.Status.String(), "err", err)
		return result
	}
	log.Info("storage commitment asked for", "transaction", request.TransactionUID, "instances", len(request.References))
	return dimse.Result{Status: dimse.StatusSuccess}
}

func (p *Provider) open(ctx context.Context, a *dimse.Association, rq dimse.NActionRQ, data io.Reader) (*commitment.Request, error) {
	request, err := commitment.ReadRequest(rq, data, commitment.Limits{References: orDefault(p.MaxReferences, 10_000)})
	if err != nil {
		return nil, err
	}
	peer, err := dicom.ParseAETitle(string(a.CallingAETitle()))
	if err != nil {
		return nil, &commitment.RefusedError{Status: dimse.StatusNotAuthorized, Comment: "the report needs a calling AE title", Err: err}
	}
	first := time.Now()
	switch _, known := p.Peers[peer]; {
	case p.SameAssociation:
		first = first.Add(sameAssociationGrace)
	case !known:
		return nil, &commitment.RefusedError{
			Status: dimse.StatusNotAuthorized, Comment: "no address is configured for the report",
			Err: fmt.Errorf("give the entry of %s in dicom.peers a commitment.address", peer),
		}
	}
	perPeer := orDefault(p.MaxOpen, 100)
	err = p.Spool.OpenTransaction(ctx, peer, request, first, spool.TransactionLimits{PerPeer: perPeer, All: openInAll * perPeer})
	switch {
	case errors.Is(err, spool.ErrTransactionInUse):
		return nil, &commitment.RefusedError{Status: command.StatusInvalidArgumentValue, Comment: "Transaction UID is in use", Err: err}
	case errors.Is(err, spool.ErrTooManyTransactions):
		return nil, &commitment.RefusedError{Status: command.StatusResourceLimitation, Comment: "too many open transactions", Err: err}
	case errors.Is(err, spool.ErrFull):
		return nil, &commitment.RefusedError{Status: command.StatusResourceLimitation, Comment: "no space to record it", Err: err}
	}
	return request, err
}

// answer turns an error into the peer's status.
func answer(err error) dimse.Result {
	var refused *commitment.RefusedError
	if errors.As(err, &refused) {
		return refused.Response()
	}
	return dimse.Result{Status: dimse.StatusProcessingFailure, ErrorComment: "cannot be recorded now"}
}

// maxPending is how many open transactions are looked at together.
const maxPending = 16

// NextEventReport returns the report that the association's peer waits for
// longest over it: each is tried once over any one association. It looks at the
// instances beside the association, and no longer than that is open: then the
// report is due over another one at once.
func (p *Provider) NextEventReport(ctx context.Context, a *dimse.Association) *dimse.EventReport {
	if !p.SameAssociation {
		return nil
	}
	log := p.log().With("association", a.ID(), "calling", string(a.CallingAETitle()))
	lasting := context.WithoutCancel(ctx) // how it ends is noted even at the end of the association, or the daemon
	open, err := p.Spool.OpenTransactions(lasting, a.CallingAETitle(), maxPending, p.taken(a.ID())...)
	if err != nil {
		log.Error("cannot read the ledger; the report goes over a new association", "err", err)
		return nil
	}
	for _, t := range open {
		if !p.claim(t.ID, a.ID()) {
			continue
		}
		result, err := p.result(ctx, t)
		ended := func(err error) {
			if err := p.ended(lasting, t, result, log, err, time.Now()); err != nil {
				log.Error("cannot record how the report of a storage commitment ended; it is sent again", "err", err)
			}
		}
		switch {
		case ctx.Err() != nil:
			ended(errAssociationEnded)
			return nil
		case err != nil:
			p.unclaim(t.ID)
			log.Error("cannot make the report of a storage commitment; trying again later", "err", err)
			return nil
		}
		return &dimse.EventReport{
			NEventReportRQ: eventReport(result), Information: result.Encode,
			Done: func(s dimse.Status, err error) {
				if err == nil && !s.IsDone() {
					err = &refusedError{s}
				}
				ended(err)
			},
		}
	}
	return nil
}

// errAssociationEnded is why a report was not made for an association.
var errAssociationEnded = errors.New("the association ended before the report was ready")

func eventReport(r *commitment.Result) dimse.NEventReportRQ {
	return dimse.NEventReportRQ{
		SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, EventTypeID: r.EventTypeID(),
	}
}

// result makes the answer to a transaction, when its turn has come.
func (p *Provider) result(ctx context.Context, t spool.CommitmentTransaction) (*commitment.Result, error) {
	p.mu.Lock()
	if p.reading == nil {
		p.reading = make(chan struct{}, 1)
	}
	reading := p.reading
	p.mu.Unlock()
	select {
	case reading <- struct{}{}:
		defer func() { <-reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return p.Spool.Commitment(ctx, &t.Request)
}

// ended records the end of an attempt to deliver a report, over whichever
// association; err is why it was in vain.
func (p *Provider) ended(ctx context.Context, t spool.CommitmentTransaction, r *commitment.Result, log *slog.Logger, err error, next time.Time) error {
	defer p.unclaim(t.ID)
	log = log.With("transaction", t.Request.TransactionUID)
	if err == nil {
		log.Info("storage commitment reported", "committed", len(r.Committed), "failed", len(r.Failed))
		if err := p.Spool.ReportDelivered(ctx, t); err != nil {
			return err
		}
		p.settled(t.ID)
		return nil
	}
	if _, known := p.Peers[t.Peer]; !known {
		log.Warn("a scanner did not take the report of its storage commitment, and no address for another association is known: give its entry in dicom.peers a commitment.address", "peer", string(t.Peer), "err", err)
	} else {
		log.Debug("a report was not taken", "err", err)
	}
	return p.Spool.ReportFailed(ctx, t.ID, err.Error(), next)
}

// claim takes a report for an association of its peer, or for a new one where
// that is "". It reports false if it is under way, or was tried there already.
func (p *Provider) claim(transaction int64, association string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.reports[transaction]
	if last.underWay || association != "" && last.association == association {
		return false
	}
	if p.reports == nil {
		p.reports = make(map[int64]attempt)
	}
	p.reports[transaction] = attempt{association, time.Now(), true}
	return true
}

// taken are the transactions that an association cannot claim.
func (p *Provider) taken(association string) (ids []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, last := range p.reports {
		if last.underWay || last.association == association {
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *Provider) unclaim(transaction int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.reports[transaction]; ok {
		last.underWay = false
		p.reports[transaction] = last
	}
}

// settled drops what is known of the attempts: there will be no other.
func (p *Provider) settled(transaction int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.reports, transaction)
}

// forget drops the attempts that began before a time, and are over.
func (p *Provider) forget(before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.reports, func(_ int64, last attempt) bool { return !last.underWay && last.at.Before(before) })
}

func (p *Provider) log() *slog.Logger { return orDiscard(p.Log) }

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
