package spool

// The steps at which Options.Hook is called, each after it has been done. Those
// of a ledger transaction are called twice: with the suffix " (before commit)"
// when its last statement has run, and by its plain name after the commit.
const (
	StepCreated         = "create: file made and Part 10 header written"
	StepWritten         = "commit: data set written"
	StepFileSynced      = "commit: file synced"
	StepRenamed         = "commit: file renamed"
	StepDirectorySynced = "commit: directory synced"
	StepIndexed         = "commit: indexed"
	StepReleased        = "association ended"

	StepLegSentAs = "leg sent in another transfer syntax"
	StepLegDone   = "leg done"
	StepLegFailed = "leg failed"
	StepLegParked = "leg parked"
	StepLegsRetry = "legs due again"
	StepLegsHeld  = "legs parked by a person"

	StepLegSent             = "leg sent"
	StepCommitmentRequested = "commitment requested"
	StepCommitmentAsked     = "commitment asked for"
	StepCommitmentFailed    = "commitment failed"
	StepCommitmentReported  = "commitment reported"
	StepSentIsDone          = "sent is done"
	StepRequestsForgotten   = "requests forgotten"

	StepTransactionOpened  = "transaction opened"
	StepReportDelivered    = "report delivered"
	StepReportFailed       = "report failed"
	StepTransactionsParked = "transactions parked"

	StepFinding          = "finding recorded"
	StepFindingsRetry    = "failed findings pending again"
	StepDecided          = "study decided"
	StepMessageDelivered = "message delivered"
	StepMessageFailed    = "message failed"
	StepNoted            = "noted in the journal" // within the transactions that decide, deliver and answer
	StepAcknowledged     = "alert acknowledged"
	StepEscalated        = "alert escalated"

	StepRemoving         = "remove: removal recorded"
	StepFileRemoved      = "remove: file removed"
	StepRemovalSynced    = "remove: directories synced"
	StepRemoved          = "remove: done"
	StepQuarantined      = "recover: file moved to quarantine"
	StepAdopted          = "recover: files adopted"
	StepMissing          = "recover: missing files recorded"
	StepLedgerMovedAside = "recover: ledger moved aside"
	StepJournalBegun     = "recover: journal begun"
	StepJournalRenamed   = "recover: journal renamed"
	StepJournalInPlace   = "recover: journal in its place"
	StepRecalled         = "recover: journal taken over"
	StepRecovered        = "recover: noted"
	StepRouted           = "recover: routed anew"
	StepClockSetBack     = "schedules brought back to the present"

	beforeCommit = " (before commit)"
)

// Steps returns every step, in no particular order.
func Steps() []string {
	steps := []string{
		StepCreated, StepWritten, StepFileSynced, StepRenamed, StepDirectorySynced,
		StepFileRemoved, StepRemovalSynced, StepQuarantined, StepLedgerMovedAside, StepNoted,
		StepJournalRenamed, StepJournalInPlace,
	}
	for _, transaction := range []string{
		StepIndexed, StepReleased, StepLegSentAs, StepLegDone, StepLegFailed, StepLegParked, StepLegsRetry, StepLegsHeld,
		StepLegSent, StepCommitmentRequested, StepCommitmentAsked, StepCommitmentFailed, StepCommitmentReported, StepSentIsDone, StepRequestsForgotten,
		StepTransactionOpened, StepReportDelivered, StepReportFailed, StepTransactionsParked,
		StepFinding, StepFindingsRetry, StepDecided, StepMessageDelivered, StepMessageFailed, StepAcknowledged, StepEscalated,
		StepRemoving, StepRemoved, StepAdopted, StepMissing, StepJournalBegun, StepRecalled, StepRecovered, StepRouted, StepClockSetBack,
	} {
		steps = append(steps, transaction+beforeCommit, transaction)
	}
	return steps
}
