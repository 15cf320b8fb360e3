// Package configs is the schema of ichwatch.yaml and its strict loader.
//
// The commented reference, ichwatch.yaml, is embedded and is the only place
// where a default stands. A user's file holds what differs from it:
//
//	the file's YAML nodes -> shape (document.go): unknown keys, repeated keys,
//	                         lists and sections where they belong; each mistake
//	                         is noted with its line and taken out of the tree
//	what is left          -> viper over the embedded defaults, UnmarshalExact
//	                         without weak typing (units.go has the typed values)
//	the decoded Config    -> ranges and rules across keys (validate.go)
//
// Nothing stops at the first mistake: Load and Parse return all of them as
// [Problems]. Whatever depends on the machine and not on the file (files that
// must exist) is left to [Check].
package configs

import (
	"cmp"
	_ "embed"
	"fmt"
	"os"
	"reflect"
	"time"

	"ichwatch/dimse/dicom"
)

//go:embed ichwatch.yaml
var reference []byte

// Reference returns the commented ichwatch.yaml: every key with its meaning, its
// unit and its default.
func Reference() []byte { return append([]byte(nil), reference...) }

// Config is a whole configuration, valid as Parse returns it. The comments of
// the keys stand in ichwatch.yaml; here stand the units and shapes.
type Config struct {
	Site         string        `mapstructure:"site"`   // one MQTT topic level
	Device       string        `mapstructure:"device"` // one MQTT topic level
	Log          Log           `mapstructure:"log"`
	DICOM        DICOM         `mapstructure:"dicom"`
	Spool        Spool         `mapstructure:"spool"`
	Destinations []Destination `mapstructure:"destinations"`
	Triage       Triage        `mapstructure:"triage"`
	ONNXRuntime  ONNXRuntime   `mapstructure:"onnxruntime"`
	Alerts       Alerts        `mapstructure:"alerts"`
	Monitor      Monitor       `mapstructure:"monitor"`
	Console      Console       `mapstructure:"console"`

	file *file // nil where there is none: the defaults
}

// file is where the keys of a configuration stand.
type file struct {
	name string
	at   map[string]place
}

// Log says what is written and how.
type Log struct {
	Level  string `mapstructure:"level"`  // debug, info, warn, error: as slog.Level.UnmarshalText takes it
	Format string `mapstructure:"format"` // text, json
}

// DICOM is the acceptor that faces the scanner.
type DICOM struct {
	AETitle                  string        `mapstructure:"ae_title"`
	Listen                   string        `mapstructure:"listen"` // host:port as net.Listen takes it
	TLS                      ServerTLS     `mapstructure:"tls"`
	AcceptAnyCalledAE        bool          `mapstructure:"accept_any_called_ae"`
	AcceptBlankCallingAE     bool          `mapstructure:"accept_blank_calling_ae"`
	Peers                    []Peer        `mapstructure:"peers"`               // empty: any
	UsersFile                string        `mapstructure:"users_file"`          // absolute; empty: none
	UnknownSOPClasses        string        `mapstructure:"unknown_sop_classes"` // refuse, accept
	PrivateSOPClasses        []string      `mapstructure:"private_sop_classes"` // UIDs
	TransferSyntaxes         []string      `mapstructure:"transfer_syntaxes"`   // UIDs once loaded, preferred first; empty: the sender's order
	MaxPDU                   Size          `mapstructure:"max_pdu"`
	MaxAssociations          int           `mapstructure:"max_associations"`
	MaxAssociationsPerHost   int           `mapstructure:"max_associations_per_host"`   // at most MaxAssociations
	MaxAssociationsPerMinute int           `mapstructure:"max_associations_per_minute"` // 0: no bound
	MaxObjectsPerSecond      int           `mapstructure:"max_objects_per_second"`      // 0: no bound
	MaxBytesPerSecond        Size          `mapstructure:"max_bytes_per_second"`        // 0: no bound
	ARTIMTimeout             time.Duration `mapstructure:"artim_timeout"`
	IdleTimeout              time.Duration `mapstructure:"idle_timeout"`
	ReadTimeout              time.Duration `mapstructure:"read_timeout"`
	WriteTimeout             time.Duration `mapstructure:"write_timeout"`
	MaxObject                Size          `mapstructure:"max_object"`
	DrainTimeout             time.Duration `mapstructure:"drain_timeout"`
	Commitment               Commitment    `mapstructure:"commitment"`
}

// Commitment is the SCP of storage commitment, for scanners; what is of one of
// them alone stands in [PeerCommitment].
type Commitment struct {
	Enabled         bool          `mapstructure:"enabled"`
	SameAssociation bool          `mapstructure:"same_association"`
	MaxReferences   int           `mapstructure:"max_references"` // of one request
	MaxOpen         int           `mapstructure:"max_open"`       // transactions of one AE title
	MaxAge          time.Duration `mapstructure:"max_age"`
	Retry           Retry         `mapstructure:"retry"`
}

// Spool is the durable store.
type Spool struct {
	Dir           string    `mapstructure:"dir"`            // absolute
	HighWatermark Share     `mapstructure:"high_watermark"` // of the disk, in use
	Reserve       Size      `mapstructure:"reserve"`        // of the disk, free
	Quota         Size      `mapstructure:"quota"`          // 0: the whole disk
	Retention     Retention `mapstructure:"retention"`
}

// Retention is how long what nobody waits for any more stays, by the outcome of
// its study.
type Retention struct {
	Positive       time.Duration `mapstructure:"positive"`
	Negative       time.Duration `mapstructure:"negative"`
	NotAnalysed    time.Duration `mapstructure:"not_analysed"`
	Failed         time.Duration `mapstructure:"failed"`
	Unacknowledged string        `mapstructure:"unacknowledged"` // keep, remove
}

// Destination is one receiver of what arrives.
type Destination struct {
	Name           string   `mapstructure:"name" must:"be given"`
	Address        string   `mapstructure:"address" must:"be given"` // host:port
	CalledAETitle  string   `mapstructure:"called_ae_title" must:"be given"`
	CallingAETitle string   `mapstructure:"calling_ae_title"` // filled from DICOM.AETitle where left out
	TLS            TLS      `mapstructure:"tls"`
	Username       string   `mapstructure:"username"`      // empty: no user identity is sent
	PasscodeFile   string   `mapstructure:"passcode_file"` // absolute; empty: the username alone
	Routes         []Route  `mapstructure:"routes"`        // any of them; nil: everything goes there
	Associations   int      `mapstructure:"associations"`
	Transcode      string   `mapstructure:"transcode"` // off, explicit-vr-le
	Timeouts       Timeouts `mapstructure:"timeouts"`
	Retry          Retry    `mapstructure:"retry"`

	Commitment DestinationCommitment `mapstructure:"commitment"`
}

// DestinationCommitment is the SCU of storage commitment, towards one
// destination.
type DestinationCommitment struct {
	Mode          string        `mapstructure:"mode"`            // off, require
	Address       string        `mapstructure:"address"`         // filled from the destination's where left out
	CalledAETitle string        `mapstructure:"called_ae_title"` // likewise
	Collect       time.Duration `mapstructure:"collect"`
	Wait          time.Duration `mapstructure:"wait"`
	Timeout       time.Duration `mapstructure:"timeout"`
	Retry         Retry         `mapstructure:"retry"`
}

// Required reports whether legs to the destination are done only when it has
// committed itself.
func (c DestinationCommitment) Required() bool { return c.Mode == "require" }

// Timeouts bound the steps of sending to a destination.
type Timeouts struct {
	Dial  time.Duration `mapstructure:"dial"`
	ACSE  time.Duration `mapstructure:"acse"`
	Read  time.Duration `mapstructure:"read"`
	Write time.Duration `mapstructure:"write"`
}

// Retry is the waiting time between tries: Initial, doubled each time up to Max.
type Retry struct {
	Initial time.Duration `mapstructure:"initial"`
	Max     time.Duration `mapstructure:"max"`
}

// Triage says whether, with what and at which slices to look.
type Triage struct {
	Enabled        bool          `mapstructure:"enabled"`
	Models         []string      `mapstructure:"models"`            // absolute folders
	OperatingPoint string        `mapstructure:"operating_point"`   // empty: the model's default
	Folder         string        `mapstructure:"models_dir"`        // absolute
	PublicKey      string        `mapstructure:"models_public_key"` // absolute; empty: no signatures
	CanaryAt       Clock         `mapstructure:"canary_at"`
	DriftStudies   int           `mapstructure:"drift_studies"` // 0: off
	Workers        int           `mapstructure:"workers"`       // 0: as many as cores
	Quiet          time.Duration `mapstructure:"quiet"`
	Eligibility    Eligibility   `mapstructure:"eligibility"`
}

// Eligibility is the gate in front of the models. All texts are DICOM code
// strings (VR CS).
type Eligibility struct {
	Modalities            []string `mapstructure:"modalities"`
	RefuseImageTypes      []string `mapstructure:"refuse_image_types"`
	BodyParts             []string `mapstructure:"body_parts"` // empty: any
	AcceptMissingBodyPart bool     `mapstructure:"accept_missing_body_part"`
	RefuseContrast        bool     `mapstructure:"refuse_contrast"`
}

// ONNXRuntime names the shared library that runs the models.
type ONNXRuntime struct {
	Library   string   `mapstructure:"library"`   // absolute
	SHA256    string   `mapstructure:"sha256"`    // lower-case hex; empty: not verified
	Providers []string `mapstructure:"providers"` // the last is cpu

	Libraries    []Library     `mapstructure:"libraries"`
	Engines      string        `mapstructure:"engines"` // absolute
	TrialTimeout time.Duration `mapstructure:"trial_timeout"`
	TrialMemory  Size          `mapstructure:"trial_memory"`
}

// Library is one that a provider needs.
type Library struct {
	File   string `mapstructure:"file" must:"be given"`   // beside ONNX Runtime
	SHA256 string `mapstructure:"sha256" must:"be given"` // lower-case hex
}

// Alerts says how the people on call are told.
type Alerts struct {
	Identity   string       `mapstructure:"identity"` // uid, pseudonym
	MQTT       MQTT         `mapstructure:"mqtt"`
	Escalation []Escalation `mapstructure:"escalation"`
}

// MQTT is the broker and how to speak to it.
type MQTT struct {
	Broker          string        `mapstructure:"broker"`   // tcp://host:port, tls://host:port
	Failover        []string      `mapstructure:"failover"` // as Broker
	Root            string        `mapstructure:"root"`
	ClientID        string        `mapstructure:"client_id"` // filled from site and device where left out
	Username        string        `mapstructure:"username"`
	PasswordFile    string        `mapstructure:"password_file"`
	CAFile          string        `mapstructure:"ca_file"`
	CertificateFile string        `mapstructure:"certificate_file"`
	KeyFile         string        `mapstructure:"key_file"`
	KeepAlive       time.Duration `mapstructure:"keep_alive"`
	ReadBack        bool          `mapstructure:"read_back"`
}

// Brokers are all addresses of the broker, in the order in which they are tried.
func (m *MQTT) Brokers() []string { return append([]string{m.Broker}, m.Failover...) }

// Escalation is one step while nobody has acknowledged; After runs from the step
// before it.
type Escalation struct {
	After time.Duration `mapstructure:"after" must:"be given"`
}

// Monitor is the HTTP listener for health.
type Monitor struct {
	Listen string `mapstructure:"listen"` // empty: off
}

// Default returns the configuration that the embedded reference describes, as an
// empty file gives it.
func Default() *Config {
	c, err := Parse("ichwatch.yaml", nil)
	if err != nil {
		panic(fmt.Sprintf("configs: the embedded reference does not load: %v", err))
	}
	return c
}

// Load reads and parses the file at path. Its error, where there is one, is a
// [Problems] with every mistake in the file.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Problems{{File: path, Wrong: "cannot be read: " + reason(err), Err: err}}
	}
	return Parse(path, data)
}

// Parse is Load for the bytes of a file; name stands in front of every problem.
func Parse(name string, data []byte) (*Config, error) {
	d := readDocument(name, data)
	c := d.decode()
	d.validate(c)
	if len(d.problems) > 0 {
		d.problems.sort()
		return nil, d.problems
	}
	c.fill()
	if data != nil {
		c.file = &file{name, d.at}
	}
	return c, nil
}

// Equal reports whether two configurations say the same, wherever in their files.
func (c *Config) Equal(other *Config) bool {
	a, b := *c, *other
	a.file, b.file = nil, nil
	return reflect.DeepEqual(a, b)
}

// Placed gives problems that were found with the configuration in use their place in
// its file, and their order: that of the key or, where the file does not have it, of
// the nearest section around it.
func (c *Config) Placed(ps Problems) Problems {
	if c.file == nil {
		return ps
	}
	placed := make(Problems, len(ps))
	for i, p := range ps {
		if p.File == "" {
			p.File = c.file.name
			p.Line, p.Column = nearestPlace(c.file.at, p.Key)
		}
		placed[i] = p
	}
	placed.sort()
	return placed
}

// fill derives what the reference says is derived.
func (c *Config) fill() {
	for i, name := range c.DICOM.TransferSyntaxes {
		if ts, ok := dicom.TransferSyntaxByName(name); ok {
			c.DICOM.TransferSyntaxes[i] = string(ts.UID)
		}
	}
	c.DICOM.MaxAssociationsPerHost = min(c.DICOM.MaxAssociationsPerHost, c.DICOM.MaxAssociations)
	for i := range c.Destinations {
		d := &c.Destinations[i]
		d.CallingAETitle = cmp.Or(d.CallingAETitle, c.DICOM.AETitle)
		if takesAll(d.Routes) {
			d.Routes = nil
		}
		d.Commitment.Address = cmp.Or(d.Commitment.Address, d.Address)
		d.Commitment.CalledAETitle = cmp.Or(d.Commitment.CalledAETitle, d.CalledAETitle)
	}
	if c.Alerts.MQTT.ClientID == "" {
		c.Alerts.MQTT.ClientID = "ichwatch-" + c.Site + "-" + c.Device
	}
}
