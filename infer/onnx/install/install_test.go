package install

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"ichwatch/infer/onnx"
)

// real is the true library: its path, its bytes, and what is known of it.
func real(t *testing.T) (string, []byte, onnx.Library) {
	t.Helper()
	path := os.Getenv("ICHWATCH_ONNXRUNTIME")
	if path == "" {
		path = filepath.Join("..", "..", "..", "bin", Name)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			t.Fatal(err)
		}
		t.Skip("ONNX Runtime is missing: make runtime, or ICHWATCH_ONNXRUNTIME=<libonnxruntime.so.1>")
	}
	lib, err := onnx.Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content, lib
}

type file struct {
	name    string
	content []byte
}

func tgz(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func wheel(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// npm is the package of npm as it is laid out, with a library for every system; content stands for this machine's.
func npm(content []byte) []file {
	files := []file{{"package/package.json", []byte("{}")}}
	for _, arch := range npmArch {
		library := []byte("for another machine")
		if arch == npmArch[runtime.GOARCH] {
			library = content
		}
		files = append(files,
			file{"package/bin/napi-v6/darwin/" + arch + "/libonnxruntime.1.24.1.dylib", []byte("for macOS")},
			file{"package/bin/napi-v6/linux/" + arch + "/" + Name, library})
	}
	return files
}

func TestInstall(t *testing.T) {
	_, library, lib := real(t)
	other := append(bytes.Clone(library), "appended"...)
	for name, c := range map[string]struct {
		file    string
		content []byte
		sum     string
		says    string // empty: it is installed
	}{
		"library":            {"lib.so", library, lib.SHA256, ""},
		"npm's package":      {"p.tgz", tgz(t, npm(library)...), lib.SHA256, ""},
		"release":            {"r.tar.gz", tgz(t, file{"onnxruntime-linux-x64-1.24.1/lib/libonnxruntime.so.1.24.1", library}), lib.SHA256, ""},
		"wheel":              {"w.whl", wheel(t, file{"onnxruntime/capi/libonnxruntime.so.1.24.1", library}), lib.SHA256, ""},
		"another library":    {"lib.so", other, lib.SHA256, "expected is " + lib.SHA256},
		"unknown build":      {"p.tgz", tgz(t, npm(other)...), "", "none of those known"},
		"no library":         {"lib.so", []byte("not a library"), "", "is no shared library"},
		"cut short":          {"lib.so", library[:len(library)/2], "", "cut short"},
		"package cut short":  {"p.tgz", tgz(t, npm(library)...)[:4096], lib.SHA256, "cut short"},
		"package without it": {"p.tgz", tgz(t, file{"package/bin/napi-v6/linux/riscv/" + Name, library}), lib.SHA256, "holds no " + Name},
		"wheel without it":   {"w.whl", wheel(t, file{"onnxruntime/__init__.py", nil}), lib.SHA256, "holds no " + Name},
		"no package":         {"p.tgz", library, lib.SHA256, "is no .tgz"},
		"no wheel":           {"w.whl", library, lib.SHA256, "is no wheel"},
		"escaping its place": {"p.tgz", tgz(t, file{"../../../../" + Name, other}), lib.SHA256, "expected is " + lib.SHA256},
	} {
		t.Run(name, func(t *testing.T) {
			from := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(from, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "new", "folder")
			got, err := Library(t.Context(), Options{Dir: dir, From: from, SHA256: c.sum})
			left, readErr := os.ReadDir(dir)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), from) {
					t.Errorf("error %v, should name %s and say %q", err, from, c.says)
				}
				if len(left) != 0 {
					t.Errorf("after a refusal the folder holds %v", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(left) != 1 || got.SHA256 != lib.SHA256 || got.Path != filepath.Join(dir, Name) {
				t.Errorf("installed %+v; the folder holds %v", got, left)
			}
			info, err := os.Stat(got.Path)
			if err != nil || info.Mode() != 0o644 {
				t.Errorf("%v, %v: every user must be able to read it and nobody to change it", info.Mode(), err)
			}
		})
	}
}

// What is there and right is left alone; what is there and wrong is replaced, and stays where nothing better came.
func TestInstallOverAnother(t *testing.T) {
	path, library, lib := real(t)
	dir := t.TempDir()
	target := filepath.Join(dir, Name)
	broken := filepath.Join(t.TempDir(), "broken.so")
	if err := os.WriteFile(broken, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, library[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Library(t.Context(), Options{Dir: dir, From: broken, SHA256: lib.SHA256}); err == nil {
		t.Error("a broken library was taken")
	}
	if left, err := os.ReadFile(target); err != nil || !bytes.Equal(left, library[:100]) {
		t.Errorf("a refusal left %d bytes, %v", len(left), err)
	}
	if _, err := Library(t.Context(), Options{Dir: dir, From: path, SHA256: lib.SHA256}); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	if _, err := Library(t.Context(), Options{
		Dir: dir, From: broken, SHA256: lib.SHA256,
		Say: func(format string, _ ...any) { said += format },
	}); err != nil || !strings.Contains(said, "is there") {
		t.Errorf("a second time: %v, said %q", err, said)
	}
	if after, err := os.Stat(target); err != nil || !os.SameFile(before, after) {
		t.Errorf("a second time the library was replaced (%v)", err)
	}
}
