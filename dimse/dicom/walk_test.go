package dicom_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"ichwatch/dimse/dicom"
)

const (
	outer dicom.Tag = 0x5200_9229
	inner dicom.Tag = 0x0028_9145
)

func sequence(ts dicom.TransferSyntax, t dicom.Tag, vr string, defined bool, items ...string) string {
	var b strings.Builder
	for _, item := range items {
		if defined {
			b.WriteString(element(ts, 0xFFFE_E000, "", uint32(len(item)), item))
		} else {
			b.WriteString(element(ts, 0xFFFE_E000, "", undefined, item) + element(ts, 0xFFFE_E00D, "", 0, ""))
		}
	}
	if defined {
		return element(ts, t, vr, uint32(b.Len()), b.String())
	}
	return element(ts, t, vr, undefined, b.String()+element(ts, 0xFFFE_E0DD, "", 0, ""))
}

// walked lists what Walk shows, one line a value, with the path before it.
func walked(in string, ts dicom.TransferSyntax) (lines []string, err error) {
	err = dicom.Walk(iotest.HalfReader(strings.NewReader(in)), ts, dicom.WalkOptions{
		Enter: func(_ []dicom.Item, t dicom.Tag) bool { return t == outer || t == inner },
		Visit: func(path []dicom.Item, e dicom.Element) error {
			line := ""
			for _, i := range path {
				line += fmt.Sprintf("%v[%d] ", i.Sequence, i.Number)
			}
			lines = append(lines, fmt.Sprintf("%s%v %s", line, e.Tag, e.Value))
			return nil
		},
	})
	return lines, err
}

func TestWalk(t *testing.T) {
	want := []string{
		"(0008,0060) CT",
		"(5200,9229)[0] (0028,9145)[0] (0028,1052) -5",
		"(5200,9229)[0] (0028,9145)[0] (0028,1053) 1 ",
		"(5200,9229)[0] (0028,9145)[1] (0028,1052) -6",
		"(5200,9229)[2] (0028,1052) -7",
	}
	for _, uid := range []dicom.UID{
		dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian, dicom.ExplicitVRBigEndian, dicom.DeflatedExplicitVRLittleEndian,
	} {
		for _, defined := range []bool{true, false} {
			ts := syntax(uid)
			ds := func(t dicom.Tag, v string) string { return element(ts, t, "DS", uint32(len(v)), v) }
			in := element(ts, dicom.TagModality, "CS", 2, "CT") +
				sequence(ts, 0x0008_1140, "SQ", false, ds(dicom.TagRescaleSlope, "no")) +
				sequence(ts, outer, "SQ", defined,
					sequence(ts, 0x0020_9111, "SQ", false, ds(dicom.TagRescaleSlope, "no"))+
						sequence(ts, inner, "SQ", !defined, ds(dicom.TagRescaleIntercept, "-5")+ds(dicom.TagRescaleSlope, "1 "), ds(dicom.TagRescaleIntercept, "-6")),
					"", ds(dicom.TagRescaleIntercept, "-7")) +
				element(ts, dicom.TagPixelData, "OW", 2, "xx") + "and what follows is not read"
			if ts.Deflated {
				in = deflated(in)
			}
			got, err := walked(in, ts)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, lengths defined %t: %v\n%s", ts, defined, err, strings.Join(got, "\n"))
			}
		}
	}
	// A sequence of which a sender did not know the VR (PS3.5 Section 6.2.2).
	unknown := sequence(syntax(dicom.ImplicitVRLittleEndian), outer, "", false, implicit(dicom.TagRescaleIntercept, "-5"))
	in := explicit(dicom.TagModality, "CS", "CT") + unknown[:4] + "UN\x00\x00" + unknown[4:] + explicit(0x5400_0100, "SH", "ok")
	got, err := walked(in, syntax(dicom.ExplicitVRLittleEndian))
	if want := []string{"(0008,0060) CT", "(5200,9229)[0] (0028,1052) -5", "(5400,0100) ok"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("of VR UN: %v, %v", got, err)
	}
}

func TestWalkRefuses(t *testing.T) {
	ts := syntax(dicom.ExplicitVRLittleEndian)
	value := explicit(dicom.TagRescaleIntercept, "DS", "-5")
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"cut in a sequence":         {sequence(ts, outer, "SQ", false, value)[:25], dicom.ErrTruncated},
		"value past its item":       {element(ts, outer, "SQ", 18, element(ts, 0xFFFE_E000, "", 9, value)), dicom.ErrLength},
		"item past its sequence":    {element(ts, outer, "SQ", 18, element(ts, 0xFFFE_E000, "", 11, value)), dicom.ErrLength},
		"value in place of an item": {element(ts, outer, "SQ", 10, value), dicom.ErrTag},
		"item in place of a value":  {element(ts, 0xFFFE_E000, "", 0, ""), dicom.ErrTag},
		"delimiter of nothing":      {element(ts, 0xFFFE_E00D, "", 0, ""), dicom.ErrTag},
		"delimiter too many":        {sequence(ts, outer, "SQ", true, element(ts, 0xFFFE_E00D, "", 0, "")), dicom.ErrTag},
		"too deep":                  {strings.Repeat(element(ts, outer, "SQ", undefined, element(ts, 0xFFFE_E000, "", undefined, "")), 70), dicom.ErrTooDeep},
	} {
		if got, err := walked(c.in, ts); !errors.Is(err, c.want) || !errors.Is(err, dicom.ErrMalformed) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	enough := errors.New("enough")
	err := dicom.Walk(strings.NewReader(value), ts, dicom.WalkOptions{
		Enter: func([]dicom.Item, dicom.Tag) bool { return false },
		Visit: func([]dicom.Item, dicom.Element) error { return enough },
	})
	if !errors.Is(err, enough) {
		t.Errorf("the visitor's error became %v", err)
	}
}

// FuzzWalk: where Scan finds nothing wrong, a walk that enters nothing sees what
// Scan keeps; and whatever is entered, no path is deeper than allowed and no error
// of another kind.
func FuzzWalk(f *testing.F) {
	f.Add([]byte(goldenExplicitLE), true)
	f.Add([]byte(goldenImplicitLE), false)
	f.Add([]byte(sequence(syntax(dicom.ExplicitVRLittleEndian), outer, "SQ", true, explicit(dicom.TagRescaleIntercept, "DS", "-5"))), true)
	f.Fuzz(func(t *testing.T, in []byte, explicit bool) {
		ts := syntax(dicom.ImplicitVRLittleEndian)
		if explicit {
			ts = syntax(dicom.ExplicitVRLittleEndian)
		}
		everywhere := dicom.WalkOptions{
			Enter: func([]dicom.Item, dicom.Tag) bool { return explicit },
			Visit: func(path []dicom.Item, e dicom.Element) error {
				if len(path) > 64 || len(e.Value) != int(e.Length) {
					t.Fatalf("%d deep, %d bytes of %d", len(path), len(e.Value), e.Length)
				}
				return nil
			},
		}
		if err := dicom.Walk(bytes.NewReader(in), ts, everywhere); err != nil && !errors.Is(err, dicom.ErrMalformed) {
			t.Fatalf("an error of no kind: %v", err)
		}
		h, err := dicom.ScanBytes(in, ts, dicom.ScanOptions{})
		if err != nil {
			return
		}
		kept := slices.DeleteFunc(h.Elements, func(e dicom.Element) bool { return len(e.Value) != int(e.Length) })
		seen := 0
		err = dicom.Walk(bytes.NewReader(in), ts, dicom.WalkOptions{
			Enter: func([]dicom.Item, dicom.Tag) bool { return false },
			Visit: func(_ []dicom.Item, e dicom.Element) error {
				if seen == len(kept) || kept[seen].Tag != e.Tag || !bytes.Equal(kept[seen].Value, e.Value) {
					t.Fatalf("%v is not what Scan keeps", e.Tag)
				}
				seen++
				return nil
			},
		})
		if err != nil || seen != len(kept) {
			t.Fatalf("%d elements of %d, %v", seen, len(kept), err)
		}
	})
}
