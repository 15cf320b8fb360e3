package dimse

import (
	"context"
	"fmt"
	"io"

	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// begin starts an exchange: it takes the association and ties it to ctx. The
// function returned ends the exchange.
func (a *Association) begin(ctx context.Context) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err // nothing was begun: the association stays as it is
	}
	a.mu.Lock()
	if a.over() {
		err := a.err
		a.mu.Unlock()
		if err == ErrAssociationClosed {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrAssociationClosed, err)
	}
	stop := context.AfterFunc(ctx, func() { a.conn.interrupt(context.Cause(ctx)) })
	return func() {
		stop()
		a.mu.Unlock()
	}, nil
}

func (a *Association) nextMessageID() uint16 {
	a.lastID++
	if a.lastID == 0 {
		a.lastID = 1
	}
	return a.lastID
}

// Echo sends a C-ECHO-RQ and waits for the answer (PS3.4 Annex A). It needs an
// accepted context for Verification.
func (a *Association) Echo(ctx context.Context) (Status, error) {
	end, err := a.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	pc := a.contextFor(dicom.Verification, "")
	if pc == nil {
		return 0, fmt.Errorf("%w for %s", ErrNoPresentationContext, dicom.Verification.Name())
	}
	id := a.nextMessageID()
	err = a.send(pc.ID, &command.CEchoRQ{AffectedSOPClassUID: dicom.Verification, MessageID: id})
	if err != nil {
		return 0, err
	}
	m, err := a.response(pc)
	if err != nil {
		return 0, err
	}
	rsp, ok := m.(*command.CEchoRSP)
	if !ok || rsp.MessageIDBeingRespondedTo != id {
		return 0, a.fail(breachf(breachResponse, "%s where the C-ECHO-RSP to message %d was due", m.Field(), id))
	}
	return rsp.Status, nil
}

// Store sends one object: rq as its command, then data, to io.EOF, as its data
// set, unchanged; only a deflated one of odd length gets the trailing NUL that
// PS3.5 section A.5 asks for. It waits for the answer. A status other than Success is not
// an error; ErrNoPresentationContext leaves the association as it was; any
// other error has aborted it, one of data included.
func (a *Association) Store(ctx context.Context, rq CStoreRQ, data io.Reader) (Result, error) {
	end, err := a.begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer end()
	pc := a.contextFor(rq.SOPClassUID, rq.TransferSyntax.UID)
	if pc == nil || rq.TransferSyntax.UID == "" {
		return Result{}, fmt.Errorf("%w for %s in %s", ErrNoPresentationContext, rq.SOPClassUID.Name(), rq.TransferSyntax.UID.Name())
	}
	id := a.nextMessageID()
	err = a.gather(pc.ID, &command.CStoreRQ{
		AffectedSOPClassUID:     rq.SOPClassUID,
		MessageID:               id,
		Priority:                rq.Priority,
		AffectedSOPInstanceUID:  rq.SOPInstanceUID,
		DataSet:                 true,
		MoveOriginatorAETitle:   rq.MoveOriginatorAETitle,
		MoveOriginatorMessageID: rq.MoveOriginatorMessageID,
	})
	if err != nil {
		return Result{}, err
	}
	if rq.TransferSyntax.Deflated {
		data = &evenReader{r: data}
	}
	if _, err := a.writer.WriteDataSet(pc.ID, data); err != nil {
		return Result{}, a.failSending(err)
	}
	if err := a.flush(); err != nil {
		return Result{}, err
	}
	m, err := a.response(pc)
	if err != nil {
		return Result{}, err
	}
	rsp, ok := m.(*command.CStoreRSP)
	if !ok || rsp.MessageIDBeingRespondedTo != id {
		return Result{}, a.fail(breachf(breachResponse, "%s where the C-STORE-RSP to message %d was due", m.Field(), id))
	}
	return Result{rsp.Status, comment(rsp.ErrorComment)}, nil
}

// evenReader pads what it reads with a NUL to an even length.
type evenReader struct {
	r    io.Reader
	odd  bool
	done bool
}

func (e *evenReader) Read(b []byte) (int, error) {
	if e.done {
		return 0, io.EOF
	}
	n, err := e.r.Read(b)
	e.odd = e.odd != (n%2 == 1)
	if err != io.EOF || !e.odd {
		return n, err
	}
	if n == len(b) { // the NUL comes with the next call: EOF again, and none read
		return n, nil
	}
	e.done = true
	b[n] = 0
	return n + 1, nil
}

// response reads the response to the request just sent on pc.
func (a *Association) response(pc *PresentationContext) (command.Message, error) {
	a.conn.idle(a.conn.stall)
	on, m, err := a.readCommand()
	switch {
	case err == errReleaseRequested:
		return nil, a.releasedByPeer()
	case err != nil:
		return nil, err
	case on != pc:
		return nil, a.fail(breachf(breachContext, "a response on presentation context %d to a request on %d", on.ID, pc.ID))
	case m.HasDataSet():
		if _, _, ok := normalizedResponse(m); !ok {
			return nil, a.fail(breachf(breachResponse, "%s with a data set", m.Field()))
		}
		return m, a.newDataSet(pc.ID, maxReply).drain()
	}
	return m, nil
}

// releasedByPeer grants the release of a peer that gives up on what we wait for,
// and says so.
func (a *Association) releasedByPeer() error {
	_, _ = a.fire(evt14, &pdu.ReleaseRP{})
	a.err = ErrReleased
	a.linger()
	return ErrReleased
}

// Release ends the association in good order (PS3.8 section 7.2). It returns
// nil if it was released already.
func (a *Association) Release(ctx context.Context) error {
	end, err := a.begin(ctx)
	if err == ErrAssociationClosed {
		return nil
	}
	if err != nil {
		return err
	}
	defer end()
	a.conn.timer(a.artim)
	if _, err := a.fire(evt11, &pdu.ReleaseRQ{}); err != nil {
		return a.failSending(err)
	}
	for {
		p, err := a.receive()
		if err != nil {
			return err
		}
		switch a.machine.state {
		case sta1: // AR-3
			a.err = ErrAssociationClosed
			return nil
		case sta9: // the peer wants to release too; the requestor answers first
			if _, err := a.fire(evt14, &pdu.ReleaseRP{}); err != nil {
				return a.fail(err)
			}
		case sta12: // as acceptor: AR-10 has brought the answer, now give ours
			if _, err := a.fire(evt14, &pdu.ReleaseRP{}); err != nil {
				return a.fail(err)
			}
			a.err = ErrAssociationClosed
			a.linger()
			return nil
		case sta7, sta10, sta11: // AR-6: data that was under way is dropped
		default:
			return a.fail(breachf(breachUnexpectedPDU, "%s in %s", p.Type(), a.machine.state))
		}
	}
}
