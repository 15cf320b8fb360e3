package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
)

// fileSystem is the file layer below the instances: everything whose order and
// durability the promises rest on. Paths are relative to the spool's directory.
// Tests put a layer between that fails, or that records the operations so that
// a power cut can be replayed after each of them.
type fileSystem interface {
	Create(path string) (file, error) // new, mode 0600; fails if it exists
	Open(path string) (file, error)   // for reading
	Append(path string) (file, error) // for writing at its end; fails unless it exists
	Rename(from, to string) error
	Remove(path string) error
	ReadDir(path string) ([]fs.DirEntry, error) // sorted by name
	SyncDir(path string) error                  // makes creations, renames and removals in it durable
}

type file interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
}

// disk is the real file system. os.Root keeps every path below the spool's
// directory, whatever symbolic links lie there.
type disk struct{ root *os.Root }

func openDisk(dir string) (*disk, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &disk{root}, nil
}

func (d *disk) Create(path string) (file, error) {
	return d.root.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}

func (d *disk) Append(path string) (file, error) {
	return d.root.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
}

func (d *disk) Open(path string) (file, error) { return d.root.Open(path) }
func (d *disk) Rename(from, to string) error   { return d.root.Rename(from, to) }
func (d *disk) Remove(path string) error       { return d.root.Remove(path) }
func (d *disk) ReadDir(path string) ([]fs.DirEntry, error) {
	return fs.ReadDir(d.root.FS(), filepath.ToSlash(path))
}
func (d *disk) Close() error { return d.root.Close() }

func (d *disk) SyncDir(path string) error {
	dir, err := d.root.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// openInstance opens the file of an instance. One that is cut short must not pass
// for a shorter data set: it is as good as gone.
func openInstance(files fileSystem, i Instance) (file, error) {
	name, err := ulid.ParseStrict(i.name)
	if err != nil {
		return nil, fmt.Errorf("its name in the ledger is damaged: %w", err)
	}
	f, err := files.Open(instancePath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrMissing
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != i.offset+i.Size {
		err = fmt.Errorf("%w: there are %d bytes of %d", ErrMissing, info.Size(), i.offset+i.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
