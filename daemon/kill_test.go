package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ichwatch/daemon/phantom"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// startDaemon runs `ichwatch serve` as a process of its own and waits until it answers a C-ECHO.
func startDaemon(t *testing.T, config, port string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := new(dimsetest.Output)
	cmd := exec.Command(program, "serve", "--config", config)
	cmd.Args[0] = "ichwatch" // which TestMain takes for the program itself
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // its error is that it was killed
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", log)
		}
	})
	d := &dimse.Dialer{CallingAETitle: "TEST", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
		AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian},
	}}}
	eventually(t, "the daemon answers", func() bool {
		a, err := d.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port))
		return err == nil && a.Release(t.Context()) == nil
	})
	return cmd
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("waited in vain for: " + what)
		}
	}
}

// instances lists the SOP Instance UIDs of the Part 10 files that match. A file that is being written is an error.
func instances(pattern string) (map[string]bool, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	uids := map[string]bool{}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		meta, _, err := dicom.ReadFileMeta(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		uids[string(meta.SOPInstanceUID)] = true
	}
	return uids, nil
}

// mustInstances is instances where every file is complete.
func mustInstances(t *testing.T, pattern string) map[string]bool {
	t.Helper()
	uids, err := instances(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return uids
}

// TestPromise1_KilledInMidStudy kills the daemon with SIGKILL while a stock storescu pushes a study. Whatever was
// answered with success before is on disk, and after a restart it goes to the PACS without anybody's doing.
func TestPromise1_KilledInMidStudy(t *testing.T) {
	const slices = 300
	dir := t.TempDir()
	if err := phantom.WriteSet(t.Context(), dir, phantom.SetOptions{
		Studies: 1, Classes: []phantom.Class{phantom.Normal}, Slices: slices, SliceThickness: 0.5, Rows: 128, Columns: 128,
	}, nil); err != nil {
		t.Fatal(err)
	}
	port, pacsPort := dimsetest.FreePort(t), dimsetest.FreePort(t)
	spool := filepath.Join(t.TempDir(), "spool")
	config := filepath.Join(t.TempDir(), "ichwatch.yaml")
	// The PACS is not there yet: what the daemon holds is all that there is.
	if err := os.WriteFile(config, fmt.Appendf(nil, `
dicom: {listen: "127.0.0.1:%s"}
spool: {dir: %s, high_watermark: 99%%, reserve: 64MiB}
destinations:
  - {name: pacs, address: "127.0.0.1:%s", called_ae_title: PACS, retry: {initial: 100ms, max: 1s}}
triage: {enabled: false}
monitor: {listen: ""}
log: {level: debug}
`, port, spool, pacsPort), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := startDaemon(t, config, port)

	scanner := exec.Command(dimsetest.Program(t, "storescu"), "-v", "+sd", "-aec", "ICHWATCH", "127.0.0.1", port, filepath.Join(dir, "normal-0001"))
	said := new(dimsetest.Output)
	scanner.Stdout, scanner.Stderr = said, said
	if err := scanner.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a fifth of the study was answered", func() bool {
		return strings.Count(said.String(), "Received Store Response (Success)") >= slices/5
	})
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait()
	_ = scanner.Wait() // it lost its peer

	acknowledged := map[string]bool{}
	var sending string
	for line := range strings.Lines(said.String()) {
		if _, file, ok := strings.Cut(strings.TrimSpace(line), "Sending file: "); ok {
			sending = file
		}
		if strings.Contains(line, "Received Store Response (Success)") {
			for uid := range mustInstances(t, sending) {
				acknowledged[uid] = true
			}
		}
	}
	if len(acknowledged) < slices/5 || len(acknowledged) == slices {
		t.Fatalf("%d of %d slices were acknowledged: not killed in mid-study\n%s", len(acknowledged), slices, said)
	}
	onDisk := mustInstances(t, filepath.Join(spool, "instances", "*", "*.dcm"))
	lacks(t, "the disk", onDisk, acknowledged)
	partial, err := filepath.Glob(filepath.Join(spool, "incoming", "*"))
	if err != nil {
		t.Fatal(err)
	}

	received := t.TempDir()
	dimsetest.Start(t, pacsPort, "storescp", "+B", "+xa", "-pm", "-od", received, pacsPort)
	startDaemon(t, config, port)
	var atPACS map[string]bool
	eventually(t, "the PACS has what is on disk", func() bool {
		var err error
		atPACS, err = instances(filepath.Join(received, "*"))
		return err == nil && len(atPACS) == len(onDisk)
	})
	lacks(t, "the PACS", atPACS, acknowledged)

	quarantined, err := filepath.Glob(filepath.Join(spool, "quarantine", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(quarantined) < len(partial) {
		t.Errorf("%d partial files were left, %d are in quarantine", len(partial), len(quarantined))
	}
	t.Logf("of %d slices %d were acknowledged when the daemon was killed; %d files and %d partial ones were left; the PACS has %d after the restart",
		slices, len(acknowledged), len(onDisk), len(partial), len(atPACS))
}

func lacks(t *testing.T, who string, have, want map[string]bool) {
	t.Helper()
	for uid := range want {
		if !have[uid] {
			t.Errorf("%s lacks %s, which was acknowledged", who, uid)
		}
	}
}
