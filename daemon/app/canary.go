package app

import (
	"bytes"
	"context"
	"fmt"
	"sync"

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

// sung is a slice of the canary as a scanner would send it.
type sung struct {
	data  []byte // set, Explicit VR Little Endian
	bleed bool
}

// canarySet draws the slices, which takes a while, once.
var canarySet = sync.OnceValues(func() (set []sung, err error) {
	for n, class := range phantom.Classes() {
		s, err := phantom.New(phantom.Options{
			Class: class, Seed: canarySeed + uint64(n), Rows: canaryMatrix, Columns: canaryMatrix, Slices: canarySlices, Plain: true,
		})
		if err != nil {
			return nil, err
		}
		for i := canarySlices / 4; i < canarySlices*3/4; i += 3 {
			var data bytes.Buffer
			if err := s.WriteDataSet(&data, i); err != nil {
				return nil, err
			}
			truth := s.Truth(i)
			bleed := truth.TotalMM3() >= canaryBlood
			if class != phantom.Normal && !bleed {
				continue // hardly anything to be seen
			}
			set = append(set, sung{data.Bytes(), bleed})
		}
	}
	return set, nil
})

// canary makes phantom slices with known truth, and takes them through the decoder as if a scanner had sent them,
// whatever the site's gate refuses.
func canary(ctx context.Context) (cases []service.Case, err error) {
	set, err := canarySet()
	if err != nil {
		return nil, err
	}
	var examiner triage.Examiner
	for i, s := range set {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		img, err := examiner.Decode(bytes.NewReader(s.data), dicom.CTImageStorage, dicom.ExplicitVRLittleEndian)
		if err != nil {
			return nil, fmt.Errorf("phantom slice %d: %w", i, err)
		}
		cases = append(cases, service.Case{Image: img, Bleed: s.bleed})
	}
	return cases, nil
}
