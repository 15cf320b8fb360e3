package triage

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// samples is the folder of real slices, which is no part of the repository.
var samples = filepath.Join("..", "..", "..", "shared", "data", "dicom")

// readPixels decodes a file as triage does, without its gate.
func readPixels(t testing.TB, path string) (*infer.Image, error) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(file))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	ts, ok := dicom.LookupTransferSyntax(meta.TransferSyntaxUID)
	if !ok {
		t.Fatalf("%s: transfer syntax %s", path, meta.TransferSyntaxUID)
	}
	h, err := dicom.Scan(bytes.NewReader(file[offset:]), ts, scanOptions)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	img := new(infer.Image)
	return img, pixel.Decode(t.Context(), describe(h), bytes.NewReader(file[offset:]), img)
}

// mustReadPixels is readPixels of what is known to be sound.
func mustReadPixels(t testing.TB, path string) *infer.Image {
	t.Helper()
	img, err := readPixels(t, path)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	return img
}

func sameImage(t *testing.T, got, want *infer.Image) {
	t.Helper()
	if got.Rows != want.Rows || got.Columns != want.Columns || len(got.HU) != len(want.HU) {
		t.Fatalf("%d x %d, want %d x %d", got.Rows, got.Columns, want.Rows, want.Columns)
	}
	differ, most := 0, 0
	for i, hu := range want.HU {
		if d := int(got.HU[i]) - int(hu); d != 0 {
			differ++
			most = max(most, d, -d)
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d pixels differ, by up to %d HU", differ, len(want.HU), most)
	}
}

// sources are native slices: phantoms, unsigned of 12 bits and signed of 16, both
// with padding around the scanner's circle, and real ones where they are.
func sources(t testing.TB) map[string]string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	for seed := uint64(1); len(files) < 2; seed++ {
		s, err := phantom.New(phantom.Options{Seed: seed, Class: phantom.Subdural, Rows: 131, Columns: 150, Slices: 3})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, strconv.FormatUint(seed, 10)+".dcm")
		var b bytes.Buffer
		if err := s.WriteSlice(&b, 1); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		_, h := realHeader(t, path)
		if _, padded := h.Uint16(dicom.TagPixelPaddingValue); padded {
			bits, _ := h.Uint16(dicom.TagBitsStored)
			files["phantom of "+strconv.Itoa(int(bits))+" bits"] = path
		}
	}
	for name, path := range map[string]string{
		"Toshiba head": "toshiba-head-syntaxes/CT2_UNC.dcm",
		"GE head":      "ge-head-series/14.dcm",
		"GE chest":     "ge-chest-syntaxes/CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm",
	} {
		if path = filepath.Join(samples, path); exists(path) {
			files[name] = path
		}
	}
	return files
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// encoder is how another program compresses a slice; "IN" and "OUT" stand for
// files.
type encoder struct {
	name    string
	command string
	// decoder decompresses what has lost something; "" where nothing has.
	decoder string
}

var encoders = []encoder{
	{"implicit", "dcmconv +ti IN OUT", ""},
	{"big endian", "dcmconv +tb IN OUT", ""},
	{"deflated", "dcmconv +td IN OUT", ""},
	{"RLE", "dcmcrle IN OUT", ""},
	{"RLE of GDCM", "gdcmconv --rle IN OUT", ""},
	{"JPEG lossless SV1", "dcmcjpeg +e1 IN OUT", ""},
	{"JPEG lossless, predictor 1", "dcmcjpeg +el +sv 1 IN OUT", ""},
	{"JPEG lossless, predictor 2", "dcmcjpeg +el +sv 2 IN OUT", ""},
	{"JPEG lossless, predictor 3", "dcmcjpeg +el +sv 3 IN OUT", ""},
	{"JPEG lossless, predictor 4", "dcmcjpeg +el +sv 4 IN OUT", ""},
	{"JPEG lossless, predictor 5", "dcmcjpeg +el +sv 5 IN OUT", ""},
	{"JPEG lossless, predictor 6", "dcmcjpeg +el +sv 6 IN OUT", ""},
	{"JPEG lossless, predictor 7", "dcmcjpeg +el +sv 7 IN OUT", ""},
	{"JPEG lossless, point transform", "dcmcjpeg +el +sv 4 +pt 2 IN OUT", "dcmdjpeg IN OUT"},
	{"JPEG lossless in fragments, empty offset table", "dcmcjpeg +e1 +fs 1 -ot IN OUT", ""},
	{"JPEG lossless of GDCM", "gdcmconv --jpeg IN OUT", ""},
	{"JPEG-LS", "dcmcjpls +el IN OUT", ""},
	{"JPEG-LS, cooked", "dcmcjpls +el +pc IN OUT", ""},
	{"JPEG-LS, own thresholds", "dcmcjpls +el +t1 5 +t2 30 +t3 100 +rs 31 IN OUT", ""},
	{"JPEG-LS in fragments", "dcmcjpls +el +fs 2 IN OUT", ""},
	{"JPEG-LS of GDCM", "gdcmconv --jpegls IN OUT", ""},
	{"JPEG-LS near 1", "dcmcjpls +en +md 1 IN OUT", "dcmdjpls IN OUT"},
	{"JPEG-LS near 3", "dcmcjpls +en +md 3 IN OUT", "dcmdjpls IN OUT"},
	{"JPEG-LS near 10", "dcmcjpls +en +md 10 IN OUT", "dcmdjpls IN OUT"},
	{"JPEG-LS near of GDCM", "gdcmconv --jpegls --lossy -e 2 IN OUT", "gdcmconv --raw IN OUT"},
	{"JPEG baseline", "dcmcjpeg +eb IN OUT", "dcmdjpeg IN OUT"},
	{"JPEG baseline, low quality", "dcmcjpeg +eb +q 20 IN OUT", "dcmdjpeg IN OUT"},
	{"JPEG extended, 12 bits", "dcmcjpeg +ee +bt IN OUT", "dcmdjpeg IN OUT"},
	{"JPEG extended, 12 bits, low quality", "dcmcjpeg +ee +bt +q 30 IN OUT", "dcmdjpeg IN OUT"},
	{"JPEG extended, 8 bits", "dcmcjpeg +ee +be IN OUT", "dcmdjpeg IN OUT"},
	{"JPEG 2000", "gdcmconv --j2k IN OUT", ""},
	{"JPEG 2000 lossy", "gdcmconv --j2k --lossy -r 10 --irreversible IN OUT", "gdcmconv --raw IN OUT"},
}

// What other programs have compressed has the same Hounsfield units as the native
// slice, or where something is lost, as they have for it when they decompress it.
func TestPixelsAgreeWithOtherPrograms(t *testing.T) {
	for _, program := range []string{"dcmconv", "dcmcrle", "dcmcjpeg", "dcmdjpeg", "dcmcjpls", "dcmdjpls", "gdcmconv", "opj_decompress"} {
		dimsetest.Program(t, program)
	}
	for name, source := range sources(t) {
		want := mustReadPixels(t, source)
		for _, e := range encoders {
			if strings.HasPrefix(e.command, "dcmcjpls +en") && signed(t, source) {
				continue // which DCMTK refuses to encode
			}
			t.Run(name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				coded := filepath.Join(dir, "coded.dcm")
				convert(t, e.command, source, coded)
				expected := want
				if e.decoder != "" {
					decoded := filepath.Join(dir, "decoded.dcm")
					convert(t, e.decoder, coded, decoded)
					expected = mustReadPixels(t, decoded)
				}
				sameImage(t, mustReadPixels(t, coded), expected)
			})
		}
	}
}

func signed(t testing.TB, path string) bool {
	t.Helper()
	_, h := realHeader(t, path)
	return describe(h).Signed
}

func convert(t testing.TB, command, in, out string) {
	t.Helper()
	words := strings.Fields(command)
	for i, w := range words {
		switch w {
		case "IN":
			words[i] = in
		case "OUT":
			words[i] = out
		}
	}
	if text, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, text)
	}
}

// Slices that other equipment and programs compressed, among them some in
// fragments of their own making.
func TestPixelsOfRealFiles(t *testing.T) {
	if !exists(samples) {
		t.Skip("no real slices beside the repository")
	}
	native := map[string]string{
		"toshiba-head-syntaxes": "CT2_UNC.dcm",
		"ge-chest-syntaxes":     "CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm",
	}
	const (
		same  = iota // as the native one
		lossy        // as DCMTK or GDCM decompress it
		refused
		broken
	)
	for file, kind := range map[string]int{
		"toshiba-head-syntaxes/CT2_JPLL.dcm":                                                    same,
		"toshiba-head-syntaxes/CT2_JLSL.dcm":                                                    same,
		"toshiba-head-syntaxes/CT2_RLE.dcm":                                                     same,
		"toshiba-head-syntaxes/CT2_J2KR.dcm":                                                    same,
		"toshiba-head-syntaxes/CT2_JLSN.dcm":                                                    lossy,
		"toshiba-head-syntaxes/CT2_J2KI.dcm":                                                    lossy,
		"ge-chest-syntaxes/CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm": same,
		"ge-chest-syntaxes/CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm": same,
		"ge-chest-syntaxes/CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm":                same,
		"ge-chest-syntaxes/CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm":                       same,
		"ge-chest-syntaxes/CTImage.dcm_JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57.dcm":                  same,
		"ge-chest-syntaxes/CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm":               same,
		"ge-chest-syntaxes/CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm":                 same,
		"ge-chest-syntaxes/CTImage.dcm_JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90.dcm":           same,
		"ge-chest-syntaxes/CTImage.dcm_JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81.dcm":                    lossy,
		"ge-chest-syntaxes/CTImage.dcm_JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91.dcm":                       lossy,
		"ge-chest-syntaxes/CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm":                   lossy,
		"ge-chest-syntaxes/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm":                 lossy,
		"ge-chest-syntaxes/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm":                 refused,
		"ge-chest-syntaxes/CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm":               refused,
		"ge-chest-syntaxes/no-pixel-spacing.dcm":                                                                refused, // a palette
		"ge-chest-syntaxes/no-pixel-data.dcm":                                                                   broken,
	} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join(samples, file)
			img, err := readPixels(t, path)
			var unsupported *pixel.UnsupportedError
			switch kind {
			case refused:
				if !errors.As(err, &unsupported) {
					t.Errorf("%v, want it not supported", err)
				}
				return
			case broken:
				if err == nil {
					t.Error("pixels were found")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			reference := filepath.Join(samples, filepath.Dir(file), native[filepath.Dir(file)])
			if kind == lossy {
				reference = decompressed(t, path)
			}
			sameImage(t, img, mustReadPixels(t, reference))
		})
	}
}

// decompressed is the file as another program decompresses it.
func decompressed(t testing.TB, path string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "decoded.dcm")
	_, h := realHeader(t, path)
	command := "dcmdjpeg IN OUT"
	switch uid := h.TransferSyntax.UID; {
	case uid == dicom.JPEGLSLossless, uid == dicom.JPEGLSNearLossless:
		command = "dcmdjpls IN OUT"
	case slices.Contains([]dicom.UID{dicom.JPEG2000, dicom.JPEG2000Lossless}, uid):
		command = "gdcmconv --raw IN OUT"
	}
	dimsetest.Program(t, strings.Fields(command)[0])
	convert(t, command, path, out)
	return out
}
