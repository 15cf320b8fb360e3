package dimse

import (
	"net"
	"net/netip"
	"testing"
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
		if got := peer.fits(&AssociateRequestInfo{RemoteAddr: from}) == 0; got != test.want {
			t.Errorf("%s in %s: %t, want %t", test.address, test.prefix, got, test.want)
		}
	}
	peer := &Peer{Addresses: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	if peer.fits(&AssociateRequestInfo{RemoteAddr: &net.UnixAddr{}}) != CauseAddress {
		t.Error("an address that is none fits")
	}
}
