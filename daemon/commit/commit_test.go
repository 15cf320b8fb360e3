package commit

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newSpool opens a spool with one destination; reopen closes it and opens it
// again, as a restart does.
func newSpool(t *testing.T) *spool.Spool {
	t.Helper()
	return openSpool(t, filepath.Join(t.TempDir(), "spool"))
}

func openSpool(t *testing.T, dir string) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.Context(), spool.Options{Dir: dir, Destinations: []string{"pacs"}, Device: "ct1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// store commits a small object to the spool and returns its SOP Instance UID.
func store(t *testing.T, s *spool.Spool, n int) dicom.UID {
	t.Helper()
	sop := dicom.UID("1.2.3.1." + strconv.Itoa(n))
	in, err := s.Create(dicom.FileMeta{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: sop, TransferSyntaxUID: dicom.ExplicitVRLittleEndian})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Discard()
	data := binary.LittleEndian.AppendUint32([]byte("\xe0\x7f\x10\x00OW\x00\x00"), 64)
	if _, err := in.Write(append(data, bytes.Repeat([]byte{byte(n)}, 64)...)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.Commit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return sop
}

func references(sops ...dicom.UID) (all []commitment.Reference) {
	for _, sop := range sops {
		all = append(all, commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: sop})
	}
	return all
}

// eventually waits until ok, which is asked often.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain: " + what)
		}
	}
}

// start runs a station until the test or the returned function ends it.
func start(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// deaf answers what no test here asks.
type deaf struct{}

func (deaf) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

func (deaf) Store(context.Context, *dimse.Association, dimse.CStoreRQ, io.Reader) dimse.Result {
	return dimse.Result{Status: dimse.StatusProcessingFailure}
}

// comment is what a peer says of what it does not do.
const comment = "DOE^JANE"

// peer is the other side, in either role: it keeps what it is asked and told and
// answers as the test says.
type peer struct {
	mu      sync.Mutex
	asked   []*commitment.Request
	told    []*commitment.Result
	action  func(n int, rq *commitment.Request) dimse.Status          // to the nth request, from 1; nil: success
	report  func(n int, rq *commitment.Request) *commitment.Result    // over the same association; nil: none
	taken   func(n int, from *dimse.Association) (dimse.Status, bool) // to the nth report; false: no answer but an abort
	pending []*commitment.Request
}

func (p *peer) Action(_ context.Context, _ *dimse.Association, rq dimse.NActionRQ, data io.Reader) dimse.Result {
	request, err := commitment.ReadRequest(rq, data, commitment.Limits{References: 100})
	if err != nil {
		return answer(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, request)
	if p.action != nil {
		if s := p.action(len(p.asked), request); s != dimse.StatusSuccess {
			return dimse.Result{Status: s, ErrorComment: comment}
		}
	}
	p.pending = append(p.pending, request)
	return dimse.Result{Status: dimse.StatusSuccess}
}

func (p *peer) NextEventReport(context.Context, *dimse.Association) *dimse.EventReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.report == nil || len(p.pending) == 0 {
		return nil
	}
	rq := p.pending[0]
	p.pending = p.pending[1:]
	result := p.report(len(p.asked), rq)
	if result == nil {
		return nil
	}
	return &dimse.EventReport{NEventReportRQ: eventReport(result), Information: result.Encode, Done: func(dimse.Status, error) {}}
}

func (p *peer) EventReport(_ context.Context, a *dimse.Association, rq dimse.NEventReportRQ, data io.Reader) dimse.Result {
	result, err := commitment.ReadResult(rq, data, commitment.Limits{References: 100})
	if err != nil {
		return answer(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, result)
	if p.taken != nil {
		status, ok := p.taken(len(p.told), a)
		if !ok {
			_ = a.Abort()
		}
		return dimse.Result{Status: status}
	}
	return dimse.Result{Status: dimse.StatusSuccess}
}

func (p *peer) requests() []*commitment.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func (p *peer) results() []*commitment.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.told)
}

// listen runs the peer as a server.
func (p *peer) listen(t *testing.T, title dicom.AETitle) string {
	t.Helper()
	return dimsetest.NewServer(t, deaf{}, func(s *dimse.Server) { s.AETitle, s.Actions, s.EventReports = title, p, p }).Addr
}

func dialer(calling, called dicom.AETitle) dimse.Dialer {
	return dimse.Dialer{CallingAETitle: calling, CalledAETitle: called, Contexts: contexts(), ReadTimeout: 10 * time.Second, DialTimeout: 2 * time.Second}
}

// ask is a scanner that sends a request and keeps the association.
func ask(t *testing.T, addr string, rq *commitment.Request) (*dimse.Association, dimse.Result) {
	t.Helper()
	d := dialer("CT1", "ICHWATCH")
	a, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Abort() })
	result, err := a.Action(t.Context(), dimse.NActionRQ{
		SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest,
	}, rq.Encode)
	if err != nil {
		t.Fatal(err)
	}
	return a, result
}

// closedPort is an address at which nobody listens yet.
func closedPort(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", dimsetest.FreePort(t))
}

// serveAt runs the peer as a server at an address.
func (p *peer) serveAt(t *testing.T, title dicom.AETitle, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &dimse.Server{AETitle: title, Handler: deaf{}, Actions: p, EventReports: p}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(context.Background(), ln) // ErrServerClosed
	}()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
}

// logger keeps what is logged.
func logger() (*slog.Logger, *dimsetest.Output) {
	out := new(dimsetest.Output)
	return slog.New(slog.NewTextHandler(out, nil)), out
}

func count(out *dimsetest.Output, what string) int { return strings.Count(out.String(), what) }
