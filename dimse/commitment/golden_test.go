package commitment_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// orthancs is what Orthanc has sent: a command set and its data set.
func orthancs(t testing.TB, name string) (command.Message, []byte, []byte) {
	t.Helper()
	text, err := os.ReadFile("../../testdata/commitment/orthanc-" + name + ".hex")
	if err != nil {
		t.Fatal(err)
	}
	set, dataSet, ok := strings.Cut(string(text), "# data set")
	if !ok {
		t.Fatal("no data set in the golden file")
	}
	b := dimsetest.Hex(t, set)
	m, err := command.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return m, b, dimsetest.Hex(t, dataSet)
}

// Orthanc's request reads as what it was asked to send, and is what we would send, byte for byte.
func TestGoldenRequest(t *testing.T) {
	ts := syntax(dicom.ImplicitVRLittleEndian)
	m, set, data := orthancs(t, "request")
	rq, ok := m.(*command.NActionRQ)
	if !ok || rq.RequestedSOPClassUID != dicom.StorageCommitmentPushModel || rq.ActionTypeID != 1 || !rq.DataSet {
		t.Fatalf("command %+v", m)
	}
	if again, err := command.Marshal(m); err != nil || !bytes.Equal(again, set) {
		t.Errorf("the command encodes to\n%x, %v, want\n%x", again, err, set)
	}
	got, err := commitment.ReadRequest(dimse.NActionRQ{
		SOPInstanceUID: rq.RequestedSOPInstanceUID, ActionTypeID: rq.ActionTypeID, TransferSyntax: ts,
	}, bytes.NewReader(data), commitment.Limits{References: 2})
	want := &commitment.Request{TransactionUID: "2.25.175183654840778430355199904971171371322", References: []commitment.Reference{
		{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2.3.4"}, {SOPClassUID: dicom.MRImageStorage, SOPInstanceUID: "1.2.3.45"},
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("%v\n%s", err, diff)
	}
	if again := got.Encode(ts); !bytes.Equal(again, data) {
		t.Errorf("the request encodes to\n%x, want\n%x", again, data)
	}
}

func TestGoldenReport(t *testing.T) {
	m, set, data := orthancs(t, "report")
	rq, ok := m.(*command.NEventReportRQ)
	if !ok || rq.AffectedSOPClassUID != dicom.StorageCommitmentPushModel || rq.EventTypeID != commitment.EventFailures || !rq.DataSet {
		t.Fatalf("command %+v", m)
	}
	if again, err := command.Marshal(m); err != nil || !bytes.Equal(again, set) {
		t.Errorf("the command encodes to\n%x, %v, want\n%x", again, err, set)
	}
	got, err := commitment.ReadResult(dimse.NEventReportRQ{
		SOPInstanceUID: rq.AffectedSOPInstanceUID, EventTypeID: rq.EventTypeID, TransferSyntax: syntax(dicom.ImplicitVRLittleEndian),
	}, bytes.NewReader(data), commitment.Limits{References: 1})
	want := &commitment.Result{TransactionUID: "1.2.3", Failed: []commitment.Failure{
		{Reference: commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2.3.4"}, Reason: command.StatusNoSuchSOPInstance},
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
