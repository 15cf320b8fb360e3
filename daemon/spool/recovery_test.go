package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"ichwatch/dimse/dicom"
)

// damage changes a closed spool's directory and opens it again.
func damage(t *testing.T, s *Spool, do func(dir string)) *Spool {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	do(s.dir)
	return open(t, Options{Dir: s.dir})
}

func pathOf(t *testing.T, s *Spool, i Instance) string {
	t.Helper()
	name, err := ulid.ParseStrict(i.name)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(s.dir, instancePath(name))
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func recovered(s *Spool) Recovery {
	r := s.Recovery()
	r.Elapsed, r.Flush = 0, 0
	return r
}

func kinds(t *testing.T, s *Spool) (kinds []EventKind) {
	t.Helper()
	events, err := s.Events(t.Context(), time.Time{}, 1000)
	must(t, err)
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func TestRecoveryOfAnOrderlySpool(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	s = damage(t, s, func(string) {})
	if diff := cmp.Diff(Recovery{Instances: 1}, recovered(s)); diff != "" {
		t.Error(diff)
	}
	select {
	case <-s.LegsAdded("pacs"):
	default:
		t.Error("forwarding is not told of what is left from before")
	}
}

func TestRecoveryMovesPartialFiles(t *testing.T) {
	s := open(t, Options{})
	in, err := s.Create(newSlice("1.2", 1).meta())
	must(t, err)
	_, err = in.Write([]byte("the first half"))
	must(t, err)
	must(t, in.file.Close()) // as the end of the process does
	s = damage(t, s, func(string) {})
	if diff := cmp.Diff(Recovery{Partial: 1}, recovered(s)); diff != "" {
		t.Error(diff)
	}
	kept, err := filepath.Glob(filepath.Join(s.dir, quarantineDir, "*"+in.name.String()+incomingSuffix))
	must(t, err)
	if len(kept) != 1 {
		t.Fatalf("in quarantine: %v", kept)
	}
	if content, err := os.ReadFile(kept[0]); err != nil || !bytes.HasSuffix(content, []byte("the first half")) {
		t.Errorf("its content is not what it was: %v", err)
	}
}

func TestRecoveryRebuildsTheLedger(t *testing.T) {
	for name, ruin := range map[string]func(t *testing.T, dir string){
		"overwritten": ruinLedger,
		"missing": func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, ledgerName)))
		},
		"missing but for its log": func(t *testing.T, dir string) {
			must(t, os.Rename(filepath.Join(dir, ledgerName), filepath.Join(dir, ledgerName+"-wal")))
		},
		"damaged within": func(t *testing.T, dir string) {
			content, err := os.ReadFile(filepath.Join(dir, ledgerName))
			must(t, err)
			copy(content[4096:], bytes.Repeat([]byte{0xA5}, len(content)-4096))
			must(t, os.WriteFile(filepath.Join(dir, ledgerName), content, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{Destinations: []string{"pacs"}})
			var sent []Instance
			for n := range 5 {
				i, _ := send(t, s, newSlice("1.2", byte(n)))
				sent = append(sent, i)
			}
			s = damage(t, s, func(dir string) { ruin(t, dir) })
			if diff := cmp.Diff(Recovery{Instances: 5, Adopted: 5, LedgerRebuilt: true}, recovered(s)); diff != "" {
				t.Error(diff)
			}
			pending, err := s.PendingSlices(t.Context(), 10)
			must(t, err)
			legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
			must(t, err)
			if len(pending) != 5 || len(legs) != 5 {
				t.Fatalf("%d slices and %d legs are pending, want 5", len(pending), len(legs))
			}
			for n, before := range sent {
				after := pending[n]
				if d := after.ReceivedAt.Sub(before.ReceivedAt); d < -time.Second || d > time.Second {
					t.Errorf("received at %v, was %v", after.ReceivedAt, before.ReceivedAt)
				}
				after.ID, after.ReceivedAt, before.ID, before.ReceivedAt = 0, time.Time{}, 0, time.Time{}
				if after != before {
					t.Errorf("adopted as %+v, was %+v", after, before)
				}
			}
			set, err := filepath.Glob(filepath.Join(s.dir, quarantineDir, "*"+ledgerName+"*"))
			must(t, err)
			if name != "missing" && len(set) == 0 {
				t.Error("the old ledger was not kept")
			}
		})
	}
}

func TestRecoveryRecordsMissingFiles(t *testing.T) {
	s := open(t, Options{})
	c := newSlice("1.2", 1)
	gone, _ := send(t, s, c)
	cut, _ := send(t, s, newSlice("1.2", 2))
	send(t, s, newSlice("1.2", 3))
	s = damage(t, s, func(string) {
		must(t, os.Remove(pathOf(t, s, gone)))
		must(t, os.Truncate(pathOf(t, s, cut), 700))
	})
	if diff := cmp.Diff(Recovery{Instances: 1, Missing: 2, Quarantined: 1}, recovered(s)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]EventKind{EventMissing, EventMissing, EventQuarantined}, kinds(t, s)); diff != "" {
		t.Error(diff)
	}
	records, err := s.Studies(t.Context(), Filter{})
	must(t, err)
	if r := records[0]; r.Missing != 2 || r.Durable != 1 || r.Balances() {
		t.Errorf("record %+v", r)
	}
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
	must(t, err)
	if len(legs) != 1 {
		t.Errorf("%d legs are due; nothing can be sent of a missing file", len(legs))
	}
	s = damage(t, s, func(string) {})
	if diff := cmp.Diff(Recovery{Instances: 1}, recovered(s)); diff != "" {
		t.Error("a loss is reported by one start only:", diff)
	}

	// The scanner sends it again: the row has its file back.
	again, d := send(t, s, c)
	if d != DuplicateNo || again.ID != gone.ID {
		t.Errorf("sent again: %v, instance %d, was %d", d, again.ID, gone.ID)
	}
	if got := read(t, s, again.ID); !bytes.Equal(got, c.dataSet()) {
		t.Error("other bytes")
	}
}

func TestRecoveryFinishesARemoval(t *testing.T) {
	s := open(t, Options{})
	i, _ := send(t, s, newSlice("1.2", 1))
	must(t, s.write(t.Context(), durable, StepRemoving, func(tx *transaction) error {
		_, err := tx.exec(`UPDATE instances SET state = 'removing'`)
		return err
	}))
	s = damage(t, s, func(string) {})
	if diff := cmp.Diff(Recovery{Removed: 1}, recovered(s)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(pathOf(t, s, i)); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestRecoveryOfASecondCopy(t *testing.T) {
	s := open(t, Options{})
	i, _ := send(t, s, newSlice("1.2", 1))
	s = damage(t, s, func(string) {
		content, err := os.ReadFile(pathOf(t, s, i))
		must(t, err)
		copied := i
		copied.name = ulid.MustParse("01JNA5Q7V0000000000000000A").String()
		must(t, os.WriteFile(pathOf(t, s, copied), content, 0o600))
	})
	if diff := cmp.Diff(Recovery{Instances: 1, Quarantined: 1}, recovered(s)); diff != "" {
		t.Error(diff)
	}
}

// hostile are things that do not belong into instances/.
func hostile(t testing.TB, dir string) int {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, instancesDir, name) }
	must(t, os.WriteFile(at("0a/01JNA5Q7V0000000000000000A.dcm"), []byte("short"), 0o600)) // right name, no Part 10
	must(t, os.WriteFile(at("0b/01JNA5Q7V0000000000000000A.dcm"), []byte("shard"), 0o600)) // wrong shard
	must(t, os.WriteFile(at("0a/DOE^JANE.dcm"), nil, 0o600))
	must(t, os.WriteFile(at("0a/"+strings.Repeat("n", 255)), nil, 0o600))
	must(t, os.WriteFile(at("beside"), nil, 0o600))
	must(t, os.Symlink("/etc/passwd", at("0c/01JNA5Q7V0000000000000000C.dcm")))
	must(t, os.MkdirAll(at("0d/01JNA5Q7V0000000000000000D.dcm/below"), 0o700))
	return 7
}

func TestRecoveryQuarantinesWhatIsNoInstance(t *testing.T) {
	s := open(t, Options{})
	send(t, s, newSlice("1.2", 1))
	var n int
	var logged bytes.Buffer
	must(t, s.Close())
	n = hostile(t, s.dir)
	s = open(t, Options{Dir: s.dir, Log: newLog(&logged)})
	if diff := cmp.Diff(Recovery{Instances: 1, Quarantined: n}, recovered(s)); diff != "" {
		t.Error(diff)
	}
	left, err := os.ReadDir(filepath.Join(s.dir, quarantineDir))
	must(t, err)
	if len(left) != n {
		t.Errorf("%d things in quarantine, want %d", len(left), n)
	}
	if strings.Contains(logged.String(), "DOE") {
		t.Errorf("a name reached the log:\n%s", &logged)
	}
}

// hostileFiles are contents that a file in instances/ may have; the first alone
// is an instance in order.
func hostileFiles(t testing.TB) [][]byte {
	t.Helper()
	var good bytes.Buffer
	c := newSlice("1.2", 9)
	_, err := dicom.WriteFileMeta(&good, c.meta())
	must(t, err)
	good.Write(c.dataSet())
	whole := good.Bytes()
	flipped := bytes.Clone(whole)
	flipped[132+8] ^= 0x80 // the length of group 2
	nameless := bytes.Replace(whole, []byte(c.sop), bytes.Repeat([]byte("^"), len(c.sop)), 1)
	return [][]byte{
		whole, whole[:len(whole)-100], whole[:len(whole)-len(c.dataSet())+4],
		whole[:300], whole[:140],
		{},
		bytes.Repeat([]byte{0xFF}, 1000), flipped, nameless,
	}
}

// TestRecoveryOfHostileFiles: recovery succeeds on each, loses nothing, and
// indexes the file's own bytes or moves the file to quarantine as it is.
func TestRecoveryOfHostileFiles(t *testing.T) {
	s := open(t, Options{})
	kept, _ := send(t, s, newSlice("1.2", 1))
	files := hostileFiles(t)
	s = damage(t, s, func(dir string) {
		for n, content := range files {
			name := ulid.MustParse("01JNA5Q7V0000000000000000A")
			name[len(name)-1] = byte(n)
			must(t, os.WriteFile(filepath.Join(dir, instancePath(name)), content, 0o600))
		}
	})
	r := s.Recovery()
	if r.Adopted == 0 || r.Quarantined == 0 || r.Adopted+r.Quarantined != len(files) || r.Instances != 1+r.Adopted || r.Missing != 0 {
		t.Errorf("recovery %+v", r)
	}
	if got := read(t, s, kept.ID); !bytes.Equal(got, newSlice("1.2", 1).dataSet()) {
		t.Error("the good instance suffered")
	}
	var left [][]byte
	moved, err := filepath.Glob(filepath.Join(s.dir, quarantineDir, "*"))
	must(t, err)
	for _, path := range moved {
		content, err := os.ReadFile(path)
		must(t, err)
		left = append(left, content)
	}
	pending, err := s.PendingSlices(t.Context(), 100)
	must(t, err)
	for _, i := range pending {
		left = append(left, read(t, s, i.ID))
	}
	for n, content := range files {
		if !slices.ContainsFunc(left, func(l []byte) bool { return bytes.HasSuffix(content, l) && (len(l) > 0 || len(content) == 0) }) {
			t.Errorf("nothing is left of file %d", n)
		}
	}
}

// memory is a file layer with one file, for reading.
type memory struct {
	fileSystem
	content []byte
}

type memoryFile struct {
	file
	*bytes.Reader
	info fs.FileInfo
}

func (m memory) Open(string) (file, error) {
	info, err := fs.Stat(fstest.MapFS{"f": {Data: m.content}}, "f")
	return memoryFile{Reader: bytes.NewReader(m.content), info: info}, err
}

func (f memoryFile) Read(p []byte) (int, error)             { return f.Reader.Read(p) }
func (f memoryFile) ReadAt(p []byte, at int64) (int, error) { return f.Reader.ReadAt(p, at) }
func (f memoryFile) Stat() (fs.FileInfo, error)             { return f.info, nil }
func (memoryFile) Close() error                             { return nil }

// FuzzExamine: of any file whatever, recovery makes an instance with valid UIDs
// and exactly the bytes behind the Part 10 header, or says why not.
func FuzzExamine(f *testing.F) {
	for _, content := range hostileFiles(f) {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		s := &Spool{files: memory{content: content}, key: make([]byte, keySize)}
		i, err, unread := s.examine(ulid.MustParse("01JNA5Q7V0000000000000000A"))
		if unread != nil {
			t.Fatal(unread)
		}
		if err != nil {
			if i != (Instance{}) {
				t.Fatalf("an error and %+v", i)
			}
			return
		}
		if err := errors.Join(i.SOPInstanceUID.Valid(), i.SOPClassUID.Valid(), i.TransferSyntaxUID.Valid()); err != nil {
			t.Fatal(err)
		}
		if i.offset < 0 || i.Size < 0 || i.offset+i.Size != int64(len(content)) {
			t.Fatalf("offset %d and size %d of %d bytes", i.offset, i.Size, len(content))
		}
		if i.SHA256 != sha256.Sum256(content[i.offset:]) || i.StudyInstanceUID == "" || i.Study != s.Pseudonym(i.StudyInstanceUID) {
			t.Fatalf("instance %+v", i)
		}
	})
}

func TestRecoveryAdoptsInBatches(t *testing.T) {
	s := open(t, Options{})
	for n := range 300 {
		send(t, s, slice{study: "1.2", series: "1.2.1", sop: dicom.UID(fmt.Sprintf("1.2.1.%d", n+1))})
	}
	s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
	if r := s.Recovery(); r.Adopted != 300 {
		t.Errorf("adopted %d in more than one batch, want 300", r.Adopted)
	}
}

// A file in a private transfer syntax finds its study again: the elements before the pixels are readable all the same.
func TestRecoveryReadsPrivateSyntaxes(t *testing.T) {
	s := open(t, Options{})
	c := newSlice("1.2", 1)
	meta := c.meta()
	meta.TransferSyntaxUID = "1.2.840.113619.5.2"
	in, err := s.Create(meta)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Discard()
	data := c.dataSet()
	h, err := dicom.ScanBytes(data, dicom.PrivateTransferSyntax(meta.TransferSyntaxUID, data), dicom.ScanOptions{Want: Describes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.Commit(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	s = damage(t, s, func(dir string) { ruinLedger(t, dir) })
	records, err := s.Studies(t.Context(), Filter{})
	if err != nil || len(records) != 1 || records[0].StudyInstanceUID != "1.2" {
		t.Errorf("after the ledger was lost: %+v, %v", records, err)
	}
}
