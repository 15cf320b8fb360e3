// Package conformance writes the DICOM Conformance Statement of an installation
// in the outline of PS3.2: as Markdown, and as one HTML page that needs nothing
// beside it.
//
// What it says of SOP classes, transfer syntaxes, limits and answers it takes
// from what the program itself runs on: the acceptor and the requestors as the
// site's configuration makes them, and the tables by which they answer.
package conformance

import (
	"fmt"
	"io"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// Site is an installation.
type Site struct {
	Version      string // of the program
	Date         time.Time
	Name, Device string // as configured

	Acceptor     *dimse.Server // as configured; it is not run
	Self         dicom.AETitle // under which the program calls its own port
	Listen       string        // host:port
	TLS          *Listener     // at Listen; nil: none
	Commitment   *Commitment   // for scanners; nil: none
	Destinations []Destination

	// ReadClasses and ReadSyntaxes are the SOP classes and the transfer syntaxes of
	// objects whose pixels are looked at.
	ReadClasses, ReadSyntaxes []dicom.UID

	// Answers are the statuses of a C-STORE that was understood, and Meanings
	// what is made of a destination's.
	Answers  []dimse.Policy[dimse.Status]
	Meanings []Meaning
}

// Destination is a peer that objects are sent to.
type Destination struct {
	Name, Address        string
	Associations         int  // at a time
	Transcode            bool // what is not taken as it came is sent decompressed
	Dialer               dimse.Dialer
	RetryFirst, RetryMax time.Duration
	TLS                  bool
	Identity             string  // user identity that is sent; empty: none
	Commitment           *Asking // nil: its answer to the C-STORE is enough
}

// Meaning is what a range of statuses means for an object.
type Meaning struct {
	First, Last dimse.Status
	Otherwise   bool // every status that no other Meaning has
	Becomes     string
}

// Markdown writes the statement.
func (s *Site) Markdown(w io.Writer) error { return s.document().writeMarkdown(w) }

// HTML writes the statement as a page.
func (s *Site) HTML(w io.Writer) error { return s.document().writeHTML(w) }

func (s *Site) document() *document {
	d := &document{
		title: "DICOM Conformance Statement: ichwatch " + s.Version,
		notes: []string{
			fmt.Sprintf("Of the installation `%s/%s`, %s. Made by `ichwatch conformance` from the tables that the program runs on, with the configuration of this site.",
				s.Name, s.Device, s.Date.Format("2006-01-02")),
			"ichwatch is not a medical device. What it raises is a suspected finding, not for diagnosis.",
		},
	}
	s.overview(d)
	d.h(1, "Table of Contents")
	d.blocks = append(d.blocks, contents{d})
	s.introduction(d)
	s.networking(d)
	d.h(1, "Media Interchange")
	d.p("None. ichwatch reads and writes no media.")
	s.characterSets(d)
	s.security(d)
	s.annexes(d)
	return d
}

func (s *Site) overview(d *document) {
	d.h(1, "Conformance Statement Overview")
	d.p("ichwatch stands between a CT scanner and its archive. It receives objects over DICOM, makes them durable, forwards them unchanged to the configured destinations, and looks at head CT slices on their way. It is no archive: it answers no query and retrieves nothing.")
	var rows [][]string
	for _, uid := range s.Acceptor.SOPClasses() {
		rows = append(rows, []string{service(uid), uid.Name(), "yes", "yes"})
	}
	rows = append(rows, []string{"Storage Commitment", dicom.StorageCommitmentPushModel.Name(), yes(s.asks()), yes(s.Commitment != nil)})
	d.table([]string{"Service", "SOP class", "User of service (SCU)", "Provider of service (SCP)"}, rows)
	if s.Acceptor.UnknownStorage {
		d.p("Besides, every SOP class that is not in this table and may be a storage SOP class is accepted as one: private ones, and those that a later release of the standard puts below `1.2.840.10008.5.1.4.1.1`.")
	}
}

// service is the service class of a SOP class.
func service(uid dicom.UID) string {
	if uid == dicom.Verification {
		return "Verification"
	}
	return "Storage"
}

func (s *Site) introduction(d *document) {
	d.h(1, "Introduction")
	d.h(2, "Revision History")
	d.table([]string{"Date", "Version", "Of"}, [][]string{{s.Date.Format("2006-01-02"), s.Version, "the installation as configured on this day"}})
	d.h(2, "Audience")
	d.p("Those who connect ichwatch with scanners and archives: service technicians, and administrators of PACS and network. They know DICOM.")
	d.h(2, "Remarks")
	d.p("Two conformance statements that match do not guarantee that two devices work together; they are the first thing to compare. The next is to try: `ichwatch echo` and `ichwatch send` from here, a C-ECHO and a study from the scanner.")
	d.h(2, "Terms, Definitions and Abbreviations")
	d.p("As in PS3.3 to PS3.8 and PS3.15. AE: application entity. DIMSE: DICOM message service element. PDU: protocol data unit. SCP and SCU: provider and user of a service class. SOP: service-object pair. UID: unique identifier.")
	d.h(2, "References")
	d.p("NEMA PS3 / ISO 12052, Digital Imaging and Communications in Medicine (DICOM) Standard. Outline: PS3.2.")
}

func (s *Site) characterSets(d *document) {
	d.h(1, "Support of Character Sets")
	d.p("Objects in every character set are accepted, stored and forwarded; their bytes are not changed, and Specific Character Set (0008,0005) with them. ichwatch itself reads attributes of the default repertoire alone (ISO 646) and shows no names. AE titles are of the default repertoire.")
}

func (s *Site) annexes(d *document) {
	d.h(1, "Annexes")
	d.h(2, "IOD Contents")
	d.p("None are created. Objects are stored and forwarded byte for byte; no attribute is added, removed or coerced. The file meta information (group 0002) of the stored file is ichwatch's own; it is not forwarded.")
	d.h(2, "Data Dictionary of Private Attributes")
	d.p("None. Private attributes that arrive are kept.")
	d.h(2, "Coded Terminology and Templates")
	d.p("None.")
	d.h(2, "Grayscale Image Consistency")
	d.p("Not applicable: ichwatch displays nothing.")
	d.h(2, "Standard Extended, Specialized and Private SOP Classes")
	d.p("None of its own. Extended and specialized objects are kept as they are.")
	if private := s.Acceptor.PrivateStorage; len(private) > 0 {
		d.p("Private SOP classes that this site accepts as Storage: %s.", codes(private))
	}
	d.h(2, "Private Transfer Syntaxes")
	var private []dicom.UID
	syntaxes, _ := s.Acceptor.AcceptedTransferSyntaxes()
	for _, uid := range syntaxes {
		if _, known := dicom.LookupTransferSyntax(uid); !known {
			private = append(private, uid)
		}
	}
	if len(private) == 0 {
		d.p("None.")
	} else {
		d.p("Accepted at this site, stored and forwarded without being understood: %s.", codes(private))
	}
}
