package console

import (
	"fmt"
	"net/http"
	"time"

	"ichwatch/daemon/audit"
)

// Machine is how the device is.
type Machine struct {
	Version    string
	Started    time.Time
	Boot       uint64
	Parts      []Part // of /readyz
	Models     []string
	Provider   string
	ModelFault string // why none is in service; "" where one is, or none is wanted
	Canary     *Canary
	Broker     string
	Connected  bool

	DiskFree, DiskTotal      uint64
	DiskInUse, HighWatermark float64 // 0..1
	Objects                  int
	Bytes                    uint64
	Slices, Messages         Backlog
	Queues                   []Queue
	Peers                    []Peer
}

// Part is one of the parts that readiness looks at.
type Part struct {
	Name, Wrong string // Wrong is "" where it works
}

// Canary is the last look at a study whose answer is known.
type Canary struct {
	At    time.Time
	Right bool
	Text  string
}

// Backlog is how much waits, and since when.
type Backlog struct {
	N      int
	Oldest time.Time
}

// Queue is what waits for a destination.
type Queue struct {
	Name, Address string
	Waiting       Backlog
	Parked        int
	LastDone      time.Time
	Failing       bool
	Reason        string // of the failure
}

// Peer is a sender.
type Peer struct {
	Name, AETitle, Address string
	Seen                   time.Time // its last association; zero: not since the start
	Refused                string    // why that was refused; "" where it was not
}

// Checked is what a check of the configuration's file came to.
type Checked struct {
	File     string
	Changed  bool // since the daemon read it
	Problems []string
	Warnings []string
}

// deviceView is the technician's page.
type deviceView struct {
	page
	Machine Machine
	Lines   []Line
	Checked *Checked
	CanTest bool
	TrailOK bool
}

func (s *Server) deviceView(r *http.Request) deviceView {
	return deviceView{
		page: s.page(r, "Device"), Machine: s.Look(r.Context()), Lines: s.Recent.Lines(),
		CanTest: s.CheckFile != nil, TrailOK: s.Trail.Err() == nil,
	}
}

func (s *Server) devicePage(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "device", s.deviceView(r))
}

func (s *Server) deviceNow(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "device-now", s.deviceView(r))
}

func (s *Server) deviceCheck(w http.ResponseWriter, r *http.Request) {
	if s.CheckFile == nil {
		s.fail(w, r, http.StatusNotFound, "This daemon runs without a file of configuration.")
		return
	}
	v := s.deviceView(r)
	checked := s.CheckFile(r.Context())
	v.Checked = &checked
	entry := s.record(r, audit.Checked)
	entry.Result = fmt.Sprintf("%d problems", len(checked.Problems))
	s.tell(entry)
	s.render(w, r, http.StatusOK, "device", v)
}

// trailView is the last of what people did.
type trailView struct {
	page
	Records []audit.Record
	Broken  string
	Seq     uint64
	Head    string
}

// shownRecords is how many records the page shows.
const shownRecords = 300

func (s *Server) trailPage(w http.ResponseWriter, r *http.Request) {
	entry := s.record(r, audit.Read)
	entry.Result = audit.Done
	s.tell(entry)
	records, err := s.Trail.Tail(shownRecords)
	v := trailView{page: s.page(r, "Audit trail")}
	v.Seq, v.Head = s.Trail.Head()
	if err != nil {
		v.Broken = err.Error()
	}
	for i := len(records) - 1; i >= 0; i-- {
		v.Records = append(v.Records, records[i])
	}
	s.render(w, r, http.StatusOK, "trail", v)
}
