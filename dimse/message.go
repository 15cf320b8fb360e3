package dimse

import (
	"errors"
	"fmt"
	"io"

	"ichwatch/dimse/command"
	"ichwatch/dimse/pdu"
)

// maxCommandFragments bounds the fragments of one command set, which may be
// empty and would otherwise never end.
const maxCommandFragments = 256

// errReleaseRequested is why no message came: the peer wants to release.
var errReleaseRequested = errors.New("dimse: release requested")

// nextPDV returns the next PDV, of the P-DATA-TF at hand or the next one.
func (a *Association) nextPDV() (pdu.PDV, error) {
	for {
		v, err := a.reader.NextPDV()
		switch {
		case err == nil:
			return v, nil
		case err != io.EOF:
			return v, a.fail(err)
		}
		p, err := a.receive()
		if err != nil {
			return v, err
		}
		switch p.Type() {
		case pdu.TypePDataTF:
		case pdu.TypeReleaseRQ:
			return v, errReleaseRequested
		default: // no other reaches us in Sta6
			return v, a.fail(breachf(breachUnexpectedPDU, "%s where a message was due", p.Type()))
		}
	}
}

// readCommand reads the command set of the next message and returns the context
// it came on. It returns errReleaseRequested if the peer wants to release
// instead.
func (a *Association) readCommand() (*PresentationContext, command.Message, error) {
	var pc *PresentationContext
	set := a.command[:0]
	for fragments := 0; ; fragments++ {
		v, err := a.nextPDV()
		if err == errReleaseRequested && fragments > 0 {
			err = a.fail(breachf(breachUnexpectedPDU, "A-RELEASE-RQ within a command set"))
		}
		if err != nil {
			return nil, nil, err
		}
		a.conn.message()
		if fragments == 0 {
			pc = a.accepted[v.ContextID]
		}
		switch {
		case !v.Command:
			err = breachf(breachFragment, "a data set fragment where a command was due")
		case pc == nil:
			err = breachf(breachContext, "a message on presentation context %d, which is not accepted", v.ContextID)
		case pc.ID != v.ContextID:
			err = breachf(breachContext, "a command set on two presentation contexts, %d and %d", pc.ID, v.ContextID)
		case len(set)+int(min(v.Length, command.MaxLength+1)) > command.MaxLength || fragments == maxCommandFragments:
			err = breachf(breachCommand, "a command set of more than %d bytes or %d fragments", command.MaxLength, maxCommandFragments)
		}
		if err != nil {
			return nil, nil, a.fail(err)
		}
		begin := len(set)
		set = append(set, make([]byte, v.Length)...)
		if _, err := io.ReadFull(a.reader, set[begin:]); err != nil {
			return nil, nil, a.fail(err)
		}
		a.command = set
		if v.Last {
			break
		}
	}
	m, err := command.Unmarshal(set)
	if err != nil {
		return nil, nil, a.fail(breachf(breachCommand, "%v", err))
	}
	return pc, m, nil
}

// dataSet reads the data set of a message as it arrives.
type dataSet struct {
	a         *Association
	contextID uint8
	max       int64 // what the fragments may take, headers included
	taken     int64
	size      int64 // read so far
	last      bool  // the fragment at hand is the last one
	err       error // final: io.EOF at the end
}

func (a *Association) newDataSet(contextID uint8, maxSize int64) *dataSet {
	return &dataSet{a: a, contextID: contextID, max: maxSize}
}

// Read yields the bytes of the data set; io.EOF at its end.
func (d *dataSet) Read(b []byte) (int, error) {
	if len(b) == 0 || d.err != nil {
		return 0, d.err
	}
	for {
		n, err := d.a.reader.Read(b)
		d.size += int64(n)
		switch {
		case n > 0:
			return n, nil
		case err == io.EOF && d.last:
			d.err = io.EOF
		case err == io.EOF:
			d.err = d.next()
		default:
			d.err = d.a.fail(err)
		}
		if d.err != nil {
			return 0, d.err
		}
	}
}

// next advances to the next fragment.
func (d *dataSet) next() error {
	v, err := d.a.nextPDV()
	if err == errReleaseRequested {
		return d.a.fail(breachf(breachUnexpectedPDU, "A-RELEASE-RQ within a data set"))
	}
	if err != nil {
		return err
	}
	d.a.conn.message()
	// Headers count: a chain of empty fragments comes to its end too.
	d.taken += pdu.PDVHeaderLength + int64(v.Length)
	switch {
	case v.Command:
		err = breachf(breachFragment, "a command fragment within a data set")
	case v.ContextID != d.contextID:
		err = breachf(breachContext, "a message on two presentation contexts, %d and %d", d.contextID, v.ContextID)
	case d.taken > d.max:
		err = fmt.Errorf("%w of %d bytes", ErrObjectTooLarge, d.max)
	}
	if err != nil {
		return d.a.fail(err)
	}
	d.last = v.Last
	return nil
}

// drain reads what is left.
func (d *dataSet) drain() error {
	_, err := io.Copy(io.Discard, d)
	return err
}

// send sends a message without a data set.
func (a *Association) send(contextID uint8, m command.Message) error {
	if err := a.gather(contextID, m); err != nil {
		return err
	}
	return a.flush()
}

// gather prepares the command set of a message for sending.
func (a *Association) gather(contextID uint8, m command.Message) error {
	if a.over() {
		return a.err
	}
	set, err := command.Marshal(m)
	if err != nil {
		return a.fail(err)
	}
	if _, err := a.fire(evt9, nil); err != nil {
		return err
	}
	if err := a.writer.WriteCommand(contextID, set); err != nil {
		return a.failSending(err)
	}
	return nil
}

func (a *Association) flush() error {
	if err := a.writer.Flush(); err != nil {
		return a.failSending(err)
	}
	return nil
}

// failSending ends the association after a failed write. A peer that aborts
// while we send closes its end, and our write fails before we have read its
// A-ABORT: it is looked for, as it says more than a broken pipe.
func (a *Association) failSending(err error) error {
	if !isTransport(err) || a.over() {
		return a.fail(err)
	}
	a.conn.timer(abortTimeout)
	for {
		p, rerr := a.reader.Next()
		if rerr != nil {
			return a.fail(err)
		}
		if abort, ok := p.(*pdu.Abort); ok {
			return a.failOn(evt16, &AbortedError{abort.Source, abort.Reason})
		}
	}
}
