package labelled

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/daemon/triage"
	"ichwatch/infer"
	"ichwatch/infer/assess"
	"ichwatch/infer/assess/report"
	"ichwatch/infer/study"
)

// Examination is what the daemon's path made of a set.
type Examination struct {
	Set      *Set
	Results  []triage.Result // of Set.Slices
	Elapsed  time.Duration
	examiner *triage.Examiner
}

// Examine sends every slice of the set through e, workers of them at a time.
// progress, if not nil, is called after each; its calls do not overlap. A slice
// that cannot be read is a result; the error is ctx's, or the disk's.
func (s *Set) Examine(ctx context.Context, e *triage.Examiner, workers int, progress func(done, total int)) (*Examination, error) {
	x := &Examination{Set: s, Results: make([]triage.Result, len(s.Slices)), examiner: e}
	start := time.Now()
	var mu sync.Mutex
	done := 0
	group, failing := errgroup.WithContext(ctx)
	group.SetLimit(max(workers, 1))
	for i := range s.Slices {
		if failing.Err() != nil {
			break
		}
		group.Go(func() (err error) {
			if x.Results[i], err = s.examine(failing, e, &s.Slices[i]); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			if progress != nil {
				progress(done, len(s.Slices))
			}
			return nil
		})
	}
	if err := cmp.Or(group.Wait(), context.Cause(ctx)); err != nil {
		return nil, fmt.Errorf("examine the set: %w", err)
	}
	x.Elapsed = time.Since(start)
	return x, nil
}

func (s *Set) examine(ctx context.Context, e *triage.Examiner, l *Slice) (triage.Result, error) {
	if s.Format != Phantom {
		img, err := s.windowed(l)
		if err != nil {
			return triage.Result{}, fmt.Errorf("line %d of the labels: %w", l.Line, err)
		}
		r, err := e.ExamineImage(ctx, img)
		if s.numbered {
			r.Position = l.slice * spacing
		}
		return r, err
	}
	data, file, err := s.dataSet(l)
	if err != nil {
		return triage.Result{}, err
	}
	defer file.Close()
	r, err := e.Examine(ctx, data, l.class, l.syntax)
	if r.Frames != nil { // the labels know files alone
		r = triage.Result{State: spool.FindingIneligible, Reason: "several frames in one file", Position: r.Position}
	}
	return r, err
}

// Answered gives the examination as it would be had the model said this of each
// slice, in the order of Set.Slices, and had rule weighed it. What was not
// classified stays so.
func (x *Examination) Answered(rule *study.Rule, probabilities [][]float64) *Examination {
	out := &Examination{Set: x.Set, Results: slices.Clone(x.Results), Elapsed: x.Elapsed, examiner: &triage.Examiner{
		Gate: x.examiner.Gate, Model: &triage.Model{Classifier: x.examiner.Model.Classifier, Rule: rule},
		Calls: x.examiner.Calls, Timeout: x.examiner.Timeout,
	}}
	for i := range out.Results {
		r := &out.Results[i]
		if r.State != spool.FindingClassified {
			continue
		}
		r.Probabilities = make([]float32, len(probabilities[i]))
		for k, p := range probabilities[i] {
			r.Probabilities[k] = float32(p)
		}
	}
	return out
}

// Image gives a slice of the set as the model sees it, before preprocessing.
func (x *Examination) Image(slice int) (*infer.Image, error) {
	return x.Set.image(x.examiner, &x.Set.Slices[slice])
}

// image gives the slice as the model sees it, before preprocessing.
func (s *Set) image(e *triage.Examiner, l *Slice) (*infer.Image, error) {
	if s.Format != Phantom {
		return s.windowed(l)
	}
	data, file, err := s.dataSet(l)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return e.Decode(data, l.class, l.syntax)
}

// windowed reads a slice that is kept in one window or two.
func (s *Set) windowed(l *Slice) (*infer.Image, error) {
	if s.Format == CTICH {
		return s.readPair(l)
	}
	return s.readImage(l)
}

// Counts says what became of the slices.
type Counts struct {
	Classified int
	Ineligible map[string]int // by reason
	Failed     map[string]int // by reason
	Doubtful   int            // classified, but left out of the figures of slices
	Unclear    int            // studies that show nothing but doubtful slices, left out of the figures of studies
	Unordered  int            // studies of which nobody knows how their slices lie, left out of the figures of studies
	// Unclassified slices show a hemorrhage whose classes are not stated: in the
	// figures of any hemorrhage alone.
	Unclassified int
	// Undecided are the studies that ended as NOT-ANALYSED or FAILED. They raise no
	// alert, and count as missed where they bleed.
	Undecided []report.Undecided
}

// Data gives what is to be assessed: classes in the order of the model,
// thresholds of the operating point in use, of slices and, where the study rule has
// one, of studies (0 where it has none). slices are the indices into Set.Slices of
// the data's.
func (x *Examination) Data(classes []infer.Class, thresholds map[infer.Class]float64, studyThreshold float64) (d assess.Data, counts Counts, slices []int) {
	d = assess.Data{Classes: classes, Thresholds: thresholds, StudyThreshold: studyThreshold}
	counts = Counts{Ineligible: map[string]int{}, Failed: map[string]int{}}
	studies := make([]struct {
		truth    assess.Truth
		doubtful bool
		patient  int
		line     int // the first of the table
		objects  []triage.Examined
	}, x.Set.Studies)
	for _, l := range x.Set.Rows { // all of them: what a study shows does not go away with a file
		s := &studies[l.Study]
		s.patient, s.doubtful, s.line = l.Patient, s.doubtful || l.Doubtful, cmp.Or(s.line, l.Line)
		for c, shows := range l.Truth.Shows {
			s.truth.Shows[c] = s.truth.Shows[c] || shows
		}
		s.truth.Unclassified = s.truth.Unclassified || l.Truth.Unclassified
	}
	for i := range x.Set.Slices {
		l, r := &x.Set.Slices[i], &x.Results[i]
		s := &studies[l.Study]
		s.objects = append(s.objects, triage.Examined{Series: l.Series, Result: *r})
		switch r.State {
		case spool.FindingClassified:
			counts.Classified++
		case spool.FindingIneligible:
			counts.Ineligible[r.Reason]++
			continue
		default:
			counts.Failed[r.Reason]++
			continue
		}
		if l.Doubtful {
			counts.Doubtful++
			continue
		}
		if l.Truth.Unclassified {
			counts.Unclassified++
		}
		p := make([]float64, len(r.Probabilities))
		for k, v := range r.Probabilities {
			p[k] = float64(v)
		}
		d.Slices = append(d.Slices, assess.Slice{Patient: l.Patient, Truth: l.Truth, Probabilities: p})
		slices = append(slices, i)
	}
	for i, s := range studies {
		switch {
		case len(s.objects) == 0:
			continue // none of its slices is there
		case x.Set.Format != Phantom && !x.Set.numbered:
			counts.Unordered++
			continue
		case s.doubtful && !s.truth.Any():
			counts.Unclear++
			continue
		}
		c := x.examiner.Conclude(s.objects)
		d.Studies = append(d.Studies, concluded(classes, s.patient, s.truth, c))
		if c.Outcome == alerts.NotAnalysed || c.Outcome == alerts.Failed {
			counts.Undecided = append(counts.Undecided, report.Undecided{
				Study: i + 1, Line: s.line, Bleeding: s.truth.Any(), Outcome: string(c.Outcome), Reason: c.Reason,
			})
		}
	}
	return d, counts, slices
}

func concluded(classes []infer.Class, patient int, truth assess.Truth, c triage.Conclusion) assess.Study {
	s := assess.Study{Patient: patient, Truth: truth, Score: c.Score, Scores: make([]float64, len(classes)), Named: c.Named}
	s.Outcome, _ = assess.ParseOutcome(string(c.Outcome)) // both lists are the same; a test holds them together
	for _, f := range c.Findings {
		for k, class := range classes {
			if class == f.Class {
				s.Scores[k] = float64(f.Score)
			}
		}
	}
	return s
}
