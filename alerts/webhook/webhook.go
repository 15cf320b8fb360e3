// Package webhook takes messages to an HTTPS endpoint: a pager, a chat gateway, an
// integration engine.
//
// The body is the message itself, as it travels over MQTT. It is signed after
// "Standard Webhooks" 1.0: the header webhook-id names the message, the same at
// each try, so that a receiver can drop what it has seen; webhook-timestamp is the
// time of the try in Unix seconds, so that one can refuse what is old; and
// webhook-signature holds, after "v1,", the HMAC-SHA256 in base64 of
// "<id>.<timestamp>.<body>" under each secret, with spaces between.
//
// Only an answer of 2xx delivers. Redirects are not followed: they are an answer
// for the technician, not for an alert.
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"ichwatch/alerts"
)

// Webhook is an [alerts.Publisher]. Its fields are its configuration.
type Webhook struct {
	URL string // https
	// SecretFile holds the secrets, one in a line: "whsec_" and base64 of 24 to 64
	// bytes. Two lines let a receiver change from one to the other. It is read at
	// every try; so are the files below.
	SecretFile string
	// CAFile (PEM) replaces the system's authorities.
	CAFile string
	// CertificateFile and KeyFile (PEM) are shown to the receiver when both are set.
	CertificateFile, KeyFile string

	Timeout time.Duration    // of a try; default 10 s
	Now     func() time.Time // default time.Now
}

var _ alerts.Publisher = (*Webhook)(nil)

// ErrRefused: the receiver answered, and not with 2xx.
var ErrRefused = errors.New("the receiver refused the message")

// Check says what is wrong with the configuration.
func (w *Webhook) Check() error {
	u, err := url.Parse(w.URL)
	var errs []error
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		// url.Parse quotes its input, which may hold a password.
		errs = append(errs, errors.New("url must be https://host/path, without a user in it"))
	}
	_, secretErr := w.secrets()
	_, tlsErr := w.tlsConfig()
	return errors.Join(append(errs, secretErr, tlsErr)...)
}

// Publish implements alerts.Publisher.
func (w *Webhook) Publish(ctx context.Context, e alerts.Entry) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(w.Timeout, 10*time.Second))
	defer cancel()
	secrets, err := w.secrets()
	if err != nil {
		return alerts.Advise(err, "the secrets' file must be one that the daemon can read")
	}
	config, err := w.tlsConfig()
	if err != nil {
		return alerts.Advise(err, "the files of its TLS must fit each other")
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(e.Payload))
	if err != nil {
		return err
	}
	rq.Header.Set("Content-Type", "application/json")
	rq.Header.Set("User-Agent", "ichwatch")
	rq.Header.Set("Ichwatch-Topic", e.Topic)
	w.sign(rq.Header, e, secrets)

	// Alerts are rare: a connection that was kept would be a dead one as a rule.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	rsp, err := client.Do(rq)
	if err != nil {
		return advise(err)
	}
	// The answer's words stay out of the log: a receiver may repeat what it got.
	_, _ = io.CopyN(io.Discard, rsp.Body, 64<<10)
	_ = rsp.Body.Close()
	if rsp.StatusCode < 200 || rsp.StatusCode > 299 {
		return alerts.Advise(fmt.Errorf("%w: %d %s", ErrRefused, rsp.StatusCode, http.StatusText(rsp.StatusCode)), adviceForStatus(rsp.StatusCode))
	}
	return nil
}

// sign adds the headers of Standard Webhooks.
func (w *Webhook) sign(h http.Header, e alerts.Entry, secrets [][]byte) {
	now := time.Now
	if w.Now != nil {
		now = w.Now
	}
	sum := sha256.Sum256(append([]byte(e.Topic+"\n"), e.Payload...))
	id, timestamp := "msg_"+hex.EncodeToString(sum[:16]), strconv.FormatInt(now().Unix(), 10)
	var signatures []string
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, e.Payload)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", timestamp)
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
}

// secrets reads the file. The error does not quote it.
func (w *Webhook) secrets() ([][]byte, error) {
	text, err := os.ReadFile(w.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("read the webhook's secrets: %w", err)
	}
	var secrets [][]byte
	for line := range strings.FieldsSeq(string(text)) {
		encoded, ok := strings.CutPrefix(line, "whsec_")
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(secret) < 24 || len(secret) > 64 {
			return nil, fmt.Errorf("%s must hold secrets, one in a line: whsec_ and base64 of 24 to 64 bytes", w.SecretFile)
		}
		secrets = append(secrets, secret)
	}
	if secrets == nil {
		return nil, fmt.Errorf("%s holds no secret", w.SecretFile)
	}
	return secrets, nil
}

func (w *Webhook) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if w.CAFile != "" {
		pem, err := os.ReadFile(w.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the webhook's authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", w.CAFile)
		}
	}
	if w.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(w.CertificateFile, w.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate for the webhook: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// advise says what a technician can do about a receiver that gave no answer. The
// URL, which may hold a token, is not repeated.
func advise(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case untrusted:
		return alerts.Advise(err, "the receiver's certificate is not to be trusted: compare its name, its time and its authority with url and ca_file, and the clock of this machine")
	case isOp && op.Op == "remote error": // so crypto/tls calls the other side's alerts
		return alerts.Advise(err, "the receiver refused the TLS connection: it may want a certificate, certificate_file")
	case errors.Is(err, context.DeadlineExceeded):
		return alerts.Advise(err, "the receiver does not answer in time: see whether it runs, and what the network lets through")
	}
	return alerts.Advise(err, "the receiver cannot be reached: compare its url, see whether it runs, and what the network lets through")
}

func adviceForStatus(status int) string {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "compare the secret at both ends, and the clocks: a signature holds for some minutes only"
	case status >= 300 && status <= 399:
		return "redirects are not followed: put the address that it names into url"
	case status == http.StatusTooManyRequests || status >= 500:
		return "the receiver is overloaded or broken: see its log"
	}
	return "the receiver does not take the message: compare its url, and see its log"
}
