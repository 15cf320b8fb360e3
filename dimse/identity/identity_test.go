package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"ichwatch/dimse"
)

var _ dimse.Authenticator = (*Users)(nil)

// Hashes of "password" by the reference implementation of Argon2, of its own
// tests.
const (
	somebodys = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	dear      = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
)

func TestHash(t *testing.T) {
	for _, foreign := range []string{somebodys, dear} {
		h, err := parseHash(foreign)
		if err != nil {
			t.Fatal(err)
		}
		if !h.matches([]byte("password")) || h.matches([]byte("passwore")) || h.matches(nil) {
			t.Errorf("%s is not understood", foreign)
		}
	}
	first, err := Hash([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Hash([]byte("secret"))
	if err != nil || first == second {
		t.Errorf("two hashes of a passcode are the same (error %v)", err)
	}
	for _, s := range []string{first, second} {
		if h, err := parseHash(s); err != nil || !h.matches([]byte("secret")) || h.matches([]byte("Secret")) {
			t.Errorf("our own hash %s: %v", s, err)
		}
	}
	for _, n := range []int{0, MaxPasscode + 1} {
		if h, err := Hash(make([]byte, n)); err == nil {
			t.Errorf("a passcode of %d bytes: %s", n, h)
		}
	}
}

func openUsers(t testing.TB, text string) (*Users, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return u, path
}

func TestAuthenticate(t *testing.T) {
	u, path := openUsers(t, "# scanners\n\n ct1:"+somebodys+"\r\nct2:no-passcode\n")
	expect := func(name string, passcode []byte, want error) {
		t.Helper()
		if err := u.Authenticate(t.Context(), name, passcode); !errors.Is(err, want) {
			t.Errorf("%s with %q: %v, want %v", name, passcode, err, want)
		}
	}
	for range 2 { // the second time from memory
		expect("ct1", []byte("password"), nil)
		expect("ct1", []byte("Password"), ErrPasscode)
		expect("ct1", []byte{}, ErrPasscode)
		expect("ct1", nil, ErrPasscodeNeeded)
		expect("ct1", make([]byte, 1<<16), ErrPasscode)
		expect("ct2", nil, nil)
		expect("ct3", []byte("password"), ErrUnknownUser)
		expect("", []byte("password"), ErrUnknownUser)
		expect("# scanners", nil, ErrPasscodeNeeded)
	}
	line, err := Line("ct1", []byte("another"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("ct1", []byte("password"), ErrPasscode) // no longer
	expect("ct1", []byte("another"), nil)
	expect("ct2", nil, ErrPasscodeNeeded)
	if err := os.WriteFile(path, []byte("ct1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("ct1", []byte("another"), nil) // a broken file changes nothing
}

// Who guesses waits in line; who is known does not wait behind them; and nobody
// can tell by the time whether a user exists.
func TestAuthenticateTakesTurns(t *testing.T) {
	u, _ := openUsers(t, "ct1:"+somebodys+"\nct2:"+somebodys+"\n")
	if err := u.Authenticate(t.Context(), "ct1", []byte("password")); err != nil {
		t.Fatal(err)
	}
	u.turn <- struct{}{} // somebody computes
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.Authenticate(over, "ct1", []byte("password")); err != nil {
		t.Errorf("a user confirmed before: %v", err)
	}
	for _, name := range []string{"ct1", "ct2", "nobody"} {
		if err := u.Authenticate(over, name, []byte("guess")); !errors.Is(err, context.Canceled) {
			t.Errorf("%s did not wait for a turn: %v", name, err)
		}
	}
	<-u.turn
}

// A hundred at once take the memory of one.
func TestPromise6_GuessesTakeNoMemory(t *testing.T) {
	u, _ := openUsers(t, "ct1:"+dear+"\n") // 64 MiB each
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range 100 {
		wg.Go(func() {
			err := u.Authenticate(ctx, "ct1", fmt.Appendf(nil, "guess %d", i))
			mu.Lock()
			defer mu.Unlock()
			if done++; done == 4 {
				cancel() // the rest has queued long enough
			}
			if !errors.Is(err, ErrPasscode) && !errors.Is(err, context.Canceled) {
				t.Errorf("guess %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 512<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

// The errors name the line and repeat nothing of it.
func TestUsersThatCannotBeRead(t *testing.T) {
	const good = "ct1:" + somebodys
	for name, text := range map[string]string{
		"a passcode in the clear": "hunter2:hunter2",
		"no colon":                "hunter2",
		"no name":                 ":" + somebodys,
		"a user twice":            good + "\n" + good,
		"a long name":             strings.Repeat("x", 65) + ":no-passcode",
		"a control character":     "a\x1b:no-passcode",
		"not UTF-8":               "a\xff:no-passcode",
		"another kind of hash":    "ct1:$2y$10$hunter2",
		"argon2i":                 "ct1:" + strings.Replace(somebodys, "argon2id", "argon2i", 1),
		"too dear":                "ct1:" + strings.Replace(somebodys, "m=256", "m=4194304", 1),
		"too many passes":         "ct1:" + strings.Replace(somebodys, "t=2", "t=1000", 1),
		"no passes":               "ct1:" + strings.Replace(somebodys, "t=2", "t=0", 1),
		"a parameter too large":   "ct1:" + strings.Replace(somebodys, "p=1", "p=257", 1),
		"a short salt":            "ct1:" + strings.Replace(somebodys, "c29tZXNhbHQ", "c29t", 1),
		"an empty key":            "ct1:" + somebodys[:strings.LastIndexByte(somebodys, '$')+1],
		"something behind it":     good + "$x",
		"too large":               strings.Repeat("#\n", maxFile),
	} {
		path := filepath.Join(t.TempDir(), "users")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// Whatever the bytes: no panic, and only hashes that are not too dear.
func FuzzParseUsers(f *testing.F) {
	f.Add([]byte("# comment\nct1:" + somebodys + "\nct2:no-passcode\n"))
	f.Add([]byte("ct1:$argon2id$v=19$m=8,t=1,p=1$$"))
	f.Fuzz(func(t *testing.T, text []byte) {
		users, err := parseUsers(text)
		if err != nil {
			return
		}
		for name, u := range users {
			if err := checkUsername(name); err != nil {
				t.Errorf("%q: %v", name, err)
			}
			if !u.noPasscode && (u.hash.memory > mostMemory || u.hash.time > mostTime || len(u.hash.key) < 16) {
				t.Errorf("%q: %+v", name, u.hash)
			}
		}
	})
}
