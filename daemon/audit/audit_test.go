package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ichwatch/daemon/audit"
)

func open(t *testing.T, path string) *audit.Trail {
	t.Helper()
	trail, err := audit.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	return trail
}

// written makes a trail of n records and gives its lines.
func written(t *testing.T, n int) (path string, lines [][]byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), audit.Name)
	trail := open(t, path)
	for i := range n {
		if err := trail.Append(audit.Record{Event: audit.Acknowledge, By: fmt.Sprintf("user %d", i), Alert: "a-1", Via: "page"}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, bytes.SplitAfter(text, []byte("\n"))[:n]
}

func TestAppendAndVerify(t *testing.T) {
	path, lines := written(t, 3)
	report, err := audit.Verify(bytes.NewReader(bytes.Join(lines, nil)))
	if err != nil || report.Records != 3 || report.Torn != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	trail := open(t, path) // again
	if seq, head := trail.Head(); seq != 3 || head != report.Head {
		t.Errorf("the head is %d %s, want 3 %s", seq, head, report.Head)
	}
	err = trail.Around(audit.Record{Event: audit.Verdict}, func() error { return errors.New("the alert was withdrawn") })
	if err == nil || err.Error() != "the alert was withdrawn" {
		t.Errorf("the error of the act is %v", err)
	}
	last, err := trail.Tail(2)
	if err != nil || len(last) != 2 || last[0].Result != audit.Asked || last[1].Result != "refused: the alert was withdrawn" || last[1].Seq != 5 {
		t.Errorf("the last records are %+v, %v", last, err)
	}
}

// Whatever is changed, taken out, put in or moved is found.
func TestVerifyFindsEveryChange(t *testing.T) {
	_, lines := written(t, 4)
	join := func(ls ...[]byte) []byte { return bytes.Join(ls, nil) }
	changed := bytes.Replace(lines[1], []byte("user 1"), []byte("user 9"), 1)
	for name, text := range map[string][]byte{
		"a name changed":    join(lines[0], changed, lines[2], lines[3]),
		"a line taken out":  join(lines[0], lines[2], lines[3]),
		"the first gone":    join(lines[1:]...),
		"a line doubled":    join(lines[0], lines[1], lines[1], lines[2]),
		"two lines swapped": join(lines[0], lines[2], lines[1], lines[3]),
		"noise put in":      join(lines[0], []byte("noise\n"), lines[1]),
		"noise at the end":  join(lines[0], []byte("noise\n")),
		"noise twice":       join(lines[0], []byte("noise\nmore\n"), lines[1]),
		"a member added":    join(lines[0], bytes.Replace(lines[1], []byte("{"), []byte(`{"x":1,`), 1), lines[2]),
		"a very long line":  join(lines[0], bytes.Repeat([]byte("x"), 1<<20)),
	} {
		if _, err := audit.Verify(bytes.NewReader(text)); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range len(lines) { // what a chain cannot show is told by the head
		if r, err := audit.Verify(bytes.NewReader(join(lines[:i]...))); err != nil || int(r.Records) != i {
			t.Errorf("the first %d lines: %+v, %v", i, r, err)
		}
	}
}

// A power cut may leave any part of the last line: the trail goes on, says so,
// and is whole.
func TestTornLine(t *testing.T) {
	path, lines := written(t, 2)
	for n := 1; n < len(lines[1]); n++ {
		if err := os.WriteFile(path, slices.Concat(lines[0], lines[1][:n]), 0o600); err != nil {
			t.Fatal(err)
		}
		trail := open(t, path)
		if err := trail.Append(audit.Record{Event: audit.LoggedIn, By: "after"}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		report, err := audit.Verify(bytes.NewReader(text))
		torn := 1
		if n == len(lines[1])-1 { // only the end is missing
			torn = 0
		}
		if err != nil || report.Records != 3 || report.Torn != torn {
			t.Fatalf("%d bytes: %+v, %v\n%s", n, report, err, text)
		}
		trail.Close()
	}
}

// Two processes, here two trails on one file, take turns.
func TestTwoWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), audit.Name)
	trails := []*audit.Trail{open(t, path), open(t, path)}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if err := trails[i%2].Append(audit.Record{Event: audit.Opened, Study: "s-1"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if r, err := audit.Verify(f); err != nil || r.Records != 40 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A broken trail is said to be so, and takes what comes next: answers go on.
func TestBrokenTrailGoesOn(t *testing.T) {
	path, lines := written(t, 3)
	if err := os.WriteFile(path, slices.Concat(lines[0], lines[2]), 0o600); err != nil {
		t.Fatal(err)
	}
	trail, err := audit.Open(path)
	if !errors.Is(err, audit.ErrBroken) || trail == nil {
		t.Fatalf("opened with %v", err)
	}
	defer trail.Close()
	if err := trail.Append(audit.Record{Event: audit.LoggedIn}); err != nil {
		t.Error(err)
	}
	text, _ := os.ReadFile(path)
	if !bytes.HasPrefix(text, slices.Concat(lines[0], lines[2])) {
		t.Error("what was there was changed")
	}
}

func TestCSV(t *testing.T) {
	var out strings.Builder
	write, flush := audit.CSV(&out)
	if err := errors.Join(write(audit.Record{Seq: 1, Event: audit.Verdict, By: "=cmd()", Detail: "a, b"}), flush()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "'=cmd()") || !strings.Contains(got, `"a, b"`) || !strings.HasPrefix(got, "seq,") {
		t.Error(got)
	}
}
