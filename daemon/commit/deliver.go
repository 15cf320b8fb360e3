package commit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// sweepInterval is how often old transactions are looked for.
const sweepInterval = time.Minute

// Run delivers reports over new associations until ctx ends.
func (p *Provider) Run(ctx context.Context) error {
	var peers sync.WaitGroup
	for title, peer := range p.Peers {
		c := newCircuit(p.log().With("peer", string(title)), p.MinRetry, p.MaxRetry)
		p.mu.Lock()
		if p.peers == nil {
			p.peers = make(map[dicom.AETitle]*circuit)
		}
		p.peers[title] = c
		p.mu.Unlock()
		peers.Go(func() { p.deliver(ctx, title, peer, c) })
	}
	defer peers.Wait()
	for ctx.Err() == nil {
		p.sweep(ctx)
		wait(ctx, sweepInterval, nil)
	}
	return nil
}

// Status tells how it goes with the peers that take reports over new
// associations.
func (p *Provider) Status() map[dicom.AETitle]Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[dicom.AETitle]Status, len(p.peers))
	for peer, c := range p.peers {
		all[peer] = c.now()
	}
	return all
}

// sweep gives up what nobody has taken for too long.
func (p *Provider) sweep(ctx context.Context) {
	age := orDefault(p.MaxAge, 7*24*time.Hour)
	parked, err := p.Spool.ParkTransactions(ctx, time.Now().Add(-age))
	if err != nil && ctx.Err() == nil {
		p.log().Error("cannot look for old storage commitments; trying again", "err", err)
	}
	for _, t := range parked {
		p.log().Error("the report of a storage commitment was not taken in time and is given up; the scanner may ask again",
			"peer", string(t.Peer), "transaction", t.Request.TransactionUID, "instances", len(t.Request.References),
			"asked", t.RequestedAt, "attempts", t.Attempts, "reason", t.LastReason)
	}
	p.forget(time.Now().Add(-time.Hour))
}

// deliver brings one peer its reports.
func (p *Provider) deliver(ctx context.Context, title dicom.AETitle, peer Peer, c *circuit) {
	more := p.Spool.ReportsDue(title)
	for ctx.Err() == nil {
		due, err := p.Spool.DueTransactions(ctx, title, time.Now(), maxPending)
		if err != nil {
			wait(ctx, c.failed(ctx, "cannot read the ledger; trying again", err), nil)
			continue
		}
		mine := due[:0]
		for _, t := range due {
			if p.claim(t.ID, "") {
				mine = append(mine, t)
			}
		}
		switch {
		case len(mine) > 0:
			p.call(ctx, title, peer, mine, c)
		case len(due) > 0: // all are under way over the peer's own associations, which will tell
			wait(ctx, sameAssociationGrace, more)
		default:
			next, ok, err := p.Spool.NextTransactionDue(ctx, title)
			switch {
			case err != nil:
				wait(ctx, c.failed(ctx, "cannot read the ledger; trying again", err), nil)
			case ok:
				wait(ctx, max(0, time.Until(next)), more)
			default:
				wait(ctx, -1, more)
			}
		}
	}
}

// call opens an association with the roles reversed and sends reports over it.
// A report that the peer refuses waits by itself; when the association fails, so
// do all that are left.
func (p *Provider) call(ctx context.Context, title dicom.AETitle, peer Peer, due []spool.CommitmentTransaction, c *circuit) {
	dialer := peer.Dialer
	dialer.CalledAETitle = title
	dialer.Contexts = contexts()
	dialer.RoleSelections = []pdu.RoleSelection{{SOPClassUID: dicom.StorageCommitmentPushModel, SCP: true}}
	a, err := dialer.Dial(ctx, peer.Addr)
	if err != nil {
		p.putOff(ctx, due, c, err)
		return
	}
	for n, t := range due {
		err := p.report(ctx, a, t)
		var refused *refusedError
		switch {
		case err == nil:
			c.worked()
		case errors.As(err, &refused):
			p.putOff(ctx, due[n:n+1], c, err)
		default:
			p.putOff(ctx, due[n:], c, err)
			release(ctx, a)
			return
		}
	}
	release(ctx, a)
}

// release ends an association, in good order while that is possible.
func release(ctx context.Context, a *dimse.Association) {
	if err := a.Release(ctx); err != nil {
		_ = a.Abort()
	}
}

// refusedError is a peer's answer to a report, or to a request, that it does not
// take. The Error Comment that came with it is left out: it may name a patient.
type refusedError struct{ status dimse.Status }

func (e *refusedError) Error() string { return fmt.Sprintf("answered %v", e.status) }

// contexts propose storage commitment.
func contexts() []dimse.ProposedContext {
	return []dimse.ProposedContext{{
		AbstractSyntax:   dicom.StorageCommitmentPushModel,
		TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian},
	}}
}

// report sends one report and records that it was taken.
func (p *Provider) report(ctx context.Context, a *dimse.Association, t spool.CommitmentTransaction) error {
	result, err := p.result(ctx, t)
	if err != nil {
		return err
	}
	answered, err := a.EventReport(ctx, eventReport(result), result.Encode)
	if err == nil && !answered.Status.IsDone() {
		err = &refusedError{answered.Status}
	}
	if err != nil {
		return err
	}
	return p.ended(context.WithoutCancel(ctx), t, result, p.log().With("association", a.ID(), "calling", string(t.Peer)), nil, time.Time{})
}

// putOff records that reports wait for another association.
func (p *Provider) putOff(ctx context.Context, left []spool.CommitmentTransaction, c *circuit, cause error) {
	next := time.Now()
	if ctx.Err() == nil {
		next = next.Add(c.failed(ctx, "a scanner cannot be told of its storage commitment; trying again", cause))
	}
	for _, t := range left {
		p.unclaim(t.ID)
		if ctx.Err() != nil {
			continue // our own end; it is due as it was
		}
		if err := p.Spool.ReportFailed(ctx, t.ID, cause.Error(), next); err != nil && ctx.Err() == nil {
			p.log().Error("cannot record that a report was put off", "err", err)
			wait(ctx, time.Until(next), nil) // it is still due, and would be tried at once
		}
	}
}
