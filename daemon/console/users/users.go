// Package users is who may use the page: a file of names, roles and hashes.
//
//	# comment
//	anna:reader:$argon2id$v=19$m=19456,t=2,p=1$...
//
// `ichwatch user` writes it; it may be changed at any time, and what it says
// holds from the next request on: who is taken out, given another password or
// another role is logged out.
package users

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"ichwatch/dimse/identity"
	"ichwatch/dimse/reload"
)

// Role says what a user may do.
type Role string

// The roles.
const (
	Display    Role = "display"    // a screen on the wall: the list, and nothing else; it stays logged in
	Reader     Role = "reader"     // on call: studies, and answers to alerts
	Technician Role = "technician" // studies, and how the device is
	Admin      Role = "admin"      // all of it, and the audit trail
)

// Roles lists them.
func Roles() []Role { return []Role{Display, Reader, Technician, Admin} }

// Permission is what a role may or may not.
type Permission int

// The permissions.
const (
	List    Permission = iota // see the list of studies and alerts
	Study                     // look into a study
	Answer                    // acknowledge alerts and give verdicts
	Machine                   // see how the device is, its log and its configuration
	Trail                     // read the audit trail
)

var may = map[Role][]Permission{
	Display:    {List},
	Reader:     {List, Study, Answer},
	Technician: {List, Study, Machine},
	Admin:      {List, Study, Answer, Machine, Trail},
}

// May says whether the role has a permission.
func (r Role) May(p Permission) bool { return slices.Contains(may[r], p) }

// ParseRole reads a role's name.
func ParseRole(s string) (Role, error) {
	if !slices.Contains(Roles(), Role(s)) {
		return "", fmt.Errorf("a role is one of %v", Roles())
	}
	return Role(s), nil
}

// User is a line of the file.
type User struct {
	Name string
	Role Role
	line string // behind the name: what a session was begun with
	hash identity.Hashed
}

// Same says whether a user is still the one that it was: same role, same password.
func (u User) Same(before User) bool { return u.line == before.line && u.Name == before.Name }

// Bounds of a password: long beats odd (NIST SP 800-63B).
const (
	MinPassword = 12 // characters
	MaxPassword = identity.MaxPasscode
	maxName     = 32
	maxFile     = 1 << 20
)

// New makes a user with a new hash.
func New(name string, role Role, password []byte) (User, error) {
	if err := checkName(name); err != nil {
		return User{}, err
	}
	switch {
	case !utf8.Valid(password) || bytes.ContainsFunc(password, unicode.IsControl):
		return User{}, errors.New("the password holds what cannot be typed")
	case utf8.RuneCount(password) < MinPassword:
		return User{}, fmt.Errorf("a password has at least %d characters; four or five words are easy to keep", MinPassword)
	case strings.EqualFold(strings.Trim(string(password), "0123456789"), name):
		return User{}, errors.New("the password is the name")
	}
	text, err := identity.Hash(password)
	if err != nil {
		return User{}, err
	}
	hash, err := identity.ParseHash(text)
	return User{Name: name, Role: role, line: string(role) + ":" + text, hash: hash}, err
}

// checkName says whether a name can stand in the file and in the trail.
func checkName(name string) error {
	foreign := strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@", r)
	})
	if name == "" || len(name) > maxName || foreign {
		return fmt.Errorf("a user name is 1 to %d of A-Z a-z 0-9 . _ - @", maxName)
	}
	return nil
}

// Parse reads the text of a file of users. Its errors name the line and repeat
// nothing of it.
func Parse(text []byte) ([]User, error) {
	var all []User
	number := 0
	for line := range bytes.Lines(text) {
		number++
		s := strings.TrimSpace(string(line))
		if s == "" || s[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(s, ":")
		role, hash, _ := strings.Cut(rest, ":")
		u := User{Name: name, line: rest}
		err := checkName(name)
		if err == nil {
			u.Role, err = ParseRole(role)
		}
		if err == nil {
			if u.hash, err = identity.ParseHash(hash); err != nil {
				err = errors.New("the password's hash is none; `ichwatch user passwd` makes one")
			}
		}
		if err == nil && slices.ContainsFunc(all, func(o User) bool { return o.Name == name }) {
			err = errors.New("the user has a line already")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		all = append(all, u)
	}
	return all, nil
}

// Read reads a file of users.
func Read(path string) ([]User, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("users of the page: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("is larger than %d bytes", maxFile)
	}
	var all []User
	if err == nil {
		all, err = Parse(text)
	}
	if err != nil {
		return nil, fmt.Errorf("users of the page: %s: %w", path, err)
	}
	return all, nil
}

// File is a file of users while the page is served.
type File struct {
	value *reload.Value[[]User]
	decoy identity.Hashed
	turn  chan struct{} // holds one: whoever computes a hash
}

// Open reads the file. log is told when it changes.
func Open(path string, log *slog.Logger) (*File, error) {
	value, err := reload.New(log, func() ([]User, error) { return Read(path) }, path)
	if err != nil {
		return nil, err
	}
	return &File{value: value, decoy: identity.Decoy(), turn: make(chan struct{}, 1)}, nil
}

// Find returns the user of a name.
func (f *File) Find(name string) (User, bool) {
	all := f.value.Get()
	at := slices.IndexFunc(all, func(u User) bool { return u.Name == name })
	if at < 0 {
		return User{}, false
	}
	return all[at], true
}

// ErrRefused says that name and password do not go together, and not which of
// the two is wrong.
var ErrRefused = errors.New("name and password do not go together")

// Authenticate returns the user whose password it is. It takes as long for a
// name that does not exist, and waits for its turn as long as ctx: a hash is dear
// in memory, and who guesses must not make that our own trouble.
func (f *File) Authenticate(ctx context.Context, name string, password []byte) (User, error) {
	u, known := f.Find(name)
	hash := f.decoy
	if known {
		hash = u.hash
	}
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return User{}, ctx.Err()
	}
	defer func() { <-f.turn }()
	if !hash.Matches(password) || !known {
		return User{}, ErrRefused
	}
	return u, nil
}
