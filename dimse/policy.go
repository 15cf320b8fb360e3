package dimse

import "slices"

// A Policy is an answer that a [Server] gives by itself, and when. The tables of
// them are for people, in the conformance statement; tests hold the Server to
// them.
type Policy[T any] struct {
	Answer T
	When   string
}

// Rejections lists why a Server refuses associations.
func Rejections() []Policy[Rejection] {
	var all []Policy[Rejection]
	for _, c := range causes {
		if c.rejection == (Rejection{}) {
			continue
		}
		if i := slices.IndexFunc(all, func(p Policy[Rejection]) bool { return p.Answer == c.rejection }); i >= 0 {
			all[i].When += "; " + c.text
			continue
		}
		all = append(all, Policy[Rejection]{c.rejection, c.text})
	}
	return all
}

// StoreRefusals lists the statuses with which a Server answers a C-STORE-RQ
// before any [Handler] is asked.
func StoreRefusals() []Policy[Status] {
	return []Policy[Status]{
		{StatusNoSuchSOPClass, "the Affected SOP Class UID is none that is accepted"},
		{StatusSOPClassNotSupported, "the Affected SOP Class UID is not the abstract syntax of the presentation context"},
		{StatusMissingAttribute, "there is no Affected SOP Instance UID"},
		{StatusInvalidObjectInstance, "the Affected SOP Instance UID is not a UID"},
		{StatusCannotUnderstand, "there is no data set"},
		{StatusUnrecognizedOperation, "the context is one of Verification or of storage commitment"},
	}
}
