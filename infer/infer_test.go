package infer

import (
	"encoding/json"
	"testing"
)

func TestClass(t *testing.T) {
	for i, c := range Classes() {
		if int(c) != i {
			t.Errorf("class %v is %d, listed at %d", c, int(c), i)
		}
		back, err := ParseClass(c.String())
		if err != nil || back != c {
			t.Errorf("ParseClass(%q) is %v, %v", c.String(), back, err)
		}
		if c.Hemorrhage() != (c != Normal) {
			t.Errorf("%v.Hemorrhage() is %v", c, c.Hemorrhage())
		}
	}
	for _, c := range []Class{-1, 6} {
		if c.Hemorrhage() {
			t.Errorf("%v is a hemorrhage", c)
		}
		if _, err := c.MarshalText(); err == nil {
			t.Errorf("%v has a text", c)
		}
	}
	if _, err := ParseClass("Epidural"); err == nil {
		t.Error("names are lower-case")
	}
}

func TestClassInJSON(t *testing.T) {
	b, err := json.Marshal(map[Class]Class{Epidural: Subdural})
	if err != nil || string(b) != `{"epidural":"subdural"}` {
		t.Errorf("%s, %v", b, err)
	}
	var m map[Class]Class
	if err := json.Unmarshal(b, &m); err != nil || m[Epidural] != Subdural {
		t.Errorf("%v, %v", m, err)
	}
}

func TestModelRef(t *testing.T) {
	for want, m := range map[string]ModelRef{
		"a@0123456789ab": {Name: "a", SHA256: "0123456789abcdef"},
		"b@01":           {Name: "b", SHA256: "01"},
	} {
		if m.String() != want {
			t.Errorf("%q, want %q", m.String(), want)
		}
	}
}
