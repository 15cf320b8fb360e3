package dicom_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/grailbio/go-dicom/dicomuid"

	"ichwatch/dimse/dicom"
)

func TestUIDValid(t *testing.T) {
	for _, tc := range []struct {
		uid   dicom.UID
		valid bool
	}{
		{"1.2.840.10008.5.1.4.1.1.2", true},
		{"0", true},
		{"1.2.03", true}, // leading zero: forbidden, met, harmless
		{dicom.UID("2." + strings.Repeat("1", 62)), true},
		{dicom.UID("2." + strings.Repeat("1", 63)), false}, // 65 characters
		{"", false},
		{".", false},
		{".1", false},
		{"1.", false},
		{"1..2", false},
		{"1.2 ", false}, // padding is no part of a UID
		{"1.2\x00", false},
		{"1.2/../../etc", false},
		{"1.2.a", false},
		{"1.2.\u0663", false}, // a digit, but not of the default repertoire
	} {
		err := tc.uid.Valid()
		if (err == nil) != tc.valid {
			t.Errorf("Valid(%q) = %v", tc.uid, err)
		}
		if err != nil && !errors.Is(err, dicom.ErrInvalidUID) {
			t.Errorf("Valid(%q) = %v, which is no ErrInvalidUID", tc.uid, err)
		}
	}
}

func TestPromise7_InvalidUIDIsNotQuoted(t *testing.T) {
	// What stands where a UID should be may be a name.
	if err := dicom.UID("DOE^JOHN").Valid(); err == nil || strings.Contains(err.Error(), "DOE") {
		t.Errorf("error quotes the value: %v", err)
	}
}

func TestParseUID(t *testing.T) {
	for in, want := range map[string]dicom.UID{
		"1.2.3\x00":   "1.2.3", // PS3.5 Section 9.1: one trailing NUL
		"1.2.3 ":      "1.2.3", // some devices pad with a space
		" 1.2.3\x00 ": "1.2.3",
		"1.2.3":       "1.2.3",
		"\x00":        "",
		"":            "",
	} {
		if got := dicom.ParseUID([]byte(in)); got != want {
			t.Errorf("ParseUID(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestUIDName(t *testing.T) {
	for uid, want := range map[dicom.UID]string{
		dicom.CTImageStorage:             "CT Image Storage",
		dicom.Verification:               "Verification SOP Class",
		dicom.ExplicitVRLittleEndian:     "Explicit VR Little Endian",
		dicom.ExplicitVRBigEndian:        "Explicit VR Big Endian (Retired)",
		"1.2.840.10008.5.1.4.1.1.6":      "Ultrasound Image Storage (Retired)",
		"1.2.840.10008.5.1.4.1.1.6.1":    "Ultrasound Image Storage",
		"1.2.840.10008.5.1.4.1.1.66.7":   "Label Map Segmentation Storage",
		"1.2.840.113619.5.2.1":           "1.2.840.113619.5.2.1",
		dicom.ImplementationClassUID:     string(dicom.ImplementationClassUID),
		dicom.StorageCommitmentPushModel: "Storage Commitment Push Model SOP Class",
	} {
		if got := uid.Name(); got != want {
			t.Errorf("%s.Name() = %q, want %q", string(uid), got, want)
		}
	}
}

func TestNewUID(t *testing.T) {
	seen := make(map[dicom.UID]bool)
	for range 1000 {
		uid := dicom.NewUID()
		if err := uid.Valid(); err != nil {
			t.Fatalf("%s: %v", uid, err)
		}
		if seen[uid] {
			t.Fatalf("%s drawn twice", uid)
		}
		seen[uid] = true
		decimal, ok := strings.CutPrefix(string(uid), "2.25.")
		n, parsed := new(big.Int).SetString(decimal, 10)
		if !ok || !parsed || n.String() != decimal || n.BitLen() > 128 {
			t.Fatalf("%s is no UUID in decimal under 2.25", uid)
		}
		// ITU-T X.667: version in bits 76-79, variant in bits 62-63.
		version := new(big.Int).And(new(big.Int).Rsh(n, 76), big.NewInt(0xf)).Int64()
		variant := new(big.Int).And(new(big.Int).Rsh(n, 62), big.NewInt(3)).Int64()
		if version != 4 || variant != 2 {
			t.Fatalf("%s: version %d, variant %d", uid, version, variant)
		}
	}
}

func TestImplementationIdentification(t *testing.T) {
	if err := dicom.ImplementationClassUID.Valid(); err != nil {
		t.Error(err)
	}
	if n := len(dicom.ImplementationVersionName); n < 1 || n > 16 {
		t.Errorf("ImplementationVersionName has %d characters", n)
	}
}

func TestStorageSOPClasses(t *testing.T) {
	classes := dicom.StorageSOPClasses()
	seen := make(map[dicom.UID]bool)
	for _, uid := range classes {
		if err := uid.Valid(); err != nil {
			t.Errorf("%s: %v", uid, err)
		}
		if seen[uid] {
			t.Errorf("%s stands there twice", uid)
		}
		seen[uid] = true
		if !strings.HasPrefix(string(uid), "1.2.840.10008.5.1.") {
			t.Errorf("%s is no standard storage SOP class", uid)
		}
		if uid.Name() == string(uid) {
			t.Errorf("%s has no name", uid)
		}
		if !uid.IsStorage() {
			t.Errorf("%s is not IsStorage", uid)
		}
	}
	// PS3.4 Table B.5-1 has 170 rows, and grows.
	if got := len(classes); got < 170 {
		t.Errorf("%d storage SOP classes", got)
	}
	for _, uid := range []dicom.UID{
		dicom.CTImageStorage, dicom.EnhancedCTImageStorage, dicom.LegacyConvertedEnhancedCTImageStorage,
		dicom.SecondaryCaptureImageStorage, dicom.XRayRadiationDoseSRStorage, dicom.EncapsulatedPDFStorage,
		dicom.RawDataStorage, dicom.GrayscaleSoftcopyPresentationStateStorage, dicom.ComprehensiveSRStorage,
		"1.2.840.10008.5.1.4.1.1.200.2", // CT Performed Procedure Protocol Storage
		"1.2.840.10008.5.1.4.1.1.9",     // Standalone Curve Storage, retired
	} {
		if !seen[uid] {
			t.Errorf("%s is missing", uid.Name())
		}
	}
	for _, uid := range []dicom.UID{dicom.Verification, dicom.ExplicitVRLittleEndian, "1.2.3"} {
		if seen[uid] || uid.IsStorage() {
			t.Errorf("%s is no storage SOP class", uid.Name())
		}
	}
	classes[0] = "overwritten"
	if dicom.StorageSOPClasses()[0] == "overwritten" {
		t.Error("the table can be overwritten through the slice")
	}
}

// A dictionary made by others (about 2018) has the same names, where it has any.
func TestUIDNamesSecondOpinion(t *testing.T) {
	bare := func(s string) string {
		s, _, _ = strings.Cut(s, "(Retired)")
		s, _, _ = strings.Cut(s, ": Default")
		return strings.Map(func(r rune) rune {
			if strings.ContainsRune(" -()[],", r) {
				return -1
			}
			return r
		}, strings.TrimSuffix(strings.TrimSpace(s), "SOP Class"))
	}
	compared := 0
	check := func(uid dicom.UID, kind dicomuid.UIDType) {
		theirs, err := dicomuid.Lookup(string(uid))
		if err != nil {
			return // newer than they are
		}
		compared++
		if theirs.Type != kind {
			t.Errorf("%s is a %v in their dictionary", uid, theirs.Type)
		}
		if bare(theirs.Name) != bare(uid.Name()) {
			t.Errorf("%s is %q here and %q there", string(uid), uid.Name(), theirs.Name)
		}
	}
	for _, uid := range dicom.StorageSOPClasses() {
		check(uid, dicomuid.TypeSOPClass)
	}
	for _, ts := range dicom.TransferSyntaxes() {
		check(ts.UID, dicomuid.TypeTransferSyntax)
	}
	if compared < 150 {
		t.Errorf("only %d UIDs compared", compared)
	}
}

func TestTransferSyntaxes(t *testing.T) {
	type flags struct{ explicit, big, deflated, encapsulated bool }
	for uid, want := range map[dicom.UID]flags{
		"1.2.840.10008.1.2":       {},
		"1.2.840.10008.1.2.1":     {explicit: true},
		"1.2.840.10008.1.2.1.98":  {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.1.99":  {explicit: true, deflated: true},
		"1.2.840.10008.1.2.2":     {explicit: true, big: true},
		"1.2.840.10008.1.2.4.50":  {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.4.57":  {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.4.70":  {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.4.80":  {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.4.90":  {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.4.94":  {explicit: true},                 // JPIP: pixels by reference
		"1.2.840.10008.1.2.4.95":  {explicit: true, deflated: true}, // JPIP, deflated
		"1.2.840.10008.1.2.4.100": {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.4.108": {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.4.201": {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.4.203": {explicit: true, encapsulated: true},
		"1.2.840.10008.1.2.5":     {explicit: true, encapsulated: true},
		// Deflated Image Frame Compression: the frames are deflated, the data
		// set is not.
		"1.2.840.10008.1.2.8.1": {explicit: true, encapsulated: true},
	} {
		ts, ok := dicom.LookupTransferSyntax(uid)
		if !ok {
			t.Errorf("%s is unknown", uid)
			continue
		}
		if got := (flags{ts.ExplicitVR, ts.BigEndian, ts.Deflated, ts.Encapsulated}); got != want || ts.UID != uid {
			t.Errorf("%s is %+v, want %+v", uid, got, want)
		}
	}
	if ts, ok := dicom.LookupTransferSyntax("1.2.3"); ok {
		t.Errorf("1.2.3 is %v", ts)
	}

	position := make(map[dicom.UID]int)
	for i, ts := range dicom.TransferSyntaxes() {
		if _, twice := position[ts.UID]; twice {
			t.Errorf("%s stands there twice", ts)
		}
		position[ts.UID] = i
		if err := ts.UID.Valid(); err != nil {
			t.Errorf("%s: %v", ts, err)
		}
	}
	// An acceptor that may choose must not choose loss.
	for _, lossy := range []dicom.UID{dicom.JPEGBaseline8Bit, dicom.JPEGLSNearLossless, dicom.JPEG2000, dicom.HTJ2K} {
		for _, lossless := range []dicom.UID{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian, dicom.JPEGLosslessSV1, dicom.JPEG2000Lossless} {
			if position[lossy] < position[lossless] {
				t.Errorf("%s is preferred to %s", lossy.Name(), lossless.Name())
			}
		}
	}
}

func TestParseAETitle(t *testing.T) {
	for _, tc := range []struct {
		in    string
		want  dicom.AETitle
		valid bool
	}{
		{"CT01", "CT01", true},
		{"CT01            ", "CT01", true}, // padded to 16 as in A-ASSOCIATE
		{"  CT 01\x00\x00", "CT 01", true}, // NUL padding is met; spaces inside count
		{"SIXTEEN_LETTERS_", "SIXTEEN_LETTERS_", true},
		{"SEVENTEEN_LETTERS", "", false},
		{"", "", false},
		{"                ", "", false},
		{"\x00\x00", "", false},
		{`CT\01`, "", false},
		{"CT\n01", "", false},
		{"CT\x1b[31m", "", false},
		{"CT\x7f", "", false},
		{"KÖLN", "", false},
	} {
		got, err := dicom.ParseAETitle(tc.in)
		if got != tc.want || (err == nil) != tc.valid {
			t.Errorf("ParseAETitle(%q) = %q, %v", tc.in, got, err)
		}
		if err != nil && !errors.Is(err, dicom.ErrInvalidAETitle) {
			t.Errorf("ParseAETitle(%q) = %v, which is no ErrInvalidAETitle", tc.in, err)
		}
	}
}

func TestMayBeStorage(t *testing.T) {
	for uid, want := range map[dicom.UID]bool{
		dicom.CTImageStorage:             true,
		"1.2.840.10008.5.1.4.1.1.999":    true,  // of a later release
		"1.2.840.113619.4.30":            true,  // a manufacturer's
		dicom.Verification:               false, // known to be something else
		dicom.ExplicitVRLittleEndian:     false,
		"1.2.840.10008.5.1.4.1.1.200.4":  false, // a query among the storage classes
		"1.2.840.10008.5.1.4.1.2.2.1":    false,
		"1.2.840.10008.5.1.4.1.2.999":    false, // the standard's, of another branch
		dicom.StorageCommitmentPushModel: false,
		"DOE^JANE":                       false,
		"":                               false,
		"1.2.840.10008.5.1.4.1.1.2.":     false,
		"1.2.840.100080.5.1.4.1.1.2":     true, // not the standard's root
	} {
		if got := uid.MayBeStorage(); got != want {
			t.Errorf("%q: %t", string(uid), got)
		}
	}
}

func TestTransferSyntaxByName(t *testing.T) {
	for _, ts := range dicom.TransferSyntaxes() {
		if ts.Keyword == "" {
			t.Errorf("%s has no keyword", ts)
		}
		for _, name := range []string{string(ts.UID), ts.Keyword, ts.Name, strings.ToUpper(ts.Name)} {
			if got, ok := dicom.TransferSyntaxByName(name); !ok || got != ts {
				t.Errorf("%q is %v, want %v", name, got, ts)
			}
		}
	}
	for name, want := range map[string]dicom.UID{
		"explicit-vr-little-endian": dicom.ExplicitVRLittleEndian,
		"JPEG2000":                  dicom.JPEG2000,
		"jpeg-ls lossless":          dicom.JPEGLSLossless,
	} {
		if got, ok := dicom.TransferSyntaxByName(name); !ok || got.UID != want {
			t.Errorf("%q is %v, want %s", name, got, want)
		}
	}
	for _, name := range []string{"", "1.2.3", "JPEG", "CT Image Storage"} {
		if got, ok := dicom.TransferSyntaxByName(name); ok {
			t.Errorf("%q is %v", name, got)
		}
	}
}

// Of a private syntax the first element shows what matters: whether it carries
// value representations.
func TestPrivateTransferSyntax(t *testing.T) {
	for start, explicit := range map[string]bool{
		"\x08\x00\x05\x00CS\x0a\x00":       true,
		"\x08\x00\x05\x00\x0a\x00\x00\x00": false,
		"\x08\x00\x00\x00\x04\x00\x00\x00": false,
		"\x08\x00\x05":                     false,
		"":                                 false,
	} {
		want := dicom.TransferSyntax{UID: "1.2.3", Name: "1.2.3", ExplicitVR: explicit}
		if got := dicom.PrivateTransferSyntax("1.2.3", []byte(start)); got != want {
			t.Errorf("%q: %+v", start, got)
		}
	}
}
