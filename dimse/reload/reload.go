// Package reload keeps what was read from files as fresh as the files: a
// certificate that is renewed, a list of users that grows. The files are looked
// at whenever the value is asked for, so that nobody has to be told, and nothing
// runs in between.
package reload

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
)

// Value is what its files hold. It may be used by many goroutines at once.
type Value[T any] struct {
	files []string
	load  func() (T, error)
	log   *slog.Logger

	mu      sync.Mutex
	current T
	seen    []os.FileInfo // as current was read; nil entries: not there
	unfit   []os.FileInfo // as they were last told to be of no use
}

// New reads the files for the first time, by load, which returns an error that
// names the file. Files without a name are left out. log is told, once each, of
// a change that was taken and of one that cannot be.
func New[T any](log *slog.Logger, load func() (T, error), files ...string) (*Value[T], error) {
	v := &Value[T]{load: load, log: log}
	for _, name := range files {
		if name != "" {
			v.files = append(v.files, name)
		}
	}
	v.seen = v.look()
	var err error
	v.current, err = load()
	return v, err
}

// Get returns what the files hold, or held when they were last fit for use: a
// certificate without its new key is one of the moments in between.
func (v *Value[T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := v.look() // before they are read: a change meanwhile is found next time
	if slices.EqualFunc(seen, v.seen, same) {
		return v.current
	}
	next, err := v.load() // what failed is tried again: the files may be as they were, and we short of descriptors
	if err != nil {
		if !slices.EqualFunc(seen, v.unfit, same) {
			v.log.Error("a changed file cannot be used; what it held before stays in force", "err", err)
		}
		v.unfit = seen
		return v.current
	}
	v.seen, v.unfit, v.current = seen, nil, next
	v.log.Info("files changed and were read again", "files", fmt.Sprint(v.files))
	return next
}

// look notes which files are there.
func (v *Value[T]) look() []os.FileInfo {
	infos := make([]os.FileInfo, len(v.files))
	for i, name := range v.files {
		if info, err := os.Stat(name); err == nil {
			infos[i] = info
		}
	}
	return infos
}

// same says whether two looks at a path found the same file, unchanged.
func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
