// Package rle decodes frames in the transfer syntax RLE Lossless (PS3.5 Annex G).
package rle

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed: the frame is no RLE frame of the size that is asked for.
var ErrMalformed = errors.New("malformed RLE frame")

// headerSize is the length of the header: the number of segments and fifteen
// offsets, 32 bits each (PS3.5 section G.5).
const headerSize = 64

// Decode fills dst, a frame's words row by row, from src. A frame of one sample
// per pixel has a segment for each byte of a word, the most significant first
// (PS3.5 section G.2); bytes is their number, 1 or 2. Whatever src claims, nothing
// is allocated.
func Decode(dst []uint16, src []byte, bytes int) error {
	if len(src) < headerSize {
		return fmt.Errorf("%w: %d bytes, shorter than its header", ErrMalformed, len(src))
	}
	if n := binary.LittleEndian.Uint32(src); n != uint32(bytes) {
		return fmt.Errorf("%w: %d segments where %d are needed", ErrMalformed, n, bytes)
	}
	clear(dst)
	for i := range bytes {
		start := uint64(binary.LittleEndian.Uint32(src[4+4*i:]))
		end := uint64(len(src))
		if i+1 < bytes {
			end = uint64(binary.LittleEndian.Uint32(src[8+4*i:]))
		}
		if start < headerSize || start > end || end > uint64(len(src)) {
			return fmt.Errorf("%w: segment %d from byte %d to %d of %d", ErrMalformed, i+1, start, end, len(src))
		}
		if n := segment(dst, src[start:end], 8*(bytes-1-i)); n < len(dst) {
			return fmt.Errorf("%w: segment %d ends at pixel %d of %d", ErrMalformed, i+1, n, len(dst))
		}
	}
	return nil
}

// segment puts the bytes of one segment into the words, shifted to their place,
// and returns how many came (PS3.5 section G.3.2). What follows the last pixel is
// padding.
func segment(dst []uint16, src []byte, shift int) (n int) {
	for len(src) >= 2 && n < len(dst) {
		control := int(int8(src[0]))
		src = src[1:]
		switch {
		case control >= 0: // that many bytes and one as they are
			literal := src[:min(control+1, len(src), len(dst)-n)]
			for i, b := range literal {
				dst[n+i] |= uint16(b) << shift
			}
			n += len(literal)
			src = src[len(literal):]
		case control > -128: // the next byte so many times and one
			run := dst[n:min(n+1-control, len(dst))]
			word := uint16(src[0]) << shift
			for i := range run {
				run[i] |= word
			}
			n += len(run)
			src = src[1:]
		}
	}
	return n
}
