package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ichwatch/daemon/phantom"
	"ichwatch/dimse"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// scanner takes reports.
type scanner struct{ reports chan *commitment.Result }

func (*scanner) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

func (*scanner) Store(context.Context, *dimse.Association, dimse.CStoreRQ, io.Reader) dimse.Result {
	return dimse.Result{Status: dimse.StatusNotAuthorized}
}

func (s *scanner) EventReport(_ context.Context, _ *dimse.Association, rq dimse.NEventReportRQ, data io.Reader) dimse.Result {
	result, err := commitment.ReadResult(rq, data, commitment.Limits{References: 1000})
	if err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure, ErrorComment: err.Error()}
	}
	s.reports <- result
	return dimse.Result{Status: dimse.StatusSuccess}
}

// TestPromise1_KilledBeforeTheReport kills the daemon with SIGKILL after it has accepted a request for storage
// commitment and before it could deliver the report. The next start delivers it: of every instance that was answered
// with success, and of one whose file was damaged while nobody looked.
func TestPromise1_KilledBeforeTheReport(t *testing.T) {
	dir := t.TempDir()
	if err := phantom.WriteSet(t.Context(), dir, phantom.SetOptions{Studies: 1, Classes: []phantom.Class{phantom.Normal}, Slices: 6, Rows: 64, Columns: 64}, nil); err != nil {
		t.Fatal(err)
	}
	port, scannerPort := dimsetest.FreePort(t), dimsetest.FreePort(t)
	spool, config := filepath.Join(t.TempDir(), "spool"), filepath.Join(t.TempDir(), "ichwatch.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
dicom:
  listen: "127.0.0.1:%s"
  commitment: {same_association: false, retry: {initial: 100ms, max: 1s}}
  peers: [{name: ct1, ae_title: CT1, commitment: {address: "127.0.0.1:%s"}}, {name: others}]
spool: {dir: %s, high_watermark: 99%%, reserve: 64MiB}
triage: {enabled: false}
monitor: {listen: ""}
`, port, scannerPort, spool), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := startDaemon(t, config, port)
	dimsetest.Run(t, "storescu", "+sd", "-aec", "ICHWATCH", "127.0.0.1", port, filepath.Join(dir, "normal-0001"))

	rq := &commitment.Request{TransactionUID: dicom.NewUID()}
	for uid := range mustInstances(t, filepath.Join(dir, "normal-0001", "*.dcm")) {
		rq.References = append(rq.References, commitment.Reference{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: dicom.UID(uid)})
	}
	d := &dimse.Dialer{CallingAETitle: "CT1", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{
		{AbstractSyntax: dicom.StorageCommitmentPushModel, TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian}},
	}}
	a, err := d.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Action(t.Context(), dimse.NActionRQ{
		SOPClassUID: dicom.StorageCommitmentPushModel, SOPInstanceUID: dicom.StorageCommitmentPushModelInstance, ActionTypeID: commitment.ActionRequest,
	}, rq.Encode)
	if err != nil || answer.Status != dimse.StatusSuccess {
		t.Fatalf("asked for storage commitment: %+v, %v", answer, err)
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait()
	_ = a.Abort()

	files, err := filepath.Glob(filepath.Join(spool, "instances", "*", "*.dcm"))
	if err != nil || len(files) != len(rq.References) {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var damaged string
	for uid := range mustInstances(t, files[0]) {
		damaged = uid
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		t.Fatal(err)
	}

	s := &scanner{reports: make(chan *commitment.Result, 10)}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", scannerPort))
	if err != nil {
		t.Fatal(err)
	}
	server := &dimse.Server{AETitle: "CT1", Handler: s, EventReports: s}
	go func() { _ = server.Serve(context.Background(), ln) }() // until the test ends
	t.Cleanup(func() { server.Close() })

	startDaemon(t, config, port)
	var r *commitment.Result
	select {
	case r = <-s.reports:
	case <-time.After(90 * time.Second):
		t.Fatal("no report after the restart")
	}
	if r.TransactionUID != rq.TransactionUID || len(r.Committed) != len(rq.References)-1 || len(r.Failed) != 1 ||
		string(r.Failed[0].SOPInstanceUID) != damaged || r.Failed[0].Reason != dimse.StatusProcessingFailure {
		t.Errorf("reported %+v of the request %+v; damaged is %s", r, rq, damaged)
	}
}
