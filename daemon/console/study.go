package console

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
)

// studyView is a study's page.
type studyView struct {
	page
	Row      row
	Record   spool.StudyRecord
	Identity Identity
	Key      string // the slice to look at first; "" where there is none
	Windows  []window
	Maps     bool
	Story    []moment
}

// moment is something that happened to a study.
type moment struct {
	At    time.Time
	Text  string
	By    string // a person
	Words string // of that person
	Hot   bool   // it wants attention
}

// story is what happened to a study, in its order.
func story(record spool.StudyRecord, readings []alerts.Reading) []moment {
	all := []moment{{At: record.FirstReceived, Text: "first object received"}}
	for _, a := range record.Alerts {
		all = append(all,
			moment{At: a.RaisedAt, Text: "alert raised: suspected " + a.Last.Finding, Hot: true},
			moment{At: a.DeliveredAt, Text: "delivered to the broker"},
			moment{At: a.At, Text: "acknowledged via " + a.Via + " by", By: a.By, Words: a.Comment},
			moment{At: a.RetractedAt, Text: "alert withdrawn"})
	}
	for _, r := range readings {
		all = append(all, moment{At: r.At, Text: words(r.Verdict) + ", said", By: r.By, Words: r.Comment})
	}
	all = append(all, moment{At: record.DecidedAt, Text: "study decided: " + string(record.Outcome)})
	all = slices.DeleteFunc(all, func(m moment) bool { return m.At.IsZero() })
	slices.SortStableFunc(all, func(a, b moment) int { return a.At.Compare(b.At) })
	return all
}

// findStudy returns the study of a request; it has answered where there is none.
func (s *Server) findStudy(w http.ResponseWriter, r *http.Request) (record spool.StudyRecord, ok bool) {
	name := r.PathValue("study")
	var records []spool.StudyRecord
	var err error
	if name != "" {
		records, err = s.Spool.Studies(r.Context(), spool.Filter{Pseudonym: name})
	}
	switch {
	case err != nil:
		s.broke(w, r, err)
	case len(records) == 0:
		s.fail(w, r, http.StatusNotFound, "There is no such study here. It may have been removed after its time; the PACS has it.")
	default:
		return records[0], true
	}
	return record, false
}

func (s *Server) newStudyView(r *http.Request, record spool.StudyRecord) (studyView, error) {
	readings, err := s.Spool.Readings(r.Context(), record.StudyInstanceUID)
	if err != nil {
		return studyView{}, err
	}
	v := studyView{
		page: s.page(r, "Study "+record.Pseudonym), Row: newRow(record, readings), Record: record,
		Windows: windows, Maps: s.HeatMap != nil, Story: story(record, readings),
	}
	if s.Identify != nil {
		if v.Identity, err = s.Identify(r.Context(), record); err != nil {
			s.Log.Warn("the identity of a study cannot be shown", "study", record.Pseudonym, "err", err)
		}
	}
	return v, nil
}

func (s *Server) studyPage(w http.ResponseWriter, r *http.Request) {
	record, ok := s.findStudy(w, r)
	if !ok {
		return
	}
	v, err := s.newStudyView(r, record)
	if err == nil {
		var st stack
		if st, err = s.stack(r.Context(), record); err == nil {
			v.Key = st.key()
		}
	}
	if err != nil {
		s.broke(w, r, err)
		return
	}
	opened := s.record(r, audit.Opened)
	opened.Study, opened.Alert, opened.Result = record.Pseudonym, v.Row.AlertID, audit.Done
	s.tell(opened)
	s.render(w, r, http.StatusOK, "study", v)
}

// studyPanel is the part of a study's page that changes.
func (s *Server) studyPanel(w http.ResponseWriter, r *http.Request) {
	record, ok := s.findStudy(w, r)
	if !ok {
		return
	}
	v, err := s.newStudyView(r, record)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, "panel", v)
}

// alertLink leads from an alert's id, as messages have it, to its study.
func (s *Server) alertLink(w http.ResponseWriter, r *http.Request) {
	uid, err := s.Spool.AlertStudy(r.Context(), r.PathValue("alert"))
	if err != nil {
		s.refuseAnswer(w, r, err)
		return
	}
	http.Redirect(w, r, "/study/"+s.Spool.Pseudonym(uid), http.StatusSeeOther)
}

// stack is the slices of a study that were for the model, series by series.
type stack struct {
	Finding string         `json:"finding,omitempty"` // suspected; "" where nothing is
	Classes []classInStack `json:"classes"`           // those of hemorrhage
	Series  []series       `json:"series"`
	Maps    bool           `json:"maps"`
}

type classInStack struct {
	Name      string  `json:"name"`
	Threshold float32 `json:"threshold"`
}

type series struct {
	Slices []slice `json:"slices"` // by position, the lowest first
	Key    int     `json:"key"`    // index of the one to look at first
}

// slice is a frame. Scores are of the stack's classes, in their order; none where
// no model in service has seen it.
type slice struct {
	ID       string    `json:"id"`
	Position float64   `json:"position"` // mm along the normal
	Scores   []float32 `json:"scores,omitempty"`
	Why      string    `json:"why,omitempty"` // it has none
	keyImage bool
}

// key is the slice to look at first.
func (st stack) key() string {
	if len(st.Series) == 0 {
		return ""
	}
	return st.Series[0].Slices[st.Series[0].Key].ID
}

// stack puts the findings of a study into the order of the body.
func (s *Server) stack(ctx context.Context, record spool.StudyRecord) (stack, error) {
	findings, err := s.Spool.StudyFindings(ctx, record.StudyInstanceUID)
	if err != nil {
		return stack{}, err
	}
	st := stack{Classes: []classInStack{}, Series: []series{}, Maps: s.HeatMap != nil}
	model := s.Model()
	var of []int // where in the probabilities the classes stand
	for i, c := range model.Classes {
		if c.Hemorrhage() {
			st.Classes = append(st.Classes, classInStack{c.String(), model.Thresholds[c]})
			of = append(of, i)
		}
	}
	var last alerts.Message
	if n := len(record.Alerts); n > 0 {
		last = record.Alerts[n-1].Last
		st.Finding = last.Finding
	}
	at := map[dicom.UID]int{}
	for _, f := range findings {
		if f.State == spool.FindingIneligible {
			continue
		}
		k, known := at[f.SeriesInstanceUID]
		if !known {
			k = len(st.Series)
			at[f.SeriesInstanceUID] = k
			st.Series = append(st.Series, series{})
		}
		one := slice{
			ID: strconv.FormatInt(f.InstanceID, 10) + "." + strconv.Itoa(f.Frame), Position: f.Position, Why: f.Reason,
			keyImage: last.KeyImage != "" && last.KeyImage == string(f.SOPInstanceUID) && last.KeyFrame == f.Frame,
		}
		switch {
		case f.State == spool.FindingFailed:
		case !slices.Equal(f.Models, model.Models) || len(f.Probabilities) != len(model.Classes):
			one.Why = "seen by a model that is no longer in service"
		default:
			for _, i := range of {
				one.Scores = append(one.Scores, f.Probabilities[i])
			}
		}
		st.Series[k].Slices = append(st.Series[k].Slices, one)
	}
	for k := range st.Series {
		in := st.Series[k].Slices
		slices.SortStableFunc(in, func(a, b slice) int { return cmp.Compare(a.Position, b.Position) })
		st.Series[k].Key = st.keyOf(in)
	}
	// The series of the key image before all others, then the longest.
	slices.SortStableFunc(st.Series, func(a, b series) int {
		if x, y := a.Slices[a.Key].keyImage, b.Slices[b.Key].keyImage; x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Compare(len(b.Slices), len(a.Slices))
	})
	return st, nil
}

// keyOf is the key image of the alert, or without one the slice with the highest
// score of the finding, and of any class where nothing is suspected.
func (st stack) keyOf(in []slice) (best int) {
	best = len(in) / 2
	highest := float32(-1)
	for i, one := range in {
		if one.keyImage {
			return i
		}
		for c, p := range one.Scores {
			if (st.Finding == "" || st.Finding == st.Classes[c].Name) && p > highest {
				best, highest = i, p
			}
		}
	}
	return best
}

func (s *Server) studyStack(w http.ResponseWriter, r *http.Request) {
	record, ok := s.findStudy(w, r)
	if !ok {
		return
	}
	st, err := s.stack(r.Context(), record)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, st)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client went away: nobody to tell
}

// window is a range of HU in which slices are shown.
type window struct {
	Name, Title   string
	Centre, Width float64
}

var windows = []window{
	{"brain", "Brain", 40, 80},
	{"subdural", "Subdural", 80, 200},
	{"bone", "Bone", 600, 2800},
}

// Range says a window as radiology does.
func (w window) Range() string { return fmt.Sprintf("C %g  W %g", w.Centre, w.Width) }
