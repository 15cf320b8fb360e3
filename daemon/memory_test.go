package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ichwatch/daemon/phantom"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// TestPromise6_MemoryIsFlatInStudySize sends a study of 50 slices to a daemon that forwards it, then one twenty times as
// long: the second takes no more memory at its peak than a little more for what the process caches.
func TestPromise6_MemoryIsFlatInStudySize(t *testing.T) {
	port, pacsPort := dimsetest.FreePort(t), dimsetest.FreePort(t)
	config := filepath.Join(t.TempDir(), "ichwatch.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
dicom: {listen: "127.0.0.1:%s"}
spool: {dir: %s, high_watermark: 99%%, reserve: 64MiB}
destinations:
  - {name: pacs, address: "127.0.0.1:%s", called_ae_title: PACS}
triage: {enabled: false}
monitor: {listen: ""}
`, port, filepath.Join(t.TempDir(), "spool"), pacsPort), 0o600); err != nil {
		t.Fatal(err)
	}
	received := t.TempDir()
	dimsetest.Start(t, pacsPort, "storescp", "+B", "+xa", "-pm", "-od", received, pacsPort)
	daemon := startDaemon(t, config, port)

	sent := 0
	push := func(slices int) (peak int) {
		s, err := phantom.New(phantom.Options{Seed: uint64(slices), Rows: 256, Columns: 256, Slices: slices, SliceThickness: 0.4})
		if err != nil {
			t.Fatal(err)
		}
		d := &dimse.Dialer{CallingAETitle: "CT", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
			AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian},
		}}}
		a, err := d.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Fatal(err)
		}
		// What a slice shows costs nothing here: one picture, many instances.
		var picture bytes.Buffer
		if err := s.WriteDataSet(&picture, slices/2); err != nil {
			t.Fatal(err)
		}
		shown := []byte(s.InstanceUID(slices / 2))
		syntax, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
		for i := range slices {
			uid := dicom.UID(fmt.Sprintf("%s%06d", shown[:len(shown)-6], i))
			data := bytes.ReplaceAll(picture.Bytes(), shown, []byte(uid))
			r, err := a.Store(t.Context(), dimse.CStoreRQ{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: uid, TransferSyntax: syntax}, bytes.NewReader(data))
			if err != nil || r.Status != dimse.StatusSuccess {
				t.Fatalf("slice %d: %v, %v", i, r, err)
			}
		}
		if err := a.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		sent += slices
		eventually(t, "the PACS has every slice", func() bool {
			files, err := os.ReadDir(received)
			return err == nil && len(files) == sent
		})
		return highest(t, daemon.Process.Pid)
	}
	first, second := push(50), push(1000)
	t.Logf("at most %d KiB resident with a study of 50 slices, %d with one of 1000", first, second)
	// All of the second study is 125 MiB; half a slice held for each would be 62.
	if second > first+32<<10 {
		t.Errorf("%d KiB more", second-first)
	}
}

// highest is the most that a process ever had resident, in KiB (proc(5), VmHWM).
func highest(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the kernel does not tell VmHWM")
	return 0
}
