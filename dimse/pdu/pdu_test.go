package pdu_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// associateRQ has every item that PS3.8 and PS3.7 define for a request.
func associateRQ() *pdu.AssociateRQ {
	return &pdu.AssociateRQ{
		Associate: pdu.Associate{
			ProtocolVersion:    1,
			CalledAETitle:      pdu.AETitleField("ICHWATCH"),
			CallingAETitle:     pdu.AETitleField("SCANNER"),
			ApplicationContext: dicom.ApplicationContext,
		},
		PresentationContexts: []pdu.PresentationContextRQ{
			{ID: 1, AbstractSyntax: "1.2", TransferSyntaxes: []dicom.UID{"1.2.1", "1.2.2"}},
			{ID: 255, AbstractSyntax: "1.3", TransferSyntaxes: []dicom.UID{"1.2.1"}},
		},
		UserInformation: pdu.UserInformation{
			MaximumLength:             0,
			ImplementationClassUID:    "1.9",
			AsynchronousOperations:    &pdu.AsynchronousOperations{Invoked: 8, Performed: 0},
			RoleSelections:            []pdu.RoleSelection{{SOPClassUID: "1.2", SCU: true}, {SOPClassUID: "1.3", SCP: true}},
			ImplementationVersionName: "TEST",
			ExtendedNegotiations:      []pdu.ExtendedNegotiation{{SOPClassUID: "1.2", Information: []byte{2, 0, 1}}},
			CommonExtended: []pdu.CommonExtendedNegotiation{
				{SOPClassUID: "1.2", ServiceClassUID: "1.4", RelatedGeneralSOPClassUIDs: []dicom.UID{"1.5", "1.6"}},
				{SOPClassUID: "1.3", ServiceClassUID: "1.4"},
			},
			UserIdentity: &pdu.UserIdentity{Type: pdu.IdentityJWT, PrimaryField: []byte("token"), SecondaryField: []byte{}},
		},
	}
}

func TestRoundTripOfEveryItem(t *testing.T) {
	ac := &pdu.AssociateAC{
		Associate:            associateRQ().Associate,
		PresentationContexts: []pdu.PresentationContextAC{{ID: 1, TransferSyntax: "1.2.1"}, {ID: 255, Result: pdu.AbstractSyntaxNotSupported}},
		UserInformation:      pdu.UserInformation{MaximumLength: 1 << 31, UserIdentityResponse: []byte("ticket")},
	}
	for _, want := range []pdu.PDU{associateRQ(), ac, &pdu.AssociateRJ{Result: 2, Source: 3, Reason: 2}, &pdu.ReleaseRQ{}, &pdu.ReleaseRP{}, &pdu.Abort{Source: 2, Reason: 6}} {
		got, err := pdu.NewReader(bytes.NewReader(dimsetest.Encode(t, want)), 0).Next()
		if err != nil {
			t.Errorf("%s: %v", want.Type(), err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Type(), diff)
		}
	}
}

// The items that DCMTK does not send, byte by byte as PS3.7 Annex D has them.
func TestUserInformationItems(t *testing.T) {
	tests := []struct {
		name, hex string
		want      pdu.UserInformation
	}{
		{"asynchronous operations window, Table D.3-7", "5300 0004 0003 0005", pdu.UserInformation{
			AsynchronousOperations: &pdu.AsynchronousOperations{Invoked: 3, Performed: 5},
		}},
		{"SOP class extended negotiation, Table D.3-11", "5600 0008 0003 312e32 020001", pdu.UserInformation{
			ExtendedNegotiations: []pdu.ExtendedNegotiation{{SOPClassUID: "1.2", Information: []byte{2, 0, 1}}},
		}},
		{"common extended negotiation, Table D.3-12", "5700 0011 0003 312e32 0003 312e34 0005 0003 312e35", pdu.UserInformation{
			CommonExtended: []pdu.CommonExtendedNegotiation{{SOPClassUID: "1.2", ServiceClassUID: "1.4", RelatedGeneralSOPClassUIDs: []dicom.UID{"1.5"}}},
		}},
		{"user identity server response, Table D.3-15", "5900 0004 0002 6f6b", pdu.UserInformation{UserIdentityResponse: []byte("ok")}},
		{"an item of the future", "7f00 0003 010203", pdu.UserInformation{}},
	}
	for _, test := range tests {
		item := dimsetest.Hex(t, test.hex)
		want := test.want
		want.MaximumLength = pdu.DefaultMaximumLength // none was sent
		p, err := pdu.NewReader(bytes.NewReader(withUserInformation(item)), 0).Next()
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(want, p.(*pdu.AssociateAC).UserInformation); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func withUserInformation(items []byte) []byte {
	return associate(append([]byte{0x50, 0, byte(len(items) >> 8), byte(len(items))}, items...))
}

// associate is an A-ASSOCIATE-AC with the given items.
func associate(items []byte) []byte {
	n := len(items) + 68
	b := append([]byte{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n), 0, 1}, make([]byte, 66)...)
	return append(b, items...)
}

func TestMalformed(t *testing.T) {
	deep := bytes.Repeat([]byte{0x21, 0, 0, 4, 1, 0, 0, 0}, 129)
	tests := []struct{ name, hex string }{
		{"unknown type", "08 00 00000004 00000000"},
		{"type 0", "00 00 00000004 00000000"},
		{"RQ claims 4 GiB", "01 00 ffffffff 0001"},
		{"RQ claims more than we accept", "01 00 00020001 0001"},
		{"RQ shorter than its fixed fields", "01 00 00000002 0001"},
		{"RJ of 5 bytes", "03 00 00000005 0001010100"},
		{"RJ claims 4 GiB", "03 00 ffffffff"},
		{"release of 0 bytes", "05 00 00000000"},
		{"P-DATA-TF without a PDV", "04 00 00000000"},
		{"P-DATA-TF longer than offered", "04 00 00000401"},
		{"PDV header cut", "04 00 00000005 00000002 01"},
		{"PDV of length 1", "04 00 00000006 00000001 0103"},
		{"PDV of length 0", "04 00 00000006 00000000 0103"},
		{"PDV claims 4 GiB", "04 00 00000006 ffffffff 0103"},
		{"PDV longer than its PDU", "04 00 00000008 00000005 0103 0000"},
		{"bytes after the last PDV", "04 00 00000009 00000003 0103 00 0000"},
	}
	for _, test := range tests {
		if _, err := reencode(pdu.NewReader(bytes.NewReader(dimsetest.Hex(t, test.hex)), 1024)); !errors.Is(err, pdu.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", test.name, err)
		}
	}
	items := []struct {
		name  string
		items []byte
	}{
		{"item header cut", []byte{0x10, 0, 0}},
		{"item longer than the PDU", []byte{0x10, 0, 0xff, 0xff, '1'}},
		{"two application contexts", []byte{0x10, 0, 0, 0, 0x10, 0, 0, 0}},
		{"two user information items", []byte{0x50, 0, 0, 0, 0x50, 0, 0, 0}},
		{"context of 3 bytes", []byte{0x21, 0, 0, 3, 1, 0, 0}},
		{"129 contexts", deep},
		{"maximum length of 3 bytes", []byte{0x50, 0, 0, 7, 0x51, 0, 0, 3, 1, 2, 3}},
		{"maximum length of 5 bytes", []byte{0x50, 0, 0, 9, 0x51, 0, 0, 5, 1, 2, 3, 4, 5}},
		{"role selection's UID longer than the item", []byte{0x50, 0, 0, 8, 0x54, 0, 0, 4, 0xff, 0xff, 0, 0}},
		{"related classes cut", []byte{0x50, 0, 0, 11, 0x57, 0, 0, 7, 0, 0, 0, 0, 0, 1, 0}},
	}
	for _, test := range items {
		if _, err := pdu.NewReader(bytes.NewReader(associate(test.items)), 0).Next(); !errors.Is(err, pdu.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", test.name, err)
		}
	}
	_, err := pdu.NewReader(strings.NewReader("\x08\x00\x00\x00\x00\x00"), 0).Next()
	if !errors.Is(err, pdu.ErrUnrecognized) {
		t.Errorf("unknown type: %v, want ErrUnrecognized", err)
	}
}

// Promise 6: a length that a peer claims costs no memory.
func TestPromise6_ClaimsAllocateNothing(t *testing.T) {
	claims := []string{
		"01 00 00020000 0001",          // 128 KiB of A-ASSOCIATE-RQ, 2 bytes of it sent
		"04 00 ffffffff fffffffb 0102", // 4 GiB of P-DATA-TF, no limit offered
	}
	for _, claim := range claims {
		b := dimsetest.Hex(t, claim)
		r := pdu.NewReader(bytes.NewReader(b), 0)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := r.Next()
		for err == nil {
			_, err = r.NextPDV()
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
		}
		runtime.ReadMemStats(&after)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v, want io.ErrUnexpectedEOF", claim, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 32<<10 {
			t.Errorf("%s: %d bytes allocated for a claim", claim, n)
		}
	}
}

func TestSkippingWhatIsUnread(t *testing.T) {
	stream := bytes.Join([][]byte{
		dimsetest.PData(dimsetest.PDV(1, dimsetest.Command, make([]byte, 100)), dimsetest.PDV(1, dimsetest.LastCommand, []byte("ab"))),
		dimsetest.PData(dimsetest.PDV(1, dimsetest.LastData, []byte("cd"))),
		dimsetest.Encode(t, &pdu.ReleaseRQ{}),
	}, nil)
	r := pdu.NewReader(bytes.NewReader(stream), 0)
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read before the first PDV: %v", err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if v, err := r.NextPDV(); err != nil || v.Length != 100 || v.Last {
		t.Fatalf("first PDV %+v, %v", v, err)
	}
	v, err := r.NextPDV()
	if err != nil || v != (pdu.PDV{ContextID: 1, Command: true, Last: true, Length: 2}) {
		t.Fatalf("second PDV %+v, %v", v, err)
	}
	if _, err := r.Next(); err != nil { // skips "ab"
		t.Fatal(err)
	}
	if p, err := r.Next(); err != nil || p.Type() != pdu.TypeReleaseRQ { // skips the PDV whole
		t.Fatalf("%v, %v", p, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

// countingWriter counts the writes, each of which would be a system call.
type countingWriter struct {
	bytes.Buffer
	writes int
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.writes++
	return w.Buffer.Write(b)
}

func TestWriterKeepsToThePeersMaximum(t *testing.T) {
	dataSet := make([]byte, 300_000)
	for i := range dataSet {
		dataSet[i] = byte(i >> 3)
	}
	for _, maximum := range []uint32{0, 8, 9, 100, 4096, 16384, 131072, 1 << 31} {
		for _, size := range []int{0, 2, 84, 86, 94, 96, len(dataSet)} {
			if maximum < 100 && size > 1000 {
				continue
			}
			var out countingWriter
			w := pdu.NewWriter(&out)
			if err := w.SetMaxLength(maximum); err != nil {
				t.Fatal(err)
			}
			set := []byte("0123456789")
			if err := w.WriteCommand(3, set); err != nil {
				t.Fatal(err)
			}
			n, err := w.WriteDataSet(3, bytes.NewReader(dataSet[:size]))
			if err != nil || n != int64(size) {
				t.Fatalf("maximum %d, size %d: wrote %d, %v", maximum, size, n, err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if limit := 1 + (out.Len()-1)/(32<<10); out.writes > limit {
				t.Errorf("maximum %d, size %d: %d writes for %d bytes", maximum, size, out.writes, out.Len())
			}
			commands, data := split(t, out.Bytes(), maximum)
			if !bytes.Equal(commands, set) || !bytes.Equal(data, dataSet[:size]) {
				t.Errorf("maximum %d, size %d: what was written reads back otherwise", maximum, size)
			}
		}
	}
	if err := pdu.NewWriter(io.Discard).SetMaxLength(7); err == nil {
		t.Error("a maximum length of 7 leaves one byte, and was accepted")
	}
}

// split reads the command and the data set of one message back, checking that
// every PDU keeps to the maximum, that fragments are even, and that the last
// ones, and only they, say so.
func split(t *testing.T, b []byte, maximum uint32) (command, data []byte) {
	t.Helper()
	r := pdu.NewReader(bytes.NewReader(b), maximum)
	var commandEnded, dataEnded bool
	for {
		p, err := r.Next()
		if err == io.EOF {
			if !commandEnded || !dataEnded {
				t.Errorf("no last fragment: command %t, data %t", commandEnded, dataEnded)
			}
			return command, data
		}
		if err != nil || p.Type() != pdu.TypePDataTF {
			t.Fatalf("%v, %v", p, err)
		}
		v, err := r.NextPDV()
		if err != nil {
			t.Fatal(err)
		}
		value, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if v.ContextID != 3 || len(value)%2 != 0 || commandEnded == v.Command || dataEnded {
			t.Fatalf("PDV %+v out of place", v)
		}
		if v.Command {
			command, commandEnded = append(command, value...), v.Last
		} else {
			data, dataEnded = append(data, value...), v.Last
		}
	}
}

func TestWriterErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	var source *pdu.SourceError
	w := pdu.NewWriter(io.Discard)
	_, err := w.WriteDataSet(1, io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(broken)))
	if !errors.As(err, &source) || !errors.Is(err, broken) {
		t.Errorf("a source that fails: %v", err)
	}
	if _, err := w.WriteDataSet(1, strings.NewReader("abc")); !errors.Is(err, pdu.ErrOddLength) {
		t.Errorf("three bytes: %v", err)
	}
	if _, err := pdu.Append(nil, &pdu.PDataTF{}); err == nil {
		t.Error("Append encoded a P-DATA-TF")
	}
	rq := associateRQ()
	rq.UserInformation.UserIdentity.PrimaryField = make([]byte, 70_000)
	if _, err := pdu.Append(nil, rq); err == nil {
		t.Error("Append encoded a field of 70,000 bytes")
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		pdu.TypePDataTF.String(): "P-DATA-TF",
		pdu.Type(9).String():     "PDU type 09H",
		pdu.AssociateRJ{Result: 1, Source: 1, Reason: 7}.String(): "rejected-permanent, service-user, called-AE-title-not-recognized",
		pdu.AssociateRJ{Result: 2, Source: 3, Reason: 2}.String(): "rejected-transient, service-provider (presentation), local-limit-exceeded",
		pdu.AssociateRJ{Result: 9, Source: 9, Reason: 9}.String(): "result 9, source 9, reason 9",
		pdu.Abort{Source: 2, Reason: 6}.String():                  "service-provider, invalid-PDU-parameter-value",
		pdu.Abort{}.String():                                      "service-user",
		pdu.TransferSyntaxesNotSupported.String():                 "transfer-syntaxes-not-supported",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
