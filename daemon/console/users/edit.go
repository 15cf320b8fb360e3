package users

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

var (
	// ErrExists: there is a user of that name.
	ErrExists = errors.New("there is a user of that name; ichwatch user passwd gives another password")
	// ErrUnknown: there is none.
	ErrUnknown = errors.New("there is no user of that name")
)

// Add puts a user into the file, which is made where it is not there.
func Add(path string, u User) error {
	return edit(path, func(all []User) ([]User, error) {
		if slices.ContainsFunc(all, func(o User) bool { return o.Name == u.Name }) {
			return nil, ErrExists
		}
		return append(all, u), nil
	})
}

// Replace puts a user in the place of the one of the same name.
func Replace(path string, u User) error {
	return edit(path, func(all []User) ([]User, error) {
		at := slices.IndexFunc(all, func(o User) bool { return o.Name == u.Name })
		if at < 0 {
			return nil, ErrUnknown
		}
		all[at] = u
		return all, nil
	})
}

// Remove takes a user out of the file.
func Remove(path, name string) error {
	return edit(path, func(all []User) ([]User, error) {
		left := slices.DeleteFunc(slices.Clone(all), func(o User) bool { return o.Name == name })
		if len(left) == len(all) {
			return nil, ErrUnknown
		}
		return left, nil
	})
}

// edit writes the file anew, whole or not at all, for the same owner and group
// and with the same mode. Comments at its head stay.
func edit(path string, change func([]User) ([]User, error)) error {
	text, err := os.ReadFile(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return fmt.Errorf("users of the page: %w", err)
	}
	all, err := Parse(text)
	if err == nil {
		all, err = change(all)
	}
	if err != nil {
		return fmt.Errorf("users of the page: %s: %w", path, err)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(string(line)), "#") {
			break
		}
		out.Write(line)
	}
	for _, u := range all {
		fmt.Fprintf(&out, "%s:%s\n", u.Name, u.line)
	}
	if err := replace(path, fresh, out.Bytes()); err != nil {
		return fmt.Errorf("users of the page: %w", err)
	}
	return nil
}

// replace gives a new file the group of its folder, which in /etc/ichwatch is the
// daemon's, and lets that group read.
func replace(path string, fresh bool, text []byte) error {
	like := path
	if fresh {
		like = filepath.Dir(path)
	}
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o640)
	if !fresh {
		mode = info.Mode().Perm()
	}
	f, err := renameio.NewPendingFile(path, renameio.WithStaticPermissions(mode))
	if err != nil {
		return err
	}
	defer f.Cleanup() // without effect after the replacement
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
