package dicom

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
)

// Limits of Scan where ScanOptions names no others.
const (
	DefaultMaxHeader = 16 << 20
	DefaultMaxValue  = 64 << 10
)

// maxDepth is how deep sequences of undefined length may nest.
const maxDepth = 64

// ScanOptions says what Scan keeps and where it gives up. The zero value keeps
// every element of the top level within the default limits.
type ScanOptions struct {
	// Want reports whether an element of the top level is kept; nil keeps all.
	Want func(Tag) bool
	// MaxHeader is how many bytes of the (inflated) data set may come before
	// the pixels; 0 means DefaultMaxHeader.
	MaxHeader int64
	// MaxValue is the length of the longest value that is kept; 0 means
	// DefaultMaxValue. Longer ones are noted without their value.
	MaxValue int
	// Sequences are the sequences of the top level that are entered: each
	// function gets its sequence's items as they come, with the elements of the
	// item's own level. Such a sequence is not among Header.Elements. An error
	// of a function ends the scan and is returned as it is.
	Sequences map[Tag]func(item *Header) error
}

// What can be wrong with a data set. Each matches ErrMalformed, and each comes
// in a *MalformedError that tells where.
var (
	ErrMalformed = errors.New("dicom: malformed data set")
	ErrTruncated = fmt.Errorf("%w: ends inside an element", ErrMalformed)
	ErrTooLarge  = fmt.Errorf("%w: too many bytes before the pixels", ErrMalformed)
	ErrTooDeep   = fmt.Errorf("%w: sequences nested deeper than %d", ErrMalformed, maxDepth)
	ErrOrder     = fmt.Errorf("%w: tags not in ascending order", ErrMalformed)
	ErrTag       = fmt.Errorf("%w: tag not allowed here", ErrMalformed)
	ErrVR        = fmt.Errorf("%w: no value representation", ErrMalformed)
	ErrLength    = fmt.Errorf("%w: length not allowed here", ErrMalformed)
	ErrDeflate   = fmt.Errorf("%w: no deflate stream", ErrMalformed)
)

// MalformedError tells where a data set is malformed. It matches ErrMalformed
// and the sentinel in Reason.
type MalformedError struct {
	Tag    Tag   // of the element at fault, or of the last one before it
	Offset int64 // of that element, in bytes of the (inflated) data set
	Reason error // one of the sentinels above
}

func (e *MalformedError) Error() string {
	return fmt.Sprintf("%v: element %v at offset %d", e.Reason, e.Tag, e.Offset)
}

func (e *MalformedError) Unwrap() error { return e.Reason }

// Scan reads a data set from r up to the value of its pixel data, or to its end
// if it has none, and keeps the elements that o wants. It reads r in
// pieces of 16 KiB and so a little beyond; the rest is for the caller to drain.
//
// The header is never nil: after an error it holds what came before the fault.
// A malformed data set gives a *MalformedError; an error of r itself is wrapped.
//
// Whatever r yields, Scan neither recurses nor allocates more than a small
// multiple of the bytes that r has yielded.
func Scan(r io.Reader, ts TransferSyntax, o ScanOptions) (*Header, error) {
	source := &source{r: r}
	s := newScanner(ts, o)
	s.window.source, s.window.r = source, source
	if ts.Deflated {
		s.window.r = flate.NewReader(source)
	}
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	s.window.buf = buffer[:0]

	err := s.dataSet()
	if failure := source.failure(); err == nil && failure != nil {
		err = s.fail(failure) // met while reading ahead
	}
	return s.header, err
}

// ScanBytes is Scan of a data set that is in memory. The values in the header
// are sub-slices of b, except in a deflated transfer syntax.
func ScanBytes(b []byte, ts TransferSyntax, o ScanOptions) (*Header, error) {
	if ts.Deflated {
		return Scan(bytes.NewReader(b), ts, o)
	}
	s := newScanner(ts, o)
	s.window.buf = b
	return s.header, s.dataSet()
}

type scanner struct {
	window   window
	header   *Header
	want     func(Tag) bool
	limit    int64 // of the bytes before the pixels
	maxValue uint32
	meta     bool // group 0002 is allowed: file meta information
	entered  map[Tag]func(*Header) error

	element Element // the one being looked at
	start   int64   // where it starts
}

func newScanner(ts TransferSyntax, o ScanOptions) *scanner {
	if o.MaxHeader <= 0 {
		o.MaxHeader = DefaultMaxHeader
	}
	if o.MaxValue <= 0 {
		o.MaxValue = DefaultMaxValue
	}
	return &scanner{
		header:   &Header{TransferSyntax: ts, Elements: make([]Element, 0, 32)},
		want:     o.Want,
		entered:  o.Sequences,
		limit:    o.MaxHeader,
		maxValue: uint32(min(int64(o.MaxValue), int64(UndefinedLength)-1)),
	}
}

// dataSet walks the top level.
func (s *scanner) dataSet() error {
	enc := encoding{explicit: s.header.TransferSyntax.ExplicitVR, big: s.header.TransferSyntax.BigEndian}
	e := &s.element
	last := int64(-1)
	for {
		if !s.window.fill(1) {
			if err := s.window.failure(); err != nil {
				return s.fail(err)
			}
			return nil
		}
		if err := s.next(enc); err != nil {
			return err
		}
		switch {
		case int64(e.Tag) <= last:
			return s.fail(ErrOrder)
		case e.Tag.isPixelData():
			if e.Length == UndefinedLength && !s.header.TransferSyntax.Encapsulated {
				return s.fail(ErrLength)
			}
			s.header.PixelData = e.Tag
			s.header.PixelDataOffset = s.window.offset()
			s.header.PixelDataLength = e.Length
			return nil
		case !s.allowed(e.Tag):
			return s.fail(ErrTag)
		}

		last = int64(e.Tag)
		if do := s.entered[e.Tag]; do != nil {
			if err := s.items(enc, do); err != nil {
				return err
			}
			continue
		}
		wanted := s.want == nil || s.want(e.Tag)
		switch {
		case e.Length == UndefinedLength:
			if wanted {
				s.header.Elements = append(s.header.Elements, *e)
			}
			if err := s.sequence(enc); err != nil {
				return err
			}
		case wanted && e.Length <= s.maxValue:
			if err := s.take(); err != nil {
				return err
			}
			s.header.Elements = append(s.header.Elements, *e)
		default:
			if err := s.skip(e.Length); err != nil {
				return err
			}
			if wanted {
				s.header.Elements = append(s.header.Elements, *e)
			}
		}
	}
}

// allowed reports whether a data set may have t at its top level. Groups 0000
// and 0002 belong to commands and to file meta information (PS3.5 Section 7.1).
func (s *scanner) allowed(t Tag) bool {
	switch t.Group() {
	case 0x0002:
		return s.meta
	case 0x0000, 0xFFFE, 0xFFFF:
		return false
	}
	return true
}

// sequence walks a value of undefined length: items, and in items of undefined
// length elements, which may in turn have an undefined length (PS3.5 Section
// 7.5). Values of defined length are skipped, sequences among them. What nests
// alternates between sequence and item, so a depth is all the state there is.
func (s *scanner) sequence(outer encoding) error {
	if err := s.open(outer); err != nil {
		return err
	}
	// A UN of undefined length holds Implicit VR Little Endian, whatever the
	// transfer syntax (PS3.5 Section 6.2.2).
	enc, unknownAt := outer, 0
	if s.element.VR == "UN" {
		enc, unknownAt = encoding{}, 1
	}
	inItem := false
	e := &s.element
	for depth := 1; depth > 0; {
		if err := s.next(enc); err != nil {
			return err
		}
		switch {
		case e.Tag == tagItem && !inItem:
			if e.Length == UndefinedLength {
				inItem = true
			} else if err := s.skip(e.Length); err != nil {
				return err
			}
		case e.Tag == tagSequenceDelimitationItem && !inItem && e.Length == 0:
			if depth == unknownAt {
				enc, unknownAt = outer, 0
			}
			depth--
			inItem = true // back in the item that holds the sequence
		case e.Tag == tagItemDelimitationItem && inItem && e.Length == 0:
			inItem = false
		case e.Tag.Group() == 0xFFFE || !inItem:
			return s.fail(ErrTag)
		case e.Length == UndefinedLength:
			if err := s.open(enc); err != nil {
				return err
			}
			if depth++; depth > maxDepth {
				return s.fail(ErrTooDeep)
			}
			if unknownAt == 0 && e.VR == "UN" {
				enc, unknownAt = encoding{}, depth
			}
			inItem = false
		default:
			if err := s.skip(e.Length); err != nil {
				return err
			}
		}
	}
	return nil
}

// open checks that the element may have an undefined length: a sequence, what
// may be one, and encapsulated pixels of an icon.
func (s *scanner) open(enc encoding) error {
	if !enc.explicit {
		return nil
	}
	switch s.element.VR {
	case "SQ", "UN", "OB", "OW":
		return nil
	}
	return s.fail(ErrLength)
}

// fail returns reason at the element being looked at, or the reader's own error
// where that is what happened.
func (s *scanner) fail(reason error) error {
	if !errors.Is(reason, ErrMalformed) {
		return fmt.Errorf("dicom: read data set at offset %d: %w", s.window.offset(), reason)
	}
	return &MalformedError{Tag: s.element.Tag, Offset: s.start, Reason: reason}
}
