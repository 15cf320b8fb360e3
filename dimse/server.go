package dimse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"ichwatch/dimse/dicom"
)

const (
	// drainIdle is how long an association may fall silent during Shutdown.
	drainIdle = time.Second

	// pendingSlack is how many connections without a slot there may be beyond the
	// number of MaxAssociations; then the one that has waited longest is closed.
	pendingSlack = 32
)

// Server accepts associations and answers C-ECHO and C-STORE through Handler,
// and the messages of storage commitment where handlers for them are set.
// Its fields are its configuration and must not change once Serve was called;
// zero values mean the defaults named beside them.
type Server struct {
	// AETitle is the title that peers must call us by.
	AETitle dicom.AETitle
	// AcceptAnyCalledAETitle accepts any called AE title.
	AcceptAnyCalledAETitle bool
	// Peers are the rules about who may speak and how much; the first that is
	// about a request holds. Empty: any peer may.
	Peers []Peer
	// AcceptBlankCallingAETitle accepts a peer that gives no calling AE title.
	AcceptBlankCallingAETitle bool
	// Handler answers the messages. It may also be an AssociationObserver.
	Handler Handler
	// Actions and EventReports serve storage commitment as its SCP and as its
	// SCU; nil: not served.
	Actions      ActionHandler
	EventReports EventReportHandler
	// Log receives one line per association and per refusal; nil: none.
	Log *slog.Logger

	// MaxPDU is the longest P-DATA-TF that we offer to receive, in bytes;
	// default 131072.
	MaxPDU uint32
	// MaxAssociations bounds the open associations; default 100. Requests
	// beyond it are rejected as transient. A connection counts once its peer is
	// known: neither silent ones nor strangers take a slot. Of those there are
	// hardly more; the one that has waited longest gives way.
	MaxAssociations int
	// MaxAssociationsPerHost bounds those of one IP address; default: no bound
	// of its own.
	MaxAssociationsPerHost int
	// Rates bounds what all peers together send; default: no bounds.
	Rates Rates
	// MaxObject bounds one incoming data set, in bytes, the headers of its
	// fragments included; default 4 GiB.
	MaxObject int64

	// ARTIM bounds the wait for an A-ASSOCIATE-RQ, and for the peer's close
	// after a rejection or a release (PS3.8 section 9.1.4); default 30 s.
	ARTIM time.Duration
	// IdleTimeout bounds the wait between messages; default 5 min.
	IdleTimeout time.Duration
	// ReadTimeout bounds how long a peer may stall in mid-message; default 30 s.
	ReadTimeout time.Duration
	// WriteTimeout bounds how long a peer may leave our answer untaken; default 30 s.
	WriteTimeout time.Duration

	// AbstractSyntaxes are the SOP classes accepted; default Verification,
	// every storage SOP class and, where it is served, storage commitment, which
	// an explicit list must name as well.
	AbstractSyntaxes []dicom.UID
	// PrivateStorage are SOP classes accepted as Storage besides those, a
	// manufacturer's own.
	PrivateStorage []dicom.UID
	// UnknownStorage accepts as Storage every SOP class that may be one
	// (dicom.UID.MayBeStorage).
	UnknownStorage bool
	// TransferSyntaxes are those accepted, preferred first. Default: every
	// known one, in the order of the peer's preference.
	TransferSyntaxes []dicom.UID

	// Admit, if set, is asked last before an association is accepted; it
	// refuses it by returning a Rejection, say RejectTemporaryCongestion when
	// the disk is nearly full.
	Admit func(ctx context.Context, rq AssociateRequestInfo) *Rejection
	// Resolver looks up the names in the Hosts of Peers; nil: net.DefaultResolver.
	Resolver Resolver
	// Own, if set, says of an association request by the two ends of its
	// connection, as the Server sees them, whether this very program has sent it,
	// to see whether the Server answers. That stands beside the rules and bounds
	// that are for others: nobody can keep it out, it takes nobody's place, and
	// the log has it at debug level. Verification alone is accepted on it.
	Own func(local, remote net.Addr) bool
	// Authenticator checks user identities where a rule of Peers requires one.
	Authenticator Authenticator
	// Advise, if set, says what can be done about a refusal; the log has it.
	Advise func(Refusal) string

	everyone quota    // of the requests that no rule is about, and of all
	own      quota    // of Own's
	rules    []*quota // Peers
	hosts    hosts
	repeats  repeats

	mu        sync.Mutex
	closed    bool
	draining  bool
	listeners map[net.Listener]struct{}
	conns     map[*Association]connState
	pending   []*Association // without a slot, in Sta2, Sta3 or Sta13: who has waited longest comes first
	running   sync.WaitGroup
}

// connState is what the server knows of a connection.
type connState struct {
	host   string
	rule   *quota // once it holds
	holds  bool   // a slot of MaxAssociations
	cancel context.CancelFunc
}

func orDefault[T int | int64 | uint32 | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

func (s *Server) maxPDU() uint32             { return orDefault(s.MaxPDU, defaultMaxPDU) }
func (s *Server) maxAssociations() int       { return orDefault(s.MaxAssociations, 100) }
func (s *Server) maxObject() int64           { return orDefault(s.MaxObject, 4<<30) }
func (s *Server) idleTimeout() time.Duration { return orDefault(s.IdleTimeout, 5*time.Minute) }
func (s *Server) artim() time.Duration       { return orDefault(s.ARTIM, 30*time.Second) }

// Serve accepts connections on ln until Shutdown, Close or the end of ctx, and
// returns ErrServerClosed when the last association has ended. The end of ctx
// aborts all associations; Shutdown drains them. Serve closes ln. It may be
// called for several listeners.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if s.Handler == nil {
		ln.Close()
		return errors.New("dimse: Server without a Handler")
	}
	if _, err := dicom.ParseAETitle(string(s.AETitle)); err != nil && !s.AcceptAnyCalledAETitle {
		ln.Close()
		return fmt.Errorf("dimse: Server.AETitle %q: %w", s.AETitle, err)
	}
	if !s.listen(ln) {
		ln.Close()
		return ErrServerClosed
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	err := s.acceptLoop(ctx, ln)
	s.running.Wait()
	return err
}

func (s *Server) acceptLoop(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	var pause time.Duration
	for {
		conn, err := ln.Accept()
		if err != nil {
			s.mu.Lock()
			over := s.closed || s.draining
			s.mu.Unlock()
			if over {
				return ErrServerClosed
			}
			// Out of descriptors, say: it may pass, and nothing else would bring
			// the listener back.
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logger().Warn("accept failed; trying again", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		s.start(ctx, conn)
	}
}

// start begins to serve a connection.
func (s *Server) start(ctx context.Context, conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true) // Go's default, and the answers depend on it
	}
	a := newAssociation(conn, false, s.maxPDU(),
		orDefault(s.ReadTimeout, 30*time.Second), orDefault(s.WriteTimeout, 30*time.Second), s.logger())
	a.artim = s.artim()
	a.conn.acknowledge = quickAcknowledge(conn)
	ctx, cancel := context.WithCancel(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.draining {
		cancel()
		conn.Close()
		return
	}
	s.conns[a] = connState{host: hostOf(conn.RemoteAddr()), cancel: cancel}
	s.addPending(a)
	s.running.Go(func() {
		defer s.finish(a)
		s.serve(ctx, a)
	})
}

// errEvicted is why a connection ends that was silent while others came.
var errEvicted = errors.New("dimse: too many connections without an association")

// finish forgets a connection.
func (s *Server) finish(a *Association) {
	a.conn.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[a].cancel()
	s.forgetPending(a)
	delete(s.conns, a)
}

// addPending counts a among the connections that await their request or the
// decision on it, or after the end of their association the peer's close; too many
// would cost memory.
func (s *Server) addPending(a *Association) {
	if a.conn.interruption() != nil {
		return // it gives way already
	}
	s.pending = append(s.pending, a)
	if len(s.pending) > s.maxAssociations()+pendingSlack {
		longest := s.longestPending()
		longest.conn.interrupt(errEvicted)
		s.conns[longest].cancel() // it may await the check of its identity
		s.forgetPending(longest)
	}
}

// longestPending is the oldest of the host that has most: a host that floods us
// evicts itself, and not the handshake of another.
func (s *Server) longestPending() *Association {
	count := map[string]int{}
	most := 0
	for _, a := range s.pending {
		host := s.conns[a].host
		count[host]++
		most = max(most, count[host])
	}
	i := slices.IndexFunc(s.pending, func(a *Association) bool { return count[s.conns[a].host] == most })
	return s.pending[i]
}

// forgetPending is the inverse of addPending.
func (s *Server) forgetPending(a *Association) {
	if i := slices.Index(s.pending, a); i >= 0 {
		s.pending = slices.Delete(s.pending, i, i+1)
	}
}

func (s *Server) listen(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.draining {
		return false
	}
	if s.listeners == nil {
		s.listeners = map[net.Listener]struct{}{}
		s.conns = map[*Association]connState{}
		s.everyone = newQuota(Peer{}, s.Rates)
		s.own = newQuota(Peer{Name: "this program", AbstractSyntaxes: []dicom.UID{dicom.Verification}}, Rates{})
		for _, p := range s.Peers {
			rule := newQuota(p, p.Rates)
			s.rules = append(s.rules, &rule)
		}
	}
	s.listeners[ln] = struct{}{}
	return true
}

// Shutdown stops accepting and waits for the associations to end. One that
// keeps sending goes on until it is released; one that is silent between
// messages for a second is aborted. When ctx ends first, all that are left are
// aborted and Shutdown returns ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.closeListeners()
	for a, c := range s.conns {
		if c.holds {
			a.conn.drain(drainIdle)
		} else {
			a.conn.interrupt(errDraining)
			c.cancel()
		}
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.Close()
		<-done
		return ctx.Err()
	}
}

// Close stops accepting and aborts all associations. It does not wait for
// Handler calls to return; their contexts have ended.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.closeListeners()
	for a, c := range s.conns {
		a.conn.interrupt(ErrServerClosed)
		c.cancel()
	}
	return nil
}

func (s *Server) closeListeners() {
	for ln := range s.listeners {
		ln.Close()
	}
}

func (s *Server) logger() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func hostOf(addr net.Addr) string {
	if host, _, err := net.SplitHostPort(addr.String()); err == nil {
		return host
	}
	return addr.String()
}
