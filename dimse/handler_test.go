package dimse_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a Handler that remembers what it was given.
type recorder struct {
	mu      sync.Mutex
	echoes  int
	objects []object
	opened  int
	closed  []error
	changed chan struct{} // closed and replaced at each change

	store func(rq dimse.CStoreRQ, data io.Reader) dimse.Result // nil: keep everything
}

type object struct {
	rq   dimse.CStoreRQ
	data []byte
	err  error // that ended the data set early
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) update(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits until cond holds of the recorder.
func (r *recorder) await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(dimsetest.Timeout)
	for {
		r.mu.Lock()
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (r *recorder) Echo(context.Context, *dimse.Association) dimse.Status {
	r.update(func() { r.echoes++ })
	return dimse.StatusSuccess
}

func (r *recorder) Store(_ context.Context, _ *dimse.Association, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	if r.store != nil {
		return r.store(rq, data)
	}
	b, err := io.ReadAll(data)
	r.update(func() { r.objects = append(r.objects, object{rq, b, err}) })
	if err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	return dimse.Result{Status: dimse.StatusSuccess}
}

func (r *recorder) AssociationOpened(*dimse.Association) { r.update(func() { r.opened++ }) }

func (r *recorder) AssociationClosed(_ *dimse.Association, err error) {
	r.update(func() { r.closed = append(r.closed, err) })
}

// awaitClosed waits for the nth association to end and returns its error.
func (r *recorder) awaitClosed(t testing.TB, n int) error {
	t.Helper()
	r.await(t, fmt.Sprintf("the end of association %d", n), func() bool { return len(r.closed) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed[n-1]
}

// forget drops the objects, not what was counted.
func (r *recorder) forget() { r.update(func() { r.objects = nil }) }

func (r *recorder) only(t testing.TB) object {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.objects) != 1 {
		t.Fatalf("%d objects received, want 1", len(r.objects))
	}
	return r.objects[0]
}

// bothSyntaxes are those that every CT scanner can send in.
var bothSyntaxes = []dicom.UID{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian}

func dialer() *dimse.Dialer {
	return &dimse.Dialer{
		CallingAETitle: "SCANNER", CalledAETitle: dimsetest.AETitle,
		Contexts: []dimse.ProposedContext{
			{AbstractSyntax: dicom.Verification, TransferSyntaxes: bothSyntaxes},
			{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian}},
			{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
		},
	}
}

func dial(t testing.TB, s *dimsetest.Server) *dimse.Association {
	t.Helper()
	a, err := dialer().Dial(t.Context(), s.Addr)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(func() { a.Abort() })
	return a
}

func ctRequest() dimse.CStoreRQ {
	return dimse.CStoreRQ{
		SOPClassUID:    dicom.CTImageStorage,
		SOPInstanceUID: "1.2.3.4",
		TransferSyntax: mustSyntax(dicom.ExplicitVRLittleEndian),
	}
}

func mustSyntax(uid dicom.UID) dicom.TransferSyntax {
	ts, ok := dicom.LookupTransferSyntax(uid)
	if !ok {
		panic("unknown transfer syntax " + uid)
	}
	return ts
}

// ctDataSet is a small but complete CT Image in Explicit VR Little Endian: rows
// by columns pixels of a gradient.
func ctDataSet(instance dicom.UID, rows, columns int) []byte {
	var b []byte
	text := func(tag uint32, vr, v string) {
		pad := " "
		if vr == "UI" {
			pad = "\x00"
		}
		if len(v)%2 == 1 {
			v += pad
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(tag>>16))
		b = binary.LittleEndian.AppendUint16(b, uint16(tag))
		b = append(b, vr...)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
	}
	us := func(tag uint32, v uint16) {
		text(tag, "US", string(binary.LittleEndian.AppendUint16(nil, v)))
	}
	text(0x00080008, "CS", `ORIGINAL\PRIMARY\AXIAL`)
	text(0x00080016, "UI", string(dicom.CTImageStorage))
	text(0x00080018, "UI", string(instance))
	text(0x00080060, "CS", "CT")
	text(0x00100010, "PN", "PHANTOM")
	text(0x00100020, "LO", "PHANTOM")
	text(0x0020000D, "UI", "1.2.826.0.1.3680043.8.498.1")
	text(0x0020000E, "UI", "1.2.826.0.1.3680043.8.498.1.1")
	text(0x00200013, "IS", "1")
	us(0x00280002, 1)
	text(0x00280004, "CS", "MONOCHROME2")
	us(0x00280010, uint16(rows))
	us(0x00280011, uint16(columns))
	us(0x00280100, 16)
	us(0x00280101, 16)
	us(0x00280102, 15)
	us(0x00280103, 1)
	text(0x00281052, "DS", "0")
	text(0x00281053, "DS", "1")
	b = append(b, 0xE0, 0x7F, 0x10, 0x00, 'O', 'W', 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(2*rows*columns))
	for i := range rows * columns {
		b = binary.LittleEndian.AppendUint16(b, uint16(i%1000))
	}
	return b
}

// writeFile writes a Part 10 file around a CT data set and returns its path.
func writeFile(t testing.TB, dir string, instance dicom.UID, dataSet []byte) string {
	t.Helper()
	var b bytes.Buffer
	_, err := dicom.WriteFileMeta(&b, dicom.FileMeta{
		SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: instance, TransferSyntaxUID: dicom.ExplicitVRLittleEndian,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Write(dataSet)
	path := filepath.Join(dir, string(instance)+".dcm")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readFile returns a Part 10 file's meta information and its data set.
func readFile(t testing.TB, path string) (dicom.FileMeta, []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	meta, n, err := dicom.ReadFileMeta(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return meta, b[n:]
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// goleakFind looks for goroutines of this package that outlive their work; the
// server's accept loop, for one, ends with the test.
func goleakFind() error {
	return goleak.Find(goleak.IgnoreCurrent())
}
