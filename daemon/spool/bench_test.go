package spool

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"ichwatch/dimse/dicom"
)

// BenchmarkCommit stores CT slices of 525 KB, each durable before the next, and
// tells how long each step took.
func BenchmarkCommit(b *testing.B) {
	steps := []string{StepCreated, StepWritten, StepFileSynced, StepRenamed, StepDirectorySynced, StepIndexed}
	spent := make(map[string]time.Duration)
	last := time.Now()
	s := open(b, Options{Hook: func(step string) {
		now := time.Now()
		spent[step] += now.Sub(last)
		last = now
	}})
	pixels := bytes.Repeat([]byte{1, 2, 3, 4}, 525_000/4)
	b.SetBytes(int64(len(pixels)))
	var n int
	for b.Loop() {
		last = time.Now()
		n++
		sendBench(b, s, pixels, n)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "instances/s")
	for _, step := range steps {
		b.ReportMetric(float64(spent[step].Microseconds())/1000/float64(n), "ms/"+unit(step))
	}
}

// BenchmarkCommitParallel is the same from several associations at once.
func BenchmarkCommitParallel(b *testing.B) {
	s := open(b, Options{})
	pixels := bytes.Repeat([]byte{1, 2, 3, 4}, 525_000/4)
	b.SetBytes(int64(len(pixels)))
	b.SetParallelism(2)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			sendBench(b, s, pixels, int(n.Add(1)))
		}
	})
	b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "instances/s")
}

func sendBench(b *testing.B, s *Spool, pixels []byte, n int) {
	study := dicom.UID(fmt.Sprintf("1.2.%d", n/300))
	c := slice{study: study, series: study + ".1", sop: dicom.UID(fmt.Sprintf("%s.1.%d", study, n))}
	in, err := s.Create(c.meta())
	if err != nil {
		b.Fatal(err)
	}
	defer in.Discard()
	for chunk := range chunks(pixels, 128<<10) {
		if _, err := in.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	if _, _, err := in.Commit(context.Background(), header(c)); err != nil {
		b.Fatal(err)
	}
}

func header(c slice) *dicom.Header {
	return &dicom.Header{Elements: []dicom.Element{
		{Tag: dicom.TagStudyInstanceUID, VR: "UI", Value: []byte(c.study)},
		{Tag: dicom.TagSeriesInstanceUID, VR: "UI", Value: []byte(c.series)},
	}}
}

func unit(step string) string {
	b := []byte(step)
	for i, c := range b {
		if c == ' ' || c == ':' {
			b[i] = '-'
		}
	}
	return string(b)
}

// BenchmarkRecordFinding is one durable ledger transaction, BenchmarkLegFailed
// one that a scan of the files could rebuild.
func BenchmarkRecordFinding(b *testing.B) {
	s := open(b, Options{})
	i, _ := send(b, s, newSlice("1.2", 1))
	for b.Loop() {
		must(b, s.RecordFinding(b.Context(), Finding{InstanceID: i.ID, State: FindingClassified, Probabilities: []float32{0.5, 0.25}}))
	}
}

func BenchmarkLegFailed(b *testing.B) {
	s := open(b, Options{})
	send(b, s, newSlice("1.2", 1))
	legs, err := s.DueLegs(b.Context(), "pacs", time.Now(), 1)
	must(b, err)
	for b.Loop() {
		must(b, s.LegFailed(b.Context(), legs[0].ID, 0xA700, "busy", time.Now()))
	}
}

// BenchmarkBareDisk is what the disk alone takes for the steps of a commit:
// write 525 KB, sync the file, rename it, sync the directory.
func BenchmarkBareDisk(b *testing.B) {
	d, err := openDisk(b.TempDir())
	must(b, err)
	defer d.Close()
	content := bytes.Repeat([]byte{1, 2, 3, 4}, 525_000/4)
	n := 0
	for b.Loop() {
		n++
		name := fmt.Sprint(n)
		f, err := d.Create(name + ".part")
		must(b, err)
		_, err = f.Write(content)
		must(b, err)
		must(b, f.Sync())
		must(b, f.Close())
		must(b, d.Rename(name+".part", name))
		must(b, d.SyncDir("."))
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "files/s")
}

// fill stores n instances of 1 KB, 300 a study.
func fill(b *testing.B, s *Spool, n int) {
	for n := range n {
		study := dicom.UID(fmt.Sprintf("1.2.%d", n/300))
		send(b, s, slice{study: study, series: study + ".1", sop: dicom.UID(fmt.Sprintf("%s.1.%d", study, n))})
	}
}

// BenchmarkOpen starts on a spool of 10,000 instances, and tells how much longer
// that takes than to look at every file.
func BenchmarkOpen(b *testing.B) {
	s := open(b, Options{})
	fill(b, s, 10_000)
	var walking time.Duration
	for b.Loop() {
		begin := time.Now()
		seen := 0
		must(b, filepath.WalkDir(filepath.Join(s.dir, instancesDir), func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			seen++
			_, err = e.Info()
			return err
		}))
		walking += time.Since(begin)
		s = reopen(b, s, Options{})
		if seen != 10_000 || s.Recovery().Instances != seen {
			b.Fatalf("%d files, recovery %+v", seen, s.Recovery())
		}
	}
	opening := b.Elapsed() - walking
	b.ReportMetric(opening.Seconds()*1000/float64(b.N), "ms/open")
	b.ReportMetric(float64(opening)/float64(walking), "open/walk")
}

// BenchmarkRebuild starts on one whose ledger is lost: every file is read.
func BenchmarkRebuild(b *testing.B) {
	s := open(b, Options{})
	fill(b, s, 10_000)
	for b.Loop() {
		b.StopTimer()
		must(b, s.Close())
		must(b, os.Remove(filepath.Join(s.dir, ledgerName)))
		b.StartTimer()
		s = open(b, Options{Dir: s.dir})
		if r := s.Recovery(); r.Adopted != 10_000 {
			b.Fatalf("%+v", r)
		}
	}
}
