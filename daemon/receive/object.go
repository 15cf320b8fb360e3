package receive

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"ichwatch/daemon/spool"
)

// measureEvery is after how many bytes of one object the disk is measured again.
const measureEvery = 16 << 20

// bufferSize is enough for the P-DATA-TF that we offer to receive.
const bufferSize = 128 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// errBrokenOff is matched when the data of an object ended early: the
// association died, or the object outgrew its bound.
var errBrokenOff = errors.New("object broken off")

// object is an object on its way into the spool: what is read of it has been
// written. Neither side is asked again after it failed.
type object struct {
	data     io.Reader
	in       *spool.Incoming
	room     func() error
	measured int64 // size at which the disk was last measured
	err      error // the first of either side, io.EOF apart
}

// Read reads from the association and writes to the spool.
func (o *object) Read(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.data.Read(p)
	if n > 0 {
		if _, err := o.in.Write(p[:n]); err != nil {
			o.err = err
			return 0, err
		}
	}
	if size := o.in.Size(); size-o.measured >= measureEvery {
		o.measured = size
		if err := o.room(); err != nil {
			o.err = err
			return 0, err
		}
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w after %d bytes: %w", errBrokenOff, o.in.Size(), err)
		o.err = err
	}
	return n, err
}

// drain takes in what Scan has left.
func (o *object) drain() error {
	p := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(p)
	for {
		if _, err := o.Read(p[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
