package mqtt

import (
	"net/url"
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
