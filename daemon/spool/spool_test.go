package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ichwatch/dimse/dicom"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		crashingChild() // does not return
	}
	flag.Parse()
	if !slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-rapid.checks") }) {
		_ = flag.Set("rapid.checks", "15") // each check restarts the spool many times
	}
	goleak.VerifyTestMain(m)
}

// slice is a data set to send: a CT image in explicit VR little endian.
type slice struct {
	study, series, sop dicom.UID
	pixels             []byte
}

func (c slice) meta() dicom.FileMeta {
	return dicom.FileMeta{
		SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: c.sop,
		TransferSyntaxUID: dicom.ExplicitVRLittleEndian, SourceAETitle: "SCANNER",
	}
}

// dataSet encodes the slice by hand (PS3.5 section 7.1.2).
func (c slice) dataSet() []byte {
	var b bytes.Buffer
	ui := func(group, element uint16, uid dicom.UID) {
		value := []byte(uid)
		if len(value)%2 == 1 {
			value = append(value, 0)
		}
		b.Write(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, group), element))
		b.WriteString("UI")
		b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(value))))
		b.Write(value)
	}
	ui(0x0008, 0x0016, dicom.CTImageStorage)
	ui(0x0008, 0x0018, c.sop)
	if c.study != "" {
		ui(0x0020, 0x000D, c.study)
		ui(0x0020, 0x000E, c.series)
	}
	b.Write([]byte{0xE0, 0x7F, 0x10, 0x00, 'O', 'W', 0, 0})
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(c.pixels))))
	b.Write(c.pixels)
	return b.Bytes()
}

func (c slice) sum() [32]byte { return sha256.Sum256(c.dataSet()) }

// newSlice makes a slice of a study, told from its siblings by n.
func newSlice(study dicom.UID, n byte) slice {
	return slice{study, study + ".1", study + ".1." + dicom.UID(strconv.Itoa(int(n)+1)), bytes.Repeat([]byte{n, 0}, 512)}
}

// send stores a slice as package receive does.
func send(t testing.TB, s *Spool, c slice) (Instance, Duplicate) {
	t.Helper()
	i, d, err := trySend(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return i, d
}

func trySend(s *Spool, c slice) (Instance, Duplicate, error) {
	in, err := s.Create(c.meta())
	if err != nil {
		return Instance{}, 0, err
	}
	defer in.Discard()
	data := c.dataSet()
	syntax, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
	h, err := dicom.ScanBytes(data, syntax, dicom.ScanOptions{Want: Describes})
	if err != nil {
		return Instance{}, 0, err
	}
	for chunk := range chunks(data, 700) {
		if _, err := in.Write(chunk); err != nil {
			return Instance{}, 0, err
		}
	}
	return in.Commit(context.Background(), h)
}

func chunks(b []byte, n int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			k := min(n, len(b))
			if !yield(b[:k]) {
				return
			}
			b = b[k:]
		}
	}
}

// read returns the data set of an instance as package forward sees it.
func read(t testing.TB, s *Spool, id int64) []byte {
	t.Helper()
	d, err := s.OpenDataSet(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	data, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// clock is a time that a test moves.
type clock struct{ at time.Time }

func newClock() *clock                        { return &clock{time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)} }
func (c *clock) now() time.Time               { return c.at }
func (c *clock) advance(d time.Duration)      { c.at = c.at.Add(d) }
func (c *clock) in(d time.Duration) time.Time { return c.at.Add(d) }

func open(t testing.TB, o Options) *Spool {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "spool")
	}
	if o.Destinations == nil {
		o.Destinations = []string{"pacs"}
	}
	if o.Device == "" {
		o.Device = "ct1"
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// reopen closes a spool and opens its directory again.
func reopen(t testing.TB, s *Spool, o Options) *Spool {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o.Dir = s.dir
	return open(t, o)
}

func TestStoreAndReadBack(t *testing.T) {
	var logged bytes.Buffer
	s := open(t, Options{Destinations: []string{"pacs", "archive"}, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	c := newSlice("1.2.3", 1)
	i, d := send(t, s, c)
	if d != DuplicateNo {
		t.Errorf("duplicate = %v", d)
	}
	if i.StudyInstanceUID != c.study || i.SeriesInstanceUID != c.series || i.SOPInstanceUID != c.sop ||
		i.CallingAETitle != "SCANNER" || i.SHA256 != c.sum() || i.Size != int64(len(c.dataSet())) {
		t.Errorf("instance = %+v", i)
	}
	if got := read(t, s, i.ID); !bytes.Equal(got, c.dataSet()) {
		t.Errorf("the data set came back as %d other bytes", len(got))
	}
	for _, destination := range []string{"pacs", "archive"} {
		legs, err := s.DueLegs(t.Context(), destination, time.Now(), 10)
		if err != nil || len(legs) != 1 || legs[0].Instance != i {
			t.Errorf("legs to %s = %+v, %v", destination, legs, err)
		}
		select {
		case <-s.LegsAdded(destination):
		default:
			t.Errorf("nobody at %s was woken", destination)
		}
	}
	pending, err := s.PendingSlices(t.Context(), 10)
	if err != nil || len(pending) != 1 || pending[0] != i {
		t.Errorf("pending slices = %+v, %v", pending, err)
	}
	select {
	case <-s.SlicesAdded():
	default:
		t.Error("triage was not woken")
	}
	if strings.Contains(logged.String(), string(c.study)) {
		t.Errorf("the log names the study:\n%s", &logged)
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2.3", 1))
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	s := open(t, Options{})
	if _, err := Open(t.Context(), Options{Dir: s.dir}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second Open: %v, want ErrLocked", err)
	}
	again := reopen(t, s, Options{})
	if s.Boot() != 1 || again.Boot() != 2 {
		t.Errorf("boots counted %d and %d", s.Boot(), again.Boot())
	}
	if a, b := s.Pseudonym("1.2.3"), again.Pseudonym("1.2.3"); a != b || len(a) != 12 || a == s.Pseudonym("1.2.4") {
		t.Errorf("pseudonyms %q and %q", a, b)
	}
}

func TestLaterSchemaIsRefused(t *testing.T) {
	s := open(t, Options{})
	if _, err := s.ledger.writers[durable].conn.ExecContext(t.Context(), "PRAGMA user_version = 999"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(t.Context(), Options{Dir: s.dir}); !errors.Is(err, ErrNewerSchema) {
		t.Fatalf("Open: %v, want ErrNewerSchema", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, ledgerName)); err != nil {
		t.Errorf("the later ledger was moved: %v", err)
	}
}

func TestDiscardLeavesNothing(t *testing.T) {
	s := open(t, Options{})
	in, err := s.Create(newSlice("1.2.3", 1).meta())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("half an obj")); err != nil {
		t.Fatal(err)
	}
	in.Discard()
	in.Discard()
	if left, err := os.ReadDir(filepath.Join(s.dir, incomingDir)); err != nil || len(left) != 0 {
		t.Errorf("left in incoming: %v, %v", left, err)
	}
	if _, _, err := in.Commit(t.Context(), nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Commit after Discard: %v", err)
	}
}

func TestObjectWithoutStudyStandsAlone(t *testing.T) {
	s := open(t, Options{})
	i, _ := send(t, s, slice{sop: "1.2.9", pixels: []byte{1, 2}})
	if i.StudyInstanceUID != "1.2.9" {
		t.Errorf("study = %q", i.StudyInstanceUID)
	}
	if study, err := s.Study(t.Context(), "1.2.9"); err != nil || study.Instances != 1 {
		t.Errorf("study = %+v, %v", study, err)
	}
}

func TestUnknownRowsAreTold(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	_, noStudy := s.Study(ctx, "1.9")
	_, noInstance := s.OpenDataSet(ctx, 7)
	_, noDecision := s.Decide(ctx, positive("1.9", 1, "1.9.1"))
	for _, c := range []struct{ got, want error }{
		{noStudy, ErrUnknownStudy},
		{noInstance, ErrUnknownInstance},
		{noDecision, ErrUnknownStudy},
		{s.LegDone(ctx, 7, 0, time.Now()), ErrUnknownLeg},
		{s.LegFailed(ctx, 7, 0, "", time.Now()), ErrUnknownLeg},
		{s.LegParked(ctx, 7, 0, ""), ErrUnknownLeg},
		{s.MessageDelivered(ctx, 7, time.Now()), ErrUnknownMessage},
		{s.MessageFailed(ctx, 7, "", time.Now()), ErrUnknownMessage},
		{s.RecordFinding(ctx, Finding{InstanceID: 7, State: FindingClassified}), ErrUnknownInstance},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
}

func TestClosedSpoolSaysSo(t *testing.T) {
	s := open(t, Options{})
	i, _ := send(t, s, newSlice("1.2.3", 9))
	must(t, s.LegDone(t.Context(), legOf(t, s, i), 0, time.Now()))
	in, err := s.Create(newSlice("1.2.3", 1).meta())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, _, err := in.Commit(t.Context(), nil); err == nil {
		t.Error("a commit into a closed spool succeeded")
	}
	if err := s.LegDone(t.Context(), 1, 0, time.Now()); !errors.Is(err, ErrClosed) {
		t.Errorf("LegDone: %v, want ErrClosed", err)
	}
}
