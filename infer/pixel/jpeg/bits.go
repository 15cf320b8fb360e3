package jpeg

import (
	"encoding/binary"
	"fmt"
)

// bits reads entropy-coded data (T.81 section F.2.2.5): FF00H stands for a byte
// FFH, and any other FFxxH is a marker, which ends the data. Past the end come
// zeros; settle tells whether any was taken for data.
type bits struct {
	src []byte
	pos int    // of the next byte that is not in acc
	acc uint64 // its lowest n bits are to come
	n   uint
	// missing counts the bits in acc, or taken from it, that are no data.
	missing uint
}

// fill has at least 32 bits ready. Between two fills no more may be taken.
func (b *bits) fill() {
	if b.n >= 32 {
		return
	}
	if b.pos+4 <= len(b.src) {
		if w := binary.BigEndian.Uint32(b.src[b.pos:]); !hasFF(w) {
			b.acc = b.acc<<32 | uint64(w)
			b.n += 32
			b.pos += 4
			return
		}
	}
	for b.n <= 56 {
		next := byte(0)
		switch {
		case b.pos >= len(b.src):
			b.missing += 8
		case b.src[b.pos] != 0xFF:
			next = b.src[b.pos]
			b.pos++
		case b.pos+1 < len(b.src) && b.src[b.pos+1] == 0:
			next = 0xFF
			b.pos += 2
		default:
			b.missing += 8
		}
		b.acc = b.acc<<8 | uint64(next)
		b.n += 8
	}
}

// hasFF tells whether a byte of w is FFH.
func hasFF(w uint32) bool { return (^w-0x01010101)&w&0x80808080 != 0 }

// peek gives the next k bits, 1 to 32 of those that are ready.
func (b *bits) peek(k uint) uint32 { return uint32(b.acc>>(b.n-k)) & (1<<k - 1) }

// drop passes over k bits.
func (b *bits) drop(k uint) { b.n -= k }

// extended gives a number of so many bits as T.81 sections F.2.2.1 and H.1.2.2
// code it: what begins with 0 is negative.
func (b *bits) extended(size uint) int32 {
	v := int32(b.peek(size))
	b.drop(size)
	if v < 1<<(size-1) {
		v += -1<<size + 1
	}
	return v
}

// exhausted tells whether bits were taken that are not there.
func (b *bits) exhausted() bool { return b.missing > b.n }

// restart goes on behind the marker RST with number k modulo 8 (T.81 section
// E.2.4); padding bits before it are passed over.
func (b *bits) restart(k int) error {
	if b.exhausted() {
		return errEnds
	}
	// What is in acc beyond the padding would be data that nobody asked for.
	rest := b.src[min(b.pos, len(b.src)):]
	for len(rest) > 2 && rest[0] == 0xFF && rest[1] == 0xFF {
		rest = rest[1:] // fill bytes (T.81 section B.1.1.2)
	}
	if len(rest) < 2 || rest[0] != 0xFF || rest[1] != rst0+byte(k%8) {
		return fmt.Errorf("%w: no restart marker %d", ErrMalformed, k%8)
	}
	*b = bits{src: rest[2:]}
	return nil
}
