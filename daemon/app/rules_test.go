package app_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"ichwatch/configs"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/tlsprofile"
)

// A destination may report without an entry of dicom.peers: from where it is called, in TLS where it is called in TLS, and
// only where the site has no entry about it.
func TestDestinationReportsFromWhereItIsCalled(t *testing.T) {
	const advised = "it is the AE title of a destination, which may report from where it is called"
	scanner := configs.Peer{Name: "ct1", AETitle: "CT1"}
	for name, test := range map[string]struct {
		address string
		peers   []configs.Peer
		says    string // of the refusal; empty: it is let in
	}{
		"from there":             {"127.0.0.1:104", []configs.Peer{scanner}, ""},
		"by name":                {"localhost:104", []configs.Peer{scanner}, ""},
		"from elsewhere":         {"192.0.2.1:104", []configs.Peer{scanner}, advised},
		"by the name of another": {"nobody.invalid:104", []configs.Peer{scanner}, advised},
		"a rule of the site":     {"127.0.0.1:104", []configs.Peer{scanner, {Name: "pacs", AETitle: "PACS", Addresses: []string{"192.0.2.1"}}}, "if it has moved"},
	} {
		t.Run(name, func(t *testing.T) {
			_, port, _ := net.SplitHostPort(test.address)
			cfg := config(t)
			cfg.DICOM.Peers = test.peers
			cfg.Destinations = []configs.Destination{requiring("pacs", port)}
			cfg.Destinations[0].Address, cfg.Destinations[0].Commitment.Address = test.address, test.address
			d := start(t, cfg)
			err := d.verify(t, dimse.Dialer{CallingAETitle: "PACS"}, d.port)
			if (err == nil) != (test.says == "") {
				t.Fatalf("Dial: %v", err)
			}
			d.stop()
			if !strings.Contains(d.log.String(), test.says) {
				t.Errorf("the log does not say %q", test.says)
			}
		})
	}
}

// verify opens an association that proposes nothing but Verification and storage commitment, and releases it.
func (d *daemon) verify(t *testing.T, dialer dimse.Dialer, port string) error {
	t.Helper()
	dialer.CalledAETitle = "ICHWATCH"
	for _, class := range []dicom.UID{dicom.Verification, dicom.StorageCommitmentPushModel} {
		dialer.Contexts = append(dialer.Contexts, dimse.ProposedContext{AbstractSyntax: class, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}})
	}
	a, err := dialer.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	return a.Release(t.Context())
}

// Who is called in TLS reports in TLS, also where a second port is open without.
func TestDestinationReportsInTLS(t *testing.T) {
	cfg := config(t)
	files := secured(t, cfg)
	theirs, err := tlsprofile.Open(files, discard)
	if err != nil {
		t.Fatal(err)
	}
	_, plain, _ := net.SplitHostPort(cfg.DICOM.TLS.PlainListen)
	cfg.DICOM.Peers = []configs.Peer{{Name: "ct1", AETitle: "CT1"}}
	cfg.Destinations = []configs.Destination{requiring("pacs", "104")}
	cfg.Destinations[0].TLS = configs.TLS{Enabled: true, CAFile: files.CA}
	cfg.Destinations[0].Commitment.Timeout = time.Hour
	d := start(t, cfg)
	if err := d.verify(t, dimse.Dialer{CallingAETitle: "PACS", NetDial: theirs.Dial("")}, d.port); err != nil {
		t.Errorf("in TLS: %v", err)
	}
	var rejected *dimse.RejectedError
	if err := d.verify(t, dimse.Dialer{CallingAETitle: "PACS"}, plain); !errors.As(err, &rejected) || rejected.Rejection != dimse.RejectCallingAETitle {
		t.Errorf("without: %v", err)
	}
	d.stop()
	if !strings.Contains(d.log.String(), "let it report in TLS too") {
		t.Error("the log does not say what to do")
	}
}
