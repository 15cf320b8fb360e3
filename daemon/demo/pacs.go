package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// pacs is a storage SCP that keeps nothing but what it needs to tell whether each data set is the one that was sent.
type pacs struct {
	board *board
	study func(instance dicom.UID) dicom.UID
}

// Echo implements dimse.Handler.
func (p *pacs) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

// Store implements dimse.Handler.
func (p *pacs) Store(_ context.Context, _ *dimse.Association, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	hash := sha256.New()
	if _, err := io.Copy(hash, data); err != nil {
		return dimse.Result{Status: dimse.StatusProcessingFailure, ErrorComment: "cut off in mid-object"}
	}
	sent, known := p.board.digest(rq.SOPInstanceUID)
	p.board.update(p.study(rq.SOPInstanceUID), func(r *Row) (string, bool) {
		r.Forwarded++
		if known && sent == [32]byte(hash.Sum(nil)) {
			r.Identical++
		}
		if r.Forwarded == r.Slices {
			return fmt.Sprintf("the PACS has all %d slices, %d byte for byte as sent", r.Forwarded, r.Identical), false
		}
		return "", false
	})
	return dimse.Result{Status: dimse.StatusSuccess}
}
