package dimse_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
	"ichwatch/dimse/tlsprofile"
)

// site is what a site has: an authority, a certificate of ours and one of a
// scanner's.
type site struct {
	ca            *dimsetest.CA
	ours, scanner tlsprofile.Files
}

func newSite(t testing.TB) site { return newSiteOf(t, "site CA") }

func newSiteOf(t testing.TB, authority string) site {
	t.Helper()
	s := site{ca: dimsetest.NewCA(t, authority)}
	s.ours, s.scanner = tlsprofile.Files{CA: s.ca.File}, tlsprofile.Files{CA: s.ca.File}
	s.ours.Certificate, s.ours.Key = s.ca.Issue("ichwatch.example.org")
	s.scanner.Certificate, s.scanner.Key = s.ca.Issue("ct1.example.org")
	return s
}

func open(t testing.TB, f tlsprofile.Files) *tlsprofile.Credentials {
	t.Helper()
	c, err := tlsprofile.Open(f, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secureServer is a server that asks for certificates of the site, and its log.
func (s site) secureServer(t testing.TB, r *recorder, configure ...func(*dimse.Server)) (*dimsetest.Server, *dimsetest.Output) {
	t.Helper()
	log := new(dimsetest.Output)
	configure = append(configure, func(s *dimse.Server) { s.Log = slog.New(slog.NewTextHandler(log, nil)) })
	return dimsetest.NewTLSServer(t, r, open(t, s.ours).Server(true), configure...), log
}

// secureDialer calls with the certificate and authority of files.
func secureDialer(t testing.TB, f tlsprofile.Files) *dimse.Dialer {
	t.Helper()
	d := dialer()
	d.NetDial = open(t, f).Dial("")
	return d
}

// awaitLine waits until the log has a line with all of the words.
func awaitLine(t testing.TB, log *dimsetest.Output, words ...string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(dimsetest.Timeout); ; {
		for line := range strings.Lines(log.String()) {
			found := 0
			for _, w := range words {
				if strings.Contains(line, w) {
					found++
				}
			}
			if found == len(words) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no line with %q in the log:\n%s", words, log.String())
		}
	}
}

// DCMTK's storescu and echoscu over TLS, each with the certificate that we ask
// for: what arrives is what was sent.
func TestTLSFromDCMTK(t *testing.T) {
	site, r := newSite(t), newRecorder()
	s, log := site.secureServer(t, r)
	host, port, _ := net.SplitHostPort(s.Addr)
	secure := []string{"+tls", site.scanner.Key, site.scanner.Certificate, "+cf", site.ca.File, "-aec", string(dimsetest.AETitle)}
	dimsetest.Run(t, "echoscu", append(secure, host, port)...)
	r.await(t, "the echo", func() bool { return r.echoes == 1 })

	data := ctDataSet("1.2.3.9", 256, 256)
	file := writeFile(t, t.TempDir(), "1.2.3.9", data)
	for _, profile := range []string{"+py", "+px", "+pz"} {
		dimsetest.Run(t, "storescu", append(append([]string{profile, "-R"}, secure...), host, port, file)...)
		if got := r.only(t); got.err != nil || !bytes.Equal(got.data, data) {
			t.Errorf("storescu %s: received %d bytes (error %v) of %d", profile, len(got.data), got.err, len(data))
		}
		r.update(func() { r.objects = nil })
	}
	awaitLine(t, log, "association opened", `tls="TLS 1.3"`, "ct1.example.org")
}

// The other way round: our requestor into DCMTK's storescp, which asks for our
// certificate.
func TestTLSIntoDCMTK(t *testing.T) {
	site := newSite(t)
	dir, port := t.TempDir(), dimsetest.FreePort(t)
	connect := open(t, site.ours).Dial("")
	dimsetest.StartWith(t, connect, port, "storescp", "+tls", site.scanner.Key, site.scanner.Certificate, "+cf", site.ca.File, "+B", "-od", dir, port)
	addr := net.JoinHostPort("127.0.0.1", port)

	d := dialer()
	d.NetDial = connect
	a, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	want := ctDataSet("1.2.3.4", 64, 64)
	if result, err := a.Store(t.Context(), ctRequest(), bytes.NewReader(want)); err != nil || result.Status != dimse.StatusSuccess {
		t.Fatalf("Store: %v, %v", result.Status, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
	if got, _ := receivedBy(t, dir); !bytes.Equal(got, want) {
		t.Errorf("storescp wrote %d bytes of %d", len(got), len(want))
	}

	other := newSiteOf(t, "other CA")
	for _, test := range []struct {
		name string
		dial dimsetest.NetDial
		want string
	}{
		{"another authority than the peer's", open(t, tlsprofile.Files{CA: other.ca.File, Certificate: site.ours.Certificate, Key: site.ours.Key}).Dial(""), "not to be trusted"},
		{"another name than the peer's", open(t, site.ours).Dial("pacs.example.org"), "not pacs.example.org"},
		// The alert that says so may be lost in the reset that follows it.
		{"no certificate of ours", open(t, tlsprofile.Files{CA: site.ca.File}).Dial(""), ""},
		{"a certificate of ours that the peer does not know", open(t, tlsprofile.Files{CA: site.ca.File, Certificate: other.ours.Certificate, Key: other.ours.Key}).Dial(""), ""},
		{"without TLS", nil, ""},
	} {
		d := dialer()
		d.NetDial = test.dial
		a, err := d.Dial(t.Context(), addr)
		if err == nil {
			a.Abort()
			t.Errorf("%s: associated", test.name)
			continue
		}
		t.Logf("%s: %v", test.name, err)
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v does not tell of %q", test.name, err, test.want)
		}
	}

	plain := dimsetest.NewServer(t, newRecorder())
	if _, err := secureDialer(t, site.ours).Dial(t.Context(), plain.Addr); err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("TLS to a peer without it: %v", err)
	}
}

// Who is not let in, and what the log says to whoever is called about it.
func TestTLSRefusals(t *testing.T) {
	site, other := newSite(t), newSiteOf(t, "other CA")
	expired := tlsprofile.Files{CA: site.ca.File}
	expired.Certificate, expired.Key = site.ca.Issue("old.example.org", dimsetest.Expired)
	echoscu := func(args ...string) func(*testing.T, string) bool {
		return func(t *testing.T, addr string) bool {
			host, port, _ := net.SplitHostPort(addr)
			out, err := dimsetest.RunError(t, "echoscu", append(args, "-aec", string(dimsetest.AETitle), host, port)...)
			t.Logf("echoscu: %s", out)
			return err == nil
		}
	}
	oldVersion := func(version uint16) func(*testing.T, string) bool {
		return func(t *testing.T, addr string) bool {
			conn, err := tls.Dial("tcp", addr, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version, InsecureSkipVerify: true})
			if err == nil {
				conn.Close()
			}
			return err == nil
		}
	}
	for _, test := range []struct {
		name string
		call func(t *testing.T, addr string) bool
		want []string
	}{
		{
			"certificate of another authority", echoscu("+tls", other.scanner.Key, other.scanner.Certificate, "+cf", site.ca.File),
			[]string{dimse.CauseHandshake.String(), "issued by", "other CA", "unknown authority", "ct1.example.org"},
		},
		{"no certificate", echoscu("+tla", "+cf", site.ca.File), []string{dimse.CauseHandshake.String(), "client didn't provide a certificate"}},
		{
			"expired certificate", echoscu("+tls", expired.Key, expired.Certificate, "+cf", site.ca.File),
			[]string{dimse.CauseHandshake.String(), "expired", "old.example.org"},
		},
		{"TLS 1.0", oldVersion(tls.VersionTLS10), []string{dimse.CauseHandshake.String(), "TLS 1.0 at most"}},
		{"TLS 1.1", oldVersion(tls.VersionTLS11), []string{dimse.CauseHandshake.String(), "TLS 1.1 at most"}},
		{"no TLS", echoscu(), []string{dimse.CauseNoTLS.String()}},
		{"peer that does not trust us", echoscu("+tls", site.scanner.Key, site.scanner.Certificate, "+cf", other.ca.File), []string{dimse.CauseHandshake.String(), "does not trust our certificate"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, log := site.secureServer(t, newRecorder())
			if test.call(t, s.Addr) {
				t.Error("it was let in")
			}
			awaitLine(t, log, append(test.want, "association refused")...)
			if n := strings.Count(log.String(), "\n"); n != 1 {
				t.Errorf("%d lines, want 1:\n%s", n, log.String())
			}
			a, err := secureDialer(t, site.scanner).Dial(t.Context(), s.Addr) // the server does not notice
			if err != nil {
				t.Fatalf("Dial: %v", err)
			}
			if err := a.Release(t.Context()); err != nil {
				t.Errorf("Release: %v", err)
			}
		})
	}
}

// A peer that speaks TLS to a port without it.
func TestTLSOnAPlainPort(t *testing.T) {
	site, log := newSite(t), new(dimsetest.Output)
	s := dimsetest.NewServer(t, newRecorder(), func(s *dimse.Server) { s.Log = slog.New(slog.NewTextHandler(log, nil)) })
	host, port, _ := net.SplitHostPort(s.Addr)
	if out, err := dimsetest.RunError(t, "echoscu", "+tls", site.scanner.Key, site.scanner.Certificate, "+cf", site.ca.File, "-aec", string(dimsetest.AETitle), host, port); err == nil {
		t.Errorf("echoscu succeeded:\n%s", out)
	}
	awaitLine(t, log, "association refused", dimse.CauseTLS.String())
}

// Without client certificates the rest of TLS stays.
func TestTLSWithoutClientCertificates(t *testing.T) {
	site := newSite(t)
	s := dimsetest.NewTLSServer(t, newRecorder(), open(t, tlsprofile.Files{Certificate: site.ours.Certificate, Key: site.ours.Key}).Server(false))
	a, err := secureDialer(t, tlsprofile.Files{CA: site.ca.File}).Dial(t.Context(), s.Addr)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	if _, err := a.Echo(t.Context()); err != nil {
		t.Errorf("Echo: %v", err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
}

// ARTIM (PS3.8 section 9.1.4) runs from the transport connection on: a handshake
// has no more time than the request that it delays.
func TestPromise6_SlowHandshakes(t *testing.T) {
	site := newSite(t)
	config := open(t, site.ours).Server(true)
	hello := clientHello(t)
	for _, test := range []struct {
		name   string
		script func(p *dimsetest.Peer)
		least  time.Duration
	}{
		{"silent", func(p *dimsetest.Peer) { p.ExpectClosed() }, 30 * time.Second},
		{"a byte a second", func(p *dimsetest.Peer) { dribble(p, hello) }, 30 * time.Second},
		{"silent after the ClientHello", func(p *dimsetest.Peer) {
			p.Send(hello)
			_, _ = p.Conn.Read(make([]byte, 1<<14)) // not all of it: the server has to wait with the rest
			time.Sleep(31 * time.Second)
		}, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, connect := dimsetest.NewTLSPipeServer(t, newRecorder(), config)
				p := dimsetest.NewPeer(t, connect())
				p.Timeout = time.Hour
				begun := time.Now()
				test.script(p)
				p.ExpectClosed()
				if d := time.Since(begun); d < test.least || d > test.least+2*time.Second {
					t.Errorf("closed after %v, want ARTIM", d)
				}
			})
		})
	}
}

// clientHello is what a client sends first.
func clientHello(t testing.TB) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), dimsetest.Timeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(ours, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	}()
	b := make([]byte, 1<<14)
	n, err := theirs.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	<-done
	return b[:n]
}

// Connections in their handshake are bounded as silent ones are, and of those
// the host that has most loses first.
func TestPromise6_HandshakesAreBounded(t *testing.T) {
	site := newSite(t)
	s, _ := site.secureServer(t, newRecorder(), func(s *dimse.Server) { s.MaxAssociations = 4 })
	var silent []*dimsetest.Peer
	for range 100 {
		silent = append(silent, dimsetest.Dial(t, s.Addr))
	}
	silent[0].ExpectClosed()
	a, err := secureDialer(t, site.scanner).Dial(t.Context(), s.Addr)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
}

// Certificates and authorities are exchanged while the server runs; a file that
// is broken changes nothing, and is told once.
func TestTLSFilesAreReadAgain(t *testing.T) {
	site, renewed := newSite(t), newSite(t)
	log := new(dimsetest.Output)
	credentials, err := tlsprofile.Open(site.ours, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := dimsetest.NewTLSServer(t, newRecorder(), credentials.Server(true))
	enters := func(f tlsprofile.Files) bool {
		a, err := secureDialer(t, f).Dial(t.Context(), s.Addr)
		if err != nil {
			return false
		}
		a.Abort()
		return true
	}
	replace := func(old, with string) {
		t.Helper()
		b, err := os.ReadFile(with)
		if err == nil {
			err = os.WriteFile(old+".new", b, 0o600)
		}
		if err == nil {
			err = os.Rename(old+".new", old)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !enters(site.scanner) || enters(renewed.scanner) {
		t.Fatal("the first certificates do not hold")
	}
	// Between the new certificate and its key the old pair holds.
	replace(site.ours.Certificate, renewed.ours.Certificate)
	for range 3 {
		if !enters(site.scanner) {
			t.Error("a certificate without its key was taken")
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d lines about it, want 1:\n%s", n, log.String())
	}
	replace(site.ours.Key, renewed.ours.Key)
	oldScanner := site.scanner
	oldScanner.CA = renewed.ca.File // which it now trusts
	if enters(site.scanner) || !enters(oldScanner) {
		t.Error("the new certificate is not in force")
	}
	replace(site.ours.CA, renewed.ca.File)
	if enters(oldScanner) || !enters(renewed.scanner) {
		t.Error("the new authority is not in force")
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	replace(site.ours.CA, broken)
	if !enters(renewed.scanner) {
		t.Error("a broken file put the one before it out of force")
	}
}

// The whole of the protocol goes through TLS: a raw A-ABORT reaches the peer.
func TestTLSBreach(t *testing.T) {
	site := newSite(t)
	r := newRecorder()
	s, _ := site.secureServer(t, r)
	conn, err := open(t, site.scanner).Dial("")(t.Context(), "tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	p := dimsetest.NewPeer(t, conn)
	associated(t, p).Send(dimsetest.PData(dimsetest.PDV(7, dimsetest.LastCommand, nil)))
	p.ExpectAbort(pdu.AbortServiceProvider, pdu.AbortInvalidPDUParameterValue)
	p.Close()
	if err := r.awaitClosed(t, 1); err == nil {
		t.Error("the association ended in good order")
	}
}
