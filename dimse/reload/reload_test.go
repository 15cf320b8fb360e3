package reload_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/reload"
)

var errEmpty = errors.New("the file is empty")

func TestValue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loads := 0
	var fault error
	load := func() (string, error) {
		loads++
		if fault != nil {
			return "", fault
		}
		b, err := os.ReadFile(path)
		if err == nil && len(b) == 0 {
			err = errEmpty
		}
		return string(b), err
	}
	var out dimsetest.Output
	log := slog.New(slog.NewTextHandler(&out, nil))
	if _, err := reload.New(log, load, path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("New without the file: %v", err)
	}
	write(path, "one")
	v, err := reload.New(log, load, path, "")
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what, want string, times int) {
		t.Helper()
		loads = 0
		for range 3 {
			if got := v.Get(); got != want {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		if loads != times {
			t.Errorf("%s: read %d times, want %d", what, loads, times)
		}
	}
	expect("unchanged", "one", 0)
	write(path, "longer")
	expect("written over", "longer", 1)
	write(path, "")
	expect("broken", "longer", 3)
	if got := strings.Count(out.String(), "level=ERROR"); got != 1 {
		t.Errorf("%d lines about the broken file, want 1:\n%s", got, out.String())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("removed", "longer", 3)
	// As tools do that renew certificates: another file under the same name.
	write(path+".new", "moved!")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect("replaced", "moved!", 1)
	// What is not the files' fault passes without another change of theirs.
	write(path, "changed")
	fault = errors.New("too many open files")
	expect("not to be read now", "moved!", 3)
	fault = nil
	expect("to be read again", "changed", 1)
	if got := strings.Count(out.String(), "level=ERROR"); got != 3 {
		t.Errorf("%d lines about three faults:\n%s", got, out.String())
	}
}
