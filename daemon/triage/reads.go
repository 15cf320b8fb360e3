package triage

import (
	"ichwatch/dimse/dicom"
	"ichwatch/infer/pixel"
)

// SOPClasses lists the SOP classes of objects that may be for the model.
func SOPClasses() []dicom.UID {
	return []dicom.UID{dicom.CTImageStorage, dicom.EnhancedCTImageStorage, dicom.LegacyConvertedEnhancedCTImageStorage}
}

// TransferSyntaxes lists the transfer syntaxes whose pixels are read.
func TransferSyntaxes() []dicom.UID {
	uids := []dicom.UID{
		dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian, dicom.DeflatedExplicitVRLittleEndian, dicom.ExplicitVRBigEndian,
	}
	for _, uid := range pixel.Encapsulated() {
		uids = append(uids, dicom.UID(uid))
	}
	return uids
}
