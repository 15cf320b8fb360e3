package triage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/drift"
	"ichwatch/infer/study"
)

// Model is what looks at slices and what decides from them; both come from the
// same manifests.
type Model struct {
	Classifier     infer.Classifier
	Rule           *study.Rule
	OperatingPoint string // whose thresholds Rule has, by its name
}

// Service gives the model that looks at slices, where that may change.
type Service interface {
	// Use gives the model in service, nil where there is none. It stays usable until
	// done is called.
	Use() (m *Model, done func())
}

// Observer watches what comes in and what comes of it. Its methods may be called at
// once, and are not to take long.
type Observer interface {
	// Seen is told of a classified slice. A slice that is looked at again is told of
	// again.
	Seen(study dicom.UID, slice *drift.Collector)
	// Concluded is told of a study's outcome; of another, should it be opened again.
	Concluded(study dicom.UID, o alerts.Outcome)
}

// use takes the model from a service, or the fixed one where there is none.
func use(s Service, fixed *Model) (*Model, func()) {
	if s == nil {
		return fixed, func() {}
	}
	return s.Use()
}

// Triage works on one spool. Its fields are its configuration and must not
// change while it runs.
type Triage struct {
	Spool *spool.Spool
	// Model is nil where none could be brought into service: eligible slices,
	// and with them their studies, have failed then.
	Model *Model
	// Service, where it is not nil, gives the model instead, which may change between
	// two slices. Slices of an undecided study that another has classified are then
	// looked at once more.
	Service Service
	// Observer, where it is not nil, is told what the slices are like and how studies
	// end.
	Observer Observer
	Gate     Gate

	Site, Device string
	// Pseudonymous names studies by their pseudonym instead of their UID in
	// what leaves the device.
	Pseudonymous bool

	Workers int           // slices computed at a time; default 1
	Quiet   time.Duration // after which a study that nobody carries is complete; default 20 s
	Timeout time.Duration // for the classification of one slice; default 30 s
	Retry   time.Duration // pause after the ledger gave an error; default 1 s

	Log *slog.Logger     // required
	Now func() time.Time // default time.Now
}

// Run works until ctx ends and returns nil when the slices under way are done
// with. What it has not come to stays pending in the spool. Errors of the spool
// are logged and tried again. Its own error, at once, is that of a configuration
// with which no message could leave.
func (t *Triage) Run(ctx context.Context) error {
	if err := t.check(); err != nil {
		return fmt.Errorf("triage: %w", err)
	}
	r := newRun(t)
	var parts sync.WaitGroup
	parts.Go(func() { r.examineSlices(ctx) })
	parts.Go(func() { r.decideStudies(ctx) })
	parts.Wait()
	return nil
}

func (t *Triage) check() error {
	if t.Site == "" || t.Device == "" {
		return errors.New("site and device must be named")
	}
	model, done := use(t.Service, t.Model)
	defer done()
	if model == nil {
		return nil
	}
	models := model.Classifier.Models()
	if len(models) == 0 || slices.ContainsFunc(models, func(m infer.ModelRef) bool { return m.Name == "" || m.SHA256 == "" }) {
		return errors.New("every model must have a name and a hash")
	}
	return nil
}

// run is the state of one Run.
type run struct {
	*Triage
	workers  int
	quiet    time.Duration
	retry    time.Duration
	examiner *Examiner
	judged   studySet // studies with new findings

	stumbles int // of decideStudies, in a row
}

func newRun(t *Triage) *run {
	workers := max(t.Workers, 1)
	// While one slice waits for the disk, to be read or for its finding, another is
	// computed; how many of those there are at a time is the classifier's matter.
	workers += (workers + 1) / 2
	return &run{
		Triage:   t,
		workers:  workers,
		quiet:    orDefault(t.Quiet, 20*time.Second),
		retry:    orDefault(t.Retry, time.Second),
		examiner: &Examiner{Gate: t.Gate, Model: t.Model, Service: t.Service, Calls: workers, Timeout: t.Timeout, Collect: t.Observer != nil},
		judged:   newStudySet(),
	}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

func (r *run) now() time.Time {
	if r.Now == nil {
		return time.Now()
	}
	return r.Now()
}

// examineSlices keeps the workers busy with the slices that are pending, the
// most urgent first.
func (r *run) examineSlices(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	busy := make(map[int64]bool) // instances under way, which are pending still
	done := make(chan int64)
	for {
		pending := r.pendingSlices(ctx, len(busy))
		for _, i := range pending {
			if busy[i.ID] || len(busy) >= r.workers {
				continue
			}
			busy[i.ID] = true
			workers.Go(func() {
				r.work(ctx, i)
				select {
				case done <- i.ID:
				case <-ctx.Done():
				}
			})
		}
		retry := time.NewTimer(r.retry)
		select {
		case id := <-done:
			delete(busy, id)
		case <-r.Spool.SlicesAdded():
		case <-retry.C: // a signal is a courtesy; the ledger is the truth
		case <-ctx.Done():
			retry.Stop()
			return
		}
		retry.Stop()
	}
}

// pendingSlices returns what to begin with, given how many are under way.
func (r *run) pendingSlices(ctx context.Context, busy int) []spool.Instance {
	if busy >= r.workers || ctx.Err() != nil {
		return nil
	}
	// Those under way may be among the first: room for all leaves room for each free worker.
	pending, err := r.Spool.PendingSlices(ctx, r.workers)
	if err != nil && ctx.Err() == nil {
		r.Log.Error("cannot look for slices; trying again", "err", err)
	}
	return pending
}

// work brings one instance to its finding.
func (r *run) work(ctx context.Context, i spool.Instance) {
	found, ok := r.examine(ctx, i)
	for ok {
		err := r.Spool.RecordFinding(ctx, found...)
		if err == nil {
			if found[0].State == spool.FindingClassified {
				r.judged.add(i.StudyInstanceUID)
			}
			return
		}
		if ctx.Err() == nil {
			r.Log.Error("cannot record a finding; trying again", "study", i.Study, "instance", i.ID, "err", err)
		}
		ok = pause(ctx, r.retry)
	}
}

// decideStudies applies the study rule whenever there are new findings, and
// concludes studies that have come to rest. It is the only one who decides, so
// decisions about a study follow each other.
func (r *run) decideStudies(ctx context.Context) {
	check := time.NewTicker(min(max(r.quiet/4, 10*time.Millisecond), time.Second))
	defer check.Stop()
	for {
		select {
		case <-r.judged.added:
			r.raiseAlerts(ctx)
		case <-check.C:
			r.raiseAlerts(ctx) // those that failed
			r.concludeStudies(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// raiseAlerts looks at the studies with new findings. A study whose alert stands
// already waits for its conclusion: on-call staff need the alert at once, not
// each change of its score.
func (r *run) raiseAlerts(ctx context.Context) {
	for _, uid := range r.judged.take() {
		err := r.raiseAlert(ctx, uid)
		r.tell(ctx, "cannot weigh a study; trying again", r.Spool.Pseudonym(uid), err)
		if err != nil {
			r.judged.keep(uid)
		}
	}
}

// tell logs an error of decideStudies: the first, and then ever more rarely, for
// a disk that fails fails every second.
func (r *run) tell(ctx context.Context, what, study string, err error) {
	if err == nil {
		r.stumbles = 0
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	r.stumbles++
	level := slog.LevelDebug
	if r.stumbles&(r.stumbles-1) == 0 {
		level = slog.LevelError
	}
	r.Log.Log(ctx, level, what, "study", study, "err", err, "failures", r.stumbles)
}

func (r *run) raiseAlert(ctx context.Context, uid dicom.UID) error {
	// The study before its findings: a slice that joins in between makes the
	// revision old, never the evidence.
	s, err := r.Spool.Study(ctx, uid)
	if err != nil || s.AlertID != "" {
		return err
	}
	findings, err := r.Spool.StudyFindings(ctx, uid)
	if err != nil {
		return err
	}
	model, done := use(r.Service, r.Model)
	defer done()
	if _, err := r.reexamine(ctx, s, model, findings); err != nil {
		return err
	}
	w := weigh(model, findings)
	if !w.positive() {
		return nil
	}
	verdict, err := r.Spool.Decide(ctx, spool.Decision{StudyInstanceUID: uid, Revision: s.Revision, Alert: r.alert(s, &w)})
	if err != nil {
		return err
	}
	r.Log.Info("hemorrhage suspected, not for diagnosis; alert raised", "study", s.Pseudonym, "alert", verdict.AlertID,
		"finding", w.leading.decision.Leading.Class, "score", w.leading.decision.Score, "threshold", w.leading.decision.Threshold,
		"operating_point", w.point, "slices", w.counts.Classified)
	return nil
}

// concludeStudies gives every study that has come to rest its outcome.
func (r *run) concludeStudies(ctx context.Context) {
	quiet, err := r.Spool.QuietStudies(ctx, r.now().Add(-r.quiet))
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Error("cannot look for quiet studies; trying again", "err", err)
		}
		return
	}
	for _, s := range quiet {
		r.tell(ctx, "cannot conclude a study; trying again", s.Pseudonym, r.concludeStudy(ctx, s))
	}
}

func (r *run) concludeStudy(ctx context.Context, s spool.Study) error {
	findings, err := r.Spool.StudyFindings(ctx, s.StudyInstanceUID)
	if err != nil {
		return err
	}
	model, done := use(r.Service, r.Model)
	defer done()
	if again, err := r.reexamine(ctx, s, model, findings); err != nil || again {
		return err
	}
	d := r.conclude(s, findings, model)
	verdict, err := r.Spool.Decide(ctx, d)
	if err != nil {
		return err
	}
	if r.Observer != nil {
		r.Observer.Concluded(s.StudyInstanceUID, d.Outcome.Outcome)
	}
	level := slog.LevelInfo
	if d.Outcome.Outcome == alerts.Failed {
		level = slog.LevelWarn
	}
	var score []any // where a model was asked
	if o := d.Outcome; len(o.Models) > 0 {
		score = []any{"score", o.Score, "threshold", o.Threshold, "operating_point", o.OperatingPoint}
	}
	r.Log.With(score...).Log(ctx, level, "study decided, not for diagnosis", "study", s.Pseudonym, "outcome", d.Outcome.Outcome, "reason", d.Outcome.Reason,
		"received", d.Outcome.Counts.Received, "classified", d.Outcome.Counts.Classified,
		"ineligible", d.Outcome.Counts.Ineligible, "failed", d.Outcome.Counts.Failed,
		"alert", verdict.AlertID, "alert_message", verdict.Type, "closed", verdict.Closed)
	return nil
}

// reexamine has the slices looked at again that another model than the one in
// service has classified. again is false where there are none, or where they
// cannot be: no model is in service, or their files are gone.
func (r *run) reexamine(ctx context.Context, s spool.Study, model *Model, findings []spool.Finding) (again bool, err error) {
	if model == nil {
		return false, nil
	}
	models := model.Classifier.Models()
	if !slices.ContainsFunc(findings, func(f spool.Finding) bool { return stale(f, models) }) {
		return false, nil
	}
	n, err := r.Spool.ReexamineStudy(ctx, s.StudyInstanceUID, models)
	if n > 0 {
		r.Log.Info("the model was exchanged in the middle of a study; its slices are analysed again", "study", s.Pseudonym, "slices", n, "models", models)
	}
	return n > 0, err
}

// pause waits for d; it returns false where ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// studySet collects studies for the one who decides.
type studySet struct {
	mu    sync.Mutex
	uids  map[dicom.UID]struct{}
	added chan struct{} // signalled by add
}

func newStudySet() studySet {
	return studySet{uids: make(map[dicom.UID]struct{}), added: make(chan struct{}, 1)}
}

// add puts a study in and wakes whoever waits.
func (s *studySet) add(uid dicom.UID) {
	s.keep(uid)
	select {
	case s.added <- struct{}{}:
	default:
	}
}

// keep puts a study in for the next look.
func (s *studySet) keep(uid dicom.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uids[uid] = struct{}{}
}

// take empties the set.
func (s *studySet) take() []dicom.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	uids := make([]dicom.UID, 0, len(s.uids))
	for uid := range s.uids {
		uids = append(uids, uid)
	}
	clear(s.uids)
	return uids
}
