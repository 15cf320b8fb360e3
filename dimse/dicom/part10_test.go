package dicom_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"ichwatch/dimse/dicom"
)

// fileMeta is a Part 10 header, byte by byte (PS3.10 Table 7.1-1).
var fileMeta = strings.Repeat("\x00", 128) + "DICM" +
	"\x02\x00\x00\x00" + "UL\x04\x00" + "\x80\x00\x00\x00" + // group length: 128 bytes follow
	"\x02\x00\x01\x00" + "OB\x00\x00\x02\x00\x00\x00" + "\x00\x01" + // version
	"\x02\x00\x02\x00" + "UI\x1a\x00" + "1.2.840.10008.5.1.4.1.1.2\x00" + // CT Image Storage
	"\x02\x00\x03\x00" + "UI\x06\x00" + "1.2.3\x00" + // SOP instance
	"\x02\x00\x10\x00" + "UI\x12\x00" + "1.2.840.10008.1.2\x00" + // Implicit VR Little Endian
	"\x02\x00\x12\x00" + "UI\x06\x00" + "2.25.7" + // implementation class
	"\x02\x00\x13\x00" + "SH\x06\x00" + "TEST_1" + // implementation version name
	"\x02\x00\x16\x00" + "AE\x04\x00" + "CT1 " // source AE title

var fileMetaValue = dicom.FileMeta{
	SOPClassUID:               dicom.CTImageStorage,
	SOPInstanceUID:            "1.2.3",
	TransferSyntaxUID:         dicom.ImplicitVRLittleEndian,
	ImplementationClassUID:    "2.25.7",
	ImplementationVersionName: "TEST_1",
	SourceAETitle:             "CT1",
}

func TestWriteFileMeta(t *testing.T) {
	var b bytes.Buffer
	n, err := dicom.WriteFileMeta(&b, fileMetaValue)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fileMeta, b.String()); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	if n != int64(b.Len()) {
		t.Errorf("%d bytes reported, %d written", n, b.Len())
	}
}

func TestWriteFileMetaNamesThisImplementation(t *testing.T) {
	var b bytes.Buffer
	m := dicom.FileMeta{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2", TransferSyntaxUID: dicom.RLELossless}
	if _, err := dicom.WriteFileMeta(&b, m); err != nil {
		t.Fatal(err)
	}
	got, _, err := dicom.ReadFileMeta(&b)
	if err != nil {
		t.Fatal(err)
	}
	m.ImplementationClassUID = dicom.ImplementationClassUID
	m.ImplementationVersionName = dicom.ImplementationVersionName
	if got != m {
		t.Errorf("read %+v, want %+v", got, m)
	}
}

func TestWriteFileMetaRefuses(t *testing.T) {
	for name, change := range map[string]func(*dicom.FileMeta){
		"no SOP class":             func(m *dicom.FileMeta) { m.SOPClassUID = "" },
		"no SOP instance":          func(m *dicom.FileMeta) { m.SOPInstanceUID = "" },
		"bad transfer syntax":      func(m *dicom.FileMeta) { m.TransferSyntaxUID = "1..2" },
		"bad implementation class": func(m *dicom.FileMeta) { m.ImplementationClassUID = "x" },
		"long version name":        func(m *dicom.FileMeta) { m.ImplementationVersionName = "SEVENTEEN_LETTERS" },
		"bad source":               func(m *dicom.FileMeta) { m.SourceAETitle = "A\\B" },
		"blank sender":             func(m *dicom.FileMeta) { m.SendingAETitle = "  " },
		"long receiver":            func(m *dicom.FileMeta) { m.ReceivingAETitle = "SEVENTEEN_LETTERS" },
	} {
		m := fileMetaValue
		change(&m)
		var b bytes.Buffer
		if n, err := dicom.WriteFileMeta(&b, m); err == nil || n != 0 || b.Len() != 0 {
			t.Errorf("%s: wrote %d bytes, error %v", name, b.Len(), err)
		}
	}
	full := iotest.ErrReader(io.ErrClosedPipe) // any error will do
	_, want := full.Read(nil)
	if _, err := dicom.WriteFileMeta(failingWriter{want}, fileMetaValue); !errors.Is(err, want) {
		t.Errorf("a failing writer gives %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestReadFileMeta(t *testing.T) {
	const dataSet = "the data set"
	r := strings.NewReader(fileMeta + dataSet)
	m, n, err := dicom.ReadFileMeta(iotest.OneByteReader(r))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fileMetaValue, m); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	if n != int64(len(fileMeta)) {
		t.Errorf("data set at %d, want %d", n, len(fileMeta))
	}
	if rest, _ := io.ReadAll(r); string(rest) != dataSet {
		t.Errorf("%q is left, want the whole data set", rest)
	}
}

func TestReadFileMetaRefuses(t *testing.T) {
	prefix, group := fileMeta[:132], fileMeta[144:]
	for _, tc := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", dicom.ErrNotPart10},
		{"a preamble", fileMeta[:128], dicom.ErrNotPart10},
		{"no DICM", strings.Replace(fileMeta, "DICM", "DICX", 1), dicom.ErrNotPart10},
		{"a data set", strings.Repeat("\x08\x00\x05\x00CS\x00\x00", 20), dicom.ErrNotPart10},
		{"no group length", prefix + group + group, dicom.ErrNotPart10},
		{"group length empty", prefix + "\x02\x00\x00\x00UL\x00\x00" + group, dicom.ErrNotPart10},
		{"group length 4 GiB", prefix + "\x02\x00\x00\x00UL\x04\x00\xff\xff\xff\xff" + group, dicom.ErrNotPart10},
		{"group length past the end", prefix + "\x02\x00\x00\x00UL\x04\x00\x00\x01\x00\x00" + group, dicom.ErrTruncated},
		{"group length inside an element", prefix + "\x02\x00\x00\x00UL\x04\x00\x7f\x00\x00\x00" + group, dicom.ErrTruncated},
		{"group length of nothing", prefix + "\x02\x00\x00\x00UL\x04\x00\x00\x00\x00\x00", dicom.ErrMalformed},
		{"tags out of order", strings.Replace(fileMeta, "\x02\x00\x12\x00UI", "\x02\x00\x02\x00UI", 1), dicom.ErrOrder},
		{"no transfer syntax", strings.Replace(fileMeta, "\x02\x00\x10\x00UI", "\x02\x00\x11\x00UI", 1), dicom.ErrInvalidUID},
		{"bad SOP instance", strings.Replace(fileMeta, "1.2.3\x00", "1..23\x00", 1), dicom.ErrInvalidUID},
	} {
		_, n, err := dicom.ReadFileMeta(strings.NewReader(tc.in))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if n > int64(len(tc.in)) {
			t.Errorf("%s: %d bytes taken of %d", tc.name, n, len(tc.in))
		}
	}
	broken := errors.New("disk broken")
	r := io.MultiReader(strings.NewReader(fileMeta[:200]), iotest.ErrReader(broken))
	if _, _, err := dicom.ReadFileMeta(r); !errors.Is(err, broken) || errors.Is(err, dicom.ErrMalformed) {
		t.Errorf("a failing reader gives %v", err)
	}
}
