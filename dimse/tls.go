package dimse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"ichwatch/dimse/pdu"
)

// ServeTLS is [Server.Serve] for a listener whose peers speak TLS first. The
// handshake has the time of ARTIM, together with the association request that
// follows it, and a connection counts while it lasts. Package tlsprofile makes
// configurations.
func (s *Server) ServeTLS(ctx context.Context, ln net.Listener, config *tls.Config) error {
	return s.Serve(ctx, &tlsListener{ln, config})
}

type tlsListener struct {
	net.Listener
	config *tls.Config
}

// Accept returns a connection whose handshake is still to come.
func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &tlsConn{}
	config := l.config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c.offered = hello.SupportedVersions
		if l.config.GetConfigForClient == nil {
			return nil, nil
		}
		return l.config.GetConfigForClient(hello)
	}
	c.Conn = tls.Server(conn, config)
	return c, nil
}

// tlsConn is the acceptor's end of a TLS connection.
type tlsConn struct {
	*tls.Conn
	offered []uint16 // the versions that the peer offered
}

// newest is the newest version that the peer offered.
func (c *tlsConn) newest() uint16 {
	if len(c.offered) == 0 {
		return 0
	}
	return slices.Max(c.offered)
}

// handshakeError is why a TLS handshake failed, said for who has to mend it.
type handshakeError struct {
	why string
	err error
}

func (e *handshakeError) Error() string {
	if e.why == "" {
		return "TLS handshake: " + e.err.Error()
	}
	return "TLS handshake: " + e.why + ": " + e.err.Error()
}

func (e *handshakeError) Unwrap() error { return e.err }

// secure completes the handshake of a connection with TLS.
func (a *Association) secure(ctx context.Context) error {
	c, ok := a.conn.conn.(*tlsConn)
	if !ok {
		return nil
	}
	err := a.conn.handshake(ctx, c)
	if err == nil {
		a.names = certificateNames(c.ConnectionState().PeerCertificates)
		return nil
	}
	e := &handshakeError{err: err}
	var (
		unverified *tls.CertificateVerificationError
		alert      *net.OpError
	)
	switch v := c.newest(); {
	case v != 0 && v < tls.VersionTLS12:
		e.why = fmt.Sprintf("the peer offers %s at most, where 1.2 is the least", tls.VersionName(v))
	case errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0:
		leaf := unverified.UnverifiedCertificates[0]
		a.names = certificateNames(unverified.UnverifiedCertificates)
		e.why = fmt.Sprintf("the peer's certificate, issued by %q, valid to %s", leaf.Issuer.String(), leaf.NotAfter.Format("2006-01-02"))
	case errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error"):
		// OpenSSL's alert cannot always be read; it is the answer to our certificate all the same.
		e.why = "the peer broke it off, as a rule because it does not trust our certificate"
	}
	return e
}

// certificateNames are the names in the first certificate, the peer's own.
func certificateNames(chain []*x509.Certificate) []string {
	if len(chain) == 0 {
		return nil
	}
	names := slices.Clone(chain[0].DNSNames)
	if cn := chain[0].Subject.CommonName; cn != "" && !slices.Contains(names, cn) {
		names = append(names, cn)
	}
	return names
}

// tlsClientHello is what a peer's first byte is that speaks TLS: a record of the
// handshake (RFC 8446 section 5.1). No PDU has that type.
const tlsClientHello pdu.Type = 0x16

// unrequested is the Cause of a connection that ended, because of err, before an
// association was requested.
func unrequested(err error) Cause {
	var (
		invalid *pdu.Error
		foreign tls.RecordHeaderError
		failed  *handshakeError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Type == tlsClientHello:
		return CauseTLS
	case errors.As(err, &foreign) && foreign.Conn != nil: // nil: later in the handshake
		return CauseNoTLS
	case errors.As(err, &failed) && !errors.Is(err, io.EOF) && !errors.Is(err, ErrTimeout) &&
		!errors.Is(err, ErrServerClosed) && !errors.Is(err, errEvicted):
		return CauseHandshake
	}
	return CauseNoRequest
}
