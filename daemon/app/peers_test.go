package app_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dimsetest"
	"ichwatch/models"
)

// patience is how long a test waits for what should happen on a busy machine.
const patience = 90 * time.Second

// eventually waits until ok, which is asked often, and fails the test where that does not come.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// onnxRuntime is the library that the tests run with.
func onnxRuntime(t *testing.T) string {
	t.Helper()
	path, err := app.FindRuntime()
	if err != nil {
		const name = "../../bin/libonnxruntime.so.1"
		if _, missing := os.Stat(name); missing != nil {
			if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
		path = name
	}
	if path, err = filepath.Abs(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// phantomModel unpacks the model that ships in the binary.
func phantomModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, models.Phantom()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// config is a whole configuration on free ports, without destinations, model and broker.
func config(t testing.TB) *configs.Config {
	cfg := configs.Default()
	cfg.Site, cfg.Device = "north", "ct1"
	cfg.DICOM.Listen, cfg.Monitor.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.DICOM.DrainTimeout = 10 * time.Second
	cfg.Spool.Dir = filepath.Join(t.TempDir(), "spool")
	cfg.Spool.HighWatermark, cfg.Spool.Reserve = 0.999, 1<<20
	cfg.Triage.Models = nil
	cfg.Triage.Quiet = time.Second
	cfg.Alerts.MQTT.Broker = "tcp://127.0.0.1:9" // discard: nobody listens
	cfg.Alerts.MQTT.KeepAlive = time.Second
	return cfg
}

func destination(name, port string) configs.Destination {
	return configs.Destination{
		Name: name, Address: net.JoinHostPort("127.0.0.1", port), CalledAETitle: strings.ToUpper(name), CallingAETitle: "ICHWATCH",
		Timeouts: configs.Timeouts{Dial: 5 * time.Second, ACSE: 10 * time.Second, Read: 30 * time.Second, Write: 30 * time.Second},
		Retry:    configs.Retry{Initial: 100 * time.Millisecond, Max: time.Second},
	}
}

// daemon is a running App.
type daemon struct {
	*app.App
	port     string
	spoolDir string
	log      *dimsetest.Output
	stop     func()
}

// start runs the daemon in this process, with its debug log kept, until the test ends or stop is called.
func start(t *testing.T, cfg *configs.Config) *daemon {
	t.Helper()
	d := &daemon{spoolDir: cfg.Spool.Dir, log: new(dimsetest.Output)}
	var err error
	d.App, err = app.New(t.Context(), cfg, app.Options{
		Log: slog.New(slog.NewJSONHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	_, d.port, _ = net.SplitHostPort(d.DICOMAddr().String())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the daemon ended with %v", err)
			}
		case <-time.After(patience):
			t.Errorf("the daemon does not stop")
		}
		if t.Failed() {
			t.Logf("log:\n%s", tail(d.log.String(), 8000))
		}
	})
	t.Cleanup(d.stop)
	<-d.Ready()
	return d
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// ledger is the record of the only study in the ledger.
func (d *daemon) ledger(t *testing.T) spool.StudyRecord {
	t.Helper()
	records, err := d.Studies(t.Context(), spool.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 {
		return spool.StudyRecord{}
	}
	return records[0]
}

// forwarded reports whether every instance of the only study is confirmed by every destination.
func (d *daemon) forwarded(t *testing.T, instances int) bool {
	r := d.ledger(t)
	for _, l := range r.Legs {
		if l.Done != instances {
			return false
		}
	}
	return r.Instances == instances && len(r.Legs) > 0
}

// scan sends files with a stock storescu and fails the test unless each was answered with success.
func (d *daemon) scan(t *testing.T, files ...string) {
	t.Helper()
	dimsetest.Run(t, "storescu", append([]string{"-R", "-xe", "+C", "-aec", "ICHWATCH", "127.0.0.1", d.port}, files...)...)
}

// startProcess runs a peer until the test ends and keeps what it prints.
func startProcess(t *testing.T, name string, args ...string) *dimsetest.Output {
	t.Helper()
	out := new(dimsetest.Output)
	cmd := exec.Command(dimsetest.Program(t, name), args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed: its error says so
		if t.Failed() {
			t.Logf("%s %v:\n%s", name, args, tail(out.String(), 3000))
		}
	})
	return out
}

// startMosquitto runs a broker and, subscribed to everything, mosquitto_sub, whose lines it returns.
func startMosquitto(t *testing.T, port string) *dimsetest.Output {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n", port), 0o600); err != nil {
		t.Fatal(err)
	}
	startProcess(t, "mosquitto", "-c", conf)
	eventually(t, "mosquitto listens", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	out := startProcess(t, "mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-q", "1", "-v", "-t", "#")
	// The subscription stands when a message comes back.
	eventually(t, "mosquitto_sub is subscribed", func() bool {
		dimsetest.Run(t, "mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-t", "test", "-m", "subscribed")
		return strings.Contains(out.String(), "test subscribed")
	})
	return out
}

// messages are the payloads that mosquitto_sub printed of a topic.
func messages(printed *dimsetest.Output, topic string) [][]byte {
	var found [][]byte
	lines := bufio.NewScanner(strings.NewReader(printed.String()))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if payload, ok := strings.CutPrefix(lines.Text(), topic+" "); ok {
			found = append(found, []byte(payload))
		}
	}
	return found
}

// startOrthanc runs Orthanc as a PACS named ORTHANC and returns its DICOM port and the root of its REST API.
func startOrthanc(t *testing.T) (port, rest string) {
	t.Helper()
	o := dimsetest.StartOrthanc(t)
	return o.Port, o.REST
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v", url, resp.Status, err)
	}
	return body
}
