package dicom

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// UID is a unique identifier (PS3.5 Section 9) without the padding that it
// carries on the wire. A UID from a peer may be anything until Valid says
// otherwise.
type UID string

const (
	// ApplicationContext is the only application context name (PS3.7 Annex A).
	ApplicationContext UID = "1.2.840.10008.3.1.1.1"

	// ImplementationClassUID identifies this implementation in associations and
	// in file meta information (PS3.7 Annex D.3.3.2). It is derived from a UUID
	// (PS3.5 Annex B.2) that was drawn once and never changes.
	ImplementationClassUID UID = "2.25.226523516170321572760101863480044396903"

	// ImplementationVersionName goes with ImplementationClassUID, at most 16
	// characters (PS3.7 Annex D.3.3.2.3).
	ImplementationVersionName = "ICHWATCH_010"
)

// maxUID is the greatest length of a UID (PS3.5 Section 9.1).
const maxUID = 64

// ErrInvalidUID is matched by every error of UID.Valid.
var ErrInvalidUID = errors.New("dicom: invalid UID")

// ParseUID returns the UID in b, a value of VR UI, without padding: NUL as the
// standard has it, and spaces as some devices do. It checks nothing; see Valid.
func ParseUID(b []byte) UID { return UID(trim(b)) }

// Valid returns an error matching ErrInvalidUID unless u has 1 to 64 characters
// and consists of numbers between single dots (PS3.5 Section 9.1). A number
// with a leading zero is let pass: the standard forbids it, devices send it, and
// to refuse their images would help nobody. The error does not quote u, which
// may be hostile.
func (u UID) Valid() error {
	switch {
	case u == "":
		return fmt.Errorf("%w: empty", ErrInvalidUID)
	case len(u) > maxUID:
		return fmt.Errorf("%w: %d characters where %d are the most", ErrInvalidUID, len(u), maxUID)
	}
	digit := false // whether the character before was a digit
	for i := range len(u) {
		switch c := u[i]; {
		case c >= '0' && c <= '9':
			digit = true
		case c == '.' && digit:
			digit = false
		case c == '.':
			return fmt.Errorf("%w: empty component at character %d", ErrInvalidUID, i+1)
		default:
			return fmt.Errorf("%w: character %#02x at %d is neither digit nor dot", ErrInvalidUID, c, i+1)
		}
	}
	if !digit {
		return fmt.Errorf("%w: ends with a dot", ErrInvalidUID)
	}
	return nil
}

var uidNames = func() map[UID]string {
	m := make(map[UID]string, len(storageSOPClasses)+len(retiredStorageSOPClasses)+len(otherUIDs)+len(transferSyntaxes))
	for _, table := range [][]namedUID{storageSOPClasses, retiredStorageSOPClasses, otherUIDs} {
		for _, e := range table {
			m[e.uid] = e.name
		}
	}
	for _, ts := range transferSyntaxes {
		m[ts.UID] = ts.Name
	}
	return m
}()

// Name returns the name of a well-known UID ("CT Image Storage", PS3.6 Table
// A-1), or the UID itself where it is not one.
func (u UID) Name() string {
	if name, ok := uidNames[u]; ok {
		return name
	}
	return string(u)
}

// IsStorage reports whether u is a storage SOP class, current or retired.
func (u UID) IsStorage() bool {
	_, ok := storageByUID[u]
	return ok
}

// MayBeStorage reports whether u can be taken for a storage SOP class that this
// package does not know: a private one, or one that a later release of the
// standard has put where it puts them (1.2.840.10008.5.1.4.1.1). What is known to
// be something else, and whatever else stands under the standard's root, cannot.
func (u UID) MayBeStorage() bool {
	const (
		standard = "1.2.840.10008."
		storage  = standard + "5.1.4.1.1."
	)
	if _, known := uidNames[u]; known || u.Valid() != nil {
		return u.IsStorage()
	}
	return !strings.HasPrefix(string(u), standard) || strings.HasPrefix(string(u), storage)
}

var storageByUID = func() map[UID]struct{} {
	m := make(map[UID]struct{}, len(storageSOPClasses)+len(retiredStorageSOPClasses))
	for _, table := range [][]namedUID{storageSOPClasses, retiredStorageSOPClasses} {
		for _, e := range table {
			m[e.uid] = struct{}{}
		}
	}
	return m
}()

// StorageSOPClasses returns every storage SOP class of PS3.4 Table B.5-1 and the
// retired ones that are still met. The slice is the caller's.
func StorageSOPClasses() []UID {
	uids := make([]UID, 0, len(storageSOPClasses)+len(retiredStorageSOPClasses))
	for _, e := range slices.Concat(storageSOPClasses, retiredStorageSOPClasses) {
		uids = append(uids, e.uid)
	}
	return uids
}

// NewUID returns a UID that was never used before: a random UUID under the root
// 2.25 (PS3.5 Annex B.2, ITU-T X.667).
func NewUID() UID {
	var uuid [16]byte
	_, _ = rand.Read(uuid[:])     // never fails: it ends the process first
	uuid[6] = uuid[6]&0x0f | 0x40 // version 4
	uuid[8] = uuid[8]&0x3f | 0x80 // variant 10
	n := new(big.Int).SetBytes(uuid[:])
	return UID("2.25." + n.String())
}

// trim removes the padding of a text value: spaces at both ends, NUL behind.
func trim(b []byte) string {
	return strings.TrimRight(strings.TrimLeft(string(b), " "), " \x00")
}
