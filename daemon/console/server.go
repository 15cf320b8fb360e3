package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/console/session"
	"ichwatch/daemon/console/users"
	"ichwatch/daemon/spool"
	"ichwatch/infer"
)

// Answers is the book in which answers to alerts are recorded. *spool.Spool is
// one.
type Answers interface {
	Acknowledge(ctx context.Context, a alerts.Acknowledgement) error
	Read(ctx context.Context, r alerts.Reading, seen int) (alerts.Reading, error)
}

// Slice is a frame of a stored object, for people to look at.
type Slice struct {
	infer.Image
	Sides [4]string // letters at the left, right, upper and lower edge; empty where unknown
}

// HeatMap is where a model looked for one class of hemorrhage in a slice.
type HeatMap struct {
	Rows    int        `json:"rows"`
	Columns int        `json:"columns"`
	Values  []float32  `json:"values"` // 0..1, row by row
	Box     [4]float64 `json:"box"`    // left, top, right, bottom in pixels of the slice; it may reach beyond
}

// Identity is what a site may show of a patient beside the pseudonym.
type Identity struct {
	StudyInstanceUID               string
	PatientName, PatientID, Number string // accession number
}

// Model is what is in service: the classes in the order of a finding's
// probabilities, and from which probability on a slice counts.
type Model struct {
	Models     infer.Models
	Classes    []infer.Class
	Thresholds map[infer.Class]float32
}

// Server is the page. Its fields are its configuration and must not change once
// it serves.
type Server struct {
	Site, Device, Version string

	Spool   *spool.Spool
	Answers Answers
	Trail   *audit.Trail
	Users   *users.File
	Log     *slog.Logger

	Idle, Max time.Duration // of sessions
	Secure    bool          // it is served over TLS

	// Model is what is in service now.
	Model func() Model
	// Slice decodes a frame of an instance, from 1 on; 0 where it has one.
	Slice func(ctx context.Context, data *spool.DataSet, frame int) (*Slice, error)
	// HeatMap returns the stored map of a slice for a class; nil where there is
	// none. Nil: no maps at all.
	HeatMap func(ctx context.Context, instance int64, frame int, class infer.Class) (*HeatMap, error)
	// Identify returns what the site shows of a study's patient. Nil: nothing.
	Identify func(ctx context.Context, record spool.StudyRecord) (Identity, error)
	// Look tells how the device is.
	Look func(ctx context.Context) Machine
	// CheckFile checks the file of the configuration. Nil: there is none.
	CheckFile func(ctx context.Context) Checked
	// Recent holds the last lines of the log.
	Recent *Recent

	Now func() time.Time // default time.Now

	once     sync.Once
	pages    *template.Template
	sessions *session.Store
	throttle *session.Throttle
	pace     *session.Pace
	hub      hub
	slices   cache
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.Now == nil {
			s.Now = time.Now
		}
		s.pages = parsePages()
		s.sessions = &session.Store{Idle: s.Idle, Max: s.Max, Now: s.Now}
		s.throttle = &session.Throttle{Now: s.Now}
		s.pace = &session.Pace{Now: s.Now}
		s.hub.init()
		s.slices.init()
	})
}

// Serve answers on ln, over TLS where config is not nil, until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener, config *tls.Config) error {
	s.init()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(ctx) })
	defer watching.Wait()
	defer cancel()

	srv := &http.Server{
		Handler:           s.Handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      time.Minute, // the stream of events puts it off
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		TLSConfig:         config,
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // answers are in the ledger before they are confirmed
	defer stop()
	var err error
	if config != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("page: %w", err)
	}
	return nil
}

func (s *Server) now() time.Time { return s.Now() }
