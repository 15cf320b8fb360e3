package dicom

import (
	"errors"
	"io"
	"slices"
	"sync"
)

const bufferSize = 16 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// window is the part of a data set that is in memory: all of it, where there is
// no reader behind, or a buffer's fill of it.
type window struct {
	r      io.Reader // what fills buf; nil: buf is all there is
	source *source   // what is below r
	err    error     // of r

	buf  []byte
	pos  int   // buf[pos:] is yet to be looked at
	base int64 // offset of buf[0] in the data set

	kept []byte // values taken out of buf
}

// offset returns how many bytes of the data set have been consumed.
func (w *window) offset() int64 { return w.base + int64(w.pos) }

// next returns what fill has promised to be there.
func (w *window) next() []byte { return w.buf[w.pos:] }

func (w *window) advance(n int) { w.pos += n }

// fill reads until n bytes are there, at most bufferSize; false if the data set
// ends before.
func (w *window) fill(n int) bool {
	if len(w.buf)-w.pos >= n {
		return true
	}
	if w.r == nil {
		return false
	}
	w.base += int64(w.pos)
	w.buf = w.buf[:copy(w.buf, w.buf[w.pos:])]
	w.pos = 0
	for idle := 0; len(w.buf) < n; {
		if w.err != nil {
			return false
		}
		var m int
		m, w.err = w.r.Read(w.buf[len(w.buf):cap(w.buf)])
		w.buf = w.buf[:len(w.buf)+m]
		if m > 0 {
			idle = 0
		} else if idle++; idle == 100 && w.err == nil {
			w.err = io.ErrNoProgress
		}
	}
	return true
}

// skip passes over n bytes; false if the data set ends before.
func (w *window) skip(n int64) bool {
	for {
		there := int64(len(w.buf) - w.pos)
		if n <= there {
			w.pos += int(n)
			return true
		}
		w.pos = len(w.buf)
		n -= there
		if !w.fill(1) {
			return false
		}
	}
}

// take returns the next n bytes in memory that stays as it is; false if the data
// set ends before. It allocates as the bytes arrive, not as n claims.
func (w *window) take(n int) ([]byte, bool) {
	if w.r == nil {
		if n > len(w.buf)-w.pos {
			return nil, false
		}
		w.pos += n
		return w.buf[w.pos-n : w.pos : w.pos], true
	}
	if w.kept == nil || cap(w.kept)-len(w.kept) < n {
		// A new block; values taken earlier keep the old one.
		w.kept = make([]byte, 0, max(1024, min(n, bufferSize)))
	}
	start := len(w.kept)
	for {
		there := w.buf[w.pos:]
		if m := len(w.kept) - start; n-m <= len(there) {
			w.kept = append(w.kept, there[:n-m]...)
			w.pos += n - m
			return slices.Clip(w.kept[start:]), true
		}
		w.kept = append(w.kept, there...)
		w.pos = len(w.buf)
		if !w.fill(1) {
			return nil, false
		}
	}
}

// failure returns why the window has ended: nil for the end of the data set, the
// reader's own error, or what is wrong with the deflate stream.
func (w *window) failure() error {
	if w.r == nil {
		return nil
	}
	if err := w.source.failure(); err != nil {
		return err
	}
	switch {
	case w.err == nil || w.err == io.EOF:
		return nil
	case errors.Is(w.err, io.ErrUnexpectedEOF):
		return ErrTruncated
	case errors.Is(w.err, io.ErrNoProgress):
		return w.err
	}
	return ErrDeflate
}

// source remembers the error that ended r, which a decompressor on top of it may
// pass on, hide, or make up on its own.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// failure returns the error of r, nil if it has met none but its end.
func (s *source) failure() error {
	if s.err == io.EOF {
		return nil
	}
	return s.err
}
