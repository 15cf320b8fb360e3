package main

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
)

// table counts, by the step at which a life ended.
type table struct {
	mu     sync.Mutex
	rows   map[string]*row
	alerts map[string]bool    // that were raised and answered
	ended  map[dicom.UID]bool // studies that have come to rest
	luck   map[string]*luck   // by step: how it went with wishing for it
}

type luck struct{ wished, met int }

type row struct {
	killed, cut int // ends by SIGKILL, and by a power cut
	lost        int // acknowledged instances neither on the disk nor confirmed
	duplicated  int // things that no death excuses: other bytes, a second copy in one life, another alert under one number
	resent      int // instances at the PACS once more, in the life after it
	repeated    int // messages to the people once more, likewise
}

func (r *row) add(o *row) {
	r.killed, r.cut, r.lost = r.killed+o.killed, r.cut+o.cut, r.lost+o.lost
	r.duplicated, r.resent, r.repeated = r.duplicated+o.duplicated, r.resent+o.resent, r.repeated+o.repeated
}

func newTable() *table {
	return &table{rows: map[string]*row{}, alerts: map[string]bool{}, ended: map[dicom.UID]bool{}, luck: map[string]*luck{}}
}

func (c *table) row(step string, count func(*row)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows[step] == nil {
		c.rows[step] = &row{}
	}
	count(c.rows[step])
}

func (c *table) died(step string, powerCut bool) {
	c.row(step, func(r *row) {
		if powerCut {
			r.cut++
		} else {
			r.killed++
		}
	})
}

func (c *table) lost(step string)              { c.row(step, func(r *row) { r.lost++ }) }
func (c *table) duplicated(step string, n int) { c.row(step, func(r *row) { r.duplicated += n }) }

func (c *table) resent(step string, n int) {
	if n > 0 {
		c.row(step, func(r *row) { r.resent += n })
	}
}

func (c *table) repeated(step string, n int) {
	if n > 0 {
		c.row(step, func(r *row) { r.repeated += n })
	}
}

// elsewhere are steps that no daemon comes to without a damaged spool, a silent broker or a person at a terminal. Package
// spool's own tests die at each of them.
var elsewhere = []string{
	spool.StepMissing + before, spool.StepMissing, spool.StepLedgerMovedAside, spool.StepRecalled + before, spool.StepRecalled,
	spool.StepJournalBegun + before, spool.StepJournalBegun, spool.StepJournalRenamed, spool.StepJournalInPlace, // but when the journal is due
	spool.StepLegsHeld + before, spool.StepLegsHeld,
	spool.StepMessageFailed + before, spool.StepMessageFailed,
}

// wish chooses a step to die at, rather one that fewer have died at, and seldom one that was wished for in vain.
func (c *table) wish(rng *rand.Rand) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	steps := slices.DeleteFunc(spool.Steps(), func(step string) bool { return slices.Contains(elsewhere, step) })
	best, fewest := "", math.Inf(1)
	for range 5 {
		step := steps[rng.IntN(len(steps))]
		n := 0.0
		if l := c.luck[step]; l != nil {
			n = float64(l.met) + 6*float64(l.wished-l.met)
		}
		if n < fewest {
			best, fewest = step, n
		}
	}
	return best
}

// wished notes whether a life came to the step that was wished for.
func (c *table) wished(step string, met bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.luck[step] == nil {
		c.luck[step] = &luck{}
	}
	c.luck[step].wished++
	if met {
		c.luck[step].met++
	}
}

// concluded counts a study that has come to rest.
func (c *table) concluded(study dicom.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended[study] = true
}

func (c *table) studies() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ended)
}

// answered counts an alert.
func (c *table) answered(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alerts[id] = true
}

func (c *table) deaths() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rows {
		n += r.killed + r.cut
	}
	return n
}

// areas are what the daemon was doing, by how the names of its steps begin.
var areas = []struct {
	name  string
	steps []string
}{
	{"receive", []string{"create:", "commit:", "association ended"}},
	{"forward", []string{"leg ", "legs ", "commitment ", "sent is done", "requests forgotten"}},
	{"triage", []string{"finding ", "failed findings", "study decided"}},
	{"outbox", []string{"message ", "noted in the journal"}},
	{"acknowledgement", []string{"alert "}},
	{"commitment for scanners", []string{"transaction", "report "}},
	{"removal", []string{"remove:"}},
	{"recovery", []string{"recover:", "schedules "}},
	{"any", []string{""}},
}

func area(step string) string {
	for _, a := range areas {
		for _, begin := range a.steps {
			if strings.HasPrefix(step, begin) {
				return a.name
			}
		}
	}
	return ""
}

// String is the table, in the order of the alphabet, its sums by area, and the steps that nobody died at.
func (c *table) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(step string, r *row) {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t\t%s\n", r.killed, r.cut, r.lost, r.duplicated, r.resent, r.repeated, step)
	}
	fmt.Fprintln(w, "SIGKILL\tpower cut\tlost\tduplicated\tre-sent\ttold again\t\tended at")
	var all row
	sums := map[string]*row{}
	for _, a := range areas {
		sums[a.name] = &row{}
	}
	for _, step := range slices.Sorted(maps.Keys(c.rows)) {
		line(step, c.rows[step])
		all.add(c.rows[step])
		sums[area(step)].add(c.rows[step])
	}
	for _, a := range areas {
		line("= "+a.name, sums[a.name])
	}
	line("= all", &all)
	_ = w.Flush() // to memory
	var never []string
	for _, step := range spool.Steps() {
		if c.rows[step] == nil && !slices.Contains(elsewhere, step) {
			never = append(never, step)
		}
	}
	slices.Sort(never)
	fmt.Fprintf(&b, "alerts raised and answered: %d\n", len(c.alerts))
	if len(never) > 0 {
		fmt.Fprintf(&b, "nobody died at: %s\n", strings.Join(never, "; "))
	}
	return b.String()
}
