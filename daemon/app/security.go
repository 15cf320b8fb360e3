package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"time"

	"ichwatch/configs"
	"ichwatch/dimse"
	"ichwatch/dimse/identity"
	"ichwatch/dimse/pdu"
	"ichwatch/dimse/tlsprofile"
)

// openServerTLS reads the files of dicom.tls; nil where it is not enabled.
func openServerTLS(cfg *configs.Config, log *slog.Logger) (*tlsprofile.Credentials, error) {
	t := &cfg.DICOM.TLS
	if !t.Enabled {
		return nil, nil
	}
	files := tlsprofile.Files{Certificate: t.CertificateFile, Key: t.KeyFile}
	if t.ClientCertificates == "require" {
		files.CA = t.ClientCAFile
	}
	c, err := tlsprofile.Open(files, log)
	if err != nil {
		return nil, fmt.Errorf("dicom.tls: %w", err)
	}
	return c, nil
}

// openUsers reads dicom.users_file; nil where there is none.
func openUsers(cfg *configs.Config, log *slog.Logger) (dimse.Authenticator, error) {
	if cfg.DICOM.UsersFile == "" {
		return nil, nil
	}
	users, err := identity.Open(cfg.DICOM.UsersFile, log)
	if err != nil {
		return nil, fmt.Errorf("dicom.users_file: %w", err)
	}
	return users, nil
}

// secure gives a dialer the TLS that is configured for whom it calls.
func secure(d *dimse.Dialer, t *configs.TLS, log *slog.Logger) error {
	if !t.Enabled {
		return nil
	}
	c, err := tlsprofile.Open(tlsprofile.Files{Certificate: t.CertificateFile, Key: t.KeyFile, CA: t.CAFile}, log)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	d.NetDial = c.Dial(t.ServerName)
	return nil
}

// userIdentity is what a destination is sent of who calls it; nil: nothing.
func userIdentity(d *configs.Destination) (*pdu.UserIdentity, error) {
	if d.Username == "" {
		return nil, nil
	}
	id := &pdu.UserIdentity{Type: pdu.IdentityUsername, PrimaryField: []byte(d.Username)}
	if d.PasscodeFile == "" {
		return id, nil
	}
	passcode, err := readPasscode(d.PasscodeFile)
	if err != nil {
		return nil, fmt.Errorf("passcode_file: %w", err)
	}
	id.Type, id.SecondaryField = pdu.IdentityUsernamePasscode, passcode
	return id, nil
}

// readPasscode reads a passcode without the end of its line.
func readPasscode(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 2*identity.MaxPasscode))
	passcode := []byte(strings.TrimRight(string(text), "\r\n"))
	if err == nil && (len(passcode) == 0 || len(passcode) > identity.MaxPasscode) {
		err = fmt.Errorf("%s does not hold 1 to %d bytes", path, identity.MaxPasscode)
	}
	return passcode, err
}

// CheckSecurity looks into the files that have to do with TLS and user identities, as the daemon does at its start:
// what configs.Check knows of them is that they are there. With its warnings the daemon starts.
func CheckSecurity(cfg *configs.Config) (problems, warnings configs.Problems) {
	note := func(key string, err error) {
		if err != nil && !errors.Is(err, os.ErrNotExist) { // that, configs.Check has said
			problems = append(problems, configs.Problem{Key: key, Wrong: "cannot be used: " + err.Error(), Err: err})
		}
	}
	log := slog.New(slog.DiscardHandler)
	credentials, err := openServerTLS(cfg, log)
	note("dicom.tls", err)
	if credentials != nil {
		if err := expiry(credentials.NotAfter(), time.Now()); err != nil {
			warnings = append(warnings, configs.Problem{Key: "dicom.tls.certificate_file", Wrong: err.Error()})
		}
	}
	_, err = openUsers(cfg, log)
	note("dicom.users_file", err)
	ps, ws := checkConsole(cfg, log)
	problems, warnings = append(problems, ps...), append(warnings, ws...)
	for i, d := range cfg.Destinations {
		_, err := Dialer(d, log)
		note(fmt.Sprintf("destinations[%d]", i), err)
	}
	for i, p := range cfg.DICOM.Peers {
		_, err := reportPeer(cfg, p, log)
		note(fmt.Sprintf("dicom.peers[%d].commitment", i), err)
	}
	return problems, warnings
}

// expiringSoon is how long before its end a certificate makes the daemon not ready: time enough to renew it.
const expiringSoon = 14 * 24 * time.Hour

// expiry is an error about a certificate that is at its end or near it.
func expiry(notAfter, now time.Time) error {
	switch left := notAfter.Sub(now); {
	case left <= 0:
		return fmt.Errorf("has expired on %s: peers will not connect; put a new one in its place", notAfter.Format(time.DateOnly))
	case left < expiringSoon:
		return fmt.Errorf("expires on %s: put a new one in its place", notAfter.Format(time.DateOnly))
	}
	return nil
}

// newSelfCertificate makes the certificate by which the daemon calls itself. Like the AE title it is another one after
// each start, and its key never leaves the process.
func newSelfCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "ichwatch itself"},
		NotBefore:    time.Unix(0, 0), // whatever the clock is set to
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
