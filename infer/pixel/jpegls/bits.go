package jpegls

import (
	"encoding/binary"
	mathbits "math/bits"
)

// bits reads a scan: after a byte FFH comes a bit 0 that is no data; FFH before a
// byte of 80H or more is a marker, which ends the scan (section A.1). Past the end
// come zeros; exhausted tells whether any was taken for data.
type bits struct {
	src []byte
	pos int    // of the next byte that is not in acc
	acc uint64 // its highest n bits are to come, zeros below
	n   uint
	ff  bool // the last byte was FFH
	// missing counts the bits in acc, or taken from it, that are no data.
	missing uint
}

// fill has at least 32 bits ready.
func (b *bits) fill() {
	if b.n >= 32 {
		return
	}
	if b.pos+4 <= len(b.src) && !b.ff {
		w := binary.BigEndian.Uint32(b.src[b.pos:])
		if (^w-0x01010101)&w&0x80808080 == 0 { // no byte is FFH
			b.acc |= uint64(w) << (32 - b.n)
			b.n += 32
			b.pos += 4
			return
		}
	}
	for b.n <= 56 {
		if b.pos >= len(b.src) || b.src[b.pos] == 0xFF && (b.pos+1 == len(b.src) || b.src[b.pos+1] >= 0x80) {
			b.missing += 64 - b.n
			b.n = 64
			return
		}
		next, size := b.src[b.pos], uint(8)
		if b.ff {
			size = 7 // its highest bit is the stuffed one
		}
		b.acc |= uint64(next) << (64 - size - b.n)
		b.n += size
		b.ff = next == 0xFF
		b.pos++
	}
}

// take gives the next k bits, at most 32.
func (b *bits) take(k int32) int32 {
	if k == 0 {
		return 0
	}
	b.fill()
	v := b.acc >> (64 - uint(k))
	b.drop(uint(k))
	return int32(v)
}

func (b *bits) drop(k uint) {
	b.acc <<= k
	b.n -= k
}

// zeros counts the zeros before the next one, which is taken too, but no more
// than limit of them, which is at most 64.
func (b *bits) zeros(limit int32) int32 {
	count := int32(0)
	for {
		b.fill()
		z := min(uint(mathbits.LeadingZeros64(b.acc)), b.n)
		if z < b.n {
			b.drop(z + 1)
			return min(count+int32(z), limit+1)
		}
		b.drop(z)
		if count += int32(z); count > limit {
			return limit + 1
		}
	}
}

// exhausted tells whether bits were taken that are not there.
func (b *bits) exhausted() bool { return b.missing > b.n }
