package dicom

import (
	"errors"
	"fmt"
	"strings"
)

// AETitle names an application entity: 1 to 16 characters without padding
// (PS3.5 Table 6.2-1, VR AE). The zero value stands for "none".
type AETitle string

const maxAETitle = 16

// ErrInvalidAETitle is matched by every error of ParseAETitle.
var ErrInvalidAETitle = errors.New("dicom: invalid AE title")

// ParseAETitle returns the AE title in s, where spaces and NULs at both ends are
// padding. What is left must have 1 to 16 characters of the default repertoire
// (ISO 646, PS3.5 Section 6.1.1) other than backslash and control characters;
// otherwise the error matches ErrInvalidAETitle.
func ParseAETitle(s string) (AETitle, error) {
	t := strings.Trim(s, " \x00")
	switch {
	case t == "":
		return "", fmt.Errorf("%w: blank", ErrInvalidAETitle)
	case len(t) > maxAETitle:
		return "", fmt.Errorf("%w: %d characters where %d are the most", ErrInvalidAETitle, len(t), maxAETitle)
	}
	for i := range len(t) {
		if c := t[i]; c < ' ' || c > '~' || c == '\\' {
			return "", fmt.Errorf("%w: character %#02x at %d", ErrInvalidAETitle, c, i+1)
		}
	}
	return AETitle(t), nil
}
