package openjpeg

import (
	"encoding/binary"
	"fmt"
)

// codestream is what the main header says of the image (T.800 section A.5.1).
type codestream struct {
	width, height int
	precision     int
	signed        bool
}

// maxTiles bounds the tables that a decoder keeps for tiles.
const maxTiles = 4096

// parse reads the markers SOC and SIZ, so that nothing is started for what cannot
// be a slice.
func parse(src []byte) (c codestream, err error) {
	const siz = 4 + 38 + 3 // SOC, the marker SIZ, its segment with one component
	if len(src) < siz || binary.BigEndian.Uint32(src) != 0xFF4F_FF51 {
		return c, fmt.Errorf("%w: it does not begin as one", ErrMalformed)
	}
	long := func(i int) int64 { return int64(binary.BigEndian.Uint32(src[i:])) }
	x, y, x0, y0 := long(8), long(12), long(16), long(20)
	tileX, tileY, tileX0, tileY0 := long(24), long(28), long(32), long(36)
	components := binary.BigEndian.Uint16(src[40:])
	switch {
	case components != 1:
		return c, fmt.Errorf("%w: %d components", ErrUnsupported, components)
	case src[43] != 1 || src[44] != 1:
		return c, fmt.Errorf("%w: subsampled", ErrUnsupported)
	case x <= x0 || y <= y0 || tileX == 0 || tileY == 0 || tileX0 > x0 || tileY0 > y0:
		return c, fmt.Errorf("%w: an image without samples or tiles", ErrMalformed)
	case (x-tileX0+tileX-1)/tileX > maxTiles || (y-tileY0+tileY-1)/tileY > maxTiles ||
		(x-tileX0+tileX-1)/tileX*((y-tileY0+tileY-1)/tileY) > maxTiles:
		return c, fmt.Errorf("%w: more than %d tiles", ErrUnsupported, maxTiles)
	}
	c = codestream{width: int(x - x0), height: int(y - y0), precision: int(src[42]&0x7F) + 1, signed: src[42]&0x80 != 0}
	if c.precision > 16 {
		return c, fmt.Errorf("%w: precision of %d bits", ErrUnsupported, c.precision)
	}
	return c, nil
}

// bytes is how many bytes the program writes for a sample.
func (c *codestream) bytes() int { return (c.precision + 7) / 8 }
