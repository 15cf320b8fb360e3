package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Folder is a model folder in the making. It lies beside its place under a
// passing name until Commit, so that under its own name it is there whole or not
// at all, whatever happens.
type Folder struct {
	path    string // where it is to be
	passing string // where it is; empty once it was committed or discarded
}

// Create begins a model folder. Its error matches fs.ErrExist where path is there
// already.
func Create(path string) (*Folder, error) {
	path = filepath.Clean(path)
	if err := absent(path); err != nil {
		return nil, err
	}
	passing, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part")
	if err != nil {
		return nil, fmt.Errorf("make a model folder: %w", err)
	}
	return &Folder{path: path, passing: passing}, nil
}

func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return &fs.PathError{Op: "make a model folder", Path: path, Err: fmt.Errorf("%w; name a new folder", fs.ErrExist)}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("make a model folder: %w", err)
	}
	return nil
}

// Path is where the folder is now. Load reads it there.
func (f *Folder) Path() string { return f.passing }

// Write adds a file and syncs it.
func (f *Folder) Write(name string, content []byte) error {
	file, err := os.OpenFile(filepath.Join(f.passing, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write a model folder: %w", err)
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write a model folder; is the disk full?: %w", err)
	}
	return nil
}

// Commit puts the folder in its place, with everything on disk.
func (f *Folder) Commit() error {
	if err := absent(f.path); err != nil { // it may have come while the files were made
		return err
	}
	if err := errors.Join(os.Chmod(f.passing, 0o755), syncFolder(f.passing)); err != nil {
		return fmt.Errorf("make a model folder: %w", err)
	}
	if err := os.Rename(f.passing, f.path); err != nil {
		return fmt.Errorf("make a model folder: %w", err)
	}
	f.passing = ""
	if err := syncFolder(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("make a model folder: %w", err)
	}
	return nil
}

// Discard removes the folder unless it was committed.
func (f *Folder) Discard() error {
	if f.passing == "" {
		return nil
	}
	passing := f.passing
	f.passing = ""
	return os.RemoveAll(passing)
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
