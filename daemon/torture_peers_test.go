package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// storescp is DCMTK's, as the PACS. It serves one association at a time and keeps each copy that it is sent.
type storescp struct {
	addr, dir string
	scanner   *ct

	copies   map[dicom.UID]int
	thisLife map[dicom.UID]int
	late     int      // copies of this life that it had already
	wrong    []string // copies that are not what the scanner sent

	// unrecorded is what it had at the last death and the ledger did not know to be there: what alone may come again.
	unrecorded map[dicom.UID]bool
}

func newStoreSCP(t *testing.T, scanner *ct) *storescp {
	t.Helper()
	port, dir := dimsetest.FreePort(t), t.TempDir()
	dimsetest.Start(t, port, "storescp", "+B", "+xa", "-pm", "+uf", "-od", dir, port)
	return &storescp{
		addr: net.JoinHostPort("127.0.0.1", port), dir: dir, scanner: scanner,
		copies: map[dicom.UID]int{}, thisLife: map[dicom.UID]int{}, unrecorded: map[dicom.UID]bool{},
	}
}

// collect takes in what has arrived. It speaks to the PACS first: that has then done with the association before.
func (p *storescp) collect(t *testing.T) {
	t.Helper()
	d := &dimse.Dialer{CallingAETitle: "TEST", CalledAETitle: "PACS", Contexts: []dimse.ProposedContext{{
		AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian},
	}}}
	a, err := d.Dial(t.Context(), p.addr)
	if err != nil {
		t.Fatal(err)
	}
	// While the association is open nothing else can be under way.
	defer func() { _ = a.Release(t.Context()) }()
	files, err := filepath.Glob(filepath.Join(p.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		uid, sum, err := dataSetOf(file)
		if err != nil {
			t.Fatalf("the PACS keeps what was cut off: %v", err)
		}
		if want, known := p.scanner.sum(uid); !known || sum != want {
			p.wrong = append(p.wrong, fmt.Sprintf("the PACS has %s with other bytes (known %t)", uid, known))
		}
		if p.copies[uid]++; p.copies[uid] > 1 {
			p.late++
			if !p.unrecorded[uid] && p.thisLife[uid] == 0 && p.scanner.repeats(uid) == 0 {
				p.wrong = append(p.wrong, fmt.Sprintf("%s was sent to the PACS again, of which the ledger knew that it was there", uid))
			}
		}
		p.thisLife[uid]++
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// resent returns how many copies came in this life of what the PACS had, and what was wrong with any.
func (p *storescp) resent() (n int, wrong []string) {
	for uid, copies := range p.thisLife {
		if copies > 1+p.scanner.repeats(uid) {
			p.wrong = append(p.wrong, fmt.Sprintf("%s was sent to the PACS %d times in one life", uid, copies))
		}
	}
	n, wrong = p.late, p.wrong
	p.late, p.wrong = 0, nil
	clear(p.thisLife)
	return n, wrong
}

// hold takes what the ledger knows to be at the PACS, after a death: beyond what was unknown before, that has left one
// instance unknown at most, the one that was under way.
func (p *storescp) hold(known map[dicom.UID]bool) (wrong []string) {
	unrecorded := map[dicom.UID]bool{}
	var fresh []dicom.UID
	for uid := range p.copies {
		if known[uid] {
			continue
		}
		unrecorded[uid] = true
		if !p.unrecorded[uid] && p.scanner.repeats(uid) == 0 { // what was removed and comes again is sent again
			fresh = append(fresh, uid)
		}
	}
	p.unrecorded = unrecorded
	if len(fresh) > 1 {
		wrong = append(wrong, fmt.Sprintf("after one death the ledger does not know of %d instances that they are at the PACS: %v", len(fresh), fresh))
	}
	return wrong
}

func (p *storescp) has(uid dicom.UID) bool { return p.copies[uid] > 0 }

// archive is a destination that has to commit itself, and that has moods: now and then it is full, does not understand,
// takes no request, or has lost what it stored.
type archive struct {
	addr, to string
	scanner  *ct
	wg       sync.WaitGroup

	mu        sync.Mutex
	rng       *rand.Rand
	behaves   bool
	stored    map[dicom.UID]bool
	committed map[dicom.UID]bool    // in a report that left
	pending   []*commitment.Request // whose reports have not been taken
	wrong     []string
	history   map[dicom.UID][]string // of each transaction, for when something does not get done
}

func newArchive(t *testing.T, to string, rng *rand.Rand, scanner *ct) *archive {
	t.Helper()
	a := &archive{
		to: to, scanner: scanner, rng: rand.New(rand.NewPCG(rng.Uint64(), 1)),
		stored: map[dicom.UID]bool{}, committed: map[dicom.UID]bool{}, history: map[dicom.UID][]string{},
	}
	a.addr = dimsetest.NewServer(t, a, func(s *dimse.Server) { s.AETitle, s.Actions = "ARCHIVE", a }).Addr
	return a
}

// behave takes the archive's moods from it, or gives them back.
func (a *archive) behave(well bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.behaves = well
}

// moody is true once in n times.
func (a *archive) moody(n int) bool { return !a.behaves && a.rng.IntN(n) == 0 }

func (*archive) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

func (a *archive) Store(_ context.Context, _ *dimse.Association, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	hash := sha256.New()
	if _, err := io.Copy(hash, data); err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure} // nobody hears it
	}
	want, known := a.scanner.sum(rq.SOPInstanceUID)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !known || [sha256.Size]byte(hash.Sum(nil)) != want:
		a.wrong = append(a.wrong, fmt.Sprintf("the archive was sent %s with other bytes (known %t)", rq.SOPInstanceUID, known))
	case a.moody(30):
		return dimse.Result{Status: dimse.StatusOutOfResources}
	case a.moody(60):
		return dimse.Result{Status: dimse.StatusDataSetMismatch}
	}
	a.stored[rq.SOPInstanceUID] = true
	return dimse.Result{Status: dimse.StatusSuccess}
}

// Action takes a request for storage commitment.
func (a *archive) Action(_ context.Context, _ *dimse.Association, rq dimse.NActionRQ, data io.Reader) dimse.Result {
	request, err := commitment.ReadRequest(rq, data, commitment.Limits{References: 10000})
	a.mu.Lock()
	defer a.mu.Unlock()
	refuses := err != nil || a.moody(10)
	if request != nil {
		a.remember(request.TransactionUID, "%d references, %v, refused %t", len(request.References), err, refuses)
	}
	if refuses {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	a.pending = append(a.pending, request)
	return dimse.Result{Status: dimse.StatusSuccess}
}

// NextEventReport: reports go over associations of the archive's own.
func (*archive) NextEventReport(context.Context, *dimse.Association) *dimse.EventReport { return nil }

// begin reports, as long as the daemon lives.
func (a *archive) begin(ended <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-ended; cancel() }()
	a.wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if r := a.result(); r != nil && a.report(ctx, r) == nil {
				a.reported(r)
			}
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
	})
}

func (a *archive) wait() { a.wg.Wait() }

// result is the report on the oldest request; nil: there is none.
func (a *archive) result() *commitment.Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending) == 0 {
		return nil
	}
	rq := a.pending[0]
	r := &commitment.Result{TransactionUID: rq.TransactionUID}
	for _, ref := range rq.References {
		if !a.stored[ref.SOPInstanceUID] || !a.committed[ref.SOPInstanceUID] && a.moody(40) {
			delete(a.stored, ref.SOPInstanceUID)
			r.Failed = append(r.Failed, commitment.Failure{Reference: ref, Reason: command.StatusNoSuchSOPInstance})
			continue
		}
		a.committed[ref.SOPInstanceUID] = true // the daemon may believe it before we hear so
		r.Committed = append(r.Committed, ref)
	}
	return r
}

func (a *archive) report(ctx context.Context, r *commitment.Result) error {
	d := &dimse.Dialer{CallingAETitle: "ARCHIVE", CalledAETitle: "ICHWATCH", ReadTimeout: 20 * time.Second, Contexts: []dimse.ProposedContext{
		{AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
	}}
	to, err := d.Dial(ctx, a.to)
	if err != nil {
		return err
	}
	defer to.Abort()
	answer, err := to.EventReport(ctx, dimse.NEventReportRQ{
		SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, EventTypeID: r.EventTypeID(),
	}, r.Encode)
	a.mu.Lock()
	a.remember(r.TransactionUID, "reported %d and %d failed: %v, %v", len(r.Committed), len(r.Failed), answer.Status, err)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	// A request that it has given up long ago it does not know any more. But its disk may have failed beneath it.
	if answer.Status == dimse.StatusProcessingFailure {
		return fmt.Errorf("answered %v", answer.Status)
	}
	return to.Release(ctx)
}

func (a *archive) reported(r *commitment.Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending) > 0 && a.pending[0].TransactionUID == r.TransactionUID {
		a.pending = a.pending[1:]
	}
}

// remember is for whoever holds the lock.
func (a *archive) remember(transaction dicom.UID, what string, args ...any) {
	a.history[transaction] = append(a.history[transaction], time.Now().Format("15:04:05.000 ")+fmt.Sprintf(what, args...))
}

// answersFor reports whether the archive has committed itself to an instance.
func (a *archive) answersFor(uid dicom.UID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.committed[uid]
}

func (a *archive) ended() (wrong []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wrong, a.wrong = a.wrong, nil
	return wrong
}
