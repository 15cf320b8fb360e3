package configs

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validate checks each value's range, then the rules across keys. A key that was
// rejected before is not looked at again.
func (d *document) validate(c *Config) {
	d.name32("site", c.Site)
	d.name32("device", c.Device)
	d.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	d.oneOf("log.format", c.Log.Format, "text", "json")
	d.validateDICOM(&c.DICOM)
	d.validateSpool(&c.Spool)
	d.validateDestinations(c)
	d.validateTriage(&c.Triage)
	d.validateONNXRuntime(&c.ONNXRuntime)
	d.validateAlerts(&c.Alerts)
	if c.Monitor.Listen != "" {
		d.hostPort("monitor.listen", c.Monitor.Listen, listening)
	}
	d.validateConsole(c)
	d.ownPort("dicom.listen", c.DICOM.Listen, "monitor.listen", c.Monitor.Listen)
	d.ownPort("dicom.tls.plain_listen", c.DICOM.TLS.PlainListen, "monitor.listen", c.Monitor.Listen)
}

// ownPort checks that two listeners have a port each. It is said at the one of
// the two that the file has.
func (d *document) ownPort(other, address, key, value string) {
	if port := portOf(value); port == 0 || port != portOf(address) {
		return
	}
	if _, given := d.at[key]; !given {
		key, value, other = other, address, key
	}
	d.reject(key, value, &valueError{"has the port of " + other, "a port of its own", ""})
}

func (d *document) validateDICOM(c *DICOM) {
	d.aeTitle("dicom.ae_title", c.AETitle)
	d.hostPort("dicom.listen", c.Listen, listening)
	d.validateServerTLS(c)
	d.validatePeers(c)
	d.validateSOPClasses(c)
	d.validateTransferSyntaxes(c)
	within(d, "dicom.max_pdu", c.MaxPDU, 4<<10, 128<<10)
	within(d, "dicom.max_associations", c.MaxAssociations, 1, 1000)
	within(d, "dicom.max_associations_per_host", c.MaxAssociationsPerHost, 1, 1000)
	d.rates("dicom.", c.MaxAssociationsPerMinute, c.MaxObjectsPerSecond, c.MaxBytesPerSecond)
	within(d, "dicom.artim_timeout", c.ARTIMTimeout, time.Second, 10*time.Minute)
	within(d, "dicom.idle_timeout", c.IdleTimeout, time.Second, day)
	within(d, "dicom.read_timeout", c.ReadTimeout, time.Second, 10*time.Minute)
	within(d, "dicom.write_timeout", c.WriteTimeout, time.Second, 10*time.Minute)
	within(d, "dicom.max_object", c.MaxObject, 1<<20, 64<<30)
	within(d, "dicom.drain_timeout", c.DrainTimeout, time.Second, 10*time.Minute)
	d.validateCommitment(&c.Commitment)
}

func (d *document) validateSpool(c *Spool) {
	d.absolute("spool.dir", c.Dir)
	within(d, "spool.high_watermark", c.HighWatermark, 0.01, 0.99)
	within(d, "spool.reserve", c.Reserve, 64<<20, 1<<40)
	if c.Quota != 0 {
		within(d, "spool.quota", c.Quota, 2*c.Reserve, 1<<50)
	}
	r := &c.Retention
	for key, keep := range map[string]time.Duration{"positive": r.Positive, "negative": r.Negative, "not_analysed": r.NotAnalysed, "failed": r.Failed} {
		within(d, "spool.retention."+key, keep, 0, 3650*day)
	}
	d.oneOf("spool.retention.unacknowledged", r.Unacknowledged, "keep", "remove")
}

func (d *document) validateDestinations(c *Config) {
	var names []string
	for i, dest := range c.Destinations {
		key := entry("destinations", i) + "."
		d.name32(key+"name", dest.Name)
		names = append(names, dest.Name)
		d.hostPort(key+"address", dest.Address, calling)
		if c.DICOM.isOwn(dest.Address) {
			d.reject(key+"address", dest.Address, &valueError{"is ichwatch itself: what arrives would arrive again", "an address other than dicom.listen", ""})
		}
		d.aeTitle(key+"called_ae_title", dest.CalledAETitle)
		if dest.CallingAETitle != "" {
			d.aeTitle(key+"calling_ae_title", dest.CallingAETitle)
		}
		d.validateTLS(key+"tls.", &c.Destinations[i].TLS)
		d.validateIdentity(key, &c.Destinations[i])
		d.validateRoutes(key+"routes", dest.Routes)
		within(d, key+"associations", dest.Associations, 1, 16)
		d.oneOf(key+"transcode", dest.Transcode, "off", "explicit-vr-le")
		within(d, key+"timeouts.dial", dest.Timeouts.Dial, 100*time.Millisecond, 10*time.Minute)
		within(d, key+"timeouts.acse", dest.Timeouts.ACSE, time.Second, 10*time.Minute)
		within(d, key+"timeouts.read", dest.Timeouts.Read, time.Second, time.Hour)
		within(d, key+"timeouts.write", dest.Timeouts.Write, time.Second, time.Hour)
		within(d, key+"retry.initial", dest.Retry.Initial, 100*time.Millisecond, time.Hour)
		within(d, key+"retry.max", dest.Retry.Max, dest.Retry.Initial, day)
		d.validateDestinationCommitment(key+"commitment.", &dest.Commitment, &c.DICOM)
	}
	d.unique("destinations", names)
}

// mostModels bounds the memory and the time that a slice may take.
const mostModels = 8

func (d *document) validateTriage(c *Triage) {
	for i, dir := range c.Models {
		d.absolute(entry("triage.models", i), dir)
	}
	d.unique("triage.models", c.Models)
	if n := len(c.Models); n > mostModels {
		d.reject(entry("triage.models", mostModels), c.Models[mostModels], &valueError{"is one model too many", fmt.Sprintf("up to %d models", mostModels), ""})
	}
	if c.OperatingPoint != "" {
		d.name32("triage.operating_point", c.OperatingPoint)
	}
	d.absolute("triage.models_dir", c.Folder)
	if c.PublicKey != "" {
		d.absolute("triage.models_public_key", c.PublicKey)
	}
	within(d, "triage.drift_studies", c.DriftStudies, 0, 10000)
	within(d, "triage.workers", c.Workers, 0, 256)
	within(d, "triage.quiet", c.Quiet, time.Second, time.Hour)
	e := &c.Eligibility
	if len(e.Modalities) == 0 {
		d.reject("triage.eligibility.modalities", "", &valueError{"is empty: no slice would be eligible", "at least one, as in [CT]", ""})
	}
	for key, list := range map[string][]string{"modalities": e.Modalities, "refuse_image_types": e.RefuseImageTypes, "body_parts": e.BodyParts} {
		for i, s := range list {
			d.codeString(entry("triage.eligibility."+key, i), s)
		}
		d.unique("triage.eligibility."+key, list)
	}
}

func (d *document) validateONNXRuntime(c *ONNXRuntime) {
	d.absolute("onnxruntime.library", c.Library)
	if c.SHA256 != "" {
		c.SHA256 = d.sha256("onnxruntime.sha256", c.SHA256)
	}
	n := len(c.Providers)
	for i, provider := range c.Providers {
		d.oneOf(entry("onnxruntime.providers", i), provider, "tensorrt", "cuda", "cpu")
	}
	d.unique("onnxruntime.providers", c.Providers)
	if n == 0 || slices.Index(c.Providers, "cpu") != n-1 {
		d.reject("onnxruntime.providers", "", &valueError{"does not end with cpu, which answers when no other does", "[cpu], [cuda, cpu] or [tensorrt, cuda, cpu]", ""})
	}
	var files []string
	for i, l := range c.Libraries {
		key := entry("onnxruntime.libraries", i) + "."
		if l.File != filepath.Base(l.File) || !strings.HasSuffix(l.File, ".so") {
			d.reject(key+"file", l.File, &valueError{"is not the name of a library", "a file beside onnxruntime.library, as libonnxruntime_providers_cuda.so", ""})
		}
		c.Libraries[i].SHA256 = d.sha256(key+"sha256", l.SHA256)
		files = append(files, l.File)
	}
	d.unique("onnxruntime.libraries", files)
	d.absolute("onnxruntime.engines", c.Engines)
	within(d, "onnxruntime.trial_timeout", c.TrialTimeout, 10*time.Second, 2*time.Hour)
	within(d, "onnxruntime.trial_memory", c.TrialMemory, 256<<20, 1<<40)
}

// sha256 checks a hash and gives it in lower case.
func (d *document) sha256(key, value string) string {
	if b, err := hex.DecodeString(value); err != nil || len(b) != 32 {
		d.reject(key, value, &valueError{"is not a SHA-256", "64 hex digits, as sha256sum prints them", ""})
	}
	return strings.ToLower(value)
}

func (d *document) validateAlerts(c *Alerts) {
	d.oneOf("alerts.identity", c.Identity, "uid", "pseudonym")
	d.validateMQTT(&c.MQTT)
	if n := len(c.Escalation); n < 1 || n > 9 {
		d.reject("alerts.escalation", "", &valueError{fmt.Sprintf("has %d steps", n), "1 to 9 steps, as in [{after: 2m}]", ""})
	}
	for i, step := range c.Escalation {
		within(d, entry("alerts.escalation", i)+".after", step.After, time.Second, day)
	}
}

func (d *document) validateMQTT(c *MQTT) {
	const key = "alerts.mqtt."
	tls := d.broker(key+"broker", c.Broker)
	if n := len(c.Failover); n > 8 {
		d.reject(key+"failover", "", &valueError{fmt.Sprintf("has %d entries", n), "up to 8", ""})
	}
	for i, broker := range c.Failover {
		at := entry(key+"failover", i)
		switch secured := d.broker(at, broker); {
		case broker == c.Broker:
			d.reject(at, broker, &valueError{"is alerts.mqtt.broker itself", "the other nodes", ""})
		case secured != tls && !d.rejected(at) && !d.rejected(key+"broker"):
			d.reject(at, broker, &valueError{"does not begin as alerts.mqtt.broker does", "tls:// for all of them, or tcp:// for all", ""})
		}
	}
	d.unique(key+"failover", c.Failover)
	d.topic(key+"root", c.Root)
	if len(c.ClientID) > 128 || strings.ContainsFunc(c.ClientID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		d.reject(key+"client_id", c.ClientID, &valueError{"is not a client id", "up to 128 printable ASCII characters without spaces", ""})
	}
	for name, path := range map[string]string{"password_file": c.PasswordFile, "ca_file": c.CAFile, "certificate_file": c.CertificateFile, "key_file": c.KeyFile} {
		if path == "" {
			continue
		}
		d.absolute(key+name, path)
		if name != "password_file" && !tls {
			d.reject(key+name, path, &valueError{"has no use without TLS", "a broker with tls://, or no such key", ""})
		}
	}
	if c.PasswordFile != "" && c.Username == "" {
		d.reject(key+"password_file", "", &valueError{"is given without alerts.mqtt.username", "both, or the user name alone, or neither", ""})
	}
	d.pair(key, c.CertificateFile, c.KeyFile)
	within(d, key+"keep_alive", c.KeepAlive, time.Second, 10*time.Minute)
}

// broker checks the broker's URL and says whether it asks for TLS. A URL with a
// password in it is not repeated.
func (d *document) broker(key, value string) (tls bool) {
	u, err := url.Parse(value)
	if strings.Contains(value, "@") {
		at := d.at[key]
		at.text = ""
		d.at[key] = at
		d.reject(key, "", &valueError{"has a user or a password in it", "tcp://host:port or tls://host:port, with username and password_file beside it", ""})
		return true // whether it is right cannot be seen
	}
	allowed := &valueError{"is not a broker's address", "tcp://host:port or tls://host:port", ""}
	if err != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		d.reject(key, value, allowed)
		return true
	}
	if u.Scheme != "tcp" && u.Scheme != "tls" {
		switch strings.ToLower(u.Scheme) {
		case "mqtt":
			allowed.suggestion = "tcp://" + u.Host
		case "mqtts", "tls", "tcps":
			allowed.suggestion = "tls://" + u.Host
		}
		d.reject(key, value, allowed)
		return true
	}
	if wrong := wrongHostPort(u.Host, calling); wrong != "" {
		allowed.wrong = wrong
		d.reject(key, value, allowed)
	}
	return u.Scheme == "tls"
}

// topic checks the first levels of an MQTT topic (MQTT 3.1.1 section 4.7).
func (d *document) topic(key, value string) {
	for level := range strings.SplitSeq(value, "/") {
		if !isName(level) {
			d.reject(key, value, &valueError{"is no topic", "1 to 32 of A-Z a-z 0-9 . _ - in each level, slashes between them", ""})
			return
		}
	}
}

const day = 24 * time.Hour

func entry(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// within checks a range, both ends included.
func within[T cmp.Ordered](d *document, key string, value, least, most T) {
	if value >= least && value <= most {
		return
	}
	d.reject(key, written(value), &valueError{"is out of range", written(least) + " to " + written(most), ""})
}

// written shows a value as the file would have it.
func written(value any) string {
	t, ok := value.(time.Duration)
	if !ok {
		return fmt.Sprint(value)
	}
	if t >= 2*day && t%day == 0 {
		return strconv.Itoa(int(t/day)) + "d"
	}
	s := t.String() // 1h0m0s
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (d *document) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		d.reject(key, value, &valueError{"is not known", strings.Join(allowed, ", "), Nearest(value, allowed)})
	}
}

// unique checks that no entry of a list stands in it twice. Destinations and
// peers are told apart by their names.
func (d *document) unique(list string, values []string) {
	for i, v := range values {
		first := slices.Index(values, v)
		if v == "" || first == i {
			continue
		}
		key, firstKey := entry(list, i), entry(list, first)
		if list == "destinations" || list == "dicom.peers" {
			key, firstKey = key+".name", firstKey+".name"
		} else if list == "onnxruntime.libraries" {
			key, firstKey = key+".file", firstKey+".file"
		}
		d.reject(key, v, &valueError{"is given twice, first as " + firstKey, "each once", ""})
	}
}

// name32 checks a name that becomes a level of topics and a label.
func (d *document) name32(key, value string) {
	if !isName(value) {
		d.reject(key, value, &valueError{"is not a name", "1 to 32 of A-Z a-z 0-9 . _ -", ""})
	}
}

func isName(s string) bool {
	return s != "" && len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", r)
	})
}

// aeTitle checks the value representation AE (PS3.5 section 6.2).
func (d *document) aeTitle(key, value string) {
	bad := strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' })
	if bad || value == "" || len(value) > 16 || strings.TrimSpace(value) != value {
		d.reject(key, value, &valueError{"is not an AE title", "1 to 16 ASCII characters, no backslash, no space at either end", ""})
	}
}

// codeString checks the value representation CS (PS3.5 section 6.2).
func (d *document) codeString(key, value string) {
	bad := strings.ContainsFunc(value, func(r rune) bool {
		return r != ' ' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z')
	})
	if bad || value == "" || len(value) > 16 || strings.TrimSpace(value) != value {
		e := &valueError{"is not a DICOM code", "1 to 16 of A-Z 0-9 space and _", ""}
		if up := strings.ToUpper(value); up != value {
			e.suggestion = up
		}
		d.reject(key, value, e)
	}
}

func (d *document) absolute(key, value string) {
	if !filepath.IsAbs(value) || filepath.Clean(value) != strings.TrimSuffix(value, "/") {
		d.reject(key, value, &valueError{"is not an absolute path", "a path from / on, without . and ..", ""})
	}
}

// use says what an address is for: to listen on, or to call.
type use int

const (
	listening use = iota // the host may be left out; port 0 takes a free one
	calling
)

func (d *document) hostPort(key, value string, u use) {
	allowed := "host:port, port 1 to 65535"
	if u == listening {
		allowed = "[host]:port, port 0 to 65535"
	}
	if wrong := wrongHostPort(value, u); wrong != "" {
		d.reject(key, value, &valueError{wrong, allowed, ""})
	}
}

// wrongHostPort says what is wrong with an address, or "".
func wrongHostPort(value string, u use) string {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return "is not an address with a port"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && u == calling {
		return "has no valid port"
	}
	foreign := strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' })
	if foreign || host == "" && u == calling {
		return "has no valid host"
	}
	return ""
}

// portOf gives an address's port, 0 where it has none or a free one is meant.
func portOf(address string) uint64 {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.ParseUint(port, 10, 16)
	return n
}

// isOwn says whether an address is that of one of our own ports, on this machine.
func (c *DICOM) isOwn(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	return isLoopback(host) && slices.Contains([]uint64{portOf(c.Listen), portOf(c.TLS.PlainListen)}, portOf(address))
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
