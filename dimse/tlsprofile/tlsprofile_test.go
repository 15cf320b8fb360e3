package tlsprofile_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/tlsprofile"
)

func open(t testing.TB, f tlsprofile.Files) *tlsprofile.Credentials {
	t.Helper()
	c, err := tlsprofile.Open(f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake brings a client and a server together.
func handshake(server, client *tls.Config) (tls.ConnectionState, error) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	failed := make(chan error, 1)
	go func() {
		s := tls.Server(theirs, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1}) // of TLS 1.3 the client has not heard all yet
		}
		theirs.Close()
		failed <- err
	}()
	c := tls.Client(ours, client)
	err := c.Handshake()
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	ours.Close()
	return c.ConnectionState(), errors.Join(err, <-failed)
}

// BCP 195 (RFC 9325 sections 3.1.1 and 4.2): TLS 1.2 and 1.3 with forward secrecy
// and authenticated encryption, and nothing else, on either side.
func TestProfile(t *testing.T) {
	ca := dimsetest.NewCA(t, "site CA")
	f := tlsprofile.Files{CA: ca.File}
	f.Certificate, f.Key = ca.Issue("ichwatch.example.org")
	c := open(t, f)
	var all []uint16
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		all = append(all, suite.ID)
	}
	within := []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, // the certificate is of the kind ECDSA
	}
	for _, suite := range all {
		if slices.ContainsFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool {
			return s.ID == suite && slices.Contains(s.SupportedVersions, tls.VersionTLS13)
		}) {
			continue
		}
		other := &tls.Config{
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}, InsecureSkipVerify: true,
			Certificates: c.Client("x").Certificates, ServerName: "localhost",
		}
		_, asServer := handshake(c.Server(true), other)
		_, asClient := handshake(other, c.Client("localhost"))
		if want := slices.Contains(within, suite); (asServer == nil) != want || (asClient == nil) != want {
			t.Errorf("%s: as acceptor %v, as requestor %v", tls.CipherSuiteName(suite), asServer, asClient)
		}
	}
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		other := &tls.Config{
			MinVersion: tls.VersionTLS10, MaxVersion: version, CipherSuites: all, InsecureSkipVerify: true,
			Certificates: c.Client("x").Certificates, ServerName: "localhost",
		}
		_, asServer := handshake(c.Server(true), other)
		_, asClient := handshake(other, c.Client("localhost"))
		if (asServer == nil) != want || (asClient == nil) != want {
			t.Errorf("%s: as acceptor %v, as requestor %v", tls.VersionName(version), asServer, asClient)
		}
	}
	for _, suite := range tlsprofile.CipherSuites() {
		if slices.ContainsFunc(tls.InsecureCipherSuites(), func(s *tls.CipherSuite) bool { return s.ID == suite }) {
			t.Errorf("%s is insecure", tls.CipherSuiteName(suite))
		}
	}
	// Nothing is resumed: each association is judged by the certificates of its day.
	client := c.Client("localhost")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for range 2 {
		if state, err := handshake(c.Server(true), client); err != nil || state.DidResume {
			t.Errorf("resumed: %t, error %v", state.DidResume, err)
		}
	}
}

func TestServerTrustsOneMore(t *testing.T) {
	ca, self := dimsetest.NewCA(t, "site CA"), dimsetest.NewCA(t, "self")
	f := tlsprofile.Files{CA: ca.File}
	f.Certificate, f.Key = ca.Issue("ichwatch.example.org")
	certificate, key := self.Issue("self")
	own, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}}
	if _, err := handshake(open(t, f).Server(true), client); err == nil {
		t.Error("a foreign certificate was taken")
	}
	// Sent whatever authorities the server names.
	client.Certificates, client.GetClientCertificate = nil, func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	if _, err := handshake(open(t, f).Server(true), client); err == nil {
		t.Error("a foreign certificate was taken")
	}
	if _, err := handshake(open(t, f).Server(true, own.Leaf), client); err != nil {
		t.Errorf("the one more: %v", err)
	}
	if _, err := handshake(open(t, tlsprofile.Files{CA: ca.File}).Server(true), client); err == nil {
		t.Error("a server without a certificate answered")
	}
}

func TestOpenErrors(t *testing.T) {
	ca := dimsetest.NewCA(t, "site CA")
	certificate, key := ca.Issue("one")
	_, otherKey := ca.Issue("two")
	for name, f := range map[string]tlsprofile.Files{
		"key of another certificate": {Certificate: certificate, Key: otherKey},
		"no key":                     {Certificate: certificate},
		"no certificate":             {Key: key},
		"files swapped":              {Certificate: key, Key: certificate},
		"missing":                    {Certificate: certificate + ".none", Key: key},
		"missing CA":                 {CA: ca.File + ".none"},
		"CA without certificates":    {CA: key},
	} {
		if _, err := tlsprofile.Open(f, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: opened", name)
		} else if missing := name[0] == 'm'; errors.Is(err, os.ErrNotExist) != missing && name[:2] != "no" {
			t.Errorf("%s: %v", name, err)
		}
	}
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	certificate, key = ca.Issue("three", func(c *x509.Certificate) { c.NotAfter = until })
	if got := open(t, tlsprofile.Files{Certificate: certificate, Key: key}).NotAfter(); !got.Equal(until) {
		t.Errorf("NotAfter %v, want %v", got, until)
	}
	if got := open(t, tlsprofile.Files{}).NotAfter(); !got.IsZero() {
		t.Errorf("NotAfter without a certificate %v", got)
	}
}
