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
	"testing"
	"time"
)

// issue makes a self-signed certificate for loopback and writes it as PEM.
func issue(t *testing.T, name string) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), name+".pem"), filepath.Join(t.TempDir(), name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
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
		if _, err := c.connect(t.Context()); !errors.As(err, &unknown) {
			t.Errorf("err = %v, want a certificate that cannot be verified", err)
		}
	})
}
