package dimse

import (
	"slices"
	"strings"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/pdu"
)

// titleOf is an AE title field without padding. What is left is as sent: it may
// be blank or no valid title.
func titleOf(field [16]byte) dicom.AETitle {
	return dicom.AETitle(strings.Trim(string(field[:]), " \x00"))
}

// checkContexts refuses presentation context ids that PS3.8 section 9.3.2.2
// does not allow: even ones, and one used twice.
func checkContexts(rq *pdu.AssociateRQ) error {
	var seen [256]bool
	for _, pc := range rq.PresentationContexts {
		if pc.ID%2 == 0 || seen[pc.ID] {
			return breachf(breachContextID, "presentation context id %d is even or used twice", pc.ID)
		}
		seen[pc.ID] = true
	}
	return nil
}

// answer is the A-ASSOCIATE-AC to a request that rule has let in: every proposed
// context with a result and one transfer syntax, the AE title fields echoed as
// they came.
func (s *Server) answer(rq *pdu.AssociateRQ, rule *Peer) (*pdu.AssociateAC, []PresentationContext) {
	ac := &pdu.AssociateAC{
		Associate: rq.Associate,
		UserInformation: pdu.UserInformation{
			MaximumLength:             s.maxPDU(),
			ImplementationClassUID:    dicom.ImplementationClassUID,
			ImplementationVersionName: dicom.ImplementationVersionName,
		},
	}
	ac.ProtocolVersion = pdu.ProtocolVersion
	ac.ApplicationContext = dicom.ApplicationContext

	contexts := make([]PresentationContext, 0, len(rq.PresentationContexts))
	for _, proposed := range rq.PresentationContexts {
		pc := PresentationContext{ID: proposed.ID, AbstractSyntax: proposed.AbstractSyntax}
		pc.Result, pc.TransferSyntax = s.choose(proposed, rule)
		contexts = append(contexts, pc)
		ac.PresentationContexts = append(ac.PresentationContexts, pdu.PresentationContextAC{
			ID: pc.ID, Result: pc.Result, TransferSyntax: pc.TransferSyntax,
		})
	}
	// One operation at a time (PS3.7 D.3.3.3.2); silence would mean the same.
	if rq.UserInformation.AsynchronousOperations != nil {
		ac.UserInformation.AsynchronousOperations = &pdu.AsynchronousOperations{Invoked: 1, Performed: 1}
	}
	// We are the SCP and the requestor may be an SCU. Of storage commitment it
	// may be the SCP, too, that has something to report to us.
	for _, r := range rq.UserInformation.RoleSelections {
		if s.acceptsAbstract(r.SOPClassUID, rule) {
			reports := r.SOPClassUID == dicom.StorageCommitmentPushModel
			ac.UserInformation.RoleSelections = append(ac.UserInformation.RoleSelections, pdu.RoleSelection{
				SOPClassUID: r.SOPClassUID, SCU: r.SCU && (!reports || s.actionsOf(rule) != nil), SCP: r.SCP && reports && s.EventReports != nil,
			})
		}
	}
	return ac, contexts
}

// choose answers one proposed context. The transfer syntax of a rejected one
// has no meaning (PS3.8 9.3.3.2): it is one that the peer knows.
func (s *Server) choose(proposed pdu.PresentationContextRQ, rule *Peer) (pdu.ContextResult, dicom.UID) {
	anyone := dicom.ImplicitVRLittleEndian
	if len(proposed.TransferSyntaxes) > 0 {
		anyone = proposed.TransferSyntaxes[0]
	}
	if !s.acceptsAbstract(proposed.AbstractSyntax, rule) {
		return pdu.AbstractSyntaxNotSupported, anyone
	}
	if len(s.TransferSyntaxes) == 0 {
		for _, ts := range proposed.TransferSyntaxes {
			if _, known := dicom.LookupTransferSyntax(ts); known {
				return pdu.Acceptance, ts
			}
		}
	}
	for _, ts := range s.TransferSyntaxes {
		_, known := dicom.LookupTransferSyntax(ts)
		// A private one will do to keep what comes in it, and not for a data set of our own.
		if slices.Contains(proposed.TransferSyntaxes, ts) && (known || proposed.AbstractSyntax != dicom.StorageCommitmentPushModel) {
			return pdu.Acceptance, ts
		}
	}
	return pdu.TransferSyntaxesNotSupported, anyone
}

// acceptsAbstract says whether contexts of a SOP class are accepted of the peers
// of a rule.
func (s *Server) acceptsAbstract(uid dicom.UID, rule *Peer) bool {
	commitment := uid == dicom.StorageCommitmentPushModel
	switch {
	case !rule.mayPropose(uid), commitment && s.actionsOf(rule) == nil && s.EventReports == nil:
		return false
	case slices.Contains(s.PrivateStorage, uid), s.UnknownStorage && uid.MayBeStorage():
		return true
	case len(s.AbstractSyntaxes) > 0:
		return slices.Contains(s.AbstractSyntaxes, uid)
	}
	return uid == dicom.Verification || uid.IsStorage() || commitment
}

// actionsOf is who performs the actions that the peers of a rule ask for; nil:
// nobody.
func (s *Server) actionsOf(rule *Peer) ActionHandler {
	if rule.RefuseActions {
		return nil
	}
	return s.Actions
}

func requestInfo(a *Association, rq *pdu.AssociateRQ) AssociateRequestInfo {
	_, secure := a.conn.conn.(*tlsConn)
	info := AssociateRequestInfo{
		RemoteAddr:                a.RemoteAddr(),
		CallingAETitle:            a.calling,
		CalledAETitle:             a.called,
		ImplementationClassUID:    rq.UserInformation.ImplementationClassUID,
		ImplementationVersionName: rq.UserInformation.ImplementationVersionName,
		UserIdentity:              rq.UserInformation.UserIdentity,
		TLS:                       secure,
		CertificateNames:          a.names,
	}
	for _, pc := range rq.PresentationContexts {
		info.Contexts = append(info.Contexts, ProposedContext{pc.AbstractSyntax, pc.TransferSyntaxes})
	}
	return info
}
