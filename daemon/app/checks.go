package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"ichwatch/alerts/mqtt"
	"ichwatch/daemon/monitor"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// checks are the parts that health and readiness look at. The DICOM listeners alone are vital: the daemon without model
// or broker still does what nobody else does, it receives and forwards.
func (a *App) checks() []monitor.Check {
	var checks []monitor.Check
	for i, d := range a.doors {
		name := "dicom"
		if i > 0 {
			name = "dicom without tls"
		}
		checks = append(checks, monitor.Check{Name: name, Vital: true, Look: func(ctx context.Context) error { return a.echoSelf(ctx, d) }})
	}
	if a.tls != nil {
		checks = append(checks, monitor.Check{Name: "certificate", Look: func(context.Context) error { return expiry(a.tls.NotAfter(), time.Now()) }})
	}
	if a.page.expiry != nil {
		checks = append(checks, monitor.Check{Name: "certificate of the page", Look: func(context.Context) error { return expiry(a.page.expiry(), time.Now()) }})
	}
	checks = append(checks, []monitor.Check{
		{Name: "page", Look: a.lookAtPage},
		{Name: "audit trail", Look: func(context.Context) error { return a.page.trail.Err() }},
		{Name: "spool", Look: a.lookAtDisk},
		{Name: "model", Look: func(context.Context) error {
			if fault := a.model.fault(); !errors.Is(fault, errNoModel) { // nor is one wanted
				return fault
			}
			return nil
		}},
		{Name: "broker", Look: func(context.Context) error { return lookAtBroker(a.mqtt.Status()) }},
	}...)
	if s := a.model.service; s != nil {
		checks = append(checks, monitor.Check{Name: "provider", Look: a.model.checkProvider}, monitor.Check{Name: "canary", Look: func(context.Context) error {
			if alarm := s.Alarm(); alarm.Text != "" {
				return fmt.Errorf("since %s: %s", alarm.Since.Format(time.RFC3339), alarm.Text)
			}
			return nil
		}})
	}
	if a.model.drift != nil {
		checks = append(checks, monitor.Check{Name: "drift", Look: func(context.Context) error { return a.model.drift.check() }})
	}
	for _, f := range a.forward {
		checks = append(checks, monitor.Check{Name: "destination " + f.Destination, Look: func(ctx context.Context) error {
			if s := f.Status(); s.Failing {
				return fmt.Errorf("takes nothing since %s, instances wait in the spool and are tried again: %s", s.Since.Format(time.RFC3339), s.Reason)
			}
			parked, err := a.spool.ParkedLegs(ctx)
			if n := parked[f.Destination]; n > 0 {
				return fmt.Errorf("%d instances are parked and kept; ichwatch queue list says why", n)
			}
			return err
		}})
	}
	return append(checks, a.commitmentChecks()...)
}

// lookAtBroker says what keeps alerts from people. After a trouble with the connection a new one is trusted when it has
// stood for some seconds.
func lookAtBroker(s mqtt.Status) error {
	var wrong []string
	if !s.Connected {
		wrong = append(wrong, "not connected; alerts wait in the spool")
	}
	for _, f := range s.Faults {
		wrong = append(wrong, fmt.Sprintf("%s, since %s: %s", f.About, f.Since.Format(time.RFC3339), f.Reason))
	}
	if wrong == nil {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

// SelfTitle is the AE title under which the daemon calls itself. It gives no right: the server knows these calls by the
// ends of their connections.
const SelfTitle dicom.AETitle = "ICHWATCH-SELF"

// echoSelf sends a C-ECHO through the real listeners: it finds what a check from within would not, a stuck accept loop
// say (fo-dicom#1450).
func (a *App) echoSelf(ctx context.Context, at door) error {
	d := &dimse.Dialer{
		CallingAETitle: SelfTitle,
		CalledAETitle:  dicom.AETitle(a.cfg.DICOM.AETitle),
		Contexts: []dimse.ProposedContext{{
			AbstractSyntax:   dicom.Verification,
			TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian},
		}},
		DialTimeout: time.Second, ACSETimeout: 3 * time.Second, ReadTimeout: 3 * time.Second,
		NetDial: a.selfDial(at),
	}
	assoc, err := d.Dial(ctx, reachable(at.ln.Addr().String()))
	if err != nil {
		return fmt.Errorf("no association with ourselves: %w", err)
	}
	status, err := assoc.Echo(ctx)
	if err == nil && status != dimse.StatusSuccess {
		err = fmt.Errorf("answered %v", status)
	}
	if err != nil {
		_ = assoc.Abort() // what counts is said already
		return fmt.Errorf("our own C-ECHO: %w", err)
	}
	return assoc.Release(ctx)
}

// reachable turns the address of a listener on every interface into one that can be dialled.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
