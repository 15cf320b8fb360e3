package app_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// An idle daemon stops at once, and what it has answered is there after the next start.
func TestStopIsOrderly(t *testing.T) {
	cfg := config(t)
	d := start(t, cfg)
	files := writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Rows: 64, Columns: 64, Slices: 3})
	d.scan(t, files...)
	began := time.Now()
	d.stop()
	if took := time.Since(began); took > cfg.DICOM.DrainTimeout {
		t.Errorf("stopping an idle daemon took %v", took)
	}
	again := start(t, cfg)
	if r := again.ledger(t); r.Instances != 3 || r.Durable != 3 {
		t.Errorf("after a restart: %+v", r)
	}
}

// sending is a C-STORE of which the first half is on its way.
type sending struct {
	rest     func() // lets the second half follow
	answered chan error
}

// halfway begins to send a slice.
func (d *daemon) halfway(t *testing.T) *sending {
	t.Helper()
	file, err := os.ReadFile(writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Slices: 3})[0])
	if err != nil {
		t.Fatal(err)
	}
	meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	syntax, _ := dicom.LookupTransferSyntax(meta.TransferSyntaxUID)
	scanner := &dimse.Dialer{CallingAETitle: "CT1", CalledAETitle: "ICHWATCH", Contexts: []dimse.ProposedContext{{
		AbstractSyntax: meta.SOPClassUID, TransferSyntaxes: []dicom.UID{syntax.UID},
	}}}
	a, err := scanner.Dial(t.Context(), net.JoinHostPort("127.0.0.1", d.port))
	if err != nil {
		t.Fatal(err)
	}
	data, console := io.Pipe()
	s := &sending{answered: make(chan error, 1)}
	t.Cleanup(func() { console.Close(); _ = a.Abort() })
	go func() {
		result, err := a.Store(t.Context(), dimse.CStoreRQ{
			SOPClassUID: meta.SOPClassUID, SOPInstanceUID: meta.SOPInstanceUID, TransferSyntax: syntax,
		}, data)
		if err == nil && result.Status != dimse.StatusSuccess {
			err = fmt.Errorf("answered %v", result.Status)
		}
		data.Close() // what is written to it after the answer must not wait
		s.answered <- err
	}()
	half := int(offset) + len(file)/2
	if _, err := console.Write(file[offset:half]); err != nil {
		t.Fatal(err)
	}
	s.rest = func() {
		_, _ = console.Write(file[half:]) // what came of it, the answer tells
		console.Close()
	}
	eventually(t, "the daemon receives", func() bool {
		entries, err := os.ReadDir(filepath.Join(d.spoolDir, "incoming"))
		return err == nil && len(entries) == 1
	})
	return s
}

// within waits for what comes out of ch.
func within[T any](t *testing.T, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("waited %v for: %s", patience, what)
	}
	return v
}

// stopping tells the daemon to stop and waits until it takes no new associations.
func (d *daemon) stopping(t *testing.T) (stopped chan struct{}) {
	t.Helper()
	stopped = make(chan struct{})
	go func() {
		d.stop()
		close(stopped)
	}()
	eventually(t, "the listener is closed", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", d.port))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	return stopped
}

// An object that is under way when the daemon is told to stop is taken in and answered.
func TestPromise1_StopFinishesTheObjectUnderWay(t *testing.T) {
	cfg := config(t)
	d := start(t, cfg)
	object := d.halfway(t)
	stopped := d.stopping(t)
	select {
	case err := <-object.answered:
		t.Fatalf("cut off: %v", err)
	case <-stopped:
		t.Fatal("stopped without waiting for the object")
	default:
	}
	object.rest()
	if err := within(t, "the answer", object.answered); err != nil {
		t.Error(err)
	}
	within(t, "the end of the daemon", stopped)
	if r := start(t, cfg).ledger(t); r.Instances != 1 || r.Durable != 1 {
		t.Errorf("after a restart: %+v", r)
	}
}

// One that does not come to its end is cut off at the drain time-out, and nothing of it stays.
func TestStopCutsOffAtTheDrainTimeout(t *testing.T) {
	cfg := config(t)
	cfg.DICOM.DrainTimeout = time.Second
	d := start(t, cfg)
	object := d.halfway(t)
	within(t, "the end of the daemon", d.stopping(t))
	object.rest()
	if err := within(t, "the end of the association", object.answered); err == nil {
		t.Error("half an object was answered with success")
	}
	again := start(t, cfg)
	records, err := again.Studies(t.Context(), spool.Filter{})
	if err != nil || len(records) != 0 {
		t.Errorf("after a restart: %+v, %v", records, err)
	}
}
