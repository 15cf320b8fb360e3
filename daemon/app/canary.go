package app

import (
	"bytes"
	"context"
	"fmt"

	"ichwatch/daemon/phantom"
	"ichwatch/daemon/triage"
	"ichwatch/dimse/dicom"
	"ichwatch/infer/service"
)

// The canary's study: a few slices of a head of each class, the same at every time.
const (
	canarySeed   = 20260401
	canaryMatrix = 256
	canarySlices = 20     // of a head, of which some in the middle are shown
	canaryBlood  = 1000.0 // mm3 in a slice that counts as one with a bleed
)

// canary makes phantom slices with known truth, and takes them through the gate and the decoder as if a scanner had sent
// them.
func canary(ctx context.Context) (cases []service.Case, err error) {
	examiner := &triage.Examiner{} // whatever the site's gate refuses
	for n, class := range phantom.Classes() {
		s, err := phantom.New(phantom.Options{
			Class: class, Seed: canarySeed + uint64(n), Rows: canaryMatrix, Columns: canaryMatrix, Slices: canarySlices, Plain: true,
		})
		if err != nil {
			return nil, err
		}
		for i := canarySlices / 4; i < canarySlices*3/4; i += 3 {
			if err := ctx.Err(); err != nil {
				return nil, context.Cause(ctx)
			}
			var data bytes.Buffer
			if err := s.WriteDataSet(&data, i); err != nil {
				return nil, err
			}
			truth := s.Truth(i)
			bleed := truth.TotalMM3() >= canaryBlood
			if class != phantom.Normal && !bleed {
				continue // hardly anything to be seen
			}
			img, err := examiner.Decode(bytes.NewReader(data.Bytes()), dicom.CTImageStorage, dicom.ExplicitVRLittleEndian)
			if err != nil {
				return nil, fmt.Errorf("phantom slice %d of class %v: %w", i, class, err)
			}
			cases = append(cases, service.Case{Image: img, Bleed: bleed})
		}
	}
	return cases, nil
}
