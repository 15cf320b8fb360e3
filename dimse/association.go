package dimse

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

const (
	defaultMaxPDU = 128 << 10

	// abortTimeout bounds the sending of an A-ABORT and the wait for the peer's
	// close after it: ARTIM (PS3.8 section 9.1.4) where the association failed.
	// Without the wait our close would reset the connection, and the peer might
	// never read the A-ABORT.
	abortTimeout = time.Second
)

// Association is an association, on either side. The methods of a requestor's
// that exchange messages are for one goroutine at a time; Abort and the getters
// may be called from any. A [Handler] uses the getters, and Abort, only: the
// Server exchanges the messages of its associations itself.
type Association struct {
	id     string
	log    *slog.Logger
	conn   *transport
	reader *pdu.Reader
	writer *pdu.Writer
	artim  time.Duration // after A-ASSOCIATE-RJ and A-RELEASE-RP
	opened time.Time

	calling, called dicom.AETitle
	contexts        []PresentationContext
	accepted        [256]*PresentationContext // into contexts, by id
	peer            pdu.UserInformation
	roles           []pdu.RoleSelection // granted to the requestor
	unsupported     int                 // messages that nobody served

	// Of an acceptor's.
	reports          reports
	names            []string // of the peer's certificate
	rule             *quota   // that the peer was let in by
	user             string   // that the peer proved to be
	identityResponse []byte   // item 59H; nil: none

	mu      sync.Mutex // of a requestor: held by whoever drives the machine
	machine machine
	err     error  // why it ended, once it has; ErrAssociationClosed after a release
	lost    bool   // the stream has lost its frame: no more PDUs can be told apart
	lastID  uint16 // Message ID of the last request sent
	command []byte // buffer for a command set
}

func newAssociation(conn net.Conn, requestor bool, maxPDU uint32, stall, write time.Duration, log *slog.Logger) *Association {
	t := &transport{conn: conn, stall: stall, writeTimeout: write}
	a := &Association{
		id:      ulid.Make().String(),
		conn:    t,
		reader:  pdu.NewReader(t, maxPDU),
		writer:  pdu.NewWriter(t),
		machine: machine{state: sta1, requestor: requestor},
		opened:  time.Now(),
	}
	a.log = log.With("association", a.id, "peer", conn.RemoteAddr().String())
	return a
}

// ID names the association in logs: a ULID.
func (a *Association) ID() string { return a.id }

// CallingAETitle is the requestor's AE title, without padding; "" if blank.
func (a *Association) CallingAETitle() dicom.AETitle { return a.calling }

// CalledAETitle is the acceptor's AE title as the requestor wrote it, without
// padding; "" if blank.
func (a *Association) CalledAETitle() dicom.AETitle { return a.called }

// RemoteAddr is the peer's address.
func (a *Association) RemoteAddr() net.Addr { return a.conn.conn.RemoteAddr() }

// Contexts returns the presentation contexts as negotiated, rejected ones too.
func (a *Association) Contexts() []PresentationContext { return slices.Clone(a.contexts) }

// PeerMaxPDU is the longest P-DATA-TF variable field that the peer accepts, in
// bytes; 0 is no limit.
func (a *Association) PeerMaxPDU() uint32 { return a.peer.MaximumLength }

// PeerImplementationClassUID is the peer's, "" if it named none.
func (a *Association) PeerImplementationClassUID() dicom.UID { return a.peer.ImplementationClassUID }

// PeerImplementationVersionName is the peer's, "" if it named none.
func (a *Association) PeerImplementationVersionName() string { return a.peer.ImplementationVersionName }

// Accepts reports whether objects of SOP class sop can travel in transfer
// syntax ts on this association.
func (a *Association) Accepts(sop, ts dicom.UID) bool { return a.contextFor(sop, ts) != nil }

// contextFor returns the accepted context for sop in ts, or in any transfer
// syntax if ts is empty; nil if there is none.
func (a *Association) contextFor(sop, ts dicom.UID) *PresentationContext {
	for i := range a.contexts {
		pc := &a.contexts[i]
		if pc.Result == pdu.Acceptance && pc.AbstractSyntax == sop && (ts == "" || pc.TransferSyntax == ts) {
			return pc
		}
	}
	return nil
}

// negotiated keeps what both sides agreed on.
func (a *Association) negotiated(contexts []PresentationContext, peer pdu.UserInformation) error {
	a.contexts, a.peer = contexts, peer
	for i := range contexts {
		if contexts[i].Result == pdu.Acceptance {
			a.accepted[contexts[i].ID] = &contexts[i]
		}
	}
	return a.writer.SetMaxLength(peer.MaximumLength)
}

// Abort ends the association at once with an A-ABORT. A message in progress
// fails with ErrAssociationClosed. It does nothing if the association is over.
func (a *Association) Abort() error {
	a.conn.interrupt(ErrAssociationClosed)
	if !a.machine.requestor {
		return nil // the server's goroutine drives the machine, and has been told
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over() {
		_ = a.fail(ErrAssociationClosed)
	}
	return nil
}

// fire steps the machine on e and performs its action; p is the PDU that the
// action sends, if it sends one. Of Evt6, p is the rejection, or nil.
func (a *Association) fire(e event, p pdu.PDU) (action, error) {
	act, err := a.machine.step(e, p != nil)
	if err != nil {
		return act, err
	}
	does := actions[act].does
	rejected := act == ae6 && p != nil
	var failed error
	switch {
	case does&send != 0 && p != nil, rejected: // DT-1 comes without: the Writer sends its P-DATA-TFs
		failed = a.writer.WritePDU(p)
	case does&abortAsUser != 0:
		a.conn.lastWords(abortTimeout)
		failed = a.writer.WritePDU(&pdu.Abort{Source: pdu.AbortServiceUser})
	case does&abortAsService != 0:
		if does&startARTIM != 0 { // not AA-7, which must not prolong Sta13
			a.conn.lastWords(abortTimeout)
		}
		failed = a.writer.WritePDU(&pdu.Abort{Source: pdu.AbortServiceProvider, Reason: abortReason(e, a.err)})
	}
	if does&startARTIM != 0 || rejected {
		switch {
		case does&(abortAsUser|abortAsService) != 0: // it runs since lastWords
		case a.machine.state == sta13:
			a.conn.leave(a.artim)
		default:
			a.conn.timer(a.artim)
		}
	}
	if a.machine.state == sta1 {
		a.conn.conn.Close()
	}
	return act, failed
}

// abortReason is the Reason/Diag of an A-ABORT that follows e (PS3.8 9.3.8).
func abortReason(e event, cause error) pdu.AbortReason {
	kind := breachPDU
	var breach *protocolError
	switch {
	case e != evt19:
		kind = breachUnexpectedPDU
	case errors.As(cause, &breach):
		kind = breach.kind
	case errors.Is(cause, pdu.ErrUnrecognized):
		kind = breachUnknownPDU
	}
	return breaches[kind].reason
}

// over reports whether no message can be exchanged any more.
func (a *Association) over() bool { return a.err != nil }

// receive reads the next PDU and fires its event. It returns the PDUs that the
// local user is to see; when one ends the association, it returns why.
func (a *Association) receive() (pdu.PDU, error) {
	if a.over() {
		return nil, a.err
	}
	p, err := a.reader.Next()
	if err != nil {
		return nil, a.fail(err)
	}
	e := eventOf(p)
	before := a.machine.state
	switch transitions[e][before] {
	case aa1, aa8:
		return nil, a.failOn(e, breachf(breachUnexpectedPDU, "%s in %s", p.Type(), before))
	case ae4:
		rj := p.(*pdu.AssociateRJ)
		return nil, a.failOn(e, &RejectedError{Rejection{rj.Result, rj.Source, rj.Reason}})
	case aa2, aa3:
		abort := p.(*pdu.Abort)
		return nil, a.failOn(e, &AbortedError{abort.Source, abort.Reason})
	}
	_, err = a.fire(e, nil)
	return p, err
}

// eventOf is the event that the arrival of p is.
func eventOf(p pdu.PDU) event {
	switch p.Type() {
	case pdu.TypeAssociateRQ:
		return evt6
	case pdu.TypeAssociateAC:
		return evt3
	case pdu.TypeAssociateRJ:
		return evt4
	case pdu.TypePDataTF:
		return evt10
	case pdu.TypeReleaseRQ:
		return evt12
	case pdu.TypeReleaseRP:
		return evt13
	case pdu.TypeAbort:
		return evt16
	}
	return evt19
}

// fail ends the association because of err, by the event that err is: an
// invalid PDU, the loss of the connection, ARTIM, or else a decision of ours.
// It returns the error that the local user gets.
func (a *Association) fail(err error) error {
	if a.over() {
		return a.err
	}
	a.lost = true // we may be anywhere in the peer's stream
	var breach *protocolError
	switch {
	case errors.Is(err, pdu.ErrInvalid):
		return a.failOn(evt19, fmt.Errorf("%w: %w", ErrProtocol, err))
	case errors.As(err, &breach):
		return a.failOn(evt19, err)
	case errors.Is(err, ErrTimeout) && a.machine.state == sta2:
		return a.failOn(evt18, fmt.Errorf("no A-ASSOCIATE-RQ: %w", err))
	case isTransport(err):
		return a.failOn(evt17, fmt.Errorf("dimse: connection lost: %w", err))
	}
	if a.machine.state == sta2 { // nothing to abort yet: we merely hang up
		return a.failOn(evt18, err)
	}
	return a.failOn(evt15, err)
}

// isTransport reports whether err is a loss of the connection, and not of the
// reader that a data set came from.
func isTransport(err error) bool {
	var (
		source *pdu.SourceError
		op     *net.OpError
	)
	if errors.As(err, &source) {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || errors.As(err, &op)
}

// failOn ends the association with the given event and error.
func (a *Association) failOn(e event, err error) error {
	a.err = err
	if _, ferr := a.fire(e, nil); ferr != nil {
		// The A-ABORT could not be sent, or there was nobody to send it to.
		a.machine.state = sta1
	}
	a.linger()
	return err
}

// linger awaits the peer's close in Sta13, until ARTIM, and closes.
func (a *Association) linger() {
	for a.machine.state == sta13 {
		var (
			p   pdu.PDU
			err error
		)
		if a.lost {
			_, err = io.Copy(io.Discard, a.conn)
			if err == nil {
				err = io.EOF
			}
		} else {
			p, err = a.reader.Next()
		}
		e := evt17
		switch {
		case err == nil:
			e = eventOf(p)
		case errors.Is(err, pdu.ErrInvalid):
			e, a.lost = evt19, true
		case errors.Is(err, ErrTimeout):
			e = evt18
		}
		if _, err := a.fire(e, nil); err != nil {
			break // AA-7 found nobody to send to
		}
	}
	a.machine.state = sta1
	a.conn.conn.Close()
}
