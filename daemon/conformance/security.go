package conformance

import (
	"crypto/tls"
	"fmt"
	"strings"

	"ichwatch/dimse"
	"ichwatch/dimse/tlsprofile"
)

// Listener is TLS at the port of the acceptor.
type Listener struct {
	ClientCertificates bool   // are asked for
	Plain              string // host:port of a second listener, without TLS; empty: none
}

func (s *Site) security(d *document) {
	d.h(1, "Security")
	d.h(2, "Security Profiles")
	d.p("BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 Annex B), on either side, where it is configured: TLS 1.2 and 1.3, in 1.2 with forward secrecy and authenticated encryption alone. Sessions are not resumed. Suites:")
	var suites []string
	for _, id := range tlsprofile.CipherSuites() {
		suites = append(suites, code(tls.CipherSuiteName(id)))
	}
	d.list(suites...)
	d.p("At this site:")
	rows := [][]string{{"STORE-SCP, " + listening(s.Listen), "no", ""}}
	if t := s.TLS; t != nil {
		rows[0][1], rows[0][2] = "yes", "asks for none"
		if t.ClientCertificates {
			rows[0][2] = "asks for one of the site's authority"
		}
		if t.Plain != "" {
			rows = append(rows, []string{"STORE-SCP, " + listening(t.Plain), "no", ""})
		}
	}
	for _, t := range s.Destinations {
		rows = append(rows, []string{"FORWARD-SCU to " + t.Name, yes(t.TLS), ""})
	}
	if s.Commitment != nil {
		for _, p := range s.Commitment.Peers {
			rows = append(rows, []string{"Reports to " + p.Name, yes(p.TLS), ""})
		}
	}
	d.table([]string{"Of", "TLS", "Certificate of the peer"}, rows)
	d.p("As requestor ichwatch checks the peer's certificate and its name, and shows its own where one is configured.")
	d.h(2, "Association Level Security")
	s.admission(d)
	d.h(2, "Application Level Security")
	d.p("The spool is open to the daemon's own user alone. No log line, file name, metric or topic holds a patient's name or record number.")
}

// admission is who may open associations.
func (s *Site) admission(d *document) {
	called := "any"
	if !s.Acceptor.AcceptAnyCalledAETitle {
		called = code(s.Acceptor.AETitle)
	}
	if len(s.Acceptor.Peers) == 0 {
		d.p("Any calling AE title from any address may open associations; called AE title: %s.", called)
	} else {
		d.p("The first of these rules that an association request meets in all its parts holds; who meets none is rejected.")
		var rows [][]string
		for i := range s.Acceptor.Peers {
			rows = append(rows, admissionRow(&s.Acceptor.Peers[i], called))
		}
		d.table([]string{"Rule", "Calling AE title", "Called AE title", "From", "Name in its certificate", "User identity", "SOP classes"}, rows)
		d.p("Who calls from a host that is given by its name calls from an address that the name has then. It is looked up with the request, at most every ten seconds; if that fails, the addresses that it had last count.")
	}
	if s.Acceptor.AcceptBlankCallingAETitle {
		d.p("A blank calling AE title is accepted, and meets only the rules without one; it cannot ask for storage commitment.")
	} else {
		d.p("A blank calling AE title is rejected (`dicom.accept_blank_calling_ae`).")
	}
	d.p("User identity (58H). Under a rule that requires it: username, and username with passcode, checked against a file of hashes; where the requestor asks for a positive response it gets item 59H, of length zero for these types (PS3.7 section D.3.3.7). Kerberos, SAML and JSON Web Token are rejected. Under any other rule it is ignored and not answered.")
	var rows [][]string
	for _, t := range s.Destinations {
		if t.Identity != "" {
			rows = append(rows, []string{t.Name, t.Identity})
		}
	}
	if len(rows) > 0 {
		d.p("As requestor, without asking for a response:")
		d.table([]string{"Destination", "User identity sent"}, rows)
	}
}

func admissionRow(p *dimse.Peer, called string) []string {
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	var addresses []string
	for _, prefix := range p.Addresses {
		addresses = append(addresses, fmt.Sprintf("`%s`", prefix))
	}
	for _, name := range p.Hosts {
		addresses = append(addresses, fmt.Sprintf("`%s`", name))
	}
	from := or(strings.Join(addresses, ", "), "anywhere")
	if p.TLS {
		from += ", in TLS"
	}
	identity, classes := "ignored", "all"
	if p.RequireUserIdentity {
		identity = "required"
	}
	switch {
	case len(p.AbstractSyntaxes) > 0:
		var names []string
		for _, uid := range p.AbstractSyntaxes {
			names = append(names, uid.Name())
		}
		classes = strings.Join(names, ", ") + "; to report alone"
	case p.RefuseActions:
		classes = "all, without requests for storage commitment"
	}
	return []string{
		p.Name, or(code(p.CallingAETitle), "any"), or(code(p.CalledAETitle), called), from,
		or(codes(p.CertificateNames), "any"), identity, classes,
	}
}
