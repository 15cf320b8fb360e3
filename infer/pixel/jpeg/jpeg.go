// Package jpeg decodes the processes of ITU-T T.81 that CT slices come in: one
// component, Huffman coding, lossless (SOF3, predictors 1 to 7, 2 to 16 bits) and
// sequential DCT (SOF0 and SOF1, 8 and 12 bits). The standard library has neither
// the first nor 12 bits.
//
// Sections are those of T.81 (1992). Whatever the bytes, the decoder does not
// panic, allocates nothing but its tables, and works no longer than the frame
// that is asked for has pixels.
package jpeg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

var (
	// ErrMalformed: the bytes are no JPEG frame of the size that is asked for.
	ErrMalformed = errors.New("malformed JPEG frame")
	// ErrUnsupported: a process of T.81 that this package does not decode.
	ErrUnsupported = errors.New("JPEG process not supported")

	errEnds = fmt.Errorf("%w: it ends among its pixels", ErrMalformed)
)

// Markers (Table B.1).
const (
	sof0 = 0xC0 // baseline
	sof1 = 0xC1 // extended sequential
	sof3 = 0xC3 // lossless
	dht  = 0xC4
	sofF = 0xCF
	jpg  = 0xC8
	dac  = 0xCC
	rst0 = 0xD0
	rst7 = 0xD7
	soi  = 0xD8
	eoi  = 0xD9
	sos  = 0xDA
	dqt  = 0xDB
	dnl  = 0xDC
	dri  = 0xDD
	tem  = 0x01
)

type decoder struct {
	width, height int
	process       byte // the SOF marker; 0 before it
	precision     int
	component     byte // its identifier
	quantTable    byte // its table's destination

	restartInterval int // in samples (lossless) or blocks; 0: none
	dc, ac          [4]huffman
	quant           [4]quantization
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// Decode fills dst with the samples of the frame src, width by height of them row
// by row, and returns their precision in bits. A frame of another size is
// malformed. The error matches ErrMalformed or ErrUnsupported.
func Decode(dst []uint16, src []byte, width, height int) (precision int, err error) {
	if width < 1 || height < 1 || len(dst) != width*height {
		return 0, fmt.Errorf("%w: %d samples for %d by %d", ErrMalformed, len(dst), width, height)
	}
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.reset(width, height)
	if err := d.decode(dst, src); err != nil {
		return 0, err
	}
	return d.precision, nil
}

func (d *decoder) reset(width, height int) {
	d.width, d.height = width, height
	d.process, d.restartInterval = 0, 0
	for i := range d.dc {
		d.dc[i].defined, d.ac[i].defined, d.quant[i].defined = false, false, false
	}
}

// decode reads marker segments up to the scan, and the scan (section B.2.1).
func (d *decoder) decode(dst []uint16, src []byte) error {
	if len(src) < 2 || src[0] != 0xFF || src[1] != soi {
		return fmt.Errorf("%w: no start of image", ErrMalformed)
	}
	src = src[2:]
	for {
		for len(src) > 1 && src[0] == 0xFF && src[1] == 0xFF {
			src = src[1:] // fill bytes (section B.1.1.2)
		}
		if len(src) < 4 || src[0] != 0xFF {
			return fmt.Errorf("%w: no marker where one is due", ErrMalformed)
		}
		marker := src[1]
		src = src[2:]
		if marker == tem {
			continue
		}
		length := int(binary.BigEndian.Uint16(src))
		if length < 2 || length > len(src) || marker == eoi || rst0 <= marker && marker <= soi {
			return fmt.Errorf("%w: marker segment FF%02X of %d bytes among %d", ErrMalformed, marker, length, len(src))
		}
		body := src[2:length]
		src = src[length:]
		if marker == sos {
			return d.scan(dst, body, src)
		}
		if err := d.segment(marker, body); err != nil {
			return err
		}
	}
}

func (d *decoder) segment(marker byte, body []byte) error {
	switch {
	case marker == dht:
		return d.huffmanTables(body)
	case marker == dqt:
		return d.quantizationTables(body)
	case marker == dri:
		if len(body) != 2 {
			return fmt.Errorf("%w: restart interval of %d bytes", ErrMalformed, len(body))
		}
		d.restartInterval = int(binary.BigEndian.Uint16(body))
		return nil
	case marker == dac || marker == dnl || marker == jpg:
		return fmt.Errorf("%w: marker FF%02X", ErrUnsupported, marker)
	case sof0 <= marker && marker <= sofF:
		return d.frame(marker, body)
	}
	return nil // application data and comments
}

// frame reads a frame header (section B.2.2).
func (d *decoder) frame(process byte, body []byte) error {
	switch {
	case d.process != 0:
		return fmt.Errorf("%w: two frame headers", ErrMalformed)
	case process != sof0 && process != sof1 && process != sof3:
		return fmt.Errorf("%w: frame FF%02X (progressive, hierarchical or arithmetic)", ErrUnsupported, process)
	case len(body) < 6 || len(body) != 6+3*int(body[5]):
		return fmt.Errorf("%w: frame header of %d bytes", ErrMalformed, len(body))
	case body[5] != 1:
		return fmt.Errorf("%w: %d components", ErrUnsupported, body[5])
	}
	d.process = process
	d.precision = int(body[0])
	height, width := int(binary.BigEndian.Uint16(body[1:])), int(binary.BigEndian.Uint16(body[3:]))
	if height == 0 {
		return fmt.Errorf("%w: number of lines after the scan", ErrUnsupported)
	}
	if width != d.width || height != d.height {
		return fmt.Errorf("%w: %d by %d samples where %d by %d are wanted", ErrMalformed, width, height, d.width, d.height)
	}
	switch { // Table B.2
	case process == sof3 && 2 <= d.precision && d.precision <= 16, d.precision == 8, process == sof1 && d.precision == 12:
	default:
		return fmt.Errorf("%w: precision of %d bits in frame FF%02X", ErrMalformed, d.precision, process)
	}
	d.component, d.quantTable = body[6], body[8]
	if d.quantTable > 3 {
		return fmt.Errorf("%w: quantization table %d", ErrMalformed, d.quantTable)
	}
	return nil
}

// huffmanTables reads a DHT segment (section B.2.4.2).
func (d *decoder) huffmanTables(body []byte) error {
	for len(body) > 0 {
		if len(body) < 17 {
			return fmt.Errorf("%w: Huffman table of %d bytes", ErrMalformed, len(body))
		}
		class, destination := body[0]>>4, body[0]&0xF
		counts := [16]byte(body[1:17])
		body = body[17:]
		n := 0
		for _, c := range counts {
			n += int(c)
		}
		if class > 1 || destination > 3 || n > 256 || n > len(body) {
			return fmt.Errorf("%w: Huffman table %d of class %d with %d codes", ErrMalformed, destination, class, n)
		}
		table := &d.dc[destination]
		if class == 1 {
			table = &d.ac[destination]
		}
		if err := table.define(counts, body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// scan reads a scan header (section B.2.3) and the scan.
func (d *decoder) scan(dst []uint16, header, src []byte) error {
	switch {
	case d.process == 0:
		return fmt.Errorf("%w: a scan before its frame", ErrMalformed)
	case len(header) != 6 || header[0] != 1 || header[1] != d.component || header[2]>>4 > 3 || header[2]&0xF > 3:
		return fmt.Errorf("%w: scan header", ErrMalformed)
	}
	dc, ac := &d.dc[header[2]>>4], &d.ac[header[2]&0xF]
	selection, pointTransform := header[3], uint(header[5]&0xF)
	if !dc.defined {
		return fmt.Errorf("%w: no Huffman table %d", ErrMalformed, header[2]>>4)
	}
	if d.process == sof3 {
		if selection < 1 || selection > 7 || int(pointTransform) >= d.precision {
			return fmt.Errorf("%w: predictor %d, point transform %d", ErrMalformed, selection, pointTransform)
		}
		return d.lossless(dst, &bits{src: src}, dc, selection, pointTransform)
	}
	quant := &d.quant[d.quantTable]
	if !ac.defined || !quant.defined {
		return fmt.Errorf("%w: a table is missing", ErrMalformed)
	}
	return d.sequential(dst, &bits{src: src}, dc, ac, quant)
}
