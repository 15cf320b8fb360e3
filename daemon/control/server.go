package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

const (
	socketName = "control.sock"
	// longestPath is what fits into a socket's address (unix(7)).
	longestPath = 107
	maxBody     = 1 << 20
)

// Listener is the socket.
type Listener struct {
	net.Listener
	path string
	dir  *os.File
}

// Listen opens the socket in a spool's directory. Only who holds the spool may:
// what lies there is taken for the socket of one who held it before.
func Listen(dir string) (*Listener, error) {
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	address, folder, err := address(dir)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err == nil {
		ln.SetUnlinkOnClose(false) // Close does it, by the path
		err = os.Chmod(path, 0o600)
	}
	l := &Listener{ln, path, folder}
	if err != nil {
		if ln == nil {
			l.Listener = nil
		}
		return nil, fmt.Errorf("open the control socket: %w", errors.Join(err, l.Close()))
	}
	return l, nil
}

// address is how the socket is named to the system. A path that is too long for
// that goes by way of a descriptor of its directory.
func address(dir string) (string, *os.File, error) {
	path := filepath.Join(dir, socketName)
	if len(path) <= longestPath {
		return path, nil, nil
	}
	folder, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), socketName), folder, nil
}

// Close ends the listening and removes the socket.
func (l *Listener) Close() error {
	var errs []error
	if l.Listener != nil {
		errs = append(errs, l.Listener.Close())
		if err := os.Remove(l.path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if l.dir != nil {
		if err := l.dir.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Server answers on the socket.
type Server struct {
	Daemon Daemon
	Log    *slog.Logger
}

// Serve answers until ctx ends, and then finishes what it is answering.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(deadline) != nil {
			_ = srv.Close() // whoever waits has waited long enough
		}
	})
	err := srv.Serve(ln)
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.Daemon.Status(r.Context()), nil)
	})
	mux.HandleFunc("POST /v1/legs/retry", func(w http.ResponseWriter, r *http.Request) {
		var body Retry
		if read(w, r, &body) {
			changed, err := s.Daemon.Retry(r.Context(), body)
			answer(w, changed, err)
		}
	})
	mux.HandleFunc("POST /v1/legs/park", func(w http.ResponseWriter, r *http.Request) {
		var body Park
		if read(w, r, &body) {
			changed, err := s.Daemon.Park(r.Context(), body)
			answer(w, changed, err)
		}
	})
	mux.HandleFunc("POST /v1/models/activate", func(w http.ResponseWriter, r *http.Request) {
		var body Activate
		if read(w, r, &body) {
			patient(w)
			change, err := s.Daemon.ActivateModels(r.Context(), body)
			answer(w, change, err)
		}
	})
	mux.HandleFunc("POST /v1/models/rollback", func(w http.ResponseWriter, r *http.Request) {
		if read(w, r, &struct{}{}) {
			patient(w)
			change, err := s.Daemon.RollBackModels(r.Context())
			answer(w, change, err)
		}
	})
	mux.HandleFunc("POST /v1/models/relearn", func(w http.ResponseWriter, r *http.Request) {
		if read(w, r, &struct{}{}) {
			answer(w, struct{}{}, s.Daemon.Relearn(r.Context()))
		}
	})
	return mux
}

// modelTime is how long models may take to be loaded and tried.
const modelTime = 10 * time.Minute

// patient lets an answer take its time.
func patient(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(modelTime)) // where it cannot be set, the usual one holds
	_ = c.SetWriteDeadline(time.Now().Add(modelTime))
}

// fault is the body of an error.
type fault struct {
	Error string `json:"error"`
}

// read decodes a request. A member that it does not know is refused: half of a
// selection would select too much.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		write(w, http.StatusBadRequest, fault{"the request cannot be read: " + err.Error()})
		return false
	}
	return true
}

func answer(w http.ResponseWriter, body any, err error) {
	if err != nil {
		write(w, http.StatusInternalServerError, fault{err.Error()})
		return
	}
	write(w, http.StatusOK, body)
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client went away: nobody to tell
}
