package dicom

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// UndefinedLength is the length of a value that ends with a delimiter.
const UndefinedLength uint32 = 0xFFFF_FFFF

// Element is one data element as it was sent.
type Element struct {
	Tag Tag
	// VR is the value representation as sent; "" in an implicit VR syntax.
	VR string
	// Value is the value field as sent, padding included. It is nil, and Length
	// is not 0, where the value was not kept: it had an undefined length or was
	// longer than ScanOptions.MaxValue.
	Value []byte
	// Length is the length as sent, UndefinedLength included.
	Length uint32
}

// Header is what Scan keeps of a data set: the wanted elements of its top level
// and where its pixels begin.
type Header struct {
	TransferSyntax TransferSyntax
	// Elements has the wanted elements of the top level, in ascending order.
	Elements []Element
	// PixelData is the tag of the pixels: TagPixelData, TagFloatPixelData,
	// TagDoubleFloatPixelData, or 0 if the data set has none.
	PixelData Tag
	// PixelDataOffset counts the bytes from the start of the (inflated) data
	// set to the pixels' first byte, or to the first item (the basic offset
	// table) where they are encapsulated.
	PixelDataOffset int64
	// PixelDataLength is the length of the pixels as sent, in bytes;
	// UndefinedLength where they are encapsulated.
	PixelDataLength uint32
}

// ErrAbsent is matched where an attribute is absent, empty or was not kept.
var ErrAbsent = errors.New("attribute absent or empty")

// Lookup returns the element of that tag, and whether the header has it.
func (h *Header) Lookup(t Tag) (Element, bool) {
	i, ok := slices.BinarySearchFunc(h.Elements, t, func(e Element, t Tag) int { return cmp.Compare(e.Tag, t) })
	if !ok {
		return Element{}, false
	}
	return h.Elements[i], true
}

// Value returns the value of t as sent, nil if it is absent.
func (h *Header) Value(t Tag) []byte {
	e, _ := h.Lookup(t)
	return e.Value
}

// String returns the text of t without padding, "" if it is absent. The bytes
// stay in the data set's own character set: right for the attributes that allow
// only the default repertoire (CS, DS, IS, UI, DA, TM), raw for the others.
func (h *Header) String(t Tag) string { return trim(h.Value(t)) }

// UID returns the UID in t, "" if it is absent. It may be invalid.
func (h *Header) UID(t Tag) UID { return UID(h.String(t)) }

// Strings returns the values of a multi-valued text attribute without padding,
// none if it is absent or empty.
func (h *Header) Strings(t Tag) []string {
	s := h.String(t)
	if s == "" {
		return nil
	}
	values := strings.Split(s, `\`)
	for i, v := range values {
		values[i] = strings.Trim(v, " \x00")
	}
	return values
}

// Uint16 returns the first value of an attribute of VR US or SS in its 16 bits;
// false if it is absent or shorter than that.
func (h *Header) Uint16(t Tag) (uint16, bool) {
	v := h.Value(t)
	if len(v) < 2 {
		return 0, false
	}
	if h.TransferSyntax.BigEndian {
		return binary.BigEndian.Uint16(v), true
	}
	return binary.LittleEndian.Uint16(v), true
}

// Int returns the first value of an attribute of VR IS. The error matches
// ErrAbsent if there is none.
func (h *Header) Int(t Tag) (int, error) {
	s, _, _ := strings.Cut(h.String(t), `\`)
	if s = strings.Trim(s, " "); s == "" {
		return 0, fmt.Errorf("dicom: %v: %w", t, ErrAbsent)
	}
	n, err := strconv.ParseInt(s, 10, 32) // PS3.5 Table 6.2-1: IS has 32 bits
	if err != nil {
		return 0, fmt.Errorf("dicom: %v is no integer string: %w", t, errors.Unwrap(err))
	}
	return int(n), nil
}

// Floats returns the values of an attribute of VR DS, all finite. The error
// matches ErrAbsent if there is none; an empty value among others is an error.
func (h *Header) Floats(t Tag) ([]float64, error) {
	values := h.Strings(t)
	if len(values) == 0 {
		return nil, fmt.Errorf("dicom: %v: %w", t, ErrAbsent)
	}
	floats := make([]float64, len(values))
	for i, s := range values {
		// ParseFloat takes more than PS3.5 allows: "Inf", "0x1p4", "1_000".
		if strings.Trim(s, "+-.0123456789eE") != "" {
			return nil, fmt.Errorf("dicom: value %d of %v is no decimal string", i+1, t)
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, fmt.Errorf("dicom: value %d of %v is no decimal string: %w", i+1, t, errors.Unwrap(err))
		}
		floats[i] = f
	}
	return floats, nil
}
