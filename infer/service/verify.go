package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"aead.dev/minisign"

	"ichwatch/infer/ensemble"
	"ichwatch/infer/manifest"
)

// SignatureFile lies beside a manifest and signs it, and with it the hash of the
// model: minisign -S -m manifest.yaml.
const SignatureFile = manifest.FileName + ".minisig"

// Why a model is not trusted.
var (
	ErrUnsigned  = errors.New("has no signature")
	ErrSignature = errors.New("its signature is not that of the key")
)

// maxSignature is far beyond what minisign writes, in bytes.
const maxSignature = 16 << 10

// Verifier reads model folders. The zero value asks for no signatures.
type Verifier struct {
	key *minisign.PublicKey
}

// NewVerifier reads the public key by which models must be signed, a file as
// minisign writes it; an empty path asks for no signatures.
func NewVerifier(publicKey string) (Verifier, error) {
	if publicKey == "" {
		return Verifier{}, nil
	}
	key, err := minisign.PublicKeyFromFile(publicKey)
	if err != nil {
		return Verifier{}, fmt.Errorf("read the public key of models: %w; wanted is a file as minisign -G writes it (minisign.pub)", err)
	}
	return Verifier{&key}, nil
}

// Demands reports whether models must be signed.
func (v Verifier) Demands() bool { return v.key != nil }

// Load reads a model folder and verifies it: structure, hash and, where a key was
// given, the signature of exactly the manifest that was read.
func (v Verifier) Load(dir string) (*manifest.Manifest, error) {
	m, err := manifest.Load(dir)
	if err != nil {
		return nil, err
	}
	if v.key == nil {
		return m, nil
	}
	signature, err := readSmall(filepath.Join(dir, SignatureFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s %w: %s is not there, and models must be signed (triage.models_public_key)", m.Where(), ErrUnsigned, SignatureFile)
	case err != nil:
		return nil, fmt.Errorf("read the signature of %s: %w", m.Where(), err)
	case !minisign.Verify(*v.key, m.Text(), signature):
		return nil, fmt.Errorf("%s: %w (triage.models_public_key): it was changed, or somebody else signed it", m.Where(), ErrSignature)
	}
	return m, nil
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSignature {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("is no signature of minisign")}
	}
	return os.ReadFile(path)
}

// together loads the members of a choice and puts them together.
func (v Verifier) together(c Choice) (*ensemble.Ensemble, error) {
	var members []*manifest.Manifest
	var errs []error
	for _, dir := range c.Models {
		m, err := v.Load(dir)
		errs = append(errs, err)
		members = append(members, m)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	e, err := ensemble.New(c.Point, members...)
	if err != nil {
		return nil, err
	}
	return e, c.expected(e.Models())
}
