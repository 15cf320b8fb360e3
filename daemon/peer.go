package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// peer is whom send and echo call, and how: HOST:PORT with the flags, or a destination of the configuration with the
// flags over it.
type peer struct {
	config string
	maxPDU uint32
	flag   configs.Destination // what the flags say

	name string // as given
	addr string
}

func (p *peer) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.config, "config", "c", defaultConfig, "configuration file, read where a destination is named")
	f.StringVar(&p.flag.CallingAETitle, "calling", "ICHWATCH", "our AE title")
	f.StringVar(&p.flag.CalledAETitle, "called", "ANY-SCP", "the peer's AE title")
	f.Uint32Var(&p.maxPDU, "max-pdu", 131072, "longest PDU in bytes, offered and sent; 4096 to 131072")
	f.DurationVar(&p.flag.Timeouts.Dial, "dial-timeout", 10*time.Second, "for the TCP connection, TLS included")
	f.DurationVar(&p.flag.Timeouts.ACSE, "acse-timeout", 30*time.Second, "for the answer to the association request")
	f.DurationVar(&p.flag.Timeouts.Read, "read-timeout", time.Minute, "for the answer to a message")
	f.DurationVar(&p.flag.Timeouts.Write, "write-timeout", 30*time.Second, "for the peer to take bytes")
	f.BoolVar(&p.flag.TLS.Enabled, "tls", false, "call in TLS, 1.2 or 1.3; each of the next four asks for it too")
	f.StringVar(&p.flag.TLS.CAFile, "tls-ca", "", "`file` of the certificates (PEM) that the peer's must derive from; without it those of the system")
	f.StringVar(&p.flag.TLS.CertificateFile, "tls-certificate", "", "`file` of our certificate (PEM)")
	f.StringVar(&p.flag.TLS.KeyFile, "tls-key", "", "`file` of its private key (PEM, unencrypted)")
	f.StringVar(&p.flag.TLS.ServerName, "tls-server-name", "", "`name` that the peer's certificate must have; without it that of the host")
	f.StringVar(&p.flag.Username, "username", "", "user identity that is sent (PS3.7 section D.3.3.7)")
	f.StringVar(&p.flag.PasscodeFile, "passcode-file", "", "`file` of the passcode that is sent with it, one line")
}

// dialer resolves what the person called the peer.
func (p *peer) dialer(cmd *cobra.Command, name string) (dimse.Dialer, error) {
	p.name = name
	dest, err := p.destination(cmd, name)
	if err != nil {
		return dimse.Dialer{}, err
	}
	if err := p.check(&dest); err != nil {
		return dimse.Dialer{}, callError(cmd, err)
	}
	d, err := app.Dialer(dest, slog.New(slog.DiscardHandler))
	if err != nil {
		return d, err
	}
	p.addr = dest.Address
	d.MaxPDU, d.MaxSendPDU = p.maxPDU, p.maxPDU
	return d, nil
}

// destination is the peer as the configuration would have it: a flag counts where it was given, or where no destination
// says something else.
func (p *peer) destination(cmd *cobra.Command, name string) (configs.Destination, error) {
	dest, err := p.flag, error(nil)
	dest.Name, dest.Address = name, name
	if strings.Contains(name, ":") { // no destination's name has a colon
		host, port, err := net.SplitHostPort(name)
		if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 || host == "" {
			return dest, callError(cmd, fmt.Errorf("%q is not HOST:PORT", name))
		}
	} else if dest, err = p.configured(cmd, name); err != nil {
		return dest, err
	}
	if cmd.Flags().Changed("username") {
		dest.PasscodeFile = "" // it was another user's
	}
	to, from := &dest, &p.flag
	for flag, take := range map[string]func(){
		"calling":         func() { to.CallingAETitle = from.CallingAETitle },
		"called":          func() { to.CalledAETitle = from.CalledAETitle },
		"dial-timeout":    func() { to.Timeouts.Dial = from.Timeouts.Dial },
		"acse-timeout":    func() { to.Timeouts.ACSE = from.Timeouts.ACSE },
		"read-timeout":    func() { to.Timeouts.Read = from.Timeouts.Read },
		"write-timeout":   func() { to.Timeouts.Write = from.Timeouts.Write },
		"tls-ca":          func() { to.TLS.Enabled, to.TLS.CAFile = true, from.TLS.CAFile },
		"tls-certificate": func() { to.TLS.Enabled, to.TLS.CertificateFile = true, from.TLS.CertificateFile },
		"tls-key":         func() { to.TLS.Enabled, to.TLS.KeyFile = true, from.TLS.KeyFile },
		"tls-server-name": func() { to.TLS.Enabled, to.TLS.ServerName = true, from.TLS.ServerName },
		"username":        func() { to.Username = from.Username },
		"passcode-file":   func() { to.PasscodeFile = from.PasscodeFile },
	} {
		if cmd.Flags().Changed(flag) {
			take()
		}
	}
	if cmd.Flags().Changed("tls") {
		dest.TLS.Enabled = p.flag.TLS.Enabled
	}
	return dest, nil
}

// configured finds a destination in the configuration.
func (p *peer) configured(cmd *cobra.Command, name string) (configs.Destination, error) {
	cfg, err := configs.Load(p.config)
	if err != nil {
		return configs.Destination{}, reported(cmd, err)
	}
	for _, d := range cfg.Destinations {
		if d.Name == name {
			return d, nil
		}
	}
	return configs.Destination{}, callError(cmd, noSuchDestination(name, p.config, cfg.Destinations))
}

// check finds what is wrong with the flags; a destination of the configuration has been checked.
func (p *peer) check(dest *configs.Destination) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, title := range []struct{ flag, value string }{{"calling", dest.CallingAETitle}, {"called", dest.CalledAETitle}} {
		if _, err := dicom.ParseAETitle(title.value); err != nil {
			wrong("--%s: %w", title.flag, err)
		}
	}
	for _, timeout := range []struct {
		flag  string
		value time.Duration
	}{
		{"dial-timeout", dest.Timeouts.Dial},
		{"acse-timeout", dest.Timeouts.ACSE},
		{"read-timeout", dest.Timeouts.Read},
		{"write-timeout", dest.Timeouts.Write},
	} {
		if timeout.value <= 0 {
			wrong("--%s %v: wanted is more than 0", timeout.flag, timeout.value)
		}
	}
	if p.maxPDU < 4096 || p.maxPDU > 131072 {
		wrong("--max-pdu %d: wanted are 4096 to 131072", p.maxPDU)
	}
	if (dest.TLS.CertificateFile == "") != (dest.TLS.KeyFile == "") {
		wrong("--tls-certificate and --tls-key: wanted are both, or none")
	}
	if !dest.TLS.Enabled && p.flag.TLS != (configs.TLS{}) {
		wrong("--tls=false: wanted is no other flag of TLS beside it")
	}
	if dest.PasscodeFile != "" && dest.Username == "" {
		wrong("--passcode-file: wanted is --username with it")
	}
	return errors.Join(errs...)
}

func noSuchDestination(name, file string, have []configs.Destination) error {
	if len(have) == 0 {
		return fmt.Errorf("%q is not HOST:PORT, and %s has no destinations", name, file)
	}
	var names []string
	for _, d := range have {
		names = append(names, d.Name)
	}
	return fmt.Errorf("%q is neither HOST:PORT nor a destination of %s, which has: %s", name, file, strings.Join(names, ", "))
}
