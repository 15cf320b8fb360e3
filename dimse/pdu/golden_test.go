package pdu_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

const goldenDir = "../../testdata/pdu"

// Every PDU that DCMTK sent decodes, and encodes to the bytes it came as.
func TestGoldenPDUs(t *testing.T) {
	types := map[pdu.Type]int{}
	for _, c := range dimsetest.Conversations(t, goldenDir) {
		for i, recorded := range c.PDUs {
			types[recorded.Type()]++
			want := canonical(recorded.Bytes)
			got, err := reencode(pdu.NewReader(bytes.NewReader(recorded.Bytes), pdu.DefaultMaximumLength))
			if err != nil {
				t.Errorf("%s, PDU %d: %v", c.Name, i+1, err)
			} else if !bytes.Equal(got, want) {
				t.Errorf("%s, PDU %d (%s) encodes to\n%x\nwant\n%x", c.Name, i+1, recorded.Type(), got, want)
			}
		}
	}
	for typ := pdu.TypeAssociateRQ; typ <= pdu.TypeAbort; typ++ {
		if types[typ] == 0 {
			t.Errorf("no golden file has a %s", typ)
		}
	}
}

// reencode reads all PDUs and encodes them again.
func reencode(r *pdu.Reader) ([]byte, error) {
	var out bytes.Buffer
	for {
		p, err := r.Next()
		if err == io.EOF {
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		if p.Type() != pdu.TypePDataTF {
			b, err := pdu.Append(nil, p)
			if err != nil {
				return nil, err
			}
			out.Write(b)
			continue
		}
		var pdvs [][]byte
		for {
			v, err := r.NextPDV()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, err
			}
			value, err := io.ReadAll(r)
			if err != nil {
				return nil, err
			}
			var control byte
			if v.Command {
				control |= dimsetest.Command
			}
			if v.Last {
				control |= dimsetest.LastData
			}
			pdvs = append(pdvs, dimsetest.PDV(v.ContextID, control, value))
		}
		out.Write(dimsetest.PData(pdvs...))
	}
}

// canonical clears the reserved byte of proposed contexts that DCMTK sets to
// FFH, where the answer has its result.
func canonical(b []byte) []byte {
	b = bytes.Clone(b)
	if pdu.Type(b[0]) != pdu.TypeAssociateRQ {
		return b
	}
	for at := 74; at < len(b); at += 4 + int(binary.BigEndian.Uint16(b[at+2:])) {
		if b[at] == 0x20 {
			b[at+6] = 0
		}
	}
	return b
}

func golden(t testing.TB, name string, typ pdu.Type) pdu.PDU {
	t.Helper()
	for _, c := range dimsetest.Conversations(t, goldenDir) {
		for _, p := range c.PDUs {
			if c.Name == name && p.Type() == typ {
				u, err := pdu.NewReader(bytes.NewReader(p.Bytes), 0).Next()
				if err != nil {
					t.Fatal(err)
				}
				return u
			}
		}
	}
	t.Fatalf("no %s in %s", typ, name)
	return nil
}

// What the golden PDUs mean is what we read in them.
func TestGoldenMeaning(t *testing.T) {
	ac := golden(t, "store", pdu.TypeAssociateAC)
	want := &pdu.AssociateAC{
		Associate: pdu.Associate{
			ProtocolVersion:    1,
			CalledAETitle:      pdu.AETitleField("ARCHIVE"),
			CallingAETitle:     pdu.AETitleField("SCANNER"),
			ApplicationContext: dicom.ApplicationContext,
		},
		PresentationContexts: []pdu.PresentationContextAC{
			{ID: 1, Result: pdu.Acceptance, TransferSyntax: dicom.ExplicitVRLittleEndian},
			{ID: 3, Result: pdu.Acceptance, TransferSyntax: dicom.ExplicitVRBigEndian},
		},
		UserInformation: pdu.UserInformation{
			MaximumLength:             16384,
			ImplementationClassUID:    "1.2.276.0.7230010.3.0.3.6.7",
			ImplementationVersionName: "OFFIS_DCMTK_367",
		},
	}
	if diff := cmp.Diff(want, ac); diff != "" {
		t.Errorf("A-ASSOCIATE-AC (-want +got):\n%s", diff)
	}

	rq := golden(t, "store-user-identity", pdu.TypeAssociateRQ).(*pdu.AssociateRQ)
	identity := &pdu.UserIdentity{
		Type: pdu.IdentityUsernamePasscode, PositiveResponseRequested: true,
		PrimaryField: []byte("scanner"), SecondaryField: []byte("secret"),
	}
	if diff := cmp.Diff(identity, rq.UserInformation.UserIdentity); diff != "" {
		t.Errorf("user identity (-want +got):\n%s", diff)
	}

	rq = golden(t, "get-role-selection", pdu.TypeAssociateRQ).(*pdu.AssociateRQ)
	if n := len(rq.UserInformation.RoleSelections); n < 100 {
		t.Errorf("%d role selections, want one for every storage SOP class", n)
	}
	for _, r := range rq.UserInformation.RoleSelections {
		if r.SCU || !r.SCP || r.SOPClassUID.Valid() != nil {
			t.Errorf("role selection %+v, want SCP", r)
		}
	}
	rq = golden(t, "store-all-contexts", pdu.TypeAssociateRQ).(*pdu.AssociateRQ)
	if n := len(rq.PresentationContexts); n < 100 || n > 128 {
		t.Errorf("a stock storescu proposes %d contexts", n)
	}
	rj := golden(t, "refused", pdu.TypeAssociateRJ).(*pdu.AssociateRJ)
	if *rj != (pdu.AssociateRJ{Result: pdu.RejectedPermanent, Source: pdu.SourceServiceUser, Reason: pdu.ReasonNoReasonGiven}) {
		t.Errorf("A-ASSOCIATE-RJ: %s", rj)
	}
}

// Cut anywhere, a golden conversation ends in io.ErrUnexpectedEOF, or in io.EOF
// between two PDUs.
func TestGoldenCutAnywhere(t *testing.T) {
	for _, c := range dimsetest.Conversations(t, goldenDir) {
		whole := c.Sent(true)
		if len(whole) > 4000 {
			continue // enough is enough
		}
		ends := map[int]bool{0: true}
		for i := 0; i < len(whole); {
			i += 6 + int(binary.BigEndian.Uint32(whole[i+2:]))
			ends[i] = true
		}
		for n := range whole {
			_, err := reencode(pdu.NewReader(bytes.NewReader(whole[:n]), 0))
			if ends[n] && err != nil || !ends[n] && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s cut at %d: %v", c.Name, n, err)
			}
		}
	}
}
