package send_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ichwatch/daemon/send"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// peer stores what it is sent, in memory, or answers as the test wants.
type peer struct {
	addr   string
	answer func(a *dimse.Association, rq dimse.CStoreRQ, n int) dimse.Result // n counts requests, from 1

	mu           sync.Mutex
	requests     int
	stored       map[dicom.UID]int // bytes
	associations map[string][]dimse.PresentationContext
	now, most    int // associations open at a time
}

func newPeer(t *testing.T, answer func(*dimse.Association, dimse.CStoreRQ, int) dimse.Result, configure ...func(*dimse.Server)) *peer {
	t.Helper()
	p := &peer{answer: answer, stored: map[dicom.UID]int{}, associations: map[string][]dimse.PresentationContext{}}
	p.addr = dimsetest.NewServer(t, p, configure...).Addr
	return p
}

func (p *peer) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

func (p *peer) Store(_ context.Context, a *dimse.Association, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	p.mu.Lock()
	p.requests++
	n := p.requests
	p.mu.Unlock()
	result := dimse.Result{Status: dimse.StatusSuccess}
	if p.answer != nil {
		result = p.answer(a, rq, n)
	}
	length, err := io.Copy(io.Discard, data)
	if err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	if !result.Status.IsFailure() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stored[rq.SOPInstanceUID] = int(length)
	}
	return result
}

func (p *peer) AssociationOpened(a *dimse.Association) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.associations[a.ID()] = a.Contexts()
	p.now++
	p.most = max(p.most, p.now)
}

func (p *peer) AssociationClosed(*dimse.Association, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now--
}

func (p *peer) uids() []dicom.UID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.stored))
}

// send sends and returns the results in the order of the objects.
func (p *peer) send(t *testing.T, objects []send.Object, configure func(*send.Sender)) []send.Result {
	t.Helper()
	results, err := p.try(t, t.Context(), objects, configure)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func (p *peer) try(t *testing.T, ctx context.Context, objects []send.Object, configure func(*send.Sender)) ([]send.Result, error) {
	t.Helper()
	var results []send.Result
	s := &send.Sender{
		Addr: p.addr, Dialer: dimse.Dialer{CallingAETitle: "SEND", CalledAETitle: dimsetest.AETitle},
		RetryWait: time.Millisecond,
		Report:    func(r send.Result) { results = append(results, r) },
	}
	if configure != nil {
		configure(s)
	}
	err := s.Send(ctx, objects)
	if len(results) != len(objects) {
		t.Fatalf("%d results of %d objects", len(results), len(objects))
	}
	order := map[string]int{}
	for i, o := range objects {
		order[o.Path] = i
	}
	slices.SortFunc(results, func(a, b send.Result) int { return order[a.Path] - order[b.Path] })
	return results, err
}

// expect counts outcomes.
func (p *peer) expect(t *testing.T, results []send.Result, want map[send.Outcome]int) {
	t.Helper()
	got := map[send.Outcome]int{}
	for _, r := range results {
		got[r.Outcome]++
		if wrong := (r.Err != nil) != (r.Outcome >= send.Failed); wrong {
			t.Errorf("%s: %v with error %v", r.Path, r.Outcome, r.Err)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
}

// Several associations share the work, and each object is sent once.
func TestParallelAssociations(t *testing.T) {
	const n = 4
	all := make(chan struct{})
	var here sync.WaitGroup
	here.Add(n)
	go func() { here.Wait(); close(all) }()
	var once sync.Map
	p := newPeer(t, func(a *dimse.Association, _ dimse.CStoreRQ, _ int) dimse.Result {
		// The first object of each association waits for the others'.
		if _, seen := once.LoadOrStore(a.ID(), true); !seen {
			here.Done()
		}
		select {
		case <-all:
		case <-time.After(dimsetest.Timeout):
			t.Error("the associations do not come at a time")
		}
		return dimse.Result{Status: dimse.StatusSuccess}
	})
	objects := find(t, images(t, 40))
	results := p.send(t, objects, func(s *send.Sender) { s.Associations = n })
	p.expect(t, results, map[send.Outcome]int{send.Stored: 40})
	if p.most != n || len(p.associations) != n || p.requests != 40 || len(p.uids()) != 40 {
		t.Errorf("%d associations, %d at a time, for %d requests", len(p.associations), p.most, p.requests)
	}
	for _, r := range results {
		if r.Association < 1 || r.Association > n || r.Took <= 0 {
			t.Errorf("%s on association %d in %v", r.Path, r.Association, r.Took)
		}
	}
}

// Each pair of SOP class and transfer syntax has a context of its own, 128 to an association; where there are more,
// another association follows.
func TestContextsAreGrouped(t *testing.T) {
	dir := t.TempDir()
	syntaxes := []dicom.UID{dicom.ExplicitVRLittleEndian, dicom.JPEG2000}
	classes := dicom.StorageSOPClasses()[:100]
	for i, class := range classes {
		for j, syntax := range syntaxes {
			uid := dicom.UID(fmt.Sprintf("1.2.3.%d.%d", i, j))
			write(t, filepath.Join(dir, string(uid)), class, uid, syntax, dataSet(uid))
		}
	}
	p := newPeer(t, nil)
	objects := find(t, dir)
	p.expect(t, p.send(t, objects, nil), map[send.Outcome]int{send.Stored: 200})
	var counts []int
	for _, contexts := range p.associations {
		counts = append(counts, len(contexts))
		seen := map[[2]dicom.UID]bool{}
		for _, pc := range contexts {
			pair := [2]dicom.UID{pc.AbstractSyntax, pc.TransferSyntax}
			if seen[pair] {
				t.Errorf("%v is proposed twice", pair)
			}
			seen[pair] = true
		}
	}
	slices.Sort(counts)
	if !slices.Equal(counts, []int{72, 128}) {
		t.Errorf("associations of %v contexts", counts)
	}
	if len(p.uids()) != 200 {
		t.Errorf("%d objects stored", len(p.uids()))
	}
}

// Every answer is told with its status and comment, and none of them ends the others.
func TestAnswers(t *testing.T) {
	answers := map[dicom.UID]dimse.Result{
		"1.2.3.1": {Status: dimse.StatusOutOfResources, ErrorComment: "disk full"},
		"1.2.3.2": {Status: dimse.StatusCoercion},
		"1.2.3.3": {Status: dimse.StatusCannotUnderstand},
	}
	p := newPeer(t, func(_ *dimse.Association, rq dimse.CStoreRQ, _ int) dimse.Result { return answers[rq.SOPInstanceUID] })
	results := p.send(t, find(t, images(t, 4)), nil)
	p.expect(t, results, map[send.Outcome]int{send.Refused: 2, send.Warned: 1, send.Stored: 1})
	for _, r := range results {
		if want := answers[r.SOPInstanceUID]; r.Status != want.Status || r.Comment != want.ErrorComment {
			t.Errorf("%s: %v %q, want %+v", r.SOPInstanceUID, r.Status, r.Comment, want)
		}
	}
	if p.requests != 4 {
		t.Errorf("%d requests for 4 objects without retries", p.requests)
	}
}

// What the peer accepts no context for fails, and the rest goes.
func TestRefusedContext(t *testing.T) {
	dir := images(t, 2)
	write(t, filepath.Join(dir, "private"), "1.2.840.113619.4.30", "1.2.3.99", dicom.ExplicitVRLittleEndian, dataSet("1.2.3.99"))
	p := newPeer(t, nil)
	results := p.send(t, find(t, dir), func(s *send.Sender) { s.Retries = 2 })
	p.expect(t, results, map[send.Outcome]int{send.Stored: 2, send.Failed: 1})
	if err := results[2].Err; !errors.Is(err, dimse.ErrNoPresentationContext) {
		t.Errorf("the private one: %v", err)
	}
	if len(p.associations) != 1 {
		t.Errorf("%d associations", len(p.associations))
	}
}

// An association that breaks costs its object; with a retry not even that.
func TestBrokenAssociation(t *testing.T) {
	breaks := func(a *dimse.Association, _ dimse.CStoreRQ, n int) dimse.Result {
		if n == 2 {
			a.Abort()
		}
		return dimse.Result{Status: dimse.StatusSuccess}
	}
	p := newPeer(t, breaks)
	results := p.send(t, find(t, images(t, 5)), nil)
	p.expect(t, results, map[send.Outcome]int{send.Stored: 4, send.Failed: 1})
	if len(p.associations) != 2 {
		t.Errorf("%d associations", len(p.associations))
	}
	again := newPeer(t, breaks)
	results = again.send(t, find(t, images(t, 5)), func(s *send.Sender) { s.Retries = 1 })
	again.expect(t, results, map[send.Outcome]int{send.Stored: 5})
}

// A refusal that may pass is tried again where retries are wanted, another one never.
func TestRetries(t *testing.T) {
	for status, tries := range map[dimse.Status]int{
		dimse.StatusOutOfResources: 3, dimse.StatusOutOfResources + 7: 3, dimse.StatusProcessingFailure: 3,
		dimse.StatusCannotUnderstand: 1, dimse.StatusDataSetMismatch: 1, dimse.StatusNotAuthorized: 1,
	} {
		p := newPeer(t, func(*dimse.Association, dimse.CStoreRQ, int) dimse.Result { return dimse.Result{Status: status} })
		results := p.send(t, find(t, images(t, 1)), func(s *send.Sender) { s.Retries = 2 })
		p.expect(t, results, map[send.Outcome]int{send.Refused: 1})
		if p.requests != tries {
			t.Errorf("%v: %d tries, want %d", status, p.requests, tries)
		}
	}
}

// Where every association breaks at once, the work ends.
func TestGivesUpOnAPeerThatAlwaysBreaks(t *testing.T) {
	p := newPeer(t, func(a *dimse.Association, _ dimse.CStoreRQ, _ int) dimse.Result {
		a.Abort()
		return dimse.Result{Status: dimse.StatusSuccess}
	})
	results, err := p.try(t, t.Context(), find(t, images(t, 20)), nil)
	var aborted *dimse.AbortedError
	if !errors.As(err, &aborted) {
		t.Errorf("the end is told as %v", err)
	}
	p.expect(t, results, map[send.Outcome]int{send.Failed: 3, send.Unsent: 17})
}

// Without an association nothing is sent, and the reason is the peer's.
func TestNoAssociation(t *testing.T) {
	objects := find(t, images(t, 3))
	p := newPeer(t, nil, func(s *dimse.Server) { s.Peers = []dimse.Peer{{Name: "other", CallingAETitle: "OTHER"}} })
	results, err := p.try(t, t.Context(), objects, func(s *send.Sender) { s.Associations = 2 })
	var rejected *dimse.RejectedError
	if !errors.As(err, &rejected) || rejected.Rejection != dimse.RejectCallingAETitle {
		t.Errorf("rejected: %v", err)
	}
	p.expect(t, results, map[send.Outcome]int{send.Unsent: 3})
}

// When its context ends the object under way is broken off and the rest left.
func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	p := newPeer(t, func(a *dimse.Association, rq dimse.CStoreRQ, n int) dimse.Result {
		if n == 2 {
			cancel(enough)
		}
		return dimse.Result{Status: dimse.StatusSuccess}
	})
	results, err := p.try(t, ctx, find(t, images(t, 10)), nil)
	if !errors.Is(err, enough) && !errors.Is(err, context.Canceled) {
		t.Errorf("the end is told as %v", err)
	}
	stored := len(p.uids())
	if stored > 2 {
		t.Errorf("%d stored after the end", stored)
	}
	for _, r := range results[3:] {
		if r.Outcome != send.Unsent {
			t.Errorf("%s: %v", r.Path, r.Outcome)
		}
	}
}
