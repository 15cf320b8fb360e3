package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// powerDisk is an ext4 file system in a file, mounted through a loop device, whose power can be cut: what was not synced
// is gone, what was is there. It is mounted so that nothing gets to the disk by the kernel's courtesy: no flush of a file
// because it is renamed, no commit of the journal but for a sync, and data in any order.
type powerDisk struct{ image, mount string }

const powerMount = "loop,data=writeback,noauto_da_alloc,commit=300"

// newExt4 makes a file system in a file and mounts it. It skips the test where that may not be done: it takes root, a loop
// device and mkfs.ext4.
func newExt4(t *testing.T, options string) (image, mount string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a disk takes root")
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("making a disk takes mkfs.ext4")
	}
	image, mount = filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "mnt")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(512<<20), f.Close(), os.Mkdir(mount, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := perform(mkfs, "-q", "-F", image); err != nil {
		t.Fatal(err)
	}
	if err := perform("mount", "-o", options, image, mount); err != nil {
		t.Skipf("a file cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unmount(mount) }) // a test that has failed may have unmounted it
	return image, mount
}

// unmount waits: a child that is being forked beside us holds our files for a moment.
func unmount(mount string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	err := perform("umount", mount)
	for tries := 0; err != nil && tries < 500; tries++ {
		if _, mounted := os.Stat(filepath.Join(mount, "lost+found")); mounted != nil {
			break
		}
		<-tick.C
		err = perform("umount", mount)
	}
	return err
}

func newPowerDisk(t *testing.T) *powerDisk {
	t.Helper()
	d := new(powerDisk)
	d.image, d.mount = newExt4(t, powerMount)
	// Is it what the comment says?
	held, lost := filepath.Join(d.mount, "held"), filepath.Join(d.mount, "lost")
	if err := os.WriteFile(held, []byte("synced"), 0o600); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	if err := os.WriteFile(lost, []byte("not synced"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.cut(); err != nil {
		t.Skipf("the power of a disk cannot be cut here: %v", err)
	}
	if err := d.again(); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(held); err != nil || string(content) != "synced" {
		t.Fatalf("the power cut has taken what was synced: %q, %v", content, err)
	}
	if _, err := os.Stat(lost); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the power cut has left what was not synced: %v", err)
	}
	return d
}

func (d *powerDisk) cut() error { return cutPower(d.mount) }

// again is the machine after the cut, switched on.
func (d *powerDisk) again() error {
	if err := unmount(d.mount); err != nil {
		return err
	}
	return perform("mount", "-o", powerMount, d.image, d.mount)
}

func perform(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}

// cutPower stops a file system between two operations: nothing that is in memory alone gets to the disk any more, the
// journal's open transaction neither (EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, as xfstests does it).
func cutPower(mount string) error {
	const (
		shutdown   = 0x8004587D // _IOR('X', 125, __u32)
		noLogFlush = 2
	)
	dir, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer dir.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("cut the power of %s: %w", mount, errno)
	}
	return nil
}
