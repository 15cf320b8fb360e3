package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"ichwatch/configs"
	"ichwatch/daemon/commit"
	"ichwatch/daemon/monitor"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// newProvider answers scanners that ask for storage commitment; nil where they may not.
func newProvider(cfg *configs.Config, sp *spool.Spool, log *slog.Logger) (*commit.Provider, error) {
	c := &cfg.DICOM.Commitment
	if !c.Enabled {
		return nil, nil
	}
	peers := map[dicom.AETitle]commit.Peer{}
	for _, p := range cfg.DICOM.Peers {
		if !p.Reports() {
			continue
		}
		peer, err := reportPeer(cfg, p, log)
		if err != nil {
			return nil, err
		}
		peers[dicom.AETitle(p.AETitle)] = peer
	}
	return &commit.Provider{
		Spool: sp, Log: log,
		SameAssociation: c.SameAssociation, Peers: peers,
		MaxReferences: c.MaxReferences, MaxOpen: c.MaxOpen, MaxAge: c.MaxAge,
		MinRetry: c.Retry.Initial, MaxRetry: c.Retry.Max,
	}, nil
}

// reportPeer is how a scanner is called with reports: by the title under which it calls us.
func reportPeer(cfg *configs.Config, p configs.Peer, log *slog.Logger) (commit.Peer, error) {
	peer := commit.Peer{Addr: p.Commitment.Address, Dialer: dimse.Dialer{
		CallingAETitle: dicom.AETitle(cmp.Or(p.CalledAETitle, cfg.DICOM.AETitle)),
		ReadTimeout:    cfg.DICOM.ReadTimeout, WriteTimeout: cfg.DICOM.WriteTimeout, Log: log,
	}}
	if err := secure(&peer.Dialer, &p.Commitment.TLS, log); err != nil {
		return peer, fmt.Errorf("commitment of %s: %w", p.Name, err)
	}
	return peer, nil
}

// newRequester asks a destination for its commitment, with the destination's TLS and user identity.
func newRequester(sp *spool.Spool, d configs.Destination, log *slog.Logger) (*commit.Requester, error) {
	dialer, err := Dialer(d, log)
	if err != nil {
		return nil, err
	}
	dialer.CalledAETitle = dicom.AETitle(d.Commitment.CalledAETitle)
	return &commit.Requester{
		Spool: sp, Destination: d.Name, Log: log,
		Addr: d.Commitment.Address, Dialer: dialer,
		Wait: d.Commitment.Wait, Timeout: d.Commitment.Timeout,
		MinRetry: d.Commitment.Retry.Initial, MaxRetry: d.Commitment.Retry.Max,
	}, nil
}

// prepareCommitment makes whoever asks for, and whoever is asked for, storage commitment. What waits for a destination
// that is not asked any more is done.
func (a *App) prepareCommitment(ctx context.Context) (err error) {
	if a.provider, err = newProvider(a.cfg, a.spool, a.log); err != nil {
		return err
	}
	for _, d := range a.cfg.Destinations {
		if d.Commitment.Required() {
			r, err := newRequester(a.spool, d, a.log)
			if err != nil {
				return err
			}
			a.requesters = append(a.requesters, r)
			continue
		}
		switch n, err := a.spool.SentIsDone(ctx, d.Name); {
		case err != nil:
			return err
		case n > 0:
			a.log.Warn("the destination is not asked for storage commitment any more: what it has stored counts as forwarded", "destination", d.Name, "instances", n)
		}
	}
	return nil
}

// serveCommitment lets a server serve what is configured of storage commitment.
func (a *App) serveCommitment(s *dimse.Server) {
	if a.provider != nil {
		s.Actions = a.provider
	}
	if len(a.requesters) > 0 {
		s.EventReports = &commit.Reports{Spool: a.spool, Requesters: a.requesters, Log: a.log}
	}
}

// commitmentStages are the parts that call others about storage commitment.
func (a *App) commitmentStages() (stages []*stage) {
	if a.provider != nil {
		stages = append(stages, &stage{name: "commitment reports", run: a.provider.Run})
	}
	for _, r := range a.requesters {
		stages = append(stages, &stage{name: "commitment " + r.Destination, run: r.Run})
	}
	return stages
}

// commitmentChecks tell of destinations that do not commit themselves, and of scanners that take no reports.
func (a *App) commitmentChecks() (checks []monitor.Check) {
	for _, r := range a.requesters {
		checks = append(checks, monitor.Check{Name: "commitment " + r.Destination, Look: func(ctx context.Context) error {
			s := r.Status()
			if !s.Failing {
				return nil
			}
			u, err := a.spool.Uncommitted(ctx, r.Destination)
			if err != nil || u.Legs == 0 {
				return err
			}
			return fmt.Errorf("has stored %d instances, the first %s, and not committed itself to them; they are kept, and it is asked again: %s",
				u.Legs, u.Since.Format(time.RFC3339), s.Reason)
		}})
	}
	if a.provider == nil {
		return checks
	}
	for _, p := range a.cfg.DICOM.Peers {
		if !p.Reports() {
			continue
		}
		checks = append(checks, monitor.Check{Name: "commitment reports " + p.Name, Look: func(context.Context) error {
			if s := a.provider.Status()[dicom.AETitle(p.AETitle)]; s.Failing {
				return fmt.Errorf("the scanner takes no report since %s; it is tried again: %s", s.Since.Format(time.RFC3339), s.Reason)
			}
			return nil
		}})
	}
	return checks
}
