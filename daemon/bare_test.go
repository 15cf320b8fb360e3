package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ichwatch/alerts"
	"ichwatch/daemon/app"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/send"
	"ichwatch/daemon/spool"
	"ichwatch/daemon/triage"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/infer/drift"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/manifest"
	"ichwatch/infer/onnx"
	"ichwatch/infer/pixel"
)

// bare is testdata/bare as a process.
type bare struct {
	in  io.Writer
	out io.Reader
}

// startBare compiles the C program and has it load a model; input is that of some slices.
func startBare(b *testing.B, library string, m *manifest.Manifest, input []float32, threads int) *bare {
	b.Helper()
	dir := b.TempDir()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		b.Fatal(err)
	}
	program := filepath.Join(dir, "bare")
	compile := exec.Command("cc", "-O2", "-o", program, "-I", strings.TrimSpace(string(out)), "../testdata/bare/bare.c", "-ldl", "-lpthread")
	if text, err := compile.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, text)
	}
	var raw bytes.Buffer
	if err := binary.Write(&raw, binary.LittleEndian, input); err != nil {
		b.Fatal(err)
	}
	slice, model := filepath.Join(dir, "slice"), filepath.Join(dir, "model.onnx")
	for path, content := range map[string][]byte{slice: raw.Bytes(), model: m.Model()} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.Command(program, library, model, m.Input.Name, m.Outputs.Logits, fmt.Sprint(len(m.Classes)), slice,
		fmt.Sprint(len(input)/(len(m.Windows)*m.Input.Height*m.Input.Width)), fmt.Sprint(threads), fmt.Sprint(len(m.Windows)), fmt.Sprint(m.Input.Height), fmt.Sprint(m.Input.Width))
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "MALLOC_ARENA_MAX=1") // as the unit has it
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	return &bare{in, stdout}
}

// spent is what some slices took, in seconds.
type spent struct{ wall, processor float64 }

func (s spent) add(other spent) spent {
	return spent{s.wall + other.wall, s.processor + other.processor}
}

// run has n slices computed.
func (p *bare) run(b *testing.B, n int) (took spent, rssMB float64) {
	b.Helper()
	if _, err := fmt.Fprintln(p.in, n); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Fscan(p.out, &took.wall, &took.processor, &rssMB); err != nil {
		b.Fatal(err)
	}
	return took, rssMB / 1024
}

// measure is what a piece of work takes in this process.
func measure(b *testing.B, work func()) spent {
	b.Helper()
	processor := func() float64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	}
	begun, before := time.Now(), processor()
	work()
	return spent{time.Since(begun).Seconds(), processor() - before}
}

// stored is a phantom study as the spool has it: data sets of 512 x 512.
func stored(b *testing.B) (study *phantom.Study, data [][]byte) {
	b.Helper()
	study, err := phantom.New(phantom.Options{Class: phantom.Intraparenchymal, Seed: 3, Plain: true, Slices: 30})
	if err != nil {
		b.Fatal(err)
	}
	for i := 8; i < 24; i++ {
		var set bytes.Buffer
		if err := study.WriteDataSet(&set, i); err != nil {
			b.Fatal(err)
		}
		data = append(data, set.Bytes())
	}
	return study, data
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// bareModels are measured against themselves.
var bareModels = []string{"resnet18", "densenet121", "resnet18-int8", "densenet121-int8"}

// BenchmarkAgainstBareModel is the whole way of a slice beside the model alone, on the same library with as many threads,
// in turns, so that what else the machine does falls on both. x-bare is the median of the ratios of the turns, in slices
// a second: from the stored bytes to the result, and through the spool to the finding on disk, with the study rule, by
// triage as it runs in the daemon. 1 is as fast as the model alone. x-bare-cpu is the same in processor time, which other
// programs disturb less; time for the disk does not count there.
func BenchmarkAgainstBareModel(b *testing.B) {
	library, err := app.FindRuntime()
	if err != nil {
		b.Skip(err)
	}
	rt, err := onnx.OpenRuntime(library, "")
	if err != nil {
		b.Fatal(err)
	}
	study, data := stored(b)
	workers := runtime.GOMAXPROCS(0)
	for _, name := range bareModels {
		m, err := manifest.Load("../models/" + name)
		if err != nil {
			b.Fatal(err)
		}
		e, err := ensemble.New("", m)
		if err != nil {
			b.Fatal(err)
		}
		classifier, err := e.NewClassifier(rt, onnx.Options{Runners: workers})
		if err != nil {
			b.Fatal(err)
		}
		model := &triage.Model{Classifier: classifier, Rule: e.Rule()}
		p := pixel.NewPreprocessor(m)
		examiner := &triage.Examiner{Model: model, Calls: workers}
		shape := p.Shape()
		one := shape[0] * shape[1] * shape[2]
		input := make([]float32, len(data)*one)
		for i, set := range data {
			img, err := examiner.Decode(bytes.NewReader(set), dicom.CTImageStorage, dicom.ExplicitVRLittleEndian)
			if err != nil {
				b.Fatal(err)
			}
			if err := p.Input(img, input[i*one:(i+1)*one]); err != nil {
				b.Fatal(err)
			}
		}
		c := startBare(b, library, m, input, workers)
		for way, run := range map[string]func(b *testing.B, n int) spent{
			"result":  func(b *testing.B, n int) spent { return examineAll(b, examiner, workers, data, n) },
			"finding": func(b *testing.B, n int) spent { return triageAll(b, model, workers, study, data, n) },
		} {
			b.Run(name+"/"+way, func(b *testing.B) {
				const turn = 24 // slices
				var ratios, processor, ours, theirs []float64
				run(b, turn) // warm
				for b.Loop() {
					theirTime, _ := c.run(b, turn/2)
					ourTime := run(b, turn)
					after, _ := c.run(b, turn/2)
					theirTime = theirTime.add(after)
					ratios, processor = append(ratios, theirTime.wall/ourTime.wall), append(processor, theirTime.processor/ourTime.processor)
					ours, theirs = append(ours, turn/ourTime.wall), append(theirs, turn/theirTime.wall)
				}
				b.ReportMetric(median(ratios), "x-bare")
				b.ReportMetric(median(processor), "x-bare-cpu")
				b.ReportMetric(median(ours), "slices/s")
				b.ReportMetric(median(theirs), "bare-slices/s")
				b.ReportMetric(0, "ns/op")
			})
		}
		if err := classifier.Close(); err != nil {
			b.Error(err)
		}
	}
}

// examineAll takes n slices from their bytes to their results.
func examineAll(b *testing.B, e *triage.Examiner, workers int, data [][]byte, n int) spent {
	b.Helper()
	next := make(chan []byte, n)
	for i := range n {
		next <- data[i%len(data)]
	}
	close(next)
	return measure(b, func() {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for set := range next {
					r, err := e.Examine(b.Context(), bytes.NewReader(set), dicom.CTImageStorage, dicom.ExplicitVRLittleEndian)
					if err != nil || r.State != spool.FindingClassified {
						b.Errorf("%v %s %v", r.State, r.Reason, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// triageAll takes n slices that lie in a spool to their findings in the ledger.
func triageAll(b *testing.B, model *triage.Model, workers int, study *phantom.Study, data [][]byte, n int) spent {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := spool.Open(b.Context(), spool.Options{Dir: filepath.Join(b.TempDir(), "spool"), Device: "bench", Log: log})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	uid := study.StudyUID()
	s.StudyOpened(uid, "association")
	for i := range n {
		in, err := s.Create(dicom.FileMeta{
			SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: dicom.UID(fmt.Sprintf("1.2.%d", i+1)), TransferSyntaxUID: dicom.ExplicitVRLittleEndian, SourceAETitle: "CT",
		})
		if err != nil {
			b.Fatal(err)
		}
		h := &dicom.Header{Elements: []dicom.Element{
			{Tag: dicom.TagStudyInstanceUID, VR: "UI", Value: []byte(uid)}, {Tag: dicom.TagSeriesInstanceUID, VR: "UI", Value: []byte(study.SeriesUID())},
		}}
		if _, err := in.Write(data[i%len(data)]); err != nil {
			b.Fatal(err)
		}
		if _, _, err := in.Commit(b.Context(), h); err != nil {
			b.Fatal(err)
		}
	}
	concluded := make(chan struct{})
	t := &triage.Triage{
		Spool: s, Model: model, Site: "bench", Device: "bench", Workers: workers, Quiet: time.Hour, Log: log,
		Observer: &counter{each: func(total int) {
			if total == n {
				close(concluded)
			}
		}},
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	took := measure(b, func() {
		go func() { ended <- t.Run(ctx) }()
		select {
		case <-concluded:
		case err := <-ended:
			b.Fatal(err)
		}
		for { // until the last is in the ledger
			pending, err := s.PendingSlices(b.Context(), 1)
			if err != nil {
				b.Fatal(err)
			}
			if len(pending) == 0 {
				return
			}
		}
	})
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
	return took
}

// counter tells how many slices were classified.
type counter struct {
	mu   sync.Mutex
	n    int
	each func(total int)
}

func (c *counter) Seen(dicom.UID, *drift.Collector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.each(c.n)
}

func (c *counter) Concluded(dicom.UID, alerts.Outcome) {}

// BenchmarkStart is the daemon as a process of its own: from its start to an answered C-ECHO, with the model in service,
// and what it has in memory after a study, beside the model alone.
func BenchmarkStart(b *testing.B) {
	library, err := app.FindRuntime()
	if err != nil {
		b.Skip(err)
	}
	if library, err = filepath.Abs(library); err != nil {
		b.Fatal(err)
	}
	study, _ := stored(b)
	var files []string
	dir := b.TempDir()
	for i := 8; i < 24; i++ {
		var file bytes.Buffer
		if err := study.WriteSlice(&file, i); err != nil {
			b.Fatal(err)
		}
		files = append(files, filepath.Join(dir, fmt.Sprintf("%d.dcm", i)))
		if err := os.WriteFile(files[len(files)-1], file.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for _, name := range bareModels {
		b.Run(name, func(b *testing.B) {
			folder, err := filepath.Abs("../models/" + name)
			if err != nil {
				b.Fatal(err)
			}
			m, err := manifest.Load(folder)
			if err != nil {
				b.Fatal(err)
			}
			c := startBare(b, library, m, make([]float32, len(m.Windows)*m.Input.Height*m.Input.Width), runtime.GOMAXPROCS(0))
			_, bareMB := c.run(b, 8)
			var ready, processor, resident []float64
			for b.Loop() {
				took, mb := startOnce(b, library, folder, files)
				ready, processor, resident = append(ready, 1000*took.wall), append(processor, 1000*took.processor), append(resident, mb)
			}
			b.ReportMetric(median(ready), "ready-ms")
			b.ReportMetric(median(processor), "ready-cpu-ms")
			b.ReportMetric(median(resident), "RSS-MB")
			b.ReportMetric(bareMB, "bare-RSS-MB")
			b.ReportMetric(median(resident)-bareMB, "more-MB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// startOnce starts a daemon, sends it a study, waits until that is classified, and stops it.
func startOnce(b *testing.B, library, model string, files []string) (ready spent, rssMB float64) {
	b.Helper()
	port, dir := dimsetest.FreePort(b), b.TempDir()
	config, spoolDir := filepath.Join(dir, "ichwatch.yaml"), filepath.Join(dir, "spool")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
dicom: {listen: "127.0.0.1:%s"}
spool: {dir: %s, high_watermark: 99%%, reserve: 64MiB}
triage: {models: [%s]}
onnxruntime: {library: %s}
monitor: {listen: ""}
`, port, spoolDir, model, library), 0o600); err != nil {
		b.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "serve", "--config", config)
	cmd.Args[0] = "ichwatch"
	cmd.Env = append(os.Environ(), "MALLOC_ARENA_MAX=1") // as the unit has it
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	}()
	d := dimse.Dialer{CallingAETitle: "BENCH", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
		AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian},
	}}}
	address := net.JoinHostPort("127.0.0.1", port)
	soon(b, "the daemon answers", func() bool {
		a, err := d.Dial(b.Context(), address)
		return err == nil && a.Release(b.Context()) == nil
	})
	ready = spent{time.Since(begun).Seconds(), processorOf(b, cmd.Process.Pid)}
	objects, _, err := send.Find(b.Context(), files)
	if err != nil {
		b.Fatal(err)
	}
	s := send.Sender{
		Addr: address, Dialer: dimse.Dialer{CallingAETitle: "BENCH", CalledAETitle: "ICHWATCH"},
		Report: func(r send.Result) {
			if r.Outcome != send.Stored {
				b.Errorf("%s: %v, %v", r.Path, r.Outcome, r.Err)
			}
		},
	}
	if err := s.Send(b.Context(), objects); err != nil {
		b.Fatal(err)
	}
	// The canary is over too when its answers are kept.
	soon(b, "all is classified", func() bool {
		r, err := spool.OpenReader(b.Context(), spoolDir)
		if err != nil {
			return false
		}
		defer r.Close()
		o, err := r.Overview(b.Context())
		_, sung := os.Stat(filepath.Join(spoolDir, "service", "canary.json"))
		return err == nil && o.Stored == len(files) && o.Slices.Waiting == 0 && sung == nil
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil || math.IsNaN(kib) {
		b.Fatal(err)
	}
	return ready, kib / 1024
}

// processorOf is the processor time that a process has used, in seconds (proc(5), /proc/pid/stat).
func processorOf(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	const utime, stime, ticks = 14 - 3, 15 - 3, 100 // a second, on every Linux that Go knows
	sum := 0.0
	for _, field := range []int{utime, stime} {
		n, err := strconv.ParseFloat(fields[field], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += n / ticks
	}
	return sum
}

// soon waits for something.
func soon(b *testing.B, what string, ok func() bool) {
	b.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(2 * time.Minute); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatalf("waited in vain: %s", what)
		}
	}
}
