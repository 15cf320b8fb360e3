package jpeg

import "fmt"

// lossless decodes a scan of the lossless process (Annex H).
func (d *decoder) lossless(dst []uint16, b *bits, table *huffman, predictor byte, pointTransform uint) error {
	width := d.width
	// Section H.1.1: a restart interval is a number of whole lines.
	if d.restartInterval%width != 0 {
		return fmt.Errorf("%w: a restart interval of %d samples in lines of %d", ErrMalformed, d.restartInterval, width)
	}
	interval := d.restartInterval / width
	start := int32(1) << (d.precision - int(pointTransform) - 1)
	for y := range d.height {
		row := dst[y*width : (y+1)*width]
		first := y == 0 // of the image or after a restart
		if interval > 0 && y > 0 && y%interval == 0 {
			if err := b.restart(y/interval - 1); err != nil {
				return err
			}
			first = true
		}
		var err error
		if first {
			err = d.line(row, nil, b, table, 1, start)
		} else {
			above := dst[(y-1)*width : y*width]
			err = d.line(row, above, b, table, predictor, int32(above[0]))
		}
		if err != nil {
			return err
		}
	}
	if pointTransform > 0 {
		for i := range dst {
			dst[i] <<= pointTransform
		}
	}
	return nil
}

// line decodes a line whose first sample is predicted as start (section
// H.1.2.1). Sums are modulo 2 to the 16.
func (d *decoder) line(row, above []uint16, b *bits, table *huffman, predictor byte, start int32) error {
	prediction := start
	for x := range row {
		difference, err := difference(b, table)
		if err != nil {
			return err
		}
		sample := uint16(prediction + difference)
		row[x] = sample
		if x+1 == len(row) {
			break
		}
		// For the next sample: a is left of it, b above, c above left (Table H.1).
		left := int32(sample)
		if predictor == 1 {
			prediction = left
			continue
		}
		up, upLeft := int32(above[x+1]), int32(above[x])
		switch predictor {
		case 2:
			prediction = up
		case 3:
			prediction = upLeft
		case 4:
			prediction = left + up - upLeft
		case 5:
			prediction = left + (up-upLeft)>>1
		case 6:
			prediction = up + (left-upLeft)>>1
		case 7:
			prediction = (left + up) >> 1
		}
	}
	if b.exhausted() {
		return errEnds
	}
	return nil
}

// difference decodes one difference (section H.1.2.2).
func difference(b *bits, table *huffman) (int32, error) {
	size, err := table.symbol(b)
	switch {
	case err != nil:
		return 0, err
	case size == 0:
		return 0, nil
	case size < 16:
		return b.extended(uint(size)), nil
	case size == 16:
		return 1 << 15, nil // no bits follow
	}
	return 0, fmt.Errorf("%w: a difference of %d bits", ErrMalformed, size)
}
