package forward

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ichwatch/alerts"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// several makes a forwarder of n associations.
func several(s *spool.Spool, addr string, n int) *Forwarder {
	f := forwarder(s, nil)
	f.NewSender, f.Associations = func() Sender { return scu(addr) }, n
	return f
}

// order notes what comes to a PACS, and lets it come on one by one.
type order struct {
	mu   sync.Mutex
	came []dicom.UID
	here chan struct{} // one for each that is under way
	on   chan struct{}
}

func newOrder() *order { return &order{here: make(chan struct{}, 1000), on: make(chan struct{})} }

func (o *order) answer(_ context.Context, _ *dimse.Association, sop dicom.UID, _ int) dimse.Status {
	o.mu.Lock()
	o.came = append(o.came, sop)
	o.mu.Unlock()
	o.here <- struct{}{}
	<-o.on
	return dimse.StatusSuccess
}

func (o *order) got() []dicom.UID {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.came)
}

// Each association has one object under way; what is under way is not sent twice, and all of it arrives.
func TestSeveralAssociations(t *testing.T) {
	const objects, associations = 7, 3
	p, o := newPACS(), newOrder()
	p.answers = o.answer
	s := newSpool(t)
	for n := range objects {
		store(t, s, newObject(n))
	}
	start(t, several(s, dimsetest.NewServer(t, p).Addr, associations))
	for range associations {
		<-o.here
	}
	select {
	case <-o.here:
		t.Errorf("%d objects under way on %d associations", associations+1, associations)
	case <-time.After(50 * time.Millisecond):
	}
	close(o.on)
	await(t, s, allDone(objects))
	got := o.got()
	slices.Sort(got)
	if len(slices.Compact(got)) != objects || len(o.got()) != objects {
		t.Errorf("came %v", o.got())
	}
	if p.asked != associations {
		t.Errorf("%d associations, want %d", p.asked, associations)
	}
}

// A study that becomes urgent goes before what was looked up already, but not before what is on the wire.
func TestUrgentGoesBeforeWhatIsQueued(t *testing.T) {
	p, o := newPACS(), newOrder()
	p.answers = o.answer
	s := newSpool(t)
	for n := range 6 {
		store(t, s, newObject(n))
	}
	urgent := newObject(50)
	store(t, s, urgent)
	start(t, several(s, dimsetest.NewServer(t, p).Addr, 1))
	<-o.here
	if _, err := s.Decide(t.Context(), spool.Decision{StudyInstanceUID: urgent.sop, Alert: &alerts.Message{
		Site: "s", Device: "d", Study: alerts.Study{InstanceUID: string(urgent.sop)}, Finding: "subdural", Score: 0.9,
		KeyImage: string(urgent.sop), Models: []alerts.Model{{Name: "m", SHA256: strings.Repeat("0", 64)}},
		ReceivedAt: time.Now(), DetectedAt: time.Now(),
	}}); err != nil {
		t.Fatal(err)
	}
	// Long enough for the order to be looked up again.
	select {
	case <-o.here:
		t.Fatal("two at a time")
	case <-time.After(fresh + 500*time.Millisecond):
	}
	close(o.on)
	await(t, s, allDone(7))
	if got := o.got(); len(got) < 2 || got[1] != urgent.sop {
		t.Errorf("came in the order %v, want %s second", got, urgent.sop)
	}
}

// Of a destination that takes one association at a time a second one is not asked again and again, and nothing is failing.
func TestOneAssociationTooMany(t *testing.T) {
	const objects = 30
	p, o := newPACS(), newOrder()
	p.answers = o.answer
	server := dimsetest.NewServer(t, p, func(s *dimse.Server) { s.MaxAssociations = 1 })
	s := newSpool(t)
	for n := range objects {
		store(t, s, newObject(n))
	}
	f := several(s, server.Addr, 2)
	stop := start(t, f)
	<-o.here
	close(o.on)
	await(t, s, allDone(objects))
	if st := f.Status(); st.Failing || st.Failures != 0 {
		t.Errorf("status %+v", st)
	}
	stop()
	if p.asked != 1 {
		t.Errorf("%d associations", p.asked)
	}
}

// A destination that hangs holds up no other.
func TestHangingDestinationHoldsNoOther(t *testing.T) {
	hanging, sound := newPACS(), newPACS()
	hanging.answers = func(ctx context.Context, _ *dimse.Association, _ dicom.UID, _ int) dimse.Status {
		<-ctx.Done()
		return dimse.StatusSuccess
	}
	dead, well := dimsetest.NewServer(t, hanging), dimsetest.NewServer(t, sound)
	s, err := spool.Open(t.Context(), spool.Options{Dir: t.TempDir(), Destinations: []string{"dead", "well"}, Device: "ct1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	const objects = 10
	for n := range objects {
		store(t, s, newObject(n))
	}
	for name, addr := range map[string]string{"dead": dead.Addr, "well": well.Addr} {
		f := several(s, addr, 2)
		f.Destination, f.Grace = name, time.Millisecond
		start(t, f)
	}
	await(t, s, func(c spool.LegCount) bool { return c.Done == objects && c.Pending == objects })
}

// After three failures in a row nothing is sent until a C-ECHO is answered, and then one object before the others. What
// waited for its next try goes at once when the destination takes objects again.
func TestCircuit(t *testing.T) {
	p := newPACS()
	full, stores := true, 0
	p.answers = func(context.Context, *dimse.Association, dicom.UID, int) dimse.Status {
		p.mu.Lock()
		defer p.mu.Unlock()
		stores++
		if full {
			return dimse.StatusOutOfResources
		}
		return dimse.StatusSuccess
	}
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	for n := range 10 {
		store(t, s, newObject(n))
	}
	f := several(s, server.Addr, 1)
	f.MinRetry, f.MaxRetry = time.Hour, time.Hour
	start(t, f)
	opened := func(failures int) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for st := f.Status(); !st.Failing || st.Failures < failures; st = f.Status() {
			select {
			case <-deadline:
				t.Fatalf("status %+v", st)
			case <-time.After(time.Millisecond):
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.echoes != failures-failuresToOpen || len(p.got) == 0 {
			t.Errorf("%d C-ECHOs after %d failures", p.echoes, failures)
		}
	}
	opened(3)
	f.TryNow() // one echo, one object
	opened(4)
	p.mu.Lock()
	full = false
	p.mu.Unlock()
	f.TryNow()
	await(t, s, allDone(10))
	if stores != 3+1+10 {
		t.Errorf("%d objects came, want 14", stores)
	}
}
