package receive_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ichwatch/daemon/receive"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// disk is one that a test fills and clears.
type disk struct{ free atomic.Uint64 }

func (d *disk) measure() (spool.Disk, error) {
	return spool.Disk{Total: 1000, Free: d.free.Load()}, nil
}

func TestAdmitHoldsTheHighWatermark(t *testing.T) {
	s := newSite(t, nil)
	d := new(disk)
	s.Disk, s.HighWatermark = d.measure, 0.9
	addr := s.serve(t)

	d.free.Store(101) // 89.9 % in use
	mustDial(t, addr)

	d.free.Store(100) // 90 %
	_, err := dial(t, addr, dicom.ExplicitVRLittleEndian)
	var rejected *dimse.RejectedError
	if !errors.As(err, &rejected) || !rejected.Transient() {
		t.Fatalf("above the watermark: %v", err)
	}
	// A C-ECHO still says that the program lives.
	a, err := dial(t, addr)
	if err != nil {
		t.Fatalf("verification above the watermark: %v", err)
	}
	if status, err := a.Echo(t.Context()); status != dimse.StatusSuccess || err != nil {
		t.Errorf("C-ECHO: %v, %v", status, err)
	}

	// So does a storage commitment, which may be what makes room.
	commits := dimse.AssociateRequestInfo{Contexts: []dimse.ProposedContext{{AbstractSyntax: dicom.StorageCommitmentPushModel}}}
	if r := s.Admit(t.Context(), commits); r != nil {
		t.Errorf("storage commitment above the watermark: %v", r)
	}

	d.free.Store(500)
	mustDial(t, addr)

	// The real disk, which is not full, or this test could not run.
	onDisk := receive.Receiver{Spool: s.Spool, HighWatermark: 1}
	if r := onDisk.Admit(t.Context(), storageRequest); r != nil {
		t.Errorf("the real disk: %v", r)
	}
}

var storageRequest = dimse.AssociateRequestInfo{Contexts: []dimse.ProposedContext{{AbstractSyntax: dicom.CTImageStorage}}}

func TestAdmitRefusesWhenTheDiskCannotBeMeasured(t *testing.T) {
	s := newSite(t, nil)
	s.HighWatermark = 0.9
	s.Disk = func() (spool.Disk, error) { return spool.Disk{}, errors.New("stale mount") }
	if r := s.Admit(t.Context(), storageRequest); r == nil || !r.Transient() {
		t.Errorf("rejection %v", r)
	}
	s.Disk = func() (spool.Disk, error) { return spool.Disk{}, nil } // of no size at all
	if r := s.Admit(t.Context(), storageRequest); r == nil || !r.Transient() {
		t.Errorf("rejection %v", r)
	}
}

// Below the reserve objects are refused with A700H, and taken again as soon as
// there is room.
func TestStoreKeepsTheReserve(t *testing.T) {
	s := newSite(t, nil)
	d := new(disk)
	s.Disk, s.Reserve = d.measure, 200
	a := mustDial(t, s.serve(t))

	d.free.Store(199)
	result, err := a.Store(t.Context(), request, strings.NewReader(image))
	if err != nil || result.Status != dimse.StatusOutOfResources {
		t.Fatalf("status %v, %v", result.Status, err)
	}
	if len(result.ErrorComment) > 64 || !strings.Contains(result.ErrorComment, "disk full") {
		t.Errorf("comment %q", result.ErrorComment)
	}
	s.nothingStays(t)

	d.free.Store(200)
	if result, err := a.Store(t.Context(), request, strings.NewReader(image)); err != nil || result.Status != dimse.StatusSuccess {
		t.Errorf("with room: status %v, %v", result.Status, err)
	}
}

// A large object does not eat up the reserve either.
func TestStoreKeepsTheReserveWithinAnObject(t *testing.T) {
	s := newSite(t, nil)
	d := new(disk)
	s.Disk, s.Reserve = d.measure, 200
	d.free.Store(1000)
	half := strings.NewReader(sopClass + sopInstance + studyUID + seriesUID + pixels(10<<20))
	rest := bytes.NewReader(make([]byte, 20<<20))
	data := io.MultiReader(half, readerFunc(func([]byte) (int, error) {
		d.free.Store(100) // somebody else fills the disk
		return 0, io.EOF
	}), rest)
	if result := s.store(t, request, data); result.Status != dimse.StatusOutOfResources {
		t.Errorf("status %v", result.Status)
	}
	if rest.Len() == 0 {
		t.Error("the whole object was written before the disk was looked at")
	}
	s.nothingStays(t)
}

// A study is complete only when no open association carries it.
func TestOpenAssociationsHoldTheirStudies(t *testing.T) {
	s := newSite(t, nil)
	addr := s.serve(t)
	quiet := func() []spool.Study {
		t.Helper()
		studies, err := s.Spool.QuietStudies(t.Context(), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return studies
	}
	one, two := mustDial(t, addr), mustDial(t, addr)
	for i, a := range []*dimse.Association{one, two} {
		rq := request
		rq.SOPInstanceUID = dicom.UID([]string{"1.2.3.4.1", "1.2.3.4.2"}[i])
		if result, err := a.Store(t.Context(), rq, strings.NewReader(imageOf(rq.SOPInstanceUID, study))); err != nil || result.Status != dimse.StatusSuccess {
			t.Fatalf("status %v, %v", result.Status, err)
		}
	}
	pending, err := s.Spool.PendingSlices(t.Context(), 10)
	if err != nil || len(pending) != 2 {
		t.Fatalf("%d pending, %v", len(pending), err)
	}
	for _, i := range pending {
		if err := s.Spool.RecordFinding(t.Context(), spool.Finding{InstanceID: i.ID, State: spool.FindingIneligible, Reason: "test"}); err != nil {
			t.Fatal(err)
		}
	}

	if studies := quiet(); len(studies) != 0 {
		t.Error("quiet with two associations open")
	}
	if err := one.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitClosed(t)
	if studies := quiet(); len(studies) != 0 {
		t.Error("quiet with one association open")
	}
	if err := two.Abort(); err != nil {
		t.Fatal(err)
	}
	s.awaitClosed(t)
	if studies := quiet(); len(studies) != 1 || studies[0].StudyInstanceUID != study {
		t.Errorf("%d quiet studies with no association open", len(studies))
	}
}
