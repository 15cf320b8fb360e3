package commitment_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

var syntaxes = []dicom.UID{
	dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian, dicom.ExplicitVRBigEndian, dicom.DeflatedExplicitVRLittleEndian,
}

func syntax(uid dicom.UID) dicom.TransferSyntax {
	ts, _ := dicom.LookupTransferSyntax(uid)
	return ts
}

func action(ts dicom.TransferSyntax) dimse.NActionRQ {
	return dimse.NActionRQ{SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest, TransferSyntax: ts}
}

func event(ts dicom.TransferSyntax, r *commitment.Result) dimse.NEventReportRQ {
	return dimse.NEventReportRQ{SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, EventTypeID: r.EventTypeID(), TransferSyntax: ts}
}

var uids = rapid.Custom(func(t *rapid.T) dicom.UID {
	return dicom.UID(rapid.StringMatching(`[12](\.[1-9][0-9]{0,8}){1,6}`).Draw(t, "uid"))
})

var references = rapid.Custom(func(t *rapid.T) commitment.Reference {
	return commitment.Reference{SOPClassUID: uids.Draw(t, "class"), SOPInstanceUID: uids.Draw(t, "instance")}
})

// What is written is read as it was, in every syntax, however it arrives.
func TestRoundTrip(t *testing.T) {
	limits := commitment.Limits{References: 40}
	rapid.Check(t, func(t *rapid.T) {
		ts := syntax(rapid.SampledFrom(syntaxes).Draw(t, "syntax"))
		rq := &commitment.Request{TransactionUID: uids.Draw(t, "transaction"), References: rapid.SliceOfN(references, 1, 40).Draw(t, "references")}
		b := rq.Encode(ts)
		got, err := commitment.ReadRequest(action(ts), iotest.OneByteReader(bytes.NewReader(b)), limits)
		if diff := cmp.Diff(rq, got); err != nil || diff != "" || len(b)%2 == 1 {
			t.Fatalf("request of %d bytes: %v\n%s", len(b), err, diff)
		}

		r := &commitment.Result{TransactionUID: rq.TransactionUID, Committed: rapid.SliceOfN(references, 0, 20).Draw(t, "committed")}
		for range rapid.IntRange(0, 20).Draw(t, "failed") {
			r.Failed = append(r.Failed, commitment.Failure{Reference: references.Draw(t, "failed"), Reason: command.Status(rapid.Uint16().Draw(t, "reason"))})
		}
		result, err := commitment.ReadResult(event(ts, r), bytes.NewReader(r.Encode(ts)), limits)
		if len(r.Committed) == 0 {
			r.Committed = nil
		}
		if diff := cmp.Diff(r, result); err != nil || diff != "" {
			t.Fatalf("result: %v\n%s", err, diff)
		}
	})
}

// The bytes of PS3.5 by hand: one reference, with a failure, in three encodings.
func TestEncoding(t *testing.T) {
	request := &commitment.Request{TransactionUID: "1.2.3", References: []commitment.Reference{{"1.2", "1.3.4"}}}
	result := &commitment.Result{TransactionUID: "1.2.3", Failed: []commitment.Failure{{commitment.Reference{"1.2", "1.3.4"}, command.StatusNoSuchSOPInstance}}}
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"implicit little endian", request.Encode(syntax(dicom.ImplicitVRLittleEndian)), `
			0800 9511 06000000 312e322e3300       # Transaction UID
			0800 9911 22000000                    # Referenced SOP Sequence
			feff 00e0 1a000000                    # item
			0800 5011 04000000 312e3200           # Referenced SOP Class UID
			0800 5511 06000000 312e332e3400       # Referenced SOP Instance UID`},
		{"explicit little endian", result.Encode(syntax(dicom.ExplicitVRLittleEndian)), `
			0800 9511 5549 0600 312e322e3300
			0800 9811 5351 0000 2c000000          # Failed SOP Sequence
			feff 00e0 24000000
			0800 5011 5549 0400 312e3200
			0800 5511 5549 0600 312e332e3400
			0800 9711 5553 0200 1201              # Failure Reason 0112H`},
		{"explicit big endian", result.Encode(syntax(dicom.ExplicitVRBigEndian)), `
			0008 1195 5549 0006 312e322e3300
			0008 1198 5351 0000 0000002c
			fffe e000 00000024
			0008 1150 5549 0004 312e3200
			0008 1155 5549 0006 312e332e3400
			0008 1197 5553 0002 0112`},
	} {
		if want := dimsetest.Hex(t, test.want); !bytes.Equal(test.got, want) {
			t.Errorf("%s:\n%x\nwant\n%x", test.name, test.got, want)
		}
	}
}

// What the peer is told of what it must not send. The bounds on the number of references are exact.
func TestRefused(t *testing.T) {
	ele := syntax(dicom.ExplicitVRLittleEndian)
	limits := commitment.Limits{References: 2}
	one := commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2.3"}
	request := func(uid dicom.UID, rs ...commitment.Reference) []byte {
		return (&commitment.Request{TransactionUID: uid, References: rs}).Encode(ele)
	}
	for _, test := range []struct {
		name string
		data []byte
		want command.Status // Success: accepted
	}{
		{"two references", request("1.2", one, one), command.StatusSuccess},
		{"three references", request("1.2", one, one, one), command.StatusResourceLimitation},
		{"no SOP class", request("1.2", commitment.Reference{SOPInstanceUID: "1.2.3"}), command.StatusInvalidArgumentValue},
		{"SOP instance that is no UID", request("1.2", commitment.Reference{SOPClassUID: "1.2", SOPInstanceUID: "../etc"}), command.StatusInvalidArgumentValue},
		{"transaction of 65 characters", request(dicom.UID("1."+strings.Repeat("1", 63)), one), command.StatusInvalidArgumentValue},
		{"no transaction", request("", one), command.StatusInvalidArgumentValue},
	} {
		_, err := commitment.ReadRequest(action(ele), bytes.NewReader(test.data), limits)
		var refused *commitment.RefusedError
		switch {
		case test.want == command.StatusSuccess && err == nil:
		case !errors.As(err, &refused) || refused.Status != test.want || refused.Response().ErrorComment == "":
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	broken := errors.New("broken")
	if _, err := commitment.ReadRequest(action(ele), io.MultiReader(bytes.NewReader(request("1.2")), iotest.ErrReader(broken)), limits); !errors.Is(err, broken) {
		t.Errorf("an association that breaks: %v", err)
	}
	// A failure without a reason is one all the same.
	item := dimsetest.Hex(t, "0800 9511 5549 0400 312e3200  0800 9811 5351 0000 20000000 feff00e0 18000000 0800 5011 5549 0400 312e3200 0800 5511 5549 0400 312e3300")
	r, err := commitment.ReadResult(event(ele, &commitment.Result{}), bytes.NewReader(item), limits)
	if err != nil || len(r.Failed) != 1 || r.Failed[0].Reason != command.StatusProcessingFailure {
		t.Errorf("failure without a reason: %+v, %v", r, err)
	}
}

// FuzzRead: whatever arrives is refused with a status or within the limits, and what was read is written and read the
// same.
func FuzzRead(f *testing.F) {
	one := commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2.3"}
	for n, uid := range syntaxes {
		f.Add(uint8(n), (&commitment.Request{TransactionUID: "1.2.3", References: []commitment.Reference{one, one}}).Encode(syntax(uid)))
		f.Add(uint8(n), (&commitment.Result{TransactionUID: "1.2.3", Committed: []commitment.Reference{one}, Failed: []commitment.Failure{{Reference: one, Reason: 0x0112}}}).Encode(syntax(uid)))
	}
	for _, name := range []string{"request", "report"} {
		_, _, data := orthancs(f, name)
		f.Add(uint8(0), data)
	}
	limits := commitment.Limits{References: 8}
	f.Fuzz(func(t *testing.T, n uint8, in []byte) {
		ts := syntax(syntaxes[int(n)%len(syntaxes)])
		rq, err := commitment.ReadRequest(action(ts), bytes.NewReader(in), limits)
		var refused *commitment.RefusedError
		if err != nil && (!errors.As(err, &refused) || refused.Status == command.StatusSuccess) {
			t.Fatalf("refused with %v", err)
		}
		if err == nil {
			if len(rq.References) == 0 || len(rq.References) > limits.References || rq.TransactionUID.Valid() != nil {
				t.Fatalf("accepted %+v", rq)
			}
			again, err := commitment.ReadRequest(action(ts), bytes.NewReader(rq.Encode(ts)), limits)
			if diff := cmp.Diff(rq, again); err != nil || diff != "" {
				t.Fatalf("%v\n%s", err, diff)
			}
		}
		r, err := commitment.ReadResult(event(ts, &commitment.Result{}), bytes.NewReader(in), limits)
		if err != nil {
			return
		}
		if len(r.Committed)+len(r.Failed) > limits.References {
			t.Fatalf("%d references", len(r.Committed)+len(r.Failed))
		}
		again, err := commitment.ReadResult(event(ts, r), bytes.NewReader(r.Encode(ts)), limits)
		if diff := cmp.Diff(r, again); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

// What a request names many times is asked for once.
func TestRequestNamesEachInstanceOnce(t *testing.T) {
	ts, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
	one, two := commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2.3"}, commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2.4"}
	rq := &commitment.Request{TransactionUID: "1.9", References: []commitment.Reference{two, one, two, one, one}}
	got, err := commitment.ReadRequest(dimse.NActionRQ{
		SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest, TransferSyntax: ts,
	}, bytes.NewReader(rq.Encode(ts)), commitment.Limits{References: 10})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]commitment.Reference{two, one}, got.References); diff != "" {
		t.Error(diff)
	}
}
