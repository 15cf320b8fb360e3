package app

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"ichwatch/configs"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// newPeers are the rules of the configuration; none where there are none, and anybody may speak. Those by which
// destinations report come last.
func newPeers(cfg *configs.Config) []dimse.Peer {
	reporting := reportingPeers(cfg)
	if len(cfg.DICOM.Peers) == 0 {
		if slices.ContainsFunc(reporting, func(p dimse.Peer) bool { return p.CalledAETitle != "" }) {
			return append(reporting, dimse.Peer{Name: "anybody"})
		}
		return nil
	}
	var peers []dimse.Peer
	for _, p := range cfg.DICOM.Peers {
		peers = append(peers, dimse.Peer{
			Name:                p.Name,
			CallingAETitle:      dicom.AETitle(p.AETitle),
			CalledAETitle:       dicom.AETitle(p.CalledAETitle),
			Addresses:           p.Prefixes(),
			CertificateNames:    p.CertificateNames,
			MaxAssociations:     p.MaxAssociations,
			MaxObject:           int64(p.MaxObject),
			Rates:               rates(p.MaxAssociationsPerMinute, p.MaxObjectsPerSecond, p.MaxBytesPerSecond),
			RequireUserIdentity: p.UserIdentity == "require",
			RefuseActions:       p.Commitment.Mode == "refuse",
		})
	}
	return append(peers, reporting...)
}

// reportingPeers are a rule for each destination that has to commit itself: it calls to report, by the title under which
// it was asked, and no rule of the site needs to be about it. It may do so from where it is called, and over TLS alone
// where it is called in TLS. Where a rule of the site is about that title, there is none: the site has decided.
func reportingPeers(cfg *configs.Config) (peers []dimse.Peer) {
	for _, d := range cfg.Destinations {
		if !d.Commitment.Required() || cfg.HasPeer(d.Commitment.CalledAETitle) {
			continue
		}
		p := dimse.Peer{
			Name:             "destination " + d.Name + ", to report storage commitments alone",
			CallingAETitle:   dicom.AETitle(d.Commitment.CalledAETitle),
			TLS:              d.TLS.Enabled,
			AbstractSyntaxes: []dicom.UID{dicom.Verification, dicom.StorageCommitmentPushModel},
			RefuseActions:    true,
		}
		p.Addresses, p.Hosts = placesOf(d.Address, d.Commitment.Address)
		if d.CallingAETitle != cfg.DICOM.AETitle {
			p.CalledAETitle = dicom.AETitle(d.CallingAETitle)
		}
		peers = append(peers, p)
	}
	return peers
}

// placesOf are the hosts of addresses with a port: those given as an IP address, and those given by a name.
func placesOf(addresses ...string) (prefixes []netip.Prefix, names []string) {
	for _, address := range addresses {
		host, _, _ := net.SplitHostPort(address) // as the configuration has checked
		ip, err := netip.ParseAddr(host)
		switch {
		case err != nil && !slices.Contains(names, host):
			names = append(names, host)
		case err == nil:
			ip = ip.Unmap().WithZone("")
			if prefix := netip.PrefixFrom(ip, ip.BitLen()); !slices.Contains(prefixes, prefix) {
				prefixes = append(prefixes, prefix)
			}
		}
	}
	return prefixes, names
}

func rates(associations, objects int, bytes configs.Size) dimse.Rates {
	return dimse.Rates{AssociationsPerMinute: associations, ObjectsPerSecond: objects, BytesPerSecond: int64(bytes)}
}

// advise says what a technician may write into ichwatch.yaml, or look at, so that a peer that was refused is not the
// next time. What the peer sent stands in it only where it can do no harm there.
func advise(cfg *configs.Config) func(dimse.Refusal) string {
	return func(r dimse.Refusal) string {
		title := string(r.CallingAETitle)
		switch r.Cause {
		case dimse.CauseCallingAETitle:
			if title == "" {
				return adviseTitle + fmt.Sprintf("; or add to dicom.peers, for every AE title from there: - {name: blank, addresses: ['%s']}", hostOf(r))
			}
			return "to let it in, add to dicom.peers: - " + entryFor(r)
		case dimse.CauseAddress:
			if !cfg.HasPeer(title) {
				return "it is the AE title of a destination, which may report from where it is called (destinations[].address) alone; if it has other addresses too, add to dicom.peers: - " + entryFor(r)
			}
			return fmt.Sprintf("if it has moved, add %s to the addresses of the entry of dicom.peers with ae_title: %s", hostOf(r), yamlText(title))
		case dimse.CausePlain:
			return adviseReportInTLS(cfg) + "; or add to dicom.peers: - " + entryFor(r)
		case dimse.CauseCertificate:
			if len(r.CertificateNames) == 0 {
				return "it shows no certificate: let it call the port with TLS, with a certificate signed by dicom.tls.client_ca_file"
			}
			return fmt.Sprintf("if its certificate is a new one, add %s to the certificate_names of the entry of dicom.peers with ae_title: %s", certificateName(r), yamlText(title))
		case dimse.CauseCalledAETitle:
			called, err := dicom.ParseAETitle(string(r.CalledAETitle))
			if err != nil {
				return fmt.Sprintf("set the called AE title at the peer to %s", cfg.DICOM.AETitle)
			}
			return fmt.Sprintf("set the called AE title at the peer to %s, or add to its entry of dicom.peers: called_ae_title: %s", cfg.DICOM.AETitle, yamlText(string(called)))
		case dimse.CauseInvalidCallingAETitle:
			if title == "" {
				return adviseTitle + "; or, where it cannot have one, dicom.accept_blank_calling_ae: true"
			}
			return adviseTitle
		case dimse.CauseAssociations:
			return fmt.Sprintf("dicom.max_associations is %d; see which peer leaves associations open", cfg.DICOM.MaxAssociations)
		case dimse.CauseAssociationsOfHost:
			return fmt.Sprintf("dicom.max_associations_per_host is %d; see whether the peer leaves associations open", cfg.DICOM.MaxAssociationsPerHost)
		case dimse.CauseAssociationsOfPeer:
			return "max_associations of its entry of dicom.peers; see whether the peer leaves associations open"
		case dimse.CauseRate:
			return fmt.Sprintf("dicom.max_associations_per_minute is %d", cfg.DICOM.MaxAssociationsPerMinute)
		case dimse.CauseRateOfPeer:
			return "max_associations_per_minute of its entry of dicom.peers"
		case dimse.CauseNoUserIdentity, dimse.CauseUserIdentityType:
			return "set username and passcode at the peer, or user_identity: ignore in its entry of dicom.peers"
		case dimse.CauseUserIdentity:
			return "compare username and passcode at the peer with dicom.users_file; `ichwatch hash-passcode USER` makes a new line for it"
		case dimse.CauseAdmit:
			return fmt.Sprintf("see what ichwatch status says of the disk of %s (spool.dir): where it is nearly full, which destination holds up removal, or give it more space", cfg.Spool.Dir)
		case dimse.CauseTLS:
			return adviseTLS(cfg)
		case dimse.CauseNoTLS:
			if plain := cfg.DICOM.TLS.PlainListen; plain != "" {
				return fmt.Sprintf("switch TLS on at the peer, or let it call %s (dicom.tls.plain_listen)", plain)
			}
			return "switch TLS on at the peer, or open a second port for it: dicom.tls.plain_listen"
		case dimse.CauseHandshake:
			if cfg.DICOM.TLS.ClientCertificates == "off" {
				return "the peer must trust the authority that signed dicom.tls.certificate_file"
			}
			return "the peer needs a certificate signed by dicom.tls.client_ca_file, and must trust the authority that signed dicom.tls.certificate_file"
		}
		return ""
	}
}

const adviseTitle = "set a calling AE title at the peer: 1 to 16 ASCII characters, no backslash"

func adviseTLS(cfg *configs.Config) string {
	if cfg.DICOM.TLS.Enabled {
		return fmt.Sprintf("let the peer call %s (dicom.listen), or switch TLS off there", cfg.DICOM.Listen)
	}
	return "switch TLS off at the peer, or on here: dicom.tls.enabled"
}

// adviseReportInTLS is for a destination that is called in TLS and reports without.
func adviseReportInTLS(cfg *configs.Config) string {
	if cfg.DICOM.TLS.Enabled {
		return fmt.Sprintf("it is called in TLS: let it report in TLS too, to %s (dicom.listen)", cfg.DICOM.Listen)
	}
	return "it is called in TLS: let it report in TLS too, by dicom.tls.enabled here"
}

// entryFor is the entry of dicom.peers that lets in who was refused.
func entryFor(r dimse.Refusal) string {
	title := string(r.CallingAETitle)
	fields := []string{"name: " + yamlText(nameFor(title)), "ae_title: " + yamlText(title), "addresses: ['" + hostOf(r) + "']"}
	if len(r.CertificateNames) > 0 {
		fields = append(fields, "certificate_names: ["+certificateName(r)+"]")
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

// nameFor makes a name for an entry out of an AE title.
func nameFor(title string) string {
	name := regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(strings.ToLower(title), "-")
	if name = strings.Trim(name, "-"); name == "" {
		return "peer"
	}
	return name
}

// yamlText is a text as YAML takes it for one, quoted where it needs to be.
func yamlText(s string) string {
	if regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`).MatchString(s) && !isYAMLWord(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// isYAMLWord says whether YAML would take a word for something else than text.
func isYAMLWord(s string) bool {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		return true
	}
	return false
}

// hostOf is the peer's address without its port.
func hostOf(r dimse.Refusal) string { return dimse.AddressOf(r.RemoteAddr).String() }

// certificateName is the first name of its certificate, where it is a plain one.
func certificateName(r dimse.Refusal) string {
	if name := r.CertificateNames[0]; regexp.MustCompile(`^[\x20-\x7e]{1,253}$`).MatchString(name) {
		return yamlText(name)
	}
	return "'...'"
}
