package dimse

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"

	"golang.org/x/time/rate"

	"ichwatch/dimse/pdu"
)

// Rates bounds what comes in over a time. Zero is no bound. What is above the
// rate of associations is refused; above the others the peer has to wait, by the
// flow control of TCP.
type Rates struct {
	AssociationsPerMinute int // so many at once, too
	ObjectsPerSecond      int
	BytesPerSecond        int64
}

// Authenticator checks user identities (PS3.7 section D.3.3.7). It is called
// from many associations at once.
type Authenticator interface {
	// Authenticate returns nil for a user that may come in. passcode is nil
	// where the peer sent a username alone. An error of ctx, which ends with
	// ARTIM, says that there was no time to check.
	Authenticate(ctx context.Context, username string, passcode []byte) error
}

// quota is a rule at work: what of its rates is used up.
type quota struct {
	peer         Peer // of the Server's own: the zero rule, which fits everybody
	associations *rate.Limiter
	objects      *rate.Limiter
	bytes        *rate.Limiter
}

// bytesAtOnce is the least burst of a rate of bytes: what one read may bring.
const bytesAtOnce = 64 << 10

func newQuota(p Peer, r Rates) quota {
	limiter := func(perSecond float64, burst int) *rate.Limiter {
		if perSecond == 0 {
			return rate.NewLimiter(rate.Inf, 0)
		}
		return rate.NewLimiter(rate.Limit(perSecond), burst)
	}
	bytes := int(min(max(r.BytesPerSecond, bytesAtOnce), math.MaxInt32))
	return quota{
		peer:         p,
		associations: limiter(float64(r.AssociationsPerMinute)/60, r.AssociationsPerMinute),
		objects:      limiter(float64(r.ObjectsPerSecond), max(r.ObjectsPerSecond, 1)),
		bytes:        limiter(float64(r.BytesPerSecond), bytes),
	}
}

// quotas are those that an association counts against.
func (s *Server) quotas(a *Association) []*quota {
	if a.rule == &s.everyone || a.rule == &s.own {
		return []*quota{a.rule}
	}
	return []*quota{a.rule, &s.everyone}
}

// pace makes the peer wait for its bytes where they come faster than they may.
func (s *Server) pace(ctx context.Context, a *Association) func(n int) {
	var bounded []*rate.Limiter
	for _, q := range s.quotas(a) {
		if q.bytes.Limit() != rate.Inf {
			bounded = append(bounded, q.bytes)
		}
	}
	if len(bounded) == 0 {
		return nil
	}
	return func(n int) {
		for _, l := range bounded {
			for left := n; left > 0; left -= l.Burst() {
				_ = l.WaitN(ctx, min(left, l.Burst())) // the end of ctx shows in the next Read
			}
		}
	}
}

// paceObject does the same for whole objects.
func (s *Server) paceObject(ctx context.Context, a *Association) {
	for _, q := range s.quotas(a) {
		_ = q.objects.Wait(ctx)
	}
}

// maxObjectOf is what bounds a data set of an association.
func (s *Server) maxObjectOf(a *Association) int64 {
	if a.rule.peer.MaxObject > 0 {
		return min(a.rule.peer.MaxObject, s.maxObject())
	}
	return s.maxObject()
}

// admit decides on a request that the service provider has let pass. First comes
// who the peer is, as far as the rules ask for it: strangers take no slot and use
// up no rate that others need, and are bounded like the connections that are
// silent yet. A Refusal without a Cause is none; the association then holds a
// slot. With an error, the association has ended.
func (s *Server) admit(ctx context.Context, a *Association, rq *pdu.AssociateRQ) (Refusal, error) {
	info := requestInfo(a, rq)
	if s.Own != nil && s.Own(a.conn.conn.LocalAddr(), a.conn.conn.RemoteAddr()) {
		a.rule = &s.own
		s.takeSlot(a)
		return Refusal{}, nil
	}
	r := Refusal{AssociateRequestInfo: info}
	r.UserIdentity = nil
	var rejection *Rejection
	err := a.guard(func() {
		r.Cause = s.userRefuses(ctx, a, rq, &info)
		if r.Cause == 0 {
			r.Cause, r.Err = s.identify(ctx, a, info.UserIdentity)
		}
		if r.Cause == 0 {
			r.Cause = s.takeSlot(a)
		}
		if r.Cause == 0 {
			r.Cause = s.overRate(a)
		}
		if r.Cause == 0 && s.Admit != nil {
			rejection = s.Admit(ctx, info)
		}
	})
	if ended := a.conn.interruption(); ended != nil && err == nil {
		err = a.fail(ended)
	}
	r.Rejection = causes[r.Cause].rejection
	if rejection != nil {
		r.Cause, r.Rejection = CauseAdmit, *rejection
	}
	if r.Cause == 0 {
		a.conn.pace = s.pace(ctx, a)
	}
	return r, err
}

// origin is what the log says of how an association came to be let in.
func (s *Server) origin(a *Association) []any {
	var attrs []any
	if a.rule != &s.everyone {
		attrs = append(attrs, slog.String("rule", a.rule.peer.Name))
	}
	if c, ok := a.conn.conn.(*tlsConn); ok {
		attrs = append(attrs, slog.String("tls", tls.VersionName(c.ConnectionState().Version)))
	}
	if len(a.names) > 0 {
		attrs = append(attrs, slog.Any("certificate", printableAll(a.names)))
	}
	if a.user != "" {
		attrs = append(attrs, slog.String("user", printable(a.user, 64)))
	}
	return attrs
}

// overRate counts an association against the rates of its rule and of all.
func (s *Server) overRate(a *Association) Cause {
	switch {
	case a.rule != &s.everyone && !a.rule.associations.Allow():
		return CauseRateOfPeer
	case !s.everyone.associations.Allow():
		return CauseRate
	}
	return 0
}

// identify checks the user identity where the rule asks for one.
func (s *Server) identify(ctx context.Context, a *Association, id *pdu.UserIdentity) (Cause, error) {
	if !a.rule.peer.RequireUserIdentity {
		return 0, nil
	}
	if id == nil {
		return CauseNoUserIdentity, nil
	}
	var passcode []byte
	switch id.Type {
	case pdu.IdentityUsername:
	case pdu.IdentityUsernamePasscode:
		passcode = id.SecondaryField
	default:
		return CauseUserIdentityType, nil
	}
	if s.Authenticator == nil {
		return CauseUserIdentityUnchecked, errors.New("no Authenticator")
	}
	ctx, cancel := context.WithTimeout(ctx, s.artim())
	defer cancel()
	err := s.Authenticator.Authenticate(ctx, string(id.PrimaryField), passcode)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return CauseUserIdentityUnchecked, err
	default:
		return CauseUserIdentity, err
	}
	a.user = string(id.PrimaryField)
	if id.PositiveResponseRequested {
		a.identityResponse = []byte{} // of zero length for both types (PS3.7 Table D.3-15)
	}
	return 0, nil
}

// takeSlot takes a slot of MaxAssociations, or says which bound is reached. For
// Own's there is always one.
func (s *Server) takeSlot(a *Association) Cause {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetPending(a)
	c := s.conns[a]
	all, ofHost, ofRule := 0, 0, 0
	for _, other := range s.conns {
		if !other.holds || other.rule == &s.own {
			continue
		}
		all++
		if other.host == c.host {
			ofHost++
		}
		if other.rule == a.rule {
			ofRule++
		}
	}
	switch {
	case a.rule == &s.own:
	case a.rule.peer.MaxAssociations > 0 && ofRule >= a.rule.peer.MaxAssociations:
		return CauseAssociationsOfPeer
	case s.MaxAssociationsPerHost > 0 && ofHost >= s.MaxAssociationsPerHost:
		return CauseAssociationsOfHost
	case all >= s.maxAssociations():
		return CauseAssociations
	}
	c.holds, c.rule = true, a.rule
	s.conns[a] = c
	return 0
}

// freeSlot gives the slot back, if the association holds one; it now awaits the
// peer's close.
func (s *Server) freeSlot(a *Association) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetPending(a)
	s.addPending(a)
	c := s.conns[a]
	c.holds = false
	s.conns[a] = c
}
