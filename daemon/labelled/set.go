package labelled

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ichwatch/dimse/dicom"
)

// Set is a folder of slices with their labels.
type Set struct {
	*Labels
	Format Format
	// Slices are the rows that have a file, in the order of the table.
	Slices []Slice

	// What does not fit together; nothing of it is in Slices.
	NoFile  []string // rows, by their line, whose slice is not there
	NoLabel []string // paths of slices that no row is about
	Unread  []string // paths of files of another kind than the set's
	// NoBone are rows of ct-ich that lack the bone window: what the brain window
	// cuts off is taken for air there.
	NoBone []string
	// Window is that of Images; BrainWindow unless it is set before they are read.
	Window Window

	dir string
}

// Slice is a row of the table with its file.
type Slice struct {
	Label
	path string // below the folder
	// Of a Part 10 file:
	class, syntax dicom.UID
	offset        int64 // of the data set
	bone          bool  // of ct-ich: the second window is there
}

// Open matches the labels with the files below dir.
func Open(dir string, l *Labels, f Format) (*Set, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open the set: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open the set: %s is no folder", dir)
	}
	if f == Auto {
		f = l.formatOf(dir)
	}
	s := &Set{Labels: l, Format: f, Window: BrainWindow, dir: dir}
	switch f {
	case CTICH:
		err = s.matchPairs()
	case Images:
		err = s.matchImages()
	default:
		err = s.matchPart10()
	}
	if f != Phantom && l.numbered {
		err = cmp.Or(err, s.unnumbered())
	}
	if err != nil {
		return nil, fmt.Errorf("open the set: %w", err)
	}
	slices.SortFunc(s.Slices, func(a, b Slice) int { return cmp.Compare(a.Line, b.Line) })
	return s, nil
}

// formatOf looks how the slices of a table are kept.
func (l *Labels) formatOf(dir string) Format {
	_, err := os.Stat(filepath.Join(dir, brain))
	switch {
	case err == nil && l.numbered && l.Unit == "patient":
		return CTICH
	case l.allImages():
		return Images
	}
	return Phantom
}

// Gaps is what the table and the folder do not agree on, nil where they do. Left
// out silently, it would be chosen by whatever lost it.
func (s *Set) Gaps() error {
	const hint = "--partial goes on without them and counts them in the report"
	var errs []error
	for _, e := range []*ListError{
		{What: "labels have no file", Items: s.NoFile, Hint: hint},
		{What: "files have no label", Items: s.NoLabel, Hint: hint},
	} {
		if len(e.Items) > 0 {
			errs = append(errs, fmt.Errorf("%s: %w", s.path, e))
		}
	}
	return errors.Join(errs...)
}

// matchPart10 goes by the path where the table names one that is there, otherwise
// by the SOP Instance UID. A path whose file has another UID than its row is
// about another slice.
func (s *Set) matchPart10() error {
	var unmatched []Label
	taken := map[string]bool{}
	for _, l := range s.Rows {
		found, err := s.readMeta(l.File)
		switch {
		case err == nil && (l.Instance == "" || l.Instance == found.Instance):
			found.Label = l
			s.Slices = append(s.Slices, found)
			taken[l.File] = true
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, errNoPath), errors.Is(err, dicom.ErrNotPart10), errors.Is(err, dicom.ErrMalformed):
			unmatched = append(unmatched, l)
		default:
			return err
		}
	}
	byUID := map[dicom.UID]Slice{}
	err := s.walk(func(name string) error {
		if taken[name] {
			return nil
		}
		found, err := s.readMeta(name)
		switch {
		case err == nil:
			if _, twice := byUID[found.Instance]; twice {
				s.NoLabel = append(s.NoLabel, name)
				return nil
			}
			byUID[found.Instance] = found
		case errors.Is(err, dicom.ErrNotPart10), errors.Is(err, dicom.ErrMalformed):
			s.Unread = append(s.Unread, name)
		default:
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range unmatched {
		found, ok := byUID[l.Instance]
		if !ok || l.Instance == "" {
			s.NoFile = append(s.NoFile, fmt.Sprintf("line %d", l.Line))
			continue
		}
		delete(byUID, l.Instance)
		found.Label = l
		s.Slices = append(s.Slices, found)
	}
	for _, left := range byUID {
		s.NoLabel = append(s.NoLabel, left.path)
	}
	slices.Sort(s.NoLabel)
	return nil
}

// walk visits the files below the folder that may be slices, by their path with
// slashes.
func (s *Set) walk(visit func(name string) error) error {
	return filepath.WalkDir(s.dir, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, ".") && at != s.dir:
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case !entry.Type().IsRegular():
			return nil
		}
		switch strings.ToLower(filepath.Ext(name)) {
		case ".csv", ".md", ".txt", ".json", ".html":
			return nil // tables and their like
		}
		short, err := filepath.Rel(s.dir, at)
		if err != nil {
			return err
		}
		return visit(filepath.ToSlash(short))
	})
}

// errNoPath: a row names no file below the folder.
var errNoPath = errors.New("no path below the folder")

func (s *Set) open(name string) (*os.File, error) {
	if name == "" || !filepath.IsLocal(filepath.FromSlash(name)) {
		return nil, errNoPath
	}
	return os.Open(filepath.Join(s.dir, filepath.FromSlash(name)))
}

// readMeta reads the file meta information of a file below the folder.
func (s *Set) readMeta(name string) (Slice, error) {
	f, err := s.open(name)
	if err != nil {
		return Slice{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Slice{}, err
	}
	if info.IsDir() {
		return Slice{}, errNoPath
	}
	meta, offset, err := dicom.ReadFileMeta(f)
	if err != nil {
		return Slice{}, err
	}
	return Slice{
		Label: Label{Instance: meta.SOPInstanceUID}, path: path.Clean(name),
		class: meta.SOPClassUID, syntax: meta.TransferSyntaxUID, offset: offset,
	}, nil
}

// dataSet opens the data set of a Part 10 file.
func (s *Set) dataSet(l *Slice) (io.ReadSeeker, io.Closer, error) {
	f, err := s.open(l.path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return io.NewSectionReader(f, l.offset, max(info.Size()-l.offset, 0)), f, nil
}
