// Package transcode rewrites a compressed object in Explicit VR Little Endian
// (PS3.5 section A.2), for a destination that cannot read it otherwise.
//
// Everything but the pixels stays byte for byte as it is: encapsulated objects are
// in Explicit VR Little Endian but for their pixels (PS3.5 section A.4). That the
// pixels once were compressed with loss therefore stays said, in Lossy Image
// Compression (0028,2110) and its companions (PS3.3 section C.7.6.1.1.5); an object
// that ought to say so and does not is refused. So is everything in which the header
// would have to change with the pixels, as colour, and what carries a digital
// signature, which would no longer hold.
package transcode

import (
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"ichwatch/dimse/dicom"
	"ichwatch/infer/pixel"
)

// ErrImpossible is matched where no other attempt will bring another end: the
// object is of a kind that is not rewritten, or its pixels are damaged.
var ErrImpossible = errors.New("cannot be decompressed")

func impossible(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrImpossible, fmt.Errorf(format, args...))
}

// Target is the transfer syntax of what is read.
const Target = dicom.ExplicitVRLittleEndian

// Takes reports whether objects in a transfer syntax may be rewritten.
func Takes(uid dicom.UID) bool {
	ts, ok := dicom.LookupTransferSyntax(uid)
	if !ok || !ts.Deflated && !ts.Encapsulated {
		return false
	}
	if ts.Deflated {
		return !ts.Encapsulated
	}
	for _, known := range pixel.Encapsulated() {
		if known == string(uid) {
			return true
		}
	}
	return false
}

// lossy are the transfer syntaxes that lose, and those that may.
var lossy = map[dicom.UID]bool{
	"1.2.840.10008.1.2.4.50": true, "1.2.840.10008.1.2.4.51": true,
	"1.2.840.10008.1.2.4.81": false, "1.2.840.10008.1.2.4.91": false,
}

var wanted = map[dicom.Tag]bool{
	dicom.TagSamplesPerPixel: true, dicom.TagPhotometricInterpretation: true, dicom.TagNumberOfFrames: true,
	dicom.TagRows: true, dicom.TagColumns: true, dicom.TagBitsAllocated: true, dicom.TagBitsStored: true, dicom.TagHighBit: true,
	dicom.TagPixelRepresentation: true, dicom.TagLossyImageCompression: true,
	dicom.TagExtendedOffsetTable: true, dicom.TagExtendedOffsetTableLengths: true,
}

// New returns a reader of a data set in the Target syntax. data is the whole data
// set, in the transfer syntax ts. The first frame is decompressed at once, so that
// most of what is wrong is found here; an error, here or of the reader, matches
// ErrImpossible or may be over another time. ctx bounds both.
func New(ctx context.Context, data *io.SectionReader, ts dicom.TransferSyntax) (io.Reader, error) {
	switch {
	case !Takes(ts.UID):
		return nil, impossible("%s is not rewritten", ts.Name)
	case ts.Deflated:
		return &inflated{flate.NewReader(io.NewSectionReader(data, 0, data.Size()))}, nil
	}
	h, err := dicom.Scan(io.NewSectionReader(data, 0, data.Size()), ts, dicom.ScanOptions{Want: func(t dicom.Tag) bool { return wanted[t] }})
	switch {
	case errors.Is(err, dicom.ErrMalformed):
		return nil, impossible("%w", err)
	case err != nil:
		return nil, err
	case h.PixelData == 0: // then there is nothing that the syntax is about
		return io.NewSectionReader(data, 0, data.Size()), nil
	}
	return newObject(ctx, data, h)
}

// inflated tells a stream that is no deflate from a disk that fails.
type inflated struct{ io.Reader }

func (r *inflated) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if _, corrupt := errors.AsType[flate.CorruptInputError](err); corrupt || errors.Is(err, io.ErrUnexpectedEOF) {
		err = impossible("%w", err)
	}
	return n, err
}

// object is an object while it is read: what stands before its pixels, the pixels
// frame by frame, what stands behind.
type object struct {
	ctx    context.Context
	frames *pixel.Frames
	wide   bool // 16 bits are allocated
	left   int  // frames
	words  []uint16
	frame  []byte // at hand, native
	bytes  []byte // what is to be read of it
	odd    bool   // the pixels need a byte of padding
	before io.Reader
	behind io.Reader
}

func newObject(ctx context.Context, data *io.SectionReader, h *dicom.Header) (io.Reader, error) {
	d := describe(h)
	if err := checkLossy(h); err != nil {
		return nil, err
	}
	begin, err := beginOfPixels(data, h, max(d.Frames, 1))
	if err != nil {
		return nil, err
	}
	frames, err := pixel.Open(d, io.NewSectionReader(data, 0, data.Size()))
	if err != nil {
		return nil, judged(err)
	}
	if err := checkBehind(data, frames.End()); err != nil {
		return nil, err
	}
	o := &object{ctx: ctx, frames: frames, wide: d.BitsAllocated == 16, left: max(d.Frames, 1)}
	length := int64(o.left) * int64(d.Rows) * int64(d.Columns) * int64(d.BitsAllocated/8)
	if length > math.MaxUint32-1 {
		return nil, impossible("%d bytes of native pixels are more than an element can hold", length)
	}
	o.odd = length%2 == 1
	header := pixelHeader(o.wide, uint32(length+length%2))
	if err := o.decompress(); err != nil {
		return nil, err
	}
	o.before = io.MultiReader(io.NewSectionReader(data, 0, begin), header)
	o.behind = io.NewSectionReader(data, frames.End(), data.Size()-frames.End())
	return o, nil
}

// describe takes what the decoder wants to know from a header.
func describe(h *dicom.Header) pixel.Description {
	number := func(t dicom.Tag) int { n, _ := h.Uint16(t); return int(n) }
	d := pixel.Description{
		Rows: number(dicom.TagRows), Columns: number(dicom.TagColumns), SamplesPerPixel: number(dicom.TagSamplesPerPixel),
		BitsAllocated: number(dicom.TagBitsAllocated), BitsStored: number(dicom.TagBitsStored), HighBit: number(dicom.TagHighBit),
		Signed: number(dicom.TagPixelRepresentation) == 1, Photometric: h.String(dicom.TagPhotometricInterpretation),
		SyntaxUID: string(h.TransferSyntax.UID), Syntax: h.TransferSyntax.Name, Encapsulated: true,
		Offset: h.PixelDataOffset, Length: h.PixelDataLength,
	}
	if h.String(dicom.TagNumberOfFrames) != "" {
		var err error
		if d.Frames, err = h.Int(dicom.TagNumberOfFrames); err != nil {
			d.Frames = -1 // which the decoder refuses
		}
	}
	return d
}

// checkLossy refuses what would hide that it was compressed with loss.
func checkLossy(h *dicom.Header) error {
	loses, may := lossy[h.TransferSyntax.UID]
	switch said := h.String(dicom.TagLossyImageCompression); {
	case loses && said != "01", may && said == "":
		return impossible("%s loses, and the object does not say so in %v: decompressed, nobody would know", h.TransferSyntax.Name, dicom.TagLossyImageCompression)
	}
	return nil
}

// beginOfPixels is where what belongs to the encapsulated pixels begins: their
// element, or the extended offset table before it (PS3.3 section C.7.6.3.1.8).
func beginOfPixels(data io.ReaderAt, h *dicom.Header, frames int) (int64, error) {
	const header = 12 // of an element of a VR with a long form
	begin := h.PixelDataOffset - header
	tables := int64(0)
	for _, e := range h.Elements {
		if e.Tag == dicom.TagExtendedOffsetTable || e.Tag == dicom.TagExtendedOffsetTableLengths {
			tables++
		}
	}
	first := dicom.TagPixelData
	if tables > 0 {
		first = dicom.TagExtendedOffsetTable
	}
	begin -= tables * (header + 8*int64(frames))
	tag, err := tagAt(data, begin)
	if err != nil {
		return 0, err
	}
	if h.PixelData != dicom.TagPixelData || tag != first {
		return 0, impossible("%v does not stand where it ought to", first)
	}
	return begin, nil
}

// checkBehind refuses what signs the pixels. Behind them nothing but signatures
// and padding may stand (PS3.5 section 7.1).
func checkBehind(data *io.SectionReader, end int64) error {
	if end+4 > data.Size() {
		return nil
	}
	const digitalSignaturesSequence dicom.Tag = 0xFFFA_FFFA
	tag, err := tagAt(data, end)
	if err == nil && tag == digitalSignaturesSequence {
		err = impossible("it is signed, and the signature would no longer hold")
	}
	return err
}

func tagAt(data io.ReaderAt, at int64) (dicom.Tag, error) {
	var b [4]byte
	if at < 0 {
		return 0, nil
	}
	if _, err := data.ReadAt(b[:], at); err != nil {
		return 0, err
	}
	return dicom.Tag(binary.LittleEndian.Uint16(b[:]))<<16 | dicom.Tag(binary.LittleEndian.Uint16(b[2:])), nil
}

// judged tells pixels that will never be read from those that may be another time.
func judged(err error) error {
	if _, unsupported := errors.AsType[*pixel.UnsupportedError](err); unsupported || errors.Is(err, pixel.ErrMalformed) {
		return impossible("%w", err)
	}
	return err
}
