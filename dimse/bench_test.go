package dimse_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// discard is a Handler that reads and forgets.
type discard struct{}

func (discard) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

func (discard) Store(_ context.Context, _ *dimse.Association, _ dimse.CStoreRQ, data io.Reader) dimse.Result {
	if _, err := io.Copy(io.Discard, data); err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	return dimse.Result{Status: dimse.StatusSuccess}
}

// BenchmarkReceive has a stock storescu send a study of 512x512 slices over one
// association to us and to DCMTK's storescp, neither of which keeps anything,
// and reports slices per second and the ratio of the two.
func BenchmarkReceive(b *testing.B) {
	const slices = 60
	dir := b.TempDir()
	for i := range slices {
		uid := dicom.UID(fmt.Sprintf("1.2.3.%d", i+1))
		writeFile(b, dir, uid, ctDataSet(uid, 512, 512))
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.dcm"))
	if err != nil || len(files) != slices {
		b.Fatal(len(files), err)
	}
	scp := dimsetest.FreePort(b)
	dimsetest.Start(b, scp, "storescp", "--ignore", scp)
	s := dimsetest.NewServer(b, discard{}, func(s *dimse.Server) { s.AcceptAnyCalledAETitle = true })
	_, own, _ := net.SplitHostPort(s.Addr)
	send := func(port string) time.Duration {
		begun := time.Now()
		dimsetest.Run(b, "storescu", append([]string{"-R", "127.0.0.1", port}, files...)...)
		return time.Since(begun)
	}
	var ours, theirs time.Duration
	n := 0
	for b.Loop() {
		ours += send(own)
		theirs += send(scp)
		n += slices
	}
	b.ReportMetric(float64(n)/ours.Seconds(), "slices/s")
	b.ReportMetric(float64(n)/theirs.Seconds(), "storescp-slices/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-storescp")
}

// BenchmarkStore sends slices over one association with our own requestor, to
// our own server and to storescp.
func BenchmarkStore(b *testing.B) {
	data := ctDataSet("1.2.3.4", 512, 512)
	scp := dimsetest.FreePort(b)
	dimsetest.Start(b, scp, "storescp", "--ignore", "-pdu", "131072", scp)
	s := dimsetest.NewServer(b, discard{})
	for name, addr := range map[string]string{"ichwatch": s.Addr, "storescp": "127.0.0.1:" + scp} {
		b.Run(name, func(b *testing.B) {
			a, err := dialer().Dial(b.Context(), addr)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if result, err := a.Store(b.Context(), ctRequest(), bytes.NewReader(data)); err != nil || result.Status != dimse.StatusSuccess {
					b.Fatal(result, err)
				}
			}
			if err := a.Release(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
