package spool

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// checksumsName is the list that `sha256sum -c` reads.
const checksumsName = "SHA256SUMS"

// ErrNotEmpty is matched where an export would mix with something else.
var ErrNotEmpty = errors.New("the folder is not empty")

// Left is an instance that an export could not write, and why.
type Left struct {
	Instance Instance
	Err      error // ErrMissing or ErrDamaged, or what the disk said
}

// Export copies instances to a folder, which is made or has to be empty: each as
// the Part 10 file that lies in the spool, below the pseudonym of its study, and
// the checksums of all in SHA256SUMS, which is written last. The data sets are
// held against the hashes of what arrived: one that differs is left out. The
// files are the owner's alone: they are about patients.
func (r *Reader) Export(ctx context.Context, instances []Instance, dir string) (written int, left []Left, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("export to %s: %w", dir, err)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, nil, err
	}
	if found, err := os.ReadDir(dir); err != nil || len(found) > 0 {
		return 0, nil, errors.Join(err, ErrNotEmpty)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, nil, err
	}
	defer root.Close()
	var sums []byte
	for _, i := range instances {
		if err := ctx.Err(); err != nil {
			return written, left, err
		}
		name := filepath.Join(i.Study, i.name+instanceSuffix)
		if err := root.Mkdir(i.Study, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return written, left, err
		}
		sum, read, err := r.exportOne(root, i, name)
		if read != nil {
			left = append(left, Left{i, read})
			continue
		}
		if err != nil {
			return written, left, err
		}
		sums = fmt.Appendf(sums, "%x  %s\n", sum, filepath.ToSlash(name))
		written++
	}
	list, err := root.OpenFile(checksumsName, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return written, left, err
	}
	_, err = list.Write(sums)
	return written, left, errors.Join(err, list.Sync(), list.Close())
}

// exportOne copies one file and returns its SHA-256. read is why it cannot be
// had from the spool; then nothing is left in the folder.
func (r *Reader) exportOne(root *os.Root, i Instance, name string) (sum [sha256.Size]byte, read, err error) {
	from, read := openInstance(r.files, i)
	if read != nil {
		return sum, withoutPath(read), nil
	}
	defer from.Close()
	to, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return sum, nil, err
	}
	whole := sha256.New()
	source := &attentive{ReaderAt: from}
	w := bufio.NewWriterSize(io.MultiWriter(to, whole), 256<<10)
	_, err = io.Copy(w, io.NewSectionReader(source, 0, i.offset))
	if err == nil {
		data := &DataSet{io.NewSectionReader(source, i.offset, i.Size), i, from}
		_, err = io.Copy(w, data.Verified())
	}
	if err == nil {
		err = w.Flush()
	}
	switch {
	case source.err != nil:
		read = withoutPath(source.err)
	case errors.Is(err, ErrDamaged):
		read = ErrDamaged
	case err == nil:
		err = to.Sync()
	}
	err = errors.Join(err, to.Close())
	if read != nil {
		return sum, read, root.Remove(name)
	}
	return [sha256.Size]byte(whole.Sum(nil)), nil, err
}
