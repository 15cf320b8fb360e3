// Package app builds the line from the configuration and runs it:
//
//	scanner -> dimse.Server -> receive -> spool -> forward -> PACS
//	                                        |
//	                                        +----> commit -> scanners, PACS
//	                                        |
//	                                        +----> triage -> spool's outbox -> alerts.Courier -> mqtt -> people
//
// It owns the order of start and stop, and nothing else: each station works on the spool alone and does not know the
// others. New does all that can fail for a reason that a technician must mend (spool, listeners, certificates); what may
// come and go (model, broker, PACS) fails no start, it makes the daemon not ready and is reported.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"ichwatch/alerts"
	"ichwatch/alerts/mqtt"
	"ichwatch/configs"
	"ichwatch/daemon/commit"
	"ichwatch/daemon/forward"
	"ichwatch/daemon/monitor"
	"ichwatch/daemon/receive"
	"ichwatch/daemon/spool"
	"ichwatch/daemon/triage"
	"ichwatch/dimse"
	"ichwatch/dimse/tlsprofile"
	"ichwatch/infer"
	"ichwatch/infer/service"
)

// Options are what the configuration does not say.
type Options struct {
	Log     *slog.Logger // required
	Version string
	Config  string            // file of the configuration, for the page to check; empty: none
	Hook    func(step string) // spool.Options.Hook; nil in production
	// Sockets are listeners that somebody opened for us and keeps open while we are not there (systemd.socket(5)). Each
	// must be one that the configuration asks for.
	Sockets []net.Listener
	// Trial is the command that makes the trial of a provider; nil: this program's
	// TrialCommand.
	Trial []string
}

// App is the daemon.
type App struct {
	cfg       *configs.Config
	log       *slog.Logger
	spool     *spool.Spool
	server    *dimse.Server
	tls       *tlsprofile.Credentials // of dicom.tls; nil: off
	doors     []door                  // dicom.listen first
	monLn     net.Listener            // nil: off
	controlLn net.Listener            // nil: it could not be opened
	mqtt      *mqtt.Client
	model     *model
	forward   []*forward.Forwarder

	provider   *commit.Provider // nil: off
	requesters []*commit.Requester

	monitor    *monitor.Monitor
	page       page
	version    string
	configFile string
	started    time.Time

	self            selfCalls
	selfCertificate tls.Certificate

	ready chan struct{}
	close func() error
}

// New opens the spool and the listeners and loads the model. What it opened is closed by Run, or by Close where Run is
// never called.
func New(ctx context.Context, cfg *configs.Config, o Options) (_ *App, err error) {
	a := &App{cfg: cfg, ready: make(chan struct{}), version: o.Version, configFile: o.Config, started: time.Now()}
	o.Log = slog.New(a.page.log.Tee(o.Log.Handler()))
	a.log = o.Log
	a.close = sync.OnceValue(a.shut)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	for _, warning := range append(cfg.Warnings(), CheckDecoders(cfg)...) {
		a.log.Warn(warning.Error())
	}

	route, err := newRouter(cfg)
	if err != nil {
		return nil, err
	}
	if a.spool, err = spool.Open(ctx, spool.Options{
		Dir: cfg.Spool.Dir, Destinations: destinationNames(cfg), Route: route, Device: cfg.Device, Quota: uint64(cfg.Spool.Quota), Log: o.Log, Hook: o.Hook,
	}); err != nil {
		return nil, err
	}
	a.openControl()
	a.openTrail()
	if err := a.spool.ClockSetBack(ctx); err != nil { // perhaps it was, while nobody was there
		return nil, err
	}
	if a.mqtt, err = mqtt.New(mqtt.Options{
		Brokers: cfg.Alerts.MQTT.Brokers(),
		Root:    cfg.Alerts.MQTT.Root, Site: cfg.Site, Device: cfg.Device, ClientID: cfg.Alerts.MQTT.ClientID,
		Boot: a.spool.Boot(), Version: o.Version,
		Username: cfg.Alerts.MQTT.Username, PasswordFile: cfg.Alerts.MQTT.PasswordFile,
		CAFile: cfg.Alerts.MQTT.CAFile, CertificateFile: cfg.Alerts.MQTT.CertificateFile, KeyFile: cfg.Alerts.MQTT.KeyFile,
		Acknowledge: a.acknowledge,
		KeepAlive:   cfg.Alerts.MQTT.KeepAlive,
		ReadBack:    cfg.Alerts.MQTT.ReadBack,
		Log:         o.Log,
	}); err != nil {
		return nil, err
	}
	a.model = a.openModel(trialCommand(o.Trial))
	if fault := a.model.fault(); fault == nil {
		a.model.look(func(r *service.Running) {
			for _, line := range r.Ensemble.Describe() {
				a.log.Info("model in service; what it suspects is not for diagnosis", "model", line)
			}
			// As for parked legs below: what was in the way, a model that did not load as a rule, may be mended.
			a.modelChanged(r)
		})
	} else if !errors.Is(fault, errNoModel) { // of none, the warnings tell
		a.log.Error("no model in service: studies are received and forwarded, and end as FAILED or NOT-ANALYSED", "err", fault)
	}
	if a.tls, err = openServerTLS(cfg, o.Log); err != nil {
		return nil, err
	}
	if a.tls != nil {
		if err := expiry(a.tls.NotAfter(), time.Now()); err != nil {
			a.log.Warn("dicom.tls.certificate_file: " + err.Error())
		}
		if a.selfCertificate, err = newSelfCertificate(); err != nil {
			return nil, err
		}
	}
	users, err := openUsers(cfg, o.Log)
	if err != nil {
		return nil, err
	}
	if err := a.open(o.Sockets); err != nil {
		return nil, err
	}
	if cfg.Monitor.Listen != "" {
		if a.monLn, err = net.Listen("tcp", cfg.Monitor.Listen); err != nil {
			return nil, fmt.Errorf("monitor.listen: %w", err)
		}
	}
	a.openPage()
	for _, d := range cfg.Destinations {
		f, err := newForwarder(a.spool, d, o.Log)
		if err != nil {
			return nil, err
		}
		a.forward = append(a.forward, f)
		// Who starts the daemon anew has, as a rule, just mended what a destination refused.
		if _, err := a.spool.RetryLegs(ctx, d.Name); err != nil {
			return nil, err
		}
	}
	if err := a.prepareCommitment(ctx); err != nil {
		return nil, err
	}
	a.server = newServer(cfg, a.spool, users, o.Log)
	a.server.Own = a.self.has
	a.page.peers.watch(a.server)
	a.serveCommitment(a.server)
	a.monitor = &monitor.Monitor{Checks: a.checks(), Log: o.Log}
	return a, nil
}

// newServer is the acceptor that faces the scanner.
func newServer(cfg *configs.Config, sp *spool.Spool, users dimse.Authenticator, log *slog.Logger) *dimse.Server {
	receiver := &receive.Receiver{
		Spool: sp, Log: log,
		HighWatermark: float64(cfg.Spool.HighWatermark), Reserve: uint64(cfg.Spool.Reserve),
	}
	s := Acceptor(cfg)
	s.Authenticator = users
	s.Advise = advise(cfg)
	s.Handler = receiver
	s.Admit = receiver.Admit
	s.Log = log
	return s
}

// Run works until ctx ends, then drains: objects under way finish within dicom.drain_timeout; what is still queued, the
// slices that are being classified among it, stays in the spool for the next start. It returns an error when a station
// ended by itself, which is a fault of ours, so that systemd starts the daemon anew.
func (a *App) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, a.Close()) }()

	var l line
	l.start(ctx, a.stages()...)
	close(a.ready)
	a.log.Info("listening", "version", a.version, "dicom", a.DICOMAddr().String(), "tls", a.tls != nil, "ae_title", a.cfg.DICOM.AETitle,
		"spool", a.cfg.Spool.Dir, "boot", a.spool.Boot(), "destinations", destinationNames(a.cfg), "model", a.model.String(), "page", a.pageURL())
	if err := monitor.Ready("listening on " + a.DICOMAddr().String()); err != nil {
		a.log.Warn("systemd was not told that the daemon is ready", "err", err)
	}

	select {
	case <-ctx.Done():
		a.log.Info("stopping: objects under way finish, the rest waits in the spool")
	case s := <-l.failed:
		a.log.Error("a part of the daemon ended; stopping", "part", s.name, "err", s.err)
	}
	if err := monitor.Stopping(); err != nil {
		a.log.Warn("systemd was not told that the daemon stops", "err", err)
	}
	err = l.stop()
	a.log.Info("stopped")
	return err
}

// stages lists the stations in the order in which their groups start. They stop the other way round: first the watchdog,
// to which a draining listener would look dead, then nothing new comes in, last the goodbye to the broker.
func (a *App) stages() [][]*stage {
	work := []*stage{
		{name: "triage", run: newTriage(a.cfg, a.spool, a.model, a.log).Run},
		{name: "disk", run: a.keepDisk},
	}
	for _, f := range a.forward {
		work = append(work, &stage{name: "forward " + f.Destination, run: f.Run})
	}
	if a.model.service != nil {
		work = append(work, &stage{name: "canary", run: a.model.service.Watch})
	}
	work = append(work, a.commitmentStages()...)
	outside := []*stage{{name: "dicom", run: a.serve}}
	if a.monLn != nil {
		outside = append(outside, &stage{name: "monitor", run: func(ctx context.Context) error { return a.monitor.Serve(ctx, a.monLn) }})
	}
	if a.page.ln != nil {
		outside = append(outside, &stage{name: "page", run: a.servePage})
	}
	base := []*stage{{name: "mqtt", run: a.mqtt.Run}}
	if a.controlLn != nil {
		base = append(base, &stage{name: "control", run: a.control})
	}
	return [][]*stage{
		base,
		{
			{name: "courier", run: (&alerts.Courier{Outbox: a.spool, Publisher: a.mqtt, Log: a.log}).Run},
			{name: "clock", run: a.watchClock},
			{name: "escalator", run: (&alerts.Escalator{Book: a.spool, Levels: levels(a.cfg), Log: a.log}).Run},
		},
		work,
		outside,
		{{name: "watchdog", run: a.watch}},
	}
}

// watch feeds systemd's watchdog, where there is one.
func (a *App) watch(ctx context.Context) error {
	if err := a.monitor.Watchdog(ctx); err != nil {
		a.log.Error("the watchdog is off", "err", err)
	}
	<-ctx.Done()
	return nil
}

// watchClock looks whether the wall clock was set back, against the monotonic one that nobody sets.
func (a *App) watchClock(ctx context.Context) error {
	tick := time.NewTicker(clockInterval)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		step := now.Round(0).Sub(last.Round(0)) - now.Sub(last) // Round(0) leaves the wall clock alone
		last = now
		if step > -clockTolerance {
			continue
		}
		a.log.Warn("the clock was set back; what was scheduled is brought back to the present", "by", -step)
		if err := a.spool.ClockSetBack(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("retries and escalations may be late by the step of the clock", "err", err)
		}
	}
}

// An alert must not wait for a clock: soon, but not for what NTP does all day.
const (
	clockInterval  = 5 * time.Second
	clockTolerance = time.Second
)

// Models names what looks at slices; nil where nothing does.
func (a *App) Models() infer.Models { return a.model.models() }

// ModelError says why no model is in service; nil when one is.
func (a *App) ModelError() error { return a.model.fault() }

// Ready is closed when every station has started.
func (a *App) Ready() <-chan struct{} { return a.ready }

// DICOMAddr is where the scanner connects.
func (a *App) DICOMAddr() net.Addr { return a.doors[0].ln.Addr() }

// MonitorAddr is where health is served; nil when monitor.listen is empty.
func (a *App) MonitorAddr() net.Addr {
	if a.monLn == nil {
		return nil
	}
	return a.monLn.Addr()
}

// Studies is the ledger, the latest study first.
func (a *App) Studies(ctx context.Context, f spool.Filter) ([]spool.StudyRecord, error) {
	return a.spool.Studies(ctx, f)
}

// Close gives back what New opened. Run does it at its end; it is for an App that is never run.
func (a *App) Close() error { return a.close() }

func (a *App) shut() error {
	var errs []error
	listeners := []net.Listener{a.monLn, a.controlLn, a.page.ln}
	for _, d := range a.doors {
		listeners = append(listeners, d.ln)
	}
	for _, ln := range listeners {
		if ln == nil {
			continue
		}
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.page.trail != nil {
		errs = append(errs, a.page.trail.Close())
	}
	// The spool first: a model that hangs must not keep its lock and its ledger.
	if a.spool != nil {
		errs = append(errs, a.spool.Close())
	}
	if a.model != nil {
		errs = append(errs, a.model.close())
	}
	return errors.Join(errs...)
}

func destinationNames(cfg *configs.Config) []string {
	var names []string
	for _, d := range cfg.Destinations {
		names = append(names, d.Name)
	}
	return names
}

func levels(cfg *configs.Config) []alerts.Level {
	var out []alerts.Level
	for _, step := range cfg.Alerts.Escalation {
		out = append(out, alerts.Level{Delay: step.After})
	}
	return out
}

// NewGate is the gate that a configuration asks for.
func NewGate(e configs.Eligibility) triage.Gate {
	return triage.Gate{
		Modalities: e.Modalities, RefuseImageTypes: e.RefuseImageTypes, BodyParts: e.BodyParts,
		AcceptMissingBodyPart: e.AcceptMissingBodyPart, RefuseContrast: e.RefuseContrast,
	}
}

func newTriage(cfg *configs.Config, sp *spool.Spool, m *model, log *slog.Logger) *triage.Triage {
	gate := NewGate(cfg.Triage.Eligibility)
	switch {
	case !cfg.Triage.Enabled:
		gate.Closed = "triage is switched off (triage.enabled)"
	case len(cfg.Triage.Models) == 0:
		gate.Closed = "no model is configured (triage.models)"
	}
	t := &triage.Triage{
		Spool: sp, Service: m, Gate: gate,
		Site: cfg.Site, Device: cfg.Device, Pseudonymous: cfg.Alerts.Identity == "pseudonym",
		Workers: workers(cfg), Quiet: cfg.Triage.Quiet, Log: log,
	}
	if m.drift != nil {
		t.Observer = m.drift
	}
	return t
}

func newForwarder(sp *spool.Spool, d configs.Destination, log *slog.Logger) (*forward.Forwarder, error) {
	dialer, err := Dialer(d, log)
	if err != nil {
		return nil, err
	}
	return &forward.Forwarder{
		Spool: sp, Destination: d.Name, Log: log,
		NewSender: func() forward.Sender {
			return &forward.SCU{Addr: d.Address, Dialer: dialer, Transcode: d.Transcode == "explicit-vr-le"}
		},
		Associations: d.Associations,
		Transcode:    d.Transcode == "explicit-vr-le",
		Commit:       d.Commitment.Required(),
		Collect:      d.Commitment.Collect,
		MinRetry:     d.Retry.Initial, MaxRetry: d.Retry.Max,
	}, nil
}
