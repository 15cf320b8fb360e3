package identity

import "crypto/rand"

// Hashed is a hash as [Hash] makes it, for files of users that hold more than
// this package's.
type Hashed struct{ h hash }

// ParseHash reads what Hash gives, within bounds of cost. Its error does not
// repeat it.
func ParseHash(s string) (Hashed, error) {
	h, err := parseHash(s)
	return Hashed{h}, err
}

// Decoy is a hash that nothing matches: for names that do not exist, so that
// they take as long as those that do.
func Decoy() Hashed {
	h := hash{time: newTime, memory: newMemory, threads: newThreads, salt: make([]byte, saltLength), key: make([]byte, keyLength)}
	_, _ = rand.Read(h.salt) // never fails (crypto/rand)
	_, _ = rand.Read(h.key)
	return Hashed{h}
}

// Matches computes the hash of a passcode, dear in memory as it is: one at a time
// is the caller's part. It compares in a time that does not depend on what
// differs.
func (h Hashed) Matches(passcode []byte) bool {
	return len(passcode) <= MaxPasscode && h.h.matches(passcode)
}
