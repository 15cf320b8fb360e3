package pixel

import (
	"context"
	"errors"
	"maps"
	"slices"

	"ichwatch/infer/pixel/jpeg"
	"ichwatch/infer/pixel/jpegls"
	"ichwatch/infer/pixel/openjpeg"
	"ichwatch/infer/pixel/rle"
)

// codec decompresses a frame. precision is how many bits of each word it has
// filled; signed tells that the word is a two's complement of all its 16 bits.
type codec func(ctx context.Context, d *Description, words []uint16, frame []byte) (precision int, signed bool, err error)

// codecs has the encapsulated transfer syntaxes that are read (PS3.5 Annex A.4).
var codecs = map[string]codec{
	"1.2.840.10008.1.2.5":    decodeRLE,
	"1.2.840.10008.1.2.4.50": decodeJPEG,   // baseline
	"1.2.840.10008.1.2.4.51": decodeJPEG,   // extended, 8 and 12 bits
	"1.2.840.10008.1.2.4.57": decodeJPEG,   // lossless
	"1.2.840.10008.1.2.4.70": decodeJPEG,   // lossless, selection value 1
	"1.2.840.10008.1.2.4.80": decodeJPEGLS, // lossless
	"1.2.840.10008.1.2.4.81": decodeJPEGLS, // near-lossless
	"1.2.840.10008.1.2.4.90": decodeJPEG2000,
	"1.2.840.10008.1.2.4.91": decodeJPEG2000,
}

// Encapsulated lists the encapsulated transfer syntaxes that are read, by UID.
// Native ones are read all.
func Encapsulated() []string { return slices.Sorted(maps.Keys(codecs)) }

func decodeRLE(_ context.Context, d *Description, words []uint16, frame []byte) (int, bool, error) {
	return d.BitsAllocated, false, rle.Decode(words, frame, d.BitsAllocated/8)
}

func decodeJPEG(_ context.Context, d *Description, words []uint16, frame []byte) (int, bool, error) {
	precision, err := jpeg.Decode(words, frame, d.Columns, d.Rows)
	return precision, false, err
}

func decodeJPEGLS(_ context.Context, d *Description, words []uint16, frame []byte) (int, bool, error) {
	precision, err := jpegls.Decode(words, frame, d.Columns, d.Rows)
	return precision, false, err
}

func decodeJPEG2000(ctx context.Context, d *Description, words []uint16, frame []byte) (int, bool, error) {
	return openjpeg.Decode(ctx, words, frame, d.Columns, d.Rows)
}

// decompress decodes a frame into words, such as stand in native pixels.
func (d *Description) decompress(ctx context.Context, words []uint16, frame []byte) error {
	precision, signed, err := codecs[d.SyntaxUID](ctx, d, words, frame)
	switch {
	case err == nil:
		return d.agrees(precision, signed)
	case errors.Is(err, jpeg.ErrUnsupported), errors.Is(err, jpegls.ErrUnsupported),
		errors.Is(err, openjpeg.ErrUnsupported), errors.Is(err, openjpeg.ErrAbsent):
		return unsupported("%v", err)
	case errors.Is(err, rle.ErrMalformed), errors.Is(err, jpeg.ErrMalformed), errors.Is(err, jpegls.ErrMalformed),
		errors.Is(err, openjpeg.ErrMalformed):
		return malformed("%v", err)
	}
	return err
}

// agrees refuses a frame that says otherwise than the header what its words mean:
// either may be right, and the other would give wrong Hounsfield units.
func (d *Description) agrees(precision int, signed bool) error {
	switch {
	case precision > d.BitsAllocated:
		return malformed("a frame of %d bits where %d are allocated", precision, d.BitsAllocated)
	case signed && !d.Signed:
		return unsupported("signed pixels in the frame, unsigned ones in the header")
	case !signed && d.Signed && precision < d.BitsStored:
		return unsupported("unsigned pixels of %d bits in the frame, signed ones of %d in the header", precision, d.BitsStored)
	case d.HighBit >= d.BitsStored && precision <= d.HighBit:
		return unsupported("pixels of %d bits in the frame, whose highest is to be bit %d", precision, d.HighBit)
	}
	return nil
}
