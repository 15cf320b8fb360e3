package receive_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// DCMTK's storescu pushes a study; what it sent is what is stored.
func TestPromise2_StorescuByteForByte(t *testing.T) {
	s := newSite(t, nil)
	host, port, err := net.SplitHostPort(s.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	want := make(map[dicom.UID]string)
	for i := range 20 {
		uid := instance + dicom.UID("."+strconv.Itoa(i))
		want[uid] = imageOf(uid, study)
		var b bytes.Buffer
		if _, err := dicom.WriteFileMeta(&b, dicom.FileMeta{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: uid, TransferSyntaxUID: dicom.ExplicitVRLittleEndian}); err != nil {
			t.Fatal(err)
		}
		b.WriteString(want[uid])
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)+".dcm"), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dimsetest.Run(t, "storescu", "-aet", "CT01", "-aec", string(dimsetest.AETitle), "+sd", host, port, dir)
	if err := s.awaitClosed(t); err != nil {
		t.Errorf("the association ended with %v", err)
	}
	got := s.stored(t)
	for uid, data := range want {
		if got[uid] != data {
			t.Errorf("%s: %d bytes sent, %d stored, and they differ", uid, len(data), len(got[uid]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d objects sent, %d stored", len(want), len(got))
	}
}

// It shows its user why an object was refused, and the status that says so.
func TestStorescuUnderstandsARefusal(t *testing.T) {
	s := newSite(t, nil)
	s.Reserve = 1 << 62
	host, port, err := net.SplitHostPort(s.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := dicom.WriteFileMeta(&b, dicom.FileMeta{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: instance, TransferSyntaxUID: dicom.ExplicitVRLittleEndian}); err != nil {
		t.Fatal(err)
	}
	b.WriteString(image)
	file := filepath.Join(t.TempDir(), "image.dcm")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := dimsetest.RunError(t, "storescu", "-v", "-aec", string(dimsetest.AETitle), host, port, file)
	if !strings.Contains(out, "OutOfResources") {
		t.Errorf("storescu does not report %v:\n%s", dimse.StatusOutOfResources, out)
	}
	s.nothingStays(t)
}
