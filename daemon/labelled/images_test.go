package labelled

import (
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ichwatch/alerts"
	"ichwatch/daemon/triage"
	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/manifest"
	"ichwatch/infer/pixel"
)

func TestWindow(t *testing.T) {
	for text, want := range map[string]Window{"40/80": BrainWindow, "-600/1500": {-600, 1500}, "37.5/75": {37.5, 75}} {
		var w Window
		if err := w.UnmarshalText([]byte(text)); err != nil || w != want || w.String() != text {
			t.Errorf("%s: %v, %v", text, w, err)
		}
	}
	for _, text := range []string{"", "40", "40/", "/80", "40/0", "40/-80", "40:80", "40/80/1", "NaN/80", "40/NaN", "40/Inf", "5000/80", "40/1e9"} {
		w := BrainWindow
		if err := w.UnmarshalText([]byte(text)); err == nil || w != BrainWindow {
			t.Errorf("%q is taken for %v", text, w)
		}
	}
	for w, want := range map[Window][3]int16{BrainWindow: {0, 40, 80}, {40, 120}: {-20, 40, 100}, {50, 100}: {0, 50, 100}} {
		hu := w.hounsfield()
		if got := [3]int16{hu[0], (hu[127] + hu[128]) / 2, hu[255]}; got != want {
			t.Errorf("%v: %v, want %v", w, got, want)
		}
	}
}

// save writes an image by what its name ends in.
func save(t *testing.T, path string, img image.Image) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	if strings.HasSuffix(path, ".png") {
		must(t, png.Encode(f, img))
		return
	}
	must(t, jpeg.Encode(f, img, &jpeg.Options{Quality: 100}))
}

// exported is a head in a skull as a brain window shows it: air is as black as
// water.
func exported(rows, columns int, set func(x, y int, grey uint8)) {
	for y := range rows {
		for x := range columns {
			dy, dx := (float64(y)/float64(rows)-0.45)/0.35, (float64(x)/float64(columns)-0.55)/0.3
			switch d := dy*dy + dx*dx; {
			case d < 0.85:
				set(x, y, 112)
			case d < 1:
				set(x, y, 255)
			default:
				set(x, y, 0)
			}
		}
	}
}

// Whatever the file's colours are: grey levels as they were exported, and the head
// found in the middle of air that is not there.
func TestImagesOfAllKinds(t *testing.T) {
	dir := t.TempDir()
	grey := image.NewGray(image.Rect(0, 0, 97, 130))
	exported(130, 97, func(x, y int, v uint8) { grey.SetGray(x, y, color.Gray{Y: v}) })
	clear := image.NewNRGBA(image.Rect(0, 0, 97, 130))
	exported(130, 97, func(x, y int, v uint8) { clear.SetNRGBA(x, y, color.NRGBA{v, v, v, uint8(x)}) })
	coloured := image.NewRGBA(image.Rect(0, 0, 97, 130))
	exported(130, 97, func(x, y int, v uint8) { coloured.SetRGBA(x, y, color.RGBA{v, v, v, 255}) })
	palette := image.NewPaletted(grey.Rect, color.Palette{color.NRGBA{0, 0, 0, 0}, color.Gray{Y: 112}, color.Gray{Y: 255}})
	exported(130, 97, func(x, y int, v uint8) { palette.SetColorIndex(x, y, map[uint8]uint8{0: 0, 112: 1, 255: 2}[v]) })
	table := "file,patient,any\n"
	for name, img := range map[string]image.Image{
		"a/grey.png": grey, "a/grey.JPG": grey, "a/clear.png": clear, "b/coloured.png": coloured, "b/coloured.jpeg": coloured, "palette.png": palette,
	} {
		save(t, filepath.Join(dir, name), img)
		table += name + ",1,0\n"
	}
	must(t, os.WriteFile(filepath.Join(dir, "labels.csv"), []byte(table), 0o600))
	s := open(t, dir, Auto)
	if s.Format != Images || len(s.Slices) != 6 || s.Window != BrainWindow {
		t.Fatalf("%s: %d slices in %v", s.Format, len(s.Slices), s.Window)
	}
	for i := range s.Slices {
		l := &s.Slices[i]
		img, err := s.readImage(l)
		must(t, err)
		if brain, air := img.HU[58*97+53], img.HU[3]; img.Rows != 130 || img.Columns != 97 || brain != 35 || air != 0 {
			t.Errorf("%s: %d x %d, brain %d HU, air %d HU", l.path, img.Rows, img.Columns, brain, air)
		}
		box, err := pixel.FindHead(img, manifest.Crop{Threshold: -300, Margin: 0.06, MinimumArea: 0.04})
		if want := (pixel.Box{Top: 14, Left: 25, Bottom: 103, Right: 82}); err != nil || box != want {
			t.Errorf("%s: the head is %v, %v; want %v", l.path, box, err, want)
		}
	}
	s.Window = Window{40, 120}
	if img, err := s.readImage(&s.Slices[0]); err != nil || img.HU[0] != -20 {
		t.Errorf("another window: %d HU, %v", img.HU[0], err)
	}
}

func TestImagesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	save(t, filepath.Join(dir, "deep.png"), image.NewGray16(image.Rect(0, 0, 9, 9)))
	save(t, filepath.Join(dir, "deepcolour.png"), image.NewNRGBA64(image.Rect(0, 0, 9, 9)))
	save(t, filepath.Join(dir, "sound.png"), image.NewGray(image.Rect(0, 0, 9, 9)))
	must(t, os.WriteFile(filepath.Join(dir, "text.png"), []byte("no image"), 0o600))
	whole, err := os.ReadFile(filepath.Join(dir, "sound.png"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "cut.png"), whole[:len(whole)-20], 0o600))
	vast := append([]byte{}, whole...)
	copy(vast[16:], []byte{0, 0, 255, 255, 0, 0, 255, 255}) // IHDR; its CRC is wrong then, what is as well
	must(t, os.WriteFile(filepath.Join(dir, "vast.png"), vast, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "left.bmp"), []byte("BM"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "labels.csv"), []byte("file,patient,any\ndeep.png,1,0\ndeepcolour.png,1,0\ntext.png,1,0\ncut.png,1,0\nvast.png,1,0\ngone.png,1,1\n../outside.png,1,1\n"), 0o600))
	s := open(t, dir, Auto)
	if !slices.Equal(s.NoFile, []string{"line 7", "line 8"}) || !slices.Equal(s.NoLabel, []string{"sound.png"}) || !slices.Equal(s.Unread, []string{"left.bmp"}) {
		t.Errorf("no file %v, no label %v, unread %v", s.NoFile, s.NoLabel, s.Unread)
	}
	for i := range s.Slices {
		img, err := s.readImage(&s.Slices[i])
		if says := map[string]string{"deep.png": "16 bits", "deepcolour.png": "16 bits"}[s.Slices[i].path]; err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s is read as %v, %v", s.Slices[i].path, img, err)
		}
	}
	if _, err := s.Examine(t.Context(), &triage.Examiner{}, 1, nil); err == nil || !strings.Contains(err.Error(), "of the labels") {
		t.Errorf("an image that cannot be read: %v", err)
	}
}

// A set as another site exports it: classes in part unknown, with and without the
// numbers of the slices.
func TestImageSet(t *testing.T) {
	for name, numbered := range map[string]bool{"numbered": true, "without order": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			table := "file,patient,slice,any,epidural,subdural,intraventricular,intraparenchymal,subarachnoid\n"
			if !numbered {
				table = strings.Replace(table, "slice", "remark", 1)
			}
			grey := image.NewGray(image.Rect(0, 0, 64, 64))
			exported(64, 64, func(x, y int, v uint8) { grey.SetGray(x, y, color.Gray{Y: v}) })
			for i := range 20 {
				truth := "0,,,,,"
				switch {
				case i < 3:
					truth = "1,,,,,"
				case i < 5:
					truth = "1,1,0,0,0,0"
				}
				file := fmt.Sprintf("s%02d.png", i)
				save(t, filepath.Join(dir, file), grey)
				table += fmt.Sprintf("%s,%d,%d,%s\n", file, i/10, i%10+1, truth)
			}
			must(t, os.WriteFile(filepath.Join(dir, "labels.csv"), []byte(table), 0o600))
			s := open(t, dir, Auto)
			if s.Format != Images || s.Unit != "patient" || s.Studies != 2 {
				t.Fatalf("%+v", s)
			}
			x := examine(t, s, 0.9, triage.Gate{})
			d, counts, _ := x.Data(infer.Classes(), half(), 0)
			if counts.Classified != 20 || counts.Unclassified != 3 {
				t.Errorf("%+v", counts)
			}
			f, err := assess.Assess(d, assess.Options{Rounds: 100})
			must(t, err)
			if m := f.Slices.Any.Matrix; m != (assess.Matrix{TruePositive: 5, FalsePositive: 15}) {
				t.Errorf("any hemorrhage: %+v", m)
			}
			if m := f.Slices.Classes[infer.Epidural].Matrix; m != (assess.Matrix{TruePositive: 2, FalsePositive: 15}) {
				t.Errorf("epidural: %+v", m)
			}
			if !numbered {
				if len(d.Studies) != 0 || counts.Unordered != 2 {
					t.Errorf("%d studies, %+v", len(d.Studies), counts)
				}
				return
			}
			if len(d.Studies) != 2 || d.Studies[0].Outcome.String() != string(alerts.Positive) || !d.Studies[0].Truth.Unclassified || x.Results[9].Position != 50 {
				t.Errorf("studies %+v, the last slice at %v", d.Studies, x.Results[9].Position)
			}
			var rows strings.Builder
			must(t, x.WriteTable(&rows, infer.Classes()))
			if lines := strings.Split(rows.String(), "\n"); !strings.Contains(lines[1], ",classified,,0,1,,,,,,") || !strings.Contains(lines[4], ",0,1,1,0,0,0,0,") || !strings.Contains(lines[20], ",0,0,0,0,0,0,0,") {
				t.Errorf("rows %s\n%s\n%s", lines[1], lines[4], lines[20])
			}
		})
	}
}

func TestUnnumberedRowsAreTold(t *testing.T) {
	dir := t.TempDir()
	save(t, filepath.Join(dir, "a.png"), image.NewGray(image.Rect(0, 0, 9, 9)))
	must(t, os.WriteFile(filepath.Join(dir, "labels.csv"), []byte("file,patient,slice,any\na.png,1,,0\na.jpg,1,2,0\nb.png,1,inf,0\n"), 0o600))
	l, err := ReadLabels(filepath.Join(dir, "labels.csv"), infer.Classes())
	must(t, err)
	if _, err := Open(dir, l, Auto); err == nil || !strings.Contains(err.Error(), "no number of their slice in column slice (2): line 2, line 4") {
		t.Errorf("%v", err)
	}
}
