package jpeg

import (
	"encoding/binary"
	"fmt"
)

// zigzag has the place in a block, row by row, of each coefficient in the order
// in which they are coded (Figure A.6).
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10,
	17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34,
	27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36,
	29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46,
	53, 60, 61, 54, 47, 55, 62, 63,
}

// quantization is a quantization table in the order of the code.
type quantization struct {
	defined bool
	step    [64]int32
}

// quantizationTables reads a DQT segment (section B.2.4.1).
func (d *decoder) quantizationTables(body []byte) error {
	for len(body) > 0 {
		wide, destination := int(body[0]>>4), body[0]&0xF
		size := 64 * (wide + 1)
		if wide > 1 || destination > 3 || len(body) < 1+size {
			return fmt.Errorf("%w: quantization table %d of %d bytes", ErrMalformed, destination, len(body))
		}
		q := &d.quant[destination]
		q.defined = true
		for i := range q.step {
			if wide == 1 {
				q.step[i] = int32(binary.BigEndian.Uint16(body[1+2*i:]))
			} else {
				q.step[i] = int32(body[1+i])
			}
		}
		body = body[1+size:]
	}
	return nil
}

// sequential decodes a scan of a sequential DCT process (Annex F).
func (d *decoder) sequential(dst []uint16, b *bits, dc, ac *huffman, quant *quantization) error {
	// A scan of one component has blocks in raster order, whatever its sampling
	// factors (section A.2.2).
	across, down := (d.width+7)/8, (d.height+7)/8
	last := int32(0) // DC
	var samples [64]uint16
	for i := range across * down {
		if d.restartInterval > 0 && i > 0 && i%d.restartInterval == 0 {
			if err := b.restart(i/d.restartInterval - 1); err != nil {
				return err
			}
			last = 0
		}
		var coefficients [64]int32
		if err := d.block(&coefficients, b, dc, ac, quant, &last); err != nil {
			return err
		}
		inverseDCT(&coefficients, &samples, uint(d.precision))
		x0, y0 := i%across*8, i/across*8
		for y := range min(8, d.height-y0) {
			row := dst[(y0+y)*d.width+x0:]
			copy(row[:min(8, d.width-x0)], samples[8*y:])
		}
	}
	return nil
}

// block decodes the coefficients of a block and multiplies them with their
// quantization steps (sections F.2.2.1 and F.2.2.2).
func (d *decoder) block(to *[64]int32, b *bits, dc, ac *huffman, quant *quantization, last *int32) error {
	size, err := dc.symbol(b)
	if err != nil {
		return err
	}
	if size > 15 {
		return fmt.Errorf("%w: a DC difference of %d bits", ErrMalformed, size)
	}
	if size > 0 {
		*last += b.extended(uint(size))
	}
	to[0] = *last * quant.step[0]
	for k := 1; k < 64; k++ {
		symbol, err := ac.symbol(b)
		if err != nil {
			return err
		}
		run, size := int(symbol>>4), uint(symbol&0xF)
		if size == 0 {
			if run < 15 {
				break // end of block
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			return fmt.Errorf("%w: more than 64 coefficients in a block", ErrMalformed)
		}
		to[zigzag[k]] = b.extended(size) * quant.step[k]
	}
	if b.exhausted() {
		return errEnds
	}
	return nil
}
