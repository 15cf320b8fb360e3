package console

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ichwatch/alerts"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/spool"
)

// answerView is what an answer came to.
type answerView struct {
	OK      bool           `json:"ok"`
	Message string         `json:"message"`
	By      string         `json:"by,omitempty"`
	Verdict alerts.Verdict `json:"verdict,omitempty"`
	Number  int            `json:"number,omitempty"` // of the reading that stands
	At      time.Time      `json:"at,omitzero"`
	Study   string         `json:"-"`
}

const maxComment = 500 // characters

// acknowledge records that somebody takes an alert. The same person again changes
// nothing and is told so.
func (s *Server) acknowledge(w http.ResponseWriter, r *http.Request) {
	id, u := r.PathValue("alert"), of(r).User
	study, err := s.Spool.AlertStudy(r.Context(), id)
	if err != nil {
		s.refuseAnswer(w, r, err)
		return
	}
	entry := s.record(r, audit.Acknowledge)
	entry.Alert, entry.Study = id, s.Spool.Pseudonym(study)
	err = s.Trail.Around(entry, func() error {
		return s.Answers.Acknowledge(r.Context(), alerts.Acknowledgement{AlertID: id, By: u.Name, At: s.now(), Via: via})
	})
	s.trouble()
	switch {
	case errors.Is(err, alerts.ErrAlreadyAcknowledged):
		s.alreadyAcknowledged(w, r, id)
		return
	case err != nil:
		s.refuseAnswer(w, r, err)
		return
	}
	s.Log.Info("alert acknowledged", "alert", id, "by", u.Name, "via", via)
	s.answered(w, r, http.StatusOK, answerView{OK: true, Message: "You have it. It escalates no further.", By: u.Name, Study: entry.Study})
}

// alreadyAcknowledged says who was faster; to that one it is no refusal.
func (s *Server) alreadyAcknowledged(w http.ResponseWriter, r *http.Request, id string) {
	v, err := s.alert(r, id)
	if err != nil {
		s.broke(w, r, err)
		return
	}
	answer := answerView{By: v.Has, At: v.Answered, Study: v.study}
	if v.Has == of(r).User.Name {
		answer.OK, answer.Message = true, "You have it already."
		s.answered(w, r, http.StatusOK, answer)
		return
	}
	answer.Message = v.Has + " has it already, since " + v.Answered.Local().Format("15:04") + "."
	s.answered(w, r, http.StatusConflict, answer)
}

// standing is an alert with its study.
type standing struct {
	alertView
	study string
}

func (s *Server) alert(r *http.Request, id string) (standing, error) {
	uid, err := s.Spool.AlertStudy(r.Context(), id)
	if err != nil {
		return standing{}, err
	}
	study, err := s.Spool.Studies(r.Context(), spool.Filter{Study: uid})
	if err == nil && len(study) == 0 {
		err = alerts.ErrUnknownAlert
	}
	if err != nil {
		return standing{}, err
	}
	found := standing{study: s.Spool.Pseudonym(uid)}
	for _, a := range study[0].Alerts {
		if a.Last.AlertID == id {
			found.alertView = alertView{AlertID: id, State: a.State, Has: a.By, Answered: a.At, Via: a.Via}
		}
	}
	return found, nil
}

// verdict records what a reader makes of an alert. seen is the number of the
// verdict that the page showed: another one that came in between is not
// overwritten, it is shown.
func (s *Server) verdict(w http.ResponseWriter, r *http.Request) {
	id, u := r.PathValue("alert"), of(r).User
	verdict, err := alerts.ParseVerdict(r.PostFormValue("verdict"))
	seen, seenErr := strconv.Atoi(r.PostFormValue("seen"))
	comment := strings.TrimSpace(r.PostFormValue("comment"))
	if err != nil || seenErr != nil || seen < 0 || !utf8.ValidString(comment) || utf8.RuneCountInString(comment) > maxComment {
		s.fail(w, r, http.StatusBadRequest, "This is no verdict.")
		return
	}
	study, err := s.Spool.AlertStudy(r.Context(), id)
	if err != nil {
		s.refuseAnswer(w, r, err)
		return
	}
	entry := s.record(r, audit.Verdict)
	entry.Alert, entry.Study, entry.Detail = id, s.Spool.Pseudonym(study), strings.TrimSpace(string(verdict)+" "+comment)
	var recorded alerts.Reading
	err = s.Trail.Around(entry, func() (err error) {
		recorded, err = s.Answers.Read(r.Context(), alerts.Reading{
			AlertID: id, Verdict: verdict, By: u.Name, At: s.now(), Via: via, Comment: comment,
		}, seen)
		return err
	})
	s.trouble()
	if o, ok := errors.AsType[*alerts.OverruledError](err); ok {
		s.answered(w, r, http.StatusConflict, answerView{
			Message: o.Standing.By + " said “" + words(o.Standing.Verdict) + "” at " + o.Standing.At.Local().Format("15:04") + ". Tap again to say otherwise.",
			By:      o.Standing.By, Verdict: o.Standing.Verdict, Number: o.Standing.Number, At: o.Standing.At, Study: entry.Study,
		})
		return
	}
	if err != nil {
		s.refuseAnswer(w, r, err)
		return
	}
	s.Log.Info("verdict on an alert", "alert", id, "verdict", recorded.Verdict, "by", u.Name, "via", via)
	s.answered(w, r, http.StatusOK, answerView{
		OK: true, Message: words(recorded.Verdict) + ", recorded.", By: recorded.By, Verdict: recorded.Verdict, Number: recorded.Number,
		At: recorded.At, Study: entry.Study,
	})
}

// refuseAnswer says clearly what the answer met.
func (s *Server) refuseAnswer(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, alerts.ErrUnknownAlert):
		s.answered(w, r, http.StatusNotFound, answerView{Message: "There is no such alert on this device. Nothing was recorded."})
	case errors.Is(err, alerts.ErrRetracted):
		s.answered(w, r, http.StatusGone, answerView{Message: "This alert was withdrawn: the complete study does not bear it out. There is nothing to answer, and nothing was recorded."})
	default:
		s.broke(w, r, err)
	}
}

// answered tells a script in JSON, and leads a browser without one back to the
// study.
func (s *Server) answered(w http.ResponseWriter, r *http.Request, status int, v answerView) {
	switch {
	case strings.Contains(r.Header.Get("Accept"), "application/json"):
		writeJSON(w, status, v)
	case v.OK && v.Study != "":
		http.Redirect(w, r, "/study/"+v.Study, http.StatusSeeOther)
	default:
		s.fail(w, r, status, v.Message)
	}
}

// trouble logs that an answer could not be told to the trail.
func (s *Server) trouble() {
	if err := s.Trail.Err(); err != nil {
		s.Log.Error("an answer was recorded, and the audit trail cannot be written; look at the disk of the spool", "err", err)
	}
}
