package install

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
)

// npmArch is how the npm package names this machine in its folders.
var npmArch = map[string]string{"amd64": "x64", "arm64": "arm64"}

// extract writes the library that from is, or holds, to a new file.
func extract(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	switch {
	case strings.HasSuffix(from, ".tgz"), strings.HasSuffix(from, ".tar.gz"):
		return fromTar(f, to)
	case strings.HasSuffix(from, ".whl"):
		return fromWheel(f, to)
	}
	return copied(f, to)
}

// member tells whether a package's file is the library for this machine: package/bin/napi-v6/linux/x64/libonnxruntime.so.1
// in npm's, onnxruntime-linux-x64-1.24.1/lib/libonnxruntime.so.1.24.1 in the release, onnxruntime/capi/libonnxruntime.so.1.24.1
// in a wheel. The release and the wheel are for one machine; whether it is this one is seen in the library.
func member(name string) bool {
	dir, file := path.Split(name)
	if !strings.HasPrefix(file, "libonnxruntime.so.1") {
		return false
	}
	if strings.Contains(dir, "/napi-") {
		return strings.HasSuffix(dir, "/linux/"+npmArch[runtime.GOARCH]+"/")
	}
	return true
}

var errNoLibrary = fmt.Errorf("it holds no %s for this machine (%s)", Name, runtime.GOARCH)

func fromTar(r io.Reader, to string) error {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("it is no .tgz: %w", err)
	}
	defer unzipped.Close()
	files := tar.NewReader(unzipped)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return errNoLibrary
		}
		if err != nil {
			return fmt.Errorf("it is damaged or cut short: %w", err)
		}
		if h.Typeflag == tar.TypeReg && member(h.Name) {
			return copied(files, to)
		}
	}
}

func fromWheel(f *os.File, to string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	files, err := zip.NewReader(f, info.Size())
	if err != nil {
		return fmt.Errorf("it is no wheel: %w", err)
	}
	for _, file := range files.File {
		if !file.Mode().IsRegular() || !member(file.Name) {
			continue
		}
		r, err := file.Open()
		if err != nil {
			return fmt.Errorf("it is damaged: %w", err)
		}
		defer r.Close()
		return copied(r, to)
	}
	return errNoLibrary
}
