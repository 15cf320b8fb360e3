package app_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"ichwatch/daemon/app"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/send"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// noDelay makes DCMTK switch Nagle's algorithm off, in what it sends.
var noDelay = []string{"TCP_NODELAY=1"}

// pusher sends files over one association and comes back when all are answered.
type pusher struct {
	name string
	push func(b *testing.B, port string, files []string)
}

func storescu(env []string, options ...string) func(*testing.B, string, []string) {
	return func(b *testing.B, port string, files []string) {
		args := append(append(slices.Clip(options), "-aec", "ICHWATCH", "127.0.0.1", port), files...)
		cmd := exec.Command(dimsetest.Program(b, "storescu"), args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Errorf("storescu: %v\n%s", err, out)
		}
	}
}

var pushers = []pusher{
	{"storescu", storescu(nil, "-R")},
	{"storescu, tuned", storescu(noDelay, "-R", "-pdu", "131072", "--max-send-pdu", "131072")},
	{"ichwatch send", func(b *testing.B, port string, files []string) {
		objects, _, err := send.Find(b.Context(), files)
		if err != nil {
			b.Error(err)
		}
		s := send.Sender{
			Addr:   net.JoinHostPort("127.0.0.1", port),
			Dialer: dimse.Dialer{CallingAETitle: "SEND", CalledAETitle: "ICHWATCH"},
			Report: func(r send.Result) {
				if r.Outcome != send.Stored {
					b.Errorf("%s: %v, %v, %v", r.Path, r.Outcome, r.Status, r.Err)
				}
			},
		}
		if err := s.Send(b.Context(), objects); err != nil {
			b.Error(err)
		}
	}},
}

// BenchmarkThroughput is the table by which ichwatch is compared: what each sender, unmodified and tuned, brings into
// each receiver, in slices of 512 x 512 a second over one and over four associations. DCMTK and Orthanc answer when a
// slice is written; ichwatch when it is on disk, synced, with its directory and its ledger. All cells of a round follow
// each other, so that what else the machine does falls on all of them; the ratios are what to look at.
//
// Run it alone, on an idle machine: make throughput.
func BenchmarkThroughput(b *testing.B) {
	const images = 60
	receivers := []struct{ name, port string }{
		{"storescp", startReceiver(b, nil)},
		{"storescp, tuned", startReceiver(b, noDelay, "-pdu", "131072")},
		{"Orthanc", dimsetest.StartOrthanc(b).Port},
		{"ichwatch", startDaemon(b)},
	}
	original := b.TempDir()
	if err := phantom.WriteSet(b.Context(), original, phantom.SetOptions{
		Studies: 1, Classes: []phantom.Class{phantom.Normal}, Slices: images, SliceThickness: 2.5,
	}, nil); err != nil {
		b.Fatal(err)
	}
	studies := &studies{template: filepath.Join(original, "normal-0001")}

	const most = 4
	associations := [...]int{1, most}
	type cell struct {
		pusher, associations, receiver int
	}
	took := map[cell]time.Duration{}
	rounds := 0
	for b.Loop() {
		rounds++
		for p, pusher := range pushers {
			for a, n := range associations {
				for r, receiver := range receivers {
					files := studies.next(b)
					begun := time.Now()
					var all sync.WaitGroup
					for i := range n {
						all.Go(func() { pusher.push(b, receiver.port, files[i*len(files)/n:(i+1)*len(files)/n]) })
					}
					all.Wait()
					took[cell{p, a, r}] += time.Since(begun)
				}
			}
		}
	}

	rate := func(p, a, r int) float64 { return float64(images*rounds) / took[cell{p, a, r}].Seconds() }
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\nslices/s\tassociations\t")
	for _, r := range receivers {
		fmt.Fprintf(w, "%s\t", r.name)
	}
	fmt.Fprint(w, "ichwatch /\tstorescp\ttuned\tOrthanc\t\n")
	for p, pusher := range pushers {
		for a, n := range associations {
			fmt.Fprintf(w, "%s\t%d\t", pusher.name, n)
			ours := rate(p, a, len(receivers)-1)
			for r := range receivers {
				fmt.Fprintf(w, "%.0f\t", rate(p, a, r))
			}
			fmt.Fprintf(w, "\t%.2f\t%.2f\t%.2f\t\n", ours/rate(p, a, 0), ours/rate(p, a, 1), ours/rate(p, a, 2))
		}
	}
	if err := w.Flush(); err != nil {
		b.Error(err)
	}
	b.ReportMetric(rate(0, 0, 3)/rate(0, 0, 0), "x-storescp")
	b.ReportMetric(rate(0, 0, 3)/rate(0, 0, 1), "x-tuned")
	b.ReportMetric(rate(0, 1, 3)/rate(0, 1, 1), "x-tuned-4")
	b.ReportMetric(rate(0, 0, 3)/rate(0, 0, 2), "x-Orthanc")
	b.ReportMetric(0, "ns/op")
}

// startReceiver starts a storescp that has a process for each association.
func startReceiver(b *testing.B, env []string, options ...string) (port string) {
	b.Helper()
	port = dimsetest.FreePort(b)
	args := append(append(slices.Clip(env), dimsetest.Program(b, "storescp")), options...)
	dimsetest.Start(b, port, "env", append(args, "--fork", "+xa", "-od", b.TempDir(), port)...)
	return port
}

// startDaemon runs the daemon with all its durability and returns its DICOM port.
func startDaemon(b *testing.B) (port string) {
	b.Helper()
	a, err := app.New(b.Context(), config(b), app.Options{Log: slog.New(slog.DiscardHandler), Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	_, port, _ = net.SplitHostPort(a.DICOMAddr().String())
	return port
}

// studies makes copies of a study under new UIDs: who is sent a study twice has less to do.
type studies struct {
	template string
	dir      string
	n        int
}

// next returns the files of a study that nobody has seen; those of the one before are gone.
func (s *studies) next(b *testing.B) []string {
	b.Helper()
	if s.dir != "" {
		if err := os.RemoveAll(s.dir); err != nil {
			b.Fatal(err)
		}
	}
	s.n++
	s.dir = filepath.Join(b.TempDir(), fmt.Sprint(s.n))
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		b.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(s.template, "*.dcm"))
	if err != nil || len(paths) == 0 {
		b.Fatalf("no study in %s: %v", s.template, err)
	}
	for i, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		meta, n, err := dicom.ReadFileMeta(bytes.NewReader(content))
		if err != nil {
			b.Fatal(err)
		}
		ts, _ := dicom.LookupTransferSyntax(meta.TransferSyntaxUID)
		h, err := dicom.Scan(bytes.NewReader(content[n:]), ts, dicom.ScanOptions{Want: func(t dicom.Tag) bool {
			return t == dicom.TagSOPInstanceUID || t == dicom.TagStudyInstanceUID || t == dicom.TagSeriesInstanceUID
		}})
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range h.Elements {
			old := dicom.ParseUID(e.Value)
			renamed := string(old[:len(old)-5]) + fmt.Sprintf("%05d", s.n)
			content = bytes.ReplaceAll(content, []byte(old), []byte(renamed))
		}
		paths[i] = filepath.Join(s.dir, filepath.Base(path))
		if err := os.WriteFile(paths[i], content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return paths
}
