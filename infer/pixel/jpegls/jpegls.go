// Package jpegls decodes JPEG-LS (ITU-T T.87), lossless and near-lossless, of one
// component and 2 to 16 bits: what the transfer syntaxes JPEG-LS Lossless and
// JPEG-LS Near-Lossless bring for CT.
//
// Sections are those of T.87 (1998). Whatever the bytes, the decoder does not
// panic, allocates nothing but two lines, and works no longer than the frame
// that is asked for has pixels.
package jpegls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

var (
	// ErrMalformed: the bytes are no JPEG-LS frame of the size that is asked for.
	ErrMalformed = errors.New("malformed JPEG-LS frame")
	// ErrUnsupported: a feature of T.87 that this package does not decode.
	ErrUnsupported = errors.New("JPEG-LS feature not supported")
)

// Markers (section C.1.1 and T.81 Table B.1).
const (
	soi   = 0xD8
	eoi   = 0xD9
	sos   = 0xDA
	dri   = 0xDD
	sof55 = 0xF7
	lse   = 0xF8
)

var scans = sync.Pool{New: func() any { return new(scan) }}

// Decode fills dst with the samples of the frame src, width by height of them row
// by row, and returns their precision in bits. A frame of another size is
// malformed. The error matches ErrMalformed or ErrUnsupported.
func Decode(dst []uint16, src []byte, width, height int) (precision int, err error) {
	if width < 1 || height < 1 || len(dst) != width*height {
		return 0, fmt.Errorf("%w: %d samples for %d by %d", ErrMalformed, len(dst), width, height)
	}
	var f frame
	near, data, err := f.headers(src)
	if err != nil {
		return 0, err
	}
	if f.width != width || f.height != height {
		return 0, fmt.Errorf("%w: %d by %d samples where %d by %d are wanted", ErrMalformed, f.width, f.height, width, height)
	}
	c, err := newCoding(f.precision, near, f.preset)
	if err != nil {
		return 0, err
	}
	s := scans.Get().(*scan)
	defer scans.Put(s)
	s.begin(c, data)
	return f.precision, s.decode(dst, width)
}

// frame is what stands before the scan.
type frame struct {
	precision     int // 0 before the frame header
	width, height int
	component     byte
	preset        preset
}

// preset is what an LSE segment may state; 0: the default (section C.2.4.1.1).
type preset struct{ maximum, t1, t2, t3, reset int }

// headers reads marker segments up to the scan header (section C.1) and returns
// NEAR and the scan.
func (f *frame) headers(src []byte) (near int, data []byte, err error) {
	if len(src) < 2 || src[0] != 0xFF || src[1] != soi {
		return 0, nil, fmt.Errorf("%w: no start of image", ErrMalformed)
	}
	src = src[2:]
	for {
		for len(src) > 1 && src[0] == 0xFF && src[1] == 0xFF {
			src = src[1:] // fill bytes (T.81 section B.1.1.2)
		}
		if len(src) < 4 || src[0] != 0xFF || src[1] < 0x80 {
			return 0, nil, fmt.Errorf("%w: no marker where one is due", ErrMalformed)
		}
		marker, length := src[1], int(binary.BigEndian.Uint16(src[2:]))
		if length < 2 || 2+length > len(src) || marker == eoi {
			return 0, nil, fmt.Errorf("%w: marker segment FF%02X of %d bytes among %d", ErrMalformed, marker, length, len(src))
		}
		body := src[4 : 2+length]
		src = src[2+length:]
		switch {
		case marker == sos:
			near, err = f.scanHeader(body)
			return near, src, err
		case marker == sof55:
			err = f.frameHeader(body)
		case marker == lse:
			err = f.presetParameters(body)
		case marker == dri && !zero(body):
			err = fmt.Errorf("%w: restart intervals", ErrUnsupported)
		case 0xC0 <= marker && marker <= 0xCF:
			err = fmt.Errorf("%w: frame FF%02X, which is no JPEG-LS", ErrUnsupported, marker)
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

func zero(body []byte) bool {
	for _, b := range body {
		if b != 0 {
			return false
		}
	}
	return true
}

// frameHeader reads a frame header (section C.2.2).
func (f *frame) frameHeader(body []byte) error {
	switch {
	case f.precision != 0:
		return fmt.Errorf("%w: two frame headers", ErrMalformed)
	case len(body) < 6 || len(body) != 6+3*int(body[5]):
		return fmt.Errorf("%w: frame header of %d bytes", ErrMalformed, len(body))
	case body[5] != 1:
		return fmt.Errorf("%w: %d components", ErrUnsupported, body[5])
	case body[0] < 2 || body[0] > 16:
		return fmt.Errorf("%w: precision of %d bits", ErrMalformed, body[0])
	}
	f.precision = int(body[0])
	f.height, f.width = int(binary.BigEndian.Uint16(body[1:])), int(binary.BigEndian.Uint16(body[3:]))
	f.component = body[6]
	return nil
}

// presetParameters reads an LSE segment (section C.2.4). Mapping tables and
// sizes beyond 65535 do not come with CT.
func (f *frame) presetParameters(body []byte) error {
	if len(body) != 11 || body[0] != 1 {
		return fmt.Errorf("%w: preset parameters of another kind than thresholds", ErrUnsupported)
	}
	value := func(i int) int { return int(binary.BigEndian.Uint16(body[1+2*i:])) }
	f.preset = preset{value(0), value(1), value(2), value(3), value(4)}
	return nil
}

// scanHeader reads a scan header (section C.2.3) and returns NEAR.
func (f *frame) scanHeader(body []byte) (near int, err error) {
	switch {
	case f.precision == 0:
		return 0, fmt.Errorf("%w: a scan before its frame", ErrMalformed)
	case len(body) != 6 || body[0] != 1 || body[1] != f.component:
		return 0, fmt.Errorf("%w: scan header", ErrMalformed)
	case body[2] != 0 || body[5] != 0:
		return 0, fmt.Errorf("%w: mapping table or point transform", ErrUnsupported)
	}
	return int(body[3]), nil
}
