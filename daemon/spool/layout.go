package spool

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"ichwatch/dimse/dicom"
)

// The names in the spool's directory; the package comment tells their meaning.
const (
	incomingDir   = "incoming"
	instancesDir  = "instances"
	quarantineDir = "quarantine"
	ledgerName    = "ledger.db"
	keyName       = "pseudonym.key"
	lockName      = "lock"
	bootName      = "boot"
	flushName     = "flush"
	journalName   = "journal.jsonl"
	journalBegun  = "journal.begun"

	incomingSuffix = ".part"
	instanceSuffix = ".dcm"
)

func incomingPath(name ulid.ULID) string {
	return filepath.Join(incomingDir, name.String()+incomingSuffix)
}

func shard(name ulid.ULID) string {
	return filepath.Join(instancesDir, fmt.Sprintf("%02x", name[len(name)-1]))
}

func instancePath(name ulid.ULID) string {
	return filepath.Join(shard(name), name.String()+instanceSuffix)
}

// parseInstancePath is the inverse of instancePath; ok is false for every path
// that instancePath does not produce.
func parseInstancePath(path string) (name ulid.ULID, ok bool) {
	base, found := strings.CutSuffix(filepath.Base(path), instanceSuffix)
	if !found {
		return name, false
	}
	name, err := ulid.ParseStrict(base)
	if err != nil {
		return name, false
	}
	return name, path == instancePath(name)
}

// makeDirectories makes the directories that are not there yet and lets their
// names reach the disk.
func (s *Spool) makeDirectories() error {
	instances := filepath.Join(s.dir, instancesDir)
	dirs := []string{s.dir, filepath.Join(s.dir, incomingDir), filepath.Join(s.dir, quarantineDir), instances}
	for i := range 256 {
		dirs = append(dirs, filepath.Join(instances, fmt.Sprintf("%02x", i)))
	}
	made := map[string]bool{} // parents of what was made
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the spool's directories: %w (is the parent directory writable for this user?)", err)
		}
		made[filepath.Dir(dir)] = true
	}
	for dir := range made {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// lockTries and lockPause let a Reader pass that looks whether the lock is held.
const (
	lockTries = 20
	lockPause = 25 * time.Millisecond
)

// takeLock locks the file at path until it is closed or the process ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the spool: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for tries := 1; errors.Is(err, unix.EWOULDBLOCK) && tries < lockTries; tries++ {
		time.Sleep(lockPause)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (is the service running already?)", ErrLocked)
		}
		return nil, fmt.Errorf("lock the spool: %w", err)
	}
	return f, nil
}

// replaceFile writes a small file so that after a power cut either the old or
// the new content is there.
func (s *Spool) replaceFile(name string, content []byte) error {
	if err := renameio.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(s.dir)
}

// countBoot adds one to the number in the boot file. A damaged number starts
// again at one: the numbers serve only to tell neighbouring boots apart.
func (s *Spool) countBoot() (uint64, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, bootName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("count the boot: %w", err)
	}
	last, perr := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 63)
	if err == nil && perr != nil {
		s.log.Warn("the boot number was unreadable and starts again", "file", bootName)
		last = 0
	}
	boot := last + 1
	return boot, s.replaceFile(bootName, strconv.AppendUint(nil, boot, 10))
}

const keySize = 32

// loadKey reads the key of the pseudonyms, or makes one for a new spool.
func (s *Spool) loadKey() ([]byte, error) {
	key, err := os.ReadFile(filepath.Join(s.dir, keyName))
	switch {
	case err == nil && len(key) == keySize:
		return key, nil
	case err == nil:
		return nil, fmt.Errorf("%s holds %d bytes instead of %d: restore it from the backup, or remove it to get new pseudonyms", keyName, len(key), keySize)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the key of the pseudonyms: %w", err)
	}
	key = make([]byte, keySize)
	rand.Read(key) // never fails
	return key, s.replaceFile(keyName, key)
}

// Pseudonym returns the name under which logs, events and topics speak of a
// study: "s-" and ten base32 characters of HMAC-SHA256 under the spool's key.
func (s *Spool) Pseudonym(study dicom.UID) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(study))
	return "s-" + base32Lower.EncodeToString(mac.Sum(nil))[:10]
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
