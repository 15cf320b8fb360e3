package transcode

import (
	"bytes"
	"encoding/binary"
	"io"

	"ichwatch/dimse/dicom"
)

// pixelHeader is the header of native Pixel Data: OW, or OB where 8 bits are
// allocated (PS3.5 section A.2).
func pixelHeader(wide bool, length uint32) io.Reader {
	b := binary.LittleEndian.AppendUint16(nil, dicom.TagPixelData.Group())
	b = binary.LittleEndian.AppendUint16(b, dicom.TagPixelData.Element())
	vr := "OB"
	if wide {
		vr = "OW"
	}
	b = append(append(b, vr...), 0, 0)
	return bytes.NewReader(binary.LittleEndian.AppendUint32(b, length))
}

// decompress takes the next frame to hand.
func (o *object) decompress() error {
	var err error
	if o.words, err = o.frames.Words(o.ctx, o.words); err != nil {
		return judged(err)
	}
	o.left--
	frame := o.frame[:0]
	for _, w := range o.words {
		if o.wide {
			frame = binary.LittleEndian.AppendUint16(frame, w)
		} else {
			frame = append(frame, byte(w))
		}
	}
	if o.left == 0 && o.odd {
		frame = append(frame, 0)
	}
	o.frame, o.bytes = frame, frame
	return nil
}

// Read implements io.Reader.
func (o *object) Read(p []byte) (int, error) {
	if o.before != nil {
		n, err := o.before.Read(p)
		if err != io.EOF {
			return n, err
		}
		o.before = nil
		if n > 0 {
			return n, nil
		}
	}
	if len(o.bytes) == 0 && o.left > 0 {
		if err := o.decompress(); err != nil {
			return 0, err
		}
	}
	if len(o.bytes) > 0 {
		n := copy(p, o.bytes)
		o.bytes = o.bytes[n:]
		return n, nil
	}
	return o.behind.Read(p)
}
