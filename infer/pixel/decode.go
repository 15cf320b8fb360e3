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
	"context"
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

// MaxFrames is the number of frames in the largest object that is read; an
// acquisition of the head has tens, hundreds where it is thin.
const MaxFrames = 4096

// Limits. CT matrices are 256 to 1024 pixels a side; headers end in their first
// kilobytes, those of many frames within megabytes.
const (
	maxSide     = 4096
	maxPixels   = 1 << 31 // of all frames: MaxFrames of 512 by 512, twice
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

// Decode reads the pixels of the slice that d describes, the only frame of its
// object, into img, whose memory it reuses. dataset stands at the first byte of
// the data set, as it was sent; it is read no further than the last pixel (when
// deflated, than the bytes that hold it). After an error img is empty.
//
// The error is an *UnsupportedError, ErrNoRescale, ErrMalformed, ctx's or the
// reader's own.
func Decode(ctx context.Context, d Description, dataset io.ReadSeeker, img *infer.Image) error {
	*img = infer.Image{HU: img.HU[:0]}
	if d.Frames > 1 {
		return fmt.Errorf("decode pixels: %w", unsupported("%d frames in one object", d.Frames))
	}
	frames, err := Open(d, dataset)
	if err != nil {
		return err
	}
	return frames.Next(ctx, d, img)
}

// check refuses what cannot be read, before anything is.
func (d *Description) check() error {
	_, known := codecs[d.SyntaxUID]
	switch {
	case d.Encapsulated && !known:
		return unsupported("transfer syntax %s", d.Syntax)
	case d.Encapsulated && (d.BigEndian || d.Deflated):
		return malformed("frames in big endian or deflated")
	case d.Frames > MaxFrames:
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
	case int64(d.frames())*int64(d.Rows)*int64(d.Columns) > maxPixels:
		return unsupported("%d frames of %d by %d", d.Frames, d.Columns, d.Rows)
	case d.Offset < 0 || d.Offset > maxOffset:
		return malformed("pixels at byte %d", d.Offset)
	case d.Encapsulated:
		return nil
	case d.Length == math.MaxUint32:
		return malformed("native pixels of undefined length")
	case int64(d.Length) < int64(d.frames())*d.size():
		return malformed("%d bytes of pixels where %d frames of %d rows of %d need %d", d.Length, d.frames(), d.Rows, d.Columns, int64(d.frames())*d.size())
	}
	return nil
}

// rescale refuses what has no Hounsfield units.
func (d *Description) rescale() error {
	if !d.Rescaled || d.Slope == 0 || !finite(d.Slope) || !finite(d.Intercept) {
		return ErrNoRescale
	}
	return nil
}

// frames is the number of frames.
func (d *Description) frames() int { return max(d.Frames, 1) }

// size is the number of bytes of a native frame.
func (d *Description) size() int64 {
	return int64(d.Rows) * int64(d.Columns) * int64(d.BitsAllocated/8)
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// decoder is what is kept between slices: a table from every word that may be
// stored to its HU, which the slices of a series share, and memory for one slice
// on its way.
type decoder struct {
	meaning meaning
	hu      [1 << 16]int16
	row     [2 * maxSide]byte // native
	frame   []byte            // encapsulated
	words   []uint16          // likewise, decompressed
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

// native reads the next frame of r.
func (dec *decoder) native(d *Description, r io.Reader, img *infer.Image) error {
	pixels := img.HU[:0]
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
	img.HU = pixels
	return nil
}

// encapsulated decompresses dec.frame.
func (dec *decoder) encapsulated(ctx context.Context, d *Description, img *infer.Image) error {
	n := d.Rows * d.Columns
	dec.words = slices.Grow(dec.words[:0], n)[:n]
	if err := d.decompress(ctx, dec.words, dec.frame); err != nil {
		return err
	}
	img.HU = slices.Grow(img.HU[:0], n)[:n]
	for i, w := range dec.words {
		img.HU[i] = dec.hu[w]
	}
	return nil
}

// pixels gives a reader that stands at the first native pixel.
func (d *Description) pixels(dataset io.ReadSeeker) (io.Reader, error) {
	if !d.Deflated {
		_, err := dataset.Seek(d.Offset, io.SeekCurrent)
		return dataset, err
	}
	inflated := flate.NewReader(bufio.NewReader(dataset)) // PS3.5 A.5: raw deflate
	if _, err := io.CopyN(io.Discard, inflated, d.Offset); err != nil {
		return nil, shortRead(err, "the data set ends before its pixels")
	}
	return inflated, nil
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
