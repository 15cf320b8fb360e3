package dimse

import (
	"bytes"
	"io"
	"slices"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// SOPClasses returns the SOP classes that the Server accepts as SCP by name: in
// the standard's order, private ones last. UnknownStorage accepts more.
func (s *Server) SOPClasses() []dicom.UID {
	classes := slices.Clone(s.AbstractSyntaxes)
	if len(classes) == 0 {
		classes = append([]dicom.UID{dicom.Verification}, dicom.StorageSOPClasses()...)
		if s.Actions != nil {
			classes = append(classes, dicom.StorageCommitmentPushModel)
		}
	}
	for _, uid := range s.PrivateStorage {
		if !slices.Contains(classes, uid) {
			classes = append(classes, uid)
		}
	}
	return classes
}

// AcceptedTransferSyntaxes returns the transfer syntaxes that the Server accepts.
// ordered says that it prefers them in this order; else it takes the first that
// the peer proposes.
func (s *Server) AcceptedTransferSyntaxes() (syntaxes []dicom.UID, ordered bool) {
	if len(s.TransferSyntaxes) > 0 {
		return slices.Clone(s.TransferSyntaxes), true
	}
	for _, ts := range dicom.TransferSyntaxes() {
		syntaxes = append(syntaxes, ts.UID)
	}
	return syntaxes, false
}

// refusedClasses names, for the log, the SOP classes of which no context was
// accepted. There may be a hundred: the first few tell.
func refusedClasses(contexts []PresentationContext) []string {
	const most = 8
	accepted := make(map[dicom.UID]bool)
	for _, pc := range contexts {
		accepted[pc.AbstractSyntax] = accepted[pc.AbstractSyntax] || pc.Result == pdu.Acceptance
	}
	var names []string
	for _, pc := range contexts {
		name := "not a UID"
		if pc.AbstractSyntax.Valid() == nil {
			name = pc.AbstractSyntax.Name()
		}
		if !accepted[pc.AbstractSyntax] && !slices.Contains(names, name) && len(names) < most {
			names = append(names, name)
		}
	}
	return names
}

// syntaxOf describes the transfer syntax of a data set that has just begun and
// returns it whole: of a private syntax its first bytes have been looked at.
func syntaxOf(uid dicom.UID, data io.Reader) (dicom.TransferSyntax, io.Reader) {
	if ts, known := dicom.LookupTransferSyntax(uid); known {
		return ts, data
	}
	start := make([]byte, 8)
	n, _ := io.ReadFull(data, start) // its error comes again at the next Read
	return dicom.PrivateTransferSyntax(uid, start[:n]), io.MultiReader(bytes.NewReader(start[:n]), data)
}
