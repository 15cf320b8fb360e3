package pixel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"ichwatch/infer"
)

// Frames reads the frames of one object, in their order. It is for one goroutine.
type Frames struct {
	d     Description
	next  int // of the frames
	err   error
	pixel io.Reader      // native: at the next frame
	coded *encapsulation // otherwise
}

// Open prepares for reading the frames of the object that d describes. dataset
// stands at the first byte of the data set and belongs to Frames until the last
// Next. The error is an *UnsupportedError, ErrMalformed or the reader's own.
func Open(d Description, dataset io.ReadSeeker) (*Frames, error) {
	f := &Frames{d: d}
	err := d.check()
	switch {
	case err != nil:
	case d.Encapsulated:
		f.coded, err = openEncapsulation(dataset, d.Offset, d.frames())
	default:
		f.pixel, err = d.pixels(dataset)
	}
	if err != nil {
		return nil, fmt.Errorf("decode pixels: %w", err)
	}
	return f, nil
}

// Next reads the next frame into img, whose memory it reuses. d is the frame's
// own description. After an error img is empty; io.EOF tells that there was no
// frame left. The error otherwise is as that of Decode; one of native pixels stays,
// while another encapsulated frame may be sound.
func (f *Frames) Next(ctx context.Context, d Description, img *infer.Image) error {
	*img = infer.Image{HU: img.HU[:0]}
	if f.next == f.d.frames() {
		return io.EOF
	}
	if err := f.read(ctx, d, img); err != nil {
		*img = infer.Image{HU: img.HU[:0]}
		return fmt.Errorf("decode pixels: %w", err)
	}
	img.Rows, img.Columns, img.PixelSpacing = f.d.Rows, f.d.Columns, d.PixelSpacing
	return nil
}

// Words decompresses the next frame of an encapsulated object into the words that
// would stand in native pixels, Rows by Columns of them, in the memory of words as
// far as that goes. io.EOF tells that there was no frame left; the error otherwise
// is as that of Decode.
func (f *Frames) Words(ctx context.Context, words []uint16) ([]uint16, error) {
	switch {
	case f.next == f.d.frames():
		return nil, io.EOF
	case f.coded == nil:
		return nil, fmt.Errorf("decode pixels: %w", unsupported("native pixels, which need it not"))
	}
	at := f.next
	f.next++
	dec := decoders.Get().(*decoder)
	defer decoders.Put(dec)
	var err error
	if dec.frame, err = f.coded.frame(dec.frame[:0], at, maxFrameBytes(&f.d)); err == nil {
		n := f.d.Rows * f.d.Columns
		words = slices.Grow(words[:0], n)[:n]
		err = f.d.decompress(ctx, words, dec.frame)
	}
	if err != nil {
		return nil, fmt.Errorf("decode pixels: %w", err)
	}
	return words, nil
}

// End is where in the reader given to Open the encapsulated pixels end; 0 for
// native ones.
func (f *Frames) End() int64 {
	if f.coded == nil {
		return 0
	}
	return f.coded.end
}

// Skip passes over the next frame.
func (f *Frames) Skip() error {
	if f.next == f.d.frames() {
		return io.EOF
	}
	if err := f.skip(); err != nil {
		return fmt.Errorf("decode pixels: %w", err)
	}
	return nil
}

func (f *Frames) skip() error {
	f.next++
	if f.coded == nil && f.err == nil {
		if _, err := io.CopyN(io.Discard, f.pixel, f.d.size()); err != nil {
			f.err = shortRead(err, "the pixels end in frame %d", f.next)
		}
	}
	return f.err
}

func (f *Frames) read(ctx context.Context, d Description, img *infer.Image) error {
	if err := d.rescale(); err != nil {
		return errors.Join(err, f.skip())
	}
	at := f.next
	f.next++
	if f.err != nil {
		return f.err
	}
	// What was checked when the object was opened holds for every frame.
	object := f.d
	object.Rescaled, object.Slope, object.Intercept, object.Padding = true, d.Slope, d.Intercept, d.Padding

	dec := decoders.Get().(*decoder)
	defer decoders.Put(dec)
	dec.prepare(object)
	if f.coded == nil {
		f.err = dec.native(&object, f.pixel, img)
		return f.err
	}
	var err error
	if dec.frame, err = f.coded.frame(dec.frame[:0], at, maxFrameBytes(&object)); err != nil {
		return err
	}
	return dec.encapsulated(ctx, &object, img)
}

// maxFrameBytes bounds a compressed frame: no codec makes one longer than twice
// what it compresses, and some room for its headers and for padding.
func maxFrameBytes(d *Description) int64 { return 2*d.size() + 64<<10 }
