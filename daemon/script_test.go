package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ichwatch/daemon/app"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ichwatch": mortal})
}

// TestScripts runs the command line as a person would: testdata/scripts holds a script a subject.
func TestScripts(t *testing.T) {
	library, err := app.FindRuntime()
	if library != "" {
		library, err = filepath.Abs(library)
	}
	if err != nil {
		if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
			t.Fatal(err)
		}
		t.Log("the scripts that run a model are skipped:", err)
	}
	shipped, err := filepath.Abs(filepath.Join("..", "models"))
	if err != nil {
		t.Fatal(err)
	}
	ca := dimsetest.NewCA(t, "site CA")
	server, serverKey := ca.Issue("ichwatch.example.org")
	client, clientKey := ca.Issue("ct1.example.org")
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "testdata", "scripts"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("ICHWATCH_ONNXRUNTIME", library)
			env.Setenv("MODELS", shipped)
			env.Setenv("PORT", dimsetest.FreePort(t))
			env.Setenv("TLSPORT", dimsetest.FreePort(t))
			env.Setenv("CA", ca.File)
			env.Setenv("SERVER", server)
			env.Setenv("SERVERKEY", serverKey)
			env.Setenv("CLIENT", client)
			env.Setenv("CLIENTKEY", clientKey)
			env.Setenv("PACS_PORT", dimsetest.FreePort(t))
			return writePrivate(filepath.Join(env.WorkDir, "private.dcm"))
		},
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"listens": listens, "exits": exits, "until": until},
		Condition: func(cond string) (bool, error) { return cond == "runtime" && library != "", nil },
	})
}

// writePrivate writes an object of a manufacturer's own SOP class.
func writePrivate(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = dicom.WriteFileMeta(f, dicom.FileMeta{SOPClassUID: "1.2.840.113619.4.30", SOPInstanceUID: "1.2.3", TransferSyntaxUID: dicom.ExplicitVRLittleEndian})
	_, err2 := f.WriteString("\x08\x00\x60\x00CS\x02\x00CT")
	return errors.Join(err, err2, f.Close())
}

// listens PORT waits until somebody listens on that port of this machine.
func listens(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listens PORT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", args[0]))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("nobody listens on port %s: %v", args[0], err)
		}
	}
}

// exits CODE PROGRAM ARGUMENTS... checks a program's exit status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENTS...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%v: exit status %d, want %s", args[1:], got, args[0])
	}
}

// until REGEXP PROGRAM ARGUMENTS... runs a program until its output matches, whatever its exit status.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP PROGRAM ARGUMENTS...")
	}
	wanted, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		_ = ts.Exec(args[1], args[2:]...) // what counts is what it says
		if wanted.MatchString(ts.ReadFile("stdout")) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%v never said %s", args[1:], args[0])
		}
	}
}
