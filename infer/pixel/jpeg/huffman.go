package jpeg

import "fmt"

// lookupBits is the length of the codes that are found at once.
const lookupBits = 9

// huffman is a table of canonical codes (T.81 Annex C), ready for decoding.
type huffman struct {
	defined bool
	// lookup has, for every value of the next lookupBits bits, the symbol of the
	// code that they begin with and above it the code's length; 0: the code is
	// longer or there is none.
	lookup [1 << lookupBits]uint16
	// ends has, for each length, the first value beyond the codes of that length
	// or less, in 16 bits, left-aligned; base leads from a code to its symbol.
	ends    [17]int32
	base    [17]int32
	symbols [256]uint8
}

// define builds the table from the numbers of codes of each length and their
// symbols (T.81 sections B.2.4.2 and C.2).
func (h *huffman) define(counts [16]byte, symbols []byte) error {
	*h = huffman{defined: true}
	copy(h.symbols[:], symbols)
	code, first := int32(0), int32(0)
	for length := 1; length <= 16; length++ {
		n := int32(counts[length-1])
		if code+n > 1<<length {
			return fmt.Errorf("%w: more Huffman codes of %d bits than there are", ErrMalformed, length)
		}
		h.base[length] = first - code
		for i := range n {
			if length > lookupBits {
				break
			}
			from := (code + i) << (lookupBits - length)
			for k := range int32(1) << (lookupBits - length) {
				h.lookup[from+k] = uint16(length)<<8 | uint16(symbols[first+i])
			}
		}
		code += n
		first += n
		h.ends[length] = code << (16 - length)
		code <<= 1
	}
	return nil
}

// symbol decodes the next symbol.
func (h *huffman) symbol(b *bits) (uint8, error) {
	b.fill()
	next := b.peek(16)
	if entry := h.lookup[next>>(16-lookupBits)]; entry != 0 {
		b.drop(uint(entry >> 8))
		return uint8(entry), nil
	}
	for length := uint(lookupBits + 1); length <= 16; length++ {
		if int32(next) < h.ends[length] {
			b.drop(length)
			return h.symbols[h.base[length]+int32(next>>(16-length))], nil
		}
	}
	return 0, fmt.Errorf("%w: no Huffman code", ErrMalformed)
}
