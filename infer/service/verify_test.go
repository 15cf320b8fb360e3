package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"

	"ichwatch/dimse/dimsetest"
	"ichwatch/infer/manifest"
)

// Signatures as the real minisign makes them.
func TestSignatures(t *testing.T) {
	dir := t.TempDir()
	public, private := filepath.Join(dir, "m.pub"), filepath.Join(dir, "m.key")
	dimsetest.Run(t, "minisign", "-G", "-W", "-p", public, "-s", private)
	model := folder(t, dir, "one")
	sign := func(arguments ...string) {
		t.Helper()
		dimsetest.Run(t, "minisign", append([]string{"-S", "-s", private, "-m", filepath.Join(model, manifest.FileName)}, arguments...)...)
	}
	v, err := NewVerifier(public)
	if err != nil || !v.Demands() {
		t.Fatal(err)
	}
	if _, err := v.Load(model); !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), SignatureFile) {
		t.Errorf("unsigned: %v", err)
	}
	if _, err := (Verifier{}).Load(model); err != nil {
		t.Errorf("where nobody asks for signatures: %v", err)
	}
	for name, arguments := range map[string][]string{"hashed": nil, "legacy": {"-l"}} {
		sign(arguments...)
		if m, err := v.Load(model); err != nil || m.Name != "one" {
			t.Errorf("%s: %v", name, err)
		}
	}

	signature := filepath.Join(model, SignatureFile)
	text, err := os.ReadFile(filepath.Join(model, manifest.FileName))
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(signature)
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	restore := func(file string, content []byte) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		file    string
		content []byte
	}{
		"the manifest was changed": {filepath.Join(model, manifest.FileName), append(append([]byte{}, text...), "# x\n"...)},
		"another key":              {signature, minisign.Sign(otherKey, text)},
		"no signature at all":      {signature, []byte("nothing")},
		"its comment was changed":  {signature, []byte(strings.Replace(string(good), "timestamp:", "timestamp:1", 1))},
	} {
		before, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		restore(c.file, c.content)
		if _, err := v.Load(model); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
		restore(c.file, before)
	}
	if _, err := v.Load(model); err != nil {
		t.Errorf("restored: %v", err)
	}
	restore(signature, make([]byte, maxSignature+1))
	if _, err := v.Load(model); err == nil {
		t.Error("a signature without end was read")
	}
	// The signature covers the manifest, that the model.
	restore(signature, good)
	restore(filepath.Join(model, "model.onnx"), []byte("another"))
	if _, err := v.Load(model); err == nil || !strings.Contains(err.Error(), "model.sha256") {
		t.Errorf("another model: %v", err)
	}
	if _, err := NewVerifier(filepath.Join(dir, "none.pub")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	if _, err := NewVerifier(signature); err == nil {
		t.Error("a signature was taken for a key")
	}
}
