package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const ok = `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	skip := func(why string) string {
		return `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"TestX","Output":"=== RUN   TestX\n"}
{"Action":"output","Package":"p","Test":"TestX","Output":"    x_test.go:1: ` + why + `\n"}
{"Action":"output","Package":"p","Test":"TestX","Output":"--- SKIP: TestX (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestX"}
` + ok[strings.Index(ok, "\n")+1:]
	}
	for name, c := range map[string]struct {
		in   string
		code int
		ends []string
	}{
		"all well":           {ok, 0, []string{"skipped: 0", "", "ok  \tp\t0.1s"}},
		"a skip":             {skip("no large data here"), 0, []string{"skipped: 1", "  p TestX: x_test.go:1: no large data here", "", "ok  \tp\t0.1s"}},
		"a missing peer":     {skip("storescp is not installed"), 1, []string{"skipped: 1", "  FAIL, a peer is missing: p TestX: x_test.go:1: storescp is not installed", "", "ok  \tp\t0.1s"}},
		"a failed test":      {`{"Action":"fail","Package":"p","Test":"TestX"}` + "\n" + ok, 1, nil},
		"a failed build":     {`{"Action":"build-fail","ImportPath":"q"}` + "\n" + ok, 1, nil},
		"cut off":            {ok + `{"Action":"start","Package":"q"}`, 1, nil},
		"nothing":            {"", 1, nil},
		"go's own complaint": {"no Go files\n", 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if code := report(strings.NewReader(c.in), &out); code != c.code {
				t.Errorf("exit %d, want %d; output:\n%s", code, c.code, out.String())
			}
			if want := strings.Join(c.ends, "\n") + "\n"; c.ends != nil && !strings.HasSuffix(out.String(), want) {
				t.Errorf("ends with:\n%s\nwant:\n%s", out.String(), want)
			}
		})
	}
}
