// Package identity checks who speaks: the usernames and passcodes of PS3.7
// section D.3.3.7 against a file of hashes.
//
//	# comment
//	ct1:$argon2id$v=19$m=19456,t=2,p=1$...   as `ichwatch hash-passcode ct1` prints it
//	ct2:no-passcode                          the username alone lets in
//
// A hash is deliberately dear, in memory above all, so that who steals the file
// has not yet got the passcodes. So that who merely asks cannot make that our
// own trouble, one is computed at a time.
package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// MaxPasscode bounds a passcode, in bytes.
const MaxPasscode = 256

// hash is a passcode's hash by Argon2id (RFC 9106).
type hash struct {
	time, memory uint32 // passes; KiB
	threads      uint8
	salt, key    []byte
}

// The parameters of new hashes, with the memory and passes that OWASP names as
// the least; of those read, the bounds.
const (
	newTime, newMemory, newThreads   = 2, 19 << 10, 1
	mostTime, mostMemory, mostThread = 16, 256 << 10, 16
	saltLength, keyLength            = 16, 32
)

// Hash makes a hash of a passcode, for a line of the file.
func Hash(passcode []byte) (string, error) {
	if len(passcode) == 0 || len(passcode) > MaxPasscode {
		return "", fmt.Errorf("a passcode has 1 to %d bytes, not %d", MaxPasscode, len(passcode))
	}
	h := hash{time: newTime, memory: newMemory, threads: newThreads, salt: make([]byte, saltLength), key: make([]byte, keyLength)}
	_, _ = rand.Read(h.salt) // never fails (crypto/rand)
	h.key = h.of(passcode)
	return h.String(), nil
}

// of computes the key of a passcode.
func (h hash) of(passcode []byte) []byte {
	return argon2.IDKey(passcode, h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
}

// matches compares in a time that does not depend on what differs.
func (h hash) matches(passcode []byte) bool {
	return subtle.ConstantTimeCompare(h.of(passcode), h.key) == 1
}

// String is the form that every implementation of Argon2 writes.
func (h hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.key))
}

// errHash: what stands in the file is no hash. The error does not repeat it.
var errHash = errors.New("is no hash of a passcode; `ichwatch hash-passcode` makes one")

// parseHash reads what String writes, within bounds of cost.
func parseHash(s string) (h hash, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errHash
	}
	n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads)
	if err != nil || n != 3 {
		return h, errHash
	}
	var errs [2]error
	h.salt, errs[0] = base64.RawStdEncoding.DecodeString(parts[4])
	h.key, errs[1] = base64.RawStdEncoding.DecodeString(parts[5])
	switch {
	case errors.Join(errs[:]...) != nil, h.String() != s:
		return h, errHash
	case h.time < 1 || h.time > mostTime || h.memory < 8*uint32(h.threads) || h.memory > mostMemory || h.threads < 1 || h.threads > mostThread:
		return h, fmt.Errorf("has parameters beyond m=%d, t=%d, p=%d", mostMemory, mostTime, mostThread)
	case len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) < 16 || len(h.key) > 64:
		return h, errHash
	}
	return h, nil
}
