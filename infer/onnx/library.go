package onnx

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Library tells about one file of ONNX Runtime.
type Library struct {
	Path    string
	SHA256  string // lower-case hex
	Version string // "1.24.1"; empty where the file does not say
	Known   string // where it comes from, when it is a build that package install fetches; else empty
}

// minimumMinor: the API of ONNX Runtime 1.24 is what the wrapper was built for.
// Later releases carry it too, earlier ones do not.
const (
	major        = 1
	minimumMinor = 24
)

// knownProviders are the files of libraries of providers whose origin is known, by
// SHA-256: those of ONNX Runtime 1.29.0 for x64 with CUDA 13 and TensorRT 10.
var knownProviders = map[string]string{
	"c6a12593396095f5670160e284c35d1700b7708cf3037b7042e2a5200ccae772": "libonnxruntime_providers_shared.so",
	"56cf3254b118ad837ccc4ed8f6d1b23504bbf7ef91b34cbc0b289cb7f10b3037": "libonnxruntime_providers_cuda.so",
	"ef6071798a339038ad66c428fb1a809cf8e499bffc3b6870e4e8bc4f4c6a6320": "libonnxruntime_providers_tensorrt.so",
}

// knownBuilds are the libraries of the npm package that package install fetches, by SHA-256.
var knownBuilds = map[string]string{
	"53ef1ac028dd1b05554b8da28d9159eb3876f99868193d2aaa6e67f0243c23d4": "onnxruntime-node 1.24.1, x64",
	"7954e8bdedb497f830c6a679e818d98399b7f4d81ade1126c3e0be74d28111ab": "onnxruntime-node 1.24.1, arm64",
}

// Why a library is refused.
var (
	ErrLibraryDamaged = errors.New("damaged")
	ErrLibraryVersion = errors.New("wrong version")
	ErrLibraryMachine = errors.New("built for another machine")
	ErrNotALibrary    = errors.New("no library of ONNX Runtime")
	ErrLibraryHash    = errors.New("another SHA-256 than the configured one")
)

// LibraryError is a library that cannot be used, said for the technician.
type LibraryError struct {
	Path   string
	Reason string
	Err    error // one of the above, or the operating system's
}

func (e *LibraryError) Error() string {
	remedy := "see Install in the handbook (systemd/README.md) for a sound one"
	if errors.Is(e.Err, ErrLibraryHash) {
		remedy = "where the file is the one that you installed, correct the key; otherwise " + remedy
	}
	return fmt.Sprintf("ONNX Runtime library %s %s; %s", e.Path, e.Reason, remedy)
}

func (e *LibraryError) Unwrap() error { return e.Err }

// Inspect looks at a library without loading it. Loading a file that was cut
// short would end the process with SIGBUS, and one of another version would
// only say so on standard error.
func Inspect(path string) (Library, error) {
	lib, err := inspect(path)
	if err == nil && lib.Version != "" && !usable(lib.Version) {
		err = &LibraryError{Path: path, Reason: fmt.Sprintf("is version %s, at least %d.%d is needed", lib.Version, major, minimumMinor), Err: ErrLibraryVersion}
	}
	return lib, err
}

// inspect is Inspect for a library of a provider too, which has no version.
func inspect(path string) (Library, error) {
	lib := Library{Path: path}
	refuse := func(err error, format string, args ...any) (Library, error) {
		return lib, &LibraryError{Path: path, Reason: fmt.Sprintf(format, args...), Err: err}
	}
	f, err := os.Open(path)
	if err != nil {
		return refuse(err, "cannot be opened: %v", errors.Unwrap(err))
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return refuse(err, "cannot be read: %v", errors.Unwrap(err))
	}
	lib.SHA256 = hex.EncodeToString(h.Sum(nil))
	lib.Known = knownBuilds[lib.SHA256]

	e, err := elf.NewFile(f)
	if err != nil {
		var magic [4]byte
		if _, short := f.ReadAt(magic[:], 0); short == nil && string(magic[:]) == elf.ELFMAG {
			return refuse(ErrLibraryDamaged, "is damaged or cut short: %v", err)
		}
		return refuse(ErrNotALibrary, "is no shared library")
	}
	defer e.Close()
	// What is mapped and not there would be the SIGBUS.
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD && (p.Off+p.Filesz > uint64(size) || p.Off+p.Filesz < p.Off) {
			return refuse(ErrLibraryDamaged, "is cut short: %d bytes, at least %d are needed", size, p.Off+p.Filesz)
		}
	}
	if want := machines[runtime.GOARCH]; e.Machine != want {
		return refuse(ErrLibraryMachine, "is for %v, this machine is %v", e.Machine, want)
	}
	lib.Version = symbolVersion(e)
	return lib, nil
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// symbolVersion finds the release in the version of the library's symbols, such
// as VERS_1.24.1.
func symbolVersion(e *elf.File) string {
	versions, err := e.DynamicVersions()
	if err != nil {
		return ""
	}
	for _, v := range versions {
		if version, ok := strings.CutPrefix(v.Name, "VERS_"); ok {
			return version
		}
	}
	return ""
}

// usable reports whether a release carries the API that is needed.
func usable(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA == nil && errB == nil && a == major && b >= minimumMinor
}
