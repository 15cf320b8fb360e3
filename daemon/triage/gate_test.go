package triage

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// headerOf gives the header of an object as the gate sees it.
func headerOf(t testing.TB, o object) *dicom.Header {
	t.Helper()
	ts, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
	h, err := dicom.ScanBytes(o.dataSet("1.2.3"), ts, scanOptions)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestGate(t *testing.T) {
	type set = map[dicom.Tag]string
	gate := Gate{
		RefuseImageTypes: []string{"LOCALIZER", "SECONDARY", "DERIVED"}, BodyParts: []string{"HEAD", "BRAIN", "SKULL"},
		AcceptMissingBodyPart: true, RefuseContrast: true, RefuseProtocolWords: []string{"angio"}, MaxTilt: 30,
	}
	strict := gate
	strict.AcceptMissingBodyPart, strict.ProtocolWords, strict.MaxTilt = false, []string{"head", "schädel"}, 0
	for name, c := range map[string]struct {
		gate Gate
		set  set
		drop []dicom.Tag
		want string
	}{
		"plain head":              {gate: gate},
		"the least of gates":      {gate: Gate{}},
		"other modality":          {gate: gate, set: set{dicom.TagModality: "MR"}, want: "modality is not CT"},
		"no modality":             {gate: gate, drop: []dicom.Tag{dicom.TagModality}, want: "modality is not CT"},
		"modality of the site":    {gate: Gate{Modalities: []string{"CT", "PT"}}, set: set{dicom.TagModality: "pt"}},
		"localizer":               {gate: gate, set: set{dicom.TagImageType: `ORIGINAL\PRIMARY\LOCALIZER`}, want: "image type LOCALIZER"},
		"secondary":               {gate: gate, set: set{dicom.TagImageType: `ORIGINAL\SECONDARY \AXIAL`}, want: "image type SECONDARY"},
		"derived":                 {gate: gate, set: set{dicom.TagImageType: `derived\PRIMARY\MPR`}, want: "image type DERIVED"},
		"derived, and welcome":    {gate: Gate{}, set: set{dicom.TagImageType: `DERIVED\PRIMARY\AXIAL`}},
		"head":                    {gate: gate, set: set{dicom.TagBodyPartExamined: "HEAD "}},
		"chest":                   {gate: gate, set: set{dicom.TagBodyPartExamined: "CHEST"}, want: "body part is not HEAD, BRAIN or SKULL"},
		"no body part, strictly":  {gate: strict, want: "no body part is named"},
		"word wanted":             {gate: strict, set: set{dicom.TagBodyPartExamined: "HEAD", dicom.TagProtocolName: "1.1 Head_Routine"}},
		"word wanted, missing":    {gate: strict, set: set{dicom.TagBodyPartExamined: "HEAD"}, want: "neither protocol nor description contains head or schädel"},
		"word refused":            {gate: gate, set: set{dicom.TagSeriesDescription: "CT-ANGIO arch"}, want: "protocol or description contains angio"},
		"contrast":                {gate: gate, set: set{dicom.TagContrastBolusAgent: "iodine"}, want: "contrast agent given"},
		"contrast: none":          {gate: gate, set: set{dicom.TagContrastBolusAgent: "None"}},
		"contrast, and welcome":   {gate: Gate{}, set: set{dicom.TagContrastBolusAgent: "iodine"}},
		"colour":                  {gate: gate, set: set{dicom.TagPhotometricInterpretation: "RGB"}, want: "photometric interpretation is not MONOCHROME1 or MONOCHROME2"},
		"no slope":                {gate: gate, drop: []dicom.Tag{dicom.TagRescaleSlope}, want: "no rescale slope and intercept: no Hounsfield units"},
		"intercept is no number":  {gate: gate, set: set{dicom.TagRescaleIntercept: "Inf"}, want: "no rescale slope and intercept: no Hounsfield units"},
		"no position":             {gate: gate, drop: []dicom.Tag{dicom.TagImagePositionPatient}, want: "no usable position and orientation"},
		"short orientation":       {gate: gate, set: set{dicom.TagImageOrientationPatient: `1\0\0`}, want: "no usable position and orientation"},
		"orientation of no plane": {gate: gate, set: set{dicom.TagImageOrientationPatient: `1\0\0\1\0\0`}, want: "no usable position and orientation"},
		"orientation of length 2": {gate: gate, set: set{dicom.TagImageOrientationPatient: `2\0\0\0\2\0`}, want: "no usable position and orientation"},
		"position out of this world": {
			gate: gate, set: set{dicom.TagImagePositionPatient: `0\0\1e300`}, want: "no usable position and orientation",
		},
		"gantry tilted by 25 degrees": {gate: gate, set: set{dicom.TagImageOrientationPatient: `1\0\0\0\0.906308\-0.422618`}},
		"tilted by 35 degrees":        {gate: gate, set: set{dicom.TagImageOrientationPatient: `1\0\0\0\0.819152\-0.573576`}, want: "not axial within 30 degrees"},
		"tilted by 35, by default":    {gate: Gate{}, set: set{dicom.TagImageOrientationPatient: `1\0\0\0\0.819152\-0.573576`}},
		"coronal":                     {gate: Gate{}, set: set{dicom.TagImageOrientationPatient: `1\0\0\0\0\-1`}, want: "not axial within 45 degrees"},
		"sagittal":                    {gate: Gate{}, set: set{dicom.TagImageOrientationPatient: `0\1\0\0\0\-1`}, want: "not axial within 45 degrees"},
		"closed":                      {gate: Gate{Closed: "switched off"}, want: "switched off"},
	} {
		if got := c.gate.Refuse(dicom.CTImageStorage, headerOf(t, object{set: c.set, drop: c.drop})); got != c.want {
			t.Errorf("%s: refused for %q, want %q", name, got, c.want)
		}
	}
	for class, want := range map[dicom.UID]string{
		dicom.MRImageStorage: "SOP class is MR Image Storage", "1.2.3": "SOP class is 1.2.3",
		identity: "SOP class is not CT Image Storage", "": "SOP class is not CT Image Storage",
	} {
		if got := gate.Refuse(class, &dicom.Header{}); got != want {
			t.Errorf("class %q: refused for %q, want %q", class, got, want)
		}
	}
}

// The position orders slices along the normal however the gantry is tilted and
// wherever the table stands: moving a slice by d along its normal moves its
// position by d, moving it within its plane does not.
func TestPositionRunsAlongTheNormal(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		tilt := rapid.Float64Range(-40, 40).Draw(r, "tilt") * math.Pi / 180
		row, column := vector{1, 0, 0}, vector{0, math.Cos(tilt), math.Sin(tilt)}
		normal := row.cross(column)
		p := plane{origin: vector{
			rapid.Float64Range(-500, 500).Draw(r, "x"), rapid.Float64Range(-500, 500).Draw(r, "y"), rapid.Float64Range(-2000, 2000).Draw(r, "z"),
		}, normal: normal}
		d, e := rapid.Float64Range(-300, 300).Draw(r, "d"), rapid.Float64Range(-300, 300).Draw(r, "e")
		moved := p
		for i := range moved.origin {
			moved.origin[i] += d*normal[i] + e*column[i]
		}
		if got := moved.position() - p.position(); math.Abs(got-d) > 1e-6 {
			r.Fatalf("moved by %v, position by %v", d, got)
		}
		if got := p.tilt(); math.Abs(got-math.Abs(tilt)*180/math.Pi) > 1e-4 {
			r.Fatalf("tilt %v, want %v", got, tilt)
		}
	})
}

func TestAcquiredAt(t *testing.T) {
	type set = map[dicom.Tag]string
	utc := func(h, m, s, ns int) time.Time { return time.Date(2026, 2, 3, h, m, s, ns, time.UTC) }
	for name, c := range map[string]struct {
		set  set
		drop []dicom.Tag
		want time.Time
	}{
		"date and time, offset":  {set: set{tagTimezoneOffsetFromUTC: "+0130", dicom.TagAcquisitionTime: "040506.123456"}, want: utc(2, 35, 6, 123456000)},
		"to the minute":          {set: set{dicom.TagAcquisitionTime: "0405"}, want: utc(4, 5, 0, 0)},
		"datetime goes first":    {set: set{dicom.TagAcquisitionDateTime: "20260203060708.5"}, want: utc(6, 7, 8, 5e8)},
		"datetime with offset":   {set: set{dicom.TagAcquisitionDateTime: "20260203060708.5-0100"}, want: utc(7, 7, 8, 5e8)},
		"no time":                {drop: []dicom.Tag{dicom.TagAcquisitionTime}},
		"no date":                {drop: []dicom.Tag{dicom.TagAcquisitionDate}},
		"the 31st of February":   {set: set{dicom.TagAcquisitionDate: "20260231"}},
		"time is none":           {set: set{dicom.TagAcquisitionTime: identity}},
		"date of an older style": {set: set{dicom.TagAcquisitionDate: "2026.02.03"}},
	} {
		if got := acquiredAt(headerOf(t, object{set: c.set, drop: c.drop})); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	local := acquiredAt(headerOf(t, object{drop: []dicom.Tag{tagTimezoneOffsetFromUTC}}))
	if want := time.Date(2026, 2, 3, 4, 5, 0, 5e8, time.Local); !local.Equal(want) {
		t.Errorf("without an offset: %v, want %v", local, want)
	}
}

func TestDescribe(t *testing.T) {
	o := object{shows: 37, set: map[dicom.Tag]string{dicom.TagPixelSpacing: `0.5\0.25`, dicom.TagNumberOfFrames: "1 "}}
	h := headerOf(t, o)
	var img infer.Image
	if err := pixel.Decode(t.Context(), describe(h), bytes.NewReader(o.dataSet("1.2.3")), &img); err != nil {
		t.Fatal(err)
	}
	if img.Rows != 8 || img.Columns != 8 || img.HU[63] != 37 || img.PixelSpacing != [2]float64{0.5, 0.25} {
		t.Errorf("%d x %d, HU %d, spacing %v", img.Rows, img.Columns, img.HU[63], img.PixelSpacing)
	}
	o.set[dicom.TagNumberOfFrames] = "many"
	if d := describe(headerOf(t, o)); d.Frames != -1 {
		t.Errorf("unreadable number of frames became %d", d.Frames)
	}
}

// realHeader reads the header of a file that real equipment wrote.
func realHeader(t testing.TB, path string) (dicom.UID, *dicom.Header) {
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
	return meta.SOPClassUID, h
}

func TestGateOnRealHeaders(t *testing.T) {
	data := filepath.Join("..", "..", "..", "shared", "data", "dicom")
	if _, err := os.Stat(data); err != nil {
		t.Skip("no real headers beside the repository")
	}
	gate := Gate{RefuseImageTypes: []string{"LOCALIZER", "SECONDARY"}, BodyParts: []string{"HEAD"}, AcceptMissingBodyPart: true}
	series, err := filepath.Glob(filepath.Join(data, "ge-head-series", "*.dcm"))
	if err != nil || len(series) == 0 {
		t.Fatalf("%d files, %v", len(series), err)
	}
	positions := map[float64]bool{}
	for _, path := range series {
		class, h := realHeader(t, path)
		if reason := gate.Refuse(class, h); reason != "" {
			t.Errorf("%s: refused: %s", filepath.Base(path), reason)
		}
		p, ok := planeOf(h)
		if tilt := p.tilt(); !ok || math.Abs(tilt-18.5) > 0.6 {
			t.Errorf("%s: tilt %.1f degrees, the gantry says 18.5", filepath.Base(path), tilt)
		}
		positions[math.Round(p.position()*10)] = true
	}
	if len(positions) != len(series) {
		t.Errorf("%d slices at %d positions", len(series), len(positions))
	}
	strict := gate
	strict.AcceptMissingBodyPart = false
	lenient := gate
	lenient.RefuseImageTypes = nil
	for _, c := range []struct {
		pattern string
		gate    Gate
		want    string
	}{
		{"ge-chest-syntaxes/CTImage.dcm_*Endian*", strict, "no body part is named"},
		{"toshiba-head-syntaxes/*.dcm", gate, "image type SECONDARY"}, // as that scanner labels its heads
		{"toshiba-head-syntaxes/*.dcm", lenient, ""},
	} {
		files, err := filepath.Glob(filepath.Join(data, c.pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", c.pattern, len(files), err)
		}
		for _, path := range files {
			class, h := realHeader(t, path)
			if reason := c.gate.Refuse(class, h); reason != c.want {
				t.Errorf("%s: refused for %q, want %q", filepath.Base(path), reason, c.want)
			}
			if acquiredAt(h).IsZero() {
				t.Errorf("%s: no time of acquisition", filepath.Base(path))
			}
		}
	}
}
