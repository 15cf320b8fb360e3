package console

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"

	"ichwatch/alerts"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/console/session"
	"ichwatch/daemon/console/users"
)

// policy is the Content Security Policy: what this page is made of comes from
// here, nothing stands in the markup, and nobody frames it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// maxForm bounds the body of a request.
const maxForm = 8 << 10

// outermost is what holds for every answer.
func (s *Server) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Robots-Tag", "noindex")
		if s.Secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if !s.pace.Allow(address(r)) {
			h.Set("Retry-After", "1")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r)
	})
}

// address is where a request comes from.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

type sessionKey struct{}

// of returns the session of a request that a guard has let through.
func of(r *http.Request) session.Session {
	found, _ := r.Context().Value(sessionKey{}).(session.Session)
	return found
}

// guard asks for a session and a permission.
func (s *Server) guard(to route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found, ok := s.find(r, !to.byItself)
		if ok {
			r = r.WithContext(context.WithValue(r.Context(), sessionKey{}, found))
		}
		switch {
		case to.open:
		case !ok:
			s.unknown(w, r)
			return
		case !found.User.Role.May(to.needs):
			s.fail(w, r, http.StatusForbidden, "Your role, "+string(found.User.Role)+", does not go this far.")
			return
		}
		to.serve(s, w, r)
	})
}

// cookie names. The prefix makes browsers refuse one that was not set by this
// host over TLS.
func (s *Server) cookie(name string) string {
	if s.Secure {
		return "__Host-ichwatch-" + name
	}
	return "ichwatch-" + name
}

// find returns the session of a request.
func (s *Server) find(r *http.Request, person bool) (session.Session, bool) {
	c, err := r.Cookie(s.cookie("session"))
	if err != nil {
		return session.Session{}, false
	}
	return s.sessions.Find(c.Value, person, func(u users.User) bool {
		now, ok := s.Users.Find(u.Name)
		return ok && now.Same(u)
	})
}

// unknown answers who has no session: a person is led to the login, and back
// afterwards; a script is told.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
			// A link in a message: the browser keeps the session to itself until the
			// page is asked for from here.
			s.render(w, r, http.StatusOK, "bounce", back(r.URL.Path))
			return
		}
		to := "/login"
		if r.URL.Path != "/" {
			to += "?next=" + url.QueryEscape(r.URL.Path)
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	http.Error(w, "log in first", http.StatusUnauthorized)
}

// record begins a record of the trail about a request.
func (s *Server) record(r *http.Request, e audit.Event) audit.Record {
	found := of(r)
	return audit.Record{Event: e, By: found.User.Name, Role: string(found.User.Role), Via: via, From: address(r)}
}

// via is how an answer that was given here came.
const via = "page"

// tell writes a record. What cannot be told is logged; it is no reason to do less
// for a patient.
func (s *Server) tell(r audit.Record) {
	if err := s.Trail.Append(r); err != nil {
		s.Log.Error("the audit trail cannot be written; look at the disk of the spool", "event", r.Event, "err", err)
	}
}

// disclaimer stands on every page.
const disclaimer = alerts.Disclaimer
