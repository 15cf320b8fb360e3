package console

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"ichwatch/daemon/audit"
	"ichwatch/daemon/console/session"
	"ichwatch/daemon/console/users"
)

// loginView is what the login shows.
type loginView struct {
	page
	Name, Next, Wrong string
	Over              bool // the session has ended by itself
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	if of(r).ID != "" {
		http.Redirect(w, r, back(r.FormValue("next")), http.StatusSeeOther)
		return
	}
	s.render(w, r, http.StatusOK, "login", loginView{page: s.page(r, "Log in"), Next: r.FormValue("next"), Over: r.FormValue("over") != ""})
}

// back is where a login leads to: a path of this page, never elsewhere.
func back(next string) string {
	if !strings.HasPrefix(next, "/") || strings.ContainsAny(next, "\\\r\n?#") || strings.HasPrefix(next, "//") {
		return "/"
	}
	return next
}

// patience is how long a login may wait for its turn.
const patience = 10 * time.Second

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	name, password, next := strings.TrimSpace(r.PostFormValue("name")), r.PostFormValue("password"), r.PostFormValue("next")
	mark := ""
	if c, err := r.Cookie(s.cookie("device")); err == nil {
		mark = c.Value
	}
	refuse := func(status int, wrong string) {
		view := loginView{page: s.page(r, "Log in"), Name: name, Next: next, Wrong: wrong}
		s.render(w, r, status, "login", view)
	}
	if wait := s.throttle.Wait(name, address(r), mark); wait > 0 {
		seconds := int(math.Ceil(wait.Seconds()))
		w.Header().Set("Retry-After", fmt.Sprint(seconds))
		refuse(http.StatusTooManyRequests, fmt.Sprintf("Too many tries. The next one is possible in %d s.", seconds))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	u, err := s.Users.Authenticate(ctx, name, []byte(password))
	tried := audit.Record{Event: audit.LoggedIn, By: name, Via: via, From: address(r), Result: audit.Done}
	switch {
	case errors.Is(err, users.ErrRefused):
		tried.Event, tried.Result = audit.Refused, "refused"
		if _, known := s.Users.Find(name); !known {
			tried.By = "" // a password typed into the wrong field would stay in the trail
			tried.Detail = "no such user"
		}
		s.tell(tried)
		s.Log.Warn("a login to the page was refused", "from", address(r))
		refuse(http.StatusUnauthorized, "Name and password do not go together.")
		return
	case err != nil:
		refuse(http.StatusServiceUnavailable, "Too many people log in at this moment. Try again.")
		return
	}
	if c, err := r.Cookie(s.cookie("session")); err == nil {
		s.sessions.End(c.Value) // the one that was open here before
	}
	token, opened := s.sessions.Begin(u, address(r))
	tried.Role, tried.Detail = string(u.Role), "session "+opened.ID
	s.tell(tried)
	s.Log.Info("logged in to the page", "user", u.Name, "role", u.Role, "from", address(r))
	maxAge := 0 // until the browser is closed
	if u.Role == users.Display {
		maxAge = int(session.DisplayMax.Seconds()) // the screen restarts at night
	}
	s.setCookie(w, "session", token, maxAge)
	s.setCookie(w, "device", s.throttle.Mark(u.Name), int((400 * 24 * time.Hour).Seconds()))
	http.Redirect(w, r, back(next), http.StatusSeeOther)
}

// awake is told by a page that a person is at work on it: what they look at may
// all be in the browser's memory.
func (s *Server) awake(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(s.cookie("session")); err == nil {
		s.sessions.End(c.Value)
	}
	s.tell(s.record(r, audit.LoggedOut))
	s.setCookie(w, "session", "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (s *Server) setCookie(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: s.cookie(name), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.Secure, SameSite: http.SameSiteStrictMode,
	})
}
