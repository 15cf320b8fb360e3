package configs

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ServerTLS is TLS on the listener that faces the scanner. Paths are absolute.
type ServerTLS struct {
	Enabled            bool   `mapstructure:"enabled"`
	CertificateFile    string `mapstructure:"certificate_file"`
	KeyFile            string `mapstructure:"key_file"`
	ClientCertificates string `mapstructure:"client_certificates"` // require, off
	ClientCAFile       string `mapstructure:"client_ca_file"`
	PlainListen        string `mapstructure:"plain_listen"` // a second listener, without TLS; empty: none
}

// TLS is TLS towards a destination or a scanner that takes reports. Paths are
// absolute.
type TLS struct {
	Enabled         bool   `mapstructure:"enabled"`
	CAFile          string `mapstructure:"ca_file"` // empty: those of the system
	CertificateFile string `mapstructure:"certificate_file"`
	KeyFile         string `mapstructure:"key_file"`
	ServerName      string `mapstructure:"server_name"` // empty: the host of the address
}

// Peer is a rule about who may open associations, and what they may do.
type Peer struct {
	Name                     string   `mapstructure:"name" must:"be given"`
	AETitle                  string   `mapstructure:"ae_title"`          // empty: any
	CalledAETitle            string   `mapstructure:"called_ae_title"`   // empty: DICOM.AETitle
	Addresses                []string `mapstructure:"addresses"`         // IP or CIDR; empty: any
	CertificateNames         []string `mapstructure:"certificate_names"` // empty: any
	MaxAssociations          int      `mapstructure:"max_associations"`  // of this and the next four, 0: no bound of its own
	MaxAssociationsPerMinute int      `mapstructure:"max_associations_per_minute"`
	MaxObjectsPerSecond      int      `mapstructure:"max_objects_per_second"`
	MaxBytesPerSecond        Size     `mapstructure:"max_bytes_per_second"`
	MaxObject                Size     `mapstructure:"max_object"`
	UserIdentity             string   `mapstructure:"user_identity"` // ignore, require

	Commitment PeerCommitment `mapstructure:"commitment"`
}

// PeerCommitment is storage commitment for the peers of a rule.
type PeerCommitment struct {
	Mode    string `mapstructure:"mode"`    // allow, refuse
	Address string `mapstructure:"address"` // host:port that takes reports; empty: none does
	TLS     TLS    `mapstructure:"tls"`     // of Address
}

// Reports says whether the peer is called with reports.
func (p *Peer) Reports() bool { return p.Commitment.Mode != "refuse" && p.Commitment.Address != "" }

// HasPeer says whether an entry of dicom.peers is about an AE title by name.
func (c *Config) HasPeer(aeTitle string) bool {
	return slices.ContainsFunc(c.DICOM.Peers, func(p Peer) bool { return p.AETitle == aeTitle && aeTitle != "" })
}

// Prefixes are the addresses as networks, those of one host too.
func (p *Peer) Prefixes() []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range p.Addresses {
		if prefix, err := parsePrefix(a); err == nil { // all are, in what Parse returns
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
}

// parsePrefix reads 192.0.2.10, 192.0.2.0/24 and the same of IPv6. IPv4 in the
// form that IPv6 has for it becomes IPv4.
func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		prefix, err := netip.ParsePrefix(s)
		if err == nil && prefix.Addr().Is4In6() && prefix.Bits() >= 96 { // as addresses are compared
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		return prefix, err
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return addr.Unmap().Prefix(addr.Unmap().BitLen())
}

func (d *document) validatePeers(c *DICOM) {
	var names []string
	identities := false
	for i := range c.Peers {
		p, key := &c.Peers[i], entry("dicom.peers", i)+"."
		d.name32(key+"name", p.Name)
		names = append(names, p.Name)
		for name, title := range map[string]string{"ae_title": p.AETitle, "called_ae_title": p.CalledAETitle} {
			if title != "" {
				d.aeTitle(key+name, title)
			}
		}
		for j, a := range p.Addresses {
			d.address(entry(key+"addresses", j), a)
		}
		d.unique(key+"addresses", p.Addresses)
		for j, name := range p.CertificateNames {
			d.certificateName(entry(key+"certificate_names", j), name)
		}
		if len(p.CertificateNames) > 0 && (!c.TLS.Enabled || c.TLS.ClientCertificates != "require") {
			d.reject(key+"certificate_names", "", &valueError{"can be met by nobody", "dicom.tls with enabled: true and client_certificates: require, or no such key", ""})
		}
		within(d, key+"max_associations", p.MaxAssociations, 0, 1000)
		d.rates(key, p.MaxAssociationsPerMinute, p.MaxObjectsPerSecond, p.MaxBytesPerSecond)
		if p.MaxObject != 0 {
			within(d, key+"max_object", p.MaxObject, 1<<20, 64<<30)
		}
		d.oneOf(key+"user_identity", p.UserIdentity, "ignore", "require")
		if p.UserIdentity == "require" {
			identities = true
			if c.UsersFile == "" {
				d.reject(key+"user_identity", p.UserIdentity, &valueError{"cannot be required without dicom.users_file", "both, or ignore", ""})
			}
		}
		d.validatePeerCommitment(key+"commitment.", p, c)
	}
	d.unique("dicom.peers", names)
	d.oneReportAddress(c.Peers)
	if c.UsersFile != "" {
		d.absolute("dicom.users_file", c.UsersFile)
		if !identities {
			d.reject("dicom.users_file", "", &valueError{"has no use", "an entry of dicom.peers with user_identity: require, or no such key", ""})
		}
	}
}

// rates checks those bounds that 0 lifts.
func (d *document) rates(key string, associations, objects int, bytes Size) {
	within(d, key+"max_associations_per_minute", associations, 0, 60000)
	within(d, key+"max_objects_per_second", objects, 0, 10000)
	if bytes != 0 {
		within(d, key+"max_bytes_per_second", bytes, 64<<10, 100<<30)
	}
}

// address checks an IP address or a network.
func (d *document) address(key, value string) {
	allowed := &valueError{"is neither an IP address nor a network", "as in 192.0.2.10, 192.0.2.0/24 or 2001:db8::/64", ""}
	prefix, err := parsePrefix(value)
	switch {
	case err != nil:
		d.reject(key, value, allowed)
	case prefix.Masked() != prefix:
		allowed.wrong, allowed.suggestion = "has more bits than its network", prefix.Masked().String()
		d.reject(key, value, allowed)
	}
}

func (d *document) certificateName(key, value string) {
	if value == "" || len(value) > 253 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		d.reject(key, value, &valueError{"is not a name in a certificate", "a DNS name or a common name, as in ct1.example.org", ""})
	}
}

func (d *document) validateServerTLS(c *DICOM) {
	const key = "dicom.tls."
	t := &c.TLS
	d.oneOf(key+"client_certificates", t.ClientCertificates, "require", "off")
	files := map[string]string{"certificate_file": t.CertificateFile, "key_file": t.KeyFile, "client_ca_file": t.ClientCAFile}
	d.tlsFiles(key, t.Enabled, files)
	if t.PlainListen != "" {
		d.hostPort(key+"plain_listen", t.PlainListen, listening)
		switch port := portOf(t.PlainListen); {
		case !t.Enabled:
			d.reject(key+"plain_listen", t.PlainListen, &valueError{"has no use without TLS: dicom.listen is plain then", "dicom.tls with enabled: true, or no such key", ""})
		case port != 0 && port == portOf(c.Listen):
			d.reject(key+"plain_listen", t.PlainListen, &valueError{"has the port of dicom.listen", "a port of its own", ""})
		}
	}
	if !t.Enabled {
		return
	}
	needed := []string{"certificate_file", "key_file"}
	if t.ClientCertificates == "require" {
		needed = append(needed, "client_ca_file")
	}
	for _, name := range needed {
		if files[name] == "" {
			d.reject(key+name, "", &valueError{"is missing", fmt.Sprintf("the path of a PEM file, as dicom.tls is enabled%s", orOff(name)), ""})
		}
	}
}

func orOff(name string) string {
	if name == "client_ca_file" {
		return "; or client_certificates: off, and anybody may connect"
	}
	return ""
}

// validateTLS checks TLS towards somebody whom we call.
func (d *document) validateTLS(key string, t *TLS) {
	d.tlsFiles(key, t.Enabled, map[string]string{"ca_file": t.CAFile, "certificate_file": t.CertificateFile, "key_file": t.KeyFile})
	d.pair(key, t.CertificateFile, t.KeyFile)
	if t.ServerName == "" {
		return
	}
	if foreign := strings.ContainsFunc(t.ServerName, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' }); foreign && net.ParseIP(t.ServerName) == nil {
		d.reject(key+"server_name", t.ServerName, &valueError{"is not a name of a host", "as in pacs.example.org", ""})
	} else if !t.Enabled {
		d.reject(key+"server_name", t.ServerName, noUseWithoutTLS)
	}
}

// validateIdentity checks the user identity that a destination is sent.
func (d *document) validateIdentity(key string, dest *Destination) {
	if len(dest.Username) > 64 || strings.ContainsFunc(dest.Username, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		d.reject(key+"username", dest.Username, &valueError{"is not a username", "up to 64 printable characters", ""})
	}
	if dest.PasscodeFile != "" {
		d.absolute(key+"passcode_file", dest.PasscodeFile)
		if dest.Username == "" {
			d.reject(key+"passcode_file", "", &valueError{"is given without " + key + "username", "both, or the user name alone, or neither", ""})
		}
	}
}

var noUseWithoutTLS = &valueError{"has no use without TLS", "enabled: true beside it, or no such key", ""}

// tlsFiles checks the paths of a section for TLS.
func (d *document) tlsFiles(key string, enabled bool, files map[string]string) {
	for name, path := range files {
		if path == "" {
			continue
		}
		d.absolute(key+name, path)
		if !enabled {
			d.reject(key+name, path, noUseWithoutTLS)
		}
	}
}

// pair checks that a certificate and its key are given together.
func (d *document) pair(key, certificate, private string) {
	if (certificate == "") == (private == "") {
		return
	}
	given, missing := "certificate_file", "key_file"
	if certificate == "" {
		given, missing = missing, given
	}
	d.reject(key+given, "", &valueError{"is given without " + key + missing, "both or neither", ""})
}
