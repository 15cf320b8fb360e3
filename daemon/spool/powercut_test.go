package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// The power-cut test records every operation of the spool on its files, and from each prefix of that log makes the
// directories that a power cut may have left there: POSIX promises of what was written only what was synced, of a name
// only what a sync of its directory followed, and of everything else neither that it is there nor that it is not, in any
// order. The ledger is lost each time, as if nothing of it had been synced: what SQLite keeps on a real file system is
// tried by the daemon's own torture, which cuts the power of a disk.

// operation is one line of the log.
type operation struct {
	kind     string // create, write, sync, rename, remove, syncdir, told
	path, to string
	inode    int
	data     []byte
	told     func(promises) // what the world knows from here on
}

// promises are what must be there after a power cut.
type promises struct {
	acknowledged map[string]slice // by the path of its file
	decided      map[string]int   // alert ids, with their numbers
	answered     map[string]bool  // alert ids
}

func newPromises() promises {
	return promises{map[string]slice{}, map[string]int{}, map[string]bool{}}
}

// recorder is a disk that keeps the log.
type recorder struct {
	*disk
	mu     sync.Mutex
	log    []operation
	inodes map[string]int // by the path at which they are now
	last   int
}

func newRecorder(d *disk) *recorder { return &recorder{disk: d, inodes: map[string]int{}} }

func (r *recorder) note(o operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch o.kind {
	case "create":
		r.last++
		r.inodes[o.path] = r.last
	case "rename":
		r.inodes[o.to] = r.inodes[o.path]
	}
	if o.inode == 0 {
		o.inode = r.inodes[o.path]
	}
	switch o.kind {
	case "rename", "remove":
		delete(r.inodes, o.path)
	}
	r.log = append(r.log, o)
}

type recordedFile struct {
	file
	r     *recorder
	inode int
}

func (r *recorder) record(f file, path string) file {
	r.mu.Lock()
	defer r.mu.Unlock()
	return recordedFile{f, r, r.inodes[path]}
}

func (r *recorder) Create(path string) (file, error) {
	f, err := r.disk.Create(path)
	if err != nil {
		return nil, err
	}
	r.note(operation{kind: "create", path: path})
	return r.record(f, path), nil
}

func (r *recorder) Append(path string) (file, error) {
	f, err := r.disk.Append(path)
	if err != nil {
		return nil, err
	}
	return r.record(f, path), nil
}

func (r *recorder) Rename(from, to string) error {
	err := r.disk.Rename(from, to)
	if err == nil {
		r.note(operation{kind: "rename", path: from, to: to})
	}
	return err
}

func (r *recorder) Remove(path string) error {
	err := r.disk.Remove(path)
	if err == nil {
		r.note(operation{kind: "remove", path: path})
	}
	return err
}

func (r *recorder) SyncDir(path string) error {
	err := r.disk.SyncDir(path)
	if err == nil {
		r.note(operation{kind: "syncdir", path: filepath.Clean(path)})
	}
	return err
}

func (f recordedFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.r.note(operation{kind: "write", inode: f.inode, data: bytes.Clone(p[:n])})
	return n, err
}

func (f recordedFile) Sync() error {
	err := f.file.Sync()
	if err == nil {
		f.r.note(operation{kind: "sync", inode: f.inode})
	}
	return err
}

// platter is what the disk has, and what is on its way there.
type platter struct {
	names   map[string]int // synced ones, by path
	changes []change       // not synced yet, in their order
	synced  map[int][]byte // contents, by inode
	written map[int][]byte // since
	promises
}

// change is an entry of a directory: 0 is its end.
type change struct {
	path  string
	inode int
}

func newPlatter() *platter {
	return &platter{map[string]int{}, nil, map[int][]byte{}, map[int][]byte{}, newPromises()}
}

func (p *platter) do(o operation) {
	switch o.kind {
	case "create":
		p.changes = append(p.changes, change{o.path, o.inode})
	case "write":
		p.written[o.inode] = append(p.written[o.inode], o.data...)
	case "sync":
		p.synced[o.inode] = append(p.synced[o.inode], p.written[o.inode]...)
		delete(p.written, o.inode)
	case "rename":
		p.changes = append(p.changes, change{o.to, o.inode}, change{o.path, 0})
	case "remove":
		p.changes = append(p.changes, change{o.path, 0})
		delete(p.acknowledged, o.path) // it was settled that it may go
	case "syncdir":
		p.changes = slices.DeleteFunc(p.changes, func(c change) bool {
			if filepath.Dir(c.path) != o.path {
				return false
			}
			apply(p.names, c)
			return true
		})
	case "told":
		o.told(p.promises)
	}
}

func apply(names map[string]int, c change) {
	if c.inode == 0 {
		delete(names, c.path)
	} else {
		names[c.path] = c.inode
	}
}

// survivors are the files after a power cut, by path. keeps is asked of each thing that was not synced; lucky is how much
// of unsynced content got through: nothing, a part, a part and then zeros, or all.
func (p *platter) survivors(keeps func() bool, lucky func(n int) (kept, zeros int)) map[string][]byte {
	names := maps.Clone(p.names)
	for _, c := range p.changes {
		if keeps() {
			apply(names, c)
		}
	}
	files := map[string][]byte{}
	for path, inode := range names {
		content := bytes.Clone(p.synced[inode])
		if n := len(p.written[inode]); n > 0 {
			kept, zeros := lucky(n)
			content = append(append(content, p.written[inode][:kept]...), make([]byte, zeros)...)
		}
		files[path] = content
	}
	return files
}

// wreck is a directory that a power cut may leave, and what must be found in it.
type wreck struct {
	files map[string][]byte
	at    int // a place in the log that leads to it
	promises
}

func (w *wreck) key() string {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(w.files)) {
		fmt.Fprintf(h, "%s %d %x\n", path, len(w.files[path]), sha256.Sum256(w.files[path]))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// wrecks are all that the log may leave of a disk: at each of its places with nothing that was not synced, with all of it,
// and with some of it, twice.
func wrecks(log []operation, p *platter, rng *rand.Rand) []*wreck {
	found := map[string]*wreck{}
	for at, o := range log {
		p.do(o)
		if o.kind == "write" && at+1 < len(log) && log[at+1].kind == "write" {
			continue // many writes are as good as one that is torn
		}
		some := func() bool { return rng.IntN(2) == 0 }
		torn := func(n int) (int, int) {
			kept := rng.IntN(n + 1)
			return kept, rng.IntN(2) * rng.IntN(n-kept+1)
		}
		for _, left := range []map[string][]byte{
			p.survivors(func() bool { return false }, func(int) (int, int) { return 0, 0 }),
			p.survivors(func() bool { return true }, func(n int) (int, int) { return n, 0 }),
			p.survivors(some, torn),
			p.survivors(some, torn),
		} {
			w := &wreck{files: left, at: at, promises: newPromises()}
			if same := found[w.key()]; same != nil {
				w = same
			} else {
				found[w.key()] = w
			}
			maps.Copy(w.acknowledged, p.acknowledged)
			maps.Copy(w.decided, p.decided)
			maps.Copy(w.answered, p.answered)
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *wreck) int { return a.at - b.at })
}

// TestPromise1_PowerCutAtEveryOperation: whatever the cut leaves of what was not synced, each instance that was
// acknowledged is there with its bytes and goes to the PACS, and what people were told and have answered is known.
func TestPromise1_PowerCutAtEveryOperation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	must(t, os.MkdirAll(dir, 0o700))
	real, err := openDisk(dir)
	must(t, err)
	r := newRecorder(real)
	s := open(t, Options{Dir: dir, files: r})
	work(t, s, r)
	must(t, s.Close())
	key, err := os.ReadFile(filepath.Join(dir, keyName))
	must(t, err)

	acknowledged := 0
	for _, w := range r.replay(t, newPlatter(), key) {
		acknowledged += len(w.acknowledged)
	}
	if acknowledged == 0 {
		t.Error("nothing was ever acknowledged")
	}
	t.Logf("%d times an acknowledged instance was looked for", acknowledged)
}

// TestPromise5_PowerCutWhileTheJournalIsMadeShorter: at each moment one of the two is there, whole.
func TestPromise5_PowerCutWhileTheJournalIsMadeShorter(t *testing.T) {
	dir, id, seq := chatty(t)
	key, err := os.ReadFile(filepath.Join(dir, keyName))
	must(t, err)
	real, err := openDisk(dir)
	must(t, err)
	r := newRecorder(real)
	p := r.find(t)
	p.decided[id] = seq
	s := open(t, Options{Dir: dir, files: r})
	must(t, s.Close())
	if n := len(journalLines(t, dir)); n != 2 {
		t.Fatalf("the journal has %d lines", n)
	}
	r.replay(t, p, key)
}

// replay checks every wreck that the log leaves of a disk.
func (r *recorder) replay(t *testing.T, p *platter, key []byte) (checked []*wreck) {
	t.Helper()
	for _, w := range wrecks(r.log, p, rand.New(rand.NewPCG(1, 2))) {
		if !t.Run(fmt.Sprintf("operation %d, %s %s", w.at, r.log[w.at].kind, filepath.Dir(r.log[w.at].path)), func(t *testing.T) { w.check(t, key) }) {
			break // the first tells most
		}
		checked = append(checked, w)
	}
	t.Logf("%d operations leave %d directories", len(r.log), len(checked))
	return checked
}

// find is what lies on the disk before anything is recorded, but for what the check makes itself.
func (r *recorder) find(t *testing.T) *platter {
	t.Helper()
	p := newPlatter()
	err := fs.WalkDir(r.root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Dir(path) == "." && path != journalName {
			return err
		}
		r.last++
		r.inodes[path], p.names[path] = r.last, r.last
		p.synced[r.last], err = fs.ReadFile(r.root.FS(), path)
		return err
	})
	must(t, err)
	return p
}

// work is a little of all that the spool does with files, some of it at the same time.
func work(t *testing.T, s *Spool, r *recorder) {
	t.Helper()
	receive := func(c slice) error {
		i, _, err := trySend(s, c)
		if err == nil {
			r.note(operation{kind: "told", told: func(p promises) { p.acknowledged[pathOfInstance(i)] = c }})
		}
		return err
	}
	first := newSlice("1.2", 1)
	must(t, receive(first))
	must(t, receive(first))
	must(t, receive(slice{first.study, first.series, first.sop, []byte("other bytes!")}))
	var several sync.WaitGroup
	for n := range byte(4) {
		several.Go(func() {
			if err := receive(newSlice("1.3", n)); err != nil {
				t.Error(err)
			}
		})
	}
	several.Wait()
	in, err := s.Create(newSlice("1.4", 1).meta())
	must(t, err)
	_, err = in.Write([]byte("the association breaks off"))
	must(t, err)
	in.Discard()

	for _, study := range []dicom.UID{"1.2", "1.3"} {
		v := decide(t, s, early(study, study+".1.2"))
		r.note(operation{kind: "told", told: func(p promises) { p.decided[v.AlertID] = v.Seq }})
	}
	publish(t, s)
	open, err := s.OpenAlerts(t.Context())
	must(t, err)
	must(t, s.Acknowledge(t.Context(), alerts.Acknowledgement{AlertID: open[0].AlertID, By: "on call", At: time.Now(), Via: "page"}))
	r.note(operation{kind: "told", told: func(p promises) { p.answered[open[0].AlertID] = true }})

	pending, err := s.PendingSlices(t.Context(), 100)
	must(t, err)
	for _, i := range pending {
		must(t, s.RecordFinding(t.Context(), Finding{InstanceID: i.ID, State: FindingClassified, Probabilities: []float32{0.5}}))
	}
	quiet, err := s.QuietStudies(t.Context(), time.Now().Add(time.Hour))
	must(t, err)
	for _, study := range quiet {
		decide(t, s, positive(study.StudyInstanceUID, study.Revision, study.StudyInstanceUID+".1.2"))
	}
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 100)
	must(t, err)
	for _, l := range legs[:len(legs)-2] {
		must(t, s.LegDone(t.Context(), l.ID, 0, time.Now()))
	}
	s.AssociationClosed("any", true)
	if n, err := s.Remove(t.Context(), time.Now().Add(time.Hour), Retention{}); err != nil || n.Instances == 0 {
		t.Fatalf("%+v removed, %v", n, err)
	}
	must(t, receive(newSlice("1.5", 1)))
}

func pathOfInstance(i Instance) string { return instancePath(ulid.MustParse(i.name)) }

// inMemory is a directory on no disk, where there is such a thing: hundreds are opened.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ichwatch")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// check opens what is left, and looks for what must be there.
func (w *wreck) check(t *testing.T, key []byte) {
	dir := filepath.Join(inMemory(t), "spool")
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, keyName), key, 0o600)) // made, and synced, before the first instance
	for path, content := range w.files {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, path), content, 0o600))
	}
	s := open(t, Options{Dir: dir})
	defer s.Close()
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 1000)
	must(t, err)
	due := map[[sha256.Size]byte]Instance{}
	for _, l := range legs {
		due[l.Instance.SHA256] = l.Instance
	}
	for path, c := range w.acknowledged {
		i, ok := due[c.sum()]
		if !ok {
			t.Errorf("%s was acknowledged and is not on its way: %s", c.sop, path)
		} else if !bytes.Equal(read(t, s, i.ID), c.dataSet()) {
			t.Errorf("%s came back with other bytes", c.sop)
		}
	}
	records, err := s.Studies(t.Context(), Filter{})
	must(t, err)
	known := map[string]AlertRecord{}
	for _, r := range records {
		for _, a := range r.Alerts {
			known[a.AlertID] = a
		}
	}
	for id, seq := range w.decided {
		if a, ok := known[id]; !ok || a.Last.Seq < seq {
			t.Errorf("alert %s was decided up to number %d; known is %+v", id, seq, a)
		}
	}
	for id := range w.answered {
		if a := known[id]; a.State != alerts.StateAcknowledged {
			t.Errorf("alert %s was answered and is %s", id, a.State)
		}
	}
}
