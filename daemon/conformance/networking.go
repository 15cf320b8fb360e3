package conformance

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

func (s *Site) networking(d *document) {
	d.h(1, "Networking")
	d.h(2, "Implementation Model")
	d.h(3, "Application Data Flow")
	d.p("A scanner sends objects to STORE-SCP. Each is written to the spool as it arrives and confirmed when it is on disk. FORWARD-SCU takes it from there to every destination, each at its own pace, until the destination has confirmed it. A scanner may ask STORE-SCP for storage commitment, and FORWARD-SCU a destination, as far as the site has configured either.")
	d.h(3, "Functional Definition of AEs")
	d.list(
		"STORE-SCP accepts associations for Verification, Storage and Storage Commitment, and requests associations to report on storage commitment.",
		"FORWARD-SCU requests associations for Storage with each destination; it starts with the first object and waits for nothing else. Afterwards it asks for storage commitment, where a destination has to commit itself. `ichwatch send` and `ichwatch echo`, called by a person, do the same for Storage and Verification.",
	)
	d.h(3, "Sequencing of Real-World Activities")
	d.p("Receiving comes before forwarding for each object; otherwise the two are independent. Forwarding does not wait for the end of a study, nor for its analysis.")
	d.h(2, "AE Specifications")
	s.storeSCP(d)
	s.forwardSCU(d)
	d.h(2, "Network Interfaces")
	d.h(3, "Physical Network Interface")
	d.p("Whatever the operating system offers.")
	d.h(3, "Additional Protocols")
	d.p("Names are resolved as the operating system does it (DNS, hosts file). Alerts leave over MQTT 3.1.1; that is no DICOM service.")
	d.h(3, "IPv4 and IPv6 Support")
	d.p("Both.")
	s.configuration(d)
}

func (s *Site) storeSCP(d *document) {
	a := s.Acceptor
	d.h(3, "STORE-SCP")
	d.h(4, "SOP Classes")
	d.p("As provider:")
	var rows [][]string
	for _, uid := range s.provided() {
		rows = append(rows, []string{uid.Name(), code(uid), "no", "yes"})
	}
	d.table([]string{"SOP class", "SOP class UID", "SCU", "SCP"}, rows)
	if a.UnknownStorage {
		d.p("And every other that may be a storage SOP class, see the overview.")
	}
	d.h(4, "Association Policies")
	d.table([]string{"", ""}, [][]string{
		{"Application context name", code(dicom.ApplicationContext)},
		{"Longest PDU received", fmt.Sprintf("%d bytes", a.MaxPDU)},
		{"Longest PDU sent", fmt.Sprintf("what the peer accepts, at most %d bytes", pdu.MaxSendLength)},
		{"Associations at a time", fmt.Sprintf("%d in all, %d from one host", a.MaxAssociations, a.MaxAssociationsPerHost)},
		{"Asynchronous operations", "none: a window that is proposed is answered with 1 invoked, 1 performed"},
		{"Implementation class UID", code(dicom.ImplementationClassUID)},
		{"Implementation version name", code(dicom.ImplementationVersionName)},
	})
	d.h(4, "Association Initiation Policy")
	if s.Commitment != nil && len(s.Commitment.Peers) > 0 {
		d.p("With a report on storage commitment that its peer did not take over an association of its own, see there.")
	}
	d.p("Otherwise none towards others. The daemon verifies its own port with a C-ECHO, as %s; such an association takes no place and counts against no limit.", code(s.Self))
	d.h(4, "Association Acceptance Policy")
	d.h(5, "Accepted Associations and Presentation Contexts")
	d.p("An association is accepted when none of the reasons below stands against it, whatever becomes of its contexts. Accepted presentation contexts: each SOP class above, as SCP, in each of these transfer syntaxes:")
	syntaxes, ordered := a.AcceptedTransferSyntaxes()
	rows = nil
	for _, uid := range syntaxes {
		ts, known := dicom.LookupTransferSyntax(uid)
		if !known {
			ts.Name, ts.Keyword = "private", ""
		}
		looked := "no"
		if slices.Contains(s.ReadSyntaxes, uid) {
			looked = "yes"
		}
		rows = append(rows, []string{ts.Name, code(ts.Keyword), code(uid), looked})
	}
	d.table([]string{"Transfer syntax", "Keyword", "UID", "Slices are looked at"}, rows)
	d.p("Whatever the transfer syntax, an object is stored and forwarded unchanged. Head slices are looked for in objects of %s; what is in a transfer syntax that is not read, or in JPEG 2000 where OpenJPEG is not installed, is reported as not analysed.", names(s.ReadClasses))
	if ordered {
		d.p("Of several in one context the first in this table is accepted, by the order that this site has configured.")
	} else {
		d.p("Of several in one context the first that the peer names is accepted.")
	}
	if s.asks() {
		d.p("And Storage Commitment Push Model, as SCU, from a destination that reports.")
	}
	d.list(
		"Role selection (54H): for the SOP classes above the requestor may be SCU, never SCP; of Storage Commitment Push Model it may be SCP where a destination has to commit itself.",
		"User identity (58H, 59H): see Security.",
		"Extended negotiation (56H) and common extended negotiation (57H) are tolerated and not answered.",
		"Every context of the request is answered; one with an even or a repeated id is a breach of the protocol.",
	)
	d.p("Refused associations:")
	rows = nil
	for _, r := range dimse.Rejections() {
		rows = append(rows, []string{r.When, r.Answer.String(), fmt.Sprintf("%d, %d, %d", r.Answer.Result, r.Answer.Source, r.Answer.Reason)})
	}
	d.table([]string{"When", "Answer", "Result, source, reason"}, rows)
	d.h(5, "SOP Specific Conformance for Verification")
	d.p("Standard conformance. The answer is 0000H.")
	d.h(5, "SOP Specific Conformance for Storage")
	d.p("Level 2 (full): every attribute is kept, private ones too, byte for byte. Nothing is coerced. Digital signatures stay valid. An object is in the spool until every destination has confirmed it and the time that the site has set is over; it cannot be retrieved from there.")
	d.p("A C-STORE is answered with")
	rows = nil
	for _, answers := range [][]dimse.Policy[dimse.Status]{s.Answers, dimse.StoreRefusals()} {
		for _, r := range answers {
			rows = append(rows, []string{r.Answer.Code(), r.Answer.Name(), r.When})
		}
	}
	d.table([]string{"Status", "Meaning", "When"}, rows)
	d.p("Every other command is answered with %v; C-CANCEL is ignored.", dimse.StatusUnrecognizedOperation)
	s.providedCommitment(d)
	d.h(5, "Communication Failure Behaviour")
	d.p("The association is aborted, by an A-ABORT with this source and reason, on")
	rows = nil
	for _, r := range dimse.Aborts() {
		rows = append(rows, []string{r.When, r.Answer.String(), fmt.Sprintf("%d, %d", r.Answer.Source, r.Answer.Reason)})
	}
	d.table([]string{"What", "Answer", "Source, reason"}, rows)
	d.p("Without an A-ABORT the connection is closed when no association request has come within the ARTIM time-out, when a TLS handshake fails, and when the peer does not close it within the ARTIM time-out after a rejection or a release.")
	d.p("Of an object that breaks off nothing is kept; what was confirmed before stays.")
}

func (s *Site) forwardSCU(d *document) {
	d.h(3, "FORWARD-SCU")
	d.h(4, "SOP Classes")
	d.p("As user: Storage, each SOP class that STORE-SCP accepts, Verification, and Storage Commitment Push Model where a destination has to commit itself.")
	d.h(4, "Association Policies")
	d.table([]string{"", ""}, [][]string{
		{"Application context name", code(dicom.ApplicationContext)},
		{"Longest PDU sent", fmt.Sprintf("what the peer accepts, at most %d bytes", pdu.MaxSendLength)},
		{"Associations at a time", s.associations()},
		{"Asynchronous operations", "none; no window is proposed"},
		{"Implementation class UID", code(dicom.ImplementationClassUID)},
		{"Implementation version name", code(dicom.ImplementationVersionName)},
	})
	d.h(4, "Association Initiation Policy")
	if len(s.Destinations) == 0 {
		d.p("This site has no destinations: nothing is forwarded.")
	}
	d.p("With a first object for a destination an association is requested, with more of them that wait others; each serves those that follow and is released when none has come for a while. It proposes one context for each pair of SOP class and transfer syntax that the destination has met so far, with that transfer syntax alone: an object goes in the syntax in which it came. Up to %d contexts; the oldest pair gives way.", pdu.MaxPresentationContexts)
	d.p("A C-STORE to a destination is an operation of ichwatch's own. Priority is medium. Move Originator Application Entity Title and Message ID (0000,1030, 0000,1031) are never sent: where the object has come as a sub-operation of a C-MOVE, that ended with the answer of STORE-SCP (PS3.7 section 9.1.1.1).")
	d.p("While no association can be had, or after three failures in a row, a destination is sent nothing. It is then asked with a C-ECHO, ever more rarely and without end; after that is answered objects are sent again.")
	d.p("What becomes of an object:")
	var rows [][]string
	for _, m := range s.Meanings {
		what := m.First.String()
		switch {
		case m.Otherwise:
			what = "any other"
		case m.First != m.Last:
			what = fmt.Sprintf("%s to %s", m.First.Code(), m.Last)
		}
		rows = append(rows, []string{what, m.Becomes})
	}
	rows = append(rows,
		[]string{"no context accepted for it", s.transcoding() + "parked with an alarm: trying again would bring the same answer"},
		[]string{"no connection, a rejected association, an abort, a time-out", "tried again on a new association, ever more rarely and without end"},
	)
	d.table([]string{"Answer", "The object is"}, rows)
	s.askedCommitment(d)
	d.h(4, "Association Acceptance Policy")
	d.p("None; a destination reports on storage commitment to STORE-SCP.")
}

// transcoding says for which destinations objects are decompressed.
func (s *Site) transcoding() string {
	var to []string
	for _, t := range s.Destinations {
		if t.Transcode {
			to = append(to, t.Name)
		}
	}
	if len(to) == 0 {
		return ""
	}
	return "for " + strings.Join(to, ", ") + ": sent in Explicit VR Little Endian, decompressed (grayscale in RLE, JPEG, JPEG-LS or JPEG 2000, and what was deflated), which is proposed as well; otherwise "
}

// associations are how many are open with each destination.
func (s *Site) associations() string {
	if len(s.Destinations) == 0 {
		return "none"
	}
	var of []string
	for _, t := range s.Destinations {
		one := fmt.Sprintf("%s: %d", t.Name, t.Associations)
		if t.Commitment != nil {
			one += " to store and one to ask for storage commitment"
		}
		of = append(of, one)
	}
	return strings.Join(of, "; ")
}

func (s *Site) configuration(d *document) {
	a := s.Acceptor
	d.h(2, "Configuration")
	d.h(3, "AE Title and Presentation Address Mapping")
	rows := [][]string{{"STORE-SCP", code(a.AETitle), code(listening(s.Listen)), "local"}}
	for _, t := range s.Destinations {
		rows = append(rows,
			[]string{"FORWARD-SCU to " + t.Name, code(t.Dialer.CallingAETitle), "", "local"},
			[]string{t.Name, code(t.Dialer.CalledAETitle), code(t.Address), "remote"})
	}
	d.table([]string{"AE", "AE title", "Address", ""}, rows)
	d.h(3, "Parameters")
	d.p("Of STORE-SCP; all of them can be configured (`ichwatch config` has their ranges).")
	d.table([]string{"Parameter", "Value"}, [][]string{
		{"Longest PDU (`dicom.max_pdu`)", fmt.Sprintf("%d bytes", a.MaxPDU)},
		{"Associations (`dicom.max_associations`)", fmt.Sprint(a.MaxAssociations)},
		{"Associations of one host (`dicom.max_associations_per_host`)", fmt.Sprint(a.MaxAssociationsPerHost)},
		{"Largest object (`dicom.max_object`)", fmt.Sprintf("%d bytes", a.MaxObject)},
		{"ARTIM (`dicom.artim_timeout`)", seconds(a.ARTIM)},
		{"Silence between messages (`dicom.idle_timeout`)", seconds(a.IdleTimeout)},
		{"Stall in mid-message (`dicom.read_timeout`)", seconds(a.ReadTimeout)},
		{"Answer untaken (`dicom.write_timeout`)", seconds(a.WriteTimeout)},
	})
	if len(s.Destinations) == 0 {
		return
	}
	d.p("Of FORWARD-SCU, by destination (`destinations[].timeouts`, `.retry`):")
	rows = nil
	for _, t := range s.Destinations {
		rows = append(rows, []string{
			t.Name, seconds(t.Dialer.DialTimeout), seconds(t.Dialer.ACSETimeout), seconds(t.Dialer.ReadTimeout), seconds(t.Dialer.WriteTimeout),
			seconds(t.RetryFirst) + " to " + seconds(t.RetryMax),
		})
	}
	d.table([]string{"Destination", "TCP connection", "Association answer", "C-STORE answer", "Bytes taken", "Wait after a failure"}, rows)
}

// listening writes an address without a host as people say it.
func listening(addr string) string {
	if host, port, err := net.SplitHostPort(addr); err == nil && host == "" {
		return "every interface, port " + port
	}
	return addr
}

func seconds(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }

// code sets a text as code, nothing as nothing.
func code[T ~string](s T) string {
	if s == "" {
		return ""
	}
	return "`" + string(s) + "`"
}

func codes[T ~string](all []T) string {
	parts := make([]string, len(all))
	for i, s := range all {
		parts[i] = code(s)
	}
	return strings.Join(parts, ", ")
}

// names lists SOP classes in a sentence.
func names(uids []dicom.UID) string {
	all := make([]string, len(uids))
	for i, uid := range uids {
		all[i] = uid.Name()
	}
	return strings.Join(all, ", ")
}
