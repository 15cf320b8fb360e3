package forward

import (
	"slices"

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

// String is what becomes of the instance.
func (v verdict) String() string {
	return [...]string{
		"confirmed: the destination has the instance", "tried again, ever more rarely and without end",
		"parked with an alarm, until a person has mended the cause and has it tried again (ichwatch queue retry, or a start of the daemon)",
	}[v]
}

// Answer is what a range of statuses of C-STORE means for an instance.
type Answer struct {
	First, Last dimse.Status
	Otherwise   bool // every status that no other Answer has
	Means       string

	verdict verdict
}

// Answers are the statuses of PS3.4 Table B.2-1 and PS3.7 Annex C that a Forwarder
// tells apart, and what becomes of the instance.
func Answers() []Answer {
	all := slices.Clone(answers)
	for i := range all {
		all[i].Means = all[i].verdict.String()
	}
	all[slices.IndexFunc(all, func(a Answer) bool { return a.First == dimse.StatusDuplicateSOPInstance })].Means += " already; where ichwatch holds two different data sets under that UID, parked"
	return append(all, Answer{Otherwise: true, Means: park.String()})
}

var answers = []Answer{
	{First: dimse.StatusSuccess, Last: dimse.StatusSuccess, verdict: done},
	{First: dimse.StatusCoercion, Last: dimse.StatusCoercion, verdict: done},
	{First: dimse.StatusElementsDiscarded, Last: dimse.StatusElementsDiscarded, verdict: done},
	{First: dimse.StatusDataSetMismatchWarn, Last: dimse.StatusDataSetMismatchWarn, verdict: done},
	{First: dimse.StatusDuplicateSOPInstance, Last: dimse.StatusDuplicateSOPInstance, verdict: done},
	{First: dimse.StatusOutOfResources, Last: dimse.StatusOutOfResources | 0xFF, verdict: again},
	{First: dimse.StatusProcessingFailure, Last: dimse.StatusProcessingFailure, verdict: again},
	{First: command.StatusResourceLimitation, Last: command.StatusResourceLimitation, verdict: again},
}

// judge reads a status of C-STORE. contested says that there is another data set
// under the same SOP Instance UID: what the destination calls a duplicate may be
// that one then, and ours is nowhere.
func judge(s dimse.Status, contested bool) verdict {
	if s == dimse.StatusDuplicateSOPInstance && contested {
		return park
	}
	for _, a := range answers {
		if s >= a.First && s <= a.Last {
			return a.verdict
		}
	}
	return park
}
