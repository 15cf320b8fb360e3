package triage

import (
	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/study"
)

// Examined is one object of a study that was examined outside the spool.
type Examined struct {
	Series dicom.UID // slices of one series are weighed together
	Result Result
}

// Conclusion is what the daemon would say of a study once it has come to rest.
type Conclusion struct {
	Outcome alerts.Outcome
	Reason  string // where the outcome asks for one; never identity
	// Score is that of the strongest series under the study rule, 0 without series.
	Score float64
	// Named is the class that an alert would name; Normal where none is raised.
	Named infer.Class
	// Findings has each hemorrhage class of the model once: the strongest over
	// the series of the study. Their slice indices are left out.
	Findings []study.Finding
}

// Conclude weighs the objects of one study as the daemon does when nothing more
// of it comes.
func (e *Examiner) Conclude(objects []Examined) Conclusion {
	var findings []spool.Finding
	for _, o := range objects {
		frames := o.Result.Frames
		if frames == nil {
			frames = []Result{o.Result}
		}
		for _, r := range frames {
			f := r.finding()
			f.SeriesInstanceUID = o.Series
			findings = append(findings, f)
		}
	}
	model, done := use(e.Service, e.Model)
	defer done()
	w := weigh(model, findings)
	var c Conclusion
	c.Outcome, c.Reason = w.outcome()
	if w.leading != nil {
		c.Score = w.leading.decision.Score
	}
	if w.positive() {
		c.Named = w.leading.decision.Leading.Class
	}
	at := map[infer.Class]int{}
	for _, s := range w.stacks {
		for _, f := range s.decision.Findings {
			seen := f.KeySlice >= 0
			f.Slices, f.KeySlice = nil, -1
			k, known := at[f.Class]
			switch {
			case !known:
				at[f.Class] = len(c.Findings)
				c.Findings = append(c.Findings, f)
			case seen && (f.Positive && !c.Findings[k].Positive || f.Positive == c.Findings[k].Positive && f.Score > c.Findings[k].Score):
				c.Findings[k] = f
			}
		}
	}
	return c
}
