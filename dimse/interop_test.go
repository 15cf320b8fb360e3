package dimse_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// sampleFiles are the real images beside the repository, where they are there,
// and generated ones.
func sampleFiles(t testing.TB) []string {
	t.Helper()
	real, err := filepath.Glob("../../shared/data/dicom/*/*.dcm")
	if err != nil {
		t.Fatal(err)
	}
	if len(real) == 0 {
		t.Log("no ../shared/data: only generated images are sent")
	}
	dir := t.TempDir()
	for i, size := range []int{1, 16, 512} {
		uid := dicom.UID(fmt.Sprintf("1.2.3.%d", i))
		real = append(real, writeFile(t, dir, uid, ctDataSet(uid, size, size)))
	}
	return real
}

func TestEchoSCU(t *testing.T) {
	r := newRecorder()
	s := dimsetest.NewServer(t, r)
	host, port, _ := net.SplitHostPort(s.Addr)
	dimsetest.Run(t, "echoscu", "-aec", string(dimsetest.AETitle), "--repeat", "3", host, port)
	if err := r.awaitClosed(t, 1); err != nil {
		t.Errorf("association ended with %v", err)
	}
	r.await(t, "three echoes", func() bool { return r.echoes == 3 })
	if out, err := dimsetest.RunError(t, "echoscu", "-aec", "NOT-US", host, port); err == nil {
		t.Errorf("echoscu to another AE title succeeded:\n%s", out)
	}
	dimsetest.Run(t, "echoscu", "-aec", string(dimsetest.AETitle), "--abort", host, port)
}

// receivedBy storescp in bit-preserving mode: the data set of the only file in
// dir, which is removed. What storescp wrote is what the sender put on the wire.
// It is false where storescp took nothing.
func receivedBy(t testing.TB, dir string) ([]byte, bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) > 1 {
		t.Fatalf("storescp wrote %d files (error %v)", len(files), err)
	}
	if len(files) == 0 {
		return nil, false
	}
	_, data := readFile(t, files[0])
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	return data, true
}

// unknownToDCMTK are syntaxes of the sample images that storescp does not
// accept, with +xa even.
var unknownToDCMTK = []dicom.UID{
	dicom.JPEGSpectralSelectionNonHierarchical68, dicom.JPEGFullProgressionNonHierarchical1012, dicom.JPEGLossless,
}

// startStoreSCP starts a storescp that writes what it receives, in every
// transfer syntax, exactly as read to dir.
func startStoreSCP(t testing.TB, args ...string) (addr, dir string) {
	t.Helper()
	dir, port := t.TempDir(), dimsetest.FreePort(t)
	dimsetest.Start(t, port, "storescp", append(args, "+B", "+xa", "-pm", "-od", dir, port)...)
	return net.JoinHostPort("127.0.0.1", port), dir
}

// What dcmsend puts on the wire reaches the Handler byte for byte. dcmsend
// normalises some files as it reads them (it drops trailing padding and group
// lengths, and chooses the uncompressed syntax itself), so the reference is what
// DCMTK's own receiver, in bit-preserving mode, writes of the same command.
func TestDCMSendArrivesAsSent(t *testing.T) {
	scp, dir := startStoreSCP(t)
	_, scpPort, _ := net.SplitHostPort(scp)
	r := newRecorder()
	s := dimsetest.NewServer(t, r)
	_, port, _ := net.SplitHostPort(s.Addr)
	files, asFile := sampleFiles(t), 0
	for _, file := range files {
		args := []string{"-dn", "-nuc", "-aec", string(dimsetest.AETitle), "127.0.0.1"}
		dimsetest.Run(t, "dcmsend", append(args, port, file)...)
		dimsetest.Run(t, "dcmsend", append(args, scpPort, file)...)
		meta, data := readFile(t, file)
		want, ok := receivedBy(t, dir)
		if !ok {
			if !slices.Contains(unknownToDCMTK, meta.TransferSyntaxUID) {
				t.Errorf("%s: storescp received nothing", filepath.Base(file))
			}
			want = data
		}
		got := r.only(t)
		if got.err != nil || !bytes.Equal(got.data, want) {
			t.Errorf("%s: received %d bytes (error %v), storescp %d", filepath.Base(file), len(got.data), got.err, len(want))
		}
		if bytes.Equal(got.data, data) && got.rq.TransferSyntax.UID == meta.TransferSyntaxUID {
			asFile++
		}
		r.update(func() { r.objects = nil })
	}
	t.Logf("%d files arrived as sent; %d of them as they are on disk", len(files), asFile)
	if asFile < len(files)/2 {
		t.Errorf("only %d of %d data sets equal their file's", asFile, len(files))
	}
}

// A stock storescu, which proposes up to 128 contexts, and one that is told to
// propose what it needs.
func TestStoreSCUArrivesAsSent(t *testing.T) {
	scp, dir := startStoreSCP(t)
	_, scpPort, _ := net.SplitHostPort(scp)
	r := newRecorder()
	s := dimsetest.NewServer(t, r)
	_, port, _ := net.SplitHostPort(s.Addr)
	uid := dicom.UID("1.2.3.9")
	file := writeFile(t, t.TempDir(), uid, ctDataSet(uid, 256, 256))
	for _, options := range [][]string{{}, {"-R"}, {"-xi"}, {"-xb"}, {"-xd"}, {"-R", "-xe", "+C"}, {"-pdu", "4096"}, {"--max-send-pdu", "4096"}} {
		args := append(append([]string{}, options...), "-aec", string(dimsetest.AETitle), "127.0.0.1")
		dimsetest.Run(t, "storescu", append(args, port, file)...)
		dimsetest.Run(t, "storescu", append(args, scpPort, file)...)
		got := r.only(t)
		want, _ := receivedBy(t, dir)
		if got.err != nil || !bytes.Equal(got.data, want) || got.rq.SOPInstanceUID != uid {
			t.Errorf("storescu %v: received %d bytes (error %v), storescp %d", options, len(got.data), got.err, len(want))
		}
		r.update(func() { r.objects = nil })
	}
}

// What Store is given is what a foreign receiver writes, in the syntax that the
// file is in.
func TestStoreIntoStoreSCP(t *testing.T) {
	scp, dir := startStoreSCP(t)
	for _, file := range sampleFiles(t) {
		meta, want := readFile(t, file)
		d := dialer()
		d.Contexts = []dimse.ProposedContext{{AbstractSyntax: meta.SOPClassUID, TransferSyntaxes: []dicom.UID{meta.TransferSyntaxUID}}}
		a, err := d.Dial(t.Context(), scp)
		if err != nil {
			t.Fatalf("Dial: %v", err)
		}
		if slices.Contains(unknownToDCMTK, meta.TransferSyntaxUID) {
			_, err := a.Store(t.Context(), dimse.CStoreRQ{SOPClassUID: meta.SOPClassUID, TransferSyntax: mustSyntax(meta.TransferSyntaxUID)}, nil)
			if !errors.Is(err, dimse.ErrNoPresentationContext) {
				t.Errorf("%s: Store without a context: %v", filepath.Base(file), err)
			}
			if err := a.Release(t.Context()); err != nil {
				t.Errorf("Release: %v", err)
			}
			continue
		}
		result, err := a.Store(t.Context(), dimse.CStoreRQ{
			SOPClassUID: meta.SOPClassUID, SOPInstanceUID: meta.SOPInstanceUID, TransferSyntax: mustSyntax(meta.TransferSyntaxUID),
		}, bytes.NewReader(want))
		if err != nil || result.Status != dimse.StatusSuccess {
			t.Fatalf("%s: Store: %v, %v", filepath.Base(file), result.Status, err)
		}
		if err := a.Release(t.Context()); err != nil {
			t.Errorf("Release: %v", err)
		}
		if mustSyntax(meta.TransferSyntaxUID).Deflated && len(want)%2 == 1 {
			want = append(want, 0)
		}
		if got, _ := receivedBy(t, dir); !bytes.Equal(got, want) {
			t.Errorf("%s: storescp wrote %d bytes with SHA-256 %s, sent were %d with %s", filepath.Base(file), len(got), sum(got), len(want), sum(want))
		}
	}
}

func TestStoreSCPFaults(t *testing.T) {
	send := func(t *testing.T, option string) error {
		scp, _ := startStoreSCP(t, option)
		a, err := dialer().Dial(t.Context(), scp)
		if err != nil {
			return err
		}
		defer a.Abort()
		_, err = a.Store(t.Context(), ctRequest(), bytes.NewReader(ctDataSet("1.2.3.4", 512, 512)))
		if err == nil {
			t.Fatal("Store succeeded")
		}
		if _, again := a.Echo(t.Context()); !errors.Is(again, dimse.ErrAssociationClosed) {
			t.Errorf("Echo after %v: %v", err, again)
		}
		return err
	}
	var rejected *dimse.RejectedError
	if err := send(t, "--refuse"); !errors.As(err, &rejected) || rejected.Rejection != dimse.RejectNoReason {
		t.Errorf("storescp --refuse: %v", err)
	}
	var aborted *dimse.AbortedError
	for _, option := range []string{"--abort-after", "--abort-during"} {
		if err := send(t, option); !errors.As(err, &aborted) {
			t.Errorf("storescp %s: %v", option, err)
		}
	}
}

// A real sender that aborts: nothing remains of it.
func TestStoreSCUAborts(t *testing.T) {
	r := newRecorder()
	s := dimsetest.NewServer(t, r)
	host, port, _ := net.SplitHostPort(s.Addr)
	file := writeFile(t, t.TempDir(), "1.2.3.4", ctDataSet("1.2.3.4", 8, 8))
	dimsetest.Run(t, "storescu", "-R", "--abort", "-aec", string(dimsetest.AETitle), host, port, file)
	var aborted *dimse.AbortedError
	if err := r.awaitClosed(t, 1); !errors.As(err, &aborted) {
		t.Errorf("association ended with %v", err)
	}
}
