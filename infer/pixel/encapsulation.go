package pixel

import (
	"encoding/binary"
	"io"
	"slices"
)

// Limits of encapsulated pixels.
const (
	maxFragments = 1 << 16
	// readAhead is how much memory is taken for bytes that are only claimed.
	readAhead = 1 << 20
)

const (
	itemTag              = 0xFFFE_E000
	sequenceDelimiterTag = 0xFFFE_E0DD
)

// encapsulation is the fragments of encapsulated pixels (PS3.5 section A.4) and
// which of them make up which frame.
type encapsulation struct {
	r         io.ReadSeeker
	fragments []fragment
	first     []int // for each frame its first fragment, and one more past the last
	end       int64 // behind the sequence delimiter
}

// fragment is where the value of an item lies.
type fragment struct {
	start  int64
	length uint32
}

// openEncapsulation reads the basic offset table, which stands offset bytes from
// where r is, and the lengths of the fragments.
func openEncapsulation(r io.ReadSeeker, offset int64, frames int) (*encapsulation, error) {
	at, err := r.Seek(offset, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	e := &encapsulation{r: r}
	table, at, err := e.offsetTable(at, frames)
	if err != nil {
		return nil, err
	}
	begin := at // of the first fragment's item, from which the table counts
	for {
		tag, length, err := e.item(at)
		if err != nil {
			return nil, err
		}
		if tag == sequenceDelimiterTag {
			e.end = at + 8
			break
		}
		if tag != itemTag || length == 0xFFFF_FFFF || len(e.fragments) == maxFragments {
			return nil, malformed("fragment %d has tag %08X and %d bytes", len(e.fragments)+1, tag, length)
		}
		e.fragments = append(e.fragments, fragment{at + 8, length})
		at += 8 + int64(length)
	}
	return e, e.divide(frames, table, begin)
}

// offsetTable reads the basic offset table: one offset for each frame, or none.
func (e *encapsulation) offsetTable(at int64, frames int) (table []uint32, next int64, err error) {
	tag, length, err := e.item(at)
	switch {
	case err != nil:
		return nil, 0, err
	case tag != itemTag || length%4 != 0 || length != 0 && length != uint32(4*frames):
		return nil, 0, malformed("basic offset table of tag %08X and %d bytes for %d frames", tag, length, frames)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(e.r, b); err != nil {
		return nil, 0, shortRead(err, "the pixels end in the basic offset table")
	}
	for ; len(b) > 0; b = b[4:] {
		table = append(table, binary.LittleEndian.Uint32(b))
	}
	return table, at + 8 + int64(length), nil
}

// item reads the header of the item at at and leaves r behind it.
func (e *encapsulation) item(at int64) (tag, length uint32, err error) {
	var b [8]byte
	if _, err := e.r.Seek(at, io.SeekStart); err != nil {
		return 0, 0, err
	}
	if _, err := io.ReadFull(e.r, b[:]); err != nil {
		return 0, 0, shortRead(err, "the pixels end after %d fragments", len(e.fragments))
	}
	tag = uint32(binary.LittleEndian.Uint16(b[:]))<<16 | uint32(binary.LittleEndian.Uint16(b[2:]))
	return tag, binary.LittleEndian.Uint32(b[4:]), nil
}

// divide says which fragments make up which frame. Where no table tells, each
// frame has one, or each begins with a codestream's first marker.
func (e *encapsulation) divide(frames int, table []uint32, begin int64) error {
	switch {
	case len(e.fragments) < frames:
		return malformed("%d fragments for %d frames", len(e.fragments), frames)
	case frames == 1:
		e.first = []int{0}
	case len(table) > 0:
		k := 0
		for _, offset := range table {
			for k < len(e.fragments) && e.fragments[k].start-8 < begin+int64(offset) {
				k++
			}
			if k == len(e.fragments) || e.fragments[k].start-8 != begin+int64(offset) || len(e.first) == 0 && k != 0 {
				return malformed("no fragment begins where the basic offset table puts frame %d", len(e.first)+1)
			}
			e.first = append(e.first, k)
			k++
		}
	case len(e.fragments) == frames:
		for k := range e.fragments {
			e.first = append(e.first, k)
		}
	default:
		for k := range e.fragments {
			begins, err := e.begins(k)
			if err != nil {
				return err
			}
			if begins {
				e.first = append(e.first, k)
			}
		}
		if len(e.first) != frames || e.first[0] != 0 {
			return unsupported("%d frames in %d fragments without an offset table", frames, len(e.fragments))
		}
	}
	e.first = append(e.first, len(e.fragments))
	return nil
}

// begins tells whether fragment k begins a codestream: SOI of JPEG and JPEG-LS, or
// SOC and SIZ of JPEG 2000. Entropy-coded data cannot look so in JPEG and JPEG-LS.
func (e *encapsulation) begins(k int) (bool, error) {
	var b [4]byte
	if e.fragments[k].length < uint32(len(b)) {
		return false, nil
	}
	if _, err := e.r.Seek(e.fragments[k].start, io.SeekStart); err != nil {
		return false, err
	}
	if _, err := io.ReadFull(e.r, b[:]); err != nil {
		return false, shortRead(err, "the pixels end in fragment %d", k+1)
	}
	return b[0] == 0xFF && b[1] == 0xD8 && b[2] == 0xFF || b == [4]byte{0xFF, 0x4F, 0xFF, 0x51}, nil
}

// frame appends the bytes of frame k to b: its fragments, one behind the other.
// After an error it returns what can be used again.
func (e *encapsulation) frame(b []byte, k int, limit int64) ([]byte, error) {
	for i, f := range e.fragments[e.first[k]:e.first[k+1]] {
		if int64(len(b))+int64(f.length) > limit {
			return b, malformed("frame %d has more than %d bytes", k+1, limit)
		}
		if _, err := e.r.Seek(f.start, io.SeekStart); err != nil {
			return b, err
		}
		for left := int(f.length); left > 0; {
			n := min(left, readAhead)
			left -= n
			b = slices.Grow(b, n)[:len(b)+n]
			if _, err := io.ReadFull(e.r, b[len(b)-n:]); err != nil {
				return b, shortRead(err, "the pixels end in fragment %d", e.first[k]+i+1)
			}
		}
	}
	return b, nil
}
