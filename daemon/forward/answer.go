package forward

import (
	"ichwatch/dimse"
	"ichwatch/dimse/command"
)

// verdict is what an answer of the destination means for the leg.
type verdict int

const (
	done  verdict = iota // the destination has the instance
	again                // not now
	park                 // not ever, unless a person changes something
)

// judge reads a status of C-STORE (PS3.4 Table B.2-1, PS3.7 Annex C). contested
// says that there is another data set under the same SOP Instance UID: what the
// destination calls a duplicate may be that one then, and ours is nowhere.
func judge(s dimse.Status, contested bool) verdict {
	switch s {
	case dimse.StatusSuccess,
		dimse.StatusCoercion, dimse.StatusElementsDiscarded, dimse.StatusDataSetMismatchWarn:
		return done
	case dimse.StatusDuplicateSOPInstance:
		if contested {
			return park
		}
		return done
	case dimse.StatusProcessingFailure, command.StatusResourceLimitation:
		return again
	}
	if s&0xFF00 == dimse.StatusOutOfResources {
		return again
	}
	return park
}
