package transcode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"

	"go.uber.org/goleak"

	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// part10 is a file taken apart.
type part10 struct {
	meta   dicom.FileMeta
	syntax dicom.TransferSyntax
	data   []byte
}

func read(t *testing.T, path string) part10 {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	meta, offset, err := dicom.ReadFileMeta(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	syntax, _ := dicom.LookupTransferSyntax(meta.TransferSyntaxUID)
	return part10{meta, syntax, content[offset:]}
}

// write writes a data set in the Target syntax as a file.
func (p part10) write(t *testing.T, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := dicom.WriteFileMeta(&b, dicom.FileMeta{
		SOPClassUID: p.meta.SOPClassUID, SOPInstanceUID: p.meta.SOPInstanceUID, TransferSyntaxUID: Target,
	}); err != nil {
		t.Fatal(err)
	}
	b.Write(data)
	path := filepath.Join(t.TempDir(), "ours.dcm")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rewrite is New, read to its end.
func rewrite(data []byte, ts dicom.TransferSyntax) ([]byte, error) {
	r, err := New(context.Background(), io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), ts)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// pixels are the native pixels of a data set, and what stands before their element.
func pixels(t *testing.T, data []byte, ts dicom.TransferSyntax) (value, before []byte) {
	t.Helper()
	h, err := dicom.ScanBytes(data, ts, dicom.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	end := h.PixelDataOffset + int64(h.PixelDataLength)
	if h.PixelData != dicom.TagPixelData || end > int64(len(data)) {
		t.Fatalf("pixels %v up to byte %d of %d", h.PixelData, end, len(data))
	}
	return data[h.PixelDataOffset:end], data[:h.PixelDataOffset-12]
}

// oracles decompress with another implementation: DCMTK, and for JPEG 2000 GDCM.
var oracles = map[dicom.UID][]string{
	"1.2.840.10008.1.2.5":    {"dcmdrle"},
	"1.2.840.10008.1.2.4.50": {"dcmdjpeg"},
	"1.2.840.10008.1.2.4.51": {"dcmdjpeg"},
	"1.2.840.10008.1.2.4.57": {"dcmdjpeg"},
	"1.2.840.10008.1.2.4.70": {"dcmdjpeg"},
	"1.2.840.10008.1.2.4.80": {"dcmdjpls"},
	"1.2.840.10008.1.2.4.81": {"dcmdjpls"},
	"1.2.840.10008.1.2.4.90": {"gdcmconv", "--raw"},
	"1.2.840.10008.1.2.4.91": {"gdcmconv", "--raw"},
	"1.2.840.10008.1.2.1.99": {"dcmconv", "+te"},
}

// compressed are files to rewrite: a phantom in each syntax that DCMTK writes, and real ones where they are at hand.
func compressed(t *testing.T) (files []string) {
	t.Helper()
	dir := t.TempDir()
	if err := phantom.WriteSet(t.Context(), dir, phantom.SetOptions{Seed: 7, Studies: 1, Classes: []phantom.Class{phantom.Subdural}, Slices: 8, Plain: true}, nil); err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Glob(filepath.Join(dir, "*", "*.dcm"))
	if err != nil || len(original) == 0 {
		t.Fatal("no phantom", err)
	}
	for i, encoder := range [][]string{
		{"dcmcrle"},
		{"dcmcjpeg", "+e1"},
		{"dcmcjpeg", "+el", "+sv", "6"},
		{"dcmcjpeg", "+eb"},
		{"dcmcjpeg", "+ee"},
		{"dcmcjpls", "+el"},
		{"dcmcjpls", "+en"},
		{"dcmconv", "+td"},
	} {
		path := filepath.Join(dir, fmt.Sprintf("%d.dcm", i))
		dimsetest.Run(t, encoder[0], append(encoder[1:], original[len(original)/2], path)...)
		files = append(files, path)
	}
	for _, shared := range []string{"ge-chest-syntaxes", "toshiba-head-syntaxes"} {
		real, err := filepath.Glob(filepath.Join(dimsetest.Root(t), "../shared/data/dicom", shared, "*.dcm"))
		if err != nil {
			t.Fatal(err)
		}
		if len(real) == 0 {
			t.Logf("%s is not at hand", shared)
		}
		files = append(files, real...)
	}
	return files
}

// TestRewrittenAsDCMTKAndGDCMDo: the pixels are what another decoder makes of them, everything else is as it was, and the
// whole is something that DCMTK reads.
func TestRewrittenAsDCMTKAndGDCMDo(t *testing.T) {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "transfer syntax\tpixels\tother decoder\tdiffer by\tresult")
	seen := map[dicom.UID]bool{}
	for _, path := range compressed(t) {
		in := read(t, path)
		if !Takes(in.syntax.UID) {
			if _, err := rewrite(in.data, in.syntax); !errors.Is(err, ErrImpossible) {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		out, err := rewrite(in.data, in.syntax)
		if err != nil {
			if !errors.Is(err, ErrImpossible) {
				t.Errorf("%s: %v", path, err)
			}
			fmt.Fprintf(w, "%s\t\t\t\t%v\n", in.syntax.Name, err)
			continue
		}
		oracle := oracles[in.syntax.UID]
		theirs := filepath.Join(t.TempDir(), "theirs.dcm")
		dimsetest.Run(t, oracle[0], append(oracle[1:], path, theirs)...)
		other := read(t, theirs)
		explicit, _ := dicom.LookupTransferSyntax(Target)
		ours, before := pixels(t, out, explicit)
		want, _ := pixels(t, other.data, other.syntax)
		most, err := apart(ours, want)
		if err != nil || most > 0 {
			t.Errorf("%s in %s: pixels differ by up to %d from those of %s, %v", filepath.Base(path), in.syntax.Name, most, oracle[0], err)
		}
		if in.syntax.Encapsulated && !bytes.HasPrefix(in.data, before) {
			t.Errorf("%s: what stands before the pixels is not as it was", path)
		}
		if said := dimsetest.Run(t, "dcmdump", "+P", "0028,0004", "+P", "0028,2110", in.write(t, out)); !strings.Contains(said, "MONOCHROME") {
			t.Errorf("%s: DCMTK reads %s", path, said)
		}
		seen[in.syntax.UID] = true
		fmt.Fprintf(w, "%s\t%d bytes\t%s\t%d\trewritten\n", in.syntax.Name, len(ours), oracle[0], most)
	}
	_ = w.Flush()
	t.Logf("\n%s", &table)
	for _, uid := range []dicom.UID{"1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1.99"} {
		if !seen[uid] {
			t.Errorf("no object in %s was rewritten", uid.Name())
		}
	}
}

// apart is the greatest difference between two pictures of words.
func apart(a, b []byte) (most int, err error) {
	if len(a) != len(b) {
		return 0, fmt.Errorf("%d bytes and %d", len(a), len(b))
	}
	for i := 0; i+1 < len(a); i += 2 {
		d := int(int16(binary.LittleEndian.Uint16(a[i:]))) - int(int16(binary.LittleEndian.Uint16(b[i:])))
		most = max(most, d, -d)
	}
	return most, nil
}

// What would be wrong when decompressed is refused, with a reason.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	if err := phantom.WriteSet(t.Context(), dir, phantom.SetOptions{Seed: 7, Studies: 1, Classes: []phantom.Class{phantom.Normal}, Slices: 8, Plain: true}, nil); err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Glob(filepath.Join(dir, "*", "*.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(name string, encoder ...string) string {
		path := filepath.Join(dir, name)
		dimsetest.Run(t, encoder[0], append(encoder[1:], original[0], path)...)
		return path
	}
	hushed := encoded("hushed.dcm", "dcmcjpeg", "+eb")
	dimsetest.Run(t, "dcmodify", "-nb", "-ea", "(0028,2110)", hushed)
	colour := encoded("colour.dcm", "dcmcrle")
	dimsetest.Run(t, "dcmodify", "-nb", "-m", "(0028,0002)=3", colour)
	sound := read(t, encoded("sound.dcm", "dcmcrle"))
	signed := append(sound.data[:len(sound.data):len(sound.data)], "\xFA\xFF\xFA\xFFSQ\x00\x00\x00\x00\x00\x00"...)
	native := read(t, original[0])
	for name, c := range map[string]struct {
		data   []byte
		syntax dicom.TransferSyntax
		says   string
	}{
		"lossy and does not say so": {read(t, hushed).data, read(t, hushed).syntax, "does not say so"},
		"colour":                    {read(t, colour).data, sound.syntax, "3 samples per pixel"},
		"signed":                    {signed, sound.syntax, "signed"},
		"cut in its pixels":         {sound.data[:len(sound.data)-1000], sound.syntax, "malformed"},
		"cut in its header":         {sound.data[:300], sound.syntax, "dicom"},
		"native":                    {native.data, native.syntax, "is not rewritten"},
		"no deflate":                {bytes.Repeat([]byte{0xFF}, 100), mustLookup(t, dicom.DeflatedExplicitVRLittleEndian), "flate"},
	} {
		if _, err := rewrite(c.data, c.syntax); !errors.Is(err, ErrImpossible) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, c.says)
		}
	}
}

func mustLookup(t *testing.T, uid dicom.UID) dicom.TransferSyntax {
	t.Helper()
	ts, ok := dicom.LookupTransferSyntax(uid)
	if !ok {
		t.Fatal(uid)
	}
	return ts
}
