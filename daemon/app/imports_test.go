package app_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the path of go.mod, root its folder as seen from here.
const (
	module = "ichwatch"
	root   = "../.."
)

// may is the layout as a table: what each package may import of this module, a
// package or, with /... behind it, a tree. Its own tree is always allowed to a
// tree. A package without a line has no place in the layout, and fails.
//
// Imports run one way: the command line, the app that builds the line, the
// stations of the line, the spool between them, and below it three trees that
// know neither the daemon nor each other.
var may = map[string][]string{
	"daemon":      {"configs", "models", "daemon/...", "dimse/...", "infer/...", "alerts/..."},
	"daemon/demo": {"configs", "models", "daemon/app", "daemon/console/users", "daemon/spool", "daemon/phantom", "daemon/monitor", "dimse/...", "infer/...", "alerts/..."},
	"daemon/app": {
		"configs", "models", "daemon/receive", "daemon/triage", "daemon/forward", "daemon/commit", "daemon/console/...", "daemon/audit", "daemon/monitor", "daemon/control",
		"daemon/spool", "daemon/phantom", "dimse/...", "infer/...", "alerts/...",
	},

	"daemon/receive": station,
	"daemon/triage":  station,
	"daemon/forward": {"daemon/transcode", "daemon/spool", "dimse/...", "infer/...", "alerts/..."},
	"daemon/commit":  station,
	"daemon/monitor": station,
	"daemon/control": station,

	// The page, its users and sessions; and the trail of what people did.
	"daemon/console/...": append([]string{"daemon/audit"}, station...),
	"daemon/audit":       {},

	"daemon/spool":   {"dimse/...", "infer/...", "alerts/..."},
	"daemon/phantom": {"dimse/...", "infer/..."},

	// By hand: files to a peer, and what the site's acceptor is said to do.
	"daemon/send":        {"dimse/..."},
	"daemon/conformance": {"dimse/..."},

	// Pixels for who cannot read them compressed; of infer the codecs alone.
	"daemon/transcode": {"dimse/dicom", "infer/pixel"},

	// Offline: the station's way of looking at slices, without its line.
	"daemon/labelled": {"daemon/triage", "daemon/spool", "dimse/...", "infer/...", "alerts/..."},

	// Tests of what is installed.
	"systemd": {},

	"dimse/...":  {},
	"infer/...":  {},
	"alerts/...": {},
	"configs":    {"dimse/dicom"}, // for the names that may stand in the file
	"models":     {},
}

var station = []string{"daemon/spool", "dimse/...", "infer/...", "alerts/..."}

// inTests is what any test may import besides: the peer, the sender, and the studies made for
// tests.
var inTests = []string{"dimse/dimsetest", "daemon/send", "daemon/phantom"}

// soleImporters says through which packages a module from outside comes in.
var soleImporters = map[string][]string{
	"github.com/yalue/onnxruntime_go":     {"infer/onnx"},
	"github.com/eclipse/paho.mqtt.golang": {"alerts/mqtt"},
	"modernc.org/sqlite":                  {"daemon/spool"},
	"golang.org/x/crypto":                 {"dimse/identity"},
	"golang.org/x/time":                   {"dimse", "daemon/console/session"},
	"aead.dev/minisign":                   {"infer/service"},
	"github.com/spf13/viper":              {"configs"},
	"github.com/go-viper/mapstructure/v2": {"configs"},
	"github.com/spf13/cobra":              {"daemon"},
	"gonum.org/v1/gonum":                  {"infer/adapt"},
	"github.com/charmbracelet/bubbletea":  {"daemon", "daemon/demo"},
	"github.com/mochi-mqtt/server/v2":     {"daemon/demo"},
	"github.com/suyashkumar/dicom":        {"daemon/phantom", "daemon/triage"}, // never what the network sent, as it came
	"github.com/coreos/go-systemd/v22":    {"daemon", "daemon/app", "daemon/monitor"},
	"github.com/rogpeppe/go-internal":     {},
	"github.com/google/go-cmp":            {},
	"go.uber.org/goleak":                  {},
	"pgregory.net/rapid":                  {},
	"testing":                             {"dimse/dimsetest", "daemon/console/consoletest"},
	module + "/dimse/dimsetest":           {"dimse/dimsetest", "daemon/console/consoletest"},
	"github.com/chromedp":                 {"daemon/console/consoletest"},
	"github.com/grailbio/go-dicom":        {"dimse/command", "dimse/dicom"},
}

// listed is what go list says of a package.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	// -e: a package that does not compile for another reason still has imports.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestImportsRunOneWay(t *testing.T) {
	all := packages(t)
	if len(all) < 2 {
		t.Fatalf("go list found %d packages", len(all))
	}
	for _, p := range all {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		line := lineOf(from)
		if line == "" {
			t.Errorf("%s has no place in the layout; if it should have one, give it a line in may", from)
			continue
		}
		allowed := append([]string{line}, may[line]...)
		check := func(kind string, imports, allowed []string) {
			for _, path := range imports {
				to, ours := strings.CutPrefix(path, module+"/")
				if ours && !matches(to, allowed) {
					t.Errorf("%s imports %s%s; allowed: %s", from, to, kind, strings.Join(allowed, ", "))
				}
			}
		}
		check("", p.Imports, allowed)
		check(" in a test", p.TestImports, slices.Concat(allowed, inTests))
		check(" in a test", p.XTestImports, slices.Concat(allowed, inTests))
	}
}

// lineOf finds the line of may that holds for a package.
func lineOf(path string) string {
	if _, ok := may[path]; ok {
		return path
	}
	for line := range may {
		if strings.HasSuffix(line, "/...") && matches(path, []string{line}) {
			return line
		}
	}
	return ""
}

// matches says whether path is one of the packages or in one of the trees.
func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		tree, isTree := strings.CutSuffix(p, "/...")
		return path == tree || isTree && strings.HasPrefix(path, tree+"/")
	})
}

// What is imported from outside comes in by one door, where it can be watched
// and exchanged. Tests may use more.
func TestSoleImporters(t *testing.T) {
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, path := range p.Imports {
			for door, importers := range soleImporters {
				if (path == door || strings.HasPrefix(path, door+"/")) && !slices.Contains(importers, from) {
					t.Errorf("%s imports %s, which only %v may", from, path, importers)
				}
			}
		}
	}
}

// sources calls visit with every Go file of the module, its path from the root.
func sources(t *testing.T, visit func(path string, text []byte)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		short, err := filepath.Rel(root, path)
		n++
		visit(filepath.ToSlash(short), text)
		return err
	})
	if err != nil || n < 2 {
		t.Fatalf("read %d files: %v", n, err)
	}
}

// No file is longer than a person reads at once, and none hides behind a name
// that says nothing.
func TestFilesAndNames(t *testing.T) {
	const most = 800
	empty := []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "shared", "lib"}
	sources(t, func(path string, text []byte) {
		if lines := bytes.Count(text, []byte("\n")); lines > most {
			t.Errorf("%s has %d lines; at most %d", path, lines, most)
		}
		for name := range strings.SplitSeq(path, "/") {
			name = strings.TrimSuffix(strings.TrimSuffix(name, ".go"), "_test")
			if slices.Contains(empty, name) {
				t.Errorf("%s: the name %s says nothing", path, name)
			}
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.PackageClauseOnly)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		} else if slices.Contains(empty, strings.TrimSuffix(file.Name.Name, "_test")) {
			t.Errorf("%s: the package name %s says nothing", path, file.Name.Name)
		}
	})
}

// ban is a call that the house rules keep out of some files.
type ban struct {
	calls  []string // "os.Rename"
	where  func(path string, file *ast.File) bool
	except func(call *ast.CallExpr) bool
	why    string
}

var bans = []ban{
	{
		calls: []string{"os.Rename"},
		where: func(path string, _ *ast.File) bool {
			return !isTest(path) && !strings.HasPrefix(path, "daemon/spool/") && path != "infer/manifest/folder.go"
		},
		why: "only the spool and the writer of model folders rename, because only there the directory is synced too",
	},
	{
		calls: []string{"time.Sleep"},
		where: func(path string, file *ast.File) bool {
			return isTest(path) && !importsPackage(file, "testing/synctest")
		},
		why: "a test waits for what it waits for, or runs in a synctest bubble",
	},
	{
		calls:  []string{"strings.Contains", "strings.HasPrefix", "strings.HasSuffix", "strings.EqualFold"},
		where:  func(path string, _ *ast.File) bool { return !isTest(path) },
		except: func(call *ast.CallExpr) bool { return len(call.Args) == 0 || !isErrorText(call.Args[0]) },
		why:    "an error is known by errors.Is or errors.AsType, not by its words",
	},
}

func TestNoBannedCalls(t *testing.T) {
	files := token.NewFileSet()
	sources(t, func(path string, text []byte) {
		file, err := parser.ParseFile(files, path, text, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		for found, why := range banned(path, file) {
			t.Errorf("%s:%d: %s", path, files.Position(found).Line, why)
		}
	})
}

// banned finds the forbidden calls of one file, by their place.
func banned(path string, file *ast.File) map[token.Pos]string {
	found := map[token.Pos]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		for _, b := range bans {
			if slices.Contains(b.calls, nameOf(call)) && b.where(path, file) && (b.except == nil || !b.except(call)) {
				found[call.Pos()] = nameOf(call) + ": " + b.why
			}
		}
		return true
	})
	return found
}

// The bans find what they are for.
func TestBansBite(t *testing.T) {
	const source = `package p
import ("os"; "strings"; "time")
func f(err error) { os.Rename("a", "b"); strings.Contains(err.Error(), "x"); strings.Contains("a", "x"); time.Sleep(1) }`
	for path, want := range map[string]int{"daemon/forward/f.go": 2, "daemon/spool/f.go": 1, "infer/manifest/folder.go": 1, "infer/manifest/f.go": 2, "daemon/forward/f_test.go": 1} {
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := banned(path, file); len(got) != want {
			t.Errorf("%s: found %v, want %d", path, slices.Collect(maps.Values(got)), want)
		}
	}
}

func isTest(path string) bool {
	return strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "dimse/dimsetest/")
}

func importsPackage(file *ast.File, path string) bool {
	return slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
}

// nameOf is a call's package and function, "" where it has another form.
func nameOf(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		if p, ok := s.X.(*ast.Ident); ok {
			return p.Name + "." + s.Sel.Name
		}
	}
	return ""
}

// isErrorText says whether an expression is x.Error().
func isErrorText(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	s, ok := call.Fun.(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Error" && len(call.Args) == 0
}
