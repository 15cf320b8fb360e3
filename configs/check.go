package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Check looks at what the configuration says of this machine: the files it names
// must be there and fit to read. Each problem has its key; Placed gives it its line.
func Check(c *Config) Problems {
	var ps Problems
	if dir := nearestDir(c.Spool.Dir); dir != "" {
		ps = append(ps, Problem{Key: "spool.dir", Value: c.Spool.Dir, Wrong: "cannot be made: " + dir + " is not a directory", Allowed: "a directory, or a path where one can be made"})
	}
	if c.Triage.Enabled && len(c.Triage.Models) > 0 {
		for i, dir := range c.Triage.Models {
			for _, name := range []string{"manifest.yaml", "model.onnx"} {
				ps.file(entry("triage.models", i), filepath.Join(dir, name))
			}
		}
		ps.file("triage.models_public_key", c.Triage.PublicKey)
		for i, l := range c.ONNXRuntime.Libraries {
			path := filepath.Join(filepath.Dir(c.ONNXRuntime.Library), l.File)
			if _, ok := ps.file(entry("onnxruntime.libraries", i)+".file", path); ok {
				ps.hash(entry("onnxruntime.libraries", i)+".sha256", l.SHA256, path)
			}
		}
		if _, ok := ps.file("onnxruntime.library", c.ONNXRuntime.Library); ok && c.ONNXRuntime.SHA256 != "" {
			ps.hash("onnxruntime.sha256", c.ONNXRuntime.SHA256, c.ONNXRuntime.Library)
		}
	}
	m := &c.Alerts.MQTT
	ps.file("alerts.mqtt.ca_file", m.CAFile)
	ps.file("alerts.mqtt.certificate_file", m.CertificateFile)
	ps.secret("alerts.mqtt.password_file", m.PasswordFile)
	ps.secret("alerts.mqtt.key_file", m.KeyFile)
	t := &c.DICOM.TLS
	ps.file("dicom.tls.certificate_file", t.CertificateFile)
	ps.secret("dicom.tls.key_file", t.KeyFile)
	ps.file("dicom.tls.client_ca_file", t.ClientCAFile)
	ps.secret("dicom.users_file", c.DICOM.UsersFile)
	ps.secret("console.users_file", c.Console.UsersFile)
	ps.file("console.tls.certificate_file", c.Console.TLS.CertificateFile)
	ps.secret("console.tls.key_file", c.Console.TLS.KeyFile)
	for i := range c.Destinations {
		key, dest := entry("destinations", i)+".", &c.Destinations[i]
		ps.tls(key+"tls.", &dest.TLS)
		ps.secret(key+"passcode_file", dest.PasscodeFile)
	}
	for i := range c.DICOM.Peers {
		ps.tls(entry("dicom.peers", i)+".commitment.tls.", &c.DICOM.Peers[i].Commitment.TLS)
	}
	return ps
}

// tls notes what is wrong with the files of a section for TLS.
func (ps *Problems) tls(key string, t *TLS) {
	ps.file(key+"ca_file", t.CAFile)
	ps.file(key+"certificate_file", t.CertificateFile)
	ps.secret(key+"key_file", t.KeyFile)
}

// file notes a file that is not there or no file.
func (ps *Problems) file(key, path string) (os.FileInfo, bool) {
	if path == "" {
		return nil, false
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		p := Problem{Key: key, Value: path, Wrong: "cannot be used: " + reason(err), Err: err}
		if strings.HasPrefix(path, "/run/credentials/") && errors.Is(err, fs.ErrNotExist) {
			p.Allowed = "a credential of the unit (LoadCredential=), which is there while the service runs"
		}
		*ps = append(*ps, p)
	case !info.Mode().IsRegular():
		*ps = append(*ps, Problem{Key: key, Value: path, Wrong: "is not a file"})
	default:
		return info, true
	}
	return nil, false
}

// hash notes a file whose SHA-256 is not want.
func (ps *Problems) hash(key, want, path string) {
	const prefix = 12 // hex digits that people compare
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		h := sha256.New()
		if _, err = io.Copy(h, f); err == nil {
			if got := hex.EncodeToString(h.Sum(nil)); got != want {
				*ps = append(*ps, Problem{
					Key: key, Value: want[:prefix] + "...", Wrong: "is not the SHA-256 of " + path + ", which is " + got[:prefix] + "...",
					Allowed: "what sha256sum prints for the library that you mean to run",
				})
			}
			return
		}
	}
	*ps = append(*ps, Problem{Key: key, Wrong: "cannot be compared: " + path + ": " + reason(err), Err: err})
}

// secret notes as well a file that others may read, or the group write. The
// group may read: the daemon's, of a file that is root's.
func (ps *Problems) secret(key, path string) {
	info, ok := ps.file(key, path)
	if !ok {
		return
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o007 != 0:
		*ps = append(*ps, Problem{Key: key, Value: path, Wrong: "may be read or written by everyone", Allowed: "mode 0600 or 0640 (chmod o= FILE)"})
	case mode&0o020 != 0:
		*ps = append(*ps, Problem{Key: key, Value: path, Wrong: "may be written by its group", Allowed: "mode 0600 or 0640 (chmod g-w FILE)"})
	}
}

// AboutPage reports whether a problem costs the page, and nothing else.
func (p Problem) AboutPage() bool { return strings.HasPrefix(p.Key, "console.") }

// Fatal returns those of Check's problems with which the daemon does not start.
// Without a model it starts: it receives and forwards, and says of each study
// that it FAILED to look at it. Without its page it starts, too.
func (ps Problems) Fatal() Problems {
	var fatal Problems
	for _, p := range ps {
		if !strings.HasPrefix(p.Key, "triage.") && !strings.HasPrefix(p.Key, "onnxruntime.") && !p.AboutPage() {
			fatal = append(fatal, p)
		}
	}
	return fatal
}

// nearestDir returns the first existing path from dir upwards if it is not a
// directory, else "".
func nearestDir(dir string) string {
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return dir
		}
		if err == nil || dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
}

// Warnings names what is allowed but seldom meant. The daemon logs each at start.
func (c *Config) Warnings() Problems {
	var ps Problems
	warn := func(key, wrong string) { ps = append(ps, Problem{Key: key, Wrong: wrong}) }
	if d := Default(); c.Site == d.Site && c.Device == d.Device {
		warn("site", "site and device still have their defaults; two appliances with the same names mix their alerts")
	}
	if len(c.DICOM.Peers) == 0 {
		warn("dicom.peers", "is empty: anybody may send")
	}
	for i, p := range c.DICOM.Peers {
		key := entry("dicom.peers", i)
		if p.AETitle == "" && len(p.Addresses) == 0 && len(p.CertificateNames) == 0 && p.UserIdentity != "require" {
			warn(key, "names neither AE title nor address nor certificate: anybody may send")
		}
		if p.UserIdentity == "require" && (!c.DICOM.TLS.Enabled || c.DICOM.TLS.PlainListen != "") {
			warn(key+".user_identity", "is asked for without TLS: passcodes cross the network in the clear")
		}
	}
	if c.DICOM.TLS.Enabled && c.DICOM.TLS.ClientCertificates == "off" {
		warn("dicom.tls.client_certificates", "is off: the network's line is encrypted, but nobody at its other end is known")
	}
	for i, d := range c.Destinations {
		if d.PasscodeFile != "" && !d.TLS.Enabled {
			warn(entry("destinations", i)+".passcode_file", "is sent without TLS: the passcode crosses the network in the clear")
		}
		if d.Commitment.Required() && d.TLS.Enabled && !c.DICOM.TLS.Enabled && !c.HasPeer(d.Commitment.CalledAETitle) {
			warn(entry("destinations", i)+".commitment", "can be reported on over the association of the request alone: the destination is called in TLS, and dicom.tls is off; switch it on, or give "+d.Commitment.CalledAETitle+" an entry of dicom.peers")
		}
	}
	i := slices.IndexFunc(c.DICOM.Peers, func(p Peer) bool { return p.Reports() })
	switch s := &c.DICOM.Commitment; {
	case !s.Enabled && i >= 0:
		warn(entry("dicom.peers", i)+".commitment.address", "has no use: dicom.commitment.enabled is false")
	case s.Enabled && !s.SameAssociation && i < 0:
		warn("dicom.commitment.same_association", "is false and no entry of dicom.peers has a commitment.address: no scanner could get a report, and every request is refused")
	}
	c.warnOfRoutes(warn)
	if len(c.Destinations) == 0 {
		warn("destinations", "is empty: studies are kept here and sent nowhere")
	}
	switch {
	case !c.Triage.Enabled:
		warn("triage.enabled", "is false: every study ends as NOT-ANALYSED")
	case len(c.Triage.Models) == 0:
		warn("triage.models", "is empty: every study ends as NOT-ANALYSED")
	case c.ONNXRuntime.SHA256 == "":
		warn("onnxruntime.sha256", "is empty: the library is loaded unverified")
	}
	for _, broker := range c.Alerts.MQTT.Brokers() {
		if u, err := url.Parse(broker); err == nil && u.Scheme == "tcp" && !isLoopback(u.Hostname()) {
			warn("alerts.mqtt.broker", "is spoken to without TLS: alerts and passwords cross the network in the clear")
			break
		}
	}
	if !c.Alerts.MQTT.ReadBack {
		warn("alerts.mqtt.read_back", "is false: an alert that the broker confirms and drops, for its access list or its limits, counts as delivered")
	}
	if host, _, _ := net.SplitHostPort(c.Monitor.Listen); c.Monitor.Listen != "" && !isLoopback(host) {
		warn("monitor.listen", "is open to the network and asks for no password")
	}
	return ps
}
