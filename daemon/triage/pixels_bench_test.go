package triage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/infer"
	"ichwatch/infer/pixel"
)

// framesForBench is how many frames the larger of two files has: what they differ
// in is the time for decoding, without that for starting a program.
const framesForBench = 21

// writeFrames writes a phantom's slice n times as the frames of one file.
func writeFrames(b *testing.B, path string, n int) {
	b.Helper()
	s, err := phantom.New(phantom.Options{Seed: 1, Class: phantom.Subdural, Slices: 3, Plain: true})
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.WriteSlice(&out, 1); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	dimsetest.Run(b, "dcmodify", "-nb", "-i", fmt.Sprintf("(0028,0008)=%d", n), path)
	file, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	_, h := realHeader(b, path)
	size := int(h.PixelDataLength)
	pixels := file[len(file)-size:]
	binary.LittleEndian.PutUint32(file[len(file)-size-4:], uint32(n*size))
	if err := os.WriteFile(path, append(file, bytes.Repeat(pixels, n-1)...), 0o600); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPixels is one slice of 512 by 512 from its data set to Hounsfield
// units, for each encoding: time, MB/s of native pixels, allocations, and
// processor time beside that of DCMTK's decoder for the same frame.
func BenchmarkPixels(b *testing.B) {
	dir := b.TempDir()
	one, many := filepath.Join(dir, "one.dcm"), filepath.Join(dir, "many.dcm")
	writeFrames(b, one, 1)
	writeFrames(b, many, framesForBench)
	for _, c := range []struct{ name, encoder, decoder string }{
		{"native", "dcmconv +te IN OUT", ""},
		{"deflated", "dcmconv +td IN OUT", "dcmconv +te IN OUT"},
		{"RLE", "dcmcrle IN OUT", "dcmdrle IN OUT"},
		{"JPEG-lossless-SV1", "dcmcjpeg +e1 IN OUT", "dcmdjpeg IN OUT"},
		{"JPEG-lossless-SV6", "dcmcjpeg +el +sv 6 IN OUT", "dcmdjpeg IN OUT"},
		{"JPEG-LS", "dcmcjpls +el IN OUT", "dcmdjpls IN OUT"},
		{"JPEG-LS-near-2", "dcmcjpls +en IN OUT", "dcmdjpls IN OUT"},
		{"JPEG-baseline", "dcmcjpeg +eb IN OUT", "dcmdjpeg IN OUT"},
		{"JPEG-extended-12", "dcmcjpeg +ee +bt IN OUT", "dcmdjpeg IN OUT"},
		{"JPEG-2000", "gdcmconv --j2k IN OUT", ""},
	} {
		b.Run(c.name, func(b *testing.B) {
			for _, command := range []string{c.encoder, c.decoder} {
				if command != "" {
					dimsetest.Program(b, strings.Fields(command)[0])
				}
			}
			coded := filepath.Join(dir, "coded.dcm")
			if strings.HasPrefix(c.encoder, "dcmcjpls +en") && signed(b, one) {
				b.Skip("DCMTK does not encode signed pixels so")
			}
			convert(b, c.encoder, one, coded)
			file, err := os.ReadFile(coded)
			if err != nil {
				b.Fatal(err)
			}
			_, offset, err := dicom.ReadFileMeta(bytes.NewReader(file))
			if err != nil {
				b.Fatal(err)
			}
			_, h := realHeader(b, coded)
			d := describe(h)
			data, img := bytes.NewReader(nil), new(infer.Image)
			b.ReportAllocs()
			b.SetBytes(2 * 512 * 512)
			before := processorTime(b)
			for b.Loop() {
				data.Reset(file[offset:])
				if err := pixel.Decode(b.Context(), d, data, img); err != nil {
					b.Fatal(err)
				}
			}
			ours := (processorTime(b) - before) / time.Duration(b.N)
			b.ReportMetric(ours.Seconds()*1000, "cpu-ms")
			if c.decoder == "" {
				return
			}
			convert(b, c.encoder, many, coded+"s")
			convert(b, c.encoder, one, coded)
			theirs := (userTime(b, c.decoder, coded+"s") - userTime(b, c.decoder, coded)) / (framesForBench - 1)
			b.ReportMetric(theirs.Seconds()*1000, "DCMTK-cpu-ms")
			b.ReportMetric(float64(ours)/float64(theirs), "x-DCMTK")
		})
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}

// userTime is the least that a program used for a file, of three runs; what it
// spends in the kernel goes into writing files.
func userTime(b *testing.B, command, in string) time.Duration {
	b.Helper()
	words := strings.Fields(strings.NewReplacer("IN", in, "OUT", in+".out").Replace(command))
	least := time.Duration(1 << 62)
	for range 3 {
		cmd := exec.CommandContext(b.Context(), words[0], words[1:]...)
		if text, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%s: %v\n%s", command, err, text)
		}
		least = min(least, cmd.ProcessState.UserTime())
	}
	return least
}
