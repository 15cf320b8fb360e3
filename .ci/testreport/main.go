// Command testreport reads `go test -json` and prints what a person wants of it:
// each package's own result line as it ends, the whole output of whatever fails,
// and at the end every skipped test with its reason, then the result lines again.
//
// It exits 1 when a test or a build failed, when the stream ends early, and when
// a test was skipped because a peer program is missing: such a run proves less
// than it seems to.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// peer finds the skips that must not happen here.
var peer = regexp.MustCompile(`(?i)\b(peers?|dcmtk|echoscu|storescu|storescp|dcmsend|dcmdump|dcmqrscp|dciodvfy|orthanc|odil|pixelmed|pynetdicom|dcmjs|mosquitto\w*)\b`)

func main() {
	os.Exit(report(os.Stdin, os.Stdout))
}

func report(in io.Reader, out io.Writer) (code int) {
	var (
		output  = map[[2]string][]string{} // of a running test or package
		running = map[string]bool{}        // packages
		skips   []string
		results []string
	)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // go itself, not a test
			continue
		}
		key := [2]string{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "build-fail":
			code = 1
		case "start":
			running[e.Package] = true
		case "output":
			output[key] = append(output[key], e.Output)
		case "pass", "skip", "fail":
			text := output[key]
			delete(output, key)
			if e.Action == "fail" {
				code = 1
				fmt.Fprint(out, strings.Join(text, ""))
			}
			if e.Test != "" {
				if e.Action == "skip" {
					skips = append(skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(text)))
				}
				continue
			}
			delete(running, e.Package)
			if result := lastLine(text, e.Package); result != "" {
				results = append(results, result)
				if e.Action != "fail" {
					fmt.Fprintln(out, result)
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(out, "testreport:", err)
		code = 1
	}
	for p := range running {
		fmt.Fprintln(out, "testreport: no result of", p)
		code = 1
	}
	if len(results) == 0 {
		fmt.Fprintln(out, "testreport: no package was tested")
		code = 1
	}

	fmt.Fprintf(out, "\nskipped: %d\n", len(skips))
	for _, s := range skips {
		mark := ""
		if peer.MatchString(s[strings.Index(s, ": "):]) {
			mark, code = "FAIL, a peer is missing: ", 1
		}
		fmt.Fprintln(out, "  "+mark+s)
	}
	fmt.Fprintln(out)
	for _, r := range results {
		fmt.Fprintln(out, r)
	}
	return code
}

// reason is what a skipped test said, without the frame that go test puts round it.
func reason(text []string) string {
	var said []string
	for _, line := range text {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "(no reason given)"
	}
	return strings.Join(said, " ")
}

// lastLine is the line that names the package: ok, FAIL or "no test files".
func lastLine(text []string, pkg string) string {
	for i := len(text) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(text[i]); strings.Contains(line, pkg) {
			return line
		}
	}
	return ""
}
