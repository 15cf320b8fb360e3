package dimse_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"testing"

	"ichwatch/dimse"
	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// Whatever a peer says to a live server, alone or after a proper association
// request, and then hangs up: the association ends, every goroutine returns, the
// memory it took is in proportion, and no object counts as whole whose last
// fragment did not come.
func FuzzConnection(f *testing.F) {
	conversations := dimsetest.Conversations(f, goldenDir)
	for _, c := range conversations {
		f.Add(false, c.Sent(true))
		f.Add(true, c.Sent(true)[len(c.PDUs[0].Bytes):])
		f.Add(true, c.Sent(false))
	}
	f.Add(true, append(commandPDU(f, 3, storeRQ()), dimsetest.PData(dimsetest.PDV(3, dimsetest.LastData, ctDataSet("1.2.3.4", 4, 4)))...))
	f.Add(true, commandPDU(f, 1, &command.CEchoRQ{AffectedSOPClassUID: dicom.Verification}))
	f.Add(true, commandPDU(f, 3, nActionRQ(1)))
	commit := append(commandPDU(f, 9, nActionRQ(1)), dimsetest.PData(dimsetest.PDV(9, dimsetest.LastData, actionInformation("1.2.3", 2)))...)
	f.Add(true, commit)
	f.Add(true, append(slices.Clone(commit), commandPDU(f, 9, reportRSP(&command.NEventReportRQ{MessageID: 1}, dimse.StatusSuccess))...))
	f.Add(true, append(commandPDU(f, 9, eventReportRQ(1)), dimsetest.PData(dimsetest.PDV(9, dimsetest.LastData, actionInformation("1.2.3", 2)))...))
	rq := associateRQ()
	withCommitment()(rq)
	request := dimsetest.Encode(f, rq)

	f.Fuzz(func(t *testing.T, associated bool, script []byte) {
		if len(script) > 1<<20 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)

		r, c := newRecorder(), newCommitter()
		s, connect := dimsetest.NewPipeServer(t, r, serving(c), func(s *dimse.Server) { s.AcceptAnyCalledAETitle = true })
		conn := connect()
		defer conn.Close()
		if associated {
			p := dimsetest.NewPeer(t, conn)
			p.Send(request)
			p.ExpectPDU(pdu.TypeAssociateAC)
		}
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, conn)
		}()
		_, _ = conn.Write(script) // the server may have closed long before its end
		_ = conn.CloseWrite()
		<-drained

		ctx, cancel := context.WithTimeout(t.Context(), dimsetest.Timeout)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Fatalf("the association outlives its connection: %v", err)
		}
		runtime.ReadMemStats(&after)
		// The process is not ours alone: the bound is for claims, not for kilobytes.
		if n, limit := after.TotalAlloc-before.TotalAlloc, uint64(16<<20+64*len(script)); n > limit {
			t.Errorf("%d bytes allocated for %d bytes of input", n, len(script))
		}
		if r.opened != len(r.closed) {
			t.Errorf("%d associations opened, %d closed", r.opened, len(r.closed))
		}
		whole := len(c.requests) + len(c.results)
		for _, o := range r.objects {
			if o.err == nil {
				whole++
			}
			if len(o.data) > len(script) {
				t.Errorf("an object of %d bytes out of %d", len(o.data), len(script))
			}
			if err := o.rq.SOPInstanceUID.Valid(); err != nil {
				t.Errorf("the Handler was given %v", err)
			}
		}
		if n := lastFragments(script); whole > n {
			t.Errorf("%d objects and storage commitments count as whole, with %d last fragments", whole, n)
		}
	})
}

// lastFragments counts the data PDVs of a script that are the last ones of their
// data sets, to the first PDU that cannot be read.
func lastFragments(script []byte) (n int) {
	r := pdu.NewReader(bytes.NewReader(script), 0)
	for {
		p, err := r.Next()
		if err != nil {
			return n
		}
		if p.Type() != pdu.TypePDataTF {
			continue
		}
		for {
			v, err := r.NextPDV()
			if err == io.EOF {
				break
			}
			if err != nil {
				return n
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				return n
			}
			if !v.Command && v.Last {
				n++
			}
		}
	}
}

// A command in fragments has no last fragment of data, whatever its bytes are.
func TestLastFragments(t *testing.T) {
	command := commandPDU(t, 3, storeRQ())
	if !bytes.Contains(command, []byte{dimsetest.LastData}) {
		t.Error("the command has no byte that looks like a last fragment of data")
	}
	part := dimsetest.PData(dimsetest.PDV(3, 0, []byte{2, 2}))
	whole := dimsetest.PData(dimsetest.PDV(3, 0, []byte{2, 2}), dimsetest.PDV(3, dimsetest.LastData, []byte{2, 2}))
	for want, script := range [][]byte{slices.Concat(command, part), slices.Concat(command, whole), slices.Concat(command, whole, whole, whole[:len(whole)-1])} {
		if n := lastFragments(script); n != want {
			t.Errorf("%d last fragments in %x, want %d", n, script, want)
		}
	}
}
