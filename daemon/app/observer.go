package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
	"ichwatch/infer/drift"
	"ichwatch/infer/manifest"
	"ichwatch/infer/service"
)

const (
	driftName = "drift.json"
	// remember is how many studies are held for counted, so that one that is opened
	// again does not count twice.
	remember = 1000
	// sayAgain is how often an alarm that stands is logged.
	sayAgain = 7 * 24 * time.Hour
)

// observer watches for drift. What it keeps on disk is counts and means, nothing of a study.
type observer struct {
	model *model
	path  string
	learn int
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	open    map[dicom.UID]*drift.Collector
	counted map[dicom.UID]bool
	kept    driftFile
	said    map[string]time.Time
}

// driftFile is drift.json.
type driftFile struct {
	Models string      `json:"models"` // whose positives were counted
	State  drift.State `json:"state"`
}

func openObserver(m *model, dir string, learn int, log *slog.Logger) *observer {
	o := &observer{
		model: m, path: filepath.Join(dir, driftName), learn: learn, log: log, now: time.Now,
		open: map[dicom.UID]*drift.Collector{}, counted: map[dicom.UID]bool{}, said: map[string]time.Time{},
	}
	text, err := os.ReadFile(o.path)
	if err == nil {
		err = json.Unmarshal(text, &o.kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("what was learned of usual studies cannot be read; it is learned anew", "err", err)
		o.kept = driftFile{}
	}
	return o
}

// Seen implements triage.Observer.
func (o *observer) Seen(study dicom.UID, slice *drift.Collector) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.open[study]
	if c == nil {
		c = new(drift.Collector)
		o.open[study] = c
	}
	c.Merge(slice)
}

// Concluded implements triage.Observer.
func (o *observer) Concluded(study dicom.UID, outcome alerts.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.open[study]
	delete(o.open, study)
	if c == nil || o.counted[study] {
		return // nothing of it was for a model, or it counts already
	}
	if len(o.counted) >= remember {
		clear(o.counted)
	}
	o.counted[study] = true
	w := o.watch()
	raised := w.Add(drift.Study{
		Features: c.Means(), Positive: outcome == alerts.Positive, Decided: outcome == alerts.Positive || outcome == alerts.Negative,
	}, o.now())
	o.kept.State = w.State
	for _, a := range raised {
		o.said[a.Of] = time.Time{}
	}
	for _, a := range w.Alarms() {
		if o.now().Sub(o.said[a.Of]) >= sayAgain {
			o.said[a.Of] = o.now()
			o.log.Error("what the models see is no longer what it was; look at the scanner, its protocols and the model", "drift", a.Text, "since", a.Since)
		}
	}
	if err := o.write(); err != nil {
		o.log.Error("what was learned of usual studies is not kept", "err", err)
	}
}

// watch goes on from what is kept. Other models have another rate of positives.
func (o *observer) watch() *drift.Watch {
	var usual drift.Usual
	o.model.look(func(r *service.Running) {
		if names := r.Ensemble.Models().String(); names != o.kept.Models {
			o.kept.Models = names
			o.kept.State.ForgetPositives()
		}
		usual = usualOf(r.Ensemble.Members)
	})
	return drift.New(o.kept.State, usual, o.learn)
}

// usualOf takes what the first of the manifests says that says anything.
func usualOf(members []*manifest.Manifest) (usual drift.Usual) {
	for _, m := range members {
		u := m.Usual
		if u == nil {
			continue
		}
		usual.Features = map[drift.Feature]drift.Spread{}
		for f, s := range map[drift.Feature]*manifest.Spread{
			drift.TissueHU: u.TissueHU, drift.TissueSD: u.TissueSD, drift.PixelMM: u.Pixel, drift.Thickness: u.Thickness,
		} {
			if s != nil {
				usual.Features[f] = drift.Spread(*s)
			}
		}
		if u.PositiveRate != nil {
			rate := drift.Range(*u.PositiveRate)
			usual.Positive = &rate
		}
		return usual
	}
	return usual
}

func (o *observer) write() error {
	text, err := json.Marshal(o.kept)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(o.path, append(text, '\n'), 0o600)
}

// alarms lists the drifts that stand.
func (o *observer) alarms() []drift.Alarm {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.watch().Alarms()
}

// check complains of a drift.
func (o *observer) check() error {
	var texts []string
	for _, a := range o.alarms() {
		texts = append(texts, a.Text)
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}

// relearn forgets what is usual, as after a change that was meant.
func (o *observer) relearn() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = driftFile{Models: o.kept.Models}
	if err := o.write(); err != nil {
		return fmt.Errorf("forget what is usual: %w", err)
	}
	o.log.Info("what is usual of studies is learned anew", "studies", o.learn)
	return nil
}
