package triage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ichwatch/alerts"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// enhanced is an object of several frames: 2 by 2 pixels each, 5 mm apart.
type enhanced struct {
	shows  []int16              // each frame's pixels, in HU
	shared map[dicom.Tag]string // in place of what the shared groups say; "" drops it
	own    map[int][2]dicom.Tag // frames that lack the second tag in the first sequence
	drop   int                  // so many functional groups are missing at the end
	more   int                  // so many bytes of pixels
	top    map[dicom.Tag]string // besides
	frames string               // what the header says of their number; "": the truth
	series dicom.UID
}

// element writes an element in Explicit VR Little Endian. A sequence has an
// undefined length, and so have its items.
func element(t dicom.Tag, vr string, value ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, t.Group()), t.Element())
	b = append(b, vr...)
	if vr == "SQ" {
		b = append(b, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF)
		for _, item := range value {
			b = append(b, 0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF)
			b = append(b, item...)
			b = append(b, 0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0)
		}
		return append(b, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0)
	}
	v := bytes.Join(value, nil)
	if len(v)%2 == 1 {
		v = append(v, ' ')
	}
	if vr == "OW" {
		b = binary.LittleEndian.AppendUint32(append(b, 0, 0), uint32(len(v)))
	} else {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
	}
	return append(b, v...)
}

func (o enhanced) dataSet(study dicom.UID) []byte {
	text := func(t dicom.Tag, s string) []byte {
		if own, ok := o.shared[t]; ok {
			s = own
		}
		if s == "" {
			return nil
		}
		return element(t, "DS", []byte(s))
	}
	number := func(t dicom.Tag, n uint16) []byte { return element(t, "US", binary.LittleEndian.AppendUint16(nil, n)) }
	if o.frames == "" {
		o.frames = fmt.Sprint(len(o.shows))
	}
	var groups [][]byte
	var pixels []byte
	for k, shows := range o.shows {
		macro := func(seq, t dicom.Tag, value string) []byte {
			if o.own[k] == [2]dicom.Tag{seq, t} {
				return nil
			}
			return element(seq, "SQ", text(t, value))
		}
		// A frame's intercept differs from the next one's, and so do its pixels.
		groups = append(groups, slices.Concat(
			macro(0x0020_9111, 0x0018_9074, fmt.Sprintf("202602030405%02d.5+0000", k%60)),
			macro(0x0020_9113, dicom.TagImagePositionPatient, fmt.Sprintf(`-100\-100\%d`, 5*k)),
			element(0x0028_9145, "SQ", slices.Concat(text(dicom.TagRescaleIntercept, fmt.Sprint(-1000-k)), text(dicom.TagRescaleSlope, "1")))))
		for range 4 {
			pixels = binary.LittleEndian.AppendUint16(pixels, uint16(int(shows)+1000+k))
		}
	}
	pixels = append(pixels, make([]byte, max(o.more, 0))...)
	pixels = pixels[:len(pixels)+min(o.more, 0)]
	b := slices.Concat(
		element(dicom.TagImageType, "CS", []byte(`ORIGINAL\PRIMARY\VOLUME\NONE`)),
		element(dicom.TagModality, "CS", []byte("CT")),
		element(0x0010_0010, "PN", []byte(identity)))
	if v, ok := o.top[tagContrastBolusAgentSequence]; ok {
		b = append(b, element(tagContrastBolusAgentSequence, "SQ", element(0x0008_0100, "SH", []byte(v)))...)
	}
	return slices.Concat(b,
		element(dicom.TagStudyInstanceUID, "UI", []byte(study)),
		element(dicom.TagSeriesInstanceUID, "UI", []byte(o.series)),
		number(dicom.TagSamplesPerPixel, 1),
		element(dicom.TagPhotometricInterpretation, "CS", []byte("MONOCHROME2")),
		element(dicom.TagNumberOfFrames, "IS", []byte(o.frames)),
		number(dicom.TagRows, 2), number(dicom.TagColumns, 2),
		number(dicom.TagBitsAllocated, 16), number(dicom.TagBitsStored, 16), number(dicom.TagHighBit, 15), number(dicom.TagPixelRepresentation, 0),
		element(tagSharedFunctionalGroups, "SQ", slices.Concat(
			element(0x0018_9329, "SQ", text(0x0008_9007, `ORIGINAL\PRIMARY\VOLUME\NONE`)),
			element(0x0020_9116, "SQ", text(dicom.TagImageOrientationPatient, `1\0\0\0\1\0`)),
			element(0x0028_9110, "SQ", text(dicom.TagPixelSpacing, `0.5\0.25`)))),
		element(tagPerFrameFunctionalGroups, "SQ", groups[:len(groups)-o.drop]...),
		element(dicom.TagPixelData, "OW", pixels))
}

// head is a head of n frames, two of which show something at at.
func head(n, at int, shows int16) []int16 {
	all := slices.Repeat([]int16{showsNormal}, n)
	if at > 0 {
		all[at], all[at+1] = shows, shows
	}
	return all
}

func TestExamineFrames(t *testing.T) {
	const calm, ill, broken = spool.FindingClassified, spool.FindingIneligible, spool.FindingFailed
	for name, c := range map[string]struct {
		object enhanced
		state  spool.FindingState
		reason string
		frames string // the first letter of each frame's state; "": none
	}{
		"a head":                        {enhanced{shows: head(10, 0, 0)}, calm, "", "cccccccccc"},
		"a frame without a head":        {enhanced{shows: []int16{showsNormal, showsNothing, showsNormal}}, calm, "", "cic"},
		"a frame that fails":            {enhanced{shows: []int16{showsNormal, breaks, showsNormal}}, broken, "the model gave an error", "cfc"},
		"a frame that panics":           {enhanced{shows: []int16{panics, showsNormal}}, broken, "the analysis broke down", "fc"},
		"a frame without its place":     {enhanced{shows: head(4, 0, 0), own: map[int][2]dicom.Tag{1: {0x0020_9113, dicom.TagImagePositionPatient}}}, calm, "", "cicc"},
		"the last group is missing":     {enhanced{shows: head(4, 0, 0), drop: 1}, calm, "", "ccci"},
		"localizers":                    {enhanced{shows: head(4, 0, 0), shared: map[dicom.Tag]string{0x0008_9007: `ORIGINAL\PRIMARY\LOCALIZER\NONE`}}, ill, "image type LOCALIZER", ""},
		"no rescale":                    {enhanced{shows: head(4, 0, 0), shared: map[dicom.Tag]string{dicom.TagRescaleSlope: ""}}, ill, "no rescale slope and intercept: no Hounsfield units", ""},
		"coronal":                       {enhanced{shows: head(4, 0, 0), shared: map[dicom.Tag]string{dicom.TagImageOrientationPatient: `1\0\0\0\0\-1`}}, ill, "", ""},
		"contrast":                      {enhanced{shows: head(4, 0, 0), top: map[dicom.Tag]string{tagContrastBolusAgentSequence: "C-B0300"}}, ill, "contrast agent given", ""},
		"pixels are missing":            {enhanced{shows: head(4, 0, 0), more: -2}, broken, "the object is malformed", ""},
		"pixels padded":                 {enhanced{shows: head(4, 0, 0), more: 2}, calm, "", "cccc"},
		"more groups than frames":       {enhanced{shows: head(4, 0, 0), frames: "3"}, broken, "the object is malformed", ""},
		"no number of frames":           {enhanced{shows: head(4, 0, 0), frames: "many"}, ill, "number of frames is not 1 to 4096", ""},
		"more frames than anybody has":  {enhanced{shows: head(4, 0, 0), frames: "2147483647"}, ill, "number of frames is not 1 to 4096", ""},
		"frames without groups, pixels": {enhanced{shows: head(4, 0, 0), frames: "4096"}, broken, "the object is malformed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := newExaminer(t)
			e.Gate.RefuseContrast = true
			r, err := e.Examine(t.Context(), bytes.NewReader(c.object.dataSet("1.2.3")), dicom.EnhancedCTImageStorage, dicom.ExplicitVRLittleEndian)
			if err != nil || r.State != c.state || c.reason != "" && r.Reason != c.reason {
				t.Fatalf("%s (%q), %v; want %s (%q)", r.State, r.Reason, err, c.state, c.reason)
			}
			states := ""
			for k, f := range r.Frames {
				states += string(f.State[0])
				if f.State != spool.FindingClassified {
					continue
				}
				if f.Position != float64(5*k) || f.AcquiredAt.Second() != k || len(f.Probabilities) == 0 {
					t.Errorf("frame %d: %+v", k+1, f)
				}
			}
			if states != c.frames {
				t.Errorf("frames %q, want %q", states, c.frames)
			}
		})
	}
}

// An object of several frames is a stack of slices: its alert names the frame,
// and its outcome counts them.
func TestPromise4_ObjectsOfSeveralFrames(t *testing.T) {
	for name, c := range map[string]struct {
		shows   []int16
		more    int
		outcome alerts.Outcome
		counts  alerts.Counts
	}{
		"nothing suspected": {head(12, 0, 0), 0, alerts.Negative, alerts.Counts{Received: 1, Classified: 12}},
		"suspected":         {head(12, 5, showsSubdural), 0, alerts.Positive, alerts.Counts{Received: 1, Classified: 12}},
		"too few":           {head(7, 0, 0), 0, alerts.NotAnalysed, alerts.Counts{Received: 1, Classified: 7}},
		"one frame fails":   {append(head(12, 0, 0), breaks), 0, alerts.Failed, alerts.Counts{Received: 1, Classified: 12, Failed: 1}},
		"damaged":           {head(12, 0, 0), -8, alerts.Failed, alerts.Counts{Received: 1, Failed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			const study, series = "1.2.3.4", "1.2.3.4.1"
			o := enhanced{shows: c.shows, more: c.more, series: series}
			b.receiveStudy(study, object{class: dicom.EnhancedCTImageStorage, series: series, number: 1, raw: o.dataSet(study)})
			if c.outcome == alerts.Positive {
				m := b.nextAlert()
				if m.KeyImage != series+".1" || m.KeyFrame != 6 && m.KeyFrame != 7 || m.Finding != "subdural" {
					t.Errorf("frame %d of %s shows %s", m.KeyFrame, m.KeyImage, m.Finding)
				}
			}
			if m := b.nextOutcome(); m.Outcome != c.outcome || m.Counts != c.counts {
				t.Errorf("%s (%s) %+v, want %s %+v", m.Outcome, m.Reason, m.Counts, c.outcome, c.counts)
			}
			b.settled(study)
		})
	}
}

// What PixelMed makes of slices, one object of several frames (Legacy Converted
// Enhanced CT), has in each frame the place and the Hounsfield units of a slice;
// and so it has after other programs compressed it.
func TestFramesAgreeWithTheirSlices(t *testing.T) {
	java := dimsetest.Program(t, "java")
	args := dimsetest.PixelMed(t, "")
	for _, program := range []string{"dcmconv", "dcmcrle", "dcmcjpeg", "dcmcjpls", "gdcmconv", "opj_decompress"} {
		dimsetest.Program(t, program)
	}
	dir := t.TempDir()
	classic, out := filepath.Join(dir, "classic"), filepath.Join(dir, "enhanced")
	for _, d := range []string{classic, out} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s, err := phantom.New(phantom.Options{Seed: 5, Class: phantom.Epidural, Rows: 64, Columns: 75, Slices: 5})
	if err != nil {
		t.Fatal(err)
	}
	want := map[float64]*infer.Image{}
	for i := range s.Slices() {
		var b bytes.Buffer
		if err := s.WriteSlice(&b, i); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(classic, fmt.Sprint(i))
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		_, h := realHeader(t, path)
		p, ok := planeOf(h)
		if !ok {
			t.Fatal("a slice of nowhere")
		}
		want[p.position()] = mustReadPixels(t, path)
	}
	cmd := exec.CommandContext(t.Context(), java, "-Djava.awt.headless=true", args[0], args[1], "com.pixelmed.dicom.MultiFrameImageFactory", classic, out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("PixelMed: %v\n%s", err, text)
	}
	files, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("PixelMed made %d files, %v", len(files), err)
	}
	for _, command := range []string{
		"", "dcmconv +ti +e IN OUT", "dcmconv +tb -e IN OUT", "dcmconv +td IN OUT", "dcmcrle IN OUT", "dcmcrle +fs 1 -ot IN OUT",
		"dcmcjpeg +e1 IN OUT", "dcmcjpeg +e1 +fs 1 IN OUT", "dcmcjpeg +e1 +fs 1 -ot IN OUT", "dcmcjpls +fs 1 -ot IN OUT", "gdcmconv --j2k IN OUT",
	} {
		t.Run(strings.TrimSuffix(command, " IN OUT"), func(t *testing.T) {
			path := files[0]
			if command != "" {
				path = filepath.Join(t.TempDir(), "coded.dcm")
				convert(t, command, files[0], path)
			}
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(file))
			if err != nil || !multiFrame(meta.SOPClassUID) {
				t.Fatalf("SOP class %s, %v", meta.SOPClassUID.Name(), err)
			}
			data := bytes.NewReader(file[offset:])
			h, err := readHeader(meta.TransferSyntaxUID, data)
			if err != nil {
				t.Fatal(err)
			}
			_ = rewind(data)
			headers, err := frameHeaders(data, h)
			if err != nil || len(headers) != len(want) {
				t.Fatalf("%d frames, %v; want %d", len(headers), err, len(want))
			}
			_ = rewind(data)
			frames, err := pixel.Open(describe(headers[0]), data)
			if strings.Contains(command, "dcmcrle +fs") {
				var unsupported *pixel.UnsupportedError
				if !errors.As(err, &unsupported) { // nobody can tell whose fragments they are
					t.Errorf("RLE in fragments without a table: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			seen := map[float64]bool{}
			for k, h := range headers {
				var img infer.Image
				if err := frames.Next(t.Context(), describe(h), &img); err != nil {
					t.Fatalf("frame %d: %v", k+1, err)
				}
				p, ok := planeOf(h)
				if !ok || want[p.position()] == nil || acquiredAt(h).IsZero() {
					t.Fatalf("frame %d at %v, where no slice is, acquired at %v", k+1, p.position(), acquiredAt(h))
				}
				seen[p.position()] = true
				sameImage(t, &img, want[p.position()])
				if img.PixelSpacing != want[p.position()].PixelSpacing {
					t.Errorf("pixel spacing %v, want %v", img.PixelSpacing, want[p.position()].PixelSpacing)
				}
			}
			if err := frames.Next(t.Context(), describe(headers[0]), new(infer.Image)); !errors.Is(err, io.EOF) || len(seen) != len(want) {
				t.Errorf("%d places, and then %v", len(seen), err)
			}
		})
	}
}

// FuzzFrameHeaders: whatever the groups hold, as many headers as frames, each in
// order, or an error.
func FuzzFrameHeaders(f *testing.F) {
	f.Add(enhanced{shows: head(4, 0, 0)}.dataSet("1.2.3"))
	f.Add(enhanced{shows: head(4, 0, 0), frames: "3"}.dataSet("1.2.3"))
	f.Add(enhanced{shows: head(4, 0, 0), top: map[dicom.Tag]string{tagContrastBolusAgentSequence: "C"}}.dataSet("1.2.3"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readHeader(dicom.ExplicitVRLittleEndian, bytes.NewReader(data))
		if err != nil {
			t.Skip()
		}
		headers, err := frameHeaders(bytes.NewReader(data), h)
		if err != nil {
			return
		}
		if n, _ := h.Int(dicom.TagNumberOfFrames); len(headers) != n {
			t.Fatalf("%d headers of %d frames", len(headers), n)
		}
		for _, h := range headers {
			if !slices.IsSortedFunc(h.Elements, func(a, b dicom.Element) int { return int(int64(a.Tag) - int64(b.Tag)) }) {
				t.Fatal("elements out of order")
			}
		}
	})
}
