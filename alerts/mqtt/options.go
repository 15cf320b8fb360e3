package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"ichwatch/alerts"
)

// Options configure a [Client].
type Options struct {
	// Brokers are the addresses of the broker, one for each node where it is a
	// cluster: tcp://host:port or, over TLS, tls://host:port (ssl:// and mqtts://
	// mean the same); without a port 1883 and 8883. They are tried in this order,
	// and the next one when the connection to one breaks. Either all are over TLS
	// or none: login and topics are the same at each.
	Brokers []string
	// Root, Site and Device make the topics; see [Client.Base]. Site and Device
	// are one level each, Root is one or more. No level may be empty or contain
	// '+', '#' or a control character.
	Root, Site, Device string
	// ClientID is what the broker knows this device by, unique at the broker.
	// Default: ichwatch-<site>-<device>.
	ClientID string
	// Boot is the number of this life of the device; it grows with each.
	Boot uint64
	// Version of the program, told in "online".
	Version string

	// Username and PasswordFile log in; empty for neither. The file is read at
	// every connect; a line break at its end does not count.
	Username, PasswordFile string
	// CAFile (PEM) replaces the system's authorities for tls://.
	CAFile string
	// CertificateFile and KeyFile (PEM) are shown to the broker when both are set.
	CertificateFile, KeyFile string

	// ReadBack makes a message count as delivered only when the broker, beside
	// confirming it, has handed it back to this client, which subscribes to its
	// own topics for it. Where the broker refuses such a subscription, its
	// confirmation has to do.
	ReadBack bool

	// Acknowledge records an acknowledgement durably. Its error
	// alerts.ErrUnknownAlert, ErrAlreadyAcknowledged or ErrRetracted ends the
	// matter; after any other the acknowledgement is tried again. nil: the
	// ack topic is not read.
	Acknowledge func(context.Context, alerts.Acknowledgement) error

	// Heartbeat is the interval of the health topic; 0: none.
	Heartbeat time.Duration
	KeepAlive time.Duration // whole seconds; default 30 s
	// Timeout bounds a connect, and the wait for each confirmation. Default 5 s.
	Timeout time.Duration
	// MinRetry and MaxRetry bound the wait between two connects. Default 500 ms, 5 s: an
	// alert may be waiting.
	MinRetry, MaxRetry time.Duration

	Log *slog.Logger     // required
	Now func() time.Time // default time.Now
}

// complete checks o and fills in the defaults. The error names all that is wrong.
func (o Options) complete() (Options, []*url.URL, error) {
	var errs []error
	if slices.ContainsFunc(strings.Split(o.Root, "/"), func(level string) bool { return !validLevel(level) }) {
		errs = append(errs, errors.New("root must be levels of a topic with / between: none empty, without + # and control characters"))
	}
	for name, level := range map[string]string{"site": o.Site, "device": o.Device} {
		if !validLevel(level) {
			errs = append(errs, fmt.Errorf("%s must be one level of a topic: not empty, without / + # and control characters", name))
		}
	}
	brokers, err := o.brokers()
	if err != nil {
		errs = append(errs, err)
	}
	if _, err := o.password(); err != nil {
		errs = append(errs, err)
	}
	if o.PasswordFile != "" && o.Username == "" {
		errs = append(errs, errors.New("password_file needs a username"))
	}
	if o.KeepAlive%time.Second != 0 || o.KeepAlive < 0 || o.KeepAlive > 0xFFFF*time.Second {
		errs = append(errs, errors.New("keep_alive must be whole seconds, at most 65535"))
	}
	if err := errors.Join(errs...); err != nil {
		return o, nil, fmt.Errorf("MQTT options: %w", err)
	}
	if o.ClientID == "" {
		o.ClientID = "ichwatch-" + o.Site + "-" + o.Device
	}
	setDefault(&o.KeepAlive, 30*time.Second)
	setDefault(&o.Timeout, 5*time.Second)
	setDefault(&o.MinRetry, 500*time.Millisecond)
	setDefault(&o.MaxRetry, 5*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, brokers, nil
}

// brokers reads the addresses, and whatever is needed for TLS with them.
func (o Options) brokers() ([]*url.URL, error) {
	if len(o.Brokers) == 0 {
		return nil, errors.New("a broker is missing")
	}
	var all []*url.URL
	for _, address := range o.Brokers {
		broker, err := url.Parse(address)
		switch {
		case err != nil || broker.Hostname() == "":
			// url.Parse quotes its input, which may hold a password.
			return nil, errors.New("broker must be tcp://host:port or tls://host:port")
		case broker.User != nil:
			return nil, errors.New("broker must not contain a user: use username and password_file")
		case broker.Scheme == "tcp":
			broker.Host = hostPort(broker, "1883")
		case overTLS(broker):
			broker.Host = hostPort(broker, "8883")
			if _, err := o.tlsConfig(broker.Hostname()); err != nil {
				return nil, err
			}
		default:
			return nil, errors.New("broker must begin with tcp:// or tls://")
		}
		all = append(all, broker)
	}
	if slices.ContainsFunc(all, func(b *url.URL) bool { return overTLS(b) != overTLS(all[0]) }) {
		return nil, errors.New("all addresses of the broker must begin with tcp://, or all with tls://")
	}
	return all, nil
}

func validLevel(level string) bool {
	return level != "" && !strings.ContainsAny(level, "/+#") &&
		!strings.ContainsFunc(level, func(r rune) bool { return r < ' ' || r == 0x7F })
}

func overTLS(broker *url.URL) bool {
	return slices.Contains([]string{"ssl", "tls", "mqtts"}, broker.Scheme)
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

func hostPort(u *url.URL, port string) string {
	if u.Port() != "" {
		return u.Host
	}
	return u.Host + ":" + port
}

// password reads the password file. The error does not quote it.
func (o Options) password() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the MQTT password: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// tlsConfig follows BCP 195 (RFC 9325): TLS 1.2 with ECDHE and an AEAD, or TLS
// 1.3. The files are read anew for every connect, so that a renewed certificate
// needs no restart.
func (o Options) tlsConfig(serverName string) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: serverName,
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 are all of this kind
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the broker's authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", o.CAFile)
		}
	}
	if (o.CertificateFile == "") != (o.KeyFile == "") {
		return nil, errors.New("certificate_file and key_file go together")
	}
	if o.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertificateFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate for the broker: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
