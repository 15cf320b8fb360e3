package app

import (
	"net"
	"strings"
	"testing"

	"ichwatch/configs"
)

// A socket that systemd holds open is used for the address that it has, and none may be left over.
func TestInheritedSockets(t *testing.T) {
	listen := func(address string) net.Listener {
		t.Helper()
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	port := func(ln net.Listener) string {
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		return port
	}
	everywhere, loopback := listen(":0"), listen("127.0.0.1:0")
	for name, c := range map[string]struct {
		address string
		sockets []net.Listener
		taken   net.Listener // nil: one of our own
		says    string       // empty: all doors are open
	}{
		"none":                    {"127.0.0.1:0", nil, nil, ""},
		"everywhere":              {":" + port(everywhere), []net.Listener{everywhere}, everywhere, ""},
		"everywhere, said in v4":  {"0.0.0.0:" + port(everywhere), []net.Listener{everywhere}, everywhere, ""},
		"one address":             {"localhost:" + port(loopback), []net.Listener{loopback}, loopback, ""},
		"another port":            {"127.0.0.1:0", []net.Listener{everywhere}, nil, "ichwatch.socket holds [::]:" + port(everywhere) + " open"},
		"one of two":              {":" + port(everywhere), []net.Listener{loopback, everywhere}, everywhere, "holds 127.0.0.1:" + port(loopback)},
		"wider than is asked for": {"127.0.0.2:" + port(everywhere), []net.Listener{everywhere}, nil, "in use"},
		"no address":              {"127.0.0.1:dicom-none", []net.Listener{everywhere}, nil, "dicom.listen: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configs.Default()
			cfg.DICOM.Listen = c.address
			a := &App{cfg: cfg}
			err := a.open(c.sockets)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Fatalf("error %v, should say %q", err, c.says)
			}
			for _, d := range a.doors {
				if c.taken != nil && d.ln != c.taken {
					t.Errorf("%s is served at %v, not on the socket that was handed over", d.key, d.ln.Addr())
				}
				if c.taken == nil {
					d.ln.Close()
				}
			}
		})
	}
}
