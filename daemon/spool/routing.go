package spool

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"ichwatch/alerts"
	"ichwatch/dimse/dicom"
)

// Traits are what of an instance may decide where it goes. All of them stand in
// its file, so that a ledger that is rebuilt sends it the same way. They may
// identify a patient: they are neither logged nor kept in the ledger.
type Traits struct {
	CallingAETitle   dicom.AETitle
	CalledAETitle    dicom.AETitle // "" in files of releases before routing
	SOPClassUID      dicom.UID
	Modality         string
	StationName      string
	StudyDescription string // decoded as far as Latin letters go
}

// Way is one destination of an instance.
type Way struct {
	Destination string
	Outcomes    []alerts.Outcome // of its study: one of these; nil: at once, whatever it will be
}

// Describes reports whether an attribute is one that Commit takes from the
// header that it is given.
func Describes(t dicom.Tag) bool {
	switch t {
	case dicom.TagStudyInstanceUID, dicom.TagSeriesInstanceUID,
		dicom.TagSpecificCharacterSet, dicom.TagModality, dicom.TagStationName, dicom.TagStudyDescription:
		return true
	}
	return false
}

// traits reads what routing may ask; the header may be nil.
func traits(m dicom.FileMeta, h *dicom.Header) Traits {
	t := Traits{CallingAETitle: m.SourceAETitle, CalledAETitle: m.ReceivingAETitle, SOPClassUID: m.SOPClassUID}
	if h != nil {
		t.Modality, t.StationName, t.StudyDescription = h.String(dicom.TagModality), latin(h, dicom.TagStationName), latin(h, dicom.TagStudyDescription)
	}
	return t
}

// latin reads a text that is in UTF-8, or else in Latin-1 as far as it is not
// ASCII: ISO_IR 100 is what Western scanners write. Texts in other character sets
// come out as what a pattern of ASCII letters still finds its letters in.
func latin(h *dicom.Header, t dicom.Tag) string {
	text := h.String(t)
	if slices.Contains(h.Strings(dicom.TagSpecificCharacterSet), "ISO_IR 192") {
		return text
	}
	runes := make([]rune, 0, len(text))
	for _, b := range []byte(text) {
		runes = append(runes, rune(b))
	}
	return string(runes)
}

// everywhere sends to each of the destinations, at once.
func everywhere(destinations []string) func(Traits) []Way {
	ways := make([]Way, len(destinations))
	for i, d := range destinations {
		ways[i].Destination = d
	}
	return func(Traits) []Way { return ways }
}

// addLegs gives an instance its legs, and those that it may get when its study is
// decided. Where there are neither, it says so, once for its study.
func (s *Spool) addLegs(tx *transaction, i *Instance, study joinedStudy) error {
	ways := s.route(i.traits)
	for _, w := range ways {
		if w.Outcomes == nil {
			if _, err := tx.exec(`INSERT INTO legs (instance_id, destination, urgent) VALUES (?, ?, ?)`, i.ID, w.Destination, study.urgent); err != nil {
				return err
			}
			continue
		}
		outcomes, err := json.Marshal(w.Outcomes)
		if err != nil {
			return err
		}
		if _, err := tx.exec(`INSERT INTO conditional_legs (instance_id, destination, outcomes) VALUES (?, ?, ?)`, i.ID, w.Destination, string(outcomes)); err != nil {
			return err
		}
	}
	if len(ways) > 0 {
		return nil
	}
	return s.tellUnrouted(tx, study.id)
}

// addOutcomeLegs makes the legs that a study's outcome asks for. It may be called
// for each outcome anew: what has a leg keeps it. What came since the decision gets
// it, too; it is urgent as its study is.
func (s *Spool) addOutcomeLegs(tx *transaction, studyID int64) (added bool, err error) {
	added, err = tx.change(`INSERT OR IGNORE INTO legs (instance_id, destination, urgent)
			SELECT c.instance_id, c.destination, s.urgent
			FROM studies s JOIN instances i ON i.study_id = s.id JOIN conditional_legs c ON c.instance_id = i.id
			WHERE s.id = ? AND i.state = 'stored' AND s.outcome IN (SELECT value FROM json_each(c.outcomes))`, studyID)
	if err != nil {
		return false, err
	}
	return added, s.tellUnrouted(tx, studyID)
}

// goesNowhere is the condition under which no rule is met by an instance i of a
// study s: it has no leg, and none is to come.
const goesNowhere = ` i.state = 'stored' AND NOT EXISTS (SELECT 1 FROM legs l WHERE l.instance_id = i.id)
	AND NOT (s.open = 1 AND EXISTS (SELECT 1 FROM conditional_legs c WHERE c.instance_id = i.id)) `

// undecided is the condition under which a conditional leg c of an instance i of a
// study s may still become one.
const undecided = ` s.open = 1 AND i.state = 'stored'
	AND NOT EXISTS (SELECT 1 FROM legs d WHERE d.instance_id = c.instance_id AND d.destination = c.destination) `

// tellUnrouted says of a study, once, that some of it goes nowhere.
func (s *Spool) tellUnrouted(tx *transaction, studyID int64) error {
	if len(s.destinations) == 0 {
		return nil // of that the configuration's warnings tell
	}
	first, err := tx.change(`UPDATE studies AS s SET unrouted = 1 WHERE id = ? AND unrouted = 0
			AND EXISTS (SELECT 1 FROM instances i WHERE i.study_id = s.id AND`+goesNowhere+`)`, studyID)
	if err != nil || !first {
		return err
	}
	e := Event{At: s.now(), Kind: EventUnrouted}
	if err := tx.row(`SELECT pseudonym FROM studies WHERE id = ?`, []any{studyID}, &e.Study); err != nil {
		return err
	}
	s.log.Warn("instances of a study meet no rule of any destination: they are kept here, sent nowhere and never removed; correct destinations[].routes and restart the daemon, which then sends them",
		"study", e.Study)
	return tx.record(e)
}

// wakeForwarders wakes whoever waits for legs.
func (s *Spool) wakeForwarders() {
	for _, d := range s.destinations {
		signal(s.wake.leg(d))
	}
}

// routeAgain looks whether what goes nowhere goes somewhere by the rules of this
// start.
func (s *Spool) routeAgain(ctx context.Context) error {
	if len(s.destinations) == 0 {
		return nil
	}
	lost, err := s.unrouted(ctx)
	if err != nil || len(lost) == 0 {
		return err
	}
	for batch := range slices.Chunk(lost, adoptionBatch) {
		s.readTraits(batch)
		err := s.write(ctx, durable, StepRouted, func(tx *transaction) error {
			for n := range batch {
				if len(s.route(batch[n].traits)) == 0 {
					continue
				}
				if err := s.routeOne(tx, &batch[n]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("route instances anew: %w", err)
		}
	}
	still, err := s.unrouted(ctx)
	if routed := len(lost) - len(still); routed > 0 {
		s.log.Info("instances that went nowhere meet a rule now", "instances", routed)
	}
	return err
}

// unrouted returns the instances that go nowhere.
func (s *Spool) unrouted(ctx context.Context) ([]Instance, error) {
	all, err := collect(scanInstance)(s.ledger.queries.query(ctx,
		`SELECT `+instanceColumns+` FROM instances i JOIN studies s ON s.id = i.study_id WHERE`+goesNowhere+`ORDER BY i.id`))
	if err != nil {
		return nil, fmt.Errorf("look for instances that go nowhere: %w", err)
	}
	return all, nil
}

// routeOne gives an instance without legs what the rules say now.
func (s *Spool) routeOne(tx *transaction, i *Instance) error {
	var study joinedStudy
	err := tx.row(`SELECT s.id, s.urgent FROM studies s JOIN instances i ON i.study_id = s.id WHERE i.id = ?`, []any{i.ID}, &study.id, &study.urgent)
	if err != nil {
		return err
	}
	if _, err := tx.exec(`DELETE FROM conditional_legs WHERE instance_id = ?`, i.ID); err != nil {
		return err
	}
	if err := s.addLegs(tx, i, study); err != nil {
		return err
	}
	if _, err := s.addOutcomeLegs(tx, study.id); err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE studies AS s SET unrouted = 0 WHERE id = ? AND unrouted = 1
			AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.study_id = s.id AND`+goesNowhere+`)`, study.id)
	return err
}

// readTraits reads the traits of instances from their files. Of one that cannot
// be read nothing but its row is known; the next start looks again.
func (s *Spool) readTraits(all []Instance) {
	var readers errgroup.Group
	readers.SetLimit(runtime.GOMAXPROCS(0))
	for n := range all {
		readers.Go(func() error {
			i := &all[n]
			i.traits = Traits{CallingAETitle: i.CallingAETitle, SOPClassUID: i.SOPClassUID}
			if t, err := s.traitsOf(i); err == nil {
				i.traits = t
			} else {
				s.log.Warn("an instance that goes nowhere cannot be read to see whether it should", "instance", i.ID, "err", withoutPath(err))
			}
			return nil
		})
	}
	_ = readers.Wait()
}

func (s *Spool) traitsOf(i *Instance) (t Traits, err error) {
	err = s.patience.with(func() error {
		f, err := s.openFile(*i)
		if err != nil {
			return err
		}
		defer f.Close()
		meta, _, err := dicom.ReadFileMeta(io.NewSectionReader(f, 0, i.offset))
		if err != nil {
			return err
		}
		header, _ := scanPlaced(meta.TransferSyntaxUID, io.NewSectionReader(f, i.offset, i.Size)) // as far as it goes
		t = traits(meta, header)
		return nil
	})
	return t, err
}
