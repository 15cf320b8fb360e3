package configs

import "testing"

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, value string
		want           bool
	}{
		{"CT", "ct", true},
		{"CT", "CT1", false},
		{"CT*", "CT", true},
		{"CT?", "CT", false},
		{"*head*", "CCT HEAD NATIV", true},
		{"*schädel*", "CT SCHÄDEL", true},
		{"a.c", "abc", false},
		{"*", "", true},
		{"*", "two\nlines", true},
		{"/h(ea)?d/", "CT HD", true},
		{"/^head|neck$/", "ct neck", true},
		{"/^head|neck$/", "a head", false},
		{"/", "/", true},
	} {
		p, err := Pattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.MatchString(c.value); got != c.want {
			t.Errorf("%q takes %q: %t, want %t", c.pattern, c.value, got, c.want)
		}
	}
}
