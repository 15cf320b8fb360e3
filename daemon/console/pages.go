package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/console/users"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed assets
var assets embed.FS

// version names the assets by what is in them: they may be kept for ever.
var version = sync.OnceValue(func() string {
	h := sha256.New()
	_ = fs.WalkDir(assets, ".", func(name string, entry fs.DirEntry, err error) error { // embedded: it does not fail
		if err == nil && !entry.IsDir() {
			text, _ := assets.ReadFile(name)
			fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
		}
		return err
	})
	return hex.EncodeToString(h.Sum(nil)[:8])
})

// page is what every page has.
type page struct {
	Title, Site, Device, Version string
	Assets                       string
	User                         users.User
	Path                         string
	Disclaimer                   string
}

// May says whether the user may; for templates.
func (p page) May(what string) bool {
	return p.User.Role.May(map[string]users.Permission{
		"study": users.Study, "answer": users.Answer, "machine": users.Machine, "trail": users.Trail,
	}[what])
}

func (s *Server) page(r *http.Request, title string) page {
	return page{
		Title: title, Site: s.Site, Device: s.Device, Version: s.Version, Assets: "/assets/" + version(),
		User: of(r).User, Path: r.URL.Path, Disclaimer: disclaimer,
	}
}

func parsePages() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"clock":    func(t time.Time) string { return t.Local().Format("15:04") },
		"stamp":    func(t time.Time) string { return t.Local().Format("2 Jan 15:04:05") },
		"rfc":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"percent":  func(f float64) string { return fmt.Sprintf("%.0f", 100*f) },
		"score":    func(f float64) string { return fmt.Sprintf("%.2f", f) },
		"words":    words,
		"verdicts": alerts.Verdicts,
		"size":     size,
		"section":  func(l listing, n int) []row { return l.In(Section(n)) },
		"plural": func(n int, one string) string {
			if n == 1 {
				return "1 " + one
			}
			return fmt.Sprintf("%d %ss", n, one)
		},
	}).ParseFS(templates, "templates/*.html"))
}

// words says a verdict as people do.
func words(v alerts.Verdict) string {
	switch v {
	case alerts.Confirmed:
		return "Confirmed"
	case alerts.FalseAlarm:
		return "False alarm"
	case alerts.Unsure:
		return "Unsure"
	}
	return string(v)
}

// size says a number of bytes in the unit that fits.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	if u == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[u])
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}

// render answers with a page, whole or not at all.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, view any) {
	var out bytes.Buffer
	if err := s.pages.ExecuteTemplate(&out, name, view); err != nil {
		s.Log.Error("a page cannot be made", "page", name, "err", err)
		http.Error(w, "this page cannot be made; the log of the device says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the client went away: nobody to tell
}

// failView is a page that says what is wrong.
type failView struct {
	page
	Status int
	Wrong  string
}

// fail says what is wrong, to a person in a page and to a script in a line.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, status int, wrong string) {
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Error(w, wrong, status)
		return
	}
	s.render(w, r, status, "fail", failView{s.page(r, http.StatusText(status)), status, wrong})
}

// broke is a fault of ours.
func (s *Server) broke(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // who asked went away
	}
	s.Log.Error("the page could not answer", "path", r.Pattern, "err", err)
	s.fail(w, r, http.StatusInternalServerError, "This cannot be shown at the moment; the log of the device says why.")
}

func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	name := path.Join("assets", r.PathValue("file"))
	text, err := assets.ReadFile(name)
	if err != nil || r.PathValue("version") != version() {
		http.Error(w, "no such asset", http.StatusNotFound)
		return
	}
	kind := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) { // whatever the machine's own table says
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(text) // the client went away: nobody to tell
}
