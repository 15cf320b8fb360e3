package dicom_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ichwatch/dimse/dicom"
)

const (
	tagItem      dicom.Tag = 0xFFFE_E000
	tagItemEnd   dicom.Tag = 0xFFFE_E00D
	tagSequEnd   dicom.Tag = 0xFFFE_E0DD
	referenced             = dicom.TagReferencedSOPSequence
	referencedAs           = dicom.TagReferencedSOPInstanceUID
)

// items writes a sequence of the given items. Lengths are defined or undefined.
func items(ts dicom.TransferSyntax, vr string, sequenceUndefined, itemsUndefined bool, contents ...string) string {
	var b strings.Builder
	for _, c := range contents {
		if itemsUndefined {
			b.WriteString(element(ts, tagItem, "", undefined, c) + element(ts, tagItemEnd, "", 0, ""))
		} else {
			b.WriteString(element(ts, tagItem, "", uint32(len(c)), c))
		}
	}
	if sequenceUndefined {
		return element(ts, referenced, vr, undefined, b.String()+element(ts, tagSequEnd, "", 0, ""))
	}
	return element(ts, referenced, vr, uint32(b.Len()), b.String())
}

// enter scans a data set with the sequence entered; it returns the references
// in its items.
func enter(in string, ts dicom.TransferSyntax) (h *dicom.Header, found []dicom.UID, err error) {
	h, err = dicom.ScanBytes([]byte(in), ts, dicom.ScanOptions{Sequences: map[dicom.Tag]func(*dicom.Header) error{
		referenced: func(item *dicom.Header) error {
			found = append(found, item.UID(referencedAs))
			return nil
		},
	}})
	return h, found, err
}

var nativeSyntaxes = []dicom.UID{
	dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian, dicom.ExplicitVRBigEndian, dicom.DeflatedExplicitVRLittleEndian,
}

// Whatever the syntax and the form of the lengths, the items are those that were
// written, and what stands beside the sequence is read as ever.
func TestScanEntersSequences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts := syntax(rapid.SampledFrom(nativeSyntaxes).Draw(t, "syntax"))
		n := rapid.IntRange(0, 40).Draw(t, "items")
		var contents []string
		var want []dicom.UID
		for i := range n {
			uid := dicom.UID(fmt.Sprintf("1.2.%d", i+10)) // of even length
			c := element(ts, dicom.TagReferencedSOPClassUID, "UI", 2, "1\x00")
			if rapid.Bool().Draw(t, "sequence within") {
				c = items(ts, "SQ", rapid.Bool().Draw(t, "its length undefined"), false, c)
				c = strings.Replace(c, element(ts, referenced, "", 0, "")[:4], element(ts, 0x0008_1140, "", 0, "")[:4], 1)
			}
			contents = append(contents, c+element(ts, referencedAs, "UI", uint32(len(uid)), string(uid)))
			want = append(want, uid)
		}
		in := element(ts, dicom.TagTransactionUID, "UI", 4, "1.2\x00") +
			items(ts, "SQ", rapid.Bool().Draw(t, "sequence undefined"), rapid.Bool().Draw(t, "items undefined"), contents...) +
			element(ts, dicom.TagStudyInstanceUID, "UI", 4, "1.3\x00")
		if ts.Deflated {
			in = deflated(in)
		}
		h, got, err := enter(in, ts)
		if err != nil || !slices.Equal(got, want) || h.UID(dicom.TagTransactionUID) != "1.2" || h.UID(dicom.TagStudyInstanceUID) != "1.3" || len(h.Elements) != 2 {
			t.Fatalf("%d items of %d, %v; header %+v", len(got), n, err, h)
		}
	})
}

func TestScanEntersSequencesOfUnknownVR(t *testing.T) {
	for _, uid := range []dicom.UID{dicom.ExplicitVRLittleEndian, dicom.ExplicitVRBigEndian} {
		ts := syntax(uid)
		inner := items(syntax(dicom.ImplicitVRLittleEndian), "", true, false, implicit(referencedAs, "1.2.3\x00")+implicit(dicom.TagFailureReason, "\x12\x01"))[8:]
		for _, length := range []uint32{undefined, uint32(len(inner) - 8)} {
			value := inner
			if length != undefined {
				value = inner[:len(inner)-8] // without the delimiter
			}
			var got dicom.UID
			var reason uint16
			_, err := dicom.ScanBytes([]byte(element(ts, referenced, "UN", length, value)), ts, dicom.ScanOptions{Sequences: map[dicom.Tag]func(*dicom.Header) error{
				referenced: func(item *dicom.Header) error {
					got = item.UID(referencedAs)
					reason, _ = item.Uint16(dicom.TagFailureReason) // in the sequence's byte order, not the data set's
					return nil
				},
			}})
			if err != nil || got != "1.2.3" || reason != 0x0112 {
				t.Errorf("%s: %q, %04XH, %v", uid.Name(), got, reason, err)
			}
		}
	}
}

func TestScanEntersSequencesMalformed(t *testing.T) {
	ele := syntax(dicom.ExplicitVRLittleEndian)
	uid := explicit(referencedAs, "UI", "1.2.3\x00")
	item := func(n uint32, content string) string { return element(ele, tagItem, "", n, content) }
	sq := func(n uint32, content string) string { return element(ele, referenced, "SQ", n, content) }
	ends, itemEnds := element(ele, tagSequEnd, "", 0, ""), element(ele, tagItemEnd, "", 0, "")
	for _, test := range []struct {
		name, in string
		want     error
	}{
		{"no sequence", element(ele, referenced, "LO", 4, "abcd"), dicom.ErrVR},
		{"item beyond the sequence", sq(22, item(18, uid)), dicom.ErrLength},
		{"item of 4 GiB", sq(undefined, item(0xFFFFFFF0, uid)), dicom.ErrTooLarge},
		{"element beyond the item", sq(22, item(8, uid)), dicom.ErrLength},
		{"header beyond the item", sq(12, item(4, uid)), dicom.ErrLength},
		{"header beyond the sequence", sq(4, item(0, "")), dicom.ErrLength},
		{"sequence that is cut", sq(undefined, item(14, uid)), nil},
		{"item that is cut", sq(undefined, item(undefined, uid)), dicom.ErrTruncated},
		{"delimiter of a sequence of defined length", sq(8, ends), dicom.ErrTag},
		{"delimiter of an item of defined length", sq(30, item(22, uid+itemEnds)), dicom.ErrTag},
		{"end of the sequence within an item", sq(undefined, item(undefined, ends)), dicom.ErrTag},
		{"element between items", sq(undefined, uid+ends), dicom.ErrTag},
		{"descending", sq(undefined, item(undefined, uid+explicit(dicom.TagReferencedSOPClassUID, "UI", "1\x00")+itemEnds)+ends), dicom.ErrOrder},
		{"twice", sq(undefined, item(undefined, uid+uid+itemEnds)+ends), dicom.ErrOrder},
		{"command element", sq(undefined, item(undefined, explicit(0x0000_0002, "UI", "1\x00")+itemEnds)+ends), dicom.ErrTag},
		{"pixels in an item", sq(undefined, item(undefined, explicit(dicom.TagPixelData, "OW", "\x00\x00")+itemEnds)+ends), dicom.ErrTag},
		{"sequence beyond its item", sq(undefined, item(20, element(ele, 0x0008_1140, "SQ", undefined, item(4, "\x00\x00\x00\x00")+ends))+ends), dicom.ErrLength},
		{"nested too deep", sq(undefined, item(undefined, strings.Repeat(element(ele, 0x0008_1140, "SQ", undefined, item(undefined, "")), 70))), dicom.ErrTooDeep},
		{"the sequence twice", sq(0, "") + sq(0, ""), dicom.ErrOrder},
	} {
		if test.want == nil {
			test.want = dicom.ErrTruncated
			if _, found, _ := enter(test.in, ele); len(found) != 1 {
				t.Errorf("%s: %d items before the cut", test.name, len(found))
			}
			test.in += "\xfe\xff"
		}
		h, _, err := enter(test.in, ele)
		var where *dicom.MalformedError
		if !errors.Is(err, test.want) || !errors.As(err, &where) || h == nil {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestScanEntersSequencesUntilItsCallerEnds(t *testing.T) {
	ele, enough := syntax(dicom.ExplicitVRLittleEndian), errors.New("enough")
	n := 0
	_, err := dicom.ScanBytes([]byte(items(ele, "SQ", true, true, "", "", "")), ele, dicom.ScanOptions{Sequences: map[dicom.Tag]func(*dicom.Header) error{
		referenced: func(*dicom.Header) error {
			n++
			return enough
		},
	}})
	if err != enough || n != 1 {
		t.Errorf("%v after %d items", err, n)
	}
}

// FuzzScanSequences: entering a sequence is stricter than passing over it, never
// laxer, finds the same elements beside it, and is bounded in the same way.
func FuzzScanSequences(f *testing.F) {
	for n, uid := range nativeSyntaxes {
		ts := syntax(uid)
		for form := range 4 {
			in := items(ts, "SQ", form&1 != 0, form&2 != 0, element(ts, referencedAs, "UI", 4, "1.2\x00"), "") + element(ts, dicom.TagStudyInstanceUID, "UI", 4, "1.3\x00")
			if ts.Deflated {
				in = deflated(in)
			}
			f.Add(uint8(n), []byte(in))
		}
	}
	f.Add(uint8(1), []byte(element(syntax(dicom.ExplicitVRLittleEndian), referenced, "UN", undefined, items(syntax(dicom.ImplicitVRLittleEndian), "", true, true, implicit(referencedAs, "1.2\x00"))[8:])))
	f.Fuzz(func(t *testing.T, n uint8, in []byte) {
		ts := syntax(nativeSyntaxes[int(n)%len(nativeSyntaxes)])
		var entered []dicom.Element
		inMemory := !ts.Deflated // values are the input's own bytes
		options := dicom.ScanOptions{MaxHeader: 1 << 20}
		plain, plainErr := dicom.ScanBytes(in, ts, options)
		options.Sequences = map[dicom.Tag]func(*dicom.Header) error{referenced: func(item *dicom.Header) error {
			last := int64(-1)
			for _, e := range item.Elements {
				if int64(e.Tag) <= last || len(e.Value) != 0 && len(e.Value) != int(e.Length) {
					t.Fatalf("%v of %d bytes after %v", e.Tag, len(e.Value), dicom.Tag(last))
				}
				last = int64(e.Tag)
				if len(e.Value) > 0 && inMemory && (offsetIn(in, e.Value) < 0 || offsetIn(in, e.Value)+len(e.Value) > len(in)) {
					t.Fatalf("the value of %v is not of the input", e.Tag)
				}
			}
			entered = append(entered, item.Elements...)
			return nil
		}}
		var h *dicom.Header
		var err error
		most := uint64(fixedCost + 64*len(in))
		if ts.Deflated {
			most = fixedCost + 64<<20
		}
		if spent := allocated(func() { h, err = dicom.ScanBytes(in, ts, options) }); spent > most {
			t.Fatalf("%d bytes allocated for %d bytes of input", spent, len(in))
		}
		if err != nil && !errors.Is(err, dicom.ErrMalformed) {
			t.Fatalf("%v is no MalformedError", err)
		}
		if err == nil && plainErr != nil {
			t.Fatalf("entered without a fault, passed over with %v", plainErr)
		}
		if err == nil {
			rest := slices.DeleteFunc(plain.Elements, func(e dicom.Element) bool { return e.Tag == referenced })
			if diff := cmp.Diff(rest, h.Elements); diff != "" {
				t.Fatalf("beside the sequence:\n%s", diff)
			}
		}
		first := entered
		entered, inMemory = nil, false
		_, again := dicom.Scan(&chunkReader{b: in, n: 1 + int(n)%17}, ts, options)
		if diff := cmp.Diff(first, entered); diff != "" || (again == nil) != (err == nil) {
			t.Fatalf("in pieces: %v, then %v:\n%s", err, again, diff)
		}
	})
}
