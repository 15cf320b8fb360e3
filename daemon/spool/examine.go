package spool

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"ichwatch/dimse/dicom"
)

// patience is how often reading is tried again in all, after a pause each time: a
// disk that is being reset by its driver answers again within a second, and a
// disk that has died must not hold up a start for hours. The zero value has none.
type patience struct{ left atomic.Int32 }

// Of the pauses for one thing each is twice as long as the one before.
const (
	readPause  = 100 * time.Millisecond
	readPauses = 3
	startPause = 30 // pauses of one start
)

// with does something that reads until it succeeds or that makes no sense.
func (p *patience) with(do func() error) (err error) {
	for pause := range readPauses + 1 {
		err = do()
		if err == nil || errors.Is(err, fs.ErrNotExist) || pause == readPauses || p.left.Add(-1) < 0 {
			break
		}
		time.Sleep(readPause << pause)
	}
	return err
}

func (p *patience) readDir(files fileSystem, path string) (entries []fs.DirEntry, err error) {
	err = p.with(func() (err error) {
		entries, err = files.ReadDir(path)
		return err
	})
	return entries, err
}

// leave counts a file that cannot be read now. Nothing is concluded from that:
// it stays where it is, with its row or without.
func (s *Spool) leave(name ulid.ULID, err error) {
	s.recovered.Unread++
	s.log.Error("a file in the spool cannot be read and is left where it is", "file", name, "err", withoutPath(err))
}

// eachFile calls do for whatever lies in or beside the shards of instances/, and
// unread for a shard that cannot be read.
func eachFile(files fileSystem, p *patience, unread func(dir string, err error), do func(path string, e fs.DirEntry) error) error {
	shards, err := p.readDir(files, instancesDir)
	if err != nil {
		return err
	}
	for _, dir := range shards {
		path := filepath.Join(instancesDir, dir.Name())
		if !dir.IsDir() {
			if err := do(path, dir); err != nil {
				return err
			}
			continue
		}
		entries, err := p.readDir(files, path)
		if err != nil {
			unread(path, err)
			continue
		}
		for _, e := range entries {
			if err := do(filepath.Join(path, e.Name()), e); err != nil {
				return err
			}
		}
	}
	return nil
}

// attentive notes why it could not be read, so that a disk that fails is not
// taken for a file that is wrong.
type attentive struct {
	io.ReaderAt
	err error
}

// ReadAt implements io.ReaderAt.
func (a *attentive) ReadAt(p []byte, at int64) (int, error) {
	n, err := a.ReaderAt.ReadAt(p, at)
	if err != nil && !errors.Is(err, io.EOF) && a.err == nil {
		a.err = err
	}
	return n, err
}

// examine reads a file without a row. wrong says why it is no Part 10 file of an
// instance; a data set that cannot be scanned was accepted once, and is kept and
// forwarded like any other. unread says that the disk did not give it back, so
// that nothing is known of it.
func (s *Spool) examine(name ulid.ULID) (_ Instance, wrong, unread error) {
	f, err := s.files.Open(instancePath(name))
	if err != nil {
		return Instance{}, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Instance{}, nil, err
	}
	content := &attentive{ReaderAt: f}
	i, wrong := s.understand(name, io.NewSectionReader(content, 0, info.Size()))
	if content.err != nil {
		return Instance{}, nil, content.err
	}
	return i, wrong, nil
}

// understand makes an instance of a file's content.
func (s *Spool) understand(name ulid.ULID, content *io.SectionReader) (Instance, error) {
	meta, offset, err := dicom.ReadFileMeta(content)
	if err != nil {
		return Instance{}, err
	}
	if err := errors.Join(meta.SOPInstanceUID.Valid(), meta.SOPClassUID.Valid(), meta.TransferSyntaxUID.Valid()); err != nil {
		return Instance{}, err
	}
	data := io.NewSectionReader(content, offset, content.Size()-offset)

	// On an error the header holds what came before it, as it did on receipt.
	header, _ := scanPlaced(meta.TransferSyntaxUID, data)
	i := s.describe(meta, header)
	i.name, i.offset, i.ReceivedAt = name.String(), offset, received(name)

	hash := sha256.New()
	if _, err := data.Seek(0, io.SeekStart); err != nil {
		return Instance{}, err
	}
	if i.Size, err = io.Copy(hash, data); err != nil {
		return Instance{}, err
	}
	hash.Sum(i.SHA256[:0])
	return i, nil
}

// scanPlaced reads of a data set what Commit wants to know of it.
func scanPlaced(uid dicom.UID, data *io.SectionReader) (*dicom.Header, error) {
	syntax, known := dicom.LookupTransferSyntax(uid)
	if !known {
		start := make([]byte, 8)
		n, _ := data.ReadAt(start, 0) // what cannot be read now fails below
		syntax = dicom.PrivateTransferSyntax(uid, start[:n])
	}
	return dicom.Scan(data, syntax, dicom.ScanOptions{Want: Describes})
}
