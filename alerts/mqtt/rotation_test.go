package mqtt

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestRotation(t *testing.T) {
	const long = time.Hour
	var three []*url.URL
	for _, host := range []string{"a", "b", "c"} {
		three = append(three, &url.URL{Host: host})
	}
	for name, c := range map[string]struct {
		brokers []*url.URL
		stood   []time.Duration // of each connection; 0: none came to stand
		turns   string          // the broker after each
		waits   []time.Duration
		gone    string // whether there is none to be had: y, n
	}{
		"one that is away":     {three[:1], []time.Duration{0, 0, 0, 0}, "aaaa", []time.Duration{1, 2, 4, 4}, "yyyy"},
		"one that breaks":      {three[:1], []time.Duration{long, long, 0, long}, "aaaa", []time.Duration{1, 1, 2, 1}, "nnyn"},
		"all are away":         {three, []time.Duration{0, 0, 0, 0, 0, 0, 0}, "bcabcab", []time.Duration{0, 0, 1, 0, 0, 2, 0}, "nnnnnyy"},
		"a node dies":          {three, []time.Duration{long, 0, long}, "bca", []time.Duration{0, 0, 0}, "nnn"},
		"all break soon after": {three, []time.Duration{1, 1, 1, 1}, "bcab", []time.Duration{1, 2, 4, 4}, "nnnn"},
	} {
		r := newRotation(c.brokers, 1, 4)
		for i, stood := range c.stood {
			wait := r.next(stood)
			gone := map[bool]byte{true: 'y', false: 'n'}[r.gone()]
			if wait != c.waits[i] || r.broker().Host != c.turns[i:i+1] || gone != c.gone[i] {
				t.Errorf("%s, %d: wait %d, then %s, gone %c; want %d, %c, %c", name, i, wait, r.broker().Host, gone, c.waits[i], c.turns[i], c.gone[i])
			}
		}
	}
}

// A fault that stands is said once, then rarely; what is new about it at once.
func TestFaultsAreSaidSparingly(t *testing.T) {
	var log bytes.Buffer
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	f := &faults{
		log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }, remind: time.Hour, standing: map[string]*alarm{},
	}
	said := func() (levels string) {
		for line := range strings.Lines(log.String()) {
			levels += string(strings.SplitAfter(line, "level=")[1][0])
		}
		log.Reset()
		return levels
	}
	down := func(port string) error { return &advised{errors.New("refused, port " + port), "start it"} }
	for i, c := range []struct {
		do   func()
		want string // first letters of the levels
	}{
		{func() { f.clear("x") }, ""},
		{func() { f.raise("x", "down", down("1")) }, "E"},
		{func() { f.raise("x", "down", down("2")) }, ""}, // the same to do
		{func() { f.raise("x", "down", &advised{errDisk, "make room"}) }, "W"},
		{func() { f.raise("x", "down", down("3")) }, ""},
		{func() { f.raise("y", "refused", down("3")) }, "E"},
		{func() { now = now.Add(time.Hour); f.raise("x", "down", down("4")) }, "E"},
		{func() { f.clear("x"); f.clear("x") }, "I"},
		{func() { f.raise("x", "down", down("5")) }, "E"},
	} {
		c.do()
		if got := said(); got != c.want {
			t.Errorf("%d: said %q, want %q", i, got, c.want)
		}
	}
	if all := f.list(); len(all) != 2 || all[0].About != "y" || all[1].Reason != "refused, port 5: start it" || !f.stands("x") {
		t.Errorf("standing: %+v", all)
	}
}
