package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates; issued by nobody else, it signs itself.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string // PEM
}

// certificate is what a template leaves open.
func certificate(name string, change func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	return template
}

// sign writes a certificate and its key as PEM into dir.
func (a *authority) sign(t *testing.T, dir string, template *x509.Certificate) (key *ecdsa.PrivateKey, der []byte, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.certificate, a.key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := template.Subject.CommonName
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return key, der, certFile, keyFile
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	key, der, file, _ := (*authority)(nil).sign(t, dir, certificate(name, func(c *x509.Certificate) { c.IsCA = true }))
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{parsed, key, file}
}

// issue makes a self-signed certificate for loopback and writes it as PEM.
func issue(t *testing.T, name string) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	_, _, certFile, keyFile = (*authority)(nil).sign(t, t.TempDir(), certificate(name, func(c *x509.Certificate) { c.IsCA = true }))
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair, certFile, keyFile
}

func TestTLS(t *testing.T) {
	serverPair, serverFile, _ := issue(t, "broker")
	clientPair, clientFile, clientKey := issue(t, "device")
	clients := x509.NewCertPool()
	clients.AddCert(clientPair.Leaf)
	_, addr := startMochi(t, &tls.Config{Certificates: []tls.Certificate{serverPair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients})

	o := options("tls://" + addr)
	o.CAFile, o.CertificateFile, o.KeyFile = serverFile, clientFile, clientKey
	c, _ := run(t, o)
	if err := c.Publish(t.Context(), alertEntry(1)); err != nil {
		t.Error(err)
	}

	t.Run("a broker that nobody vouches for", func(t *testing.T) {
		o := o
		o.CAFile, o.ClientID = clientFile, "other"
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		var unknown *tls.CertificateVerificationError
		if _, err := c.connect(t.Context(), c.brokers[0]); !errors.As(err, &unknown) {
			t.Errorf("err = %v, want a certificate that cannot be verified", err)
		}
	})

	t.Run("no certificate of our own", func(t *testing.T) {
		o := o
		o.CertificateFile, o.KeyFile, o.ClientID = "", "", "other"
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.connect(t.Context(), c.brokers[0]); err == nil || !strings.Contains(err.Error(), "alerts.mqtt.certificate_file must be one") {
			t.Errorf("err = %v", err)
		}
	})
}
