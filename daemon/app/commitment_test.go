package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ichwatch/configs"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/tlsprofile"
)

func post(t *testing.T, url string, body any) []byte {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s %v\n%s", url, resp.Status, err, answer)
	}
	return answer
}

// introduce tells Orthanc where an AE title is to be called.
func introduce(t *testing.T, rest, name, aeTitle, port string) {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodPut, rest+"/modalities/"+name,
		strings.NewReader(fmt.Sprintf(`{"AET": %q, "Host": "127.0.0.1", "Port": %s, "AllowStorageCommitment": true}`, aeTitle, port)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(rq)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("introduce %s: %v, %+v", name, err, resp)
	}
	resp.Body.Close()
}

func smallStudy(t *testing.T) []string {
	t.Helper()
	return writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Rows: 64, Columns: 64, Slices: 4})
}

// reference is how Orthanc's REST API names an instance.
type reference struct {
	SOPClassUID    dicom.UID
	SOPInstanceUID dicom.UID
	FailureReason  int
}

func orthancReferences(t *testing.T, files ...string) (all []reference) {
	t.Helper()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		meta, _, err := dicom.ReadFileMeta(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, reference{SOPClassUID: meta.SOPClassUID, SOPInstanceUID: meta.SOPInstanceUID})
	}
	return all
}

// Orthanc, as a scanner that has stored a study with us, asks us for storage commitment, and takes the report over a new
// association as it does of every archive: of what we hold, of a UID that we never got, and of a SOP class that is not
// the instance's.
func TestStorageCommitmentForOrthanc(t *testing.T) {
	orthancPort, rest := startOrthanc(t)
	cfg := config(t)
	cfg.DICOM.Peers = []configs.Peer{
		{Name: "orthanc", AETitle: "ORTHANC", Commitment: configs.PeerCommitment{Address: net.JoinHostPort("127.0.0.1", orthancPort)}},
		{Name: "scanner", AETitle: "STORESCU", Commitment: configs.PeerCommitment{Mode: "refuse"}},
	}
	d := start(t, cfg)
	introduce(t, rest, "ichwatch", "ICHWATCH", d.port)

	files := smallStudy(t)
	d.scan(t, files...)
	rq := orthancReferences(t, files...)
	wrongClass := reference{SOPClassUID: dicom.MRImageStorage, SOPInstanceUID: rq[0].SOPInstanceUID}
	rq = append(rq, reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: "1.2.3.4.5"}, wrongClass)
	transaction := ask(t, rest, rq)

	var report struct {
		Status   string
		Success  []reference
		Failures []reference
	}
	eventually(t, "Orthanc has the report", func() bool {
		if err := json.Unmarshal(get(t, rest+transaction), &report); err != nil {
			t.Fatal(err)
		}
		return report.Status != "Pending"
	})
	reasons := map[dicom.UID]int{}
	for _, f := range report.Failures {
		reasons[f.SOPClassUID+" "+f.SOPInstanceUID] = f.FailureReason
	}
	if report.Status != "Failure" || len(report.Success) != len(files) || len(reasons) != 2 ||
		reasons[dicom.CTImageStorage+" 1.2.3.4.5"] != 0x0112 || reasons[wrongClass.SOPClassUID+" "+wrongClass.SOPInstanceUID] != 0x0119 {
		t.Errorf("Orthanc was told %+v", report)
	}

	transaction = ask(t, rest, rq[:len(files)])
	eventually(t, "Orthanc has the second report", func() bool {
		return strings.Contains(string(get(t, rest+transaction)), `"Status" : "Success"`)
	})
	eventually(t, "nothing waits any more", func() bool {
		_, r := d.report(t, "/readyz")
		return r.Parts["commitment reports orthanc"] == "ok"
	})
}

// ask lets Orthanc ask for storage commitment, and returns the path of the report.
func ask(t *testing.T, rest string, rq []reference) string {
	t.Helper()
	pairs := [][2]dicom.UID{}
	for _, r := range rq {
		pairs = append(pairs, [2]dicom.UID{r.SOPClassUID, r.SOPInstanceUID})
	}
	var answer struct{ Path string }
	body := post(t, rest+"/modalities/ichwatch/storage-commitment", map[string]any{"DicomInstances": pairs})
	if err := json.Unmarshal(body, &answer); err != nil || answer.Path == "" {
		t.Fatalf("asked for storage commitment: %v\n%s", err, body)
	}
	return answer.Path
}

// requiring is a destination that has to commit itself.
func requiring(name, port string) configs.Destination {
	d := destination(name, port)
	d.Commitment = configs.DestinationCommitment{
		Mode: "require", Address: d.Address, CalledAETitle: d.CalledAETitle, Timeout: time.Minute,
		Retry: configs.Retry{Initial: 50 * time.Millisecond, Max: time.Second},
	}
	return d
}

// Orthanc, as the PACS, is asked for its commitment and reports it over a new association to our listener, on which it
// may do nothing else. An instance that it has lost is sent to it again.
func TestStorageCommitmentOfOrthanc(t *testing.T) {
	orthancPort, rest := startOrthanc(t)
	port := dimsetest.FreePort(t)
	introduce(t, rest, "ichwatch", "ICHWATCH", port)
	cfg := config(t)
	cfg.DICOM.Listen = net.JoinHostPort("127.0.0.1", port)
	cfg.DICOM.Peers = []configs.Peer{{Name: "scanner", AETitle: "STORESCU"}}
	cfg.Destinations = []configs.Destination{requiring("orthanc", orthancPort)}
	cfg.Destinations[0].Commitment.Collect = 5 * time.Second
	d := start(t, cfg)

	files := smallStudy(t)
	d.scan(t, files...)
	eventually(t, "Orthanc has stored all", func() bool {
		l := d.ledger(t).Legs
		return len(l) == 1 && l[0].Sent+l[0].Done == len(files)
	})
	if l := d.ledger(t).Legs[0]; l.Sent != len(files) {
		t.Errorf("legs %+v before Orthanc was asked", l)
	}
	var ids []string
	if err := json.Unmarshal(get(t, rest+"/instances"), &ids); err != nil || len(ids) != len(files) {
		t.Fatalf("%d instances in Orthanc, %v", len(ids), err)
	}
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, rest+"/instances/"+ids[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	eventually(t, "Orthanc has committed itself to all", func() bool { return d.forwarded(t, len(files)) })
	if err := json.Unmarshal(get(t, rest+"/instances"), &ids); err != nil || len(ids) != len(files) {
		t.Errorf("%d instances in Orthanc, %v", len(ids), err)
	}
	if !strings.Contains(d.log.String(), "0112H") && !strings.Contains(d.log.String(), `"again":1`) {
		t.Error("the log does not tell that one was missing")
	}
	if _, r := d.report(t, "/readyz"); r.Parts["commitment orthanc"] != "ok" {
		t.Errorf("readiness says %q", r.Parts["commitment orthanc"])
	}
	// The way in is for reports alone, unless a rule of the site lets it store.
	dialer := dimse.Dialer{CallingAETitle: "ORTHANC", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{
		{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
		{AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
	}}
	may := func(addr string) [2]bool {
		a, err := dialer.Dial(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Abort()
		return [2]bool{
			a.Accepts(dicom.CTImageStorage, dicom.ImplicitVRLittleEndian), a.Accepts(dicom.StorageCommitmentPushModel, dicom.ImplicitVRLittleEndian),
		}
	}
	if got := may(cfg.DICOM.Listen); got != [2]bool{false, true} {
		t.Errorf("a destination may store, and report: %v", got)
	}
	d.stop()
	cfg.DICOM.Peers = append(cfg.DICOM.Peers, configs.Peer{Name: "pacs", AETitle: "ORTHANC"})
	start(t, cfg)
	if got := may(cfg.DICOM.Listen); got != [2]bool{true, true} {
		t.Errorf("a destination with a rule of its own may store, and report: %v", got)
	}
}

// scriptedPACS stores, takes requests for commitment, and says nothing until it is told to.
type scriptedPACS struct {
	mu    sync.Mutex
	asked []*commitment.Request
}

func (*scriptedPACS) Echo(context.Context, *dimse.Association) dimse.Status {
	return dimse.StatusSuccess
}

func (*scriptedPACS) Store(_ context.Context, _ *dimse.Association, _ dimse.CStoreRQ, data io.Reader) dimse.Result {
	if _, err := io.Copy(io.Discard, data); err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	return dimse.Result{Status: dimse.StatusSuccess}
}

func (p *scriptedPACS) Action(_ context.Context, _ *dimse.Association, rq dimse.NActionRQ, data io.Reader) dimse.Result {
	request, err := commitment.ReadRequest(rq, data, commitment.Limits{References: 100})
	if err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, request)
	return dimse.Result{Status: dimse.StatusSuccess}
}

func (*scriptedPACS) NextEventReport(context.Context, *dimse.Association) *dimse.EventReport {
	return nil
}

func (p *scriptedPACS) requests() []*commitment.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*commitment.Request(nil), p.asked...)
}

// report commits itself to all that was asked, over an association of its own.
func (p *scriptedPACS) report(t *testing.T, dialer dimse.Dialer, port string) {
	t.Helper()
	dialer.CalledAETitle = "ICHWATCH"
	dialer.Contexts = []dimse.ProposedContext{{AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}}}
	a, err := dialer.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	for _, rq := range p.requests() {
		result := &commitment.Result{TransactionUID: rq.TransactionUID, Committed: rq.References}
		answer, err := a.EventReport(t.Context(), dimse.NEventReportRQ{
			SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, EventTypeID: commitment.EventSuccess,
		}, result.Encode)
		if err != nil || answer.Status != dimse.StatusSuccess {
			t.Fatalf("report: %+v, %v", answer, err)
		}
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPromise2_NothingIsRemovedBeforeThePACSHasCommittedItself: a study that the PACS has stored stays as long as its
// commitment is out; that comes after a restart of ours, over a new association, and then the study goes. A scanner that
// asks afterwards is told that it is safe.
func TestPromise2_NothingIsRemovedBeforeThePACSHasCommittedItself(t *testing.T) {
	pacs := new(scriptedPACS)
	server := dimsetest.NewServer(t, pacs, func(s *dimse.Server) { s.AETitle, s.Actions = "PACS", pacs })
	_, pacsPort, _ := net.SplitHostPort(server.Addr)
	cfg := config(t)
	cfg.Spool.Retention = configs.Retention{Unacknowledged: "keep"}
	cfg.Destinations = []configs.Destination{requiring("pacs", pacsPort)}
	cfg.Triage.Enabled = false
	d := start(t, cfg)
	files := smallStudy(t)
	d.scan(t, files...)
	eventually(t, "the PACS is asked, and the study is decided", func() bool {
		return len(pacs.requests()) > 0 && d.ledger(t).Outcome != ""
	})
	d.stop()

	d = start(t, cfg) // removes at its start what may go
	if r := d.ledger(t); r.Removed != 0 || r.Legs[0].Done != 0 || r.Legs[0].Sent != len(files) {
		t.Fatalf("ledger %+v", r)
	}
	pacs.report(t, dimse.Dialer{CallingAETitle: "PACS"}, d.port)
	eventually(t, "the legs are done", func() bool { return d.forwarded(t, len(files)) })
	d.stop()

	d = start(t, cfg)
	eventually(t, "the study is removed", func() bool { return d.ledger(t).Removed == len(files) })
	eventually(t, "its files are gone", func() bool { // they go after their rows
		left, err := filepath.Glob(filepath.Join(cfg.Spool.Dir, "instances", "*", "*"))
		return err == nil && len(left) == 0
	})
	if committed, failed := d.commitment(t, files); committed != len(files) || failed != 0 {
		t.Errorf("committed to %d, not to %d of what was forwarded", committed, failed)
	}
}

// commitment asks the daemon, as a scanner that keeps its association open, and returns how many instances it commits
// itself to.
func (d *daemon) commitment(t *testing.T, files []string) (committed, failed int) {
	t.Helper()
	a := askForCommitment(t, dimse.Dialer{CallingAETitle: "CT1"}, d.port, files)
	var k keeper
	if came, err := a.AwaitEventReport(t.Context(), patience, &k); !came || err != nil {
		t.Fatalf("report %t, %v", came, err)
	}
	return len(k.result.Committed), len(k.result.Failed)
}

// askForCommitment asks the daemon at a port; the association stays open.
func askForCommitment(t *testing.T, dialer dimse.Dialer, port string, files []string) *dimse.Association {
	t.Helper()
	rq := &commitment.Request{TransactionUID: dicom.NewUID()}
	for _, r := range orthancReferences(t, files...) {
		rq.References = append(rq.References, commitment.Reference{SOPClassUID: r.SOPClassUID, SOPInstanceUID: r.SOPInstanceUID})
	}
	dialer.CalledAETitle = "ICHWATCH"
	dialer.Contexts = []dimse.ProposedContext{{AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian}}}
	a, err := dialer.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Abort() })
	answer, err := a.Action(t.Context(), dimse.NActionRQ{
		SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest,
	}, rq.Encode)
	if err != nil || answer.Status != dimse.StatusSuccess {
		t.Fatalf("%+v, %v", answer, err)
	}
	return a
}

// keeper takes a report.
type keeper struct{ result *commitment.Result }

func (k *keeper) EventReport(_ context.Context, _ *dimse.Association, rq dimse.NEventReportRQ, data io.Reader) dimse.Result {
	var err error
	if k.result, err = commitment.ReadResult(rq, data, commitment.Limits{References: 1000}); err != nil {
		k.result = &commitment.Result{}
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	return dimse.Result{Status: dimse.StatusSuccess}
}

// In TLS on every way: a scanner asks and is called with the report; the PACS is asked and calls with its own, for which
// the rules of the site need no entry.
func TestStorageCommitmentInTLS(t *testing.T) {
	cfg := config(t)
	files := secured(t, cfg)
	theirs, err := tlsprofile.Open(files, discard)
	if err != nil {
		t.Fatal(err)
	}
	ours := configs.TLS{Enabled: true, CAFile: files.CA, CertificateFile: cfg.DICOM.TLS.CertificateFile, KeyFile: cfg.DICOM.TLS.KeyFile}

	reported := make(chan *commitment.Result, 10)
	scanner := dimsetest.NewTLSServer(t, new(scriptedPACS), theirs.Server(true), func(s *dimse.Server) { s.AETitle, s.EventReports = "CT1", told(reported) })
	cfg.DICOM.Peers = []configs.Peer{{
		Name: "ct1", AETitle: "CT1", CertificateNames: []string{"ct1.example.org"}, Commitment: configs.PeerCommitment{Address: scanner.Addr, TLS: ours},
	}}
	cfg.DICOM.Commitment.SameAssociation = false

	pacs := new(scriptedPACS)
	server := dimsetest.NewTLSServer(t, pacs, theirs.Server(true), func(s *dimse.Server) { s.AETitle, s.Actions = "PACS", pacs })
	_, pacsPort, _ := net.SplitHostPort(server.Addr)
	cfg.Destinations = []configs.Destination{requiring("pacs", pacsPort)}
	cfg.Destinations[0].TLS = ours
	d := start(t, cfg)

	images := smallStudy(t)
	args := []string{"-R", "-xe", "+tls", files.Key, files.Certificate, "+cf", files.CA, "-aet", "CT1", "-aec", "ICHWATCH", "127.0.0.1", d.port}
	dimsetest.Run(t, "storescu", append(args, images...)...)
	if err := askForCommitment(t, dimse.Dialer{CallingAETitle: "CT1", NetDial: theirs.Dial("")}, d.port, images).Release(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case result := <-reported:
		if len(result.Committed) != len(images) || len(result.Failed) != 0 {
			t.Errorf("the scanner is told %+v", result)
		}
	case <-time.After(patience):
		t.Fatal("the scanner is not called with the report")
	}

	eventually(t, "the PACS is asked about all", func() bool {
		asked := 0
		for _, rq := range pacs.requests() {
			asked += len(rq.References)
		}
		return asked == len(images)
	})
	pacs.report(t, dimse.Dialer{CallingAETitle: "PACS", NetDial: theirs.Dial("")}, d.port)
	eventually(t, "the legs are done", func() bool { return d.forwarded(t, len(images)) })
}

// A destination reports by calling the title under which it was asked, which need not be that of the daemon, whether the
// site has rules or not; and that opens no door to others.
func TestDestinationReportsToTheTitleThatAskedIt(t *testing.T) {
	for name, rules := range map[string][]configs.Peer{"no rules": nil, "rules": {{Name: "ct1", AETitle: "CT1"}}} {
		t.Run(name, func(t *testing.T) {
			pacs := new(scriptedPACS)
			server := dimsetest.NewServer(t, pacs, func(s *dimse.Server) { s.AETitle, s.Actions = "PACS", pacs })
			_, pacsPort, _ := net.SplitHostPort(server.Addr)
			cfg := config(t)
			cfg.DICOM.Peers = rules
			cfg.Destinations = []configs.Destination{requiring("pacs", pacsPort)}
			cfg.Destinations[0].CalledAETitle, cfg.Destinations[0].CallingAETitle = "PACS", "GATEWAY"
			cfg.Destinations[0].Commitment.CalledAETitle = "PACS"
			d := start(t, cfg)
			for _, test := range []struct {
				calling, called dicom.AETitle
				sopClass        dicom.UID
				accepted        bool
			}{
				{"PACS", "GATEWAY", dicom.StorageCommitmentPushModel, true},
				{"PACS", "GATEWAY", dicom.CTImageStorage, false},
				{"CT1", "ICHWATCH", dicom.CTImageStorage, true},
				{"CT1", "GATEWAY", dicom.CTImageStorage, false},
			} {
				dialer := dimse.Dialer{CallingAETitle: test.calling, CalledAETitle: test.called, Contexts: []dimse.ProposedContext{
					{AbstractSyntax: test.sopClass, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
				}}
				a, err := dialer.Dial(t.Context(), net.JoinHostPort("127.0.0.1", d.port))
				if got := err == nil && a.Accepts(test.sopClass, dicom.ImplicitVRLittleEndian); got != test.accepted {
					t.Errorf("%s calls %s with %s: accepted %t, %v", test.calling, test.called, test.sopClass.Name(), got, err)
				}
				if a != nil {
					_ = a.Release(t.Context())
				}
			}
		})
	}
}

// pynetdicom, as a scanner, asks for storage commitment of what we hold and of what never came, and takes the report: over
// its own association, over a later one of its own, and over a new one on which it insists that we take the role of an SCP.
func TestStorageCommitmentForPynetdicom(t *testing.T) {
	python, reportPort := dimsetest.Pynetdicom(t), dimsetest.FreePort(t)
	cfg := config(t)
	cfg.DICOM.Peers = []configs.Peer{{Name: "scanner", AETitle: "STORESCU"}, {Name: "pynetdicom", AETitle: "PYNETDICOM"}}
	called := *cfg
	called.DICOM.Peers = slices.Clone(cfg.DICOM.Peers)
	called.DICOM.Peers[1].Commitment.Address = net.JoinHostPort("127.0.0.1", reportPort)
	d := start(t, cfg)
	files := smallStudy(t)
	d.scan(t, files...)
	var pairs [][2]dicom.UID
	for _, r := range orthancReferences(t, files...) {
		pairs = append(pairs, [2]dicom.UID{r.SOPClassUID, r.SOPInstanceUID})
	}
	request, err := json.Marshal(append(pairs, [2]dicom.UID{dicom.CTImageStorage, "1.2.3.4.5"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
	}{{"the same association", nil}, {"a later association", []string{"later"}}, {"a new association", []string{reportPort}}} {
		t.Run(test.name, func(t *testing.T) {
			if slices.Contains(test.args, reportPort) {
				d.stop()
				d = start(t, &called)
				t.Cleanup(d.stop)
			}
			cmd := exec.CommandContext(t.Context(), python, append([]string{dimsetest.Script(t, "commit_scu.py"), "127.0.0.1", d.port, "ICHWATCH"}, test.args...)...)
			var complaints bytes.Buffer
			cmd.Stdin, cmd.Stderr = bytes.NewReader(request), &complaints
			out, err := cmd.Output()
			var report struct {
				Committed []dicom.UID
				Failed    [][2]any
			}
			if err != nil || json.Unmarshal(out, &report) != nil {
				t.Fatalf("%v\n%s%s", err, out, &complaints)
			}
			if len(report.Committed) != len(files) || len(report.Failed) != 1 || report.Failed[0] != [2]any{"1.2.3.4.5", float64(command.StatusNoSuchSOPInstance)} {
				t.Errorf("pynetdicom was told %+v", report)
			}
		})
	}
}

// pynetdicom, as the PACS, is asked for its commitment, and calls with its report as an SCP.
func TestStorageCommitmentOfPynetdicom(t *testing.T) {
	python, pacsPort, port, dir := dimsetest.Pynetdicom(t), dimsetest.FreePort(t), dimsetest.FreePort(t), t.TempDir()
	dimsetest.Start(t, pacsPort, python, dimsetest.Script(t, "commit_scp.py"), pacsPort, dir, "127.0.0.1", port, "ICHWATCH")
	cfg := config(t)
	cfg.DICOM.Listen = net.JoinHostPort("127.0.0.1", port)
	cfg.DICOM.Peers = []configs.Peer{{Name: "scanner", AETitle: "STORESCU"}}
	cfg.Destinations = []configs.Destination{requiring("pynetdicom", pacsPort)}
	cfg.Destinations[0].CalledAETitle, cfg.Destinations[0].Commitment.CalledAETitle = "PYNETDICOM", "PYNETDICOM"
	cfg.Destinations[0].Timeouts.ACSE = time.Minute // an interpreted one on a busy machine takes its time
	d := start(t, cfg)
	files := smallStudy(t)
	d.scan(t, files...)
	eventually(t, "it has committed itself to all", func() bool { return d.forwarded(t, len(files)) })
	if stored, err := os.ReadDir(dir); err != nil || len(stored) != len(files) {
		t.Errorf("it holds %d objects, %v", len(stored), err)
	}
}

// told hands on the reports that it takes.
type told chan<- *commitment.Result

func (reported told) EventReport(ctx context.Context, a *dimse.Association, rq dimse.NEventReportRQ, data io.Reader) dimse.Result {
	var k keeper
	answer := k.EventReport(ctx, a, rq, data)
	reported <- k.result
	return answer
}

// DCMTK's storescp stores and does not offer storage commitment: that is told, nothing counts as forwarded, and the way
// out is the one that the handbook gives.
func TestReadinessTellsOfADestinationThatDoesNotCommitItself(t *testing.T) {
	port := dimsetest.FreePort(t)
	dimsetest.Start(t, port, "storescp", "+B", "+xa", "-pm", "-od", t.TempDir(), port)
	cfg := config(t)
	cfg.Destinations = []configs.Destination{requiring("storescp", port)}
	d := start(t, cfg)
	files := smallStudy(t)
	d.scan(t, files...)
	eventually(t, "readiness tells of it", func() bool {
		status, r := d.report(t, "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(r.Parts["commitment storescp"], "not committed itself to them") &&
			strings.Contains(r.Parts["commitment storescp"], "no accepted presentation context")
	})
	eventually(t, "all is sent", func() bool { return d.ledger(t).Legs[0].Sent == len(files) })
	if status, _ := d.report(t, "/healthz"); status != http.StatusOK {
		t.Errorf("a PACS that does not commit itself is no reason to be restarted: %d", status)
	}
	d.stop()

	cfg.Destinations[0].Commitment.Mode = "off"
	d = start(t, cfg)
	if !d.forwarded(t, len(files)) {
		t.Errorf("legs %+v after commitment.mode: off", d.ledger(t).Legs)
	}
}
