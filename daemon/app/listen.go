package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"ichwatch/dimse"
)

// door is a listener that faces the scanner.
type door struct {
	key string // of the configuration
	ln  net.Listener
	tls *tls.Config // nil: without
}

// open opens the doors that the configuration asks for: dicom.listen, and without TLS beside it
// dicom.tls.plain_listen. Of sockets it takes those that are open already.
func (a *App) open(sockets []net.Listener) error {
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
		ln, err := inherited(d.address, &sockets)
		if ln == nil && err == nil {
			ln, err = net.Listen("tcp", d.address)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.key, err)
		}
		a.doors = append(a.doors, door{d.key, ln, d.tls})
	}
	if len(sockets) > 0 {
		// A scanner that came there would wait for ever.
		return fmt.Errorf("ichwatch.socket holds %s open, which is none of the addresses in the configuration (dicom.listen is %q): set it with `systemctl edit ichwatch.socket`, where an empty ListenStream= goes before the new one",
			sockets[0].Addr(), a.cfg.DICOM.Listen)
	}
	return nil
}

// inherited takes from sockets the one that listens at address, or returns nil.
func inherited(address string, sockets *[]net.Listener) (net.Listener, error) {
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	for i, ln := range *sockets {
		have, ok := ln.Addr().(*net.TCPAddr)
		everywhere := ok && have.IP.IsUnspecified() && (want.IP == nil || want.IP.IsUnspecified())
		if ok && have.Port == want.Port && (everywhere || have.IP.Equal(want.IP)) {
			*sockets = slices.Delete(*sockets, i, i+1)
			return ln, nil
		}
	}
	return nil, nil
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
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := a.self.dial(ctx, network, addr)
		if err != nil || d.tls == nil {
			return conn, err
		}
		secure := tls.Client(conn, &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true,
			// Whatever authorities the server names: it knows this one certificate.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &a.selfCertificate, nil },
		})
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return secure, nil
	}
}

// selfCalls are the connections that the daemon has to itself, by their two ends: of two connections, these are never the
// same. So the server can tell them from those of others, who could come by any name or secret that went over the network.
type selfCalls struct {
	mu   sync.Mutex
	open map[ends]struct{}
}

// ends are the addresses of a connection: of who has called, and of who was.
type ends struct{ from, to netip.AddrPort }

func endOf(a net.Addr) netip.AddrPort {
	tcp, _ := a.(*net.TCPAddr)
	if tcp == nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(dimse.AddressOf(a), uint16(tcp.Port))
}

// dial connects, and knows of it before the first byte is sent.
func (s *selfCalls) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &selfConn{conn, s, ends{endOf(conn.LocalAddr()), endOf(conn.RemoteAddr())}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[ends]struct{}{}
	}
	s.open[c.ends] = struct{}{}
	return c, nil
}

// has is for dimse.Server.Own.
func (s *selfCalls) has(local, remote net.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.open[ends{endOf(remote), endOf(local)}]
	return ok
}

// selfConn is the calling end of one of them.
type selfConn struct {
	net.Conn
	calls *selfCalls
	ends  ends
}

// Close forgets the connection first: its port may be another's then.
func (c *selfConn) Close() error {
	c.calls.mu.Lock()
	delete(c.calls.open, c.ends)
	c.calls.mu.Unlock()
	return c.Conn.Close()
}
