package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ichwatch/alerts"
	"ichwatch/daemon/console"
	"ichwatch/daemon/console/users"
	"ichwatch/daemon/phantom"
)

// filled puts what there is into a route's pattern.
func filled(pattern, study, alert, slice string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, strings.NewReplacer("{$}", "", "{study}", study, "{alert}", alert, "{slice}", slice, "{window}", "brain.png",
		"{version}", "0", "{file}", "base.css").Replace(path)
}

var keyOf = regexp.MustCompile(`/slice/([0-9.]+)/brain.png`)

// A stranger gets nothing: every route of the table, with things that are there,
// asked for by nobody, by somebody from another site, and by each role.
func TestStrangersGetNothing(t *testing.T) {
	s := newSite(t, nil)
	p := newPhantom(t, phantom.Epidural, 2)
	s.arrive(p, all(p)...)
	alert := s.suspect(p)
	study := s.Spool.Pseudonym(p.StudyUID())
	nobody := s.as("")
	people := map[users.Role]*client{
		users.Display: s.as("wall"), users.Reader: s.as("anna"), users.Technician: s.as("tess"), users.Admin: s.as("root"),
	}
	_, page := people[users.Reader].get("/study/" + study)
	slice := keyOf.FindStringSubmatch(page)[1]

	n := 0
	console.Routes(func(pattern string, open bool, needs users.Permission) {
		n++
		method, path := filled(pattern, study, alert, slice)
		secret := func(who string, body string) {
			body = strings.ReplaceAll(body, url.QueryEscape(path), "") // what was asked for
			if strings.Contains(body, study) || strings.Contains(body, alert) || strings.Contains(body, "pidural") || strings.Contains(body, "anna") {
				t.Errorf("%s %s tells %s: %.200s", method, path, who, body)
			}
		}
		for _, accept := range []string{"text/html", "*/*"} {
			rs, body := nobody.do(method, path, nil, "Accept", accept)
			secret("nobody", body)
			login := rs.StatusCode == http.StatusSeeOther && strings.HasPrefix(rs.Header.Get("Location"), "/login")
			if !open && rs.StatusCode != http.StatusUnauthorized && !(login && method == http.MethodGet) {
				t.Errorf("%s for nobody: %d", pattern, rs.StatusCode)
			}
			headers(t, pattern, rs)
		}
		rs, body := nobody.do(method, path, nil, "Cookie", "ichwatch-session=guess")
		secret("who guesses a session", body)
		if !open && rs.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s for a guessed session: %d", pattern, rs.StatusCode)
		}
		if method == http.MethodPost { // from another site, with the session
			for _, from := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
				rs, _ := people[users.Admin].do(method, path, strings.NewReader("verdict=confirmed&seen=0"), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, from...)...)
				if rs.StatusCode != http.StatusForbidden {
					t.Errorf("%s with %v: %d", pattern, from, rs.StatusCode)
				}
			}
		}
		for role, c := range people {
			if open || role.May(needs) || pattern == "GET /events" {
				continue
			}
			rs, body := c.do(method, path, nil)
			secret(string(role), body)
			if rs.StatusCode != http.StatusForbidden {
				t.Errorf("%s for a %s: %d", pattern, role, rs.StatusCode)
			}
		}
	})
	if n < 15 {
		t.Fatalf("the table has %d routes", n)
	}
	for _, path := range []string{"/nothing", "/study", "/.git/config", "/events/x", "/alert/" + alert + "/acknowledge", "/assets/../login.go"} {
		if rs, _ := nobody.do(http.MethodGet, path, nil); rs.StatusCode < 300 || rs.StatusCode == http.StatusNotFound {
			t.Errorf("nobody learns of %s: %d", path, rs.StatusCode)
		}
	}
	record, err := s.Spool.Study(t.Context(), p.StudyUID())
	if err != nil || record.AlertID != alert {
		t.Fatal(record, err)
	}
	open, err := s.Spool.WaitingStudies(t.Context())
	if err != nil || len(open) != 1 {
		t.Errorf("after all this the alert no longer waits: %v, %v", open, err)
	}
}

func headers(t *testing.T, what string, rs *http.Response) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Security-Policy": console.Policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
	} {
		if got := rs.Header.Get(name); got != want {
			t.Errorf("%s: %s is %q", what, name, got)
		}
	}
}

// The policy lets nothing stand in the markup.
func TestPolicyIsStrict(t *testing.T) {
	for _, weak := range []string{"unsafe-inline", "unsafe-eval", "data:", "blob:", "*", "http:"} {
		if strings.Contains(console.Policy, weak) {
			t.Errorf("the policy has %s", weak)
		}
	}
	for _, must := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(console.Policy, must) {
			t.Errorf("the policy lacks %s", must)
		}
	}
}

func TestLogin(t *testing.T) {
	s := newSite(t, nil)
	c := s.as("")
	if rs, _ := c.do(http.MethodGet, "/study/s-x", nil, "Accept", "text/html"); rs.Header.Get("Location") != "/login?next=%2Fstudy%2Fs-x" {
		t.Errorf("led to %s", rs.Header.Get("Location"))
	}
	rs, _ := c.do(http.MethodPost, "/login", strings.NewReader(url.Values{"name": {"anna"}, "password": {password}, "next": {"/study/s-x"}}.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	if rs.StatusCode != http.StatusSeeOther || rs.Header.Get("Location") != "/study/s-x" {
		t.Fatalf("%d to %s", rs.StatusCode, rs.Header.Get("Location"))
	}
	at := slices.IndexFunc(rs.Cookies(), func(c *http.Cookie) bool { return c.Name == "ichwatch-session" })
	if at < 0 {
		t.Fatal("no session")
	}
	if k := rs.Cookies()[at]; !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/" || len(k.Value) < 43 || k.MaxAge != 0 {
		t.Errorf("the cookie is %+v", k)
	}
	if status, _ := c.get("/"); status != http.StatusOK {
		t.Errorf("logged in, and the list answers %d", status)
	}
	// A link in a message: the browser keeps a strict cookie to itself, and comes back from here.
	if rs, body := s.as("").do(http.MethodGet, "/alert/a-x", nil, "Accept", "text/html", "Sec-Fetch-Site", "cross-site"); rs.StatusCode != http.StatusOK || !strings.Contains(body, `content="0;url=/alert/a-x"`) {
		t.Errorf("a link from elsewhere: %d %s", rs.StatusCode, body)
	}
	if _, body := s.as("").do(http.MethodGet, "/%5Cevil.example", nil, "Accept", "text/html", "Sec-Fetch-Site", "cross-site"); strings.Contains(body, "evil") {
		t.Errorf("a link from elsewhere leads elsewhere: %s", body)
	}
	if status, _ := c.post("/logout", nil); status != http.StatusSeeOther {
		t.Errorf("logout: %d", status)
	}
	if status, _ := c.get("/"); status != http.StatusSeeOther {
		t.Errorf("logged out, and the list answers %d", status)
	}
}

// Over TLS the cookies are the host's alone, and browsers are told to stay with TLS.
func TestSecureCookies(t *testing.T) {
	s := newSite(t, func(s *console.Server) { s.Secure = true })
	rs, _ := s.as("").do(http.MethodPost, "/login", strings.NewReader(url.Values{"name": {"anna"}, "password": {password}}.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	for _, c := range rs.Cookies() {
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || !strings.HasPrefix(c.Name, "__Host-") || c.Domain != "" {
			t.Errorf("cookie %+v", c)
		}
	}
	if len(rs.Cookies()) != 2 || rs.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%d cookies, %q", len(rs.Cookies()), rs.Header.Get("Strict-Transport-Security"))
	}
}

// Who guesses is slowed down; the doctor on the phone that she has used before is not.
func TestGuessingIsSlowedDown(t *testing.T) {
	s := newSite(t, nil)
	anna := s.as("anna")
	anna.post("/logout", nil) // the phone is known from now on
	stranger := s.as("")
	limited := false
	for range 8 {
		status, body := stranger.post("/login", url.Values{"name": {"anna"}, "password": {"a guess of four words"}})
		limited = limited || status == http.StatusTooManyRequests
		if status == http.StatusSeeOther || strings.Contains(body, "a guess of four words") {
			t.Fatalf("%d %s", status, body)
		}
	}
	if !limited {
		t.Error("nobody stopped the guessing")
	}
	if status, _ := anna.post("/login", url.Values{"name": {"anna"}, "password": {password}}); status != http.StatusSeeOther {
		t.Errorf("anna on her own phone: %d", status)
	}
	last, err := s.Trail.Tail(20)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, r := range last {
		if r.Event == "login.refused" {
			refused++
		}
	}
	if refused == 0 {
		t.Error("the trail does not tell of the guesses")
	}
	stranger.post("/login", url.Values{"name": {"my secret password"}, "password": {"x"}})
	if last, _ = s.Trail.Tail(1); strings.Contains(last[0].By+last[0].Detail, "secret") || strings.Contains(s.log.String(), "secret") {
		t.Error("a password in the wrong field is kept")
	}
}

// Whoever is taken out of the file is out at once.
func TestRemovedUserIsOut(t *testing.T) {
	s := newSite(t, nil)
	anna := s.as("anna")
	if status, _ := anna.get("/"); status != http.StatusOK {
		t.Fatal(status)
	}
	if err := users.Remove(s.usersFile, "anna"); err != nil {
		t.Fatal(err)
	}
	if status, _ := anna.get("/"); status != http.StatusSeeOther {
		t.Errorf("still in: %d", status)
	}
}

// Answers: two people at once, twice the same, unknown and withdrawn ones; all in the trail.
func TestAnswers(t *testing.T) {
	s := newSite(t, nil)
	p := newPhantom(t, phantom.Epidural, 2)
	s.arrive(p, all(p)...)
	id := s.suspect(p)
	anna, ben := s.as("anna"), s.as("ben")
	expect := func(c *client, path string, form url.Values, want int, words ...string) {
		t.Helper()
		status, body := c.post(path, form)
		if status != want {
			t.Errorf("%s %v: %d %s, want %d", path, form, status, body, want)
		}
		for _, w := range words {
			if !strings.Contains(body, w) {
				t.Errorf("%s %v says %s, not %q", path, form, body, w)
			}
		}
	}
	verdict := func(v, seen string) url.Values { return url.Values{"verdict": {v}, "seen": {seen}} }

	expect(anna, "/alert/"+id+"/acknowledge", nil, 200, "You have it")
	expect(anna, "/alert/"+id+"/acknowledge", nil, 200, "already")
	expect(ben, "/alert/"+id+"/acknowledge", nil, 409, "anna has it already")
	expect(anna, "/alert/"+id+"/verdict", verdict("confirmed", "0"), 200, "Confirmed, recorded", `"number":1`)
	expect(anna, "/alert/"+id+"/verdict", verdict("confirmed", "0"), 200, `"number":1`)
	expect(ben, "/alert/"+id+"/verdict", verdict("unsure", "0"), 409, "anna said", "Tap again", `"number":1`)
	expect(ben, "/alert/"+id+"/verdict", verdict("unsure", "1"), 200, `"number":2`)
	expect(ben, "/alert/a-aaaaaaaaaaaaaaaaaaaaaaaaaa/acknowledge", nil, 404, "There is no such alert")
	expect(ben, "/alert/a-aaaaaaaaaaaaaaaaaaaaaaaaaa/verdict", verdict("unsure", "0"), 404, "There is no such alert")
	for _, bad := range []url.Values{nil, verdict("maybe", "0"), verdict("unsure", ""), verdict("unsure", "-1"), {"verdict": {"unsure"}, "seen": {"0"}, "comment": {strings.Repeat("x", 501)}}} {
		expect(ben, "/alert/"+id+"/verdict", bad, 400)
	}
	s.decide(p, alerts.Negative, nil)
	expect(ben, "/alert/"+id+"/acknowledge", nil, 410, "was withdrawn")
	expect(ben, "/alert/"+id+"/verdict", verdict("confirmed", "2"), 410, "was withdrawn")

	records, err := s.Trail.Tail(100)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, r := range records {
		if r.Alert == id {
			count[string(r.Event)+" "+r.By+" "+strings.SplitN(r.Result, ":", 2)[0]]++
			if r.From == "" || r.Via != "page" || r.Study != s.Spool.Pseudonym(p.StudyUID()) {
				t.Errorf("incomplete: %+v", r)
			}
		}
	}
	for what, want := range map[string]int{
		"alert.acknowledge anna asked": 2, "alert.acknowledge anna done": 1, "alert.acknowledge ben refused": 2,
		"alert.verdict anna done": 2, "alert.verdict ben done": 1, "alert.verdict ben refused": 2,
	} {
		if count[what] != want {
			t.Errorf("the trail has %d of %q, want %d: %v", count[what], what, want, count)
		}
	}
}
