// Package tlsprofile makes TLS configurations for DICOM: the "BCP 195 RFC 8996,
// 9325 TLS Secure Transport Connection Profile" of PS3.15 Annex B.
//
// TLS 1.2 and 1.3, and of 1.2 those suites alone that RFC 9325 section 4.2
// recommends, with forward secrecy and authenticated encryption. Sessions are
// not resumed: associations are few and long, and each is to be judged by the
// certificates of its day.
//
// The files may be replaced at any time; the next handshake finds the new ones
// (package reload).
package tlsprofile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"ichwatch/dimse/reload"
)

// MinVersion is the least version of TLS spoken; 1.3 is the other one.
const MinVersion = tls.VersionTLS12

// suites are those of TLS 1.2; those of 1.3 are all in the profile.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// CipherSuites lists what may be negotiated, of both versions, preferred first
// within each as crypto/tls does.
func CipherSuites() []uint16 {
	return append([]uint16{
		tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
	}, suites...)
}

// Files are the PEM files of one side. Empty ones are not used.
type Files struct {
	// Certificate and Key are this side's: its certificate, followed by those
	// between it and the root, and the private key, unencrypted.
	Certificate, Key string
	// CA holds the certificates that the other side's must derive from.
	CA string
}

// Credentials are what the files hold.
type Credentials struct {
	value *reload.Value[contents]
}

type contents struct {
	certificate *tls.Certificate // nil: none
	ca          *x509.CertPool   // nil: no file
}

// Open reads the files. log is told when they change.
func Open(f Files, log *slog.Logger) (*Credentials, error) {
	v, err := reload.New(log, f.read, f.Certificate, f.Key, f.CA)
	if err != nil {
		return nil, err
	}
	return &Credentials{v}, nil
}

func (f Files) read() (contents, error) {
	var c contents
	if f.Certificate != "" || f.Key != "" {
		pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
		if err != nil {
			return c, fmt.Errorf("certificate %s with key %s: %w", f.Certificate, f.Key, err)
		}
		c.certificate = &pair
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return c, fmt.Errorf("CA certificates: %w", err)
		}
		c.ca = x509.NewCertPool()
		if !c.ca.AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("CA certificates: %s holds none in PEM", f.CA)
		}
	}
	return c, nil
}

// errNoCertificate: an acceptor cannot do without one.
var errNoCertificate = errors.New("no certificate of our own is configured")

// NotAfter is the end of our own certificate's time; zero where there is none.
func (c *Credentials) NotAfter() time.Time {
	if pair := c.value.Get().certificate; pair != nil {
		return pair.Leaf.NotAfter
	}
	return time.Time{}
}

// Server is a configuration for an acceptor. It asks the peer for a certificate
// that derives from the CA, or is one of also, unless clientCertificates is
// false.
func (c *Credentials) Server(clientCertificates bool, also ...*x509.Certificate) *tls.Config {
	config := base()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := c.value.Get()
		if now.certificate == nil {
			return nil, errNoCertificate
		}
		config := base()
		config.Certificates = []tls.Certificate{*now.certificate}
		if clientCertificates {
			config.ClientAuth = tls.RequireAndVerifyClientCert
			config.ClientCAs = x509.NewCertPool()
			if now.ca != nil {
				config.ClientCAs = now.ca.Clone()
			}
			for _, certificate := range also {
				config.ClientCAs.AddCert(certificate)
			}
		}
		return config, nil
	}
	return config
}

// Client is a configuration for a requestor that calls a peer of the given name.
// Without a CA file those of the system are trusted.
func (c *Credentials) Client(serverName string) *tls.Config {
	now := c.value.Get()
	config := base()
	config.ServerName, config.RootCAs = serverName, now.ca
	if now.certificate != nil {
		config.Certificates = []tls.Certificate{*now.certificate}
	}
	return config
}

// Dial connects in TLS; it is for dimse.Dialer.NetDial. The peer's certificate
// must have the name given, or without one the host that is dialled.
func (c *Credentials) Dial(serverName string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := tls.Dialer{Config: c.Client(serverName)}
		conn, err := d.DialContext(ctx, network, addr)
		var (
			foreign    tls.RecordHeaderError
			unverified *tls.CertificateVerificationError
		)
		switch {
		case errors.As(err, &foreign):
			err = fmt.Errorf("the peer does not speak TLS on this port: %w", err)
		case errors.As(err, &unverified):
			err = fmt.Errorf("the peer's certificate is not to be trusted; compare the CA and the name that are configured for it: %w", err)
		}
		return conn, err
	}
}

func base() *tls.Config {
	return &tls.Config{MinVersion: MinVersion, CipherSuites: slices.Clone(suites), SessionTicketsDisabled: true}
}
