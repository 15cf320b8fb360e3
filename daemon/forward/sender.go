package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"ichwatch/daemon/spool"
	"ichwatch/daemon/transcode"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// Sender talks to one destination. One goroutine uses it.
type Sender interface {
	// Connect makes sure of an association on which the instance was proposed.
	Connect(ctx context.Context, i spool.Instance) error

	// Accepts says whether the destination takes a SOP class in a transfer syntax,
	// over the association that Connect has made sure of.
	Accepts(class, syntax dicom.UID) bool

	// Send stores an instance, in the transfer syntax that it names, and returns the destination's answer. The error
	// matches dimse.ErrNoPresentationContext if the destination does not take
	// instances of this kind in their transfer syntax. After any other error
	// the association is gone.
	Send(ctx context.Context, i spool.Instance, data io.Reader) (dimse.Result, error)

	// Release ends the association in good order, if there is one.
	Release(ctx context.Context) error

	// Probe asks, over an association of its own, whether the destination is there.
	Probe(ctx context.Context) error
}

// SCU is the Sender over DICOM's own protocol: a service class user of the
// Storage service (PS3.4 Annex B).
type SCU struct {
	// Addr is the destination, "host:port".
	Addr string
	// Dialer has the AE titles and time-outs; its Contexts are set by Connect.
	Dialer dimse.Dialer
	// Transcode proposes Explicit VR Little Endian, too, for what can be rewritten in it.
	Transcode bool

	association *dimse.Association
	proposed    []dimse.ProposedContext
}

// maxContexts is how many presentation contexts an association can have: the
// odd numbers of a byte (PS3.8 section 9.3.2.2).
const maxContexts = 128

// Connect implements Sender. An association proposes one context for each pair
// of SOP class and transfer syntax that this destination has met so far, with
// that syntax alone, so that the destination cannot choose another.
func (c *SCU) Connect(ctx context.Context, i spool.Instance) error {
	wanted := []dicom.UID{i.TransferSyntaxUID}
	if c.Transcode && transcode.Takes(i.TransferSyntaxUID) {
		wanted = append(wanted, transcode.Target)
	}
	known := true
	for _, syntax := range wanted {
		known = known && slices.ContainsFunc(c.proposed, func(p dimse.ProposedContext) bool {
			return p.AbstractSyntax == i.SOPClassUID && p.TransferSyntaxes[0] == syntax
		})
	}
	if known && c.association != nil {
		return nil
	}
	_ = c.Release(ctx) // one that does not end in good order has ended all the same
	for _, syntax := range wanted {
		c.propose(i.SOPClassUID, syntax)
	}
	dialer := c.Dialer
	dialer.Contexts = c.proposed
	association, err := dialer.Dial(ctx, c.Addr)
	if err != nil {
		return err
	}
	c.association = association
	return nil
}

// propose puts a pair behind all others; the oldest gives way.
func (c *SCU) propose(class, syntax dicom.UID) {
	c.proposed = slices.DeleteFunc(c.proposed, func(p dimse.ProposedContext) bool {
		return p.AbstractSyntax == class && p.TransferSyntaxes[0] == syntax
	})
	if len(c.proposed) == maxContexts {
		c.proposed = slices.Delete(c.proposed, 0, 1)
	}
	c.proposed = append(c.proposed, dimse.ProposedContext{AbstractSyntax: class, TransferSyntaxes: []dicom.UID{syntax}})
}

// Accepts implements Sender.
func (c *SCU) Accepts(class, syntax dicom.UID) bool {
	return c.association != nil && c.association.Accepts(class, syntax)
}

// Send implements Sender.
func (c *SCU) Send(ctx context.Context, i spool.Instance, data io.Reader) (dimse.Result, error) {
	if c.association == nil {
		return dimse.Result{}, dimse.ErrAssociationClosed
	}
	syntax, ok := dicom.LookupTransferSyntax(i.TransferSyntaxUID)
	if !ok { // a later release of the standard; what is sent is sent as it lies there
		syntax = dicom.TransferSyntax{UID: i.TransferSyntaxUID}
	}
	// Without a Move Originator, even where the instance came with one: its C-MOVE
	// ended with our answer, and this C-STORE is none of its sub-operations (PS3.7
	// section 9.1.1.1).
	result, err := c.association.Store(ctx, dimse.CStoreRQ{
		SOPClassUID: i.SOPClassUID, SOPInstanceUID: i.SOPInstanceUID, TransferSyntax: syntax,
	}, data)
	if err != nil && !errors.Is(err, dimse.ErrNoPresentationContext) {
		c.abort()
	}
	return result, err
}

// abort drops an association that is of no more use. Store has aborted it
// already in most cases; what Abort says of that helps nobody.
func (c *SCU) abort() {
	_ = c.association.Abort()
	c.association = nil
}

// Release implements Sender.
func (c *SCU) Release(ctx context.Context) error {
	if c.association == nil {
		return nil
	}
	if err := c.association.Release(ctx); err != nil {
		c.abort()
		return fmt.Errorf("release the association: %w", err)
	}
	c.association = nil
	return nil
}

// Probe implements Sender with a C-ECHO (PS3.4 Annex A). A destination that takes
// associations and no C-ECHO is there, too.
func (c *SCU) Probe(ctx context.Context) error {
	dialer := c.Dialer
	dialer.Contexts = []dimse.ProposedContext{{AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}}}
	a, err := dialer.Dial(ctx, c.Addr)
	if err != nil {
		return err
	}
	switch status, err := a.Echo(ctx); {
	case errors.Is(err, dimse.ErrNoPresentationContext):
	case err != nil:
		_ = a.Abort() // Echo has done so already
		return err
	case status != dimse.StatusSuccess:
		_ = a.Release(ctx) // what it has answered counts
		return &answeredError{status}
	}
	if err := a.Release(ctx); err != nil {
		_ = a.Abort() // likewise
	}
	return nil
}
