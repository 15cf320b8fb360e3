package conformance

import (
	"fmt"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
)

// Commitment is storage commitment as the site gives it to scanners.
type Commitment struct {
	SameAssociation      bool
	MaxReferences        int // of a request
	MaxOpen              int // transactions of an AE title
	MaxAge               time.Duration
	RetryFirst, RetryMax time.Duration
	Peers                []ReportPeer
}

// ReportPeer is a scanner that is called with reports.
type ReportPeer struct {
	Name, Address    string
	Calling, AETitle string
	TLS              bool
}

// Asking is how a destination is asked for its commitment.
type Asking struct {
	Address, AETitle       string
	Collect, Wait, Timeout time.Duration
	RetryFirst, RetryMax   time.Duration
}

// provided lists the SOP classes that the acceptor is SCP of.
func (s *Site) provided() []dicom.UID {
	classes := s.Acceptor.SOPClasses()
	if s.Commitment != nil {
		classes = append(classes, dicom.StorageCommitmentPushModel)
	}
	return classes
}

// asks says whether a destination has to commit itself.
func (s *Site) asks() bool {
	for _, t := range s.Destinations {
		if t.Commitment != nil {
			return true
		}
	}
	return false
}

// providedCommitment is the SCP's part.
func (s *Site) providedCommitment(d *document) {
	d.h(5, "SOP Specific Conformance for Storage Commitment Push Model")
	c := s.Commitment
	if c == nil {
		d.p("Not provided at this site (`dicom.commitment.enabled`).")
		return
	}
	d.p("Standard conformance as SCP. An N-ACTION (Request Storage Commitment) is answered with 0000H when the request is on disk. An instance is committed when its file is in the spool and reads as it arrived, or when every destination has confirmed it. The Storage Media File-Set attributes and the Retrieve AE Title are neither read nor sent: ichwatch retrieves nothing. The commitment is to hand the instance on: it ends with the confirmation of every destination.")
	d.table([]string{"N-ACTION status", "When"}, [][]string{
		{dimse.StatusSuccess.String(), "the request is recorded"},
		{dimse.StatusNotAuthorized.String(), "no report could be delivered: no address is known for it, and the association of the request does not serve"},
		{command.StatusNoSuchSOPInstance.String(), "not the well-known SOP Instance"},
		{command.StatusNoSuchActionType.String(), "an Action Type other than 1"},
		{command.StatusInvalidArgumentValue.String(), "no Transaction UID, or one in use for another request; no references; a data set that cannot be read"},
		{command.StatusResourceLimitation.String(), fmt.Sprintf("more than %d references, more than %d transactions of the AE title without a report, or the disk is full", c.MaxReferences, c.MaxOpen)},
		{dimse.StatusProcessingFailure.String(), "it cannot be recorded at the moment"},
	})
	d.table([]string{"Failure Reason (0008,1197)", "When"}, [][]string{
		{command.StatusNoSuchSOPInstance.String(), "it has not arrived"},
		{command.StatusClassInstanceConflict.String(), "it has arrived in another SOP class"},
		{dimse.StatusProcessingFailure.String(), "its file is missing or damaged; it may be sent again"},
	})
	way := "A report never goes over the association of its request."
	if c.SameAssociation {
		way = "A report goes over the association of its request while that is open. Or it goes over a later one of the same AE title: with the next answer to an N-ACTION there; and unasked where presentation contexts of Storage Commitment and of none but Verification beside it are accepted, ichwatch is SCP by the roles as negotiated, and the requestor has been silent for a second."
	}
	d.p("%s To the peers below it goes over a new association, on which ichwatch is requestor and proposes itself as SCP (54H: SCU 0, SCP 1), in %s or %s. It is tried until it is answered with success or warning, through restarts, after %s to %s, and given up after %.4g h.",
		way, dicom.ExplicitVRLittleEndian.Name(), dicom.ImplicitVRLittleEndian.Name(), seconds(c.RetryFirst), seconds(c.RetryMax), c.MaxAge.Hours())
	if len(c.Peers) == 0 {
		d.p("At this site no peer is called with reports (`dicom.peers[].commitment.address`).")
		return
	}
	var rows [][]string
	for _, p := range c.Peers {
		rows = append(rows, []string{p.Name, code(p.AETitle), code(p.Address), code(p.Calling), yes(p.TLS)})
	}
	d.table([]string{"Peer", "Called AE title", "Address", "Calling AE title", "TLS"}, rows)
}

// askedCommitment is the SCU's part.
func (s *Site) askedCommitment(d *document) {
	d.h(5, "SOP Specific Conformance for Storage Commitment Push Model")
	if !s.asks() {
		d.p("Used with none of this site's destinations (`destinations[].commitment.mode`).")
		return
	}
	d.p("Standard conformance as SCU. What one of these destinations has stored counts as forwarded only when it is committed. Requests of up to 1000 references are recorded, then sent. The report is taken over the association of the request, and at STORE-SCP over one that the destination opens under the AE title by which it was asked, with itself as SCP.")
	var rows [][]string
	for _, t := range s.Destinations {
		if c := t.Commitment; c != nil {
			rows = append(rows, []string{
				t.Name, code(c.AETitle), code(c.Address), seconds(c.Collect), seconds(c.Wait), seconds(c.Timeout), seconds(c.RetryFirst) + " to " + seconds(c.RetryMax),
			})
		}
	}
	d.table([]string{"Destination", "Called AE title", "Address", "Gathers for", "Keeps the association", "Awaits the report", "Wait before it is asked again"}, rows)
	d.table([]string{"Failure Reason", "The instance is"}, [][]string{
		{command.StatusNoSuchSOPInstance.String() + ", " + dimse.StatusProcessingFailure.String(), "sent again, up to three times, then parked with an alarm"},
		{command.StatusResourceLimitation.String() + ", " + command.StatusDuplicateTransactionUID.String(), "asked for again later"},
		{"any other", "parked with an alarm"},
		{"no report in time, or a request that is refused", "asked for again in a transaction of its own, ever more rarely and without end"},
	})
	d.p("An N-EVENT-REPORT is answered with 0000H when it is recorded, with %v when another AE title reports than was asked, with %v when its Transaction UID is not known.",
		dimse.StatusNotAuthorized, command.StatusInvalidArgumentValue)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
