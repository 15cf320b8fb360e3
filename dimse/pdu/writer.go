package pdu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// MaxSendLength bounds the P-DATA-TFs that we send to a peer that accepts
	// longer ones or has no limit.
	MaxSendLength = 128 << 10

	// MinSendLength holds a PDV's header and the two bytes without which a data
	// set, of even length always, makes no progress.
	MinSendLength = PDVHeaderLength + 2

	// commandRoom lets a command set share its write with the longest PDU.
	commandRoom = 1 << 10

	// writeBuffer gathers PDUs of a peer that accepts short ones only: it is
	// the writes to the socket that cost, not the PDUs.
	writeBuffer = 64 << 10

	// maxIdleReads is how often in a row a reader may yield nothing.
	maxIdleReads = 100
)

// ErrOddLength: a data set of odd length cannot be sent, as a fragment must be
// even (PS3.8 Annex E.1). Peers abort the association over it.
var ErrOddLength = errors.New("the data set has an odd length")

// SourceError is the error of the reader that a data set was to come from, as
// distinct from one of the connection.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read the data set to send: " + e.Err.Error() }

// Unwrap returns the reader's error.
func (e *SourceError) Unwrap() error { return e.Err }

// Writer writes PDUs to a stream and gathers them into as few writes as its
// buffer allows; [Writer.Flush] ends each message.
type Writer struct {
	w         io.Writer
	maxLength int // of the variable field of a P-DATA-TF
	buf       []byte
}

// NewWriter returns a Writer whose P-DATA-TFs are no longer than
// [DefaultMaximumLength], until SetMaxLength says what the peer accepts.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, maxLength: DefaultMaximumLength} }

// SetMaxLength sets the maximum length that the peer sent in its item 51H;
// 0 is no limit. It fails where no message could be sent at all.
func (w *Writer) SetMaxLength(n uint32) error {
	switch {
	case n == 0 || n > MaxSendLength:
		n = MaxSendLength
	case n < MinSendLength:
		return fmt.Errorf("pdu: a maximum length of %d leaves no room for data", n)
	}
	w.maxLength = int(n)
	return nil
}

// WritePDU writes p, and what was gathered before, at once.
func (w *Writer) WritePDU(p PDU) error {
	b, err := Append(w.buf, p)
	if err != nil {
		return err
	}
	w.buf = b
	return w.Flush()
}

// WriteCommand gathers a command set as P-DATA-TFs of one PDV each.
func (w *Writer) WriteCommand(contextID uint8, set []byte) error {
	for {
		n := min(len(set), w.fragment())
		w.buf = appendPDataTF(w.buf, PDV{contextID, true, n == len(set), uint32(n)})
		w.buf = append(w.buf, set[:n]...)
		set = set[n:]
		if len(set) == 0 {
			return nil
		}
	}
}

// WriteDataSet writes a data set as P-DATA-TFs of one PDV each, as r yields
// it, to its io.EOF, and returns its length. The last PDUs may remain
// gathered. An error of r is returned as a *SourceError.
func (w *Writer) WriteDataSet(contextID uint8, r io.Reader) (int64, error) {
	const header = HeaderLength + PDVHeaderLength
	var (
		fragment = w.fragment()
		total    int64
		ahead    [1]byte // read beyond the fragment, to know whether it is the last
		have     int
	)
	for {
		if err := w.reserve(header + fragment + 1); err != nil {
			return total, err
		}
		at := len(w.buf) + header
		room := w.buf[at : at+fragment+1] // within the capacity
		copy(room, ahead[:have])
		n, err := fill(r, room, have)
		last := err == io.EOF
		switch {
		case last && n%2 != 0:
			return total, &SourceError{ErrOddLength}
		case last:
		case err != nil:
			return total, &SourceError{err}
		default:
			n--
			ahead[0], have = room[n], 1
		}
		w.buf = appendPDataTF(w.buf, PDV{contextID, false, last, uint32(n)})
		w.buf = w.buf[:len(w.buf)+n]
		total += int64(n)
		if last {
			return total, nil
		}
	}
}

// fill reads into room beyond the n bytes that it holds, until it is full. Other
// than with io.ReadFull, io.EOF means the end of r and nothing else does: a file
// that was cut short says io.ErrUnexpectedEOF.
func fill(r io.Reader, room []byte, n int) (int, error) {
	for idle := 0; n < len(room); idle++ {
		m, err := r.Read(room[n:])
		n += m
		switch {
		case err == io.EOF && n == len(room):
			return n, nil // it comes again
		case err != nil:
			return n, err
		case m > 0:
			idle = 0
		case idle == maxIdleReads:
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// reserve makes room for n more bytes: in a new buffer while the old one is
// small, else by writing what was gathered.
func (w *Writer) reserve(n int) error {
	if size := max(n+commandRoom, writeBuffer); cap(w.buf) < size {
		w.buf = append(make([]byte, 0, size), w.buf...)
	}
	if cap(w.buf)-len(w.buf) >= n {
		return nil
	}
	return w.Flush()
}

// Flush writes what was gathered.
func (w *Writer) Flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.w.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// fragment is the longest fragment, of even length, that fits into a P-DATA-TF.
func (w *Writer) fragment() int { return (w.maxLength - PDVHeaderLength) &^ 1 }

// appendPDataTF appends the headers of a P-DATA-TF that holds the one PDV.
func appendPDataTF(b []byte, v PDV) []byte {
	b = append(b, byte(TypePDataTF), 0)
	b = binary.BigEndian.AppendUint32(b, v.Length+PDVHeaderLength)
	b = binary.BigEndian.AppendUint32(b, v.Length+2)
	return append(b, v.ContextID, bit(v.Command)|bit(v.Last)<<1)
}
