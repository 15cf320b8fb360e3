package dimsetest

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Root is the folder of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = parent
	}
}

// Installed returns the path of a file that .ci/peers has put into bin/peers.
// Without it the test is skipped, or fails where ICHWATCH_REQUIRE_PEERS is set.
func Installed(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), "bin", "peers", name)
	if _, err := os.Stat(path); err != nil {
		missing(t, "a peer is missing, bin/peers/%s: make peers", name)
	}
	return path
}

// Pynetdicom returns the Python that has pynetdicom.
func Pynetdicom(t testing.TB) string {
	t.Helper()
	return Installed(t, "venv/bin/python")
}

// Dcmjs makes dcmjs-dimse known to Node.js for the length of the test and returns
// the program.
func Dcmjs(t testing.TB) string {
	t.Helper()
	Installed(t, "node_modules/dcmjs-dimse")
	t.Setenv("NODE_PATH", Installed(t, "node_modules"))
	return Program(t, "node")
}

// Script is the path of a script in testdata/peers.
func Script(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(Root(t), "testdata", "peers", name)
}

// PixelMed returns the arguments with which Java runs a class of PixelMed, as
// Debian installs it.
func PixelMed(t testing.TB, class string, args ...string) []string {
	t.Helper()
	const jar = "/usr/share/java/pixelmed.jar"
	if _, err := os.Stat(jar); err != nil {
		missing(t, "pixelmed is not installed (Debian and Ubuntu: apt-get install pixelmed-apps)")
	}
	return append([]string{"-cp", jar, "com.pixelmed.network." + class}, args...)
}

// Orthanc is a running Orthanc that stores what it is sent under any called AE
// title.
type Orthanc struct {
	Port string // DICOM, on loopback
	REST string // root of its HTTP interface
}

// StartOrthanc runs Orthanc until the test ends.
func StartOrthanc(t testing.TB) Orthanc {
	t.Helper()
	dir, port, httpPort := t.TempDir(), FreePort(t), FreePort(t)
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // FreePort gives digits
	conf, err := json.Marshal(map[string]any{
		"Name": "test", "StorageDirectory": dir, "IndexDirectory": dir,
		"DicomAet": "ORTHANC", "DicomPort": number(port), "DicomCheckCalledAet": false, "DicomAlwaysAllowStore": true,
		"HttpPort": number(httpPort), "RemoteAccessAllowed": false, "AuthenticationEnabled": false,
		"OverwriteInstances": true, "UnknownSopClassAccepted": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "orthanc.json")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	Start(t, port, "Orthanc", file)
	o := Orthanc{port, "http://" + net.JoinHostPort("127.0.0.1", httpPort)}
	// Its DICOM side comes first.
	for deadline := time.Now().Add(Timeout); ; {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", httpPort), Timeout)
		if err == nil {
			conn.Close()
			return o
		}
		if time.Now().After(deadline) {
			t.Fatalf("Orthanc's REST interface: %v", err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Do makes a request of the REST interface and decodes its answer, JSON, into v;
// into a *[]byte it goes as it is.
func (o Orthanc) Do(t testing.TB, method, path string, v any) {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), method, o.REST+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	rsp, err := client.Do(rq)
	if err != nil {
		t.Fatalf("Orthanc: %v", err)
	}
	defer rsp.Body.Close()
	if rsp.StatusCode != http.StatusOK {
		t.Fatalf("Orthanc: %s %s: %s", method, path, rsp.Status)
	}
	if raw, ok := v.(*[]byte); ok {
		*raw, err = io.ReadAll(rsp.Body)
	} else if v != nil {
		err = json.NewDecoder(rsp.Body).Decode(v)
	}
	if err != nil {
		t.Fatalf("Orthanc: %s %s: %v", method, path, err)
	}
}

// Files are the Part 10 files of all instances.
func (o Orthanc) Files(t testing.TB) [][]byte {
	t.Helper()
	var ids []string
	o.Do(t, http.MethodGet, "/instances", &ids)
	files := make([][]byte, len(ids))
	for i, id := range ids {
		o.Do(t, http.MethodGet, "/instances/"+id+"/file", &files[i])
	}
	return files
}

// Clear removes all instances.
func (o Orthanc) Clear(t testing.TB) {
	t.Helper()
	var ids []string
	o.Do(t, http.MethodGet, "/instances", &ids)
	for _, id := range ids {
		o.Do(t, http.MethodDelete, "/instances/"+id, nil)
	}
}

// missing skips the test, or fails it where peers are required, as in CI.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
