package send_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ichwatch/daemon/send"
	"ichwatch/dimse/dicom"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write writes a Part 10 file with the given data set.
func write(t *testing.T, path string, class, instance, syntax dicom.UID, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := dicom.WriteFileMeta(&b, dicom.FileMeta{SOPClassUID: class, SOPInstanceUID: instance, TransferSyntaxUID: syntax}); err != nil {
		t.Fatal(err)
	}
	b.Write(data)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// images writes n CT images and returns their folder.
func images(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		uid := dicom.UID(fmt.Sprintf("1.2.3.%d", i+1))
		write(t, filepath.Join(dir, fmt.Sprintf("%04d.dcm", i)), dicom.CTImageStorage, uid, dicom.ExplicitVRLittleEndian, dataSet(uid))
	}
	return dir
}

// dataSet is a SOP Instance UID and a few kilobytes behind it.
func dataSet(uid dicom.UID) []byte {
	value := []byte(uid)
	if len(value)%2 == 1 {
		value = append(value, 0)
	}
	b := append([]byte("\x08\x00\x18\x00UI"), byte(len(value)), 0)
	b = append(b, value...)
	b = append(b, "\xe0\x7f\x10\x00OW\x00\x00"...)
	return append(binary.LittleEndian.AppendUint32(b, 4096), make([]byte, 4096)...)
}

func find(t *testing.T, paths ...string) []send.Object {
	t.Helper()
	objects, skipped, err := send.Find(t.Context(), paths)
	if err != nil || len(skipped) > 0 {
		t.Fatalf("skipped %v, error %v", skipped, err)
	}
	return objects
}

// What can be sent is found in the order of the names, and what cannot is skipped for its reason. Nothing of it makes
// Find wait or stop.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	ct := func(name string, syntax dicom.UID, data string) {
		write(t, in(name), dicom.CTImageStorage, "1.2.3", syntax, []byte(data))
	}
	ct("b/2", dicom.JPEG2000, "ab")
	ct("b/1.dcm", dicom.ExplicitVRLittleEndian, "abcd")
	ct("a.dcm", "1.2.840.113619.5.2", "abcdef")
	ct("deflated-odd", dicom.DeflatedExplicitVRLittleEndian, "abc")
	ct("skip/odd", dicom.ExplicitVRLittleEndian, "abc")
	ct("skip/empty", dicom.ExplicitVRLittleEndian, "")
	write(t, in("skip/DICOMDIR"), "1.2.840.10008.1.3.10", "1.2.3", dicom.ExplicitVRLittleEndian, []byte("ab"))
	for name, content := range map[string]string{
		"skip/text": "no image", "skip/nothing": "", "skip/cut": string(make([]byte, 128)) + "DICM\x02\x00\x00\x00UL\x04\x00\xff\xff\x00\x00",
	} {
		if err := os.WriteFile(in(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		syscall.Mkfifo(in("skip/pipe"), 0o600), // opened, it would wait for a writer
		os.Symlink(in("nowhere"), in("skip/dangling")),
		os.Symlink(in("b/2"), in("link")),
	); err != nil {
		t.Fatal(err)
	}
	objects, skipped, err := send.Find(t.Context(), []string{dir, in("b/2")})
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		name   string
		syntax dicom.UID
		size   int64
	}
	var got []seen
	for _, o := range objects {
		name, _ := filepath.Rel(dir, o.Path)
		got = append(got, seen{name, o.TransferSyntax.UID, o.Size})
	}
	want := []seen{
		{"a.dcm", "1.2.840.113619.5.2", 6},
		{"b/1.dcm", dicom.ExplicitVRLittleEndian, 4},
		{"b/2", dicom.JPEG2000, 2},
		{"deflated-odd", dicom.DeflatedExplicitVRLittleEndian, 3},
		{"link", dicom.JPEG2000, 2},
		{"b/2", dicom.JPEG2000, 2}, // named beside its folder
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(seen{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, s := range skipped {
		if filepath.Base(filepath.Dir(s.Path)) != "skip" || s.Reason == nil {
			t.Errorf("%s is skipped: %v", s.Path, s.Reason)
		}
		switch filepath.Base(s.Path) {
		case "text", "nothing":
			if !errors.Is(s.Reason, dicom.ErrNotPart10) {
				t.Errorf("%s: %v", s.Path, s.Reason)
			}
		case "cut":
			if !errors.Is(s.Reason, dicom.ErrTruncated) {
				t.Errorf("%s: %v", s.Path, s.Reason)
			}
		}
	}
	if len(skipped) != 8 {
		t.Errorf("%d files are skipped: %v", len(skipped), skipped)
	}
	if _, _, err := send.Find(t.Context(), []string{in("nowhere")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
}

// A file that has shrunk since it was found is not sent as a shorter one.
func TestShrunkenFileIsNoObject(t *testing.T) {
	dir := images(t, 3)
	objects := find(t, dir)
	if err := os.Truncate(objects[1].Path, 2000); err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nil)
	results := p.send(t, objects, nil)
	p.expect(t, results, map[send.Outcome]int{send.Stored: 2, send.Failed: 1})
	if err := results[1].Err; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the shrunken one: %v", err)
	}
	if got := p.uids(); len(got) != 2 {
		t.Errorf("stored %v", got)
	}
}
