package configs

import (
	"net"
	"time"
)

// Console is the page for people.
type Console struct {
	Listen      string        `mapstructure:"listen"`     // empty: off
	UsersFile   string        `mapstructure:"users_file"` // absolute; empty: off
	TLS         ConsoleTLS    `mapstructure:"tls"`
	Identity    string        `mapstructure:"identity"` // pseudonym, uid, name
	SessionIdle time.Duration `mapstructure:"session_idle"`
	SessionMax  time.Duration `mapstructure:"session_max"`
}

// ConsoleTLS is on where its files are named.
type ConsoleTLS struct {
	CertificateFile string `mapstructure:"certificate_file"`
	KeyFile         string `mapstructure:"key_file"`
}

// Enabled reports whether the page speaks TLS.
func (t ConsoleTLS) Enabled() bool { return t.CertificateFile != "" && t.KeyFile != "" }

// Enabled reports whether there is a page: somewhere, for somebody.
func (c Console) Enabled() bool { return c.Listen != "" && c.UsersFile != "" }

func (d *document) validateConsole(c *Config) {
	p := &c.Console
	const key = "console."
	if p.UsersFile != "" {
		d.absolute(key+"users_file", p.UsersFile)
	}
	for name, path := range map[string]string{"certificate_file": p.TLS.CertificateFile, "key_file": p.TLS.KeyFile} {
		if path != "" {
			d.absolute(key+"tls."+name, path)
		}
	}
	d.pair(key+"tls.", p.TLS.CertificateFile, p.TLS.KeyFile)
	d.oneOf(key+"identity", p.Identity, "pseudonym", "uid", "name")
	within(d, key+"session_idle", p.SessionIdle, time.Minute, day)
	within(d, key+"session_max", p.SessionMax, 10*time.Minute, 7*day)
	if p.Listen == "" {
		return
	}
	d.hostPort(key+"listen", p.Listen, listening)
	host, port, err := net.SplitHostPort(p.Listen)
	if err == nil && !isLoopback(host) && p.TLS.CertificateFile == "" {
		d.reject(key+"listen", p.Listen, &valueError{
			"is open to the network without TLS: passwords and slices would cross it in the clear",
			"127.0.0.1:" + port + ", or console.tls with certificate_file and key_file", "",
		})
	}
	for other, address := range map[string]string{
		"dicom.listen": c.DICOM.Listen, "dicom.tls.plain_listen": c.DICOM.TLS.PlainListen, "monitor.listen": c.Monitor.Listen,
	} {
		d.ownPort(other, address, key+"listen", p.Listen)
	}
}
