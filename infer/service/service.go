package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"ichwatch/infer"
	"ichwatch/infer/ensemble"
)

// Classifier is an ensemble that runs.
type Classifier interface {
	infer.Classifier
	// Check holds the provider that serves against the CPU, and takes it out of
	// service where it differs.
	Check(ctx context.Context) error
	// Distrust takes the provider that serves out of service, and reports whether
	// there was one besides the CPU.
	Distrust(why error) bool
	Close() error
}

// Running is what is, or was, in service.
type Running struct {
	Choice     Choice
	Ensemble   *ensemble.Ensemble // without the bytes of the models
	Classifier Classifier
	Attached   any // by Options.Attach
	Since      time.Time

	users   int
	retired bool
	idle    chan struct{} // closed when it is retired and nobody uses it
}

// Options of a service.
type Options struct {
	State      string // directory
	Configured Choice
	// Explain says in the configuration's terms why its own models do not load; may
	// be nil.
	Explain  func(error) error
	Verifier Verifier
	Version  string // of the program
	// Load brings an ensemble into memory and runs it once.
	Load func(*ensemble.Ensemble) (Classifier, error)
	// Attach makes what goes with a running ensemble; may be nil.
	Attach func(*Running) any
	// Cases are the canary's slices, made anew by each call.
	Cases func(context.Context) ([]Case, error)
	// At is the time of day of the daily canary, from midnight, local time.
	At time.Duration
	// Changed is told after each exchange; may be nil.
	Changed func(*Running)
	Log     *slog.Logger
}

// Service has the models in service. It is safe for concurrent use.
type Service struct {
	Options

	changing sync.Mutex // one change or canary at a time
	mu       sync.Mutex
	current  *Running // nil: none
	fault    error    // why none is
	alarm    Alarm
	retiring sync.WaitGroup
	closed   bool
}

// Alarm is what people must look at; the zero value is none.
type Alarm struct {
	Text  string    `json:"text"`
	Since time.Time `json:"since"`

	until endurance
}

// endurance is what ends an alarm.
type endurance int

const (
	passing  endurance = iota // a canary that answers as it should
	standing                  // a person who changes the models
)

// ErrClosed: the service was closed.
var ErrClosed = errors.New("models are no longer in service")

// Open brings the active models into service, those of the way back where they
// cannot be, and otherwise none: the error says why, and the service can be given
// others.
func Open(o Options) (*Service, error) {
	s := &Service{Options: o}
	selection, err := ReadSelection(o.State, o.Configured)
	if err != nil {
		s.raise(standing, err.Error())
	}
	choice := o.Configured
	if selection != nil {
		choice = selection.Active
		if selection.Alarm != "" {
			s.raise(standing, selection.Alarm)
		}
	}
	r, err := s.load(choice)
	if err != nil && selection != nil && selection.Previous != nil {
		why := fmt.Sprintf("%v did not come into service at the start: %v", choice, err)
		back, again := s.load(*selection.Previous)
		if again != nil {
			err = errors.Join(err, again)
		} else {
			r, err = back, nil
			why = "rolled back to " + back.Choice.String() + ": " + why
			s.raise(standing, why)
			if err := (&Selection{Configured: o.Configured, Active: back.Choice, Since: time.Now(), Reason: why, Alarm: why}).write(o.State); err != nil {
				s.raise(standing, err.Error())
			}
		}
	}
	if err != nil {
		s.fault = err
		return s, err
	}
	s.current = r
	return s, nil
}

// load verifies and warms a choice.
func (s *Service) load(c Choice) (*Running, error) {
	e, err := s.Verifier.together(c)
	if err != nil {
		if s.Explain != nil && c.same(s.Configured) {
			err = s.Explain(err)
		}
		return nil, err
	}
	classifier, err := s.Load(e)
	if err != nil {
		return nil, err
	}
	for _, m := range e.Members {
		m.Release()
	}
	debug.FreeOSMemory() // the files' bytes, of which the runtime has a copy
	c.Refs = e.Models()
	r := &Running{Choice: c, Ensemble: e, Classifier: classifier, Since: time.Now(), idle: make(chan struct{})}
	if s.Attach != nil {
		r.Attached = s.Attach(r)
	}
	return r, nil
}

// Use gives what is in service, nil where nothing is. It stays usable until done is
// called.
func (s *Service) Use() (r *Running, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = s.current
	if r == nil {
		return nil, func() {}
	}
	r.users++
	return r, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.users--
		s.settle(r)
	})
}

// settle lets a retired one go when nobody uses it.
func (s *Service) settle(r *Running) {
	if r.retired && r.users == 0 {
		close(r.idle)
	}
}

// exchange puts r into service, or nothing for a reason, and closes what was there
// when the last slice has left it.
func (s *Service) exchange(r *Running, why error) {
	s.mu.Lock()
	old := s.current
	s.current, s.fault = r, why
	if old != nil {
		old.retired = true
		s.retiring.Go(func() {
			<-old.idle
			if err := old.Classifier.Close(); err != nil {
				s.Log.Error("a model that was exchanged does not give its memory back", "model", old.Choice.String(), "err", err)
			}
		})
		s.settle(old)
	}
	s.mu.Unlock()
	if r != nil && s.Changed != nil {
		s.Changed(r)
	}
}

// Fault says why nothing is in service; nil where something is.
func (s *Service) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// Alarm gives what people must look at.
func (s *Service) Alarm() Alarm {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alarm
}

// raise sets the technical alarm. One that stands is not overwritten by one that
// passes.
func (s *Service) raise(until endurance, text string) {
	s.mu.Lock()
	repeated := s.alarm.Text == text
	switch {
	case repeated || s.alarm.until > until:
	case s.alarm.Text == "":
		s.alarm = Alarm{text, time.Now(), until}
	default:
		s.alarm.Text, s.alarm.until = text, until
	}
	s.mu.Unlock()
	if !repeated {
		s.Log.Error("technical alarm about the models in service", "alarm", text)
	}
}

// clear ends an alarm that asks for no more than what has happened.
func (s *Service) clear(what endurance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alarm.until <= what {
		s.alarm = Alarm{}
	}
}

// Close waits for the slices under way and gives all back.
func (s *Service) Close() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	r := s.current
	s.current, s.fault, s.closed = nil, ErrClosed, true
	s.mu.Unlock()
	s.retiring.Wait()
	if r == nil {
		return nil
	}
	return r.Classifier.Close()
}
