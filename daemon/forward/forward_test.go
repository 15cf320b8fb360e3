package forward

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// object is an instance to forward.
type object struct {
	sopClass, sop, syntax dicom.UID
	data                  []byte
}

// newObject makes a small object in explicit VR little endian.
func newObject(n int) object {
	sop := dicom.UID(fmt.Sprintf("1.2.3.1.%d", n))
	var b bytes.Buffer
	for _, e := range []struct {
		element [2]uint16
		uid     dicom.UID
	}{{[2]uint16{0x0008, 0x0016}, dicom.CTImageStorage}, {[2]uint16{0x0008, 0x0018}, sop}, {[2]uint16{0x0020, 0x000D}, "1.2.3"}} {
		value := []byte(e.uid)
		if len(value)%2 == 1 {
			value = append(value, 0)
		}
		b.Write(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, e.element[0]), e.element[1]))
		b.WriteString("UI")
		b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(value))))
		b.Write(value)
	}
	b.Write([]byte{0xE0, 0x7F, 0x10, 0x00, 'O', 'W', 0, 0, 0, 4, 0, 0})
	b.Write(bytes.Repeat([]byte{byte(n), 7}, 512))
	return object{dicom.CTImageStorage, sop, dicom.ExplicitVRLittleEndian, b.Bytes()}
}

func newSpool(t *testing.T) *spool.Spool {
	s, _ := newSpoolIn(t)
	return s
}

func newSpoolIn(t *testing.T) (s *spool.Spool, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "spool")
	s, err := spool.Open(t.Context(), spool.Options{Dir: dir, Destinations: []string{"pacs"}, Device: "ct1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, dir
}

func store(t *testing.T, s *spool.Spool, o object) spool.Instance {
	t.Helper()
	in, err := s.Create(dicom.FileMeta{SOPClassUID: o.sopClass, SOPInstanceUID: o.sop, TransferSyntaxUID: o.syntax})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Discard()
	if _, err := in.Write(o.data); err != nil {
		t.Fatal(err)
	}
	i, _, err := in.Commit(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// pacs is a destination that keeps what it gets and answers as it is told.
type pacs struct {
	mu       sync.Mutex
	got      map[dicom.UID][]arrival
	answers  func(ctx context.Context, a *dimse.Association, sop dicom.UID, n int) dimse.Status // n: how often it came; nil: success
	arrived  chan struct{}
	asked    int
	released int
	echoes   int
}

type arrival struct {
	syntax dicom.UID
	sum    [32]byte
}

func newPACS() *pacs { return &pacs{got: map[dicom.UID][]arrival{}, arrived: make(chan struct{}, 1)} }

func (p *pacs) Echo(context.Context, *dimse.Association) dimse.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.echoes++
	return dimse.StatusSuccess
}

func (p *pacs) Store(ctx context.Context, a *dimse.Association, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	hash := sha256.New()
	if _, err := io.Copy(hash, data); err != nil {
		return dimse.Result{Status: dimse.StatusCannotUnderstand}
	}
	p.mu.Lock()
	p.got[rq.SOPInstanceUID] = append(p.got[rq.SOPInstanceUID], arrival{rq.TransferSyntax.UID, [32]byte(hash.Sum(nil))})
	n, answers := len(p.got[rq.SOPInstanceUID]), p.answers
	p.mu.Unlock()
	if answers == nil {
		return dimse.Result{Status: dimse.StatusSuccess}
	}
	return dimse.Result{Status: answers(ctx, a, rq.SOPInstanceUID, n)}
}

func (p *pacs) AssociationOpened(*dimse.Association) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
}

func (p *pacs) AssociationClosed(_ *dimse.Association, err error) {
	p.mu.Lock()
	if err == nil {
		p.released++
	}
	p.mu.Unlock()
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

func (p *pacs) arrivals(sop dicom.UID) []arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got[sop])
}

func scu(addr string) *SCU {
	return &SCU{Addr: addr, Dialer: dimse.Dialer{
		CallingAETitle: "ICHWATCH", CalledAETitle: dimsetest.AETitle,
		ReadTimeout: 5 * time.Second, DialTimeout: 2 * time.Second,
	}}
}

// start runs a forwarder until the test or the returned function ends it.
func start(t *testing.T, f *Forwarder) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

func forwarder(s *spool.Spool, sender Sender) *Forwarder {
	return &Forwarder{Spool: s, Destination: "pacs", NewSender: func() Sender { return sender }, MinRetry: time.Millisecond, MaxRetry: 20 * time.Millisecond}
}

// await waits until the ledger's count of the legs is as wanted.
func await(t *testing.T, s *spool.Spool, want func(spool.LegCount) bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		records, err := s.Studies(t.Context(), spool.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		var sum spool.LegCount
		for _, r := range records {
			for _, l := range r.Legs {
				sum.Pending, sum.Done, sum.Parked = sum.Pending+l.Pending, sum.Done+l.Done, sum.Parked+l.Parked
			}
		}
		if want(sum) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the legs stay at %+v", sum)
		}
	}
}

func allDone(n int) func(spool.LegCount) bool {
	return func(c spool.LegCount) bool { return c.Done == n && c.Pending == 0 && c.Parked == 0 }
}

// objects are of several classes and syntaxes; the spool and the forwarder look
// at none of their bytes.
func objects() []object {
	var all []object
	for n, kind := range [][2]dicom.UID{
		{dicom.CTImageStorage, dicom.ExplicitVRLittleEndian},
		{dicom.CTImageStorage, dicom.ImplicitVRLittleEndian},
		{dicom.CTImageStorage, "1.2.840.10008.1.2.4.70"},      // JPEG lossless
		{dicom.CTImageStorage, "1.2.840.10008.1.2.4.90"},      // JPEG 2000 lossless
		{dicom.EnhancedCTImageStorage, "1.2.840.10008.1.2.5"}, // RLE
		{"1.2.840.10008.5.1.4.1.1.88.33", dicom.ExplicitVRLittleEndian},
		{dicom.CTImageStorage, dicom.ExplicitVRLittleEndian},
	} {
		o := newObject(n)
		o.sopClass, o.syntax = kind[0], kind[1]
		all = append(all, o)
	}
	big := newObject(99)
	big.data = append(big.data[:len(big.data):len(big.data)], bytes.Repeat([]byte("0123456789abcde\n"), 64<<10)...) // over several PDUs
	return append(all, big)
}

func TestPromise2_ForwardedByteIdentical(t *testing.T) {
	p := newPACS()
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	all := objects()
	for _, o := range all {
		store(t, s, o)
	}
	stop := start(t, forwarder(s, scu(server.Addr)))
	await(t, s, allDone(len(all)))
	stop()
	for _, o := range all {
		want := []arrival{{o.syntax, sha256.Sum256(o.data)}}
		if got := p.arrivals(o.sop); !slices.Equal(got, want) {
			t.Errorf("%s in %s arrived as %v, want %v", o.sopClass.Name(), o.syntax.Name(), got, want)
		}
	}
	if p.asked > 6 {
		t.Errorf("%d associations for 6 kinds of objects", p.asked)
	}
}

// TestPromise2_ForwardedByteIdenticalToStorescp has DCMTK's storescp for a PACS,
// which writes down what it received (+B).
func TestPromise2_ForwardedByteIdenticalToStorescp(t *testing.T) {
	port, dir := dimsetest.FreePort(t), t.TempDir()
	dimsetest.Start(t, port, "storescp", "+B", "+xa", "-od", dir, port)
	s := newSpool(t)
	var all []object
	for n := range 20 {
		all = append(all, newObject(n))
	}
	all = append(all, realSeries(t)...)
	for _, o := range all {
		store(t, s, o)
	}
	stop := start(t, forwarder(s, scu("127.0.0.1:"+port)))
	await(t, s, allDone(len(all)))
	stop()

	arrived := map[dicom.UID][32]byte{}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		o := readObject(t, path)
		arrived[o.sop] = sha256.Sum256(o.data)
	}
	for _, o := range all {
		if arrived[o.sop] != sha256.Sum256(o.data) {
			t.Errorf("%s did not arrive as it was sent", o.sop)
		}
	}
	if len(arrived) != len(all) {
		t.Errorf("%d objects arrived, want %d", len(arrived), len(all))
	}
}

func readObject(t *testing.T, path string) object {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(content))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return object{meta.SOPClassUID, meta.SOPInstanceUID, meta.TransferSyntaxUID, content[offset:]}
}

// realSeries is a scanner's series where the shared data is at hand; the test
// stands without it.
func realSeries(t *testing.T) (all []object) {
	t.Helper()
	err := filepath.WalkDir("../../../shared/data/dicom/ge-head-series", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && strings.HasSuffix(path, ".dcm") && len(all) < 40 {
			all = append(all, readObject(t, path))
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		t.Log("the shared data is not there; synthetic objects alone are sent")
	} else if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestJudge(t *testing.T) {
	for status, want := range map[dimse.Status]verdict{
		0x0000: done, 0xB000: done, 0xB006: done, 0xB007: done, 0x0111: done,
		0xA700: again, 0xA701: again, 0xA7FF: again, 0x0110: again, 0x0213: again,
		0xA900: park, 0xA901: park, 0xC000: park, 0xC123: park, 0xCFFF: park, 0x0122: park,
		0x0124: park, 0x0112: park, 0x0211: park, 0xB001: park, 0xA600: park, 0xA800: park, 0xFF00: park, 0xFE00: park, 0x0001: park,
	} {
		if got := judge(status, false); got != want {
			t.Errorf("judge(%v) = %d, want %d", status, got, want)
		}
	}
}

// A PACS that keeps the first of two data sets under one UID answers the second with 0111H. That is no confirmation: the
// second would be removed from the spool while nobody has it.
func TestPromise2_DuplicateAnswerConfirmsNoOtherDataSet(t *testing.T) {
	p := newPACS()
	p.answers = func(_ context.Context, _ *dimse.Association, _ dicom.UID, n int) dimse.Status {
		if n > 1 {
			return dimse.StatusDuplicateSOPInstance
		}
		return dimse.StatusSuccess
	}
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	first := newObject(1)
	second := first
	second.data = slices.Clone(first.data)
	second.data[len(second.data)-1]++
	store(t, s, first)
	store(t, s, second)
	start(t, forwarder(s, scu(server.Addr)))
	await(t, s, func(c spool.LegCount) bool { return c.Done == 1 && c.Parked == 1 })
}

func TestTransientAnswersAreTriedAgain(t *testing.T) {
	p := newPACS()
	p.answers = func(_ context.Context, a *dimse.Association, _ dicom.UID, n int) dimse.Status {
		switch n {
		case 1:
			return 0xA700
		case 2:
			return 0x0110
		case 3:
			_ = a.Abort()
		}
		return dimse.StatusSuccess
	}
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	for n := range 3 {
		store(t, s, newObject(n))
	}
	f := forwarder(s, scu(server.Addr))
	stop := start(t, f)
	await(t, s, allDone(3))
	stop()
	for n := range 3 {
		if got := p.arrivals(newObject(n).sop); len(got) != 4 {
			t.Errorf("object %d was sent %d times, want 4", n, len(got))
		}
	}
	if st := f.Status(); st.Failing || st.Failures != 0 || st.LastDone.IsZero() {
		t.Errorf("status %+v", st)
	}
}

// TestChokingInstancesDoNotBlockTheOthers: a PACS fails on the oldest instances
// each time; all others get through.
func TestChokingInstancesDoNotBlockTheOthers(t *testing.T) {
	const choking, sound = 6, 10
	bad := map[dicom.UID]bool{}
	p := newPACS()
	p.answers = func(_ context.Context, _ *dimse.Association, sop dicom.UID, _ int) dimse.Status {
		if bad[sop] {
			return dimse.StatusProcessingFailure
		}
		return dimse.StatusSuccess
	}
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	for n := range choking + sound {
		o := newObject(n)
		bad[o.sop] = n < choking
		store(t, s, o)
	}
	start(t, forwarder(s, scu(server.Addr)))
	await(t, s, func(c spool.LegCount) bool { return c.Done == sound && c.Pending == choking })
}

// TestWhatCannotBeSentIsParked: a fragment has an even length (PS3.8 Annex E.1),
// and no attempt will change that of the data set.
func TestWhatCannotBeSentIsParked(t *testing.T) {
	server := dimsetest.NewServer(t, newPACS())
	s := newSpool(t)
	odd := newObject(0)
	odd.data = append(odd.data, 0)
	store(t, s, odd)
	store(t, s, newObject(1))
	start(t, forwarder(s, scu(server.Addr)))
	await(t, s, func(c spool.LegCount) bool { return c.Done == 1 && c.Parked == 1 })
}

// A bit that flipped on the disk does not become the PACS's truth.
func TestPromise2_DamagedFileIsNotForwarded(t *testing.T) {
	p := newPACS()
	server := dimsetest.NewServer(t, p)
	s, dir := newSpoolIn(t)
	damaged := newObject(0)
	store(t, s, damaged)
	files, err := filepath.Glob(filepath.Join(dir, "instances", "*", "*.dcm"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-100] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	store(t, s, newObject(1))
	start(t, forwarder(s, scu(server.Addr)))
	await(t, s, func(c spool.LegCount) bool { return c.Done == 1 && c.Parked == 1 })
	if got := p.arrivals(damaged.sop); len(got) != 0 {
		t.Errorf("the PACS took it: %v", got)
	}
}

func TestPermanentAnswersAreParkedWithOneAlarm(t *testing.T) {
	p := newPACS()
	p.answers = func(_ context.Context, _ *dimse.Association, sop dicom.UID, n int) dimse.Status {
		if sop != newObject(0).sop && n == 1 {
			return 0xA900
		}
		return dimse.StatusSuccess
	}
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	for n := range 3 {
		store(t, s, newObject(n))
	}
	var logged dimsetest.Output
	f := forwarder(s, scu(server.Addr))
	f.Log = slog.New(slog.NewTextHandler(&logged, nil))
	start(t, f)
	await(t, s, func(c spool.LegCount) bool { return c.Done == 1 && c.Parked == 2 })
	if n := strings.Count(logged.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d alarms, want one:\n%s", n, &logged)
	}
	if n, err := s.RetryLegs(t.Context(), "pacs"); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	await(t, s, allDone(3))
	if p.asked != 1 {
		t.Errorf("%d associations, want one for all", p.asked)
	}
}

func TestRefusedContextIsParkedAtOnce(t *testing.T) {
	p := newPACS()
	server := dimsetest.NewServer(t, p, func(s *dimse.Server) { s.TransferSyntaxes = []dicom.UID{dicom.ImplicitVRLittleEndian} })
	s := newSpool(t)
	refused, accepted := newObject(1), newObject(2)
	accepted.syntax = dicom.ImplicitVRLittleEndian
	store(t, s, refused)
	store(t, s, accepted)
	start(t, forwarder(s, scu(server.Addr)))
	await(t, s, func(c spool.LegCount) bool { return c.Done == 1 && c.Parked == 1 })
	if got := p.arrivals(refused.sop); len(got) != 0 {
		t.Errorf("it was sent in another syntax: %v", got)
	}
}

// TestTimeoutAbortsAndDialsAnew: an association on which an answer was waited
// for in vain is never used again (a late answer would be taken for the next).
func TestTimeoutAbortsAndDialsAnew(t *testing.T) {
	p := newPACS()
	var hanging atomic.Value // id of the association
	p.answers = func(ctx context.Context, a *dimse.Association, sop dicom.UID, n int) dimse.Status {
		if sop == newObject(0).sop && n == 1 {
			hanging.Store(a.ID())
			<-ctx.Done() // until the server closes
		} else if a.ID() == hanging.Load() {
			t.Errorf("%s came on the association that had not answered", sop)
		}
		return dimse.StatusSuccess
	}
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	store(t, s, newObject(0))
	store(t, s, newObject(1))
	sender := scu(server.Addr)
	sender.Dialer.ReadTimeout = 50 * time.Millisecond
	stop := start(t, forwarder(s, sender))
	await(t, s, allDone(2))
	stop()
	if p.asked < 2 { // more, where the machine was slower than the time-out
		t.Errorf("%d associations, want a second one", p.asked)
	}
}

func TestDeadDestinationComesBack(t *testing.T) {
	s := newSpool(t)
	store(t, s, newObject(0))
	port := dimsetest.FreePort(t)
	f := forwarder(s, scu("127.0.0.1:"+port))
	start(t, f)
	deadline := time.After(20 * time.Second)
	for f.Status().Failures < 3 {
		select {
		case <-deadline:
			t.Fatalf("status %+v", f.Status())
		case <-time.After(time.Millisecond):
		}
	}
	legs, err := s.DueLegs(t.Context(), "pacs", time.Now(), 10)
	if err != nil || len(legs) != 1 || legs[0].Attempts != 0 {
		t.Errorf("an unreachable destination is counted against the instance: %+v, %v", legs, err)
	}
	p := newPACS()
	listenOn(t, p, "127.0.0.1:"+port)
	await(t, s, allDone(1))
}

func TestIdleAssociationIsReleased(t *testing.T) {
	p := newPACS()
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	f := forwarder(s, scu(server.Addr))
	f.Idle = time.Millisecond
	start(t, f)
	for round := range 2 {
		store(t, s, newObject(round))
		select {
		case <-p.arrived:
		case <-time.After(20 * time.Second):
			t.Fatal("the association stays open")
		}
	}
	await(t, s, allDone(2))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released != 2 {
		t.Errorf("%d associations were released, want 2", p.released)
	}
}

// TestStopFinishesWhatIsUnderWay: the answer to the instance that is on the
// wire is waited for, and recorded.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	p := newPACS()
	under, goOn := make(chan struct{}), make(chan struct{})
	p.answers = func(context.Context, *dimse.Association, dicom.UID, int) dimse.Status {
		close(under)
		<-goOn
		return dimse.StatusSuccess
	}
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	store(t, s, newObject(0))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	f := forwarder(s, scu(server.Addr))
	go func() { ended <- f.Run(ctx) }()
	<-under
	cancel()
	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	await(t, s, allDone(1))
}
