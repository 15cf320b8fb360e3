package phantom

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"ichwatch/dimse/dicom"
)

// SetOptions choose a set of studies.
type SetOptions struct {
	Studies int     // of each class
	Classes []Class // every class when empty
	Seed    uint64
	Workers int // studies at a time; GOMAXPROCS when 0

	// As in Options; zero leaves them to each study's seed.
	Rows, Columns  int
	Slices         int
	SliceThickness float64
	Plain          bool
	TransferSyntax dicom.UID
}

// study gives the options of the n-th study (from 1) of a class.
func (o *SetOptions) study(c Class, n int) Options {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s/%d", o.Seed, c, n)
	return Options{
		Seed: h.Sum64(), Class: c, Number: n, Rows: o.Rows, Columns: o.Columns, Slices: o.Slices,
		SliceThickness: o.SliceThickness, Plain: o.Plain, TransferSyntax: o.TransferSyntax,
	}
}

// WriteSet writes studies of every class below dir, as <class>-<n>/IM0001.dcm
// and so on, and beside them labels.csv (one row a slice) and studies.csv (one
// row a study). The tables are written last and name only what was written.
// progress, if not nil, is called with the number of slices done and of all
// slices; its calls do not overlap.
func WriteSet(ctx context.Context, dir string, o SetOptions, progress func(done, total int)) error {
	if o.Studies < 1 {
		return fmt.Errorf("phantom: %d studies of each class; choose 1 or more", o.Studies)
	}
	if len(o.Classes) == 0 {
		o.Classes = Classes()
	}
	if o.Workers < 1 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	var jobs []job
	total := 0
	for n := 1; n <= o.Studies; n++ {
		for _, c := range o.Classes {
			s, err := New(o.study(c, n))
			if err != nil {
				return err
			}
			total += s.Slices()
			jobs = append(jobs, job{name: fmt.Sprintf("%s-%04d", c, n), options: o.study(c, n)})
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("phantom: make the folder for the set: %w", err)
	}
	var mu sync.Mutex
	done := 0
	if progress == nil {
		progress = func(int, int) {}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Workers)
	for i := range jobs {
		g.Go(func() error {
			return jobs[i].write(ctx, dir, func() {
				mu.Lock()
				defer mu.Unlock()
				done++
				progress(done, total)
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return writeTables(dir, jobs)
}

// job is one study of a set; its rows are filled in as it is written.
type job struct {
	name    string
	options Options
	labels  [][]string
	study   []string
}

func (j *job) write(ctx context.Context, dir string, did func()) error {
	s, err := New(j.options)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, j.name), 0o755); err != nil {
		return fmt.Errorf("phantom: make the study's folder: %w", err)
	}
	var b bytes.Buffer
	var sum [numClasses]float64
	var slices [numClasses]int
	for i := range s.Slices() {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.Reset()
		if err := s.WriteSlice(&b, i); err != nil {
			return err
		}
		file := filepath.Join(j.name, fmt.Sprintf("IM%04d.dcm", i+1))
		if err := os.WriteFile(filepath.Join(dir, file), b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("phantom: write a slice; is the disk full?: %w", err)
		}
		t := s.Truth(i)
		row := []string{filepath.ToSlash(file), string(s.StudyUID()), string(s.SeriesUID()), string(s.InstanceUID(i)), number(t.Position, 3)}
		for c := range t.Present {
			row = append(row, flag(t.Present[c]))
			sum[c] += t.VolumeMM3[c]
			if t.Present[c] {
				slices[c]++
			}
		}
		row = append(row, flag(t.Trace), number(t.TotalMM3()/1000, 4))
		for c := 1; c < numClasses; c++ {
			row = append(row, strconv.Itoa(t.Pixels[c]))
		}
		j.labels = append(j.labels, append(row, strconv.Itoa(t.HeadPixels)))
		did()
	}
	j.study = append([]string{j.name, string(s.StudyUID()), s.Class().String(), strconv.FormatUint(j.options.Seed, 10), strconv.Itoa(s.Slices())}, s.parameters()...)
	for c := 1; c < numClasses; c++ {
		j.study = append(j.study, number(sum[c]/1000, 3))
	}
	for c := range slices {
		j.study = append(j.study, strconv.Itoa(slices[c]))
	}
	return nil
}

func writeTables(dir string, jobs []job) error {
	labels := []string{"file", "study", "series", "sop_instance_uid", "position_mm"}
	for _, c := range Classes() {
		labels = append(labels, c.String())
	}
	labels = append(labels, "trace", "bleed_ml")
	for _, c := range Classes()[1:] {
		labels = append(labels, c.String()+"_pixels")
	}
	rows := [][]string{append(labels, "head_pixels")}
	studies := append([]string{"folder", "study", "class", "seed", "slices"}, parameterNames...)
	for _, c := range Classes()[1:] {
		studies = append(studies, c.String()+"_ml")
	}
	for _, c := range Classes() {
		studies = append(studies, c.String()+"_slices")
	}
	table := [][]string{studies}
	for i := range jobs {
		rows = append(rows, jobs[i].labels...)
		table = append(table, jobs[i].study)
	}
	if err := writeCSV(filepath.Join(dir, "labels.csv"), rows); err != nil {
		return err
	}
	return writeCSV(filepath.Join(dir, "studies.csv"), table)
}

func writeCSV(name string, rows [][]string) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("phantom: write the table: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := bufio.NewWriter(f)
	w := csv.NewWriter(b)
	if err := w.WriteAll(rows); err != nil {
		return fmt.Errorf("phantom: write the table: %w", err)
	}
	return b.Flush()
}

func number(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }

func flag(v bool) string {
	if v {
		return "1"
	}
	return "0"
}

var parameterNames = []string{
	"age", "sex", "atrophy", "kernel", "noise_hu", "thickness_mm", "increment_mm", "pixel_mm", "tilt_degrees", "kvp", "shift_mm",
	"motion", "metal", "air", "signed", "padding",
}

// parameters is what was drawn, for the table of studies.
func (s *Study) parameters() []string {
	a := &s.scan
	air := false
	for i := range s.bleeds.extra {
		air = air || s.bleeds.extra[i].blood.hu < -500
	}
	return []string{
		number(float64(s.head.age), 0), s.id.sex, number(float64(s.head.atrophy), 2), a.kernel.name, number(float64(a.noise), 1),
		number(a.thickness, 2), number(a.increment, 2), number(a.pixel, 4), number(a.tilt, 1), strconv.Itoa(a.kvp),
		number(float64(abs(s.bleeds.shift.by)), 1), flag(a.motion.share > 0), flag(len(a.metal) > 0), flag(air), flag(a.signed), flag(a.padding),
	}
}
