package send

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ichwatch/dimse/dicom"
)

// Object is a DICOM file that can be sent.
type Object struct {
	Path           string
	SOPClassUID    dicom.UID
	SOPInstanceUID dicom.UID
	TransferSyntax dicom.TransferSyntax
	Size           int64 // of the data set, in bytes

	offset int64 // of the data set
}

// Skip is a file that cannot be sent.
type Skip struct {
	Path   string
	Reason error
}

// Reasons for a Skip besides what package dicom finds wrong with a file.
var (
	errNotRegular = errors.New("no regular file")
	errDirectory  = errors.New("a DICOMDIR: a table of contents, no object")
	errOddLength  = errors.New("the data set has an odd length, which no message can carry")
	errNoDataSet  = errors.New("no data set behind the file meta information")
)

// mediaStorageDirectory is the SOP class of a DICOMDIR (PS3.4 Annex I).
const mediaStorageDirectory dicom.UID = "1.2.840.10008.1.3.10"

// Find looks at files, and at all files below folders, in the order of their
// names. Of a file it reads the file meta information alone, which is bounded;
// what is no Part 10 file is skipped. The error is about a path itself.
func Find(ctx context.Context, paths []string) (objects []Object, skipped []Skip, err error) {
	look := func(path string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		o, err := open(path)
		if err != nil {
			skipped = append(skipped, Skip{path, err})
			return nil
		}
		objects = append(objects, o)
		return nil
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, nil, fmt.Errorf("find files: %w", err)
		}
		if !info.IsDir() {
			if err := look(path); err != nil {
				return nil, nil, err
			}
			continue
		}
		err = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				skipped = append(skipped, Skip{path, err})
				return nil
			case entry.IsDir():
				return nil
			}
			return look(path)
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return objects, skipped, nil
}

// open reads a file's meta information and looks whether it can be sent.
func open(path string) (Object, error) {
	info, err := os.Stat(path) // before it is opened: that of a pipe would wait
	if err != nil {
		return Object{}, err
	}
	if !info.Mode().IsRegular() {
		return Object{}, errNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return Object{}, err
	}
	defer f.Close()
	meta, offset, err := dicom.ReadFileMeta(f)
	if err != nil {
		return Object{}, err
	}
	o := Object{
		Path: path, SOPClassUID: meta.SOPClassUID, SOPInstanceUID: meta.SOPInstanceUID,
		Size: info.Size() - offset, offset: offset,
	}
	var known bool
	if o.TransferSyntax, known = dicom.LookupTransferSyntax(meta.TransferSyntaxUID); !known {
		o.TransferSyntax = dicom.PrivateTransferSyntax(meta.TransferSyntaxUID, nil)
	}
	switch {
	case o.SOPClassUID == mediaStorageDirectory:
		return o, errDirectory
	case o.Size <= 0:
		return o, errNoDataSet
	case o.Size%2 != 0 && !o.TransferSyntax.Deflated: // a deflated one is padded on its way out (PS3.5 section A.5)
		return o, errOddLength
	}
	return o, nil
}

// dataSet opens the data set. It yields the bytes that Find saw: a file that has
// shrunk since then is an error, not a shorter object.
func (o *Object) dataSet() (io.ReadCloser, error) {
	f, err := os.Open(o.Path)
	if err != nil {
		return nil, err
	}
	return &dataSet{Closer: f, r: io.NewSectionReader(f, o.offset, o.Size), left: o.Size}, nil
}

type dataSet struct {
	io.Closer
	r    io.Reader
	left int64
}

func (d *dataSet) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	d.left -= int64(n)
	if err == io.EOF && d.left > 0 {
		err = fmt.Errorf("the file has lost %d bytes since it was looked at: %w", d.left, io.ErrUnexpectedEOF)
	}
	return n, err
}
