package mqtt

import (
	"errors"
	"net/url"
	"time"
)

// errTooBrief: connections break soon after they stood.
var errTooBrief = errors.New("the connection breaks again and again")

// manyBrief connections in a row that break soon after they stood are no accident.
const manyBrief = 3

// rotation says which broker is tried next, and after what wait: the others of a
// round at once, a new round at growing intervals.
type rotation struct {
	brokers  []*url.URL
	min, max time.Duration

	turn   int           // of brokers
	tried  int           // in this round
	rounds int           // in which none could be had
	wait   time.Duration // before the next round
	brief  int           // connections in a row that broke soon
}

func newRotation(brokers []*url.URL, least, most time.Duration) *rotation {
	return &rotation{brokers: brokers, min: least, max: most, wait: least}
}

func (r *rotation) broker() *url.URL { return r.brokers[r.turn] }

// settling is how long a connection must stand to count as one. One that breaks
// at once, as when two devices share a client id, is no better than none: each
// of the two throws the other out after its own wait, which is at most max.
func (r *rotation) settling() time.Duration { return 2 * r.max }

// next goes on to the next broker after the one in turn failed, having stood for
// a time, or not at all (0). It returns how long to wait.
func (r *rotation) next(stood time.Duration) (wait time.Duration) {
	if stood > 0 {
		r.rounds, r.tried = 0, 0
	}
	switch {
	case stood > r.settling():
		r.wait, r.brief = r.min, 0
	case stood > 0:
		r.brief++
	}
	r.turn = (r.turn + 1) % len(r.brokers)
	if r.tried++; r.tried >= len(r.brokers) {
		r.tried = 0
		if stood == 0 {
			r.rounds++
		}
	} else if r.brief == 0 {
		return 0
	}
	wait, r.wait = r.wait, min(2*r.wait, r.max)
	return wait
}

// gone reports whether there is no broker to be had. A cluster gets a second
// round: while its nodes agree on who leads, none of them may answer.
func (r *rotation) gone() bool {
	return r.rounds >= min(len(r.brokers), 2)
}
