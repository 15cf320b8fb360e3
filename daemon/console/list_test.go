package console_test

import (
	"bufio"
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/console"
	"ichwatch/daemon/phantom"
)

var rowKey = regexp.MustCompile(`class="(?:alert|line)[^"]*" data-key="([^"]+)"`)

// The list goes by urgency: escalated alerts, then the oldest; what somebody has;
// what failed; what arrives; the rest. An alert that waits is on it however old.
func TestListByUrgency(t *testing.T) {
	days := 0 * time.Hour
	s := newSite(t, func(s *console.Server) { s.Now = func() time.Time { return time.Now().Add(days) } })
	studies := map[string]*phantom.Study{}
	for i, name := range []string{"negative", "arriving", "failed", "had", "young", "old", "escalated"} {
		class := phantom.Subdural
		if name == "negative" {
			class = phantom.Normal
		}
		p := newPhantom(t, class, uint64(10+i))
		studies[name] = p
		s.arrive(p, 0)
	}
	s.decide(studies["negative"], alerts.Negative, nil)
	s.decide(studies["failed"], alerts.Failed, nil)
	escalated := s.suspect(studies["escalated"])
	had := s.suspect(studies["had"])
	s.suspect(studies["old"])
	s.suspect(studies["young"])
	s.delivered()
	if err := s.Spool.Escalate(t.Context(), escalated, 2, time.Now()); err != nil {
		t.Fatal(err)
	}
	anna := s.as("anna")
	if status, body := anna.post("/alert/"+had+"/acknowledge", nil); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	names := func() (got []string) {
		_, page := anna.get("/")
		for _, m := range rowKey.FindAllStringSubmatch(page, -1) {
			for name, p := range studies {
				if s.Spool.Pseudonym(p.StudyUID()) == m[1] {
					got = append(got, name)
				}
			}
		}
		return got
	}
	if got, want := names(), []string{"escalated", "old", "young", "had", "failed", "arriving", "negative"}; !slices.Equal(got, want) {
		t.Errorf("the list is %v, want %v", got, want)
	}
	if _, page := anna.get("/"); !strings.Contains(page, alerts.Disclaimer) || strings.Contains(page, string(studies["old"].StudyUID())) || strings.Contains(page, "PHANTOM") {
		t.Error("the list lacks its disclaimer, or names more than pseudonyms")
	}
	days = 4 * 24 * time.Hour // and 11 of the sessions
	anna = s.as("anna")
	if got, want := names(), []string{"escalated", "old", "young"}; !slices.Equal(got, want) {
		t.Errorf("four days later the list is %v, want %v", got, want)
	}
}

// The stream brings the list at once, and again when it changes, says that it
// lives, and ends with the session.
func TestEvents(t *testing.T) {
	s := newSite(t, nil)
	anna := s.as("anna")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := anna.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Body.Close()
	if kind := rs.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("%d %s", rs.StatusCode, kind)
	}
	lines := bufio.NewScanner(rs.Body)
	lines.Buffer(nil, 1<<20)
	until := func(what string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), what) {
				return
			}
		}
		t.Fatalf("the stream ended before %q: %v", what, lines.Err())
	}
	until("event: beat")
	until("No study yet")
	p := newPhantom(t, phantom.Epidural, 2)
	s.arrive(p, 0)
	until(s.Spool.Pseudonym(p.StudyUID()))
	s.suspect(p)
	until("Suspected epidural")
	anna.post("/logout", nil)
	until("event: ended")
	for rest := 0; lines.Scan(); rest++ {
		if rest > 2 {
			t.Fatalf("it goes on: %s", lines.Text())
		}
	}
}

// What is not of a study is not shown in its name; what is not there is said.
func TestSlices(t *testing.T) {
	s := newSite(t, nil)
	a, b := newPhantom(t, phantom.Epidural, 2), newPhantom(t, phantom.Subdural, 3)
	s.arrive(a, 4, 5, 6)
	s.arrive(b, 4)
	first, second := s.Spool.Pseudonym(a.StudyUID()), s.Spool.Pseudonym(b.StudyUID())
	anna := s.as("anna")
	for path, want := range map[string]int{
		"/study/" + first + "/slice/1.0/hu":                 200,
		"/study/" + first + "/slice/1.0/bone.png":           200,
		"/study/" + first + "/slice/key/brain.png":          200,
		"/study/" + first + "/slice/1.0/map?class=epidural": 200,
		"/study/" + first + "/slice/1.0/map?class=lung":     404,
		"/study/" + first + "/slice/4.0/hu":                 404, // of the other study
		"/study/" + first + "/slice/4.0/map?class=epidural": 404,
		"/study/" + second + "/slice/4.0/hu":                200,
		"/study/" + second + "/slice/1.0/brain.png":         404,
		"/study/" + first + "/slice/99.0/hu":                404,
		"/study/" + first + "/slice/x/hu":                   404,
		"/study/" + first + "/slice/1.0/lung.png":           404,
		"/study/s-aaaaaaaaaa/slice/key/brain.png":           404,
		"/study/s-aaaaaaaaaa":                               404,
		"/study/s-aaaaaaaaaa/stack":                         404,
		"/study/" + first + "/stack":                        200,
		"/alert/a-aaaaaaaaaaaaaaaaaaaaaaaaaa":               404,
	} {
		if status, body := anna.get(path); status != want {
			t.Errorf("%s: %d %.100s, want %d", path, status, body, want)
		}
	}
}
