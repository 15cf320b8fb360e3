package send_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"ichwatch/daemon/phantom"
	"ichwatch/daemon/send"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// Real archives get a study over several associations, and hold each data set as its file has it.
func TestToRealPeers(t *testing.T) {
	dir := t.TempDir()
	if err := phantom.WriteSet(t.Context(), dir, phantom.SetOptions{
		Studies: 1, Classes: []phantom.Class{phantom.Epidural, phantom.Normal}, Slices: 10, Rows: 128, Columns: 128,
	}, nil); err != nil {
		t.Fatal(err)
	}
	objects, skipped, err := send.Find(t.Context(), []string{dir})
	if err != nil || len(objects) != 20 || len(skipped) != 2 { // its tables
		t.Fatalf("%d objects, skipped %v, %v", len(objects), skipped, err)
	}
	want := map[dicom.UID][]byte{}
	for _, o := range objects {
		uid, data := part10(t, o.Path)
		want[uid] = data
	}
	check := func(t *testing.T, got map[dicom.UID][]byte) {
		t.Helper()
		for uid, data := range want {
			if !bytes.Equal(got[uid], data) {
				t.Errorf("%s: %d bytes stored of %d", uid, len(got[uid]), len(data))
			}
		}
	}
	deliver := func(t *testing.T, port string) {
		t.Helper()
		p := &peer{addr: "127.0.0.1:" + port}
		results := p.send(t, objects, func(s *send.Sender) {
			s.Associations = 3
			s.Dialer = dimse.Dialer{CallingAETitle: "SEND", CalledAETitle: "ANY-SCP", MaxPDU: 16384, MaxSendPDU: 16384}
		})
		p.expect(t, results, map[send.Outcome]int{send.Stored: 20})
	}
	t.Run("storescp", func(t *testing.T) {
		port, folder := dimsetest.FreePort(t), t.TempDir()
		// --fork: one process of it serves one association at a time.
		dimsetest.Start(t, port, "storescp", "--fork", "+B", "+xa", "-od", folder, port)
		deliver(t, port)
		files, err := filepath.Glob(filepath.Join(folder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		got := map[dicom.UID][]byte{}
		for _, file := range files {
			uid, data := part10(t, file)
			got[uid] = data
		}
		check(t, got)
	})
	t.Run("Orthanc", func(t *testing.T) {
		o := dimsetest.StartOrthanc(t)
		deliver(t, o.Port)
		got := map[dicom.UID][]byte{}
		for _, file := range o.Files(t) {
			meta, n, err := dicom.ReadFileMeta(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			got[meta.SOPInstanceUID] = file[n:]
		}
		check(t, got)
	})
}

func part10(t *testing.T, path string) (dicom.UID, []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	meta, n, err := dicom.ReadFileMeta(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return meta.SOPInstanceUID, b[n:]
}
