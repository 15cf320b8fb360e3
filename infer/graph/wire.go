package graph

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// field is one field of a protobuf message.
type field struct {
	number int
	varint uint64
	bytes  []byte // not nil exactly where the field is of bytes
	raw    []byte // the whole field as it stands, with its key
}

// The wire types in use.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// nextField takes the first field off b. Groups, which ONNX has none of, are
// refused.
func nextField(b []byte) (f field, rest []byte, err error) {
	whole := b
	key, n := binary.Uvarint(b)
	if n <= 0 || key>>3 == 0 || key>>3 > math.MaxInt32 {
		return field{}, nil, fmt.Errorf("%w: it ends or breaks off in a field", ErrNotONNX)
	}
	f.number, b = int(key>>3), b[n:]
	var length uint64
	switch key & 7 {
	case wireVarint:
		f.varint, n = binary.Uvarint(b)
		if n <= 0 {
			return field{}, nil, fmt.Errorf("%w: it breaks off in a number", ErrNotONNX)
		}
		length = uint64(n)
	case wireFixed64:
		length = 8
	case wireFixed32:
		length = 4
	case wireBytes:
		length, n = binary.Uvarint(b)
		if n <= 0 {
			return field{}, nil, fmt.Errorf("%w: it breaks off in a length", ErrNotONNX)
		}
		b = b[n:]
	default:
		return field{}, nil, fmt.Errorf("%w: wire type %d", ErrNotONNX, key&7)
	}
	if length > uint64(len(b)) {
		return field{}, nil, fmt.Errorf("%w: a field claims %d bytes where %d are left", ErrNotONNX, length, len(b))
	}
	if key&7 == wireBytes {
		f.bytes = b[:length:length]
	}
	rest = b[length:]
	f.raw = whole[:len(whole)-len(rest)]
	return f, rest, nil
}

// each calls visit with the fields of a message, in order.
func each(message []byte, visit func(f field) error) error {
	for len(message) > 0 {
		f, rest, err := nextField(message)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		message = rest
	}
	return nil
}

// path follows fields of bytes inwards and gives the last; nil where one is
// missing.
func path(b []byte, numbers ...int) ([]byte, error) {
	for _, number := range numbers {
		var found []byte
		err := each(b, func(f field) error {
			if f.number == number && f.bytes != nil {
				found = f.bytes
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if b = found; b == nil {
			return nil, nil
		}
	}
	return b, nil
}

func nameOf(b []byte, number int) string {
	name, err := path(b, number)
	if err != nil {
		return ""
	}
	return string(name)
}

// edit gives a message with one kind of its submessages changed. What change
// leaves as it is, and every other field, stays byte for byte, however it was
// encoded.
func edit(message []byte, number int, change func(inner []byte) ([]byte, error)) ([]byte, error) {
	out := make([]byte, 0, len(message)+64)
	err := each(message, func(f field) error {
		if f.number != number || f.bytes == nil {
			out = append(out, f.raw...)
			return nil
		}
		inner, err := change(f.bytes)
		if err != nil {
			return err
		}
		if bytes.Equal(inner, f.bytes) {
			out = append(out, f.raw...)
		} else {
			out = appendBytes(out, number, inner)
		}
		return nil
	})
	return out, err
}

// appendBytes appends a field of bytes.
func appendBytes(b []byte, number int, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(number)<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// appendVarint appends a field that is a number.
func appendVarint(b []byte, number int, value uint64) []byte {
	b = binary.AppendUvarint(b, uint64(number)<<3|wireVarint)
	return binary.AppendUvarint(b, value)
}
