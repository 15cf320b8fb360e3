package pdu

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// readBuffer is the Reader's buffer: one read from the socket takes in half of
// the longest PDU that we offer.
const readBuffer = 64 << 10

// Reader reads PDUs from a stream. [Reader.Next] advances to the next PDU; in a
// P-DATA-TF, [Reader.NextPDV] advances to its next PDV, whose fragment
// [Reader.Read] then yields. What is left unread is skipped.
//
// An error other than io.EOF from NextPDV is final: the stream has lost its
// frame, and every later call returns the same error.
type Reader struct {
	r         *bufio.Reader
	maxLength uint32
	header    [PDVHeaderLength]byte
	pdata     PDataTF
	pduLeft   uint32 // bytes of the P-DATA-TF not yet read, without pdvLeft
	pdvLeft   uint32 // bytes of the fragment not yet read
	err       error
}

// NewReader returns a Reader that refuses a P-DATA-TF longer than maxLength,
// the maximum length that we offered; 0 is no limit.
func NewReader(r io.Reader, maxLength uint32) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, readBuffer), maxLength: maxLength}
}

// Next skips what is left of the current PDU and reads the next one: whole, or
// in case of a *PDataTF its header only; that value is overwritten by the next
// call. It returns io.EOF where the stream ends between two PDUs,
// io.ErrUnexpectedEOF where it ends within one, an *Error for bytes that are
// no PDU.
func (r *Reader) Next() (PDU, error) {
	if r.err != nil {
		return nil, r.err
	}
	p, err := r.next()
	r.err = err
	return p, err
}

func (r *Reader) next() (PDU, error) {
	if err := r.skip(r.pdvLeft); err != nil {
		return nil, err
	}
	if err := r.skip(r.pduLeft); err != nil {
		return nil, err
	}
	r.pdvLeft, r.pduLeft = 0, 0

	h := r.header[:HeaderLength]
	if _, err := io.ReadFull(r.r, h); err != nil {
		return nil, err
	}
	t, length := Type(h[0]), binary.BigEndian.Uint32(h[2:])
	limit := uint32(4)
	switch t {
	case TypePDataTF:
		if length == 0 {
			return nil, &Error{t, "no PDV in it"}
		}
		if r.maxLength > 0 && length > r.maxLength {
			return nil, &Error{t, fmt.Sprintf("claims %d bytes where we accept %d", length, r.maxLength)}
		}
		r.pduLeft = length
		r.pdata.Length = length
		return &r.pdata, nil
	case TypeAssociateRQ, TypeAssociateAC:
		limit = MaxAssociateLength
	case TypeAssociateRJ, TypeReleaseRQ, TypeReleaseRP, TypeAbort:
	default:
		return nil, &Error{t, "not a type that PS3.8 defines"}
	}
	if length > limit {
		return nil, &Error{t, fmt.Sprintf("claims %d bytes where we accept %d", length, limit)}
	}
	var body bytes.Buffer // grows with what arrives, not with what is claimed
	if _, err := io.CopyN(&body, r.r, int64(length)); err != nil {
		return nil, unexpected(err)
	}
	return decode(t, body.Bytes())
}

// Await waits until the next PDU or PDV begins to arrive and reads nothing of it.
// Its error, unlike that of Next, is not final: of a caller whose patience came
// to its end, the stream is where it was.
func (r *Reader) Await() error {
	if r.err != nil {
		return r.err
	}
	_, err := r.r.Peek(1)
	return err
}

// NextPDV skips what is left of the current PDV and reads the header of the
// next one; io.EOF when the P-DATA-TF has no more.
func (r *Reader) NextPDV() (PDV, error) {
	if r.err != nil {
		return PDV{}, r.err
	}
	if err := r.skip(r.pdvLeft); err != nil {
		r.err = err
		return PDV{}, err
	}
	r.pdvLeft = 0
	if r.pduLeft == 0 {
		return PDV{}, io.EOF
	}
	pdv, err := r.nextPDV()
	r.err = err
	return pdv, err
}

func (r *Reader) nextPDV() (PDV, error) {
	if r.pduLeft < PDVHeaderLength {
		return PDV{}, &Error{TypePDataTF, fmt.Sprintf("%d bytes after the last PDV", r.pduLeft)}
	}
	h := r.header[:]
	if _, err := io.ReadFull(r.r, h); err != nil {
		return PDV{}, unexpected(err)
	}
	r.pduLeft -= PDVHeaderLength
	// The item's length counts context id and message control header too.
	length := int64(binary.BigEndian.Uint32(h)) - 2
	if length < 0 || length > int64(r.pduLeft) {
		return PDV{}, &Error{TypePDataTF, fmt.Sprintf("a PDV claims %d bytes where %d remain", length+2, int64(r.pduLeft)+2)}
	}
	r.pduLeft -= uint32(length)
	r.pdvLeft = uint32(length)
	return PDV{ContextID: h[4], Command: h[5]&1 != 0, Last: h[5]&2 != 0, Length: uint32(length)}, nil
}

// Read reads from the fragment of the current PDV; io.EOF at its end.
func (r *Reader) Read(b []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.pdvLeft == 0 {
		return 0, io.EOF
	}
	if uint64(len(b)) > uint64(r.pdvLeft) {
		b = b[:r.pdvLeft]
	}
	n, err := r.r.Read(b)
	r.pdvLeft -= uint32(n)
	if err != nil {
		err = unexpected(err)
		r.err = err
	}
	return n, err
}

func (r *Reader) skip(n uint32) error {
	for n > 0 {
		m, err := r.r.Discard(int(min(n, 1<<30))) // an int may have 32 bits
		n -= uint32(m)
		if err != nil {
			return unexpected(err)
		}
	}
	return nil
}

// unexpected is for a stream that ends where it must not.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
