package app

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"ichwatch/configs"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// The page shows who called last, under the names of the configuration, who was
// refused and why, and who has not called yet; strangers with made-up titles fill
// no memory.
func TestPeersLastSeen(t *testing.T) {
	var p peers
	s := &dimse.Server{
		Admit: func(_ context.Context, rq dimse.AssociateRequestInfo) *dimse.Rejection {
			if rq.CallingAETitle == "FULL" {
				return &dimse.RejectTemporaryCongestion
			}
			return nil
		},
		Advise: func(dimse.Refusal) string { return "advice" },
	}
	p.watch(s)
	at := func(title, ip string) dimse.AssociateRequestInfo {
		return dimse.AssociateRequestInfo{RemoteAddr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1234}, CallingAETitle: dicom.AETitle(title)}
	}
	if s.Admit(t.Context(), at("CT1", "192.0.2.10")) != nil || s.Admit(t.Context(), at("FULL", "192.0.2.11")) == nil {
		t.Error("who watches must change nothing")
	}
	if s.Advise(dimse.Refusal{AssociateRequestInfo: at("CT2", "192.0.2.12"), Cause: dimse.CauseCallingAETitle}) != "advice" {
		t.Error("the advice is lost")
	}
	got := map[string]string{}
	for _, peer := range p.list([]configs.Peer{{Name: "ct1", AETitle: "CT1"}, {Name: "mr", AETitle: "MR", Addresses: []string{"192.0.2.20"}}}) {
		got[peer.AETitle] = fmt.Sprint(peer.Name, " ", peer.Address, " ", peer.Seen.IsZero(), " ", peer.Refused != "")
	}
	want := map[string]string{"CT1": "ct1 192.0.2.10 false false", "FULL": " 192.0.2.11 false true", "CT2": " 192.0.2.12 false true", "MR": "mr 192.0.2.20 true false"}
	for title, line := range want {
		if got[title] != line {
			t.Errorf("%s: %q, want %q", title, got[title], line)
		}
	}
	for i := range 10 * mostCalls {
		s.Advise(dimse.Refusal{AssociateRequestInfo: at(fmt.Sprint("X", i), "192.0.2.13")})
	}
	if n := len(p.list(nil)); n != mostCalls {
		t.Errorf("%d calls are remembered", n)
	}
}

func TestNamesOfPatients(t *testing.T) {
	for in, want := range map[string]string{
		"Example^Erika": "Example, Erika", "Example": "Example", "Example^Erika^M^Dr": "Example, Erika M Dr", "Example^^^": "Example",
		"Yamada^Tarou=山田^太郎": "Yamada, Tarou", "": "",
	} {
		if got := personName(in); got != want {
			t.Errorf("%q is written %q, want %q", in, got, want)
		}
	}
	if got := text("M\xfcller", true); got != "Müller" {
		t.Errorf("Latin-1: %q", got)
	}
	if got := text("Müller", false); got != "Müller" {
		t.Errorf("UTF-8: %q", got)
	}
	if got := text("M\xfcller", false); !strings.HasPrefix(got, "M\uFFFD") {
		t.Errorf("another set: %q", got)
	}
}
