package dimse_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// checklist says, line by line, what a receiver and sender of DICOM has to do on
// the wire and which tests hold this one to it: their names, behind the folder
// where it is not this one.
var checklist = []struct {
	line  string
	tests []string
}{
	{"PDU types 1 to 7, each legal only in its state", []string{
		"TestStateTable", "TestActionEffects", "TestBreaches", "TestBreachesBeforeAssociation", "pdu/TestGoldenPDUs",
	}},
	{"the length of a PDU is checked before anything is allocated: A-ASSOCIATE-RQ up to 128 KiB, P-DATA-TF up to what we offered", []string{
		"pdu/TestMalformed", "pdu/TestPromise6_ClaimsAllocateNothing", "TestBreaches",
	}},
	{"many PDVs in one PDU, fragments of command and data, even empty ones", []string{"TestStore", "pdu/TestSkippingWhatIsUnread"}},
	{"one message at a time on an association", []string{"TestBreaches"}},
	{"the size of a message is capped", []string{"TestPromise6_EndlessFragments", "TestBreaches"}},
	{"data sets are streamed", []string{"TestStoreRefusedByHandler", "TestEndInMidObject", "../daemon/receive/TestPromise2_StoredByteForByte"}},
	{"a PDV's length is at least 2 and within its PDU", []string{"pdu/TestMalformed", "TestBreaches"}},
	{"context ids are odd, used once, accepted, and the same within a message", []string{"TestBreaches", "TestBreachesBeforeAssociation"}},
	{"the message's SOP class is its context's, else 0122H or 0118H", []string{"TestRefusedMessages", "TestStoreRefusalsAreAsTold"}},
	{"we send within the peer's maximum, 0 being none, and offer 128 KiB", []string{
		"TestAnswerKeepsToThePeersMaximum", "pdu/TestWriterKeepsToThePeersMaximum", "TestAnswer",
	}},
	{"reserved bytes are ignored; of the protocol version bit 0 alone counts", []string{"TestAnswer", "TestStoreSCUArrivesAsSent"}},
	{"a request of 11 KB with more than 100 contexts is normal", []string{"TestEveryContextIsAccepted", "TestStoreSCUArrivesAsSent"}},
	{"the answer names every context, with one transfer syntax even when it is rejected, echoes the AE title fields, and has items 51H, 52H and 55H", []string{"TestAnswer"}},
	{"every storage SOP class in every transfer syntax; unknown and private ones when configured", []string{
		"TestEveryContextIsAccepted", "TestUnknownSOPClasses", "TestPrivateTransferSyntaxIsStored",
	}},
	{"the transfer syntax is chosen in the order that is configured, else in the peer's", []string{"TestTransferSyntaxPreference"}},
	{"rejections carry result, source and reason; a local limit is transient", []string{"TestRejections", "TestRejectionsAreAsTold", "TestLimits"}},
	{"role selection (54H), asynchronous operations window (53H) answered 1 and 1, extended negotiation (56H, 57H) tolerated", []string{"TestAnswer", "pdu/TestUserInformationItems", "TestChecklist_RoleSelection"}},
	{"user identity (58H): username, alone or with a passcode, is checked where a rule requires it and answered (59H) where the peer asks, otherwise ignored; we send it too", []string{
		"TestUserIdentity", "TestUserIdentityOfStoreSCU", "TestAnswer", "TestDialNegotiates", "identity/TestAuthenticate", "pdu/TestRoundTripOfEveryItem",
	}},
	{"TLS 1.2 and 1.3 by BCP 195 on either side, with certificates that are checked, and read again when they change", []string{
		"tlsprofile/TestProfile", "TestTLSFromDCMTK", "TestTLSIntoDCMTK", "TestTLSRefusals", "TestTLSOnAPlainPort", "TestTLSFilesAreReadAgain",
	}},
	{"who may open associations: AE titles, addresses, certificates, limits", []string{
		"TestPeers", "TestPeerCallsAnotherTitle", "TestPeerByCertificate", "TestLimitsOfAPeer", "TestPeerWithSomeSOPClasses",
	}},
	{"ARTIM on accept and after reject, release or abort, then we close ourselves", []string{"TestPromise6_DeadlinesHold", "TestPromise6_LingeringConnectionsAreBounded"}},
	{"a deadline on silence, and on a stall in mid-message", []string{"TestPromise6_DeadlinesHold", "TestRequestorDeadlines", "TestSlowButHonest"}},
	{"a send that timed out poisons the association", []string{"TestRequestorDeadlines", "TestStoreFromABadSource", "TestStoreSCPFaults"}},
	{"release collision, on either side", []string{"TestReleaseCollision", "TestReleaseCollisionAsAcceptor"}},
	{"TCP closed without release", []string{"TestCloseWithoutRelease", "TestPromise6_LostAtEveryByte"}},
	{"an abort in mid-message discards the object", []string{"TestEndInMidObject", "TestStoreSCUAborts", "../daemon/receive/TestPromise1_BrokenOffObjectLeavesNothing"}},
	{"a second A-ASSOCIATE-RQ aborts", []string{"TestBreaches"}},
	{"a chain of fragments without end is bounded", []string{"TestPromise6_EndlessFragments", "TestBreaches"}},
	{"C-ECHO in both roles", []string{"TestEchoSCU", "TestDialNegotiates"}},
	{"C-STORE: duplicates are idempotent", []string{"../daemon/receive/TestPromise1_DuplicateSucceeds"}},
	{"C-STORE: A700H, A900H, C000H, ErrorComment of up to 64 characters", []string{
		"TestStoreRefusedByHandler", "command/TestErrorComment", "../daemon/receive/TestStoreRefuses", "../daemon/receive/TestStoreKeepsTheReserve", "../daemon/receive/TestAnswer",
	}},
	{"C-STORE: the move originator is handed on to who takes the object, and goes no further: the C-STORE to a destination is no sub-operation of its C-MOVE", []string{
		"TestStore", "command/TestRoundTrip", "../daemon/app/TestMoveOriginatorGoesNoFurther",
	}},
	{"storage commitment: N-ACTION in, from those who may ask", []string{
		"TestChecklist_ActionIn", "TestRuleThatRefusesActions", "commitment/TestGoldenRequest", "../daemon/commit/TestRequestsThatAreRefused",
	}},
	{"storage commitment: N-EVENT-REPORT out, on the same association, on a later one or on a new one with role reversal", []string{
		"TestChecklist_ReportOnTheSameAssociation", "TestChecklist_ReportOnALaterAssociation", "../daemon/commit/TestChecklist_ReportOnALaterAssociation", "TestChecklist_RoleReversalOnANewAssociation", "TestReportNeedsItsRole",
		"../daemon/commit/TestChecklist_ReportOnTheSameAssociation", "../daemon/commit/TestChecklist_ReportOnANewAssociation", "../daemon/app/TestStorageCommitmentForPynetdicom",
	}},
	{"storage commitment: the transaction is persisted, and its report tried again, through restarts", []string{
		"../daemon/commit/TestChecklist_TransactionPersistedAndRetried", "../daemon/TestPromise1_KilledBeforeTheReport",
	}},
	{"storage commitment: N-ACTION out, N-EVENT-REPORT in", []string{
		"TestAwaitEventReportInVain", "commitment/TestGoldenReport", "../daemon/commit/TestCommittedOverTheSameAssociation", "../daemon/commit/TestCommittedOverANewAssociation",
		"../daemon/app/TestPromise2_NothingIsRemovedBeforeThePACSHasCommittedItself",
	}},
	{"C-CANCEL of something unknown is ignored", []string{"TestCancelOfSomethingUnknownIsIgnored"}},
	{"anything unsupported gets 0211H", []string{"TestRefusedMessages"}},
	{"CommandDataSetType: 0101H is none, anything else is present", []string{"command/TestCommandDataSetType"}},
}

// Every line has its tests, under the names that it gives.
func TestChecklist(t *testing.T) {
	declared := map[string]map[string]bool{} // by folder
	for _, entry := range checklist {
		if len(entry.tests) == 0 {
			t.Errorf("no test: %s", entry.line)
		}
		for _, test := range entry.tests {
			dir, name := filepath.Split(test)
			if declared[dir] == nil {
				declared[dir] = testsIn(t, filepath.Join(".", dir))
			}
			if !declared[dir][name] {
				t.Errorf("%s: there is no %s in %s", entry.line, name, filepath.Join("dimse", dir))
			}
		}
	}
}

// testsIn lists the tests of a folder.
func testsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}
