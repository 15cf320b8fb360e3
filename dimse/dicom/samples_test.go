package dicom_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	suyash "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"ichwatch/dimse/dicom"
)

// sampleFiles returns the real files that lie beside the repository, if any.
func sampleFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("../../../shared/data/dicom/*/*.dcm")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// eachSample runs f on every real file.
func eachSample(t *testing.T, f func(t *testing.T, path string)) {
	t.Helper()
	files := sampleFiles(t)
	if len(files) == 0 {
		t.Skip("no real files in ../shared/data/dicom")
	}
	for _, path := range files {
		t.Run(filepath.Base(filepath.Dir(path))+"/"+filepath.Base(path), func(t *testing.T) { f(t, path) })
	}
}

// scanFile scans a Part 10 file and returns its header and its data set, which
// is inflated if it was deflated.
func scanFile(t *testing.T, path string) (*dicom.Header, []byte) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m, n, err := dicom.ReadFileMeta(file)
	if err != nil {
		t.Fatal(err)
	}
	ts, ok := dicom.LookupTransferSyntax(m.TransferSyntaxUID)
	if !ok {
		t.Fatalf("transfer syntax %s", m.TransferSyntaxUID)
	}
	h, err := dicom.Scan(file, ts, dicom.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if h.UID(dicom.TagSOPClassUID) != m.SOPClassUID {
		t.Errorf("SOP class %s in the data set, %s in the file meta information", h.UID(dicom.TagSOPClassUID), m.SOPClassUID)
	}
	if _, err := file.Seek(n, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var r io.Reader = file
	if ts.Deflated {
		r = inflate(file)
	}
	dataSet, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return h, dataSet
}

func TestScanSamples(t *testing.T) {
	eachSample(t, func(t *testing.T, path string) {
		h, dataSet := scanFile(t, path)
		if h.UID(dicom.TagStudyInstanceUID).Valid() != nil || h.UID(dicom.TagSeriesInstanceUID).Valid() != nil {
			t.Error("no study or no series")
		}
		if strings.HasPrefix(filepath.Base(path), "no-pixel-data") {
			if h.PixelData != 0 {
				t.Errorf("pixels at %d of a file without", h.PixelDataOffset)
			}
			return
		}
		if h.PixelData != dicom.TagPixelData {
			t.Fatal("no pixels")
		}
		pixels := dataSet[h.PixelDataOffset:]
		if h.TransferSyntax.Encapsulated {
			if h.PixelDataLength != dicom.UndefinedLength || !bytes.HasPrefix(pixels, []byte("\xfe\xff\x00\xe0")) {
				t.Errorf("pixels of %d bytes begin % x, not with an item", h.PixelDataLength, pixels[:8])
			}
			return
		}
		rows, _ := h.Uint16(dicom.TagRows)
		columns, _ := h.Uint16(dicom.TagColumns)
		if want := uint32(rows) * uint32(columns) * 2; h.PixelDataLength != want || want == 0 || uint32(len(pixels)) < want {
			t.Errorf("pixels of %d bytes, %d there, for %d by %d", h.PixelDataLength, len(pixels), rows, columns)
		}
	})
}

// dumped is a line of dcmdump at the top level: tag, VR, value, length.
var dumped = regexp.MustCompile(`^\(([0-9a-f]{4}),([0-9a-f]{4})\) (\w\w) (.*?) +#\s*(\d+|u/l), ?\d+ `)

// DCMTK reads the same elements, in the same order, of the same length and with
// the same text.
func TestScanSamplesAsDcmdumpDoes(t *testing.T) {
	dcmdump, err := exec.LookPath("dcmdump")
	if err != nil {
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			t.Fatal("dcmdump is missing: install dcmtk")
		}
		t.Skip("dcmdump is missing: install dcmtk")
	}
	compared := 0
	eachSample(t, func(t *testing.T, path string) {
		h, _ := scanFile(t, path)
		out, err := exec.Command(dcmdump, "-q", "-Un", "+L", "-M", path).Output()
		if err != nil {
			t.Fatalf("dcmdump: %v", err)
		}
		rest := h.Elements
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "(7fe0,0010)") {
				break
			}
			f := dumped.FindStringSubmatch(line)
			if f == nil || f[1] == "0002" || f[1] == "fffe" {
				continue
			}
			if len(rest) == 0 {
				t.Fatalf("no element for %s", line)
			}
			e := rest[0]
			rest = rest[1:]
			if got := strings.ToLower(e.Tag.String()); got != "("+f[1]+","+f[2]+")" {
				t.Fatalf("%s where dcmdump has %s", got, line)
			}
			if e.VR != "" && e.VR != f[3] {
				t.Errorf("%v: VR %s where dcmdump has %s", e.Tag, e.VR, f[3])
			}
			if length := fmt.Sprint(e.Length); length != f[5] && (e.Length != dicom.UndefinedLength || f[5] != "u/l") {
				t.Errorf("%v: length %s where dcmdump has %s", e.Tag, length, f[5])
			}
			if text, ok := strings.CutPrefix(f[4], "["); ok {
				if text = strings.TrimSuffix(text, "]"); strings.Trim(text, " ") != h.String(e.Tag) {
					t.Errorf("%v: %q where dcmdump has %q", e.Tag, h.String(e.Tag), text)
				}
				compared++
			} else if n, err := strconv.Atoi(f[4]); err == nil && f[3] == "US" {
				if got, _ := h.Uint16(e.Tag); int(got) != n {
					t.Errorf("%v: %d where dcmdump has %d", e.Tag, got, n)
				}
				compared++
			}
		}
		if len(rest) != 0 {
			t.Errorf("dcmdump has no %v", rest[0].Tag)
		}
	})
	if !t.Skipped() && compared < 1000 {
		t.Errorf("only %d values compared", compared)
	}
}

// The attributes that everything hangs on, as a general parser reads them.
func TestScanSamplesAsSuyashkumarDoes(t *testing.T) {
	eachSample(t, func(t *testing.T, path string) {
		h, _ := scanFile(t, path)
		ds, err := suyash.ParseFile(path, nil, suyash.SkipPixelData())
		if err != nil {
			t.Skipf("their parser: %v", err)
		}
		compared := 0
		for theirs, ours := range map[tag.Tag]dicom.Tag{
			tag.ImageType: dicom.TagImageType, tag.SOPClassUID: dicom.TagSOPClassUID, tag.SOPInstanceUID: dicom.TagSOPInstanceUID,
			tag.Modality: dicom.TagModality, tag.StudyInstanceUID: dicom.TagStudyInstanceUID, tag.SeriesInstanceUID: dicom.TagSeriesInstanceUID,
			tag.InstanceNumber: dicom.TagInstanceNumber, tag.ImagePositionPatient: dicom.TagImagePositionPatient,
			tag.ImageOrientationPatient: dicom.TagImageOrientationPatient, tag.PixelSpacing: dicom.TagPixelSpacing,
			tag.Rows: dicom.TagRows, tag.Columns: dicom.TagColumns, tag.BitsStored: dicom.TagBitsStored,
			tag.PixelRepresentation: dicom.TagPixelRepresentation, tag.PhotometricInterpretation: dicom.TagPhotometricInterpretation,
			tag.RescaleIntercept: dicom.TagRescaleIntercept, tag.RescaleSlope: dicom.TagRescaleSlope,
		} {
			element, err := ds.FindElementByTag(theirs)
			if err != nil {
				if e, ok := h.Lookup(ours); ok && e.Length != 0 {
					t.Errorf("%v is %q here and absent there", ours, e.Value)
				}
				continue
			}
			compared++
			switch want := element.Value.GetValue().(type) {
			case []int:
				if got, ok := h.Uint16(ours); !ok || len(want) != 1 || int(got) != want[0] {
					t.Errorf("%v is %d here and %d there", ours, got, want)
				}
			case []string:
				for i, s := range want { // they keep padding inside
					want[i] = strings.Trim(s, " \x00")
				}
				if got := strings.Join(h.Strings(ours), `\`); got != strings.Join(want, `\`) {
					t.Errorf("%v is %q here and %q there", ours, got, want)
				}
			default:
				t.Errorf("%v is a %T there", ours, want)
			}
		}
		if compared < 6 {
			t.Errorf("only %d attributes compared", compared)
		}
	})
}
