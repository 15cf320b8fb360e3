package forward

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// compressedObjects are slices in RLE, JPEG lossless, JPEG-LS and deflated, and the
// pixels of each.
func compressedObjects(t *testing.T) (all []object, pixels [][]byte) {
	t.Helper()
	dir := t.TempDir()
	if err := phantom.WriteSet(t.Context(), dir, phantom.SetOptions{Seed: 7, Studies: 1, Classes: []phantom.Class{phantom.Normal}, Slices: 8, Rows: 128, Columns: 128, Plain: true}, nil); err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Glob(filepath.Join(dir, "*", "*.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	for i, encoder := range [][]string{{"dcmcrle"}, {"dcmcjpeg", "+e1"}, {"dcmcjpls", "+el"}, {"dcmconv", "+td"}} {
		path := filepath.Join(dir, fmt.Sprintf("%d.dcm", i))
		dimsetest.Run(t, encoder[0], append(encoder[1:], original[i], path)...)
		all = append(all, readObject(t, path))
		pixels = append(pixels, nativePixels(t, readObject(t, original[i])))
	}
	return all, pixels
}

func nativePixels(t *testing.T, o object) []byte {
	t.Helper()
	ts, _ := dicom.LookupTransferSyntax(o.syntax)
	h, err := dicom.ScanBytes(o.data, ts, dicom.ScanOptions{})
	if err != nil || ts.Encapsulated {
		t.Fatal(o.syntax.Name(), err)
	}
	return o.data[h.PixelDataOffset:][:h.PixelDataLength]
}

// A storescp that takes nothing compressed gets it decompressed where the site allows that; the ledger tells, and the spool
// keeps what came. Where the site does not, it is parked, and the alarm names the syntax and the key.
func TestTranscoding(t *testing.T) {
	all, pixels := compressedObjects(t)
	port, dir := dimsetest.FreePort(t), t.TempDir()
	dimsetest.Start(t, port, "storescp", "--fork", "+B", "+xi", "+xe", "-od", dir, port)
	for _, allowed := range []bool{false, true} {
		s := newSpool(t)
		for _, o := range all {
			store(t, s, o)
		}
		var logged dimsetest.Output
		f := several(s, "", 2)
		f.Log, f.Transcode = slog.New(slog.NewTextHandler(&logged, nil)), allowed
		f.NewSender = func() Sender {
			c := scu("127.0.0.1:" + port)
			c.Transcode = allowed
			return c
		}
		stop := start(t, f)
		if !allowed {
			await(t, s, func(c spool.LegCount) bool { return c.Parked == len(all) })
			stop()
			for _, o := range all {
				if !strings.Contains(logged.String(), "CT Image Storage in "+o.syntax.Name()+"; transcode: explicit-vr-le") {
					t.Errorf("the alarm does not say what helps for %s:\n%s", o.syntax.Name(), &logged)
				}
			}
			continue
		}
		damaged := newObject(90)
		damaged.syntax = "1.2.840.10008.1.2.5" // and no RLE
		store(t, s, damaged)
		await(t, s, func(c spool.LegCount) bool { return c.Done == len(all) && c.Parked == 1 })
		stop()
		if !strings.Contains(logged.String(), "cannot be decompressed") {
			t.Errorf("no word of what cannot be decompressed:\n%s", &logged)
		}
		files, err := filepath.Glob(filepath.Join(dir, "CT.*"))
		if err != nil || len(files) != len(all) {
			t.Fatalf("%d files arrived, %v", len(files), err)
		}
		arrived := map[dicom.UID]object{}
		for _, path := range files {
			o := readObject(t, path)
			arrived[o.sop] = o
		}
		for i, o := range all {
			got := arrived[o.sop]
			if got.syntax != dicom.ExplicitVRLittleEndian || !bytes.Equal(nativePixels(t, got), pixels[i]) {
				t.Errorf("what was sent in %s arrived in %q, with other pixels", o.syntax.Name(), got.syntax)
			}
		}
		sent := 0
		records, err := s.Studies(t.Context(), spool.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			sent += r.Legs[0].Transcoded
		}
		if sent != len(all) {
			t.Errorf("the ledger has %d decompressed, want %d", sent, len(all))
		}
	}
}

// TestPromise2_AllowedTranscodingChangesNothingElse: where a destination takes what came as it came, it goes so.
func TestPromise2_AllowedTranscodingChangesNothingElse(t *testing.T) {
	all, _ := compressedObjects(t)
	damaged := newObject(90)
	damaged.syntax = "1.2.840.10008.1.2.5" // and no RLE
	p := newPACS()
	server := dimsetest.NewServer(t, p)
	s := newSpool(t)
	for _, o := range append(all, damaged) {
		store(t, s, o)
	}
	f := several(s, server.Addr, 2)
	f.Transcode = true
	f.NewSender = func() Sender {
		c := scu(server.Addr)
		c.Transcode = true
		return c
	}
	start(t, f)
	await(t, s, allDone(len(all)+1))
	for _, o := range append(all, damaged) {
		got := p.arrivals(o.sop)
		if len(got) != 1 || got[0] != (arrival{o.syntax, sha256.Sum256(o.data)}) {
			t.Errorf("%s arrived as %v", o.syntax.Name(), got)
		}
	}
}
