package triage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/study"
)

// stack is the part of a study that the study rule weighs: the slices of one
// series that the model has seen or should have seen.
type stack struct {
	findings []spool.Finding
	decision study.Decision
}

// weighing is what the findings of a study come to.
type weighing struct {
	counts     alerts.Counts
	stacks     []stack
	leading    *stack         // the positive stack with the highest score, otherwise the one with the highest; nil without stacks
	refused    map[string]int // ineligible instances by reason
	unseen     map[string]int // those of them in a series of the stacks, but for slices without a head
	failed     map[string]int // failed ones
	acquiredAt time.Time      // earliest known
	point      string         // operating point of the model; empty without one
}

// stale says whether another model has classified a slice than the one in service.
func stale(f spool.Finding, models infer.Models) bool {
	return f.State == spool.FindingClassified && !slices.Equal(f.Models, models)
}

// weigh applies the study rule. What another model than the one in service has
// seen, before a restart perhaps, does not count as seen: its scores mean
// something else.
func weigh(model *Model, findings []spool.Finding) weighing {
	w := weighing{refused: map[string]int{}, unseen: map[string]int{}, failed: map[string]int{}}
	bySeries := map[dicom.UID]int{}
	var models infer.Models
	if model != nil {
		models = model.Classifier.Models()
	}
	for _, f := range findings {
		if stale(f, models) {
			f.State, f.Reason, f.Probabilities = spool.FindingFailed, "classified by a model that is no longer in service", nil
		}
		if !f.AcquiredAt.IsZero() && (w.acquiredAt.IsZero() || f.AcquiredAt.Before(w.acquiredAt)) {
			w.acquiredAt = f.AcquiredAt
		}
		switch f.State {
		case spool.FindingIneligible:
			w.counts.Ineligible++
			w.refused[f.Reason]++
			continue
		case spool.FindingFailed:
			w.counts.Failed++
			w.failed[f.Reason]++
		default:
			w.counts.Classified++
		}
		at, ok := bySeries[f.SeriesInstanceUID]
		if !ok {
			at = len(w.stacks)
			bySeries[f.SeriesInstanceUID] = at
			w.stacks = append(w.stacks, stack{})
		}
		w.stacks[at].findings = append(w.stacks[at].findings, f)
	}
	for _, f := range findings {
		if _, ok := bySeries[f.SeriesInstanceUID]; ok && f.State == spool.FindingIneligible && f.Reason != noHead {
			w.unseen[f.Reason]++
		}
	}
	if model == nil {
		return w
	}
	w.point = model.OperatingPoint
	for i := range w.stacks {
		s := &w.stacks[i]
		evidence := make([]study.SliceEvidence, len(s.findings))
		for k, f := range s.findings {
			evidence[k] = study.SliceEvidence{Position: f.Position}
			if f.State == spool.FindingClassified {
				evidence[k].Probabilities = f.Probabilities
			}
		}
		s.decision = model.Rule.Evaluate(evidence)
		if w.leading == nil || leads(s.decision, w.leading.decision) {
			w.leading = s
		}
	}
	return w
}

func leads(a, b study.Decision) bool {
	if a.Positive() != b.Positive() {
		return a.Positive()
	}
	return a.Score > b.Score
}

// positive reports whether a hemorrhage is suspected.
func (w *weighing) positive() bool { return w.leading != nil && w.leading.decision.Positive() }

// lose counts instances that came and have no finding although nothing is
// pending: their files were gone before anybody looked at them.
func (w *weighing) lose(n int) {
	if n > 0 {
		w.counts.Failed += n
		w.failed[fileMissing] += n
	}
}

// outcome says how the study ends and why. It is NEGATIVE only where some stack
// was seen completely, and nothing failed anywhere.
func (w *weighing) outcome() (o alerts.Outcome, reason string) {
	undecided := map[string]int{} // stacks that are neither positive nor negative, by reason
	negative := 0
	for _, s := range w.stacks {
		switch s.decision.Verdict {
		case study.Positive:
		case study.Negative:
			negative++
		default:
			undecided[s.decision.Reason]++
		}
	}
	failed := ""
	if w.counts.Failed > 0 {
		failed = fmt.Sprintf("%d of %d slices could not be analysed: %s", w.counts.Failed, w.counts.Failed+w.counts.Classified, commonest(w.failed))
	}
	switch {
	case w.positive():
		return alerts.Positive, failed
	case failed != "":
		return alerts.Failed, failed
	case w.counts.Classified == 0 && w.counts.Ineligible == 0:
		return alerts.NotAnalysed, "no object is left to look at"
	case w.counts.Classified == 0:
		return alerts.NotAnalysed, fmt.Sprintf("none of %d objects is for the model: %s", w.counts.Ineligible, commonest(w.refused))
	case negative == 0:
		return alerts.NotAnalysed, commonest(undecided)
	}
	var but []string // what was not seen beside the part that was
	if len(undecided) > 0 {
		but = append(but, fmt.Sprintf("%d of %d series could not be decided: %s", len(w.stacks)-negative, len(w.stacks), commonest(undecided)))
	}
	if n := total(w.unseen); n > 0 {
		but = append(but, fmt.Sprintf("%d objects of the analysed series are not for the model: %s", n, commonest(w.unseen)))
	}
	return alerts.Negative, strings.Join(but, "; ")
}

func total(reasons map[string]int) (n int) {
	for _, count := range reasons {
		n += count
	}
	return n
}

// commonest returns the reason that is given most often, and says so where it
// is not the only one.
func commonest(reasons map[string]int) string {
	all := make([]string, 0, len(reasons))
	for reason := range reasons {
		all = append(all, reason)
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b))
	})
	switch len(all) {
	case 0:
		return ""
	case 1:
		return all[0]
	}
	return all[0] + ", and others"
}

// alert composes the message about a positive study. The spool adds what only it
// knows: id, sequence, type and level.
func (r *run) alert(s spool.Study, w *weighing) *alerts.Message {
	decision := w.leading.decision
	key := w.leading.findings[decision.Leading.KeySlice]
	m := &alerts.Message{
		Site: r.Site, Device: r.Device, Study: r.identify(s),
		Finding: decision.Leading.Class.String(), Score: decision.Score,
		Threshold: decision.Threshold, OperatingPoint: w.point,
		Models:     named(key.Models),
		AcquiredAt: key.AcquiredAt, ReceivedAt: key.ReceivedAt, DetectedAt: r.now(),
	}
	if m.InstanceUID != "" {
		m.KeyImage, m.KeyFrame = string(key.SOPInstanceUID), key.Frame
	}
	return m
}

// named says in an alert's terms which models were asked.
func named(models infer.Models) (out []alerts.Model) {
	for _, m := range models {
		out = append(out, alerts.Model(m))
	}
	return out
}

// conclude makes the final decision about a study.
func (r *run) conclude(s spool.Study, findings []spool.Finding, model *Model) spool.Decision {
	w := weigh(model, findings)
	w.counts.Received = s.Instances
	w.lose(s.Instances - instances(findings))
	d := spool.Decision{StudyInstanceUID: s.StudyInstanceUID, Revision: s.Revision, Final: true}
	m := &d.Outcome
	*m = alerts.OutcomeMessage{
		Site: r.Site, Device: r.Device, Study: r.identify(s),
		Counts: w.counts, AcquiredAt: w.acquiredAt, ReceivedAt: s.LastReceived, DecidedAt: r.now(),
	}
	m.Outcome, m.Reason = w.outcome()
	if m.Outcome == alerts.Negative && !s.Released {
		// What was not sent was not seen.
		m.Outcome, m.Reason = alerts.NotAnalysed, "the sender broke off in mid-study; it is decided when the rest has been sent"
	}
	if w.counts.Classified > 0 && w.leading != nil {
		m.Models = named(model.Classifier.Models())
		m.Score, m.Threshold, m.OperatingPoint = w.leading.decision.Score, w.leading.decision.Threshold, w.point
	}
	if m.Outcome == alerts.Positive {
		d.Alert = r.alert(s, &w)
		m.Finding = d.Alert.Finding
	}
	return d
}

// instances counts the instances of findings in order of receipt: frames of one
// stand together.
func instances(findings []spool.Finding) (n int) {
	for i, f := range findings {
		if i == 0 || f.InstanceID != findings[i-1].InstanceID {
			n++
		}
	}
	return n
}

// identify names a study as the site wants it named. What is no UID is never
// repeated: somebody may have put a name there.
func (r *run) identify(s spool.Study) alerts.Study {
	if r.Pseudonymous || s.StudyInstanceUID.Valid() != nil {
		return alerts.Study{Pseudonym: s.Pseudonym}
	}
	return alerts.Study{InstanceUID: string(s.StudyInstanceUID)}
}
