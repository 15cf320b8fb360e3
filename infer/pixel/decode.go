// Package pixel turns the stored pixels of a CT slice into Hounsfield units and
// those into a model's input.
//
// Decode is the first half. What a data set says of its pixels comes in as a
// Description; nothing in it is trusted, and nothing is allocated before the
// sizes in it agree with each other. [Preprocessor] is the second half; training
// does exactly the same (models/train).
package pixel

import (
	"bufio"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"ichwatch/infer"
)

// Air is what padding becomes, in HU.
const Air = -1024

// Limits. CT matrices are 256 to 1024 pixels a side; headers end in their first
// kilobytes.
const (
	maxSide     = 4096
	maxOffset   = 64 << 20
	usualPixels = 512 * 512
)

var (
	// ErrNoRescale: without slope and intercept there are no Hounsfield units, and
	// guessing them would be guessing the finding.
	ErrNoRescale = errors.New("rescale slope or intercept is missing or unusable: no Hounsfield units")
	// ErrMalformed: the description contradicts itself or the bytes that are there.
	ErrMalformed = errors.New("malformed pixel data")
)

// UnsupportedError is a slice that is sound as far as can be seen, in a form that
// this release does not read.
type UnsupportedError struct {
	Reason string // "transfer syntax JPEG 2000 ..."; no identity in it
}

func (e *UnsupportedError) Error() string { return "not supported: " + e.Reason }

func unsupported(format string, args ...any) error {
	return &UnsupportedError{Reason: fmt.Sprintf(format, args...)}
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Decode reads the pixels of the slice that d describes into img, whose memory
// it reuses. dataset stands at the first byte of the data set, as it was sent;
// it is read no further than the last pixel (when deflated, than the bytes that
// hold it). After an error img is empty.
//
// The error is an *UnsupportedError, ErrNoRescale, ErrMalformed or the reader's
// own.
func Decode(d Description, dataset io.Reader, img *infer.Image) error {
	if err := d.check(); err != nil {
		return fmt.Errorf("decode pixels: %w", err)
	}
	dec := decoders.Get().(*decoder)
	defer decoders.Put(dec)
	dec.prepare(d)
	if err := dec.decode(d, dataset, img); err != nil {
		return fmt.Errorf("decode pixels: %w", err)
	}
	return nil
}

// check refuses what cannot be read, before anything is.
func (d *Description) check() error {
	switch {
	case d.Encapsulated:
		// The codecs (RLE, JPEG, JPEG lossless, JPEG-LS, JPEG 2000) come in here:
		// the frame's fragments lie at Offset.
		return unsupported("transfer syntax %s", d.Syntax)
	case d.Frames > 1:
		return unsupported("%d frames in one object", d.Frames)
	case d.SamplesPerPixel > 1:
		return unsupported("%d samples per pixel", d.SamplesPerPixel)
	case d.Photometric != "MONOCHROME2" && d.Photometric != "MONOCHROME1":
		return unsupported("photometric interpretation %.16q", d.Photometric)
	case d.BitsAllocated != 8 && d.BitsAllocated != 16:
		return unsupported("%d bits allocated", d.BitsAllocated)
	case d.BitsAllocated == 8 && d.BigEndian:
		return unsupported("8 bits allocated in big endian") // OB and OW would differ
	case d.Frames < 0 || d.SamplesPerPixel < 0:
		return malformed("%d frames, %d samples per pixel", d.Frames, d.SamplesPerPixel)
	case d.Rows < 1 || d.Columns < 1 || d.Rows > maxSide || d.Columns > maxSide:
		return malformed("%d rows, %d columns; wanted are 1 to %d", d.Rows, d.Columns, maxSide)
	case d.BitsStored < 1 || d.BitsStored > d.BitsAllocated || d.HighBit < d.BitsStored-1 || d.HighBit >= d.BitsAllocated:
		return malformed("%d bits stored up to bit %d of %d", d.BitsStored, d.HighBit, d.BitsAllocated)
	case d.Offset < 0 || d.Offset > maxOffset:
		return malformed("pixels at byte %d", d.Offset)
	case int64(d.Length) < d.size():
		return malformed("%d bytes of pixels where %d rows of %d need %d", d.Length, d.Rows, d.Columns, d.size())
	case d.Length == math.MaxUint32:
		return malformed("native pixels of undefined length")
	case !d.Rescaled || d.Slope == 0 || !finite(d.Slope) || !finite(d.Intercept):
		return ErrNoRescale
	}
	return nil
}

// size is the number of bytes of the pixels.
func (d *Description) size() int64 {
	return int64(d.Rows) * int64(d.Columns) * int64(d.BitsAllocated/8)
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// decoder is what is kept between slices: a table from every word that may be
// stored to its HU, which the slices of a series share, and a row of bytes.
type decoder struct {
	meaning meaning
	hu      [1 << 16]int16
	row     [2 * maxSide]byte
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// meaning is the part of a description that turns a stored word into HU.
type meaning struct {
	allocated, stored, high int
	signed                  bool
	slope, intercept        float64
	padding                 Padding
}

// prepare fills the table for d, unless the last slice has left the same.
func (dec *decoder) prepare(d Description) {
	m := meaning{d.BitsAllocated, d.BitsStored, d.HighBit, d.Signed, d.Slope, d.Intercept, d.Padding}
	if m == dec.meaning {
		return
	}
	dec.meaning = m
	for word := range 1 << m.allocated {
		dec.hu[word] = m.hu(uint16(word))
	}
}

// hu is what one stored word means (PS3.3 C.7.6.3.1 and C.11.1.1.2).
func (m meaning) hu(word uint16) int16 {
	v := m.value(word)
	if m.padded(word, v) {
		return Air
	}
	// The conversion keeps the compiler from fusing, so that every machine rounds
	// alike.
	hu := math.Floor(float64(float64(v)*m.slope) + m.intercept + 0.5)
	return int16(min(max(hu, math.MinInt16), math.MaxInt16))
}

// value takes the stored bits out of a word: what lies above the high bit or
// below the lowest may be overlays.
func (m meaning) value(word uint16) int32 {
	v := uint32(word) >> (m.high + 1 - m.stored) & (1<<m.stored - 1)
	if m.signed && v>>(m.stored-1) == 1 {
		return int32(v) - 1<<m.stored
	}
	return int32(v)
}

// padded reports whether a pixel stands for no measurement. The padding value is
// to lie within the stored bits (C.7.5.1.1.2); where a sender uses one outside
// them, the whole word is compared.
func (m meaning) padded(word uint16, v int32) bool {
	if !m.padding.Set {
		return false
	}
	first := m.extended(m.padding.Value)
	if word == m.padding.Value || v == first {
		return true
	}
	if !m.padding.Ranged {
		return false
	}
	last := m.extended(m.padding.Limit)
	return min(first, last) <= v && v <= max(first, last)
}

// extended reads a padding attribute, which is SS where pixels are signed.
func (m meaning) extended(bits uint16) int32 {
	if m.signed {
		return int32(int16(bits))
	}
	return int32(bits)
}

func (dec *decoder) decode(d Description, dataset io.Reader, img *infer.Image) error {
	r, err := d.pixels(dataset)
	if err != nil {
		return err
	}
	pixels := img.HU[:0]
	*img = infer.Image{HU: pixels}
	row := dec.row[:d.Columns*d.BitsAllocated/8]
	for y := range d.Rows {
		if _, err := io.ReadFull(r, row); err != nil {
			return shortRead(err, "the pixels end in row %d of %d", y, d.Rows)
		}
		// Memory follows the rows that have really come.
		if cap(pixels)-len(pixels) < d.Columns {
			pixels = slices.Grow(pixels, min(d.Rows*d.Columns-len(pixels), max(len(pixels), usualPixels)))
		}
		hu := pixels[len(pixels) : len(pixels)+d.Columns]
		pixels = pixels[:len(pixels)+d.Columns]
		switch {
		case d.BitsAllocated == 8:
			for x := range hu {
				hu[x] = dec.hu[row[x]]
			}
		case d.BigEndian:
			for x := range hu {
				hu[x] = dec.hu[binary.BigEndian.Uint16(row[2*x:])]
			}
		default:
			for x := range hu {
				hu[x] = dec.hu[binary.LittleEndian.Uint16(row[2*x:])]
			}
		}
	}
	*img = infer.Image{Rows: d.Rows, Columns: d.Columns, HU: pixels, PixelSpacing: d.PixelSpacing}
	return nil
}

// pixels gives a reader that stands at the first pixel.
func (d *Description) pixels(dataset io.Reader) (io.Reader, error) {
	if d.Deflated {
		dataset = flate.NewReader(bufio.NewReader(dataset)) // PS3.5 A.5: raw deflate
	} else if s, ok := dataset.(io.Seeker); ok {
		if _, err := s.Seek(d.Offset, io.SeekCurrent); err != nil {
			return nil, err
		}
		return dataset, nil
	}
	if _, err := io.CopyN(io.Discard, dataset, d.Offset); err != nil {
		return nil, shortRead(err, "the data set ends before its pixels")
	}
	return dataset, nil
}

// shortRead tells bytes that are missing, or no deflate stream, from a reader
// that failed.
func shortRead(err error, format string, args ...any) error {
	var corrupt flate.CorruptInputError
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &corrupt) {
		return malformed("%s (%v)", fmt.Sprintf(format, args...), err)
	}
	return err
}
