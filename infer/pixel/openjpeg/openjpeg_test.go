package openjpeg

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Codestreams that GDCM 3.0.21 and OpenJPEG 2.5.0 (the one in tiles) compressed,
// from two slices of the repository's own phantom, and the SHA-256 of their
// little-endian words.
const (
	width, height = 75, 64
	unsigned      = "461643c4d038380ac6d3f93d703c10b98a24daf675adead10d8eebb81e4d1a1c"
	signedWords   = "10575a8a867827af307cb17812b183c393e7419b202a7d7ce843b8bcfd6d715c"
)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// needsProgram skips the test where OpenJPEG is not installed, unless peers are
// required.
func needsProgram(t testing.TB) {
	t.Helper()
	if _, err := Find(); err != nil {
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func TestDecode(t *testing.T) {
	needsProgram(t)
	t.Setenv("TMPDIR", t.TempDir())
	for _, v := range []struct {
		file      string
		precision int
		signed    bool
		sha256    string
	}{
		{"unsigned-16.j2k", 16, false, unsigned},
		{"signed-16.j2k", 16, true, signedWords},
		{"tiles.j2k", 12, false, unsigned},
	} {
		dst := make([]uint16, width*height)
		precision, signed, err := Decode(t.Context(), dst, vector(t, v.file), width, height)
		if err != nil || precision != v.precision || signed != v.signed {
			t.Fatalf("%s: %d bits, signed %t, %v", v.file, precision, signed, err)
		}
		var b bytes.Buffer
		if err := binary.Write(&b, binary.LittleEndian, dst); err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(b.Bytes()); hex.EncodeToString(got[:]) != v.sha256 {
			t.Errorf("%s: words have SHA-256 %x, want %s", v.file, got, v.sha256)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	needsProgram(t)
	sound := vector(t, "unsigned-16.j2k")
	with := func(at int, b ...byte) []byte {
		out := slices.Clone(sound)
		copy(out[at:], b)
		return out
	}
	for name, c := range map[string]struct {
		src  []byte
		want error
	}{
		"nothing":        {nil, ErrMalformed},
		"no codestream":  {[]byte("DICM, but no JPEG 2000, and long enough to be one"), ErrMalformed},
		"header alone":   {sound[:60], ErrMalformed},
		"cut":            {sound[:len(sound)/8], ErrMalformed},
		"other width":    {with(8, 0, 0, 0, 76), ErrMalformed},
		"no width":       {with(8, 0, 0, 0, 0), ErrMalformed},
		"no tile":        {with(24, 0, 0, 0, 0), ErrMalformed},
		"17 bits":        {with(42, 16), ErrUnsupported},
		"three channels": {with(40, 0, 3), ErrUnsupported},
		"subsampled":     {with(43, 2), ErrUnsupported},
		"tiles of one":   {with(24, 0, 0, 0, 1, 0, 0, 0, 1), ErrUnsupported},
		"too many tiles": {with(24, 0, 0, 0, 1), nil},
		"garbage behind": {append(slices.Clone(sound[:150]), bytes.Repeat([]byte{0xFF, 0x4F}, 2000)...), ErrMalformed},
	} {
		_, _, err := Decode(t.Context(), make([]uint16, width*height), c.src, width, height)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// What goes on without end, or takes memory without end, is stopped, and is told
// from a frame that is damaged.
func TestPromise6_TheProcessHasLimits(t *testing.T) {
	// The limits come when the program runs already: a script waits for the last.
	const limited = "until [ $(ulimit -v) != unlimited ] && [ $(ulimit -f) != unlimited ]; do :; done; "
	program := func(script string) string {
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := run(t.Context(), program("while :; do :; done"), nil, 1, 100*time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("without end: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := run(ctx, program("while :; do :; done"), nil, 1, baseTime); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody waits: %v", err)
	}
	if _, err := run(t.Context(), program(limited+"head -c 100000 /dev/zero > samples.rawl"), nil, 1000, baseTime); !errors.Is(err, ErrMalformed) {
		t.Errorf("more than asked for: %v", err)
	}
	if _, err := run(t.Context(), program(limited+"dd if=/dev/zero of=/dev/null bs=2G count=1"), nil, 1000, baseTime); !errors.Is(err, ErrMalformed) {
		t.Errorf("memory: %v", err)
	}
	if _, err := run(t.Context(), program("exit 0"), nil, 10, baseTime); !errors.Is(err, ErrMalformed) {
		t.Errorf("no samples: %v", err)
	}
	got, err := run(t.Context(), program("cat frame.j2k > samples.rawl"), []byte("0123456789"), 10, baseTime)
	if err != nil || string(got) != "0123456789" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDecodeWithoutTheProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, _, err := Decode(t.Context(), make([]uint16, width*height), vector(t, "unsigned-16.j2k"), width, height)
	if !errors.Is(err, ErrAbsent) {
		t.Errorf("%v, want %v", err, ErrAbsent)
	}
}

// FuzzParse: what comes through has a size and a precision.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"unsigned-16.j2k", "signed-16.j2k", "tiles.j2k"} {
		f.Add(vector(f, file)[:64])
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := parse(src)
		switch {
		case err != nil:
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("an error of no kind: %v", err)
			}
		case c.width < 1 || c.height < 1 || c.precision < 1 || c.precision > 16:
			t.Fatalf("%+v", c)
		}
	})
}
