package receive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"ichwatch/daemon/receive"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

const (
	study    dicom.UID = "1.2.3"
	series   dicom.UID = "1.2.3.4"
	instance dicom.UID = "1.2.3.4.5"
)

func syntax(uid dicom.UID) dicom.TransferSyntax {
	ts, ok := dicom.LookupTransferSyntax(uid)
	if !ok {
		panic("unknown transfer syntax " + uid)
	}
	return ts
}

// element writes an element of a short-form VR in Explicit VR Little Endian.
func element(t dicom.Tag, vr, value string) string {
	if len(value)%2 != 0 {
		pad := " "
		if vr == "UI" {
			pad = "\x00"
		}
		value += pad
	}
	b := binary.LittleEndian.AppendUint16(nil, t.Group())
	b = binary.LittleEndian.AppendUint16(b, t.Element())
	b = append(b, vr...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return string(b) + value
}

// pixels writes n bytes of pixel data.
func pixels(n int) string {
	head := binary.LittleEndian.AppendUint32([]byte("\xe0\x7f\x10\x00OW\x00\x00"), uint32(n))
	return string(head) + strings.Repeat("\x5a", n)
}

// attributes of a small CT image, which tests take apart.
var (
	sopClass    = element(dicom.TagSOPClassUID, "UI", string(dicom.CTImageStorage))
	sopInstance = element(dicom.TagSOPInstanceUID, "UI", string(instance))
	name        = element(0x0010_0010, "PN", "DOE^JANE") + element(0x0010_0020, "LO", "MRN-4711")
	studyUID    = element(dicom.TagStudyInstanceUID, "UI", string(study))
	seriesUID   = element(dicom.TagSeriesInstanceUID, "UI", string(series))
	image       = sopClass + sopInstance + name + studyUID + seriesUID + pixels(1000)
)

// imageOf returns a CT image of its own UIDs.
func imageOf(instance, study dicom.UID) string {
	return sopClass + element(dicom.TagSOPInstanceUID, "UI", string(instance)) + name +
		element(dicom.TagStudyInstanceUID, "UI", string(study)) + seriesUID + pixels(1000)
}

// request announces the image.
var request = dimse.CStoreRQ{
	SOPClassUID:    dicom.CTImageStorage,
	SOPInstanceUID: instance,
	TransferSyntax: syntax(dicom.ExplicitVRLittleEndian),
}

// site is a receiver with its spool and, once asked for, a server before it.
type site struct {
	*receive.Receiver
	dir    string
	log    *dimsetest.Output
	closed chan error // an association closed, as observed
}

func newSite(t *testing.T, hook func(step string)) *site {
	t.Helper()
	s := &site{dir: filepath.Join(t.TempDir(), "spool"), log: new(dimsetest.Output), closed: make(chan error, 100)}
	logger := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	sp, err := spool.Open(t.Context(), spool.Options{Dir: s.dir, Destinations: []string{"pacs"}, Log: logger, Hook: hook})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	s.Receiver = &receive.Receiver{Spool: sp, Log: logger}
	return s
}

// AssociationClosed passes on to the receiver, then tells the test.
func (s *site) AssociationClosed(a *dimse.Association, err error) {
	s.Receiver.AssociationClosed(a, err)
	s.closed <- err
}

func (s *site) awaitClosed(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.closed:
		return err
	case <-time.After(dimsetest.Timeout):
		t.Fatal("no association closed")
		return nil
	}
}

// serve runs a real server before the receiver and returns its address.
func (s *site) serve(t *testing.T) string {
	t.Helper()
	return dimsetest.NewServer(t, s, func(server *dimse.Server) {
		server.Admit = s.Admit
		server.Log = s.Log
	}).Addr
}

// dial opens an association for CT images in the given transfer syntaxes.
func dial(t *testing.T, addr string, syntaxes ...dicom.UID) (*dimse.Association, error) {
	t.Helper()
	d := dimse.Dialer{CallingAETitle: "CT01", CalledAETitle: dimsetest.AETitle}
	for _, ts := range syntaxes {
		d.Contexts = append(d.Contexts, dimse.ProposedContext{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{ts}})
	}
	if len(syntaxes) == 0 {
		d.Contexts = []dimse.ProposedContext{{AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}}}
	}
	a, err := d.Dial(t.Context(), addr)
	if err == nil {
		t.Cleanup(func() { _ = a.Abort() })
	}
	return a, err
}

func mustDial(t *testing.T, addr string) *dimse.Association {
	t.Helper()
	a, err := dial(t, addr, dicom.ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// store hands a data set to the receiver without a network.
func (s *site) store(t *testing.T, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	t.Helper()
	return s.Store(t.Context(), new(dimse.Association), rq, data)
}

// files lists what is below a folder of the spool.
func (s *site) files(t *testing.T, folder string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(s.dir, folder), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// stored returns the data sets that the spool holds, by SOP Instance UID.
func (s *site) stored(t *testing.T) map[dicom.UID]string {
	t.Helper()
	pending, err := s.Spool.PendingSlices(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[dicom.UID]string)
	for _, i := range pending {
		d, err := s.Spool.OpenDataSet(t.Context(), i.ID)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(d)
		if err := errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
		all[i.SOPInstanceUID] = string(b)
	}
	return all
}

// nothingStays checks that no trace of an object is left.
func (s *site) nothingStays(t *testing.T) {
	t.Helper()
	if all := s.stored(t); len(all) != 0 {
		t.Errorf("%d objects in the ledger", len(all))
	}
	for _, folder := range []string{"incoming", "instances", "quarantine"} {
		if left := s.files(t, folder); len(left) != 0 {
			t.Errorf("left in %s: %v", folder, left)
		}
	}
}

func TestPromise1_SuccessComesAfterTheLastStep(t *testing.T) {
	var mu sync.Mutex
	var steps []string
	s := newSite(t, func(step string) {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, step)
	})
	if result := s.store(t, request, strings.NewReader(image)); result.Status != dimse.StatusSuccess {
		t.Fatalf("status %v: %s", result.Status, result.ErrorComment)
	}
	mu.Lock()
	defer mu.Unlock()
	from := 0
	for _, step := range []string{
		spool.StepCreated, spool.StepWritten, spool.StepFileSynced, spool.StepRenamed, spool.StepDirectorySynced, spool.StepIndexed,
	} {
		at := slices.Index(steps[from:], step)
		if at < 0 {
			t.Fatalf("%q did not happen before success, or too early: %q", step, steps)
		}
		from += at + 1
	}
}

// The scanner hears nothing while the index row is not there.
func TestPromise1_NoAnswerBeforeCommit(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	s := newSite(t, func(step string) {
		if step == spool.StepDirectorySynced { // the file is in place, its row is not
			close(reached)
			<-goOn
		}
	})
	a := mustDial(t, s.serve(t))
	answered := make(chan dimse.Result, 1)
	go func() {
		result, err := a.Store(context.WithoutCancel(t.Context()), request, strings.NewReader(image))
		if err != nil {
			result.ErrorComment = err.Error()
		}
		answered <- result
	}()
	select {
	case <-reached:
	case <-time.After(dimsetest.Timeout):
		t.Fatal("the commit never came to this step")
	}
	select {
	case result := <-answered:
		t.Errorf("answered %v before the row was written", result.Status)
	default:
	}
	close(goOn)
	if result := <-answered; result.Status != dimse.StatusSuccess {
		t.Errorf("status %v: %s", result.Status, result.ErrorComment)
	}
	if got := s.stored(t)[instance]; got != image {
		t.Errorf("stored %d bytes of %d", len(got), len(image))
	}
}

// A failure of ours at any point is told as one, and the object can come again.
func TestPromise1_FailureIsNeverSuccess(t *testing.T) {
	t.Run("the spool is closed", func(t *testing.T) {
		s := newSite(t, nil)
		if err := s.Spool.Close(); err != nil {
			t.Fatal(err)
		}
		if result := s.store(t, request, strings.NewReader(image)); result.Status != dimse.StatusProcessingFailure {
			t.Errorf("status %v", result.Status)
		}
	})
	t.Run("the spool closes while the object arrives", func(t *testing.T) {
		s := newSite(t, nil)
		data := io.MultiReader(strings.NewReader(image[:500]), readerFunc(func([]byte) (int, error) {
			return 0, errors.Join(s.Spool.Close(), io.EOF)
		}))
		result := s.store(t, request, data)
		if result.Status != dimse.StatusProcessingFailure {
			t.Errorf("status %v", result.Status)
		}
	})
	t.Run("the folder is gone", func(t *testing.T) {
		s := newSite(t, nil)
		incoming := filepath.Join(s.dir, "incoming")
		if err := os.Remove(incoming); err != nil {
			t.Fatal(err)
		}
		result := s.store(t, request, strings.NewReader(image))
		if result.Status != dimse.StatusProcessingFailure || result.ErrorComment == "" {
			t.Errorf("status %v, comment %q", result.Status, result.ErrorComment)
		}
		if err := os.Mkdir(incoming, 0o700); err != nil {
			t.Fatal(err)
		}
		s.nothingStays(t)
		if result := s.store(t, request, strings.NewReader(image)); result.Status != dimse.StatusSuccess {
			t.Errorf("sent again: status %v", result.Status)
		}
	})
	t.Run("the disk cannot be measured", func(t *testing.T) {
		s := newSite(t, nil)
		s.Disk = func() (spool.Disk, error) { return spool.Disk{}, errors.New("stale mount") }
		if result := s.store(t, request, strings.NewReader(image)); result.Status != dimse.StatusProcessingFailure {
			t.Errorf("status %v", result.Status)
		}
		s.nothingStays(t)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestPromise1_DuplicateSucceeds(t *testing.T) {
	s := newSite(t, nil)
	other := strings.Replace(image, "\x5a\x5a", "\x00\x00", 1)
	for i, data := range []string{image, image, other} {
		if result := s.store(t, request, strings.NewReader(data)); result.Status != dimse.StatusSuccess {
			t.Errorf("sending %d: status %v", i+1, result.Status)
		}
	}
	if n := len(s.files(t, "instances")); n != 2 {
		t.Errorf("%d files for two different data sets", n)
	}
}

func TestPromise2_StoredByteForByte(t *testing.T) {
	objects := map[string]struct {
		ts   dicom.UID
		data string
	}{
		// Nothing of this survives a parser that writes back what it has read:
		// odd padding, private and empty elements, a sequence of undefined
		// length, bytes behind the pixels.
		"odd": {dicom.ExplicitVRLittleEndian, sopClass + sopInstance +
			"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + "\xfe\xff\x00\xe0\xff\xff\xff\xff" + "\xfe\xff\x0d\xe0\x00\x00\x00\x00" + "\xfe\xff\xdd\xe0\x00\x00\x00\x00" +
			"\x09\x00\x10\x00LO\x04\x00\x00\x00\x00\x00" + name + studyUID + seriesUID + pixels(1001) + "\xfc\xff\xfc\xffOB\x00\x00\x03\x00\x00\x00abc"},
		"no pixels":           {dicom.ExplicitVRLittleEndian, sopClass + sopInstance + studyUID + seriesUID},
		"larger than buffers": {dicom.ExplicitVRLittleEndian, sopClass + sopInstance + studyUID + seriesUID + pixels(3<<20)},
	}
	for what, o := range objects {
		t.Run(what, func(t *testing.T) {
			s := newSite(t, nil)
			a := mustDial(t, s.serve(t))
			result, err := a.Store(t.Context(), request, iotest.HalfReader(strings.NewReader(o.data)))
			if err != nil || result.Status != dimse.StatusSuccess {
				t.Fatalf("status %v %q, %v", result.Status, result.ErrorComment, err)
			}
			if got := s.stored(t)[instance]; got != o.data {
				t.Errorf("%d bytes arrived, %d are stored, and they differ", len(o.data), len(got))
			}
		})
	}
}

// Every real file in every transfer syntax comes through as it is.
func TestPromise2_SamplesByteForByte(t *testing.T) {
	paths, err := filepath.Glob("../../../shared/data/dicom/*/*.dcm")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skip("no real files in ../shared/data/dicom")
	}
	s := newSite(t, nil)
	addr := s.serve(t)
	want := make(map[string]int) // data sets, by how often they were sent
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, n, err := dicom.ReadFileMeta(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		a, err := (&dimse.Dialer{CallingAETitle: "CT01", CalledAETitle: dimsetest.AETitle, Contexts: []dimse.ProposedContext{
			{AbstractSyntax: m.SOPClassUID, TransferSyntaxes: []dicom.UID{m.TransferSyntaxUID}},
		}}).Dial(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		dataSet := b[n:]
		if len(dataSet)%2 != 0 { // a deflate stream in a file; messages are even (PS3.5 Section A.5)
			dataSet = append(dataSet, 0)
		}
		rq := dimse.CStoreRQ{SOPClassUID: m.SOPClassUID, SOPInstanceUID: m.SOPInstanceUID, TransferSyntax: syntax(m.TransferSyntaxUID)}
		result, err := a.Store(t.Context(), rq, bytes.NewReader(dataSet))
		if err != nil || result.Status != dimse.StatusSuccess {
			t.Errorf("%s: status %v %q, %v", filepath.Base(path), result.Status, result.ErrorComment, err)
			continue
		}
		if err := a.Release(t.Context()); err != nil {
			t.Error(err)
		}
		want[string(dataSet)]++
	}
	for _, path := range s.files(t, "instances") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, n, err := dicom.ReadFileMeta(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if want[string(b[n:])] == 0 {
			t.Errorf("%s holds %d bytes that were not sent", filepath.Base(path), len(b)-int(n))
		}
		delete(want, string(b[n:]))
	}
	for data := range want {
		t.Errorf("a data set of %d bytes that was sent is not stored", len(data))
	}
}

func TestStoreRefuses(t *testing.T) {
	s := newSite(t, nil)
	otherInstance := element(dicom.TagSOPInstanceUID, "UI", "1.2.9")
	for _, tc := range []struct {
		name, data string
		status     dimse.Status
		comment    string
	}{
		{"another SOP class", strings.Replace(image, string(dicom.CTImageStorage), "1.2.840.10008.5.1.4.1.1.4", 1), dimse.StatusDataSetMismatch, "SOP Class UID differs between command and data set"},
		{"another SOP instance", sopClass + otherInstance + studyUID + seriesUID + pixels(10), dimse.StatusDataSetMismatch, "SOP Instance UID differs between command and data set"},
		{"no SOP class", sopInstance + studyUID + seriesUID, dimse.StatusCannotUnderstand, "data set has no SOP Class UID"},
		{"no SOP instance", sopClass + studyUID + seriesUID, dimse.StatusCannotUnderstand, "data set has no SOP Instance UID"},
		{"no study", sopClass + sopInstance + seriesUID + pixels(10), dimse.StatusCannotUnderstand, "data set has no Study Instance UID"},
		{"no series", sopClass + sopInstance + studyUID + pixels(10), dimse.StatusCannotUnderstand, "data set has no Series Instance UID"},
		{"an empty study", sopClass + sopInstance + element(dicom.TagStudyInstanceUID, "UI", "") + seriesUID, dimse.StatusCannotUnderstand, "data set has no Study Instance UID"},
		{"a study of words", sopClass + sopInstance + element(dicom.TagStudyInstanceUID, "UI", "DOE^JANE") + seriesUID, dimse.StatusCannotUnderstand, "Study Instance UID of the data set is no UID"},
		{"empty", "", dimse.StatusCannotUnderstand, "data set has no SOP Class UID"},
		{"noise", strings.Repeat("\xa5\x17", 5000), dimse.StatusCannotUnderstand, "data set malformed before its SOP Class UID"},
		{"cut before the study", image[:len(sopClass+sopInstance)+3], dimse.StatusCannotUnderstand, "data set malformed before its Study Instance UID"},
		{"malformed before the series", sopClass + sopInstance + studyUID + "\x20\x00\x0e\x00OB\x00\x00\xfe\xff\xff\xff", dimse.StatusCannotUnderstand, "data set malformed before its Series Instance UID"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			result := s.store(t, request, strings.NewReader(tc.data))
			if result.Status != tc.status || result.ErrorComment != tc.comment {
				t.Errorf("status %v, comment %q", result.Status, result.ErrorComment)
			}
			if len(result.ErrorComment) > 64 {
				t.Errorf("comment of %d characters", len(result.ErrorComment))
			}
			s.nothingStays(t)
		})
	}
	t.Run("an announced UID that is none", func(t *testing.T) {
		rq := request
		rq.SOPInstanceUID = "../../etc"
		if result := s.store(t, rq, strings.NewReader(image)); result.Status != dimse.StatusCannotUnderstand || len(result.ErrorComment) > 64 {
			t.Errorf("status %v, comment %q", result.Status, result.ErrorComment)
		}
		s.nothingStays(t)
	})
}

// What is malformed only behind its UIDs is kept: the PACS decides for itself,
// and triage finds the same fault in the stored file.
func TestStoreKeepsWhatIsMalformedLater(t *testing.T) {
	s := newSite(t, nil)
	data := sopClass + sopInstance + name + studyUID + seriesUID + "\x28\x00\x10\x00OB\x00\x00\xfe\xff\xff\xff" + strings.Repeat("x", 100_000)
	if result := s.store(t, request, strings.NewReader(data)); result.Status != dimse.StatusSuccess {
		t.Fatalf("status %v: %s", result.Status, result.ErrorComment)
	}
	got := s.stored(t)[instance]
	if got != data {
		t.Errorf("%d bytes stored of %d", len(got), len(data))
	}
	if _, err := dicom.Scan(strings.NewReader(got), request.TransferSyntax, dicom.ScanOptions{}); !errors.Is(err, dicom.ErrMalformed) {
		t.Errorf("the stored object scans with %v", err)
	}
	if !strings.Contains(s.log.String(), "malformed behind its UIDs") {
		t.Error("the log does not say so")
	}
}

// An association that dies in mid-object leaves nothing of it, and what it had
// brought before stays.
func TestPromise1_BrokenOffObjectLeavesNothing(t *testing.T) {
	for name, sent := range map[string]int{"in the header": 20, "in the pixels": len(image) - 100} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			addr := s.serve(t)
			a := mustDial(t, addr)
			first := request
			first.SOPInstanceUID = "1.2.3.4.1"
			if result, err := a.Store(t.Context(), first, strings.NewReader(imageOf("1.2.3.4.1", study))); err != nil || result.Status != dimse.StatusSuccess {
				t.Fatalf("status %v, %v", result.Status, err)
			}
			gone := errors.New("gantry unplugged")
			_, err := a.Store(t.Context(), request, io.MultiReader(strings.NewReader(image[:sent]), iotest.ErrReader(gone)))
			if !errors.Is(err, gone) {
				t.Fatalf("the sender's error is %v", err)
			}
			if err := s.awaitClosed(t); err == nil {
				t.Error("the association closed in order")
			}
			if all := s.stored(t); len(all) != 1 || all["1.2.3.4.1"] == "" {
				t.Errorf("%d objects stored", len(all))
			}
			if left := s.files(t, "incoming"); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			// The same object comes again, on a new association.
			if result, err := mustDial(t, addr).Store(t.Context(), request, strings.NewReader(image)); err != nil || result.Status != dimse.StatusSuccess {
				t.Errorf("sent again: status %v, %v", result.Status, err)
			}
		})
	}
}

// Hostile objects cost at most their association; the next one finds everything
// in order.
func TestPromise6_HostileObjects(t *testing.T) {
	head := sopClass + sopInstance
	nested := strings.Repeat("\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff", 100_000)
	s := newSite(t, nil)
	addr := s.serve(t)
	for name, data := range map[string]string{
		"100,000 nested sequences":  head + nested,
		"a value of 4 GiB":          head + "\x09\x00\x01\x10OB\x00\x00\xfe\xff\xff\xff" + name,
		"a header of 20 MiB":        head + "\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + strings.Repeat("\xfe\xff\x00\xe0\x00\x00\x00\x00", 20<<17),
		"two study UIDs":            head + studyUID + studyUID + seriesUID,
		"a command as its data set": "\x00\x00\x00\x00UL\x04\x00\x00\x00\x00\x00",
	} {
		a := mustDial(t, addr)
		result, err := a.Store(t.Context(), request, strings.NewReader(data))
		if err != nil || result.Status != dimse.StatusCannotUnderstand {
			t.Errorf("%s: status %v, %v", name, result.Status, err)
		}
		// Even this association goes on.
		again, err := a.Store(t.Context(), request, strings.NewReader(image))
		if err != nil || again.Status != dimse.StatusSuccess {
			t.Errorf("after %s: status %v, %v", name, again.Status, err)
		}
	}
	if all := s.stored(t); len(all) != 1 {
		t.Errorf("%d objects stored", len(all))
	}
}

// No identity gets into a log, an answer or a file name, whichever way an object
// goes.
func TestPromise7_NoIdentityInLogsAnswersNames(t *testing.T) {
	s := newSite(t, nil)
	addr := s.serve(t)
	a := mustDial(t, addr)
	for what, data := range map[string]string{
		"stored":           image,
		"malformed later":  strings.TrimSuffix(image, pixels(1000)) + "\x28\x00\x10\x00OB\x00\x00\xfe\xff\xff\xff",
		"mismatch":         strings.Replace(image, string(dicom.CTImageStorage), "1.2.840.10008.5.1.4.1.1.4", 1),
		"name as a UID":    sopClass + sopInstance + name + element(dicom.TagStudyInstanceUID, "UI", "DOE^JANE") + seriesUID,
		"name as VR":       sopClass + sopInstance + "\x10\x00\x10\x00DO\x00\x00JANE" + "DOE^JANE",
		"name out of turn": sopClass + sopInstance + studyUID + name,
	} {
		result, err := a.Store(t.Context(), request, strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(result.ErrorComment, "DOE") || strings.Contains(result.ErrorComment, "JANE") {
			t.Errorf("%s: comment %q", what, result.ErrorComment)
		}
	}
	_, err := a.Store(t.Context(), request, io.MultiReader(strings.NewReader(image[:300]), iotest.ErrReader(errors.New("cable"))))
	if err == nil {
		t.Fatal("a broken reader stores")
	}
	s.awaitClosed(t)

	logged := s.log.String()
	for _, expected := range []string{"object stored", "object refused", "malformed behind its UIDs", "objects received", s.Spool.Pseudonym(study)} {
		if !strings.Contains(logged, expected) {
			t.Errorf("the log lacks %q:\n%s", expected, logged)
		}
	}
	for _, secret := range []string{"DOE", "JANE", "4711", fmt.Sprintf("%q", string(study)), string(instance)} {
		if strings.Contains(logged, secret) {
			t.Errorf("the log has %q:\n%s", secret, logged)
		}
	}
	for _, path := range s.files(t, ".") {
		for _, secret := range []string{"DOE", "JANE", "4711", string(study)} {
			if strings.Contains(filepath.Base(path), secret) {
				t.Errorf("file %s is named after %q", path, secret)
			}
		}
	}
}
