package console_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/console"
	"ichwatch/daemon/console/users"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/infer"
)

const password = "four words of mine"

var inService = infer.Models{{Name: "resnet18", SHA256: strings.Repeat("ab", 32)}}

// site is a page over a spool of its own, as a hospital would have it.
type site struct {
	*console.Server
	t    *testing.T
	base string
	log  *dimsetest.Output
	door *door

	usersFile string

	mu       sync.Mutex
	phantoms map[dicom.UID]*phantom.Study // by SOP Instance UID
	numbers  map[dicom.UID]int
}

// newSite serves a page with a user of every role: anna and ben read, tess is the
// technician, root the administrator, wall the screen.
func newSite(t *testing.T, change func(*console.Server)) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, log: new(dimsetest.Output), phantoms: map[dicom.UID]*phantom.Study{}, numbers: map[dicom.UID]int{}}
	recent := new(console.Recent)
	log := slog.New(recent.Tee(slog.NewTextHandler(s.log, nil)))
	sp, err := spool.Open(t.Context(), spool.Options{Dir: filepath.Join(dir, "spool"), Device: "ct1", Destinations: []string{"pacs"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	trail, err := audit.Open(filepath.Join(dir, audit.Name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	file := filepath.Join(dir, "users")
	for name, role := range map[string]users.Role{
		"anna": users.Reader, "ben": users.Reader, "tess": users.Technician, "root": users.Admin, "wall": users.Display,
	} {
		u, err := users.New(name, role, []byte(password))
		if err != nil {
			t.Fatal(err)
		}
		if err := users.Add(file, u); err != nil {
			t.Fatal(err)
		}
	}
	s.usersFile = file
	known, err := users.Open(file, log)
	if err != nil {
		t.Fatal(err)
	}
	thresholds := map[infer.Class]float32{}
	for _, c := range infer.Classes()[1:] {
		thresholds[c] = 0.5
	}
	s.Server = &console.Server{
		Site: "north", Device: "ct1", Version: "test",
		Spool: sp, Answers: sp, Trail: trail, Users: known, Log: log, Recent: recent,
		Idle: 30 * time.Minute, Max: 12 * time.Hour,
		Model: func() console.Model {
			return console.Model{Models: inService, Classes: infer.Classes(), Thresholds: thresholds}
		},
		Slice: s.slice, HeatMap: heat, Look: machine,
	}
	if change != nil {
		change(s.Server)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.base = "http://" + ln.Addr().String()
	s.door = &door{Listener: ln}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, s.door, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the page ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", s.log.String())
		}
	})
	return s
}

// door is a listener that can be shut in everybody's face.
type door struct {
	net.Listener
	mu   sync.Mutex
	shut bool
	all  []net.Conn
}

func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		if d.shut {
			d.mu.Unlock()
			c.Close()
			continue
		}
		d.all = append(d.all, c)
		d.mu.Unlock()
		return c, nil
	}
}

func (d *door) cut(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
	for _, c := range d.all {
		c.Close()
	}
	d.all = nil
}

// slice gives what the phantom shows, and fails for what is no phantom.
func (s *site) slice(_ context.Context, data *spool.DataSet, _ int) (*console.Slice, error) {
	s.mu.Lock()
	p, n := s.phantoms[data.Instance.SOPInstanceUID], s.numbers[data.Instance.SOPInstanceUID]
	s.mu.Unlock()
	if p == nil {
		return nil, errors.New("no pixels")
	}
	spacing := p.PixelSpacing()
	return &console.Slice{
		Image: infer.Image{Rows: p.Rows(), Columns: p.Columns(), HU: p.HU(n, nil), PixelSpacing: [2]float64{spacing, spacing}},
		Sides: [4]string{"R", "L", "A", "P"},
	}, nil
}

// heat is a map with one warm spot.
func heat(_ context.Context, _ int64, _ int, _ infer.Class) (*console.HeatMap, error) {
	m := &console.HeatMap{Rows: 7, Columns: 7, Values: make([]float32, 49), Box: [4]float64{20, 20, 236, 236}}
	for i := range m.Values {
		dx, dy := float32(i%7)-4.6, float32(i/7)-2.4
		m.Values[i] = max(0, 1-(dx*dx+dy*dy)/4)
	}
	return m, nil
}

func machine(context.Context) console.Machine {
	at := time.Now().Add(-3 * time.Minute)
	return console.Machine{
		Version: "test", Started: at.Add(-time.Hour), Boot: 7, Models: []string{"resnet18@abababababab"}, Provider: "cpu",
		Parts:  []console.Part{{Name: "dicom"}, {Name: "spool"}, {Name: "broker", Wrong: "not connected; alerts wait in the spool"}},
		Broker: "tls://mqtt.example.org:8883", DiskFree: 180 << 30, DiskTotal: 480 << 30, DiskInUse: 0.62, HighWatermark: 0.9, Objects: 10412, Bytes: 5 << 30,
		Queues: []console.Queue{
			{Name: "pacs", Address: "pacs.example.org:104", LastDone: at},
			{Name: "backup", Address: "backup.example.org:104", Waiting: console.Backlog{N: 312, Oldest: at}, Failing: true, Reason: "no association: connection refused"},
		},
		Peers: []console.Peer{{Name: "ct1", AETitle: "CT1", Address: "192.0.2.10", Seen: at}, {AETitle: "CT2", Address: "192.0.2.11", Seen: at, Refused: "no peer has this calling AE title"}},
	}
}

// newPhantom draws a study.
func newPhantom(t *testing.T, class phantom.Class, seed uint64) *phantom.Study {
	t.Helper()
	p, err := phantom.New(phantom.Options{Seed: seed, Class: class, Rows: 256, Columns: 256, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// arrive puts slices of a phantom into the spool, each with the finding that a
// good model would have made.
func (s *site) arrive(p *phantom.Study, slices ...int) {
	s.t.Helper()
	class := infer.Class(p.Class())
	for _, i := range slices {
		uid := p.InstanceUID(i)
		s.mu.Lock()
		s.phantoms[uid], s.numbers[uid] = p, i
		s.mu.Unlock()
		var data bytes.Buffer
		if err := p.WriteDataSet(&data, i); err != nil {
			s.t.Fatal(err)
		}
		in := s.store(uid, data.Bytes())
		truth := p.Truth(i)
		share := float32(truth.Pixels[p.Class()])
		scores := make([]float32, len(infer.Classes()))
		for c := range scores {
			scores[c] = 0.02 + 0.01*float32((i*7+c*3)%5)
		}
		if class.Hemorrhage() {
			scores[class] = max(scores[class], min(0.97, share/(share+60)))
		}
		f := spool.Finding{InstanceID: in.ID, State: spool.FindingClassified, Position: truth.Position, Models: inService, Provider: "cpu", Probabilities: scores}
		if err := s.Spool.RecordFinding(s.t.Context(), f); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) store(uid dicom.UID, data []byte) spool.Instance {
	s.t.Helper()
	syntax, _ := dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
	header, err := dicom.Scan(bytes.NewReader(data), syntax, dicom.ScanOptions{
		Want: func(t dicom.Tag) bool {
			return t == dicom.TagStudyInstanceUID || t == dicom.TagSeriesInstanceUID
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	in, err := s.Spool.Create(dicom.FileMeta{
		SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: uid, TransferSyntaxUID: dicom.ExplicitVRLittleEndian, SourceAETitle: "CT1",
	})
	if err == nil {
		_, err = in.Write(data)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	i, _, err := in.Commit(s.t.Context(), header)
	if err != nil {
		s.t.Fatal(err)
	}
	return i
}

// dataSetOf is the first slice of a phantom, which the model is not asked about.
func dataSetOf(t *testing.T, p *phantom.Study) []byte {
	t.Helper()
	var data bytes.Buffer
	if err := p.WriteDataSet(&data, 0); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

// all are the slices of a phantom.
func all(p *phantom.Study) (n []int) {
	for i := range p.Slices() {
		n = append(n, i)
	}
	return n
}

// suspect raises the alert of a phantom's study at its slice with the most blood,
// and returns its id.
func (s *site) suspect(p *phantom.Study) string {
	s.t.Helper()
	key := 0
	for i := range p.Slices() {
		if p.Truth(i).Pixels[p.Class()] > p.Truth(key).Pixels[p.Class()] {
			key = i
		}
	}
	return s.decide(p, alerts.Positive, &alerts.Message{
		Site: "north", Device: "ct1", Study: alerts.Study{InstanceUID: string(p.StudyUID())}, Finding: p.Class().String(), Score: 0.93,
		KeyImage: string(p.InstanceUID(key)), Models: []alerts.Model{{Name: "resnet18", SHA256: inService[0].SHA256}},
		ReceivedAt: time.Now(), DetectedAt: time.Now(),
	})
}

func (s *site) decide(p *phantom.Study, o alerts.Outcome, alert *alerts.Message) string {
	s.t.Helper()
	study, err := s.Spool.Study(s.t.Context(), p.StudyUID())
	if err != nil {
		s.t.Fatal(err)
	}
	m := alerts.OutcomeMessage{
		Site: "north", Device: "ct1", Study: alerts.Study{InstanceUID: string(p.StudyUID())}, Outcome: o,
		Counts: alerts.Counts{Received: study.Instances, Classified: study.Instances}, ReceivedAt: time.Now(), DecidedAt: time.Now(),
	}
	switch o {
	case alerts.Positive:
		m.Finding = alert.Finding
	case alerts.Failed, alerts.NotAnalysed:
		m.Reason = "none of 3 objects is for the model: modality is not CT"
	}
	v, err := s.Spool.Decide(s.t.Context(), spool.Decision{StudyInstanceUID: p.StudyUID(), Revision: study.Revision, Final: true, Outcome: m, Alert: alert})
	if err != nil {
		s.t.Fatal(err)
	}
	return v.AlertID
}

// delivered confirms every message as a broker would.
func (s *site) delivered() {
	s.t.Helper()
	entries, err := s.Spool.PendingMessages(s.t.Context(), time.Now(), 100)
	for _, e := range entries {
		err = errors.Join(err, s.Spool.MessageDelivered(s.t.Context(), e.ID, time.Now()))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// client is a person's browser without the browser.
type client struct {
	*http.Client
	s *site
}

// as logs somebody in; nobody, where name is empty.
func (s *site) as(name string) *client {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &client{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, s}
	s.t.Cleanup(c.CloseIdleConnections)
	if name == "" {
		return c
	}
	if status, body := c.post("/login", url.Values{"name": {name}, "password": {password}}); status != http.StatusSeeOther {
		s.t.Fatalf("%s cannot log in: %d %s", name, status, body)
	}
	return c
}

func (c *client) do(method, path string, body io.Reader, headers ...string) (*http.Response, string) {
	c.s.t.Helper()
	rq, err := http.NewRequestWithContext(c.s.t.Context(), method, c.s.base+path, body)
	if err != nil {
		c.s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	rs, err := c.Do(rq)
	if err != nil {
		c.s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer rs.Body.Close()
	text, err := io.ReadAll(rs.Body)
	if err != nil {
		c.s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return rs, string(text)
}

func (c *client) get(path string) (int, string) {
	c.s.t.Helper()
	rs, body := c.do(http.MethodGet, path, nil, "Accept", "text/html")
	return rs.StatusCode, body
}

func (c *client) post(path string, form url.Values) (int, string) {
	c.s.t.Helper()
	rs, body := c.do(http.MethodPost, path, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded", "Accept", "application/json")
	return rs.StatusCode, body
}
