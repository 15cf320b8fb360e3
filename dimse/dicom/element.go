package dicom

import "encoding/binary"

// encoding is how elements are written; the zero value is Implicit VR Little
// Endian.
type encoding struct{ explicit, big bool }

// next reads the tag, VR and length of the next element into s.element.
func (s *scanner) next(enc encoding) error {
	s.start = s.window.offset()
	if s.start >= s.limit {
		return s.fail(ErrTooLarge)
	}
	if !s.window.fill(8) {
		return s.ended()
	}
	b := s.window.next()
	e := &s.element
	*e = Element{}
	if enc.big {
		e.Tag = Tag(binary.BigEndian.Uint32(b))
	} else {
		e.Tag = Tag(binary.LittleEndian.Uint16(b))<<16 | Tag(binary.LittleEndian.Uint16(b[2:]))
	}
	if !enc.explicit || e.Tag.Group() == 0xFFFE {
		e.Length = enc.uint32(b[4:])
		s.window.advance(8)
		return nil
	}

	vr, ok := lookupVR(b[4], b[5])
	if !ok {
		return s.fail(ErrVR)
	}
	e.VR = vr.name
	if !vr.long {
		e.Length = uint32(enc.uint16(b[6:]))
		s.window.advance(8)
		return nil
	}
	if !s.window.fill(12) {
		return s.ended()
	}
	e.Length = enc.uint32(s.window.next()[8:]) // after two reserved bytes
	s.window.advance(12)
	return nil
}

// take reads the value of s.element.
func (s *scanner) take() error {
	if err := s.fits(s.element.Length); err != nil {
		return err
	}
	value, ok := s.window.take(int(s.element.Length))
	if !ok {
		return s.ended()
	}
	s.element.Value = value
	return nil
}

// skip passes over a value of n bytes.
func (s *scanner) skip(n uint32) error {
	if err := s.fits(n); err != nil {
		return err
	}
	if !s.window.skip(int64(n)) {
		return s.ended()
	}
	return nil
}

// fits checks that a value of n bytes stays within the limit. An undefined
// length never comes here.
func (s *scanner) fits(n uint32) error {
	if int64(n) > s.limit-s.window.offset() {
		return s.fail(ErrTooLarge)
	}
	return nil
}

// ended returns why the window has no more bytes in the middle of an element.
func (s *scanner) ended() error {
	if err := s.window.failure(); err != nil {
		return s.fail(err)
	}
	return s.fail(ErrTruncated)
}

func (enc encoding) uint16(b []byte) uint16 {
	if enc.big {
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

func (enc encoding) uint32(b []byte) uint32 {
	if enc.big {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// vr is a value representation (PS3.5 Section 6.2).
type vr struct {
	name string
	// long is true where the length has 32 bits after two reserved bytes (PS3.5
	// Table 7.1-1), as in every VR that the standard may yet add.
	long bool
}

// vrs has the value representation of each pair of capital letters.
var vrs = func() (table [26 * 26]vr) {
	for a := byte('A'); a <= 'Z'; a++ {
		for b := byte('A'); b <= 'Z'; b++ {
			table[vrIndex(a, b)] = vr{name: string([]byte{a, b}), long: true}
		}
	}
	for _, short := range []string{
		"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO",
		"LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US",
	} {
		table[vrIndex(short[0], short[1])].long = false
	}
	return table
}()

func vrIndex(a, b byte) int { return int(a-'A')*26 + int(b-'A') }

// lookupVR returns the value representation of two letters; false if they are
// no capital letters.
func lookupVR(a, b byte) (vr, bool) {
	if a < 'A' || a > 'Z' || b < 'A' || b > 'Z' {
		return vr{}, false
	}
	return vrs[vrIndex(a, b)], true
}
