package dimse_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
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

// Every line has its tests, under the names that it gives: tests that are built here and that run, whatever is installed.
// That they pass, this run says; and .ci/testreport fails where a peer's absence had one skipped.
func TestChecklist(t *testing.T) {
	folders := map[string]testFuncs{}
	for _, entry := range checklist {
		if len(entry.tests) == 0 {
			t.Errorf("no test: %s", entry.line)
		}
		for _, test := range entry.tests {
			dir, name := filepath.Split(test)
			if folders[dir] == nil {
				folders[dir] = testFuncsIn(t, filepath.Join(".", dir))
			}
			if problem := folders[dir].problem(name); problem != "" {
				t.Errorf("%s: %s of %s %s", entry.line, name, filepath.Join("dimse", dir), problem)
			}
		}
	}
}

// testFuncs are the functions, and methods, in the test files of a folder.
type testFuncs map[string]*ast.FuncDecl

// testFuncsIn reads those files of a folder that go test builds here.
func testFuncsIn(t *testing.T, dir string) testFuncs {
	t.Helper()
	built, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	funcs := testFuncs{}
	for _, name := range slices.Concat(built.TestGoFiles, built.XTestGoFiles) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				funcs[f.Name.Name] = f
			}
		}
	}
	return funcs
}

// problem says what keeps a test from holding us to anything; "" is nothing.
func (funcs testFuncs) problem(name string) string {
	f := funcs[name]
	switch {
	case f == nil:
		return "does not exist"
	case !isTest(f):
		return "is not run by go test"
	case len(f.Body.List) == 0:
		return "does nothing"
	case funcs.skips(name, map[string]bool{}):
		return "may be skipped"
	}
	return ""
}

// isTest says whether a function has the form func TestX(t *testing.T).
func isTest(f *ast.FuncDecl) bool {
	params := f.Type.Params.List
	if f.Recv != nil || f.Type.TypeParams != nil || f.Type.Results != nil || len(params) != 1 || len(params[0].Names) != 1 || !strings.HasPrefix(f.Name.Name, "Test") {
		return false
	}
	pointer, _ := params[0].Type.(*ast.StarExpr)
	if pointer == nil {
		return false
	}
	typ, _ := pointer.X.(*ast.SelectorExpr)
	return typ != nil && typ.Sel.Name == "T"
}

// skips says whether a function calls Skip, itself or by another function of its folder.
func (funcs testFuncs) skips(name string, seen map[string]bool) bool {
	f := funcs[name]
	if f == nil || f.Body == nil || seen[name] {
		return false
	}
	seen[name] = true
	found := false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		call, _ := n.(*ast.CallExpr)
		if call == nil || found {
			return !found
		}
		switch callee := call.Fun.(type) {
		case *ast.Ident:
			found = funcs.skips(callee.Name, seen)
		case *ast.SelectorExpr:
			switch callee.Sel.Name {
			case "Skip", "Skipf", "SkipNow":
				found = true
			}
		}
		return !found
	})
	return found
}

// What the checklist must not take for a test.
func TestChecklistTakesNothingElseForATest(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a_test.go": `package x
import "testing"
func TestSound(t *testing.T) { helps(t); t.Fatal() }
func TestEmpty(t *testing.T) {}
func TestSkipped(t *testing.T) { t.Skip("later") }
func TestSkippedWithin(t *testing.T) { if true { t.Run("x", func(t *testing.T) { t.Skipf("later") }) } }
func TestSkippedByAnother(t *testing.T) { helps(t); gives(t) }
func TestOfNoForm(t testing.TB) { t.Fatal() }
func helps(t *testing.T) { t.Helper(); helps(t) }
func gives(t *testing.T) { up(t) }
func up(t *testing.T) { t.SkipNow() }
`,
		"b_test.go": "//go:build never\n\npackage x\nimport \"testing\"\nfunc TestOfAnotherBuild(t *testing.T) { t.Fatal() }\n",
		"c.go":      "package x\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	funcs := testFuncsIn(t, dir)
	for name, want := range map[string]string{
		"TestSound": "", "TestMissing": "does not exist", "TestEmpty": "does nothing", "TestSkipped": "may be skipped", "TestSkippedWithin": "may be skipped",
		"TestSkippedByAnother": "may be skipped", "TestOfNoForm": "is not run by go test", "helps": "is not run by go test", "TestOfAnotherBuild": "does not exist",
	} {
		if got := funcs.problem(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
