package labelled

import (
	"fmt"
	"math"
	"path"
	"slices"

	"ichwatch/infer"
)

// ct-ich keeps each slice twice, as 8-bit JPEG in a brain and in a bone window of
// the same name (Hssayeni et al., Data 2020;5(1):14).
const (
	brain = "brain" // centre/width 40/120 HU
	bone  = "bone"  // centre/width 700/3200 HU

	// spacing of its stacks in mm; slice 1 is the lowest. The slices are 5 mm thick.
	// What is taken for images elsewhere too: numbers tell neighbours, not mm.
	spacing = 5.0
	// Where JPEG noise may hide that the brain window is cut off: grey values up to
	// lowest and from highest on.
	lowest, highest = 3, 252
)

// matchPairs finds the pairs of the rows.
func (s *Set) matchPairs() error {
	labelled := map[string]bool{}
	for _, l := range s.Rows {
		where := fmt.Sprintf("line %d", l.Line)
		if found, err := s.there(path.Join(brain, l.File)); err != nil {
			return err
		} else if !found {
			s.NoFile = append(s.NoFile, where)
			continue
		}
		both, err := s.there(path.Join(bone, l.File))
		if err != nil {
			return err
		}
		if !both {
			s.NoBone = append(s.NoBone, where)
		}
		labelled[l.File] = true
		s.Slices = append(s.Slices, Slice{Label: l, path: l.File, bone: both})
	}
	err := s.walk(func(name string) error {
		if dir, file := path.Split(name); dir == brain+"/" && !labelled[file] {
			s.NoLabel = append(s.NoLabel, name)
		}
		return nil
	})
	slices.Sort(s.NoLabel)
	return err
}

// readPair brings a pair back to Hounsfield units: from the brain window, and
// where that is cut off from the bone window, which is coarse (12.5 HU a step).
// models/train/ichtrain/sources.py does the same.
func (s *Set) readPair(l *Slice) (*infer.Image, error) {
	narrow, err := s.readGrey(path.Join(brain, l.path))
	if err != nil {
		return nil, err
	}
	wide := narrow
	if l.bone {
		if wide, err = s.readGrey(path.Join(bone, l.path)); err != nil {
			return nil, err
		}
		if wide.Rect != narrow.Rect {
			return nil, fmt.Errorf("the two windows of line %d differ in size", l.Line)
		}
	}
	img := &infer.Image{Rows: narrow.Rect.Dy(), Columns: narrow.Rect.Dx()}
	img.HU = make([]int16, img.Rows*img.Columns)
	for i := range img.HU {
		at := i/img.Columns*narrow.Stride + i%img.Columns
		img.HU[i] = hounsfield(narrow.Pix[at], wide.Pix[at], l.bone)
	}
	return img, nil
}

func hounsfield(narrow, wide uint8, both bool) int16 {
	hu := float32(narrow)*(120.0/255) - 20
	coarse := float32(wide)*(3200.0/255) - 900
	switch {
	case narrow <= lowest && both:
		hu = min(coarse, -20)
	case narrow <= lowest:
		hu = -900
	case narrow >= highest && both:
		hu = max(coarse, 100)
	}
	return int16(math.RoundToEven(float64(hu)))
}
