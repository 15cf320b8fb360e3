package alerts

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A fault that stands is said once, then rarely; what is new about it at once.
func TestFaultsAreSaidSparingly(t *testing.T) {
	var log bytes.Buffer
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	f := &Faults{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }}
	said := func() (levels string) {
		for line := range strings.Lines(log.String()) {
			levels += string(strings.SplitAfter(line, "level=")[1][0])
		}
		log.Reset()
		return levels
	}
	down := func(port string) error { return Advise(errors.New("refused, port "+port), "start it") }
	for i, c := range []struct {
		do   func()
		want string // first letters of the levels
	}{
		{func() { f.Clear("x") }, ""},
		{func() { f.Raise("x", "down", down("1")) }, "E"},
		{func() { f.Raise("x", "down", down("2")) }, ""}, // the same to do
		{func() { f.Raise("x", "down", Advise(errDown, "make room")) }, "W"},
		{func() { f.Raise("x", "down", down("3")) }, ""},
		{func() { f.Raise("y", "refused", down("3")) }, "E"},
		{func() { now = now.Add(time.Hour); f.Raise("x", "down", down("4")) }, "E"},
		{func() { f.Clear("x"); f.Clear("x") }, "I"},
		{func() { f.Raise("x", "down", down("5")) }, "E"},
	} {
		c.do()
		if got := said(); got != c.want {
			t.Errorf("%d: said %q, want %q", i, got, c.want)
		}
	}
	if all := f.List(); len(all) != 2 || all[0].About != "y" || all[1].Reason != "refused, port 5: start it" || !f.Stands("x") {
		t.Errorf("standing: %+v", all)
	}
}
