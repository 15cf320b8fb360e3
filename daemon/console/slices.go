package console

import (
	"bytes"
	"compress/gzip"
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ichwatch/daemon/spool"
	"ichwatch/infer"
)

// sliceHead describes the bytes of a slice; it travels in a header beside them.
type sliceHead struct {
	Rows    int        `json:"rows"`
	Columns int        `json:"columns"`
	Aspect  float64    `json:"aspect"` // of a pixel: height by width
	Sides   [4]string  `json:"sides"`
	Spacing [2]float64 `json:"spacing"` // mm between rows, between columns; 0 where unknown
}

// encoded is a slice as it travels.
type encoded struct {
	head string
	body []byte
}

// errForeign: the slice is none of the study in whose name it was asked for.
var errForeign = errors.New("not a slice of this study")

// parseSlice reads what stack calls a slice: the instance, a point, the frame.
func parseSlice(id string) (instance int64, frame int, ok bool) {
	a, b, found := strings.Cut(id, ".")
	instance, err1 := strconv.ParseInt(a, 10, 64)
	frame, err2 := strconv.Atoi(b)
	return instance, frame, found && err1 == nil && err2 == nil && instance > 0 && frame >= 0 && id == fmt.Sprintf("%d.%d", instance, frame)
}

// decoding bounds how many slices are decoded at a time for all who look.
var decoding = make(chan struct{}, 2)

// decode reads a slice of a study from the disk.
func (s *Server) decode(ctx context.Context, study string, instance int64, frame int) (*Slice, error) {
	select {
	case decoding <- struct{}{}:
		defer func() { <-decoding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	data, err := s.Spool.OpenDataSet(ctx, instance)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	if data.Instance.Study != study {
		return nil, errForeign
	}
	return s.Slice(ctx, data, frame)
}

// slice answers with what encode makes of a slice, from memory where that has it.
func (s *Server) slice(w http.ResponseWriter, r *http.Request, kind string, encode func(*Slice) (encoded, error)) {
	study := r.PathValue("study")
	instance, frame, ok := parseSlice(r.PathValue("slice"))
	if !ok {
		http.Error(w, "no such slice", http.StatusNotFound)
		return
	}
	key := fmt.Sprintf("%s %d.%d %s", study, instance, frame, kind)
	e, ok := s.slices.get(key)
	if !ok {
		img, err := s.decode(r.Context(), study, instance, frame)
		if err == nil {
			e, err = encode(img)
		}
		switch {
		case r.Context().Err() != nil:
			return
		case errors.Is(err, spool.ErrUnknownInstance), errors.Is(err, errForeign):
			http.Error(w, "no such slice", http.StatusNotFound)
			return
		case errors.Is(err, spool.ErrMissing):
			http.Error(w, "this slice is no longer here; the PACS has it", http.StatusGone)
			return
		case err != nil:
			s.Log.Warn("a slice cannot be shown", "study", study, "instance", instance, "err", err)
			http.Error(w, "this slice cannot be shown", http.StatusUnprocessableEntity)
			return
		}
		s.slices.put(key, e)
	}
	if e.head != "" {
		w.Header().Set("X-Slice", e.head)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Encoding", "gzip")
	} else {
		w.Header().Set("Content-Type", "image/png")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(e.body)))
	_, _ = w.Write(e.body) // the client went away: nobody to tell
}

// sliceHU gives a slice in Hounsfield units: the windowing is the browser's, so
// that one transfer serves every window.
func (s *Server) sliceHU(w http.ResponseWriter, r *http.Request) { s.slice(w, r, "hu", encodeHU) }

// encodeHU writes the difference of each pixel to its left neighbour (of the first
// in a row, to the one above), modulo 2^16: all the low bytes, then all the high
// ones. A third of the size is left once that is compressed.
func encodeHU(img *Slice) (encoded, error) {
	planes := make([]byte, 2*len(img.HU))
	low, high := planes[:len(img.HU)], planes[len(img.HU):]
	for i, hu := range img.HU {
		before := int16(0)
		switch {
		case i%img.Columns > 0:
			before = img.HU[i-1]
		case i > 0:
			before = img.HU[i-img.Columns]
		}
		d := uint16(hu) - uint16(before)
		low[i], high[i] = byte(d), byte(d>>8)
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return encoded{}, err
	}
	if _, err = z.Write(planes); err == nil {
		err = z.Close()
	}
	if err != nil {
		return encoded{}, err
	}
	head, err := json.Marshal(sliceHead{img.Rows, img.Columns, aspect(img), img.Sides, img.PixelSpacing})
	return encoded{string(head), out.Bytes()}, err
}

// aspect is how much higher than wide a pixel is.
func aspect(img *Slice) float64 {
	if h, w := img.PixelSpacing[0], img.PixelSpacing[1]; h > 0 && w > 0 && h/w > 0.1 && h/w < 10 {
		return h / w
	}
	return 1
}

// slicePNG gives a small picture of a slice, or of the one to look at first, in
// one of the windows.
func (s *Server) slicePNG(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutSuffix(r.PathValue("window"), ".png")
	at := slices.IndexFunc(windows, func(w window) bool { return w.Name == name })
	if !ok || at < 0 {
		http.Error(w, "no such window", http.StatusNotFound)
		return
	}
	if r.PathValue("slice") == "key" {
		record, ok := s.findStudy(w, r)
		if !ok {
			return
		}
		st, err := s.stack(r.Context(), record)
		if err != nil {
			s.broke(w, r, err)
			return
		}
		r.SetPathValue("slice", st.key())
	}
	s.slice(w, r, name, func(img *Slice) (encoded, error) { return encodePNG(img, windows[at]) })
}

// pictureWidth is that of small pictures, in pixels.
const pictureWidth = 320

// encodePNG averages the pixels that fall on one of the picture's.
func encodePNG(img *Slice, in window) (encoded, error) {
	width := min(pictureWidth, img.Columns)
	height := max(1, int(float64(img.Rows)*aspect(img)*float64(width)/float64(img.Columns)+0.5))
	picture := image.NewGray(image.Rect(0, 0, width, height))
	low := in.Centre - in.Width/2
	for y := range height {
		y0, y1 := span(y, height, img.Rows)
		for x := range width {
			x0, x1 := span(x, width, img.Columns)
			sum := 0
			for v := y0; v < y1; v++ {
				for _, hu := range img.HU[v*img.Columns+x0 : v*img.Columns+x1] {
					sum += int(hu)
				}
			}
			mean := float64(sum) / float64((y1-y0)*(x1-x0))
			picture.Pix[y*picture.Stride+x] = uint8(min(max((mean-low)/in.Width, 0), 1)*255 + 0.5)
		}
	}
	var out bytes.Buffer
	err := png.Encode(&out, picture)
	return encoded{body: out.Bytes()}, err
}

// span is the pixels that the i-th of n takes of all; at least one.
func span(i, n, all int) (from, to int) {
	from = i * all / n
	return from, max(from+1, (i+1)*all/n)
}

// sliceMap gives a slice's heat map.
func (s *Server) sliceMap(w http.ResponseWriter, r *http.Request) {
	instance, frame, ok := parseSlice(r.PathValue("slice"))
	class, err := infer.ParseClass(r.FormValue("class"))
	if !ok || err != nil || s.HeatMap == nil {
		http.Error(w, "no such map", http.StatusNotFound)
		return
	}
	data, err := s.Spool.OpenDataSet(r.Context(), instance) // whose study it is
	if err == nil {
		defer data.Close()
		if data.Instance.Study != r.PathValue("study") {
			err = errForeign
		}
	}
	var m *HeatMap
	if err == nil {
		m, err = s.HeatMap(r.Context(), instance, frame, class)
	}
	if err != nil || m == nil {
		http.Error(w, "there is no map of this slice", http.StatusNotFound)
		return
	}
	writeJSON(w, http.StatusOK, m)
}

// maxCache bounds the slices that are kept, in bytes.
const maxCache = 64 << 20

// cache keeps what was encoded last.
type cache struct {
	mu    sync.Mutex
	size  int
	byKey map[string]*list.Element // of cached
	order *list.List               // the one used last in front
}

type cached struct {
	key string
	encoded
}

func (c *cache) init() { c.byKey, c.order = map[string]*list.Element{}, list.New() }

func (c *cache) get(key string) (encoded, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.byKey[key]
	if !ok {
		return encoded{}, false
	}
	c.order.MoveToFront(at)
	return at.Value.(cached).encoded, true
}

func (c *cache) put(key string, e encoded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byKey[key]; ok || len(e.body) > maxCache/4 {
		return
	}
	c.byKey[key] = c.order.PushFront(cached{key, e})
	for c.size += len(e.body); c.size > maxCache; {
		last := c.order.Remove(c.order.Back()).(cached)
		delete(c.byKey, last.key)
		c.size -= len(last.body)
	}
}
