package app_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/identity"
	"ichwatch/dimse/pdu"
	"ichwatch/dimse/tlsprofile"
)

var discard = slog.New(slog.DiscardHandler)

// secured turns on TLS in a configuration, with certificates of a new authority, and returns the scanner's side.
func secured(t *testing.T, cfg *configs.Config) tlsprofile.Files {
	t.Helper()
	ca := dimsetest.NewCA(t, "site CA")
	scanner := tlsprofile.Files{CA: ca.File}
	scanner.Certificate, scanner.Key = ca.Issue("ct1.example.org")
	certificate, key := ca.Issue("ichwatch.example.org")
	cfg.DICOM.TLS = configs.ServerTLS{
		Enabled: true, CertificateFile: certificate, KeyFile: key, ClientCertificates: "require", ClientCAFile: ca.File,
		PlainListen: "127.0.0.1:" + dimsetest.FreePort(t),
	}
	return scanner
}

// The whole line in TLS, DCMTK at both ends: what arrives at the PACS is what the scanner sent. The plain door beside it
// is open too, health looks at both, and a user identity goes along.
func TestLineInTLS(t *testing.T) {
	cfg := config(t)
	scanner := secured(t, cfg)
	cfg.DICOM.Peers = []configs.Peer{
		{Name: "ct1", AETitle: "CT1", Addresses: []string{"127.0.0.0/8"}, CertificateNames: []string{"ct1.example.org"}, UserIdentity: "ignore"},
		{Name: "old", AETitle: "OLD", UserIdentity: "ignore"},
	}
	received, port := t.TempDir(), dimsetest.FreePort(t)
	pacs, err := tlsprofile.Open(scanner, discard)
	if err != nil {
		t.Fatal(err)
	}
	dimsetest.StartWith(t, pacs.Dial(""), port, "storescp", "+tls", scanner.Key, scanner.Certificate, "+cf", scanner.CA, "+B", "-od", received, port)
	dest := destination("storescp", port)
	dest.TLS = configs.TLS{Enabled: true, CAFile: scanner.CA, CertificateFile: cfg.DICOM.TLS.CertificateFile, KeyFile: cfg.DICOM.TLS.KeyFile}
	dest.Username, dest.PasscodeFile = "ichwatch", filepath.Join(t.TempDir(), "passcode")
	if err := os.WriteFile(dest.PasscodeFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Destinations = []configs.Destination{dest}
	d := start(t, cfg)

	files := writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Rows: 64, Columns: 64, Slices: 3})
	args := []string{"-R", "-xe", "+tls", scanner.Key, scanner.Certificate, "+cf", scanner.CA, "-aet", "CT1", "-aec", "ICHWATCH", "127.0.0.1", d.port}
	dimsetest.Run(t, "storescu", append(args, files...)...)
	eventually(t, "the PACS confirms", func() bool { return d.forwarded(t, len(files)) })
	atPACS, err := filepath.Glob(filepath.Join(received, "*"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "storescp", dataSets(t, atPACS...), dataSets(t, files...))

	_, plain, _ := net.SplitHostPort(cfg.DICOM.TLS.PlainListen)
	dimsetest.Run(t, "echoscu", "-aet", "OLD", "-aec", "ICHWATCH", "127.0.0.1", plain)
	if out, err := dimsetest.RunError(t, "echoscu", "-aet", "CT1", "-aec", "ICHWATCH", "127.0.0.1", plain); err == nil {
		t.Errorf("without its certificate CT1 was let in:\n%s", out)
	}
	if out, err := dimsetest.RunError(t, "echoscu", "-aet", "OLD", "-aec", "ICHWATCH", "127.0.0.1", d.port); err == nil {
		t.Errorf("without TLS:\n%s", out)
	}
	if status, r := d.report(t, "/healthz"); status != http.StatusOK || r.Parts["dicom"] != "ok" || r.Parts["dicom without tls"] != "ok" {
		t.Errorf("health: %d %+v", status, r)
	}
	if _, r := d.report(t, "/readyz"); !strings.Contains(r.Parts["certificate"], "expires on") { // tomorrow
		t.Errorf("readiness says of the certificate: %q", r.Parts["certificate"])
	}
	d.stop()
	for _, want := range []string{"it shows no certificate", "switch TLS on at the peer, or let it call " + cfg.DICOM.TLS.PlainListen, `"rule":"ct1"`, `"tls":"TLS 1.3"`} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log does not have %q", want)
		}
	}
	if strings.Contains(d.log.String(), "secret") {
		t.Error("the log has the passcode")
	}
}

// What the log advises is YAML, and lets in who was refused.
func TestAdviceIsYAMLThatHelps(t *testing.T) {
	for _, title := range []string{"CT2", "ct 2 'b'", "104", "no", "-", "A:B#C"} {
		cfg := config(t)
		cfg.DICOM.Peers = []configs.Peer{{Name: "ct1", AETitle: "CT1", UserIdentity: "ignore"}}
		d := start(t, cfg)
		echo := func(d *daemon) error {
			_, err := dimsetest.RunError(t, "echoscu", "-aet", title, "-aec", "ICHWATCH", "127.0.0.1", d.port)
			return err
		}
		if echo(d) == nil {
			t.Fatalf("%s was let in", title)
		}
		d.stop()
		advice := regexp.MustCompile(`"advice":"to let it in, add to dicom.peers: (- \{.*?\})"`).FindStringSubmatch(d.log.String())
		if advice == nil {
			t.Errorf("%s: no advice in the log:\n%s", title, d.log.String())
			continue
		}
		file, err := configs.Parse("ichwatch.yaml", fmt.Appendf(nil, "dicom:\n  peers:\n    - {name: ct1, ae_title: CT1}\n    %s\n", advice[1]))
		if err != nil {
			t.Errorf("%s: %s is no YAML for it: %v", title, advice[1], err)
			continue
		}
		again := config(t)
		again.DICOM.Peers = file.DICOM.Peers
		d = start(t, again)
		if err := echo(d); err != nil {
			t.Errorf("%s, with %s: %v", title, advice[1], err)
		}
		d.stop()
	}
}

// What is no AE title is no entry either, least of all one for anybody.
func TestAdviceForWhatIsNoAETitle(t *testing.T) {
	cfg := config(t)
	cfg.DICOM.Peers = []configs.Peer{{Name: "ct1", AETitle: "CT1", UserIdentity: "ignore"}}
	for _, title := range []dicom.AETitle{"", "CT\\2", "CT\x012"} {
		d := start(t, cfg)
		d.requestAs(t, title).ExpectPDU(pdu.TypeAssociateRJ)
		d.stop()
		if log := d.log.String(); strings.Contains(log, "add to dicom.peers") || !strings.Contains(log, "set a calling AE title at the peer") {
			t.Errorf("%q is advised:\n%s", title, log)
		}
	}
}

// requestAs requests an association under a calling AE title that no Dialer would send.
func (d *daemon) requestAs(t *testing.T, title dicom.AETitle) *dimsetest.Peer {
	t.Helper()
	p := dimsetest.Dial(t, net.JoinHostPort("127.0.0.1", d.port))
	p.SendPDU(&pdu.AssociateRQ{
		Associate: pdu.Associate{
			ProtocolVersion: 1, CalledAETitle: pdu.AETitleField("ICHWATCH"), CallingAETitle: pdu.AETitleField(title), ApplicationContext: dicom.ApplicationContext,
		},
		PresentationContexts: []pdu.PresentationContextRQ{{ID: 1, AbstractSyntax: dicom.Verification, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}}},
	})
	return p
}

// A scanner that can have no AE title gets in by what the log says: the key, and where there are rules an entry.
func TestBlankCallingAETitle(t *testing.T) {
	cfg := config(t)
	for _, step := range []struct {
		says string // of the log; empty: it is let in
		mend func(entry string)
	}{
		{"dicom.accept_blank_calling_ae: true", func(string) {
			cfg.DICOM.AcceptBlankCallingAE = true
		}},
		{"", func(string) {
			cfg.DICOM.Peers = []configs.Peer{{Name: "ct1", AETitle: "CT1"}}
		}},
		{"for every AE title from there: - {", func(entry string) {
			changed, err := configs.Parse("ichwatch.yaml", []byte("dicom:\n  accept_blank_calling_ae: true\n  peers: ["+entry+"]\n"))
			if err != nil {
				t.Fatal(err)
			}
			cfg.DICOM.Peers = append(cfg.DICOM.Peers, changed.DICOM.Peers...)
		}},
		{"", func(string) {}},
	} {
		d := start(t, cfg)
		want := pdu.TypeAssociateRJ
		if step.says == "" {
			want = pdu.TypeAssociateAC
		}
		d.requestAs(t, "").ExpectPDU(want)
		d.stop()
		if step.says != "" && !strings.Contains(d.log.String(), step.says) {
			t.Errorf("the log does not say %q:\n%s", step.says, d.log)
		}
		step.mend(regexp.MustCompile(`\{name: blank.*?\}`).FindString(d.log.String()))
	}
}

// A scanner that must say who it is.
func TestUsers(t *testing.T) {
	line, err := identity.Line("ct1", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.DICOM.UsersFile = filepath.Join(t.TempDir(), "users")
	cfg.DICOM.Peers = []configs.Peer{{Name: "ct1", AETitle: "CT1", UserIdentity: "require"}}
	if err := os.WriteFile(cfg.DICOM.UsersFile, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, cfg)
	files := writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Rows: 64, Columns: 64, Slices: 3})
	send := func(passcode string) error {
		args := []string{"-R", "-xe", "-usr", "ct1", "-pwd", passcode, "-rsp", "-aet", "CT1", "-aec", "ICHWATCH", "127.0.0.1", d.port}
		_, err := dimsetest.RunError(t, "storescu", append(args, files...)...)
		return err
	}
	if send("guess") == nil {
		t.Error("a wrong passcode was taken")
	}
	if err := send("secret"); err != nil {
		t.Errorf("the right passcode: %v", err)
	}
	d.stop()
	if text := d.log.String(); strings.Contains(text, "guess") || strings.Contains(text, "secret") || !strings.Contains(text, "ichwatch hash-passcode") {
		t.Error("the log has a passcode, or no advice")
	}
}

// What cannot be used is found by check-config, and at the start.
func TestSecurityThatCannotBeUsed(t *testing.T) {
	other := dimsetest.NewCA(t, "other CA")
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, key, want string
		change          func(*configs.Config)
		starts          bool
	}{
		{"key of another certificate", "dicom.tls", "private key", func(c *configs.Config) { _, c.DICOM.TLS.KeyFile = other.Issue("x") }, false},
		{"authority that is none", "dicom.tls", "holds none", func(c *configs.Config) { c.DICOM.TLS.ClientCAFile = bad }, false},
		{"expired certificate", "dicom.tls.certificate_file", "has expired", func(c *configs.Config) {
			c.DICOM.TLS.CertificateFile, c.DICOM.TLS.KeyFile = other.Issue("old", dimsetest.Expired)
		}, true},
		{"users", "dicom.users_file", "line 1", func(c *configs.Config) { c.DICOM.UsersFile = bad }, false},
		{"destination's authority", "destinations[0]", "holds none", func(c *configs.Config) { c.Destinations[0].TLS = configs.TLS{Enabled: true, CAFile: bad} }, false},
		{"destination's passcode", "destinations[0]", "1 to 256 bytes", func(c *configs.Config) {
			c.Destinations[0].Username, c.Destinations[0].PasscodeFile = "x", os.DevNull
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t)
			secured(t, cfg)
			cfg.Destinations = []configs.Destination{destination("pacs", "104")}
			test.change(cfg)
			problems, warnings := app.CheckSecurity(cfg)
			found := false
			for _, p := range append(problems, warnings...) {
				found = found || p.Key == test.key && strings.Contains(p.Wrong, test.want)
			}
			if (len(problems) == 0) != test.starts {
				t.Errorf("check-config says %v", problems)
			}
			if !found || strings.Contains(problems.Error(), "hunter2") {
				t.Errorf("check-config says %v, want %s: ...%s", problems, test.key, test.want)
			}
			d, err := app.New(t.Context(), cfg, app.Options{Log: discard})
			if err == nil {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
			if (err == nil) != test.starts || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("the daemon starts: %t, with %v", err == nil, err)
			}
		})
	}
}
