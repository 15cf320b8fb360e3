package users

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const password = "four words of mine"

func user(t *testing.T, name string, role Role) User {
	t.Helper()
	u, err := New(name, role, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAddReplaceRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	if err := Add(path, user(t, "anna", Reader)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append([]byte("# on call\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	before, ok := f.Find("anna")
	if !ok || before.Role != Reader {
		t.Fatalf("%+v", before)
	}
	for _, step := range []error{
		Add(path, user(t, "ct-room", Technician)),
		Replace(path, user(t, "anna", Admin)),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	if err := Add(path, user(t, "anna", Reader)); !errors.Is(err, ErrExists) {
		t.Errorf("added twice: %v", err)
	}
	if now, _ := f.Find("anna"); now.Same(before) || now.Role != Admin {
		t.Errorf("a changed user passes for the same: %+v", now.Role)
	}
	if err := Remove(path, "anna"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{Remove(path, "anna"), Replace(path, user(t, "anna", Reader))} {
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("%v, want ErrUnknown", err)
		}
	}
	if _, ok := f.Find("anna"); ok {
		t.Error("who was taken out is still there")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode became %v, %v", info.Mode(), err)
	}
	if text, _ := os.ReadFile(path); !strings.HasPrefix(string(text), "# on call\nct-room:technician:$argon2id$") {
		t.Errorf("%s", text)
	}
}

func TestAuthenticate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	if err := Add(path, user(t, "anna", Reader)); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if u, err := f.Authenticate(t.Context(), "anna", []byte(password)); err != nil || u.Name != "anna" {
		t.Errorf("%+v, %v", u, err)
	}
	for name, secret := range map[string]string{"anna": "four words of yours", "Anna": password, "nobody": password, "": ""} {
		if _, err := f.Authenticate(t.Context(), name, []byte(secret)); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", name, err)
		}
	}
	f.turn <- struct{}{} // somebody computes
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Authenticate(over, "anna", []byte(password)); !errors.Is(err, context.Canceled) {
		t.Errorf("did not wait for its turn: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ name, password string }{
		{"", password},
		{"a:b", password},
		{"a b", password},
		{strings.Repeat("a", 33), password},
		{"anna\n", password},
		{"anna", "short"},
		{"anna", "with\x00a control"},
		{"anna", strings.Repeat("x", 257)},
		{"annaannaanna", "AnnaAnnaAnna12"},
	} {
		if u, err := New(c.name, Reader, []byte(c.password)); err == nil {
			t.Errorf("%q with %q: %+v", c.name, c.password, u)
		}
	}
}

// Errors repeat nothing of the file.
func TestParseRefuses(t *testing.T) {
	good := "anna:" + user(t, "anna", Reader).line
	for _, text := range []string{
		"hunter2", "anna:hunter2:x", "anna:reader:hunter2", good + "\n" + good, ":reader:hunter2",
		"anna:reader:$argon2id$v=19$m=19456,t=2,p=1$aHVudGVyMg$aHVudGVyMg",
	} {
		all, err := Parse([]byte(text))
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "argon2id") {
			t.Errorf("%s: %v, %v", text, all, err)
		}
	}
}

func TestRoles(t *testing.T) {
	for role, want := range map[Role]string{Display: "10000", Reader: "11100", Technician: "11010", Admin: "11111", "": "00000"} {
		got := ""
		for p := List; p <= Trail; p++ {
			got += map[bool]string{true: "1", false: "0"}[role.May(p)]
		}
		if got != want {
			t.Errorf("%s may %s, want %s", role, got, want)
		}
	}
}
