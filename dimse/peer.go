package dimse

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// Peer is a rule of a [Server]: whom it is about, and what they may do.
type Peer struct {
	// Name is for the log.
	Name string

	// The rule is about requests that meet all of these. An empty one is met by
	// any request.

	// CallingAETitle is the requestor's title.
	CallingAETitle dicom.AETitle
	// CalledAETitle is the title that it may call; empty: as Server.AETitle and
	// Server.AcceptAnyCalledAETitle say.
	CalledAETitle dicom.AETitle
	// Addresses are those that it may call from, and Hosts names of hosts that it
	// may call from too: by the addresses that they have at that moment, or had
	// when they were last looked up with success.
	Addresses []netip.Prefix
	Hosts     []string
	// TLS is met by a request over TLS alone.
	TLS bool
	// CertificateNames are names of which its certificate must have one: a DNS
	// name among the subject's alternative names, or the common name. Only a
	// listener with TLS that asks for certificates can meet it.
	CertificateNames []string

	// AbstractSyntaxes are the SOP classes that are accepted of them, among those
	// that the Server accepts; empty: all of those. The contexts of others are
	// answered as if nobody knew them.
	AbstractSyntaxes []dicom.UID
	// RefuseActions has their N-ACTIONs answered as if there were no
	// Server.Actions.
	RefuseActions bool
	// MaxAssociations bounds the open associations of the rule; 0: no bound of
	// its own.
	MaxAssociations int
	// MaxObject bounds one incoming data set, in bytes, below Server.MaxObject;
	// 0: no bound of its own.
	MaxObject int64
	// Rates bounds all associations of the rule together.
	Rates Rates
	// RequireUserIdentity refuses who sends no user identity that
	// Server.Authenticator confirms. Otherwise what is sent is ignored, as
	// PS3.7 section D.3.3.7 allows.
	RequireUserIdentity bool
}

// fits compares a request with the rule. It returns zero where the rule is about
// it, otherwise the first thing that differs: the higher the Cause, the nearer
// they came. isHost says whether a host of that name is at the address.
func (p *Peer) fits(rq *AssociateRequestInfo, isHost func(name string, addr netip.Addr) bool) Cause {
	switch {
	case p.CallingAETitle != "" && p.CallingAETitle != rq.CallingAETitle:
		return CauseCallingAETitle
	case !p.hasAddress(AddressOf(rq.RemoteAddr), isHost):
		return CauseAddress
	case p.TLS && !rq.TLS:
		return CausePlain
	case len(p.CertificateNames) > 0 && !p.hasCertificate(rq.CertificateNames):
		return CauseCertificate
	case p.CalledAETitle != "" && p.CalledAETitle != rq.CalledAETitle:
		return CauseCalledAETitle
	}
	return 0
}

// mayPropose says whether contexts of a SOP class are accepted of the rule's peers.
func (p *Peer) mayPropose(class dicom.UID) bool {
	return len(p.AbstractSyntaxes) == 0 || slices.Contains(p.AbstractSyntaxes, class)
}

func (p *Peer) hasAddress(addr netip.Addr, isHost func(name string, addr netip.Addr) bool) bool {
	return len(p.Addresses) == 0 && len(p.Hosts) == 0 ||
		slices.ContainsFunc(p.Addresses, func(prefix netip.Prefix) bool { return prefix.Contains(addr) }) ||
		slices.ContainsFunc(p.Hosts, func(name string) bool { return isHost(name, addr) })
}

func (p *Peer) hasCertificate(names []string) bool {
	return slices.ContainsFunc(p.CertificateNames, func(want string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, want) })
	})
}

// AddressOf is the IP address of a network address, without the forms that IPv6
// has for one of IPv4 and for an interface; invalid where it has none.
func AddressOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// ruleFor finds the first rule about a request; where there is none, it says how
// near the nearest came.
func (s *Server) ruleFor(ctx context.Context, rq *AssociateRequestInfo) (*quota, Cause) {
	if len(s.rules) == 0 {
		return &s.everyone, 0
	}
	isHost := func(name string, addr netip.Addr) bool { return s.has(ctx, name, addr) }
	nearest := CauseCallingAETitle
	for _, rule := range s.rules {
		differs := rule.peer.fits(rq, isHost)
		if differs == 0 {
			return rule, 0
		}
		nearest = max(nearest, differs)
	}
	return nil, nearest
}

// providerRefuses is the service provider's part of the decision on a request.
func providerRefuses(rq *pdu.AssociateRQ) Cause {
	switch {
	case rq.ProtocolVersion&pdu.ProtocolVersion == 0: // PS3.8 9.3.2: test bit 0 only
		return CauseProtocolVersion
	case rq.UserInformation.MaximumLength > 0 && rq.UserInformation.MaximumLength < pdu.MinSendLength:
		return CauseMaximumLength // no answer fits into such PDUs
	}
	return 0
}

// userRefuses is the part of the decision that follows from what the request
// says and the configuration, and from nothing that changes but names of hosts.
func (s *Server) userRefuses(ctx context.Context, a *Association, rq *pdu.AssociateRQ, info *AssociateRequestInfo) Cause {
	if rq.ApplicationContext != dicom.ApplicationContext {
		return CauseApplicationContext
	}
	_, err := dicom.ParseAETitle(string(info.CallingAETitle))
	blank := info.CallingAETitle == "" && s.AcceptBlankCallingAETitle
	if err != nil && !blank { // before the rules: none can be about it
		return CauseInvalidCallingAETitle
	}
	rule, differs := s.ruleFor(ctx, info)
	switch {
	case differs != 0:
		return differs
	case rule.peer.CalledAETitle == "" && !s.AcceptAnyCalledAETitle && info.CalledAETitle != s.AETitle:
		return CauseCalledAETitle
	}
	a.rule = rule
	return 0
}
