package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ichwatch/daemon/monitor"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// diskSite is a daemon on a disk of its own, storescu as its scanner and storescp as its PACS, once it is started.
type diskSite struct {
	*testing.T
	spool, config, port, health string
	pacs, received              string // port, folder

	acknowledged map[string]bool // SOP Instance UIDs
	studies      int
}

func newDiskSite(t *testing.T, mount, more string) *diskSite {
	t.Helper()
	d := &diskSite{
		T: t, spool: filepath.Join(mount, "spool"), config: filepath.Join(t.TempDir(), "ichwatch.yaml"), received: t.TempDir(),
		port: dimsetest.FreePort(t), health: dimsetest.FreePort(t), pacs: dimsetest.FreePort(t), acknowledged: map[string]bool{},
	}
	if err := os.WriteFile(d.config, fmt.Appendf(nil, `
dicom: {listen: "127.0.0.1:%s"}
spool: {dir: %q, %s}
destinations: [{name: pacs, address: "127.0.0.1:%s", called_ae_title: PACS, retry: {initial: 100ms, max: 500ms}}]
triage: {models: [], quiet: 1s}
alerts: {mqtt: {broker: "tcp://127.0.0.1:9"}}
monitor: {listen: "127.0.0.1:%s"}
`, d.port, d.spool, more, d.pacs, d.health), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// study writes a small study.
func (d *diskSite) study() (files []string) {
	d.Helper()
	dir := d.TempDir()
	d.studies++
	if err := phantom.WriteSet(d.Context(), dir, phantom.SetOptions{
		Seed: uint64(d.studies), Studies: 1, Classes: []phantom.Class{phantom.Normal}, Slices: 4, Rows: 512, Columns: 512,
	}, nil); err != nil {
		d.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.dcm"))
	if err != nil || len(files) != 4 {
		d.Fatalf("%d files, %v", len(files), err)
	}
	return files
}

// push sends files with storescu, which must be answered with success for each.
func (d *diskSite) push(files ...string) {
	d.Helper()
	dimsetest.Run(d.T, "storescu", append([]string{"-R", "-aec", "ICHWATCH", "127.0.0.1", d.port}, files...)...)
	for _, file := range files {
		maps.Copy(d.acknowledged, mustInstances(d.T, file))
	}
}

// refused sends files with storescu, which must report a failure as it is wanted, and no success.
func (d *diskSite) refused(want string, files ...string) {
	d.Helper()
	out, err := dimsetest.RunError(d.T, "storescu", append([]string{"-v", "-R", "-aec", "ICHWATCH", "127.0.0.1", d.port}, files...)...)
	if err == nil || !strings.Contains(out, want) || strings.Contains(out, "(Success)") {
		d.Errorf("storescu does not report %q: %v\n%s", want, err, out)
	}
}

// ready is what the daemon says of its spool; "ok" when it is.
func (d *diskSite) ready() string {
	d.Helper()
	resp, err := http.Get("http://127.0.0.1:" + d.health + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	var report monitor.Report
	if err := json.NewDecoder(resp.Body).Decode(&report); err != nil {
		d.Fatal(err)
	}
	return report.Parts["spool"]
}

// startPACS lets everything be forwarded, and waits until what was acknowledged, and nothing else, has arrived.
func (d *diskSite) startPACS() {
	d.Helper()
	dimsetest.Start(d.T, d.pacs, "storescp", "+B", "+xa", "-pm", "+uf", "-od", d.received, d.pacs)
	d.arrives()
}

func (d *diskSite) arrives() {
	d.Helper()
	eventually(d.T, "all that was acknowledged is at the PACS", func() bool {
		got, err := instances(filepath.Join(d.received, "*"))
		return err == nil && maps.Equal(got, d.acknowledged)
	})
}

// balances holds the ledger against the files.
func (d *diskSite) balances() {
	d.Helper()
	r, err := spool.OpenReader(d.Context(), d.spool)
	if err != nil {
		d.Fatal(err)
	}
	defer r.Close()
	a, err := r.Account(d.Context(), spool.Filter{})
	if err != nil || len(a.Discrepancies) > 0 {
		d.Errorf("the ledger does not balance: %+v, %v", a.Discrepancies, err)
	}
	received := 0
	for _, s := range a.Studies {
		received += s.Instances
	}
	if received != len(d.acknowledged) {
		d.Errorf("the ledger has %d instances, %d were acknowledged", received, len(d.acknowledged))
	}
}

// ballast is a file that fills a disk but for so many bytes.
func (d *diskSite) ballast(mount string, leave uint64) {
	d.Helper()
	name := filepath.Join(mount, "ballast")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	rand.Read(block)
	for {
		free := freeBytes(d.T, mount)
		if free <= leave {
			return
		}
		if _, err := f.Write(block[:min(uint64(len(block)), free-leave)]); err != nil {
			if leave == 0 {
				return
			}
			d.Fatal(err)
		}
	}
}

// TestPromise1_FullDisk fills the disk under a working daemon in steps: from the watermark on associations are refused as
// transient, below the reserve objects, and what does not fit any more. Nothing that was acknowledged is lost, and when
// there is space again all goes on, without anybody's doing.
func TestPromise1_FullDisk(t *testing.T) {
	mount := newTmpfs(t, 256<<20)
	d := newDiskSite(t, mount, "high_watermark: 60%, reserve: 64MiB")
	startDaemon(t, d.config, d.port)
	d.push(d.study()...)
	blocked := d.study()

	// An association from before, with an object that is half there when the disk is full to its last byte.
	a := d.dial()
	half, rest := io.Pipe()
	t.Cleanup(func() { _ = rest.Close() })
	object, uid := dataSetBytes(t, blocked[0])
	answered := make(chan dimse.Result, 1)
	go func() {
		r, err := a.Store(context.WithoutCancel(t.Context()), storeRequest(uid), half)
		if err != nil {
			t.Errorf("the association broke off: %v", err)
		}
		answered <- r
	}()
	if _, err := rest.Write(object[:len(object)/2]); err != nil {
		t.Fatal(err)
	}

	d.ballast(mount, 90<<20)
	d.refused("Rejected Transient", blocked...)
	dimsetest.Run(t, "echoscu", "-aec", "ICHWATCH", "127.0.0.1", d.port)
	if is := d.ready(); !strings.Contains(is, "new associations are refused") {
		t.Errorf("above the watermark the spool is %q", is)
	}

	d.ballast(mount, 0)
	if _, err := rest.Write(object[len(object)/2:]); err != nil {
		t.Fatal(err)
	}
	rest.Close()
	if r := <-answered; r.Status != dimse.StatusOutOfResources {
		t.Errorf("an object for which there is no space is answered %v", r.Status)
	}
	object, uid = dataSetBytes(t, blocked[1])
	if r, err := a.Store(t.Context(), storeRequest(uid), bytes.NewReader(object)); err != nil || r.Status != dimse.StatusOutOfResources {
		t.Errorf("below the reserve an object is answered %v, %v", r.Status, err)
	}
	if is := d.ready(); !strings.Contains(is, "objects are refused") {
		t.Errorf("below the reserve the spool is %q", is)
	}

	if err := os.Remove(filepath.Join(mount, "ballast")); err != nil {
		t.Fatal(err)
	}
	d.push(blocked...)
	if is := d.ready(); is != "ok" {
		t.Errorf("with space again the spool is %q", is)
	}
	d.startPACS()
	d.balances()

	// All is confirmed now: it goes before its time, in place of refusing what comes.
	d.ballast(mount, 101<<20) // 60.5 % in use
	eventually(t, "room is made", func() bool { return d.ready() == "ok" })
	d.push(d.study()...)
	d.arrives()
	d.balances()
}

// TestPromise1_DiskThatTakesNothing: the daemon may no longer write into its spool. The scanner is told so, object by
// object and then at the association; the daemon stays, and when the disk is well again all goes on, without anybody's
// doing.
func TestPromise1_DiskThatTakesNothing(t *testing.T) {
	_, mount := newExt4(t, "loop")
	d := newDiskSite(t, mount, "high_watermark: 99%, reserve: 64MiB")
	startDaemon(t, d.config, d.port)
	d.push(d.study()...)
	blocked := d.study()

	set := func(attribute string) {
		t.Helper()
		if err := perform("chattr", attribute, d.spool, filepath.Join(d.spool, "incoming")); err != nil {
			t.Fatal(err)
		}
	}
	set("+i")
	t.Cleanup(func() { _ = perform("chattr", "-i", d.spool, filepath.Join(d.spool, "incoming")) })
	a := d.dial()
	object, uid := dataSetBytes(t, blocked[0])
	if r, err := a.Store(t.Context(), storeRequest(uid), bytes.NewReader(object)); err != nil || r.Status != dimse.StatusProcessingFailure {
		t.Errorf("answered %v, %v", r.Status, err)
	}
	d.refused("Rejected Transient", blocked...)
	if is := d.ready(); !strings.Contains(is, "has taken nothing since") {
		t.Errorf("the spool is %q", is)
	}

	set("-i")
	eventually(t, "the daemon finds the disk well", func() bool { return d.ready() == "ok" })
	d.push(blocked...)
	d.startPACS()
	d.balances()
}

// TestPromise1_ReadOnlyDisk: ext4 has met an error and made itself read-only, as it does on a disk that fails. What is
// there is sent still; nothing new is acknowledged; and when a person has mended the disk all is there.
func TestPromise1_ReadOnlyDisk(t *testing.T) {
	image, mount := newExt4(t, "loop,errors=remount-ro")
	d := newDiskSite(t, mount, "high_watermark: 99%, reserve: 64MiB")
	daemon := startDaemon(t, d.config, d.port)
	d.push(d.study()...)
	blocked := d.study()

	device, err := exec.Command("findmnt", "-no", "SOURCE", mount).Output()
	if err != nil {
		t.Skipf("findmnt: %v", err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(device))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("the test"), 0o200); err != nil {
		t.Skipf("ext4 cannot be made to fail here: %v", err)
	}
	if err := os.WriteFile(filepath.Join(mount, "x"), nil, 0o600); err == nil {
		t.Fatal("the disk is writable still")
	}
	d.refused("Unknown Status: 0x110", blocked[0])
	d.refused("Rejected Transient", blocked...)
	if is := d.ready(); !strings.Contains(is, "read-only file system") {
		t.Errorf("the spool is %q", is)
	}
	d.startPACS() // what is there leaves, though it cannot be noted
	if files, err := filepath.Glob(filepath.Join(d.received, "*")); err != nil || len(files) != len(d.acknowledged) {
		t.Errorf("%d instances arrived as %d, %v", len(d.acknowledged), len(files), err)
	}

	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait()
	if err := unmount(mount); err != nil {
		t.Fatal(err)
	}
	// 1: errors corrected.
	var exit *exec.ExitError
	if err := exec.Command("e2fsck", "-p", image).Run(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		t.Fatal(err)
	}
	if err := perform("mount", "-o", "loop", image, mount); err != nil {
		t.Fatal(err)
	}
	startDaemon(t, d.config, d.port)
	d.push(blocked...)
	d.arrives()
	d.balances()
}

// newTmpfs mounts a disk in memory. It takes root.
func newTmpfs(t *testing.T, size int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a disk takes root")
	}
	mount := t.TempDir()
	if err := perform("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs", mount); err != nil {
		t.Skipf("a disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := perform("umount", "-l", mount); err != nil {
			t.Error(err)
		}
	})
	return mount
}

func (d *diskSite) dial() *dimse.Association {
	d.Helper()
	dialer := &dimse.Dialer{CallingAETitle: "CT1", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
		AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian},
	}}}
	a, err := dialer.Dial(d.Context(), net.JoinHostPort("127.0.0.1", d.port))
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { _ = a.Abort() })
	return a
}

func storeRequest(uid dicom.UID) dimse.CStoreRQ {
	syntax, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
	return dimse.CStoreRQ{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: uid, TransferSyntax: syntax}
}

func dataSetBytes(t *testing.T, file string) (data []byte, uid dicom.UID) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return b[offset:], meta.SOPInstanceUID
}

func freeBytes(t *testing.T, dir string) uint64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Bavail * uint64(st.Bsize)
}
