package mail

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ichwatch/alerts"
	"ichwatch/dimse/dimsetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func alert(t *testing.T, change func(*alerts.Message)) alerts.Entry {
	t.Helper()
	m := alerts.Message{
		AlertID: "a-75mnq4a4v2uun45ibsobxikb4u", Seq: 1, Type: alerts.TypeNew, Site: "north", Device: "ct1",
		Study: alerts.Study{Pseudonym: "s-abcdefghij"}, Finding: "subdural", Score: 0.931,
		Models: []alerts.Model{{Name: "resnet18", SHA256: "ab"}}, ReceivedAt: now, DetectedAt: now.Add(time.Second),
	}
	change(&m)
	e, err := m.Entry("s-abcdefghij")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func same(*alerts.Message) {}

func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate makes one for loopback that is its own authority.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		write(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// taken is a mail that the server took.
type taken struct {
	From string
	To   []string
	TLS  bool
	Data string
}

// serve runs aiosmtpd and returns a Mailer that fits it.
func serve(t *testing.T) (m *Mailer, mails <-chan taken) {
	t.Helper()
	cert, key := certificate(t)
	port := dimsetest.FreePort(t)
	cmd := exec.Command(dimsetest.Pynetdicom(t), dimsetest.Script(t, "smtp_server.py"), fmt.Sprint(port), cert, key)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, got, done := make(chan struct{}), make(chan taken, 10), make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == "ready" {
				close(ready)
				continue
			}
			var mail taken
			if err := json.Unmarshal(lines.Bytes(), &mail); err != nil {
				t.Errorf("%q: %v", lines.Text(), err)
			}
			got <- mail
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	select {
	case <-ready:
	case <-done:
		t.Fatalf("the mail server ended: %s", &complaints)
	case <-time.After(20 * time.Second):
		t.Fatal("the mail server does not start")
	}
	return &Mailer{
		Server: fmt.Sprintf("127.0.0.1:%v", port), CAFile: cert, Username: "ichwatch", PasswordFile: write(t, "password", []byte("s3cret\n")),
		From: "ichwatch@example.org", To: []string{"oncall@example.org"}, Timeout: 10 * time.Second,
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
	}, got
}

// read takes a mail apart.
func (m taken) read(t *testing.T) (header mail.Header, subject, body string) {
	t.Helper()
	parsed, err := mail.ReadMessage(strings.NewReader(m.Data))
	if err != nil {
		t.Fatalf("%v:\n%s", err, m.Data)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(parsed.Body))
	if err != nil {
		t.Fatal(err)
	}
	if subject, err = new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	return parsed.Header, subject, string(text)
}

func TestMailsOfAnAlert(t *testing.T) {
	m, mails := serve(t)
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	ids, thread := map[string]bool{}, ""
	for i, c := range []struct {
		change  func(*alerts.Message)
		subject string
		says    []string
	}{
		{same, "north/ct1: suspected subdural hemorrhage, not for diagnosis", []string{alerts.Disclaimer, "subdural", "0.93", "s-abcdefghij", "resnet18", "a-75mnq4a4v2uun45ibsobxikb4u"}},
		{same, "north/ct1: suspected subdural hemorrhage, not for diagnosis", nil}, // again
		{func(m *alerts.Message) { m.Seq, m.Type, m.Level = 2, alerts.TypeEscalate, 1 }, "north/ct1: NOT YET ACKNOWLEDGED (level 1): suspected subdural hemorrhage, not for diagnosis", nil},
		{func(m *alerts.Message) { m.Seq, m.Type, m.Reason = 3, alerts.TypeRetract, "ü\r\nBcc: x" }, "north/ct1: withdrawn: suspected subdural hemorrhage, not for diagnosis", []string{"ü  Bcc: x\r\n"}},
	} {
		if err := m.Publish(t.Context(), alert(t, c.change)); err != nil {
			t.Fatal(err)
		}
		got := <-mails
		header, subject, body := got.read(t)
		if !got.TLS || got.From != m.From || !slices.Equal(got.To, m.To) || subject != c.subject || header.Get("Auto-Submitted") != "auto-generated" {
			t.Errorf("%d: %+v", i, got)
		}
		for _, says := range c.says {
			if !strings.Contains(body, says) {
				t.Errorf("%d: %q is missing in\n%s", i, says, body)
			}
		}
		ids[header.Get("Message-ID")] = true
		if thread == "" {
			thread = header.Get("References")
		}
		if header.Get("References") != thread || !strings.Contains(thread, "a-75mnq4a4v2uun45ibsobxikb4u") {
			t.Errorf("%d: References %s, want %s", i, header.Get("References"), thread)
		}
	}
	if len(ids) != 3 {
		t.Errorf("ids %v: want three, the second try having that of the first", ids)
	}
}

func TestMailOfAnOutcome(t *testing.T) {
	m, mails := serve(t)
	e, err := alerts.OutcomeMessage{
		Site: "north", Device: "ct1", Study: alerts.Study{Pseudonym: "s-abcdefghij"}, Seq: 1, Outcome: alerts.Failed, Reason: "no model", ReceivedAt: now, DecidedAt: now,
	}.Entry("s-abcdefghij")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if _, subject, body := (<-mails).read(t); subject != "north/ct1: study FAILED, not for diagnosis" || !strings.Contains(body, "no model") {
		t.Errorf("%s\n%s", subject, body)
	}
}

// One bad address keeps nobody else from being told.
func TestPromise5_RecipientsThatAreRefused(t *testing.T) {
	m, mails := serve(t)
	m.To = []string{"nobody@example.org", "oncall@example.org", "later@example.org"}
	if err := m.Publish(t.Context(), alert(t, same)); err != nil {
		t.Fatal(err)
	}
	if got := <-mails; !slices.Equal(got.To, []string{"oncall@example.org"}) {
		t.Errorf("%+v", got)
	}
	m.To = []string{"nobody@example.org", "later@example.org"}
	if err := m.Publish(t.Context(), alert(t, same)); !errors.Is(err, ErrRecipients) || !strings.Contains(err.Error(), "compare the recipients") {
		t.Errorf("err = %v, want ErrRecipients", err)
	}
}

func TestPromise5_WhatIsNotTakenIsNotDelivered(t *testing.T) {
	good, mails := serve(t)
	other, _ := certificate(t)
	for name, c := range map[string]struct {
		change func(*Mailer)
		says   string
	}{
		"wrong password":    {func(m *Mailer) { m.PasswordFile = write(t, "password", []byte("wrong")) }, "does not take this login"},
		"no login":          {func(m *Mailer) { m.Username, m.PasswordFile = "", "" }, "does not take this login"},
		"unknown authority": {func(m *Mailer) { m.CAFile = other }, "not to be trusted"},
		"nobody there":      {func(m *Mailer) { m.Server = "127.0.0.1:1" }, "cannot be reached"},
		"no password file":  {func(m *Mailer) { m.PasswordFile += "x" }, "that the daemon can read"},
	} {
		m := *good
		c.change(&m)
		if err := m.Publish(t.Context(), alert(t, same)); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(mails) != 0 {
		t.Errorf("%d mails were taken", len(mails))
	}
	if err := good.Publish(t.Context(), alerts.Entry{Topic: "gossip", Payload: []byte("{}")}); err == nil {
		t.Error("a mail about gossip")
	}
}

// scripted answers each connection with lines, and then hangs.
func scripted(t *testing.T, lines ...string) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
			in := bufio.NewReader(conn)
			for _, line := range lines {
				_, _ = io.WriteString(conn, line+"\r\n")
				_, _ = in.ReadString('\n')
			}
			_, _ = io.Copy(io.Discard, in)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

func TestServersWithoutTLSAndServersThatHang(t *testing.T) {
	m := &Mailer{From: "a@example.org", To: []string{"b@example.org"}, Timeout: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	m.Server = scripted(t, "220 hello", "250 hello")
	if err := m.Publish(t.Context(), alert(t, same)); !errors.Is(err, ErrNoTLS) || !strings.Contains(err.Error(), "not sent in the clear") {
		t.Errorf("err = %v, want ErrNoTLS", err)
	}
	m.Server = scripted(t)
	if err := m.Publish(t.Context(), alert(t, same)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want a time-out", err)
	}
	m.ImplicitTLS = true
	if err := m.Publish(t.Context(), alert(t, same)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want a time-out", err)
	}
}

func TestCheck(t *testing.T) {
	good := Mailer{Server: "mail.example.org:587", From: "a@example.org", To: []string{"b@example.org"}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(*Mailer){
		"host:port":            func(m *Mailer) { m.Server = "mail" },
		"recipient is missing": func(m *Mailer) { m.To = nil },
		"is not an address":    func(m *Mailer) { m.From = "On Call <a@example.org>" },
		"needs a username":     func(m *Mailer) { m.PasswordFile = write(t, "p", nil) },
		"no such file":         func(m *Mailer) { m.Username, m.PasswordFile = "a", "none" },
		"no PEM certificate":   func(m *Mailer) { m.CAFile = write(t, "ca", nil) },
	} {
		m := good
		change(&m)
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
