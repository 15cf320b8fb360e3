package configs_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ichwatch/configs"
)

var update = flag.Bool("update", false, "rewrite want.txt of the bad configurations; read the difference")

const badConfigurations = "../testdata/configs"

// One folder per kind of mistake: the file as a technician might write it, and
// every word of the answer.
func TestBadConfigurations(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(badConfigurations, "*", "ichwatch.yaml"))
	if err != nil || len(folders) < 20 {
		t.Fatalf("found %d configurations in %s, %v", len(folders), badConfigurations, err)
	}
	for _, file := range folders {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := configs.Parse("ichwatch.yaml", data)
			if err == nil || c != nil {
				t.Fatalf("accepted, as %+v", c)
			}
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(filepath.Join(dir, "want.txt"), []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(filepath.Join(dir, "want.txt"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	c := configs.Default()
	got := []any{
		c.DICOM.AETitle, c.DICOM.Listen, c.DICOM.MaxPDU, c.DICOM.ARTIMTimeout, len(c.DICOM.Peers),
		c.Spool.HighWatermark, c.Spool.Quota, c.Spool.Retention, len(c.Destinations), c.Triage.Enabled, c.Triage.Quiet,
		c.Triage.Eligibility.Modalities, c.Alerts.Escalation, c.Alerts.MQTT.ClientID, c.Monitor.Listen,
	}
	want := []any{
		"ICHWATCH", ":11112", configs.Size(131072), 30 * time.Second, 0,
		configs.Share(0.9), configs.Size(0),
		configs.Retention{Positive: 720 * time.Hour, Negative: 168 * time.Hour, NotAnalysed: 168 * time.Hour, Failed: 720 * time.Hour, Unacknowledged: "keep"},
		0, true, 20 * time.Second,
		[]string{"CT"},
		[]configs.Escalation{{After: 2 * time.Minute}, {After: 5 * time.Minute}, {After: 10 * time.Minute}},
		"ichwatch-site-ct1", "127.0.0.1:9114",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReferenceLoadsAsTheDefaults(t *testing.T) {
	c, err := configs.Parse("ichwatch.yaml", configs.Reference())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(configs.Default(), c, cmpopts.IgnoreUnexported(configs.Config{})); diff != "" {
		t.Errorf("-default +reference:\n%s", diff)
	}
}

// A file changes what it names and nothing else, down to the keys of a list's
// entries.
func TestLoadLaysTheFileOverTheDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ichwatch.yaml")
	file := `
site: north
log:
dicom:
  peers:
    - {name: a, ae_title: CT_A, addresses: [192.0.2.10, 2001:db8::/64], max_object: 1GiB,
       commitment: {address: "ct-a.example.org:104", tls: {enabled: true}}}
    - {name: b, ae_title: "ct b", user_identity: require, commitment: {mode: refuse}}
  users_file: /etc/ichwatch/secrets/users
  max_pdu: 16KiB
  max_associations: 4
  transfer_syntaxes: [JPEG-LS Lossless Image Compression, rlelossless, 1.2.840.113619.5.2, 1.2.840.10008.1.2.4.999]
  commitment: {same_association: false, max_age: 2d}
spool: {high_watermark: 85%, quota: 1TiB, retention: {negative: 1d12h, unacknowledged: remove}}
destinations:
  - name: pacs
    address: "[2001:db8::7]:104"
    called_ae_title: ARCHIVE
    tls: {enabled: true, ca_file: /etc/ichwatch/tls/pacs.pem}
    retry: {max: 90s}
  - {name: backup, address: backup.example.org:11112, called_ae_title: B, calling_ae_title: CT_A,
     commitment: {mode: require, address: stgcmt.example.org:104, called_ae_title: STGCMT, timeout: 24h}}
triage: {models: [], eligibility: {body_parts: []}}
alerts:
  mqtt: {broker: tls://mqtt.example.org:8883}
  escalation: [{after: 90s}]
`
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := configs.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := configs.Default()
	want.Site = "north"
	want.DICOM.Peers = []configs.Peer{
		{Name: "a", AETitle: "CT_A", Addresses: []string{"192.0.2.10", "2001:db8::/64"}, CertificateNames: []string{}, MaxObject: 1 << 30, UserIdentity: "ignore"},
		{Name: "b", AETitle: "ct b", Addresses: []string{}, CertificateNames: []string{}, UserIdentity: "require"},
	}
	want.DICOM.Peers[0].Commitment = configs.PeerCommitment{Mode: "allow", Address: "ct-a.example.org:104", TLS: configs.TLS{Enabled: true}}
	want.DICOM.Peers[1].Commitment.Mode = "refuse"
	want.DICOM.UsersFile = "/etc/ichwatch/secrets/users"
	want.DICOM.MaxPDU = 16 << 10
	want.DICOM.TransferSyntaxes = []string{"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5", "1.2.840.113619.5.2", "1.2.840.10008.1.2.4.999"}
	want.DICOM.MaxAssociations, want.DICOM.MaxAssociationsPerHost = 4, 4
	want.Spool.HighWatermark = 0.85
	want.Spool.Quota = 1 << 40
	want.Spool.Retention.Negative, want.Spool.Retention.Unacknowledged = 36*time.Hour, "remove"
	timeouts := configs.Timeouts{Dial: 10 * time.Second, ACSE: 30 * time.Second, Read: time.Minute, Write: 30 * time.Second}
	commitment := func(address, title string) configs.DestinationCommitment {
		return configs.DestinationCommitment{
			Mode: "off", Address: address, CalledAETitle: title, Collect: 10 * time.Second, Wait: 10 * time.Second, Timeout: time.Hour,
			Retry: configs.Retry{Initial: 10 * time.Second, Max: time.Hour},
		}
	}
	want.Destinations = []configs.Destination{{
		Name: "pacs", Address: "[2001:db8::7]:104", CalledAETitle: "ARCHIVE", CallingAETitle: "ICHWATCH",
		TLS:          configs.TLS{Enabled: true, CAFile: "/etc/ichwatch/tls/pacs.pem"},
		Associations: 2, Transcode: "off", Timeouts: timeouts, Retry: configs.Retry{Initial: time.Second, Max: 90 * time.Second},
		Commitment: commitment("[2001:db8::7]:104", "ARCHIVE"),
	}, {
		Name: "backup", Address: "backup.example.org:11112", CalledAETitle: "B", CallingAETitle: "CT_A",
		Associations: 2, Transcode: "off", Timeouts: timeouts, Retry: configs.Retry{Initial: time.Second, Max: 5 * time.Minute},
		Commitment: commitment("stgcmt.example.org:104", "STGCMT"),
	}}
	want.Destinations[1].Commitment.Mode = "require"
	want.Destinations[1].Commitment.Timeout = 24 * time.Hour
	want.DICOM.Commitment.SameAssociation = false
	want.DICOM.Commitment.MaxAge = 48 * time.Hour
	want.Triage.Models = []string{}
	want.Triage.Eligibility.BodyParts = []string{}
	want.Alerts.MQTT.Broker = "tls://mqtt.example.org:8883"
	want.Alerts.MQTT.ClientID = "ichwatch-north-ct1"
	want.Alerts.Escalation = []configs.Escalation{{After: 90 * time.Second}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(configs.Config{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLoadOfAMissingFile(t *testing.T) {
	_, err := configs.Load(filepath.Join(t.TempDir(), "none.yaml"))
	problems, ok := errors.AsType[configs.Problems](err)
	if !ok || len(problems) != 1 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %#v, want one problem that is fs.ErrNotExist", err)
	}
}

// A secret that was written into the file is in no message.
func TestSecretsAreNotRepeated(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, file := range []string{
		"alerts: {mqtt: {password: " + secret + "}}",
		"alerts: {mqtt: {Password: " + secret + "}}",
		"alerts: {mqtt: {pasword: " + secret + "}}",
		"alerts: {mqtt: {password_file: " + secret + "}}",
		"alerts: {mqtt: {password_file: [" + secret + "]}}",
		"alerts: {mqtt: {password_file: !!int " + secret + "}}",
		"alerts: {mqtt: {broker: \"tcp://me:" + secret + "@broker:1883\"}}",
		"alerts: {mqtt: {broker: \"://" + secret + "@broker\"}}",
		"alerts: {mqtt: {key_file: \"-----BEGIN PRIVATE KEY-----\\n" + secret + "\"}}",
		"token: " + secret,
		"destinations: [{passcode: " + secret + "}]",
		"destinations: [{passcode_file: " + secret + "}]",
		"destinations: [{tls: {key_file: " + secret + "}}]",
		"dicom: {users_file: " + secret + "}",
		"dicom: {users: " + secret + "}",
		"dicom: {tls: {key: " + secret + "}}",
	} {
		_, err := configs.Parse("f", []byte(file))
		if err == nil {
			t.Errorf("%s: accepted", strings.ReplaceAll(file, secret, "..."))
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: repeated: %v", file, err)
		}
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range []string{"manifest.yaml", "model.onnx"} {
		write(name, 0o644)
	}
	c := configs.Default()
	c.Spool.Dir = filepath.Join(dir, "var", "spool")
	c.Triage.Models = []string{dir}
	c.ONNXRuntime.Library = write("libonnxruntime.so.1", 0o644)
	c.Alerts.MQTT.PasswordFile = write("password", 0o600)
	if ps := configs.Check(c); len(ps) != 0 {
		t.Fatalf("a sound machine: %v", ps)
	}

	const sum = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of "x"
	if c.ONNXRuntime.SHA256 = sum; len(configs.Check(c)) != 0 {
		t.Errorf("the right hash: %v", configs.Check(c))
	}
	c.ONNXRuntime.SHA256 = strings.Repeat("0", 64)
	if ps := configs.Check(c); len(ps) != 1 || ps[0].Key != "onnxruntime.sha256" ||
		!strings.Contains(ps.Error(), sum[:12]) || !strings.Contains(ps.Error(), strings.Repeat("0", 12)) {
		t.Errorf("another hash: %v", ps)
	}

	c.Spool.Dir = filepath.Join(c.ONNXRuntime.Library, "spool")
	c.Triage.Models = []string{filepath.Join(dir, "none")}
	c.ONNXRuntime.Library = dir
	c.Alerts.MQTT.PasswordFile = write("open", 0o644)
	c.Alerts.MQTT.CAFile = filepath.Join(dir, "none.pem")
	c.DICOM.TLS.KeyFile = write("dicom.key", 0o640)
	c.DICOM.UsersFile = write("users", 0o660)
	c.Destinations = []configs.Destination{{PasscodeFile: write("passcode", 0o604), TLS: configs.TLS{KeyFile: filepath.Join(dir, "none.key")}}}
	for name, mode := range map[string]os.FileMode{"dicom.key": 0o640, "users": 0o660, "passcode": 0o604} { // whatever the umask
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, p := range configs.Check(c) {
		got = append(got, p.Key+": "+p.Wrong)
	}
	want := []string{
		"spool.dir: cannot be made: " + filepath.Join(dir, "libonnxruntime.so.1") + " is not a directory",
		"triage.models[0]: cannot be used: no such file or directory",
		"triage.models[0]: cannot be used: no such file or directory",
		"onnxruntime.library: is not a file",
		"alerts.mqtt.ca_file: cannot be used: no such file or directory",
		"alerts.mqtt.password_file: may be read or written by everyone",
		"dicom.users_file: may be written by its group",
		"destinations[0].tls.key_file: cannot be used: no such file or directory",
		"destinations[0].passcode_file: may be read or written by everyone",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	fatal := configs.Check(c).Fatal()
	if len(fatal) != 6 || fatal[0].Key != "spool.dir" || fatal[1].Key != "alerts.mqtt.ca_file" || fatal[2].Key != "alerts.mqtt.password_file" {
		t.Errorf("fatal are %v; the daemon serves without a model", fatal)
	}
	c.Triage.Enabled = false
	for _, p := range configs.Check(c) {
		if strings.HasPrefix(p.Key, "triage") || strings.HasPrefix(p.Key, "onnxruntime") {
			t.Errorf("without triage still checked: %v", p)
		}
	}
}

// What is found with a configuration in use is told with its line; the defaults have
// none.
func TestPlaced(t *testing.T) {
	c, err := configs.Parse("site.yaml", []byte("site: north\ntriage:\n  models: [/a, /b]\n"))
	if err != nil {
		t.Fatal(err)
	}
	found := configs.Problems{
		{Key: "dicom.tls.key_file", Wrong: "x"},
		{Key: "triage.operating_point", Wrong: "y"},
		{Key: "triage.models[1]", Wrong: "z"},
		{File: "other", Line: 1, Key: "site", Wrong: "its own"},
	}
	want := "other:1:0: site: its own\nsite.yaml:2:1: triage.operating_point: y\nsite.yaml:3:16: triage.models[1]: z\nsite.yaml: dicom.tls.key_file: x"
	if got := c.Placed(found).Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := configs.Default().Placed(found[:1]).Error(); got != "dicom.tls.key_file: x" {
		t.Error(got)
	}
	if c, err := configs.Parse("odd.yaml", []byte("\"\": 1\n\"-\": 2\nfile: {name: x}\n")); err == nil {
		t.Errorf("%+v", c)
	}
}

func TestWarnings(t *testing.T) {
	keys := func(c *configs.Config) (keys []string) {
		for _, p := range c.Warnings() {
			keys = append(keys, p.Key)
		}
		return keys
	}
	c := configs.Default()
	if diff := cmp.Diff([]string{"site", "dicom.peers", "destinations", "onnxruntime.sha256"}, keys(c)); diff != "" {
		t.Errorf("defaults: -want +got:\n%s", diff)
	}
	c.Device = "ct2"
	c.DICOM.Peers = []configs.Peer{{Name: "ct", AETitle: "CT"}}
	c.Destinations = make([]configs.Destination, 1)
	c.ONNXRuntime.SHA256 = strings.Repeat("0", 64)
	if got := keys(c); got != nil {
		t.Errorf("a complete configuration warns of %v", got)
	}
	c.Triage.Models = nil
	c.Alerts.MQTT.Broker = "tcp://broker.example.org:1883"
	c.Monitor.Listen = ":9114"
	c.DICOM.Peers = []configs.Peer{{Name: "all"}, {Name: "ct", AETitle: "CT", UserIdentity: "require"}}
	c.DICOM.TLS.Enabled, c.DICOM.TLS.ClientCertificates, c.DICOM.TLS.PlainListen = true, "off", ":104"
	c.Destinations[0].PasscodeFile = "/etc/ichwatch/secrets/pacs"
	if diff := cmp.Diff([]string{"dicom.peers[0]", "dicom.peers[1].user_identity", "dicom.tls.client_certificates", "destinations[0].passcode_file", "triage.models", "alerts.mqtt.broker", "monitor.listen"}, keys(c)); diff != "" {
		t.Errorf("an open one: -want +got:\n%s", diff)
	}
	c.Destinations[0].Routes = []configs.Route{{Modalities: []string{"CT"}}, {Outcomes: []string{"POSITIVE"}}}
	if got := keys(c); !slices.Contains(got, "destinations") || !slices.Contains(got, "destinations[0].routes[1].outcomes") {
		t.Errorf("what is no CT goes nowhere, no study will be positive, and the warnings are %v", got)
	}
	c = configs.Default()
	c.DICOM.Peers = []configs.Peer{{Name: "ct", AETitle: "CT"}}
	c.DICOM.Commitment.SameAssociation = false
	if got := keys(c); !slices.Contains(got, "dicom.commitment.same_association") {
		t.Errorf("no report could be delivered, and the warnings are %v", got)
	}
	c.DICOM.Peers[0].Commitment.Address = "ct.example.org:104"
	if got := keys(c); slices.Contains(got, "dicom.commitment.same_association") {
		t.Errorf("a report can be delivered, and the warnings are %v", got)
	}
	c.Destinations = []configs.Destination{{TLS: configs.TLS{Enabled: true}, Commitment: configs.DestinationCommitment{Mode: "require", CalledAETitle: "PACS"}}}
	if got := keys(c); !slices.Contains(got, "destinations[0].commitment") {
		t.Errorf("no report could come in TLS, and the warnings are %v", got)
	}
	c.DICOM.Peers = append(c.DICOM.Peers, configs.Peer{Name: "pacs", AETitle: "PACS"})
	if got := keys(c); slices.Contains(got, "destinations[0].commitment") {
		t.Errorf("a report may come without TLS, and the warnings are %v", got)
	}
	c.DICOM.Commitment.Enabled = false
	if got := keys(c); !slices.Contains(got, "dicom.peers[0].commitment.address") {
		t.Errorf("an address of no use, and the warnings are %v", got)
	}
}

// Whatever the bytes: no panic, and either a configuration or problems that each
// fit on a line and say where they are.
func FuzzParse(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(configs.Reference())
	files, _ := filepath.Glob(filepath.Join(badConfigurations, "*", "ichwatch.yaml"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	if len(files) == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := configs.Parse("f", data)
		if err == nil {
			if c.DICOM.MaxAssociations < 1 || c.DICOM.ARTIMTimeout <= 0 || c.Spool.Dir == "" || len(c.Alerts.Escalation) == 0 {
				t.Fatalf("accepted without its least values: %+v", c)
			}
			return
		}
		problems, ok := errors.AsType[configs.Problems](err)
		if !ok || len(problems) == 0 || c != nil {
			t.Fatalf("got %v, %#v", c, err)
		}
		lines := 1 // YAML has five line breaks
		for _, br := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
			lines += bytes.Count(data, []byte(br))
		}
		for _, p := range problems {
			if p.Key == "" && p.Line == 0 || p.Wrong == "" || p.Line < 0 || p.Line > lines {
				t.Errorf("no place or no reason in a file of %d lines: %#v", lines, p)
			}
			if strings.ContainsAny(p.Error(), "\n\r\x1b") {
				t.Errorf("not on one line: %q", p.Error())
			}
		}
	})
}

// An address or network of IPv4 in the form that IPv6 has for it is one of IPv4.
func TestMappedAddresses(t *testing.T) {
	c, err := configs.Parse("x", []byte("dicom:\n  peers:\n    - {name: ct1, ae_title: CT1, addresses: ['::ffff:192.0.2.10', '::ffff:192.0.2.0/120', '2001:db8::/64']}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(c.DICOM.Peers[0].Prefixes()), "[192.0.2.10/32 192.0.2.0/24 2001:db8::/64]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What a file says is the same wherever it stands, and another value is not.
func TestEqual(t *testing.T) {
	parse := func(text string) *configs.Config {
		c, err := configs.Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b, c := parse("site: north\n"), parse("# moved\n\nsite: north\n"), parse("site: south\n")
	if !a.Equal(b) || !a.Equal(a) || a.Equal(c) {
		t.Error("a file with a comment more is another, or one with another site the same")
	}
}
