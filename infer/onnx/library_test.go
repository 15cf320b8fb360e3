package onnx

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func TestOpenRuntime(t *testing.T) {
	path := libraryPath(t)
	lib, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenRuntime(path, lib.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Library(); got.Version != lib.Version || got.SHA256 != lib.SHA256 || !filepath.IsAbs(got.Path) {
		t.Errorf("loaded is %+v, inspected was %+v", got, lib)
	}
	again, err := OpenRuntime(path, "")
	if err != nil || again != r {
		t.Errorf("a second call gives %p, %v, want %p", again, err, r)
	}
	// Everything that is wrong is found out before anything is loaded.
	_, err = OpenRuntime(path, strings.Repeat("0", 64))
	if !errors.Is(err, ErrLibraryHash) || !strings.Contains(err.Error(), lib.SHA256) || !strings.Contains(err.Error(), "onnxruntime.sha256") {
		t.Errorf("another hash: %v", err)
	}
	_, err = OpenRuntime(filepath.Join(t.TempDir(), "libonnxruntime.so.1"), "")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "see Install in the handbook") {
		t.Errorf("no file: %v", err)
	}
}

func TestInspectRefuses(t *testing.T) {
	sound, err := os.ReadFile(libraryPath(t))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`VERS_1\.\d\d\.`)
	otherMachine := func(b []byte) []byte {
		b[18] = map[string]byte{"amd64": 183, "arm64": 62}[runtime.GOARCH] // e_machine
		return b
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   error
		says   string
	}{
		{"cut in the middle", func(b []byte) []byte { return b[:len(b)/2] }, ErrLibraryDamaged, "cut short"},
		{"cut at the end", func(b []byte) []byte { return b[:len(b)-1] }, ErrLibraryDamaged, "cut short"},
		{"cut before the sections' table, which says there is none", func(b []byte) []byte {
			clear(b[40:48]) // e_shoff
			clear(b[58:64]) // e_shentsize, e_shnum, e_shstrndx
			return b[:len(b)/2]
		}, ErrLibraryDamaged, "cut short"},
		{"text", func([]byte) []byte { return []byte("not found\n") }, ErrNotALibrary, "no shared library"},
		{"empty", func([]byte) []byte { return nil }, ErrNotALibrary, "no shared library"},
		{"an older release", func(b []byte) []byte {
			return version.ReplaceAll(b, []byte("VERS_1.19."))
		}, ErrLibraryVersion, "is version 1.19."},
		{"another machine", otherMachine, ErrLibraryMachine, "this machine is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lib.so")
			if err := os.WriteFile(path, c.change(bytes.Clone(sound)), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Inspect(path)
			var e *LibraryError
			if !errors.Is(err, c.want) || !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("Inspect: %v", err)
			}
			t.Log(err)
		})
	}
}

func TestUsable(t *testing.T) {
	for version, want := range map[string]bool{
		"1.24.1": true, "1.24": true, "1.30.0": true, "1.23.2": false, "1.9.0": false, "2.0.0": false, "": false, "1": false, "x.y": false,
	} {
		if usable(version) != want {
			t.Errorf("usable(%q) is %v", version, !want)
		}
	}
}
