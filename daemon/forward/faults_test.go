package forward

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

const (
	faultObjects = 8
	longestWait  = 100 * time.Millisecond // between tries, half as long again with jitter
	faultTimeout = time.Second            // of whatever is waited for
)

// archive is a destination behind a line, with a fault that can be mended.
type archive struct {
	line *line
	mend func()
	has  func(t *testing.T) map[dicom.UID][32]byte
}

// fault is a row of the table.
type fault struct {
	name, peer string
	begin      func(t *testing.T) *archive
	ends       fate
	alarms     int
	failures   int // for how many it lasts at least
}

// fate is what becomes of instances while the fault lasts.
type fate string

const (
	waits  fate = "kept, asked again, sent by itself"
	parks  fate = "parked, sent when a person says so"
	stores fate = "confirmed"
)

// TestPromise2_FaultsOfTheArchive lets an archive fail in every way that is known, over real connections: what ichwatch makes
// of it, how many alarms it raises, how soon after the end of the fault everything has arrived, and that nothing is lost.
func TestPromise2_FaultsOfTheArchive(t *testing.T) {
	study, err := phantom.New(phantom.Options{Seed: 5, Slices: faultObjects, Rows: 256, Columns: 256})
	if err != nil {
		t.Fatal(err)
	}
	var all []object
	for i := range faultObjects {
		var b bytes.Buffer
		if err := study.WriteDataSet(&b, i); err != nil {
			t.Fatal(err)
		}
		all = append(all, object{dicom.CTImageStorage, study.InstanceUID(i), dicom.ExplicitVRLittleEndian, b.Bytes()})
	}
	table := new(strings.Builder)
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "fault\tpeer\twhat ichwatch did\tfailures\tback after\t/ longest wait\tlost\talarms\n")
	rows := make([]string, len(faults))
	t.Run("faults", func(t *testing.T) {
		for i, f := range faults {
			t.Run(f.name+" "+f.peer, func(t *testing.T) {
				t.Parallel()
				rows[i] = f.run(t, all)
			})
		}
	})
	fmt.Fprint(w, strings.Join(rows, ""))
	_ = w.Flush()
	t.Logf("%d objects each; time-outs %v, longest wait %v\n%s", faultObjects, faultTimeout, longestWait, table)
}

func (f fault) run(t *testing.T, all []object) string {
	a := f.begin(t)
	s := newSpool(t)
	for _, o := range all {
		store(t, s, o)
	}
	var logged dimsetest.Output
	fw := several(s, a.line.addr, 2)
	fw.MinRetry, fw.MaxRetry, fw.Grace = 20*time.Millisecond, longestWait, time.Millisecond
	fw.Log = slog.New(slog.NewTextHandler(&logged, nil))
	fw.NewSender = func() Sender {
		return &SCU{Addr: a.line.addr, Dialer: dimse.Dialer{
			CallingAETitle: "ICHWATCH", CalledAETitle: dimsetest.AETitle,
			DialTimeout: faultTimeout, ACSETimeout: faultTimeout, ReadTimeout: faultTimeout, WriteTimeout: faultTimeout,
		}}
	}
	start(t, fw)

	// The fault lasts until it is plain what comes of it.
	var failures int
	deadline := time.After(60 * time.Second)
	for over := false; !over; {
		c := legs(t, s)
		st := fw.Status()
		failures = max(failures, st.Failures)
		switch f.ends {
		case waits:
			over = st.Failing && st.Failures >= max(f.failures, failuresToOpen+1)
		case parks:
			over = c.Parked == len(all)
		case stores:
			over = c.Done == len(all)
		}
		select {
		case <-deadline:
			t.Fatalf("legs %+v, status %+v\n%s", c, st, &logged)
		case <-time.After(2 * time.Millisecond):
		}
	}
	c := legs(t, s)
	if f.ends == waits && (c.Parked > 0 || c.Done == len(all)) || f.ends != waits && c.Pending > 0 {
		t.Errorf("while it lasts: %+v", c)
	}
	alarms := strings.Count(logged.String(), "level=ERROR")
	if alarms != f.alarms {
		t.Errorf("%d alarms, want %d\n%s", alarms, f.alarms, &logged)
	}

	mended := time.Now()
	a.mend()
	if f.ends == parks {
		fw.TryNow() // as the daemon does
		if _, err := s.RetrySelected(t.Context(), spool.LegSelection{}); err != nil {
			t.Fatal(err)
		}
		fw.TryNow()
	}
	await(t, s, allDone(len(all)))
	back := time.Since(mended)
	if again := strings.Count(logged.String(), "level=ERROR"); again != alarms {
		t.Errorf("%d alarms when it is over, there were %d\n%s", again, alarms, &logged)
	}
	// A time-out that is running, a wait with its jitter, and some time for the machine.
	if most := 2*faultTimeout + 2*longestWait + 15*time.Second; back > most {
		t.Errorf("back after %v, at most %v are expected", back, most)
	}
	lost := 0
	has := a.has(t)
	for _, o := range all {
		if sum, ok := has[o.sop]; !ok || sum != sha256.Sum256(o.data) {
			lost++
		}
	}
	if lost > 0 || len(has) != len(all) {
		t.Errorf("%d lost; the archive has %d of %d", lost, len(has), len(all))
	}
	if f.ends == stores {
		return fmt.Sprintf("%s\t%s\t%s\t%d\t-\t-\t%d\t%d\n", f.name, f.peer, f.ends, failures, lost, alarms)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%d\t%v\t%.1f\t%d\t%d\n", f.name, f.peer, f.ends, failures,
		back.Round(time.Millisecond), float64(back)/float64(longestWait), lost, alarms)
}

// legs counts all legs.
func legs(t *testing.T, s *spool.Spool) (sum spool.LegCount) {
	t.Helper()
	records, err := s.Studies(t.Context(), spool.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		for _, l := range r.Legs {
			sum.Pending, sum.Done, sum.Parked = sum.Pending+l.Pending, sum.Done+l.Done, sum.Parked+l.Parked
		}
	}
	return sum
}

var faults = []fault{
	{"down for long", "storescp", cutOff(storescp), waits, 1, 20},
	{"down", "Orthanc", cutOff(orthanc), waits, 1, 0},
	{"slow: takes 1 byte/s", "storescp", held(storescp, 20_000, time.Second, false), waits, 1, 0},
	{"slow: takes 1 byte/s", "Orthanc", held(orthanc, 20_000, time.Second, false), waits, 1, 0},
	{"slow: answers 1 byte/s", "storescp", held(storescp, 250, time.Second, true), waits, 1, 0},
	{"hangs in mid-object", "storescp", held(storescp, 200_000, 0, false), waits, 1, 0},
	{"hangs in mid-object", "Orthanc", held(orthanc, 200_000, 0, false), waits, 1, 0},
	{"hangs at the association", "storescp", held(storescp, 1, 0, false), waits, 1, 0},
	{"hangs before its answer", "dimse.Server", answering(func(ctx context.Context, _ *dimse.Association) dimse.Status {
		<-ctx.Done()
		return dimse.StatusSuccess
	}), waits, 1, 0},
	{"aborts in mid-object", "storescp", option("--abort-during"), waits, 1, 0},
	{"aborts after each object", "storescp", option("--abort-after"), waits, 1, 0},
	{"aborts instead of an answer", "dimse.Server", answering(func(_ context.Context, a *dimse.Association) dimse.Status {
		_ = a.Abort()
		return dimse.StatusSuccess
	}), waits, 1, 0},
	{"refuses contexts", "storescp", option("+xi"), parks, 1, 0},
	{"refuses associations", "storescp", option("--refuse"), waits, 1, 0},
	{"rejects associations: transient", "dimse.Server", rejecting(dimse.RejectTemporaryCongestion), waits, 1, 0},
	{"rejects associations: permanent", "dimse.Server", rejecting(dimse.RejectCallingAETitle), waits, 1, 0},
	{"disk full", "storescp", fullDisk, waits, 1, 0},
	{"A700H out of resources", "dimse.Server", status(0xA700), waits, 1, 0},
	{"0110H processing failure", "dimse.Server", status(0x0110), waits, 1, 0},
	{"A900H data set mismatch", "dimse.Server", status(0xA900), parks, 1, 0},
	{"C000H cannot understand", "dimse.Server", status(0xC000), parks, 1, 0},
	{"0122H class not supported", "dimse.Server", status(0x0122), parks, 1, 0},
	{"B000H coerced", "dimse.Server", status(0xB000), stores, 0, 0},
	{"B007H mismatch, kept", "dimse.Server", status(0xB007), stores, 0, 0},
	{"0111H has it already", "dimse.Server", status(0x0111), stores, 0, 0},
}

// sound is a peer without a fault: its address, and what it has.
type sound func(t *testing.T) (addr string, has func(t *testing.T) map[dicom.UID][32]byte)

func storescp(t *testing.T) (string, func(t *testing.T) map[dicom.UID][32]byte) {
	dir := t.TempDir()
	return startStorescp(t, dir), inFolder(dir)
}

func startStorescp(t *testing.T, dir string, options ...string) string {
	port := dimsetest.FreePort(t)
	dimsetest.Start(t, port, "storescp", append(options, "--fork", "+B", "-od", dir, port)...)
	return net.JoinHostPort("127.0.0.1", port)
}

func inFolder(dir string) func(t *testing.T) map[dicom.UID][32]byte {
	return func(t *testing.T) map[dicom.UID][32]byte {
		files, err := filepath.Glob(filepath.Join(dir, "CT.*"))
		if err != nil {
			t.Fatal(err)
		}
		has := map[dicom.UID][32]byte{}
		for _, path := range files {
			o := readObject(t, path)
			has[o.sop] = sha256.Sum256(o.data)
		}
		return has
	}
}

func orthanc(t *testing.T) (string, func(t *testing.T) map[dicom.UID][32]byte) {
	o := dimsetest.StartOrthanc(t)
	return net.JoinHostPort("127.0.0.1", o.Port), func(t *testing.T) map[dicom.UID][32]byte {
		has := map[dicom.UID][32]byte{}
		for _, file := range o.Files(t) {
			meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			has[meta.SOPInstanceUID] = sha256.Sum256(file[offset:])
		}
		return has
	}
}

// cutOff is a peer to which there is no line at first.
func cutOff(peer sound) func(t *testing.T) *archive {
	return func(t *testing.T) *archive {
		addr, has := peer(t)
		l := newLine(t, addr)
		l.cut()
		return &archive{l, func() { l.mend(addr) }, has}
	}
}

// held is a peer behind a line that is held up after some bytes, or lets one byte pass in a time.
func held(peer sound, after int, drip time.Duration, back bool) func(t *testing.T) *archive {
	return func(t *testing.T) *archive {
		addr, has := peer(t)
		l := newLine(t, addr)
		l.after, l.drip, l.back = after, drip, back
		return &archive{l, func() { l.mend(addr) }, has}
	}
}

// option is a storescp with an option that makes it misbehave, and then one without.
func option(name string) func(t *testing.T) *archive {
	return func(t *testing.T) *archive {
		dir := t.TempDir()
		faulty, well := startStorescp(t, dir, name), startStorescp(t, dir)
		l := newLine(t, faulty)
		return &archive{l, func() { l.mend(well) }, inFolder(dir)}
	}
}

// fullDisk is a storescp that can write no file of the objects' size, and then one that can.
func fullDisk(t *testing.T) *archive {
	dimsetest.Program(t, "storescp")
	dir, port := t.TempDir(), dimsetest.FreePort(t)
	dimsetest.Start(t, port, "bash", "-c", `trap "" XFSZ; ulimit -f 16; exec storescp --fork +B -od "$0" "$1"`, dir, port)
	well := startStorescp(t, dir)
	l := newLine(t, net.JoinHostPort("127.0.0.1", port))
	return &archive{l, func() { l.mend(well) }, inFolder(dir)}
}

// answering is our own server, which answers as it is told until it is mended.
func answering(answer func(ctx context.Context, a *dimse.Association) dimse.Status) func(t *testing.T) *archive {
	return func(t *testing.T) *archive { return scripted(t, answer, nil) }
}

func status(s dimse.Status) func(t *testing.T) *archive {
	return answering(func(context.Context, *dimse.Association) dimse.Status { return s })
}

func rejecting(r dimse.Rejection) func(t *testing.T) *archive {
	return func(t *testing.T) *archive { return scripted(t, nil, &r) }
}

func scripted(t *testing.T, answer func(context.Context, *dimse.Association) dimse.Status, reject *dimse.Rejection) *archive {
	p := newPACS()
	var well atomic.Bool
	p.answers = func(ctx context.Context, a *dimse.Association, _ dicom.UID, _ int) dimse.Status {
		if well.Load() || answer == nil {
			return dimse.StatusSuccess
		}
		return answer(ctx, a)
	}
	server := dimsetest.NewServer(t, p, func(s *dimse.Server) {
		s.Admit = func(context.Context, dimse.AssociateRequestInfo) *dimse.Rejection {
			if well.Load() {
				return nil
			}
			return reject
		}
	})
	return &archive{newLine(t, server.Addr), func() { well.Store(true) }, func(*testing.T) map[dicom.UID][32]byte {
		p.mu.Lock()
		defer p.mu.Unlock()
		has := map[dicom.UID][32]byte{}
		for uid, got := range p.got {
			has[uid] = got[len(got)-1].sum
		}
		return has
	}}
}
