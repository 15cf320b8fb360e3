package dimse

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Resolver looks up the addresses of a name, as net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	// hostFresh is for how long the addresses of a name are not looked up anew:
	// what strangers try under the AE title of a peer must not become a flood of
	// queries.
	hostFresh = 10 * time.Second
	// hostTimeout bounds a look-up.
	hostTimeout = 5 * time.Second
)

// hosts are the names in Peer.Hosts, with the addresses that each had last.
type hosts struct {
	mu    sync.Mutex
	known map[string]*host
}

type host struct {
	mu        sync.Mutex // held while it is looked up: one query at a time
	looked    time.Time
	inVain    bool // the last time
	addresses []netip.Addr
}

// has says whether addr is an address of a name. A name that is looked up in vain
// keeps the addresses that it had.
func (s *Server) has(ctx context.Context, name string, addr netip.Addr) bool {
	s.hosts.mu.Lock()
	h := s.hosts.known[name]
	if h == nil {
		h = new(host)
		if s.hosts.known == nil {
			s.hosts.known = map[string]*host{}
		}
		s.hosts.known[name] = h
	}
	s.hosts.mu.Unlock()

	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.looked) < hostFresh {
		return slices.Contains(h.addresses, addr)
	}
	var resolver Resolver = net.DefaultResolver
	if s.Resolver != nil {
		resolver = s.Resolver
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	found, err := resolver.LookupNetIP(ctx, "ip", name)
	if err != nil && !h.inVain {
		s.logger().Warn("the name of a peer's host cannot be looked up; the addresses that it had last count", "host", name, "addresses", h.addresses, "err", err)
	}
	h.looked, h.inVain = time.Now(), err != nil
	if err != nil {
		return slices.Contains(h.addresses, addr)
	}
	h.addresses = h.addresses[:0]
	for _, a := range found {
		h.addresses = append(h.addresses, a.Unmap().WithZone(""))
	}
	return slices.Contains(h.addresses, addr)
}
