package onnx

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fetch runs fetch.sh with a copy of the library at hand, so without a network.
func fetch(t *testing.T, dir string, environment ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "./fetch.sh", dir)
	c.Env = append(os.Environ(), "ICHWATCH_ONNXRUNTIME_SHA256=")
	c.Env = append(c.Env, environment...)
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestFetchUsage(t *testing.T) {
	for _, c := range []struct {
		arguments []string
		status    int
		says      string
	}{
		{nil, 2, "usage: fetch.sh DIR"},
		{[]string{"--help"}, 0, "usage: fetch.sh DIR"},
		{[]string{"-h"}, 0, "usage: fetch.sh DIR"},
		{[]string{"--force"}, 2, "unknown option --force"},
		{[]string{"a", "x64", "b"}, 2, "usage: fetch.sh DIR"},
	} {
		command := exec.CommandContext(t.Context(), "./fetch.sh", c.arguments...)
		out, _ := command.CombinedOutput()
		if got := command.ProcessState.ExitCode(); got != c.status || !strings.Contains(string(out), c.says) {
			t.Errorf("%q: status %d, want %d\n%s", c.arguments, got, c.status, out)
		}
	}
}

func TestFetch(t *testing.T) {
	library, err := filepath.Abs(libraryPath(t))
	if err != nil {
		t.Fatal(err)
	}
	lib, err := Inspect(library)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new", "folder")
	fetched := filepath.Join(dir, "libonnxruntime.so.1")
	copied, sum := "ICHWATCH_ONNXRUNTIME="+library, "ICHWATCH_ONNXRUNTIME_SHA256="+lib.SHA256

	wrong := filepath.Join(t.TempDir(), "wrong.so")
	if err := os.WriteFile(wrong, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := fetch(t, dir, "ICHWATCH_ONNXRUNTIME="+wrong); err == nil || !strings.Contains(out, "it is not installed") {
		t.Errorf("another file was taken: %v\n%s", err, out)
	}
	if out, err := fetch(t, dir, "ICHWATCH_ONNXRUNTIME="+wrong+".none"); err == nil || !strings.Contains(out, "cannot be read") {
		t.Errorf("no file: %v\n%s", err, out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("after refusals the folder holds %v, %v", left, err)
	}
	if out, err := fetch(t, dir, copied, sum); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := Inspect(fetched); err != nil || got.SHA256 != lib.SHA256 {
		t.Errorf("fetched is %+v, %v", got, err)
	}
	before, err := os.Stat(fetched)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := fetch(t, dir, "ICHWATCH_ONNXRUNTIME="+wrong, sum); err != nil || !strings.Contains(out, "is there") {
		t.Errorf("a second time: %v\n%s", err, out)
	}
	if after, err := os.Stat(fetched); err != nil || !os.SameFile(before, after) {
		t.Errorf("a second time the library was replaced (%v)", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
}
