package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
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
	config                  string
	calling, called         string
	maxPDU                  uint32
	dial, acse, read, write time.Duration
	name                    string // as given
	addr                    string
}

const (
	defaultCalling = "ICHWATCH"
	defaultCalled  = "ANY-SCP"
)

func (p *peer) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.config, "config", "c", defaultConfig, "configuration file, read where a destination is named")
	f.StringVar(&p.calling, "calling", defaultCalling, "our AE title")
	f.StringVar(&p.called, "called", defaultCalled, "the peer's AE title")
	f.Uint32Var(&p.maxPDU, "max-pdu", 131072, "longest PDU in bytes, offered and sent; 4096 to 131072")
	f.DurationVar(&p.dial, "dial-timeout", 10*time.Second, "for the TCP connection")
	f.DurationVar(&p.acse, "acse-timeout", 30*time.Second, "for the answer to the association request")
	f.DurationVar(&p.read, "read-timeout", time.Minute, "for the answer to a message")
	f.DurationVar(&p.write, "write-timeout", 30*time.Second, "for the peer to take bytes")
	// TLS flags belong here, and into dialer below as NetDial; a destination has its own.
}

// dialer resolves what the person called the peer.
func (p *peer) dialer(cmd *cobra.Command, name string) (dimse.Dialer, error) {
	p.name, p.addr = name, name
	var d dimse.Dialer
	if strings.Contains(name, ":") { // no destination's name has a colon
		host, port, err := net.SplitHostPort(name)
		if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 || host == "" {
			return d, callError(cmd, fmt.Errorf("%q is not HOST:PORT", name))
		}
	} else {
		cfg, err := configs.Load(p.config)
		if err != nil {
			return d, reported(cmd, err)
		}
		i := slices.IndexFunc(cfg.Destinations, func(d configs.Destination) bool { return d.Name == name })
		if i < 0 {
			return d, callError(cmd, noSuchDestination(name, p.config, cfg.Destinations))
		}
		p.addr = cfg.Destinations[i].Address
		if d, err = app.Dialer(cfg.Destinations[i], slog.New(slog.DiscardHandler)); err != nil {
			return d, err
		}
	}
	// A flag counts where it was given, or where no destination says something else.
	set := func(flag string, to func()) {
		if p.addr == name || cmd.Flags().Changed(flag) {
			to()
		}
	}
	var errs []error
	title := func(flag, text string, to *dicom.AETitle) {
		set(flag, func() {
			t, err := dicom.ParseAETitle(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
			}
			*to = t
		})
	}
	title("calling", p.calling, &d.CallingAETitle)
	title("called", p.called, &d.CalledAETitle)
	for flag, timeout := range map[string]struct {
		to    *time.Duration
		value time.Duration
	}{
		"dial-timeout": {&d.DialTimeout, p.dial}, "acse-timeout": {&d.ACSETimeout, p.acse},
		"read-timeout": {&d.ReadTimeout, p.read}, "write-timeout": {&d.WriteTimeout, p.write},
	} {
		set(flag, func() {
			if timeout.value <= 0 {
				errs = append(errs, fmt.Errorf("--%s %v: wanted is more than 0", flag, timeout.value))
			}
			*timeout.to = timeout.value
		})
	}
	if p.maxPDU < 4096 || p.maxPDU > 131072 {
		errs = append(errs, fmt.Errorf("--max-pdu %d: wanted are 4096 to 131072", p.maxPDU))
	}
	d.MaxPDU, d.MaxSendPDU = p.maxPDU, p.maxPDU
	if err := errors.Join(errs...); err != nil {
		return d, callError(cmd, err)
	}
	return d, nil
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
