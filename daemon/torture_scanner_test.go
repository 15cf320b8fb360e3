package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// template is a study that is sent many times, under other UIDs of the same length each time.
type template struct {
	study, series dicom.UID
	uids          []dicom.UID
	slices        [][]byte // data sets
	outcome       alerts.Outcome
}

// newTemplates are bleeds that the shipped model suspects, a normal head, and a series that no model may see.
func newTemplates(t *testing.T) (all []*template) {
	t.Helper()
	for _, o := range []phantom.Options{
		{Seed: 9, Class: phantom.Intraparenchymal}, {Seed: 6, Class: phantom.Epidural}, {Seed: 1, Class: phantom.Normal},
	} {
		outcome := alerts.Positive
		if o.Class == phantom.Normal {
			outcome = alerts.Negative
		}
		o.Rows, o.Columns, o.Slices, o.SliceThickness, o.Plain = 128, 128, 10, 12, true
		s, err := phantom.New(o)
		if err != nil {
			t.Fatal(err)
		}
		m := &template{study: s.StudyUID(), series: s.SeriesUID(), outcome: outcome}
		for i := range s.Slices() {
			var b bytes.Buffer
			if err := s.WriteDataSet(&b, i); err != nil {
				t.Fatal(err)
			}
			m.uids, m.slices = append(m.uids, s.InstanceUID(i)), append(m.slices, b.Bytes())
		}
		all = append(all, m)
	}
	localizer := &template{study: all[2].study, series: all[2].series, uids: all[2].uids[:3], outcome: alerts.NotAnalysed}
	for _, s := range all[2].slices[:3] {
		localizer.slices = append(localizer.slices, bytes.ReplaceAll(s, []byte(`\AXIAL`), []byte(`\REFOR`)))
	}
	cut := &template{study: all[0].study, series: all[0].series, uids: all[0].uids, outcome: alerts.Failed}
	for _, s := range all[0].slices {
		cut.slices = append(cut.slices, s[:len(s)-1000]) // within the pixels: it is stored and forwarded, and its analysis fails
	}
	return append(all, localizer, cut)
}

// renamed is a UID of the length of another one.
func renamed(uid dicom.UID, study, part int) dicom.UID {
	const prefix = "2.25.1"
	return dicom.UID(fmt.Sprintf("%s%0*d", prefix, len(uid)-len(prefix), study*1000+part))
}

// shot is one instance of the scanner's.
type shot struct {
	uid  dicom.UID
	sum  [sha256.Size]byte
	data []byte // nil when it is forgotten
}

// ct is a scanner: it examines, sends until it is answered with success, asks for storage commitment, and takes reports.
type ct struct {
	t         *testing.T
	to        string
	addr      string
	templates []*template
	wg        sync.WaitGroup

	mu         sync.Mutex
	rng        *rand.Rand
	studies    int
	queue      []*shot // not acknowledged yet
	acked      []*shot // since the last rest
	shots      map[dicom.UID]*shot
	expected   map[dicom.UID]alerts.Outcome // by study
	tried      map[dicom.UID]int            // how often each was begun
	total      int
	toCommit   []*commitment.Request // of what was acknowledged, one in each of the next associations
	awaited    map[dicom.UID]int     // reports, by transaction: how many references
	requested  map[dicom.UID]bool    // transactions: what they name does not change any more
	complaints []string              // about reports
	perLife    map[dicom.UID]int     // sent again in this life
}

func newCT(t *testing.T, to string, rng *rand.Rand, templates []*template) *ct {
	c := &ct{
		t: t, to: to, templates: templates, rng: rand.New(rand.NewPCG(rng.Uint64(), 0)),
		shots: map[dicom.UID]*shot{}, expected: map[dicom.UID]alerts.Outcome{}, tried: map[dicom.UID]int{}, awaited: map[dicom.UID]int{}, requested: map[dicom.UID]bool{}, perLife: map[dicom.UID]int{},
	}
	c.addr = dimsetest.NewServer(t, c, func(s *dimse.Server) { s.AETitle, s.EventReports = "CT1", c }).Addr
	return c
}

func (*ct) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

func (*ct) Store(context.Context, *dimse.Association, dimse.CStoreRQ, io.Reader) dimse.Result {
	return dimse.Result{Status: dimse.StatusNotAuthorized}
}

// EventReport takes the report of a storage commitment; one in six it refuses at first.
func (c *ct) EventReport(_ context.Context, _ *dimse.Association, rq dimse.NEventReportRQ, data io.Reader) dimse.Result {
	r, err := commitment.ReadResult(rq, data, commitment.Limits{References: 1000})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.rng.IntN(6) == 0 {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	want, known := c.awaited[r.TransactionUID]
	if len(r.Failed) > 0 || known && len(r.Committed) != want {
		c.complaints = append(c.complaints, fmt.Sprintf("of %d acknowledged instances %d are safe: %+v", want, len(r.Committed), r.Failed))
	}
	delete(c.awaited, r.TransactionUID)
	return dimse.Result{Status: dimse.StatusSuccess}
}

// examine makes a new study, of a bleed where it has to be.
func (c *ct) examine(bleed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.studies++
	m := c.templates[c.rng.IntN(len(c.templates))]
	for bleed && m.outcome != alerts.Positive {
		m = c.templates[c.rng.IntN(len(c.templates))]
	}
	c.expected[renamed(m.study, c.studies, 1)] = m.outcome
	for i, s := range m.slices {
		uid := renamed(m.uids[i], c.studies, i+10)
		data := bytes.Clone(s)
		for from, to := range map[dicom.UID]dicom.UID{
			m.uids[i]: uid, m.study: renamed(m.study, c.studies, 1), m.series: renamed(m.series, c.studies, 2),
		} {
			data = bytes.ReplaceAll(data, []byte(from), []byte(to))
		}
		s := &shot{uid: uid, data: data, sum: sha256.Sum256(data)}
		c.shots[uid], c.queue = s, append(c.queue, s)
		c.total++
	}
}

// idle reports whether everything is acknowledged.
func (c *ct) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) == 0 && len(c.toCommit) == 0
}

// left says what the scanner still waits for.
func (c *ct) left() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue)+len(c.toCommit)+len(c.awaited) > 0 {
		return fmt.Sprintf("%d instances to send, %d reports to come", len(c.queue), len(c.awaited))
	}
	return ""
}

// begin sends, and asks for commitment, as long as the daemon lives.
func (c *ct) begin(ended <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(c.t.Context(), cancel)
	go func() { <-ended; cancel() }()
	c.wg.Go(func() {
		defer cancel()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for !c.idle() {
			_ = c.associate(ctx) // it died, or is not born yet
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
	})
}

func (c *ct) wait() { c.wg.Wait() }

// associate sends over one association what is not acknowledged, and then asks for its commitment.
func (c *ct) associate(ctx context.Context) error {
	d := &dimse.Dialer{CallingAETitle: "CT1", CalledAETitle: "ICHWATCH", ReadTimeout: 20 * time.Second, Contexts: []dimse.ProposedContext{
		{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian}},
		{AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
	}}
	a, err := d.Dial(ctx, c.to)
	if err != nil {
		return err
	}
	defer a.Abort()
	for {
		s := c.next()
		if s == nil {
			break
		}
		syntax, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
		r, err := a.Store(ctx, dimse.CStoreRQ{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: s.uid, TransferSyntax: syntax}, bytes.NewReader(s.data))
		if err != nil {
			return err
		}
		if r.Status == dimse.StatusSuccess {
			c.acknowledge(s)
		}
	}
	if rq := c.commitment(); rq != nil {
		r, err := a.Action(ctx, dimse.NActionRQ{
			SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest,
		}, rq.Encode)
		if err != nil {
			return err
		}
		if r.Status == dimse.StatusSuccess {
			c.asked()
		}
	}
	return a.Release(ctx)
}

// next is what to send next; nil: nothing.
func (c *ct) next() *shot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil
	}
	s := c.queue[0]
	if c.tried[s.uid]++; c.tried[s.uid] > 1 {
		c.perLife[s.uid]++
	}
	return s
}

func (c *ct) acknowledge(s *shot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue, c.acked = c.queue[1:], append(c.acked, s)
	ref := commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: s.uid}
	if n := len(c.toCommit); n > 0 && !c.requested[c.toCommit[n-1].TransactionUID] {
		c.toCommit[n-1].References = append(c.toCommit[n-1].References, ref)
		return
	}
	c.toCommit = append(c.toCommit, &commitment.Request{TransactionUID: dicom.NewUID(), References: []commitment.Reference{ref}})
}

// commitment is what to ask for; its report may come before the answer.
func (c *ct) commitment() *commitment.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.toCommit) == 0 {
		return nil
	}
	rq := c.toCommit[0]
	c.requested[rq.TransactionUID] = true
	c.awaited[rq.TransactionUID] = len(rq.References)
	return rq
}

func (c *ct) asked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.toCommit = c.toCommit[1:]
}

// ended ends the counts of a life.
func (c *ct) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, complaint := range c.complaints {
		c.t.Error("storage commitment: " + complaint)
	}
	c.complaints = nil
	clear(c.perLife)
}

func (c *ct) repeats(uid dicom.UID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.perLife[uid]
}

// acknowledged is what was answered with success and is not forgotten.
func (c *ct) acknowledged() []*shot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*shot(nil), c.acked...)
}

// expects is what has to become of a study.
func (c *ct) expects(study dicom.UID) alerts.Outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expected[study]
}

// sent is how many instances there ever were.
func (c *ct) sent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// sum is what the data set of an instance was when it left the scanner.
func (c *ct) sum(uid dicom.UID) (sum [sha256.Size]byte, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shots[uid]
	if s == nil {
		return sum, false
	}
	return s.sum, true
}

// forget drops what is safe at the PACS and the archive.
func (c *ct) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.acked {
		s.data = nil
	}
	c.acked = nil
}
