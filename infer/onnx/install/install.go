// Package install puts ONNX Runtime's library where the daemon looks for it. The library comes from a place that is
// stated, is taken only with the SHA-256 that is expected, and replaces what was there in one step.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"ichwatch/infer/onnx"
)

const (
	// Version is the release of ONNX Runtime that is fetched where no file is given.
	Version = "1.24.1"
	// Name is the library's file, by its soname.
	Name = "libonnxruntime.so.1"
	// NPMPackage carries the builds whose hashes are known.
	NPMPackage = "onnxruntime-node@" + Version
)

// Options say what to install, and from where.
type Options struct {
	Dir string // the folder; made if it is not there
	// From is a copy: the library itself, the npm package or the release (.tgz), or a wheel (.whl) such as those of
	// JetPack. Empty: npm fetches the package, and where there is no npm the release comes from GitHub.
	From string
	// SHA256 in hex is expected of the library. Empty: that of a build which is known (onnx.Library.Known).
	SHA256   string
	Say      func(format string, args ...any) // told what goes on; nil: nobody is
	Progress func(done, total int64)          // bytes of a download; may be nil
}

// ErrHash is a library that was not expected. It is not installed.
var ErrHash = errors.New("it is not the library that is expected")

// Library installs what o says and tells about it. A library that is there already with the right hash is left alone.
func Library(ctx context.Context, o Options) (onnx.Library, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	target := filepath.Join(o.Dir, Name)
	if lib, err := onnx.Inspect(target); err == nil && expected(lib, o.SHA256) == nil {
		o.Say("%s is there", target)
		return lib, nil
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return onnx.Library{}, fmt.Errorf("install ONNX Runtime: %w", err)
	}
	work, err := os.MkdirTemp(o.Dir, ".onnxruntime.")
	if err != nil {
		return onnx.Library{}, fmt.Errorf("install ONNX Runtime: %w", err)
	}
	defer os.RemoveAll(work)

	from := o.From
	if from == "" {
		if from, err = fetch(ctx, work, o); err != nil {
			return onnx.Library{}, fmt.Errorf("install ONNX Runtime: %w", err)
		}
	}
	fresh := filepath.Join(work, Name)
	if err := extract(from, fresh); err != nil {
		return onnx.Library{}, fmt.Errorf("install ONNX Runtime from %s: %w", from, err)
	}
	lib, err := onnx.Inspect(fresh)
	if err == nil {
		err = expected(lib, o.SHA256)
	}
	if refused := (*onnx.LibraryError)(nil); errors.As(err, &refused) {
		refused.Path = "in " + from // not where it was unpacked, and is gone
		return lib, fmt.Errorf("install: %w", refused)
	}
	if err != nil {
		return lib, fmt.Errorf("install ONNX Runtime from %s: %w", from, err)
	}
	if err := replace(fresh, target); err != nil {
		return lib, fmt.Errorf("install ONNX Runtime: %w", err)
	}
	lib.Path = target
	return lib, nil
}

// expected refuses a library that has not the given hash or, where none is given, none of those known.
func expected(lib onnx.Library, sum string) error {
	switch {
	case sum != "" && lib.SHA256 != sum:
		return fmt.Errorf("%w: its SHA-256 is %s, expected is %s", ErrHash, lib.SHA256, sum)
	case sum == "" && lib.Known == "":
		return fmt.Errorf("%w: its SHA-256 %s is none of those known; only where you know where it comes from, say --sha256 %[2]s", ErrHash, lib.SHA256)
	}
	return nil
}

// replace puts fresh in target's place so that a power cut leaves the one or the other, and a daemon that has the old
// one mapped keeps it.
func replace(fresh, target string) error {
	from, err := os.Open(fresh)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := renameio.NewPendingFile(target, renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { _ = to.Cleanup() }()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := to.CloseAtomicallyReplace(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(target))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// copied writes what r holds to a new file.
func copied(r io.Reader, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(f, io.LimitReader(r, maxLibrary+1))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is cut short: %w", err)
	}
	if err != nil {
		return err
	}
	if n > maxLibrary {
		return fmt.Errorf("it holds a library of more than %d MiB", maxLibrary>>20)
	}
	return nil
}

// maxLibrary bounds what is unpacked; the library for the CPU has 20 MiB, with CUDA built in it has 400.
const maxLibrary = 1 << 30
