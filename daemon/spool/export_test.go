package spool

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ichwatch/dimse/dicom"
)

func TestExport(t *testing.T) {
	s := open(t, Options{})
	sent := map[string]slice{}
	var all []Instance
	for n := range 4 {
		c := newSlice("1.2", byte(n))
		i, _ := send(t, s, c)
		sent[i.name] = c
		all = append(all, i)
	}
	flipped, gone := all[2], all[3]
	content, err := os.ReadFile(pathOf(t, s, flipped))
	must(t, err)
	content[len(content)-1] ^= 1
	must(t, os.WriteFile(pathOf(t, s, flipped), content, 0o600))
	must(t, os.Remove(pathOf(t, s, gone)))

	dir := filepath.Join(t.TempDir(), "a", "b")
	r := openReader(t, s.dir)
	written, left, err := r.Export(t.Context(), all, dir)
	if err != nil || written != 2 || len(left) != 2 || !errors.Is(left[0].Err, ErrDamaged) || !errors.Is(left[1].Err, ErrMissing) {
		t.Fatalf("written %d, left %+v, %v", written, left, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, s.Pseudonym("1.2"), "*"))
	must(t, err)
	if len(files) != 2 {
		t.Errorf("there are %v", files)
	}
	for _, i := range all[:2] {
		f, err := os.Open(filepath.Join(dir, i.Study, i.name+instanceSuffix))
		must(t, err)
		meta, offset, err := dicom.ReadFileMeta(f)
		must(t, err)
		must(t, f.Close())
		content, err := os.ReadFile(f.Name())
		must(t, err)
		if meta.SOPInstanceUID != i.SOPInstanceUID || !bytes.Equal(content[offset:], sent[i.name].dataSet()) {
			t.Errorf("%s is another: %+v", i.name, meta)
		}
	}
	check := exec.Command("sha256sum", "--strict", "-c", checksumsName)
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil || bytes.Count(out, []byte(": OK\n")) != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if _, _, err := r.Export(t.Context(), all, dir); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("into a folder in use: %v", err)
	}
}

func TestOverview(t *testing.T) {
	s := open(t, Options{Destinations: []string{"archive", "pacs"}})
	if o, err := openReader(t, s.dir).Overview(t.Context()); err != nil || o.Stored != 0 || len(o.Queues) > 0 || len(o.Alerts) > 0 {
		t.Errorf("of an empty spool: %+v, %v", o, err)
	}
	first, _ := send(t, s, newSlice("1.2", 1))
	second, _ := send(t, s, newSlice("1.2", 2))
	must(t, s.LegDone(t.Context(), legOf(t, s, first), 0, someTime))
	_, err := s.ParkSelected(t.Context(), LegSelection{Destination: "archive"}, "wait")
	must(t, err)
	must(t, s.RecordFinding(t.Context(), Finding{InstanceID: first.ID, State: FindingClassified}))
	id := decide(t, s, early("1.2", "1.2.1.2")).AlertID

	o, err := openReader(t, s.dir).Overview(t.Context())
	must(t, err)
	if o.Stored != 2 || o.Bytes != first.Size+second.Size || o.Missing != 0 {
		t.Errorf("%+v", o)
	}
	if o.Slices != (Backlog{1, second.ReceivedAt}) || o.Messages.Waiting != 1 || o.Messages.Oldest.IsZero() {
		t.Errorf("slices %+v, messages %+v", o.Slices, o.Messages)
	}
	if len(o.Alerts) != 1 || o.Alerts[0].AlertID != id || o.Alerts[0].Last.Finding != "subdural" || !o.Alerts[0].Delivered.IsZero() {
		t.Errorf("alerts %+v", o.Alerts)
	}
	for n, want := range []Queue{
		{Destination: "archive", Parked: Backlog{2, first.ReceivedAt}, Held: 2},
		{Destination: "pacs", Pending: Backlog{1, second.ReceivedAt}, LastDone: someTime},
	} {
		if o.Queues[n] != want {
			t.Errorf("queue %+v, want %+v", o.Queues[n], want)
		}
	}
	publish(t, s)
	if o, err := openReader(t, s.dir).Overview(t.Context()); err != nil || o.Alerts[0].Delivered.IsZero() || o.Messages != (Backlog{}) {
		t.Errorf("after the broker has it: %+v, %v", o, err)
	}
}
