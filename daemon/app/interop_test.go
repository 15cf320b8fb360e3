package app_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ichwatch/configs"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/send"
	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

// made is how DCMTK makes one of a slice, by transfer syntax.
var made = []struct {
	syntax  dicom.UID
	program string
	option  string
}{
	{dicom.ImplicitVRLittleEndian, "dcmconv", "+ti"},
	{dicom.ExplicitVRBigEndian, "dcmconv", "+tb"},
	{dicom.DeflatedExplicitVRLittleEndian, "dcmconv", "+td"},
	{dicom.JPEGLosslessSV1, "dcmcjpeg", "+e1"},
	{dicom.JPEGLossless, "dcmcjpeg", "+el"},
	{dicom.JPEGBaseline8Bit, "dcmcjpeg", "+eb"},
	{dicom.JPEGExtended12Bit, "dcmcjpeg", "+ee"},
	{dicom.JPEGLSLossless, "dcmcjpls", "+el"},
	{dicom.RLELossless, "dcmcrle", "+id"},
}

// manySyntaxes writes a study with a slice in each of the syntaxes that DCMTK makes, and some real images, where they
// are there.
func manySyntaxes(t *testing.T, seed uint64) []string {
	t.Helper()
	files := writePhantom(t, phantom.Subdural, phantom.SetOptions{Seed: seed, Slices: len(made) + 1, Rows: 128, Columns: 128})
	dir := t.TempDir()
	for i, m := range made {
		out := filepath.Join(dir, string(m.syntax)+".dcm")
		args := []string{m.option, files[i], out}
		if m.program == "dcmcrle" {
			args = args[1:]
		}
		dimsetest.Run(t, m.program, args...)
		if meta, _ := readPart10(t, out); meta.TransferSyntaxUID != m.syntax {
			t.Fatalf("%s made %s of a slice", m.program, meta.TransferSyntaxUID.Name())
		}
		files[i] = out
	}
	real, err := filepath.Glob("../../../shared/data/dicom/*-syntaxes/*.dcm")
	if err != nil {
		t.Fatal(err)
	}
	if len(real) == 0 {
		t.Log("no ../shared/data: only generated slices are sent")
	}
	// Several of them are one object in several syntaxes: one of each.
	seen := map[dicom.UID]bool{}
	for _, file := range real {
		if meta, _ := readPart10(t, file); !seen[meta.SOPInstanceUID] {
			seen[meta.SOPInstanceUID] = true
			files = append(files, file)
		}
	}
	return files
}

func readPart10(t *testing.T, file string) (dicom.FileMeta, []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	meta, n, err := dicom.ReadFileMeta(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return meta, b[n:]
}

// scanner is a program that sends as a scanner does.
type scanner struct {
	name string
	send func(t *testing.T, port string, files []string)
	// takes says what of the files it can send; nil: all.
	takes func(m dicom.FileMeta) bool
	keeps fidelity // of the data sets in the files
}

// fidelity is how much of a data set a program keeps.
type fidelity int

const (
	elementForElement fidelity = iota // it reads and writes anew: lengths, padding and group lengths may change
	byteForByte
	pictures // it writes what it understands: identifiers and pixels stay
)

func uncompressed(m dicom.FileMeta) bool {
	ts, _ := dicom.LookupTransferSyntax(m.TransferSyntaxUID)
	return !ts.Encapsulated && !ts.Deflated
}

var scanners = []scanner{
	{name: "ichwatch send", keeps: byteForByte, send: func(t *testing.T, port string, files []string) {
		objects, skipped, err := send.Find(t.Context(), files)
		if err != nil || len(skipped) > 0 {
			t.Fatalf("skipped %v, %v", skipped, err)
		}
		s := send.Sender{
			Addr: net.JoinHostPort("127.0.0.1", port), Associations: 3,
			Dialer: dimse.Dialer{CallingAETitle: "SEND", CalledAETitle: "ICHWATCH"},
			Report: func(r send.Result) {
				if r.Outcome != send.Stored {
					t.Errorf("%s: %v, %v, %v", r.Path, r.Outcome, r.Status, r.Err)
				}
			},
		}
		if err := s.Send(t.Context(), objects); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "storescu", takes: uncompressed, send: func(t *testing.T, port string, files []string) {
		dimsetest.Run(t, "storescu", append([]string{"-aec", "ICHWATCH", "127.0.0.1", port}, files...)...)
	}},
	{name: "dcmsend", send: func(t *testing.T, port string, files []string) {
		dimsetest.Run(t, "dcmsend", append([]string{"-dn", "-nuc", "-aec", "ICHWATCH", "127.0.0.1", port}, files...)...)
	}},
	{name: "odil", keeps: pictures, takes: uncompressed, send: func(t *testing.T, port string, files []string) {
		dimsetest.Run(t, "odil", append([]string{"store", "127.0.0.1", port, "ODIL", "ICHWATCH"}, files...)...)
	}},
	{name: "pynetdicom", send: func(t *testing.T, port string, files []string) {
		args := []string{dimsetest.Script(t, "send.py"), "127.0.0.1", port, "ICHWATCH"}
		dimsetest.Run(t, dimsetest.Pynetdicom(t), append(args, files...)...)
	}},
	{name: "dcmjs-dimse", keeps: pictures, takes: func(m dicom.FileMeta) bool {
		return m.TransferSyntaxUID != dicom.DeflatedExplicitVRLittleEndian
	}, send: func(t *testing.T, port string, files []string) {
		args := []string{dimsetest.Script(t, "send.js"), "127.0.0.1", port, "ICHWATCH"}
		dimsetest.Run(t, dimsetest.Dcmjs(t), append(args, files...)...)
	}},
	{name: "PixelMed", takes: uncompressed, send: func(t *testing.T, port string, files []string) {
		for _, file := range files {
			dimsetest.Run(t, "java", dimsetest.PixelMed(t, "StorageSOPClassSCU", "127.0.0.1", port, "ICHWATCH", "PIXELMED", file)...)
		}
	}},
}

// archive is a program that stores as a PACS does.
type archive struct {
	name, port string
	// files returns what it has stored, Part 10, and clear removes it.
	files func(t *testing.T) [][]byte
	clear func(t *testing.T)
	keeps fidelity // of the data sets that come
	// takes says what it accepts in any case.
	takes func(m dicom.FileMeta) bool
}

func everything(dicom.FileMeta) bool { return true }

// inFolder is an archive that writes a file for each object.
func inFolder(name string, keeps fidelity, takes func(dicom.FileMeta) bool, start func(port, dir string), t *testing.T) archive {
	dir, port := t.TempDir(), dimsetest.FreePort(t)
	start(port, dir)
	stored := func(t *testing.T) []string {
		paths, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(paths, func(p string) bool { return filepath.Base(p) == "index.dat" })
	}
	return archive{
		name: name, port: port, keeps: keeps, takes: takes,
		files: func(t *testing.T) (all [][]byte) {
			for _, path := range stored(t) {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, b)
			}
			return all
		},
		clear: func(t *testing.T) {
			for _, path := range stored(t) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
}

// notInDCMTK are those of the syntaxes above that DCMTK's receivers do not accept, with +xa even.
func notInDCMTK(m dicom.FileMeta) bool {
	return m.TransferSyntaxUID != dicom.JPEGLossless && m.TransferSyntaxUID != dicom.JPEGFullProgressionNonHierarchical1012 &&
		m.TransferSyntaxUID != dicom.JPEGSpectralSelectionNonHierarchical68
}

// qrConfig is dcmqrscp's configuration: one archive of that AE title, open to everybody.
func qrConfig(t *testing.T, title, port, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dcmqrscp.cfg")
	text := fmt.Sprintf("NetworkTCPPort = %s\nMaxPDUSize = 16384\nMaxAssociations = 16\nHostTable BEGIN\nHostTable END\n"+
		"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\n%s %s RW (200, 1024mb) ANY\nAETable END\n", port, title, dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// archives starts all of them; the test ends them.
func archives(t *testing.T) []archive {
	t.Helper()
	orthanc := dimsetest.StartOrthanc(t)
	return []archive{
		inFolder("storescp", byteForByte, notInDCMTK, func(port, dir string) {
			dimsetest.Start(t, port, "storescp", "+B", "+xa", "-pm", "-od", dir, port)
		}, t),
		inFolder("dcmqrscp", byteForByte, uncompressed, func(port, dir string) {
			dimsetest.Start(t, port, "dcmqrscp", "+B", "-c", qrConfig(t, "DCMQRSCP", port, dir), port)
		}, t),
		inFolder("pynetdicom", byteForByte, everything, func(port, dir string) {
			dimsetest.Start(t, port, dimsetest.Pynetdicom(t), dimsetest.Script(t, "store.py"), port, dir)
		}, t),
		inFolder("dcmjs-dimse", pictures, func(m dicom.FileMeta) bool {
			return m.TransferSyntaxUID != dicom.DeflatedExplicitVRLittleEndian
		}, func(port, dir string) {
			dimsetest.Start(t, port, dimsetest.Dcmjs(t), dimsetest.Script(t, "store.js"), port, dir)
		}, t),
		inFolder("PixelMed", byteForByte, func(m dicom.FileMeta) bool {
			// Of several contexts for one SOP class it takes one or two, explicit little endian before all others.
			return m.TransferSyntaxUID == dicom.ExplicitVRLittleEndian
		}, func(port, dir string) {
			dimsetest.Start(t, port, "java", dimsetest.PixelMed(t, "StorageSOPClassSCPDispatcher", port, "PIXELMED", dir)...)
		}, t),
		{name: "Orthanc", port: orthanc.Port, takes: everything, files: func(t *testing.T) [][]byte { return orthanc.Files(t) }, clear: func(t *testing.T) { orthanc.Clear(t) }},
	}
}

// TestPromise2_FromEveryPeerToEveryPeer sends images in many transfer syntaxes from each of the programs that send,
// through the daemon, to each of those that store. What the daemon holds is what the program sent; what each archive
// holds is what the daemon holds, and what an archive does not take is parked there, and there alone.
func TestPromise2_FromEveryPeerToEveryPeer(t *testing.T) {
	all := archives(t)
	for i, s := range scanners {
		t.Run(s.name, func(t *testing.T) {
			files := manySyntaxes(t, uint64(i))
			if s.takes != nil {
				files = slices.DeleteFunc(files, func(file string) bool {
					meta, _ := readPart10(t, file)
					return !s.takes(meta)
				})
			}
			cfg := config(t)
			for _, a := range all {
				a.clear(t)
				pacs := destination(strings.ToLower(a.name), a.port)
				pacs.Timeouts.ACSE = time.Minute // an interpreted one on a busy machine takes its time
				cfg.Destinations = append(cfg.Destinations, pacs)
			}
			d := start(t, cfg)
			s.send(t, d.port, files)
			eventually(t, "every instance is confirmed or parked", func() bool { return d.settled(t, len(files)) })
			done := d.confirmed(t)
			d.stop()

			held := part10s(t, inSpool(t, cfg))
			if len(held) != len(files) {
				t.Errorf("%d files sent, %d objects held", len(files), len(held))
			}
			for _, file := range files {
				meta, data := readPart10(t, file)
				compare(t, s.name+" sent "+filepath.Base(file), held[meta.SOPInstanceUID], object{meta, data}, s.keeps)
			}
			for _, a := range all {
				stored := part10s(t, a.files(t))
				for uid, o := range held {
					if _, there := stored[uid]; a.takes(o.meta) || there {
						compare(t, a.name+" stores", stored[uid], o, a.keeps)
					}
				}
				if n := done[strings.ToLower(a.name)]; len(stored) != n || n == 0 {
					t.Errorf("%s holds %d objects, and has confirmed %d", a.name, len(stored), n)
				}
			}
		})
	}
}

// settled reports whether all n instances came and each leg has its end.
func (d *daemon) settled(t *testing.T, n int) bool {
	t.Helper()
	records, err := d.Studies(t.Context(), spool.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	came := 0
	for _, r := range records {
		came += r.Instances
		for _, l := range r.Legs {
			if l.Pending > 0 {
				return false
			}
		}
	}
	return came >= n
}

// confirmed counts the instances that each destination has.
func (d *daemon) confirmed(t *testing.T) map[string]int {
	t.Helper()
	records, err := d.Studies(t.Context(), spool.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]int{}
	for _, r := range records {
		for _, l := range r.Legs {
			done[l.Destination] += l.Done
		}
	}
	return done
}

func inSpool(t *testing.T, cfg *configs.Config) [][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(cfg.Spool.Dir, "instances", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

type object struct {
	meta dicom.FileMeta
	data []byte
}

func part10s(t *testing.T, files [][]byte) map[dicom.UID]object {
	t.Helper()
	all := map[dicom.UID]object{}
	for _, b := range files {
		meta, n, err := dicom.ReadFileMeta(bytes.NewReader(b))
		if err != nil {
			t.Error(err)
			continue
		}
		all[meta.SOPInstanceUID] = object{meta, b[n:]}
	}
	return all
}

// compare checks that got is want: byte for byte, or element for element.
func compare(t *testing.T, what string, got, want object, keeps fidelity) {
	t.Helper()
	if got.data == nil {
		t.Errorf("%s: %s in %s is missing", what, want.meta.SOPInstanceUID, want.meta.TransferSyntaxUID.Name())
		return
	}
	if keeps == byteForByte {
		if ts := want.meta.TransferSyntaxUID; len(want.data)%2 == 1 && ts == dicom.DeflatedExplicitVRLittleEndian {
			want.data = append(slices.Clip(want.data), 0) // as a message must have it (PS3.5 section A.5)
		}
		if got.meta.TransferSyntaxUID != want.meta.TransferSyntaxUID || !bytes.Equal(got.data, want.data) {
			t.Errorf("%s: %d bytes in %s, want %d in %s", what, len(got.data), got.meta.TransferSyntaxUID.Name(), len(want.data), want.meta.TransferSyntaxUID.Name())
		}
		return
	}
	g, w := elements(t, got), elements(t, want)
	if encapsulated(got) != encapsulated(want) {
		delete(w, dicom.TagPixelData) // transcoded; whether rightly is not ours to judge
	}
	for _, tag := range slices.Sorted(maps.Keys(w)) {
		if keeps == pictures && !slices.Contains(shown, tag) {
			continue
		}
		if value, there := g[tag]; value != w[tag] && !(there && value == "" && w[tag] == sequence) { // one without items
			t.Errorf("%s: %v is %.60q, want %.60q (%s from %s)", what, tag, g[tag], w[tag], got.meta.TransferSyntaxUID.Name(), want.meta.TransferSyntaxUID.Name())
		}
	}
	for tag := range g {
		if _, ok := w[tag]; !ok && keeps == elementForElement {
			t.Errorf("%s: %v was not there before", what, tag)
		}
	}
}

// sequence stands for the value of one.
const sequence = "a sequence"

// shown are the elements by which an image is found and shown.
var shown = []dicom.Tag{
	dicom.TagSOPClassUID, dicom.TagSOPInstanceUID, dicom.TagStudyInstanceUID, dicom.TagSeriesInstanceUID, dicom.TagModality,
	dicom.TagRows, dicom.TagColumns, dicom.TagBitsAllocated, dicom.TagBitsStored, dicom.TagPixelRepresentation, dicom.TagPixelData,
}

func encapsulated(o object) bool {
	ts, _ := dicom.LookupTransferSyntax(o.meta.TransferSyntaxUID)
	return ts.Encapsulated
}

// elements maps the top level of a data set to values that do not depend on the encoding: without padding, little endian,
// of pixels in fragments the fragments alone. Group lengths and trailing padding are left out: the standard lets a
// sender drop them. Sequences count as there or not.
func elements(t *testing.T, o object) map[dicom.Tag]string {
	t.Helper()
	ts, _ := dicom.LookupTransferSyntax(o.meta.TransferSyntaxUID)
	data := o.data
	if ts.Deflated {
		var err error
		if data, err = io.ReadAll(flate.NewReader(bytes.NewReader(data))); err != nil {
			t.Error(err)
		}
		ts, _ = dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)
	}
	h, err := dicom.Scan(bytes.NewReader(data), ts, dicom.ScanOptions{Want: func(dicom.Tag) bool { return true }, MaxValue: 1 << 20})
	if err != nil {
		t.Error(err)
	}
	values := map[dicom.Tag]string{}
	for _, e := range h.Elements {
		if e.Tag.Element() == 0 || e.Tag == 0xFFFC_FFFC {
			continue
		}
		if item := "\xfe\xff\x00\xe0"; e.VR == "SQ" || e.Length == dicom.UndefinedLength || strings.HasPrefix(string(littleEndian(e.Value, "AT", ts.BigEndian)), item) {
			values[e.Tag] = sequence
			continue
		}
		values[e.Tag] = strings.TrimRight(string(littleEndian(e.Value, e.VR, ts.BigEndian)), " \x00")
	}
	if h.PixelData != 0 {
		pixels := data[h.PixelDataOffset:]
		if h.PixelDataLength != dicom.UndefinedLength {
			pixels = littleEndian(pixels[:h.PixelDataLength], "OW", ts.BigEndian)
		} else {
			pixels = fragments(pixels)
		}
		values[h.PixelData] = string(pixels)
	}
	return values
}

// littleEndian swaps the bytes of a value of numbers.
func littleEndian(b []byte, vr string, big bool) []byte {
	size := map[string]int{"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OL": 4, "OF": 4, "FD": 8, "OD": 8}[vr]
	if !big || size == 0 {
		return b
	}
	b = slices.Clone(b)
	for word := range slices.Chunk(b, size) {
		slices.Reverse(word)
	}
	return b
}

// fragments joins the fragments behind the offset table (PS3.5 section A.4).
func fragments(items []byte) []byte {
	var joined []byte
	for n := 0; len(items) >= 8 && binary.LittleEndian.Uint16(items[2:]) == 0xE000; n++ {
		length := binary.LittleEndian.Uint32(items[4:])
		if n > 0 {
			joined = append(joined, items[8:8+length]...)
		}
		items = items[8+length:]
	}
	return joined
}
