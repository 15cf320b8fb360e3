package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"ichwatch/alerts"
	"ichwatch/configs"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/console"
	"ichwatch/daemon/console/users"
	"ichwatch/daemon/spool"
	"ichwatch/daemon/triage"
	"ichwatch/dimse/tlsprofile"
)

// page is the page for people, where there is one.
type page struct {
	ln     net.Listener          // nil: off
	fault  atomic.Pointer[error] // why there is none, though one is wanted
	tls    *tls.Config           // nil: without
	expiry func() time.Time      // of its certificate; nil: without
	log    console.Recent        // the last lines of the log
	peers  peers                 // who called
	users  *users.File           // who may log in
	trail  *audit.Trail          // nil: it could not be opened; all else goes on
}

// openTrail opens the trail of what people did. Without it the daemon does its
// work all the same, and says so.
func (a *App) openTrail() {
	trail, err := audit.Open(filepath.Join(a.cfg.Spool.Dir, audit.Name))
	if err != nil {
		a.log.Error("the audit trail is not what it should be; ichwatch audit verify says more", "err", err)
	}
	a.page.trail = trail
	_ = trail.Append(audit.Record{Event: audit.Started, Detail: fmt.Sprintf("start %d, version %s", a.spool.Boot(), a.version), Result: audit.Done}) // what is wrong, the check says
	seq, head := trail.Head()
	a.log.Info("audit trail", "records", seq, "head", head)
}

// acknowledge is an answer that came by MQTT. One to an alert that does not exist
// is no act, and may be anybody's noise.
func (a *App) acknowledge(ctx context.Context, k alerts.Acknowledgement) error {
	study, err := a.spool.AlertStudy(ctx, k.AlertID)
	if err != nil {
		return err
	}
	r := audit.Record{Event: audit.Acknowledge, By: k.By, Via: k.Via, Alert: k.AlertID, Study: a.spool.Pseudonym(study), Detail: k.Comment}
	return a.page.trail.Around(r, func() error { return a.spool.Acknowledge(ctx, k) })
}

// openPage opens what the page needs. What is wrong with it stops nothing else:
// studies are received, and alerts go out.
func (a *App) openPage() {
	if err := a.preparePage(); err != nil {
		a.noPage(err)
	}
}

func (a *App) noPage(err error) {
	a.page.fault.Store(&err)
	a.log.Error("there is no page until this is mended and the daemon started anew", "err", err)
}

// lookAtPage is the health check of the page.
func (a *App) lookAtPage(context.Context) error {
	if fault := a.page.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

func (a *App) preparePage() (err error) {
	c := &a.cfg.Console
	if !c.Enabled() {
		if c.Listen != "" {
			a.log.Info("there is no page: console.users_file is empty; `ichwatch user add NAME` makes one")
		}
		return nil
	}
	if a.page.users, err = users.Open(c.UsersFile, a.log); err != nil {
		return fmt.Errorf("console.users_file: %w", err)
	}
	credentials, err := openConsoleTLS(a.cfg, a.log)
	if err != nil {
		return fmt.Errorf("console.tls: %w", err)
	}
	if credentials != nil {
		a.page.tls, a.page.expiry = forBrowsers(credentials.Server(false)), credentials.NotAfter
	}
	if a.page.ln, err = net.Listen("tcp", c.Listen); err != nil {
		return fmt.Errorf("console.listen: %w", err)
	}
	return nil
}

// forBrowsers adds HTTP/2, over which many pages of one browser share a
// connection.
func forBrowsers(config *tls.Config) *tls.Config {
	protocols := []string{"h2", "http/1.1"}
	fresh := config.GetConfigForClient
	config.NextProtos = protocols
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := fresh(hello)
		if err == nil {
			c.NextProtos = protocols
		}
		return c, err
	}
	return config
}

// servePage answers people until ctx ends.
func (a *App) servePage(ctx context.Context) error {
	s := &console.Server{
		Site: a.cfg.Site, Device: a.cfg.Device, Version: a.version,
		Spool: a.spool, Answers: a.spool, Trail: a.page.trail, Users: a.page.users, Log: a.log,
		Idle: a.cfg.Console.SessionIdle, Max: a.cfg.Console.SessionMax, Secure: a.page.tls != nil,
		Model: a.consoleModel, Slice: showSlice, Identify: a.identify(), Look: a.look, Recent: &a.page.log,
	}
	if a.configFile != "" {
		s.CheckFile = a.checkFile
	}
	if err := s.Serve(ctx, a.page.ln, a.page.tls); err != nil && ctx.Err() == nil {
		a.noPage(err)
		<-ctx.Done()
	}
	return nil
}

// consoleModel is what the page may read scores of.
func (a *App) consoleModel() console.Model {
	if a.model.service == nil {
		return console.Model{}
	}
	running, done := a.model.service.Use()
	if running == nil {
		return console.Model{}
	}
	defer done()
	rule := running.Ensemble.Rule()
	return console.Model{Models: running.Classifier.Models(), Classes: rule.Classes(), Thresholds: rule.Thresholds()}
}

// showSlice decodes a slice for the page.
func showSlice(ctx context.Context, data *spool.DataSet, frame int) (*console.Slice, error) {
	shown, err := triage.Show(ctx, data, data.Instance.SOPClassUID, data.Instance.TransferSyntaxUID, frame)
	if err != nil {
		return nil, err
	}
	return &console.Slice{Image: shown.Image, Sides: shown.Sides}, nil
}

// openConsoleTLS reads the files of console.tls; nil where there are none.
func openConsoleTLS(cfg *configs.Config, log *slog.Logger) (*tlsprofile.Credentials, error) {
	t := cfg.Console.TLS
	if !t.Enabled() {
		return nil, nil
	}
	return tlsprofile.Open(tlsprofile.Files{Certificate: t.CertificateFile, Key: t.KeyFile}, log)
}

// checkConsole looks into the files of the page as the daemon does at its start.
func checkConsole(cfg *configs.Config, log *slog.Logger) (problems, warnings configs.Problems) {
	note := func(key string, err error) {
		if err != nil && !errors.Is(err, os.ErrNotExist) { // that, configs.Check has said
			problems = append(problems, configs.Problem{Key: key, Wrong: "cannot be used: " + err.Error(), Err: err})
		}
	}
	if !cfg.Console.Enabled() {
		return nil, nil
	}
	_, err := users.Open(cfg.Console.UsersFile, log)
	note("console.users_file", err)
	credentials, err := openConsoleTLS(cfg, log)
	note("console.tls", err)
	if credentials != nil {
		if err := expiry(credentials.NotAfter(), time.Now()); err != nil {
			warnings = append(warnings, configs.Problem{Key: "console.tls.certificate_file", Wrong: err.Error()})
		}
	}
	return problems, warnings
}

// pageURL is where the page is, for the log.
func (a *App) pageURL() string {
	switch {
	case a.page.ln == nil:
		return "none"
	case a.page.tls != nil:
		return "https://" + a.page.ln.Addr().String()
	}
	return "http://" + a.page.ln.Addr().String()
}

// PageAddr is where the page is served; nil where there is none.
func (a *App) PageAddr() net.Addr {
	if a.page.ln == nil {
		return nil
	}
	return a.page.ln.Addr()
}
