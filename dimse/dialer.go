package dimse

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// Dialer opens associations as their requestor. Zero values mean the defaults
// named beside the fields. A Dialer may be used by many goroutines at once.
type Dialer struct {
	CallingAETitle dicom.AETitle
	CalledAETitle  dicom.AETitle
	// Contexts are proposed in this order, at most 128. To
	// send objects unchanged, give each transfer syntax a context of its own:
	// from several in one context the peer picks the one it likes.
	Contexts []ProposedContext
	// RoleSelections and UserIdentity are sent as they are.
	RoleSelections []pdu.RoleSelection
	UserIdentity   *pdu.UserIdentity
	// MaxPDU is the longest P-DATA-TF that we offer to receive; default 131072.
	MaxPDU uint32
	// MaxSendPDU is the longest P-DATA-TF that we send to a peer that accepts
	// longer ones; default 131072.
	MaxSendPDU uint32
	// DialTimeout bounds the TCP connection; default 10 s.
	DialTimeout time.Duration
	// ACSETimeout bounds the wait for the answer to A-ASSOCIATE-RQ and
	// A-RELEASE-RQ; default 30 s.
	ACSETimeout time.Duration
	// ReadTimeout bounds the wait for the response to a message; default 60 s.
	ReadTimeout time.Duration
	// WriteTimeout bounds how long the peer may take no bytes; default 30 s.
	WriteTimeout time.Duration
	// Log receives a line per association at debug level; nil: none.
	Log *slog.Logger
	// NetDial replaces net.Dialer, for TLS or tests.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Dial connects to addr ("host:port") and negotiates an association. A refusal
// is a *RejectedError, an abort an *AbortedError. ctx bounds Dial only, not the
// association.
func (d *Dialer) Dial(ctx context.Context, addr string) (*Association, error) {
	rq, err := d.request()
	if err != nil {
		return nil, err
	}
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// Sta1 to Sta4: the transport connection.
	m := machine{state: sta1, requestor: true}
	if _, err := m.step(evt1, false); err != nil {
		return nil, err
	}
	conn, err := d.connect(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dimse: connect to %s: %w", addr, err)
	}
	a := newAssociation(conn, true, rq.UserInformation.MaximumLength,
		orDefault(d.ReadTimeout, time.Minute), orDefault(d.WriteTimeout, 30*time.Second), log)
	a.machine = m
	a.conn.acknowledge = quickAcknowledge(conn) // DCMTK writes an answer in two pieces
	a.artim = orDefault(d.ACSETimeout, 30*time.Second)
	a.calling, a.called = d.CallingAETitle, d.CalledAETitle
	a.mu.Lock()
	defer a.mu.Unlock()

	stop := context.AfterFunc(ctx, func() { a.conn.interrupt(context.Cause(ctx)) })
	defer stop()
	if err := a.associate(rq); err != nil {
		return nil, fmt.Errorf("%w (%s at %s)", err, d.CalledAETitle, addr)
	}
	if most := a.peer.MaximumLength; d.MaxSendPDU > 0 && (most == 0 || most > d.MaxSendPDU) {
		if err := a.writer.SetMaxLength(d.MaxSendPDU); err != nil {
			return nil, a.fail(err)
		}
	}
	log.LogAttrs(ctx, slog.LevelDebug, "association opened", slog.String("association", a.id),
		slog.String("peer", addr), slog.String("called", string(d.CalledAETitle)),
		slog.Int("accepted", countAccepted(a.contexts)))
	return a, nil
}

// associate sends the A-ASSOCIATE-RQ and awaits the answer: Sta4 to Sta6.
func (a *Association) associate(rq *pdu.AssociateRQ) error {
	a.conn.timer(a.artim)
	if _, err := a.fire(evt2, rq); err != nil {
		return a.failSending(err)
	}
	p, err := a.receive()
	if err != nil {
		return err
	}
	ac, ok := p.(*pdu.AssociateAC)
	if !ok { // no other leaves Sta5 without an error
		return a.fail(breachf(breachUnexpectedPDU, "%s where A-ASSOCIATE-AC was due", p.Type()))
	}
	a.roles = agreedRoles(rq, ac)
	if err := a.negotiated(agreed(rq, ac), ac.UserInformation); err != nil {
		return a.fail(err)
	}
	return nil
}

func (d *Dialer) connect(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, orDefault(d.DialTimeout, 10*time.Second))
	defer cancel()
	dial := d.NetDial
	if dial == nil {
		dial = new(net.Dialer).DialContext // leaves TCP_NODELAY on, Go's default
	}
	return dial(ctx, "tcp", addr)
}

// request is the A-ASSOCIATE-RQ.
func (d *Dialer) request() (*pdu.AssociateRQ, error) {
	if len(d.Contexts) == 0 || len(d.Contexts) > pdu.MaxPresentationContexts {
		return nil, fmt.Errorf("dimse: %d presentation contexts to propose where 1 to %d are allowed", len(d.Contexts), pdu.MaxPresentationContexts)
	}
	for _, t := range []dicom.AETitle{d.CallingAETitle, d.CalledAETitle} {
		if _, err := dicom.ParseAETitle(string(t)); err != nil {
			return nil, fmt.Errorf("dimse: AE title %q: %w", t, err)
		}
	}
	rq := &pdu.AssociateRQ{
		Associate: pdu.Associate{
			ProtocolVersion:    pdu.ProtocolVersion,
			CalledAETitle:      pdu.AETitleField(d.CalledAETitle),
			CallingAETitle:     pdu.AETitleField(d.CallingAETitle),
			ApplicationContext: dicom.ApplicationContext,
		},
		UserInformation: pdu.UserInformation{
			MaximumLength:             orDefault(d.MaxPDU, defaultMaxPDU),
			ImplementationClassUID:    dicom.ImplementationClassUID,
			ImplementationVersionName: dicom.ImplementationVersionName,
			RoleSelections:            d.RoleSelections,
			UserIdentity:              d.UserIdentity,
		},
	}
	for i, c := range d.Contexts {
		if len(c.TransferSyntaxes) == 0 {
			return nil, fmt.Errorf("dimse: no transfer syntax to propose for %s", c.AbstractSyntax.Name())
		}
		rq.PresentationContexts = append(rq.PresentationContexts, pdu.PresentationContextRQ{
			ID: uint8(2*i + 1), AbstractSyntax: c.AbstractSyntax, TransferSyntaxes: c.TransferSyntaxes,
		})
	}
	return rq, nil
}

// agreed matches the answer with the proposal. A context that the answer leaves
// out, or accepts in a transfer syntax that was not proposed, is rejected.
func agreed(rq *pdu.AssociateRQ, ac *pdu.AssociateAC) []PresentationContext {
	contexts := make([]PresentationContext, 0, len(rq.PresentationContexts))
	for _, proposed := range rq.PresentationContexts {
		pc := PresentationContext{ID: proposed.ID, AbstractSyntax: proposed.AbstractSyntax, Result: pdu.NoReason}
		for _, answer := range ac.PresentationContexts {
			if answer.ID != proposed.ID {
				continue
			}
			pc.Result, pc.TransferSyntax = answer.Result, answer.TransferSyntax
			if pc.Result == pdu.Acceptance && !slices.Contains(proposed.TransferSyntaxes, pc.TransferSyntax) {
				pc.Result = pdu.TransferSyntaxesNotSupported
			}
			break
		}
		contexts = append(contexts, pc)
	}
	return contexts
}

// agreedRoles matches the roles in the answer with those proposed. A role that
// was not proposed is not granted (PS3.7 section D.3.3.4.2).
func agreedRoles(rq *pdu.AssociateRQ, ac *pdu.AssociateAC) []pdu.RoleSelection {
	var roles []pdu.RoleSelection
	for _, proposed := range rq.UserInformation.RoleSelections {
		for _, answer := range ac.UserInformation.RoleSelections {
			if answer.SOPClassUID == proposed.SOPClassUID {
				roles = append(roles, pdu.RoleSelection{
					SOPClassUID: proposed.SOPClassUID, SCU: proposed.SCU && answer.SCU, SCP: proposed.SCP && answer.SCP,
				})
				break
			}
		}
	}
	return roles
}
