package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

// door is a listener that faces the scanner.
type door struct {
	key string // of the configuration
	ln  net.Listener
	tls *tls.Config // nil: without
}

// open opens the doors that the configuration asks for: dicom.listen, and without TLS beside it
// dicom.tls.plain_listen.
func (a *App) open() error {
	config := (*tls.Config)(nil)
	if a.tls != nil {
		var also []*x509.Certificate
		if a.selfCertificate.Leaf != nil {
			also = append(also, a.selfCertificate.Leaf)
		}
		config = a.tls.Server(a.cfg.DICOM.TLS.ClientCertificates == "require", also...)
	}
	for _, d := range []struct {
		key, address string
		tls          *tls.Config
	}{
		{"dicom.listen", a.cfg.DICOM.Listen, config},
		{"dicom.tls.plain_listen", a.cfg.DICOM.TLS.PlainListen, nil},
	} {
		if d.address == "" {
			continue
		}
		ln, err := net.Listen("tcp", d.address)
		if err != nil {
			return fmt.Errorf("%s: %w", d.key, err)
		}
		a.doors = append(a.doors, door{d.key, ln, d.tls})
	}
	return nil
}

// serve answers at every door until ctx ends and the associations are drained.
func (a *App) serve(ctx context.Context) error {
	served := make(chan error, len(a.doors))
	for _, d := range a.doors {
		go func() {
			if d.tls != nil {
				served <- a.server.ServeTLS(context.WithoutCancel(ctx), d.ln, d.tls)
				return
			}
			served <- a.server.Serve(context.WithoutCancel(ctx), d.ln)
		}()
	}
	left := len(a.doors)
	defer func() {
		for range left {
			<-served
		}
	}()
	select {
	case err := <-served:
		left--
		return errors.Join(err, a.server.Close())
	case <-ctx.Done():
	}
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.DICOM.DrainTimeout)
	defer cancel()
	if err := a.server.Shutdown(deadline); err != nil {
		a.log.Warn("associations were aborted at the end of dicom.drain_timeout; their peers will send again", "err", err)
	}
	return nil
}

// selfDial connects to ourselves at a door. Who answers there is not in question, only whether somebody does.
func (a *App) selfDial(d door) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.tls == nil {
		return nil
	}
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true,
		// Whatever authorities the server names: it knows this one certificate.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &a.selfCertificate, nil },
	}}
	return dialer.DialContext
}
