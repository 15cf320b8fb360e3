package dicom

import (
	"compress/flate"
	"io"
)

// Item is one item of a sequence: the sequence's tag, and the item's number from
// 0 on.
type Item struct {
	Sequence Tag
	Number   int
}

// WalkOptions says where Walk goes. The limits are those of ScanOptions.
type WalkOptions struct {
	// Enter reports whether Walk looks into the sequence t, which stands in the
	// item that path leads to. It is asked of what may be a sequence: in Implicit
	// VR that is every element, so it must know its tags.
	Enter func(path []Item, t Tag) bool
	// Visit is given every other element whose value is not longer than MaxValue.
	// path is valid until it returns. Its error ends the walk.
	Visit func(path []Item, e Element) error

	MaxHeader int64
	MaxValue  int
}

// level is a sequence or an item that Walk is in.
type level struct {
	end      int64 // offset behind it; -1: a delimiter ends it
	item     bool
	encoding encoding // of what is in it
}

// Walk reads a data set from r up to the value of its pixel data, or to its end,
// and shows what is in its sequences. What Scan promises of memory and of errors
// holds for Walk.
func Walk(r io.Reader, ts TransferSyntax, o WalkOptions) error {
	source := &source{r: r}
	s := newScanner(ts, ScanOptions{MaxHeader: o.MaxHeader, MaxValue: o.MaxValue})
	s.window.source, s.window.r = source, source
	if ts.Deflated {
		s.window.r = flate.NewReader(source)
	}
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	s.window.buf = buffer[:0]
	return s.walk(o)
}

func (s *scanner) walk(o WalkOptions) error {
	var levels []level
	var path []Item
	top := encoding{explicit: s.header.TransferSyntax.ExplicitVR, big: s.header.TransferSyntax.BigEndian}
	e := &s.element
	for {
		here := level{end: -1, item: true, encoding: top}
		if len(levels) > 0 {
			here = levels[len(levels)-1]
		}
		if offset := s.window.offset(); here.end >= 0 && offset >= here.end {
			if offset > here.end {
				return s.fail(ErrLength)
			}
			levels, path = leave(levels, path)
			continue
		}
		if len(levels) == 0 && !s.window.fill(1) {
			if err := s.window.failure(); err != nil {
				return s.fail(err)
			}
			return nil
		}
		if err := s.next(here.encoding); err != nil {
			return err
		}
		undefined := e.Length == UndefinedLength
		end := int64(-1)
		if !undefined {
			if end = s.window.offset() + int64(e.Length); here.end >= 0 && end > here.end {
				return s.fail(ErrLength)
			}
		}
		switch {
		case !here.item && e.Tag == tagItem:
			path[len(path)-1].Number++
			levels = append(levels, level{end, true, here.encoding})
		case !here.item && e.Tag == tagSequenceDelimitationItem && here.end < 0 && e.Length == 0,
			here.item && e.Tag == tagItemDelimitationItem && here.end < 0 && e.Length == 0 && len(levels) > 0:
			levels, path = leave(levels, path)
		case !here.item || e.Tag.Group() == 0xFFFE:
			return s.fail(ErrTag)
		case len(levels) == 0 && e.Tag.isPixelData():
			return nil
		case s.mayNest(here.encoding) && o.Enter(path, e.Tag):
			if len(path) == maxDepth {
				return s.fail(ErrTooDeep)
			}
			inner := here.encoding
			if e.VR == "UN" {
				inner = encoding{} // PS3.5 Section 6.2.2
			}
			path = append(path, Item{e.Tag, -1})
			levels = append(levels, level{end, false, inner})
		case undefined:
			if err := s.sequence(here.encoding); err != nil {
				return err
			}
		case e.Length > s.maxValue:
			if err := s.skip(e.Length); err != nil {
				return err
			}
		default:
			if err := s.take(); err != nil {
				return err
			}
			if err := o.Visit(path, *e); err != nil {
				return err
			}
		}
	}
}

// mayNest reports whether the element being looked at may be a sequence.
func (s *scanner) mayNest(enc encoding) bool {
	return !enc.explicit || s.element.VR == "SQ" || s.element.VR == "UN"
}

// leave goes out of the innermost item or sequence.
func leave(levels []level, path []Item) ([]level, []Item) {
	last := len(levels) - 1
	if !levels[last].item {
		path = path[:len(path)-1]
	}
	return levels[:last], path
}
