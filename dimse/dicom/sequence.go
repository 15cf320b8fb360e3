package dicom

import "math"

// items walks the sequence that s.element opens and hands each of its items to
// do. A sequence and its items may have a defined or an undefined length
// (PS3.5 Section 7.5); nothing may reach beyond what holds it.
func (s *scanner) items(outer encoding, do func(item *Header) error) error {
	enc := outer
	if outer.explicit {
		switch s.element.VR {
		case "SQ":
		case "UN": // holds Implicit VR Little Endian (PS3.5 Section 6.2.2)
			enc = encoding{}
		default:
			return s.fail(ErrVR)
		}
	}
	end, err := s.end(s.element.Length, math.MaxInt64)
	if err != nil {
		return err
	}
	undefined := s.element.Length == UndefinedLength
	for undefined || s.window.offset() < end {
		if err := s.nextWithin(enc, end); err != nil {
			return err
		}
		switch e := s.element; {
		case e.Tag == tagItem:
			item, err := s.item(enc, end)
			if err != nil {
				return err
			}
			if err := do(item); err != nil {
				return err
			}
		case e.Tag == tagSequenceDelimitationItem && undefined && e.Length == 0:
			return nil
		default:
			return s.fail(ErrTag)
		}
	}
	return nil
}

// item reads the elements of the item that s.element opens; they end before
// limit. Of a sequence within it, the walk alone is done.
func (s *scanner) item(enc encoding, limit int64) (*Header, error) {
	h := &Header{TransferSyntax: s.header.TransferSyntax}
	if !enc.explicit {
		h.TransferSyntax = transferSyntaxByUID[ImplicitVRLittleEndian]
	}
	undefined := s.element.Length == UndefinedLength
	end, err := s.end(s.element.Length, limit)
	if err != nil {
		return nil, err
	}
	last := int64(-1)
	for undefined || s.window.offset() < end {
		if err := s.nextWithin(enc, end); err != nil {
			return nil, err
		}
		e := s.element
		switch {
		case e.Tag == tagItemDelimitationItem && undefined && e.Length == 0:
			return h, nil
		case !s.allowed(e.Tag) || e.Tag.isPixelData():
			return nil, s.fail(ErrTag)
		case int64(e.Tag) <= last:
			return nil, s.fail(ErrOrder)
		case e.Length == UndefinedLength:
			err = s.sequence(enc)
		case int64(e.Length) > end-s.window.offset():
			return nil, s.fail(ErrLength)
		case e.Length <= s.maxValue:
			err = s.take()
			e = s.element
		default:
			err = s.skip(e.Length)
		}
		if err != nil {
			return nil, err
		}
		if s.window.offset() > end { // a sequence that does not end in time
			return nil, s.fail(ErrLength)
		}
		last = int64(e.Tag)
		h.Elements = append(h.Elements, e)
	}
	return h, nil
}

// end is the offset at which a value of the given length ends, no later than
// limit; limit itself where the length is undefined.
func (s *scanner) end(length uint32, limit int64) (int64, error) {
	if length == UndefinedLength {
		return limit, nil
	}
	if end := s.window.offset() + int64(length); end <= limit {
		return end, s.fits(length)
	}
	return 0, s.fail(ErrLength)
}

// nextWithin is next for an element whose tag, VR and length must stand before
// end.
func (s *scanner) nextWithin(enc encoding, end int64) error {
	if err := s.next(enc); err != nil {
		return err
	}
	if s.window.offset() > end {
		return s.fail(ErrLength)
	}
	return nil
}
