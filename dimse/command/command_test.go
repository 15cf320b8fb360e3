package command_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

const goldenDir = "../../testdata/pdu"

// goldenSets are the command sets that DCMTK sent.
func goldenSets(t testing.TB) (sets [][]byte) {
	t.Helper()
	for _, c := range dimsetest.Conversations(t, goldenDir) {
		for _, recorded := range c.PDUs {
			if recorded.Type() != pdu.TypePDataTF {
				continue
			}
			r := pdu.NewReader(bytes.NewReader(recorded.Bytes), 0)
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			for {
				v, err := r.NextPDV()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				value, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				if v.Command && v.Last { // DCMTK never cuts a command set
					sets = append(sets, value)
				}
			}
		}
	}
	if len(sets) == 0 {
		t.Fatal("no command set in the golden files")
	}
	return sets
}

// Every command set that DCMTK sent decodes, and encodes to the same bytes.
func TestGoldenCommandSets(t *testing.T) {
	fields := map[command.Field]int{}
	for _, set := range goldenSets(t) {
		m, err := command.Unmarshal(set)
		if err != nil {
			t.Errorf("%x: %v", set, err)
			continue
		}
		fields[m.Field()]++
		got, err := command.Marshal(m)
		if err != nil || !bytes.Equal(got, set) {
			t.Errorf("%s (error %v) encodes to\n%x\nwant\n%x", m.Field(), err, got, set)
		}
	}
	for _, f := range []command.Field{command.FieldCEchoRQ, command.FieldCEchoRSP, command.FieldCStoreRQ, command.FieldCStoreRSP} {
		if fields[f] == 0 {
			t.Errorf("no %s in the golden files", f)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range []command.Message{
		&command.CEchoRQ{AffectedSOPClassUID: dicom.Verification, MessageID: 65535},
		&command.CEchoRSP{AffectedSOPClassUID: dicom.Verification, MessageIDBeingRespondedTo: 7, Status: command.StatusNotAuthorized, ErrorComment: "not you"},
		&command.CStoreRQ{
			AffectedSOPClassUID: dicom.CTImageStorage, MessageID: 1, Priority: command.PriorityHigh,
			AffectedSOPInstanceUID: "1.2.3", DataSet: true, MoveOriginatorAETitle: "MOVER", MoveOriginatorMessageID: 9,
		},
		&command.CStoreRQ{AffectedSOPClassUID: dicom.CTImageStorage},
		&command.CStoreRSP{AffectedSOPClassUID: dicom.CTImageStorage, MessageIDBeingRespondedTo: 1, Status: command.StatusOutOfResources, ErrorComment: "full", AffectedSOPInstanceUID: "1.2.3"},
		&command.CCancelRQ{MessageIDBeingRespondedTo: 3},
		&command.Generic{CommandField: command.FieldNSetRQ, RequestedSOPClassUID: "1.2.840.10008.3.1.2.3.3", MessageID: 4, DataSet: true, RequestedSOPInstanceUID: "1.2.3"},
		&command.NActionRQ{RequestedSOPClassUID: dicom.StorageCommitmentPushModel, MessageID: 4, DataSet: true, RequestedSOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: 1},
		&command.NActionRSP{AffectedSOPClassUID: dicom.StorageCommitmentPushModel, MessageIDBeingRespondedTo: 4, Status: command.StatusNoSuchActionType, ErrorComment: "no", AffectedSOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: 2},
		&command.NActionRSP{MessageIDBeingRespondedTo: 4, DataSet: true},
		&command.NEventReportRQ{AffectedSOPClassUID: dicom.StorageCommitmentPushModel, MessageID: 4, DataSet: true, AffectedSOPInstanceUID: dicom.StorageCommitmentPushModelInstance, EventTypeID: 2},
		&command.NEventReportRSP{AffectedSOPClassUID: dicom.StorageCommitmentPushModel, MessageIDBeingRespondedTo: 4, Status: command.StatusNoSuchEventType, AffectedSOPInstanceUID: dicom.StorageCommitmentPushModelInstance, EventTypeID: 3},
		&command.NEventReportRSP{MessageIDBeingRespondedTo: 4, DataSet: true},
	} {
		set, err := command.Marshal(want)
		if err != nil {
			t.Errorf("%s: %v", want.Field(), err)
			continue
		}
		got, err := command.Unmarshal(set)
		if err != nil {
			t.Errorf("%s: %v", want.Field(), err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Field(), diff)
		}
	}
}

// 0101H is "no data set", anything else is one (PS3.7 Annex E).
func TestCommandDataSetType(t *testing.T) {
	for value, want := range map[string]bool{"0101": false, "0000": true, "0100": true, "0201": true, "ffff": true, "fefe": true} {
		m, err := command.Unmarshal(dimsetest.Hex(t, "0000 0001 02000000 0100  0000 0008 02000000"+value))
		if err != nil {
			t.Errorf("%s: %v", value, err)
		} else if m.HasDataSet() != want {
			t.Errorf("Command Data Set Type %s: data set %t, want %t", value, m.HasDataSet(), want)
		}
	}
	// A response that announces a data set must not be taken for one without.
	m, err := command.Unmarshal(dimsetest.Hex(t, "0000 0001 02000000 0180  0000 2001 02000000 0100  0000 0008 02000000 0000  0000 0009 02000000 0000"))
	if err != nil || !m.HasDataSet() {
		t.Errorf("C-STORE-RSP with a data set: %v, %v", m, err)
	}
}

func TestMalformed(t *testing.T) {
	const field, none = "0000 0001 02000000 0100", "0000 0008 02000000 0101"
	for _, test := range []struct{ name, hex string }{
		{"empty", ""},
		{"no Command Field", none},
		{"no Command Data Set Type", field},
		{"two values", "0000 0001 04000000 0100 0100" + none},
		{"header cut", field + none + "0000 0009"},
		{"value cut", field + "0000 0008 02000000 01"},
		{"claims 4 GiB", field + none + "0000 0009 fefffffF 0000"},
		{"undefined length", field + none + "0000 0009 ffffffff"},
		{"odd length", field + none + "0000 0209 01000000 20"},
		{"not group 0000", field + none + "0800 1600 02000000 3100"},
		{"a sequence", field + "0800 4011 ffffffff"},
		{"descending", none + field},
		{"twice", field + field + none},
		{"UL of 2 bytes", "0000 0000 02000000 0000" + field + none},
		{"US of 0 bytes", "0000 0001 00000000" + none},
		{"longer than 4 KiB", field + none + "0000 0209 f00f0000" + strings.Repeat("20", 0x0ff0)},
	} {
		if m, err := command.Unmarshal(dimsetest.Hex(t, test.hex)); !errors.Is(err, command.ErrInvalid) {
			t.Errorf("%s: %v, %v, want ErrInvalid", test.name, m, err)
		}
	}
}

// A response whose Status, or whose request, is not exactly one is none: it must
// not count as 0000H, Success.
func TestResponseWithoutStatus(t *testing.T) {
	const id, none, status = "0000 2001 02000000 0100", "0000 0008 02000000 0101", "0000 0009 02000000 0000"
	for _, field := range []string{"0180", "3080", "0081", "3081", "2080", "2081"} { // C-STORE, C-ECHO, N-EVENT-REPORT, N-ACTION, C-FIND, N-SET
		field = "0000 0001 02000000 " + field
		if _, err := command.Unmarshal(dimsetest.Hex(t, field+id+none+status)); err != nil {
			t.Errorf("%s: %v", field, err)
		}
		for name, hex := range map[string]string{
			"no Status":            field + id + none,
			"an empty Status":      field + id + none + "0000 0009 00000000",
			"two Statuses":         field + id + none + "0000 0009 04000000 0000 0000",
			"no Message ID":        field + none + status,
			"an empty Message ID":  field + "0000 2001 00000000" + none + status,
			"Message IDs of three": field + "0000 2001 06000000 0100 0100 0100" + none + status,
		} {
			if m, err := command.Unmarshal(dimsetest.Hex(t, hex)); !errors.Is(err, command.ErrInvalid) {
				t.Errorf("%s, %s: %v, %v, want ErrInvalid", field, name, m, err)
			}
		}
	}
}

func TestErrorComment(t *testing.T) {
	for in, want := range map[string]string{
		strings.Repeat("x", 65): strings.Repeat("x", 64),
		"schräg\\\n":            "schr?g??",
		" padded ":              "padded",
		"   ":                   "",
	} {
		set, err := command.Marshal(&command.CStoreRSP{Status: command.StatusCannotUnderstand, ErrorComment: in})
		if err != nil {
			t.Fatal(err)
		}
		m, err := command.Unmarshal(set)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.(*command.CStoreRSP).ErrorComment; got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	_, err := command.Marshal(&command.CStoreRQ{AffectedSOPInstanceUID: dicom.UID(strings.Repeat("1", 5000))})
	if !errors.Is(err, command.ErrTooLong) {
		t.Errorf("a UID of 5,000 characters: %v", err)
	}
}

func TestRefuse(t *testing.T) {
	rq := &command.Generic{CommandField: command.FieldNActionRQ, RequestedSOPClassUID: "1.2", RequestedSOPInstanceUID: "1.3", MessageID: 8, DataSet: true}
	want := &command.Generic{CommandField: command.FieldNActionRSP, AffectedSOPClassUID: "1.2", AffectedSOPInstanceUID: "1.3", MessageIDBeingRespondedTo: 8, Status: command.StatusUnrecognizedOperation}
	if diff := cmp.Diff(want, rq.Refuse(command.StatusUnrecognizedOperation, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStatus(t *testing.T) {
	for _, test := range []struct {
		status  command.Status
		text    string
		warning bool
		failure bool
	}{
		{0x0000, "0000H (Success)", false, false},
		{0xA700, "A700H (Refused: out of resources)", false, true},
		{0xA7FF, "A7FFH (Refused: out of resources)", false, true},
		{0xA901, "A901H (Error: data set does not match SOP class)", false, true},
		{0xC123, "C123H (Error: cannot understand)", false, true},
		{0xB000, "B000H (Warning: coercion of data elements)", true, false},
		{0xB123, "B123H (Warning)", true, false},
		{0x0001, "0001H (Warning)", true, false},
		{0x0107, "0107H (Warning: attribute list error)", true, false},
		{0x0111, "0111H (Failure: duplicate SOP instance)", false, true},
		{0xFF00, "FF00H (Pending)", false, false},
		{0xFF01, "FF01H (Pending)", false, false},
		{0xFE00, "FE00H (Cancel)", false, false},
		{0x0999, "0999H (Failure)", false, true},
	} {
		if done := test.warning || test.status == command.StatusSuccess; test.status.IsDone() != done {
			t.Errorf("%s, done %t, want %t", test.status, !done, done)
		}
		if s := test.status; s.String() != test.text || s.IsWarning() != test.warning || s.IsFailure() != test.failure {
			t.Errorf("%s, warning %t, failure %t, want %+v", s, s.IsWarning(), s.IsFailure(), test)
		}
	}
	for f, want := range map[command.Field]string{0x0001: "C-STORE-RQ", 0x8030: "C-ECHO-RSP", 0x0777: "command field 0777H"} {
		if f.String() != want {
			t.Errorf("%q, want %q", f, want)
		}
	}
}

// Whatever arrives, decoding ends without a panic; what was decoded has a form
// that encoding and decoding no longer change, and that is no longer than what
// a command set may be.
func FuzzUnmarshal(f *testing.F) {
	for _, set := range goldenSets(f) {
		f.Add(set)
	}
	f.Add([]byte("\x00\x00\x00\x01\x02\x00\x00\x00\x30\x01\x00\x00\x00\x08\x02\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := command.Unmarshal(b)
		if err != nil {
			if !errors.Is(err, command.ErrInvalid) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if len(b) > command.MaxLength {
			t.Fatalf("%d bytes were decoded", len(b))
		}
		first, err := command.Marshal(m)
		if err != nil {
			if errors.Is(err, command.ErrTooLong) {
				return // elements that were absent are written
			}
			t.Fatalf("%s was decoded and does not encode: %v", m.Field(), err)
		}
		again, err := command.Unmarshal(first)
		if err != nil {
			t.Fatalf("our own encoding of %s: %v", m.Field(), err)
		}
		if again.Field() != m.Field() || again.HasDataSet() != m.HasDataSet() {
			t.Fatalf("%s became %s", m.Field(), again.Field())
		}
		second, err := command.Marshal(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s (error %v) keeps changing:\n%x\n%x", m.Field(), err, first, second)
		}
	})
}

func BenchmarkMarshal(b *testing.B) {
	m := &command.CStoreRSP{AffectedSOPClassUID: dicom.CTImageStorage, AffectedSOPInstanceUID: "1.2.3.4"}
	for b.Loop() {
		if _, err := command.Marshal(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	set := goldenSets(b)[0]
	for b.Loop() {
		if _, err := command.Unmarshal(set); err != nil {
			b.Fatal(err)
		}
	}
}
