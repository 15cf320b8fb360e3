// Package demo runs the whole line on one machine: the real daemon, with a scanner that pushes phantom studies, a PACS
// that compares what arrives, an MQTT broker, and a person on call. Nothing in it is scripted but what the scanner
// sends; the outcomes are the model's.
package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"ichwatch/alerts"
	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/infer"
	"ichwatch/models"
)

// Options choose how the demo runs.
type Options struct {
	Once bool // one round, acknowledged by itself, then the verdict
	JSON bool // print only the Summary, as JSON
	Live bool // Out is a terminal: draw instead of printing lines

	Seed    uint64        // of the first study; the same seed gives the same studies
	Pace    time.Duration // between two slices of a study
	Slices  int           // of each study; 0: as many as cover the head
	Size    int           // rows and columns; 0: 512
	Library string        // ONNX Runtime; empty: as app.FindRuntime finds it
	Dir     string        // where the daemon keeps its spool and log, a new or empty folder; empty: a temporary one, removed at the end unless something failed
	Version string

	Out io.Writer
}

// Summary is what one round came to.
type Summary struct {
	Schema   string   `json:"schema"` // "ichwatch.demo/v1"
	Version  string   `json:"version"`
	OK       bool     `json:"ok"`
	Failures []string `json:"failures"`
	Seconds  float64  `json:"seconds"`
	// Models looked at the slices.
	Models  infer.Models `json:"models"`
	Studies []Row        `json:"studies"`
	// Alert is the first alert as it came from the broker.
	Alert      json.RawMessage `json:"alert"`
	Disclaimer string          `json:"disclaimer"`
}

// ErrFailed is returned by a round in which something did not arrive; the Summary says what.
var ErrFailed = errors.New("the demo did not do all it should")

// escalateAfter is short, so that who watches the demo sees what happens to an alert that nobody answers: it is raised
// again, and again.
const (
	escalateAfter = 20 * time.Second
	escalateSteps = 3
)

// settleTimeout bounds the wait for outcome, alert and acknowledgement after the last slice.
const settleTimeout = 60 * time.Second

// How long a finished round stays on the screen: on a terminal, where a key cuts it short, and without one.
const (
	restLive  = 15 * time.Second
	restPlain = 30 * time.Second
)

// logName is the daemon's log in the demo's folder.
const logName = "ichwatch.log"

// Run runs the demo until it is over (Once) or ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "ichwatch-demo-"); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		defer func() {
			if info, statErr := os.Stat(filepath.Join(dir, logName)); err != nil && statErr == nil && info.Size() > 0 {
				err = fmt.Errorf("%w\nthe log and the spool are kept in %s", err, dir)
				return
			}
			err = errors.Join(err, os.RemoveAll(dir))
		}()
	} else if err := makeEmpty(dir); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	logFile, err := os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer logFile.Close()
	log := slog.New(slog.NewTextHandler(logFile, &slog.HandlerOptions{Level: slog.LevelDebug}))

	s, err := start(ctx, o, dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if o.Once {
		return s.once(ctx)
	}
	return s.loop(ctx)
}

// makeEmpty makes a folder, or refuses one that holds something: in the spool of an earlier demo the same studies would
// be duplicates, and get no outcome.
func makeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	switch entries, err := os.ReadDir(dir); {
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty; name a new folder", dir)
	}
	return nil
}

// stage is a running demo.
type stage struct {
	options Options
	board   *board
	broker  *broker
	scanner *scanner
	pacs    *dimse.Server
	pacsAt  net.Addr
	app     *app.App
	dir     string
	login   string        // to the page, for the person who watches
	next    chan struct{} // capacity 1: somebody wants the next round

	cancel context.CancelFunc
	ended  chan error // of the daemon, then of the PACS
}

func start(ctx context.Context, o Options, dir string, log *slog.Logger) (_ *stage, err error) {
	library := o.Library
	if library == "" {
		if library, err = app.FindRuntime(); err != nil {
			return nil, err
		}
	}
	cfg := configs.Default()
	s := &stage{options: o, board: newBoard(), dir: dir, next: make(chan struct{}, 1), ended: make(chan error, 2)}

	base := fmt.Sprintf("%s/v1/%s/%s", cfg.Alerts.MQTT.Root, cfg.Site, cfg.Device)
	if s.broker, err = startBroker(s.board, base); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.broker.close()
		}
	}()

	modelDir := filepath.Join(dir, "model")
	if err := os.CopyFS(modelDir, models.Phantom()); err != nil {
		return nil, fmt.Errorf("demo: unpack the model: %w", err)
	}
	pacsListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	s.pacsAt = pacsListener.Addr()

	cfg.DICOM.Listen = "127.0.0.1:0"
	cfg.Monitor.Listen = "127.0.0.1:0"
	cfg.Spool.Dir = filepath.Join(dir, "spool")
	// A laptop's disk may be fuller than an appliance's should be; the demo needs some 100 MB.
	cfg.Spool.HighWatermark, cfg.Spool.Reserve = 0.999, 64<<20
	cfg.Destinations = []configs.Destination{{
		Name: "demo-pacs", Address: pacsListener.Addr().String(), CalledAETitle: "DEMO_PACS", CallingAETitle: cfg.DICOM.AETitle,
		Timeouts: configs.Timeouts{Dial: 5 * time.Second, ACSE: 5 * time.Second, Read: 10 * time.Second, Write: 10 * time.Second},
		Retry:    configs.Retry{Initial: time.Second, Max: 5 * time.Second},
	}}
	if err := s.letIn(cfg, dir); err != nil {
		return nil, err
	}
	cfg.Triage.Models = []string{modelDir}
	cfg.Triage.Quiet = time.Second
	cfg.ONNXRuntime.Library = library
	cfg.Alerts.MQTT.Broker = "tcp://" + s.broker.addr
	cfg.Alerts.Escalation = slices.Repeat([]configs.Escalation{{After: escalateAfter}}, escalateSteps)

	if s.app, err = app.New(ctx, cfg, app.Options{Log: log, Version: o.Version}); err != nil {
		pacsListener.Close()
		return nil, err
	}
	// The daemon would go on without a model, and every study end as FAILED: right beside a scanner, useless here.
	if err := s.app.ModelError(); err != nil {
		return nil, errors.Join(fmt.Errorf("demo: no model in service: %w", err), s.app.Close(), pacsListener.Close())
	}
	s.scanner = newScanner(s.board, s.app.DICOMAddr().String(), o)
	s.pacs = &dimse.Server{AETitle: "DEMO_PACS", Handler: &pacs{board: s.board, study: s.scanner.study}}

	ctx, s.cancel = context.WithCancel(ctx)
	go func() { s.ended <- s.app.Run(ctx) }()
	go func() {
		err := s.pacs.Serve(context.WithoutCancel(ctx), pacsListener)
		if errors.Is(err, dimse.ErrServerClosed) {
			err = nil
		}
		s.ended <- err
	}()
	go s.followLedger(ctx)
	select {
	case <-s.app.Ready():
		return s, nil
	case err := <-s.ended:
		s.cancel()
		return nil, errors.Join(errors.New("the daemon ended at its start"), err)
	}
}

// stop ends the daemon in order, then its peers.
func (s *stage) stop() error {
	s.cancel()
	daemon := <-s.ended
	pacs := s.pacs.Close()
	served := <-s.ended
	s.broker.close()
	return errors.Join(daemon, pacs, served)
}

// The ledger is read at every change of the board, so that it does not lag behind what the peers see, but not more often
// than it takes to read it; and now and then without one.
const (
	ledgerInterval = 100 * time.Millisecond
	ledgerGap      = 20 * time.Millisecond
	ledgerStudies  = 50 // the latest; several rounds
)

// followLedger brings what only the daemon knows onto the board: what is durable, what was acknowledged, and the studies
// that somebody sent by hand.
func (s *stage) followLedger(ctx context.Context) {
	for {
		changed := s.board.changes()
		studies, err := s.app.Studies(ctx, spool.Filter{Limit: ledgerStudies})
		if err != nil {
			studies = nil // the summary will miss what could not be read
		}
		for _, study := range slices.Backward(studies) {
			s.board.update(study.StudyInstanceUID, func(r *Row) (string, bool) { return r.follow(study) })
		}
		gap := time.After(ledgerGap)
		select {
		case <-ctx.Done():
			return
		case <-changed:
			<-gap
		case <-time.After(ledgerInterval):
		}
	}
}

// follow takes over what the ledger says.
func (r *Row) follow(study spool.StudyRecord) (text string, loud bool) {
	r.Stored = study.Durable
	if r.ByHand { // received and stored are one: nobody else has counted
		r.Slices, r.Forwarded = study.Instances, 0
		for _, leg := range study.Legs {
			r.Forwarded += leg.Done
		}
	}
	for _, alert := range study.Alerts {
		if alert.AlertID == r.AlertID && alert.By != "" && !r.Acknowledged {
			r.Acknowledged, r.AcknowledgedBy = true, alert.By
			return "acknowledged by " + alert.By, false
		}
	}
	return "", false
}

// once runs one round, answers its alerts and prints the verdict.
func (s *stage) once(ctx context.Context) error {
	if !s.options.JSON {
		s.board.tell = printLines(s.options.Out)
	}
	began := time.Now()
	failure := s.scanner.round(ctx, s.options.Seed, s.options.Slices)
	s.settle(ctx)

	rows, _, alert := s.board.snapshot(0)
	sum := Summary{
		Schema: "ichwatch.demo/v1", Version: s.options.Version, Seconds: time.Since(began).Seconds(),
		Failures: []string{}, Models: s.app.Models(), Studies: rows, Alert: alert, Disclaimer: alerts.Disclaimer,
	}
	if failure != nil {
		sum.Failures = append(sum.Failures, failure.Error())
	}
	for _, r := range rows {
		sum.Failures = append(sum.Failures, r.Failures()...)
	}
	sum.OK = len(sum.Failures) == 0
	if s.options.JSON {
		out := json.NewEncoder(s.options.Out)
		out.SetIndent("", "  ")
		if err := out.Encode(sum); err != nil {
			return err
		}
	} else {
		s.printSummary(sum)
	}
	if !sum.OK {
		return ErrFailed
	}
	return nil
}

func (s *stage) printSummary(sum Summary) {
	out := s.options.Out
	if len(sum.Alert) > 0 {
		fmt.Fprintf(out, "\nThe first alert, as the broker delivered it:\n%s\n", indent(sum.Alert))
	}
	fmt.Fprintf(out, "\n%d studies in %.1f s.\n", len(sum.Studies), sum.Seconds)
	for _, f := range sum.Failures {
		fmt.Fprintln(out, "FAILED", f)
	}
	if sum.OK {
		fmt.Fprintln(out, "Every study was stored, forwarded byte for byte, got its outcome, and every alert was acknowledged.")
	}
}

// settle answers alerts until every study is complete and answered, or the time is over.
func (s *stage) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	answered := map[string]bool{}
	for {
		changed := s.board.changes()
		rows, _, _ := s.board.snapshot(0)
		done := true
		for _, r := range rows {
			if r.Waiting() {
				done = false
				if !answered[r.AlertID] {
					answered[r.AlertID] = s.broker.acknowledge(r.AlertID, "on-call (demo)") == nil
				}
			}
			done = done && r.Complete()
		}
		if done {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// loop runs round after round until ctx ends or the person leaves.
func (s *stage) loop(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rounds := make(chan error, 1)
	go func() { rounds <- s.rounds(ctx) }()

	if !s.options.Live {
		fmt.Fprint(s.options.Out, s.header())
		s.board.tell = printLines(s.options.Out)
		return <-rounds
	}
	view := tea.NewProgram(&live{board: s.board, header: s.header(), act: s.act},
		tea.WithContext(ctx), tea.WithOutput(s.options.Out), tea.WithoutSignalHandler(), tea.WithAltScreen())
	_, err := view.Run()
	cancel()
	if errors.Is(err, tea.ErrProgramKilled) || errors.Is(err, context.Canceled) {
		err = nil // told to stop from outside
	}
	if _, _, alert := s.board.snapshot(0); len(alert) > 0 { // the screen of before is back
		fmt.Fprintf(s.options.Out, "The first alert, as the broker delivered it:\n%s\n", indent(alert))
	}
	return errors.Join(err, <-rounds)
}

// rounds pushes a round, lets people look, and begins again with other heads. On a terminal a failed round is in the
// journal and does not end the demo; the first one is returned at the end.
func (s *stage) rounds(ctx context.Context) error {
	var failed error
	for seed := s.options.Seed; ; seed += 100 {
		if err := s.scanner.round(ctx, seed, s.options.Slices); err != nil && ctx.Err() == nil {
			if !s.options.Live {
				return err
			}
			failed = cmp.Or(failed, fmt.Errorf("%w: %w", ErrFailed, err))
		}
		if s.options.Live {
			s.rest(ctx, restLive)
		} else { // nobody has keys to answer with
			s.settle(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(restPlain):
			}
		}
		if ctx.Err() != nil {
			return failed
		}
		s.board.reset()
	}
}

// rest returns when the next round may begin: every study has its outcome, every alert is answered or withdrawn, and
// then a person asked for it or the pause is over. An outcome that does not come is waited for no longer than
// settleTimeout, an answer for as long as it takes.
func (s *stage) rest(ctx context.Context, pause time.Duration) {
	select {
	case <-s.next: // asked for too early
	default:
	}
	late := time.After(settleTimeout)
	patient := true
	var over <-chan time.Time // nil while something is waited for
	for {
		changed := s.board.changes()
		rows, _, _ := s.board.snapshot(0)
		switch busy := slices.ContainsFunc(rows, func(r Row) bool { return r.Waiting() || patient && !r.Complete() }); {
		case busy && over != nil:
			over = nil
			s.board.announce(time.Time{})
		case !busy && over == nil:
			over = time.After(pause)
			s.board.announce(time.Now().Add(pause))
		}
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-s.next:
			if over != nil {
				return
			}
		case <-late:
			patient = false
		case <-changed:
		}
	}
}

// act answers a key.
func (s *stage) act(key string) {
	switch key {
	case "a":
		rows, _, _ := s.board.snapshot(0)
		for _, r := range rows {
			if r.Waiting() {
				_ = s.broker.acknowledge(r.AlertID, "you") // a lost one is seen: the alert stays red
				return
			}
		}
	case "n":
		select {
		case s.next <- struct{}{}:
		default:
		}
	}
}

// header tells where everything is, in few lines that fit an 80 column terminal.
func (s *stage) header() string {
	host, port := split(s.app.DICOMAddr().String())
	_, mqttPort := split(s.broker.addr)
	return styleTitle.Render("ichwatch demo") + ": synthetic studies; suspected findings, not for diagnosis\n" +
		styleTitle.Render(fmt.Sprintf("page http://%s", s.app.PageAddr())) + "   log in as " + styleTitle.Render(s.login) + fmt.Sprintf(`
send your own: storescu -aec ICHWATCH %s %s FILE
broker %s: mosquitto_sub -p %s -v -t '%s/#'
PACS %s   health http://%s/readyz
model %v
log  %s
`, host, port, s.broker.addr, mqttPort, s.broker.base, s.pacsAt, s.app.MonitorAddr(), s.app.Models(), filepath.Join(s.dir, logName))
}

// split takes apart an address that a listener gave.
func split(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err) // net.Addr of a TCP listener is always host:port
	}
	return host, port
}
