package app_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"testing"

	"ichwatch/configs"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// storeRequests stores, and hands on the command sets.
type storeRequests chan dimse.CStoreRQ

func (storeRequests) Echo(context.Context, *dimse.Association) dimse.Status {
	return dimse.StatusSuccess
}

func (c storeRequests) Store(_ context.Context, _ *dimse.Association, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	if _, err := io.Copy(io.Discard, data); err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure}
	}
	c <- rq
	return dimse.Result{Status: dimse.StatusSuccess}
}

// An object that came as a sub-operation of a C-MOVE goes on by a C-STORE that is none: without that one's originator
// (PS3.7 section 9.1.1.1).
func TestMoveOriginatorGoesNoFurther(t *testing.T) {
	stored := make(storeRequests, 1)
	_, pacsPort, _ := net.SplitHostPort(dimsetest.NewServer(t, stored, func(s *dimse.Server) { s.AETitle = "PACS" }).Addr)
	cfg := config(t)
	cfg.Destinations = []configs.Destination{destination("pacs", pacsPort)}
	d := start(t, cfg)

	content, err := os.ReadFile(smallStudy(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	ts, _ := dicom.LookupTransferSyntax(meta.TransferSyntaxUID)
	mover := dimse.Dialer{CallingAETitle: "ARCHIVE", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{
		{AbstractSyntax: meta.SOPClassUID, TransferSyntaxes: []dicom.UID{ts.UID}},
	}}
	a, err := mover.Dial(t.Context(), net.JoinHostPort("127.0.0.1", d.port))
	if err != nil {
		t.Fatal(err)
	}
	result, err := a.Store(t.Context(), dimse.CStoreRQ{
		SOPClassUID: meta.SOPClassUID, SOPInstanceUID: meta.SOPInstanceUID, TransferSyntax: ts,
		MoveOriginatorAETitle: "WORKSTATION", MoveOriginatorMessageID: 7,
	}, bytes.NewReader(content[offset:]))
	if err != nil || result.Status != dimse.StatusSuccess {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "it is forwarded", func() bool { return d.forwarded(t, 1) })
	if rq := <-stored; rq.SOPInstanceUID != meta.SOPInstanceUID || rq.MoveOriginatorAETitle != "" || rq.MoveOriginatorMessageID != 0 {
		t.Errorf("forwarded by %+v", rq)
	}
}
