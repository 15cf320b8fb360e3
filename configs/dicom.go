package configs

import (
	"strings"

	"ichwatch/dimse/dicom"
)

// validateSOPClasses checks what is accepted as Storage beside the standard's own.
func (d *document) validateSOPClasses(c *DICOM) {
	d.oneOf("dicom.unknown_sop_classes", c.UnknownSOPClasses, "refuse", "accept")
	for i, text := range c.PrivateSOPClasses {
		key, uid := entry("dicom.private_sop_classes", i), dicom.UID(text)
		switch {
		case uid.Valid() != nil:
			d.reject(key, text, &valueError{"is not a UID", wantUID, ""})
		case uid.IsStorage():
			d.reject(key, text, &valueError{"is " + uid.Name() + ", which is accepted in any case", "a manufacturer's own SOP classes", ""})
		case !uid.MayBeStorage():
			d.reject(key, text, &valueError{"is no storage SOP class: " + uid.Name(), "a manufacturer's own SOP classes", ""})
		}
	}
	d.unique("dicom.private_sop_classes", c.PrivateSOPClasses)
}

// validateTransferSyntaxes takes those that are known by any of their names, a
// private one or one of a later release of the standard by its UID.
func (d *document) validateTransferSyntaxes(c *DICOM) {
	uids := make([]string, len(c.TransferSyntaxes))
	for i, text := range c.TransferSyntaxes {
		key, uid := entry("dicom.transfer_syntaxes", i), dicom.UID(text)
		ts, known := dicom.TransferSyntaxByName(text)
		switch {
		case known:
			uids[i] = string(ts.UID)
		case uid.Valid() != nil:
			d.reject(key, text, &valueError{"is not a transfer syntax", "a keyword, a name or a UID, as ichwatch conformance lists them", nearestSyntax(text)})
		case carriesNoObject(text):
			d.reject(key, text, &valueError{"is no transfer syntax that an object could come in", "one that ichwatch conformance lists, or a manufacturer's own UID", ""})
		default:
			uids[i] = text
		}
	}
	d.unique("dicom.transfer_syntaxes", uids)
}

// carriesNoObject says of a UID that no table has whether it is the standard's and
// still no transfer syntax of a C-STORE: of another kind, or of MIME, XML and
// SMPTE ST 2110 (PS3.6 Table A-1).
func carriesNoObject(uid string) bool {
	const standard = "1.2.840.10008."
	syntax := strings.HasPrefix(uid, standard+"1.2.") && !strings.HasPrefix(uid, standard+"1.2.6.") && !strings.HasPrefix(uid, standard+"1.2.7.")
	return strings.HasPrefix(uid, standard) && !syntax
}

const wantUID = "1 to 64 digits and dots, as in 1.2.840.113619.4.30"

// nearestSyntax is the keyword that was probably meant.
func nearestSyntax(word string) string {
	var keywords []string
	for _, ts := range dicom.TransferSyntaxes() {
		keywords = append(keywords, ts.Keyword)
	}
	return Nearest(word, keywords)
}
