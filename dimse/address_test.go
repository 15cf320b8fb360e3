package dimse

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// An IPv4 address is itself in IPv6's clothes too; an interface does not count.
func TestAddressesOfAPeer(t *testing.T) {
	for _, test := range []struct {
		address, prefix string
		want            bool
	}{
		{"192.0.2.7", "192.0.2.7/32", true},
		{"::ffff:192.0.2.7", "192.0.2.0/24", true},
		{"192.0.3.7", "192.0.2.0/24", false},
		{"2001:db8::7", "2001:db8::/64", true},
		{"2001:db9::7", "2001:db8::/64", false},
		{"fe80::1%eth0", "fe80::/10", true},
		{"192.0.2.7", "::/0", false},
	} {
		peer := &Peer{Addresses: []netip.Prefix{netip.MustParsePrefix(test.prefix)}}
		from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(test.address), 104))
		if got := peer.fits(&AssociateRequestInfo{RemoteAddr: from}, nil) == 0; got != test.want {
			t.Errorf("%s in %s: %t, want %t", test.address, test.prefix, got, test.want)
		}
	}
	peer := &Peer{Addresses: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	if peer.fits(&AssociateRequestInfo{RemoteAddr: &net.UnixAddr{}}, nil) != CauseAddress {
		t.Error("an address that is none fits")
	}
}

// nameServer answers with what it holds, and counts.
type nameServer struct {
	addresses []netip.Addr
	err       error
	asked     int
}

func (n *nameServer) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	n.asked++
	return n.addresses, n.err
}

// A name counts for the addresses that it has: it is looked up anew after a
// while, and while it cannot be, what it was last goes on.
func TestHostsOfAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := new(nameServer)
		s := &Server{Resolver: names}
		s.rules = []*quota{{peer: Peer{Hosts: []string{"pacs.example.org"}, Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}}}
		from := func(addr string, want Cause) {
			t.Helper()
			_, got := s.ruleFor(t.Context(), &AssociateRequestInfo{RemoteAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 104))})
			if got != want {
				t.Errorf("%s: %v, want %v", addr, got, want)
			}
		}
		names.err = errors.New("no such host")
		from("192.0.2.7", CauseAddress)
		from("198.51.100.7", 0)
		time.Sleep(hostFresh)
		names.err, names.addresses = nil, []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.7"), netip.MustParseAddr("fe80::7%eth0")}
		from("192.0.2.7", 0)
		from("fe80::7", 0)
		from("192.0.2.8", CauseAddress)

		names.asked, names.addresses = 0, []netip.Addr{netip.MustParseAddr("192.0.2.8")}
		for range 100 {
			from("192.0.2.8", CauseAddress)
		}
		if names.asked != 0 {
			t.Errorf("%d look-ups of what was just looked up", names.asked)
		}
		time.Sleep(hostFresh)
		from("192.0.2.8", 0) // it has moved
		from("192.0.2.7", CauseAddress)
		time.Sleep(hostFresh)
		names.err = errors.New("nobody answers")
		from("192.0.2.8", 0)
	})
}
