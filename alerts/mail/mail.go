// Package mail takes messages to people's mailboxes by SMTP (RFC 5321), never
// without TLS: after STARTTLS (RFC 3207), or from the first byte (RFC 8314).
//
// What a message says stands in the mail as text, after the words that it is a
// suspected finding, not for diagnosis. Its Message-ID is the same at each try, and
// the mails of one alert make a thread. A mail is a way to be told, not to answer.
package mail

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"os"
	"strings"
	"time"

	"ichwatch/alerts"
)

// Mailer is an [alerts.Publisher]. Its fields are its configuration.
type Mailer struct {
	Server string // host:port, 587 as a rule
	// ImplicitTLS speaks TLS from the first byte (465) in place of STARTTLS.
	ImplicitTLS bool
	// CAFile (PEM) replaces the system's authorities. It is read at every try; so is
	// PasswordFile.
	CAFile string
	// Username and PasswordFile log in; empty for neither.
	Username, PasswordFile string
	From                   string   // an address
	To                     []string // addresses

	Timeout time.Duration // of a try; default 30 s
	Log     *slog.Logger  // required; sees no address
	Now     func() time.Time
}

var _ alerts.Publisher = (*Mailer)(nil)

// Errors of a try. After each of them the outbox sends again.
var (
	ErrNoTLS      = errors.New("the mail server offers no STARTTLS")
	ErrRecipients = errors.New("the mail server takes none of the recipients")
)

// Check says what is wrong with the configuration.
func (m *Mailer) Check() error {
	var errs []error
	if host, port, err := net.SplitHostPort(m.Server); err != nil || host == "" || port == "" {
		errs = append(errs, errors.New("server must be host:port"))
	}
	if len(m.To) == 0 {
		errs = append(errs, errors.New("a recipient is missing"))
	}
	for _, address := range append([]string{m.From}, m.To...) {
		if a, err := mail.ParseAddress(address); err != nil || a.Address != address {
			errs = append(errs, fmt.Errorf("%q is not an address like alerts@example.org", address))
		}
	}
	if m.PasswordFile != "" && m.Username == "" {
		errs = append(errs, errors.New("password_file needs a username"))
	}
	_, passwordErr := m.password()
	_, tlsErr := m.tlsConfig()
	return errors.Join(append(errs, passwordErr, tlsErr)...)
}

// Publish implements alerts.Publisher. It returns nil when the server has taken
// the mail for at least one recipient; a bad address among several must not keep
// the others from being told.
func (m *Mailer) Publish(ctx context.Context, e alerts.Entry) error {
	text, err := m.compose(e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(m.Timeout, 30*time.Second))
	defer cancel()
	if err := m.send(ctx, text); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return advise(err)
	}
	return nil
}

func (m *Mailer) send(ctx context.Context, text []byte) error {
	c, stop, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if m.Username != "" {
		password, err := m.password()
		if err != nil {
			return err
		}
		if err := c.Auth(smtp.PlainAuth("", m.Username, password, m.host())); err != nil {
			return fmt.Errorf("log in: %w", err)
		}
	}
	if err := c.Mail(m.From); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	var refused []error
	for i, to := range m.To {
		err := c.Rcpt(to)
		if _, answered := errors.AsType[*textproto.Error](err); answered {
			refused = append(refused, fmt.Errorf("recipient %d: %w", i+1, err))
		} else if err != nil {
			return err
		}
	}
	if len(refused) == len(m.To) {
		return fmt.Errorf("%w: %w", ErrRecipients, errors.Join(refused...))
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if refused != nil {
		m.Log.Warn("the mail server does not take a recipient; the others were told", "err", errors.Join(refused...))
	}
	_ = c.Quit() // the mail is taken
	return nil
}

// dial connects and secures the connection. stop closes it; so does the end of ctx.
func (m *Mailer) dial(ctx context.Context) (c *smtp.Client, stop func(), err error) {
	config, err := m.tlsConfig()
	if err != nil {
		return nil, nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.Server)
	if err != nil {
		return nil, nil, err
	}
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	stop = func() { release(); _ = conn.Close() }
	if c, err = m.greet(conn, config); err != nil {
		stop()
		return nil, nil, err
	}
	return c, stop, nil
}

// greet waits for the server's greeting and sees to it that TLS is spoken.
func (m *Mailer) greet(conn net.Conn, config *tls.Config) (*smtp.Client, error) {
	if m.ImplicitTLS {
		return smtp.NewClient(tls.Client(conn, config), m.host())
	}
	c, err := smtp.NewClient(conn, m.host())
	if err != nil {
		return nil, err
	}
	if ok, _ := c.Extension("STARTTLS"); !ok {
		return nil, ErrNoTLS
	}
	return c, c.StartTLS(config)
}

func (m *Mailer) host() string {
	host, _, _ := net.SplitHostPort(m.Server) // checked
	return host
}

// password reads the password file. The error does not quote it.
func (m *Mailer) password() (string, error) {
	if m.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(m.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the mail server's password: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func (m *Mailer) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: m.host()}
	if m.CAFile != "" {
		pem, err := os.ReadFile(m.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the mail server's authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", m.CAFile)
		}
	}
	return config, nil
}

// advise adds what a technician can do about err.
func advise(err error) error {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	answer, answered := errors.AsType[*textproto.Error](err)
	switch {
	case untrusted:
		return alerts.Advise(err, "the mail server's certificate is not to be trusted: compare its name, its time and its authority with server and ca_file, and the clock of this machine")
	case errors.Is(err, ErrNoTLS):
		return alerts.Advise(err, "alerts are not sent in the clear: switch TLS on at the mail server, or take its port for it (587, or 465 with implicit TLS)")
	case errors.Is(err, ErrRecipients):
		return alerts.Advise(err, "compare the recipients with the mailboxes there are, and whether the server relays for this device")
	case answered && (answer.Code == 535 || answer.Code == 530):
		return alerts.Advise(err, "the mail server does not take this login: compare username and the content of password_file")
	case answered:
		return alerts.Advise(err, "the mail server does not take the mail: see its log")
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return alerts.Advise(err, "the file must be one that the daemon can read")
	}
	return alerts.Advise(err, "the mail server cannot be reached: compare server, see whether it runs, and what the network lets through")
}
