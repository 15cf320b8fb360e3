package forward

import (
	"context"
	"testing"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// A person who has mended the destination waits for no backoff: neither the destination's nor the leg's.
func TestTryNowEndsTheWaiting(t *testing.T) {
	s := newSpool(t)
	store(t, s, newObject(0))
	port := dimsetest.FreePort(t)
	f := forwarder(s, scu("127.0.0.1:"+port))
	f.MinRetry, f.MaxRetry = time.Hour, time.Hour
	start(t, f)
	failed := func(times int) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for f.Status().Failures < times {
			select {
			case <-deadline:
				t.Fatalf("status %+v", f.Status())
			case <-time.After(time.Millisecond):
			}
		}
	}
	failed(1)
	f.TryNow()
	failed(2)
	p := newPACS()
	busy := true
	p.answers = func(context.Context, *dimse.Association, dicom.UID, int) dimse.Status {
		if busy {
			busy = false
			return dimse.StatusOutOfResources
		}
		return dimse.StatusSuccess
	}
	listenOn(t, p, "127.0.0.1:"+port)
	f.TryNow()
	await(t, s, func(spool.LegCount) bool { return len(p.arrivals(newObject(0).sop)) == 1 && f.Status().Failures == 3 })
	if retried, err := s.RetrySelected(t.Context(), spool.LegSelection{}); err != nil || retried["pacs"] != 1 {
		t.Fatalf("retried %v, %v", retried, err)
	}
	f.TryNow()
	await(t, s, allDone(1))
}

// What is parked while its batch is under way is not sent, but for what is on the wire.
func TestParkedMeanwhileIsNotSent(t *testing.T) {
	const objects = 8
	s := newSpool(t)
	for n := range objects {
		store(t, s, newObject(n))
	}
	reached, on := make(chan struct{}, objects), make(chan struct{})
	p := newPACS()
	p.answers = func(context.Context, *dimse.Association, dicom.UID, int) dimse.Status {
		reached <- struct{}{}
		<-on
		return 0xA900 // for good
	}
	f := forwarder(s, scu(dimsetest.NewServer(t, p).Addr))
	start(t, f)
	<-reached
	if parked, err := s.ParkSelected(t.Context(), spool.LegSelection{}, "wait"); err != nil || parked["pacs"] != objects {
		t.Fatalf("parked %v, %v", parked, err)
	}
	f.TryNow()
	close(on)
	store(t, s, newObject(objects))
	<-reached // the one that came after
	await(t, s, func(c spool.LegCount) bool { return c.Parked == objects+1 })
	if st := f.Status(); st.Failing {
		t.Errorf("what a person does counts as a failure: %+v", st)
	}
	for n := 1; n < objects; n++ {
		if got := p.arrivals(newObject(n).sop); len(got) > 0 {
			t.Errorf("object %d was sent", n)
		}
	}
}
