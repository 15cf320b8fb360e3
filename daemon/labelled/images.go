package labelled

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // decoders
	_ "image/png"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"ichwatch/infer"
)

// Window is the range of Hounsfield units that the grey levels 0 to 255 of an
// exported slice stand for.
type Window struct{ Centre, Width float64 }

// BrainWindow is what most slices are exported in.
var BrainWindow = Window{Centre: 40, Width: 80}

// UnmarshalText reads CENTRE/WIDTH, in Hounsfield units.
func (w *Window) UnmarshalText(text []byte) error {
	before, after, _ := strings.Cut(string(text), "/")
	centre, notCentre := strconv.ParseFloat(before, 64)
	width, notWidth := strconv.ParseFloat(after, 64)
	// What a pixel of CT can be, with room for unusual scales.
	if notCentre != nil || notWidth != nil || !(math.Abs(centre) <= 4096) || !(width >= 1 && width <= 8192) {
		return errors.New("wanted is CENTRE/WIDTH in HU as in 40/80, the centre within -4096 to 4096, the width within 1 to 8192")
	}
	*w = Window{Centre: centre, Width: width}
	return nil
}

// String gives CENTRE/WIDTH.
func (w Window) String() string { return fmt.Sprintf("%g/%g", w.Centre, w.Width) }

// MarshalText is the inverse of UnmarshalText.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// hounsfield gives the value of each grey level. 0 is the window's lower end,
// which stands for all that lies below it, air too: manifest.Crop says how the
// head is found all the same.
func (w Window) hounsfield() (hu [256]int16) {
	for v := range hu {
		hu[v] = int16(math.RoundToEven(w.Centre - w.Width/2 + float64(v)/255*w.Width))
	}
	return hu
}

// isImage goes by the name.
func isImage(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".png", ".jpg", ".jpeg":
		return true
	}
	return false
}

// allImages reports whether every row names an image.
func (l *Labels) allImages() bool {
	return !slices.ContainsFunc(l.Rows, func(l Label) bool { return !isImage(l.File) })
}

// matchImages finds the images of the rows.
func (s *Set) matchImages() error {
	labelled := map[string]bool{}
	for _, l := range s.Rows {
		found, err := s.there(l.File)
		switch {
		case err != nil:
			return err
		case !found:
			s.NoFile = append(s.NoFile, fmt.Sprintf("line %d", l.Line))
		default:
			labelled[l.File] = true
			s.Slices = append(s.Slices, Slice{Label: l, path: l.File})
		}
	}
	err := s.walk(func(name string) error {
		switch {
		case labelled[name]:
		case isImage(name):
			s.NoLabel = append(s.NoLabel, name)
		default:
			s.Unread = append(s.Unread, name)
		}
		return nil
	})
	slices.Sort(s.NoLabel)
	return err
}

// there reports whether there is such a file below the folder.
func (s *Set) there(name string) (bool, error) {
	f, err := s.open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNoPath):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, f.Close()
}

// readImage brings an image back to Hounsfield units.
func (s *Set) readImage(l *Slice) (*infer.Image, error) {
	grey, err := s.readGrey(l.path)
	if err != nil {
		return nil, err
	}
	hu := s.Window.hounsfield()
	img := &infer.Image{Rows: grey.Rect.Dy(), Columns: grey.Rect.Dx()}
	img.HU = make([]int16, img.Rows*img.Columns)
	for i := range img.HU {
		img.HU[i] = hu[grey.Pix[i/img.Columns*grey.Stride+i%img.Columns]]
	}
	return img, nil
}

// mostPixels bounds the memory that an image may take.
const mostPixels = 4096 * 4096

// readGrey reads a PNG or JPEG of 8 bits. Colours become grey by their luminance;
// how transparent they are is not looked at.
func (s *Set) readGrey(name string) (*image.Gray, error) {
	f, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, kind, err := image.DecodeConfig(f)
	if err != nil {
		return nil, fmt.Errorf("read an image: %w", err)
	}
	switch c.ColorModel {
	case color.Gray16Model, color.RGBA64Model, color.NRGBA64Model:
		return nil, fmt.Errorf("read a %s: it has 16 bits; wanted are 8, the grey levels of one window", kind)
	}
	if c.Width*c.Height > mostPixels {
		return nil, fmt.Errorf("read a %s: %d x %d pixels are no slice", kind, c.Width, c.Height)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, err
	}
	decoded, _, err := image.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("read a %s: %w", kind, err)
	}
	if grey, ok := decoded.(*image.Gray); ok {
		return grey, nil
	}
	b := decoded.Bounds()
	grey := image.NewGray(image.Rect(0, 0, b.Dx(), b.Dy()))
	for y := range b.Dy() {
		for x := range b.Dx() {
			plain := color.NRGBAModel.Convert(decoded.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
			plain.A = 255
			grey.Set(x, y, plain)
		}
	}
	return grey, nil
}

// unnumbered lists the rows without the number of their slice.
func (s *Set) unnumbered() error {
	var wrong mistakes
	for _, l := range s.Rows {
		if math.IsNaN(l.slice) || math.IsInf(l.slice, 0) {
			wrong.add(l.Line, fmt.Sprintf("line %d", l.Line))
		}
	}
	if wrong.count == 0 {
		return nil
	}
	return fmt.Errorf("%s:%d: %w", s.path, wrong.line, &ListError{What: "rows have no number of their slice in column slice", Items: wrong.items, Count: wrong.count})
}
