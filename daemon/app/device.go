package app

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"ichwatch/configs"
	"ichwatch/daemon/console"
	"ichwatch/daemon/monitor"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
)

// look tells the page how the device is.
func (a *App) look(ctx context.Context) console.Machine {
	status := a.Status(ctx)
	m := console.Machine{
		Version: a.version, Started: a.started, Boot: status.Boot,
		Models: status.Model.Names, Provider: status.Model.Provider, ModelFault: status.Model.Fault,
		Broker: status.Broker.Address, Connected: status.Broker.Connected,
		HighWatermark: float64(a.cfg.Spool.HighWatermark), Peers: a.page.peers.list(a.cfg.DICOM.Peers),
	}
	for _, name := range slices.Sorted(maps.Keys(status.Parts)) {
		part := console.Part{Name: name, Wrong: status.Parts[name]}
		if part.Wrong == monitor.OK {
			part.Wrong = ""
		}
		m.Parts = append(m.Parts, part)
	}
	if disk, err := a.spool.Disk(); err == nil {
		m.DiskFree, m.DiskTotal, m.DiskInUse = disk.Free, disk.Total, disk.InUse()
	}
	overview, err := a.overview(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Error("the page cannot show what waits", "err", err)
	}
	m.Objects, m.Bytes = overview.Stored, uint64(max(overview.Bytes, 0))
	m.Slices, m.Messages = backlog(overview.Slices), backlog(overview.Messages)
	for _, d := range status.Destinations {
		q := console.Queue{Name: d.Name, Address: d.Address, Failing: d.Failing, Reason: d.Reason, LastDone: d.LastDone}
		for _, o := range overview.Queues {
			if o.Destination == d.Name {
				q.Waiting, q.Parked = backlog(o.Pending), o.Parked.Waiting
				if o.LastDone.After(q.LastDone) {
					q.LastDone = o.LastDone
				}
			}
		}
		m.Queues = append(m.Queues, q)
	}
	return m
}

func backlog(b spool.Backlog) console.Backlog { return console.Backlog{N: b.Waiting, Oldest: b.Oldest} }

func (a *App) overview(ctx context.Context) (_ spool.Overview, err error) {
	r, err := spool.OpenReader(ctx, a.cfg.Spool.Dir)
	if err != nil {
		return spool.Overview{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return r.Overview(ctx)
}

// checkFile checks the file of the configuration as ichwatch check-config does.
func (a *App) checkFile(context.Context) console.Checked {
	c := console.Checked{File: a.configFile}
	add := func(to *[]string, ps configs.Problems) {
		for _, p := range ps {
			*to = append(*to, p.Error())
		}
	}
	cfg, err := configs.Load(a.configFile)
	if problems, ok := errors.AsType[configs.Problems](err); ok {
		add(&c.Problems, problems)
	} else if err != nil {
		c.Problems = append(c.Problems, err.Error())
	}
	if err != nil {
		return c
	}
	c.Changed = !cfg.Equal(a.cfg)
	insecure, warnings := CheckSecurity(cfg)
	add(&c.Problems, cfg.Placed(slices.Concat(configs.Check(cfg), insecure)))
	add(&c.Warnings, cfg.Placed(slices.Concat(cfg.Warnings(), warnings, CheckDecoders(cfg))))
	return c
}

// peers remembers who called last.
type peers struct {
	mu    sync.Mutex
	calls map[call]seen
}

type call struct{ title, host string }

type seen struct {
	at      time.Time
	refused string
}

// mostCalls bounds what is remembered: AE titles may be made up.
const mostCalls = 200

func (p *peers) note(rq dimse.AssociateRequestInfo, refused string) {
	host, _, err := net.SplitHostPort(rq.RemoteAddr.String())
	if err != nil {
		host = rq.RemoteAddr.String()
	}
	c := call{strings.ToValidUTF8(string(rq.CallingAETitle), "?"), host}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls == nil {
		p.calls = map[call]seen{}
	}
	p.calls[c] = seen{time.Now(), refused}
	for len(p.calls) > mostCalls {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(p.calls)), func(a, b call) int { return p.calls[a].at.Compare(p.calls[b].at) })
		delete(p.calls, oldest)
	}
}

// watch makes an acceptor tell who calls it.
func (p *peers) watch(s *dimse.Server) {
	admit, advise := s.Admit, s.Advise
	s.Admit = func(ctx context.Context, rq dimse.AssociateRequestInfo) *dimse.Rejection {
		rejection := admit(ctx, rq)
		refused := ""
		if rejection != nil {
			refused = rejection.String()
		}
		p.note(rq, refused)
		return rejection
	}
	s.Advise = func(r dimse.Refusal) string {
		if r.CallingAETitle != "" {
			p.note(r.AssociateRequestInfo, r.Cause.String())
		}
		return advise(r)
	}
}

// list gives who called, the latest first, under the names that the configuration
// has for them, and then those of it who have not.
func (p *peers) list(configured []configs.Peer) (out []console.Peer) {
	p.mu.Lock()
	for c, s := range p.calls {
		out = append(out, console.Peer{AETitle: c.title, Address: c.host, Seen: s.at, Refused: s.refused})
	}
	p.mu.Unlock()
	slices.SortFunc(out, func(a, b console.Peer) int { return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.AETitle, b.AETitle)) })
	for _, peer := range configured {
		called := false
		for i := range out {
			if out[i].Name == "" && peer.AETitle != "" && out[i].AETitle == peer.AETitle && out[i].Refused == "" {
				out[i].Name, called = peer.Name, true
			}
		}
		if !called && peer.AETitle != "" {
			out = append(out, console.Peer{Name: peer.Name, AETitle: peer.AETitle, Address: strings.Join(peer.Addresses, " ")})
		}
	}
	return out
}
