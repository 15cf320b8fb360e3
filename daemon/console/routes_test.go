package console

import (
	"testing"

	"ichwatch/daemon/console/users"
)

// Routes gives the table to the tests outside: pattern, whether it is open, what
// it needs.
func Routes(visit func(pattern string, open bool, needs users.Permission)) {
	for _, r := range routes {
		visit(r.pattern, r.open, r.needs)
	}
}

// Policy is the Content Security Policy, for the tests outside.
const Policy = policy

// What may be reached by everybody is the login and the assets. Whoever adds a
// route to it changes this test.
func TestOpenRoutes(t *testing.T) {
	var open []string
	for _, r := range routes {
		if r.open {
			open = append(open, r.pattern)
		}
	}
	want := []string{"GET /login", "POST /login", "GET /assets/{version}/{file}"}
	if len(open) != len(want) {
		t.Fatalf("open are %v, want %v", open, want)
	}
	for i := range want {
		if open[i] != want[i] {
			t.Errorf("open is %s, want %s", open[i], want[i])
		}
	}
}

func TestBack(t *testing.T) {
	for next, want := range map[string]string{
		"/study/s-1": "/study/s-1", "": "/", "//evil.example": "/", "https://evil.example": "/", "/\\evil.example": "/",
		"/a?b": "/", "/a\nb": "/", "javascript:alert(1)": "/",
	} {
		if got := back(next); got != want {
			t.Errorf("back(%q) = %q, want %q", next, got, want)
		}
	}
}
