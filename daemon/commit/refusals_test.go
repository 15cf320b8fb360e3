package commit

import (
	"fmt"
	"testing"
	"time"

	"ichwatch/dimse"
	"ichwatch/dimse/commitment"
	"ichwatch/dimse/dicom"
)

// Scanners and destinations that ask or report in vain, again and again, cannot fill the log.
func TestPromise6_RefusalsOfCommitmentDoNotFillTheLog(t *testing.T) {
	log, out := logger()
	p := &Provider{Spool: newSpool(t), Log: log} // nobody has an address to report to
	addr := provide(t, p)
	for range 20 {
		a, result := ask(t, addr, &commitment.Request{TransactionUID: "1.9", References: references("1.2.3")})
		if result.Status != dimse.StatusNotAuthorized {
			t.Fatalf("answered %+v", result)
		}
		_ = a.Abort()
	}
	if n := count(out, "storage commitment refused"); n != 1 {
		t.Errorf("%d lines about 20 refusals:\n%s", n, out)
	}
}

func TestRefusalsThatAreTold(t *testing.T) {
	var r refusals
	start := time.Now()
	if !r.first("CT1", start) || r.first("CT1", start.Add(refusalInterval-1)) || !r.first("CT2", start) {
		t.Error("a peer is told of once within the interval, and so is another")
	}
	if !r.first("CT1", start.Add(refusalInterval)) {
		t.Error("a peer is told of again after the interval")
	}
	told := 0
	for i := range 1000 {
		if r.first(dicom.AETitle(fmt.Sprintf("X%d", i)), start.Add(refusalInterval)) {
			told++
		}
	}
	if told != maxRefused-1 || len(r.told) != maxRefused {
		t.Errorf("%d of 1000 peers are told of, %d kept", told, len(r.told))
	}
}
