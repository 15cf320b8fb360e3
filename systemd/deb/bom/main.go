// Command bom tells what the package is made of: of the modules that were linked into a binary, of the models, and of the
// library that runs them it writes a CycloneDX bill of materials, and the licences of what is linked in full.
//
//	go run ./bom -binary ichwatch -source ../.. -version 1.2.3 -out DIR
//
// It fails where a module has no licence that it knows.
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/licensecheck"
	"gopkg.in/yaml.v3"
)

func main() {
	var (
		binary  = flag.String("binary", "", "the linked program")
		source  = flag.String("source", ".", "the repository it was built from")
		version = flag.String("version", "", "of the package")
		out     = flag.String("out", ".", "folder for ichwatch.cdx.json and LICENSES")
	)
	flag.Parse()
	if err := run(*binary, *source, *version, *out); err != nil {
		fmt.Fprintf(os.Stderr, "bom: %v\n", err)
		os.Exit(1)
	}
}

// part is something shipped, with its licence.
type part struct {
	name, version string
	purl          string // package URL; empty where there is none
	kind          cdx.ComponentType
	sha256        string // in hex; empty for modules, whose sum is below
	sum           string // of go.sum
	licences      []string
	texts         []string
	optional      bool // needed, but not in the package
}

func run(binary, source, version, out string) error {
	parts, err := modules(binary, source)
	if err != nil {
		return err
	}
	shipped, err := models(source)
	if err != nil {
		return err
	}
	parts = append(parts, shipped...)
	library, err := runtimes(source)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "LICENSES"), []byte(licenceTexts(parts)), 0o644); err != nil {
		return err
	}
	return writeBOM(filepath.Join(out, "ichwatch.cdx.json"), version, append(parts, library...))
}

// modules are those that the linker took, and Go itself.
func modules(binary, source string) ([]part, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	dirs, err := moduleDirs(source)
	if err != nil {
		return nil, err
	}
	parts := []part{{name: "std", version: strings.TrimPrefix(info.GoVersion, "go"), purl: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), kind: cdx.ComponentTypeLibrary}}
	if parts[0].licences, parts[0].texts, err = licences(runtime.GOROOT()); err != nil { //nolint:staticcheck // the toolchain that built it
		return nil, err
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		dir := dirs[m.Path+"@"+m.Version]
		if dir == "" {
			return nil, fmt.Errorf("%s %s was linked, but is not in the module cache", m.Path, m.Version)
		}
		p := part{name: m.Path, version: m.Version, purl: "pkg:golang/" + m.Path + "@" + m.Version, kind: cdx.ComponentTypeLibrary, sum: m.Sum}
		if p.licences, p.texts, err = licences(dir); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// moduleDirs are the folders of the repository's modules, by path and version.
func moduleDirs(source string) (map[string]string, error) {
	c := exec.Command("go", "list", "-m", "-json", "all")
	c.Dir, c.Stderr = source, os.Stderr
	listed, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m all: %w", err)
	}
	dirs := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(listed))); d.More(); {
		var m struct{ Path, Version, Dir string }
		if err := d.Decode(&m); err != nil {
			return nil, err
		}
		dirs[m.Path+"@"+m.Version] = m.Dir
	}
	return dirs, nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-.].*)?$`)

// licences finds the files of a module's root that carry its licence, and the SPDX names of what they say.
func licences(dir string) (names, texts []string, _ error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, err
		}
		texts = append(texts, string(text))
		for _, m := range licensecheck.Scan(text).Match {
			// Go's patent grant is no licence that SPDX lists; its text is among the texts.
			if m.ID != "GooglePatentsFile" && !m.IsURL && !slices.Contains(names, m.ID) {
				names = append(names, m.ID)
			}
		}
	}
	if len(names) == 0 {
		return nil, nil, errors.New("no licence was found that is known")
	}
	return names, texts, nil
}

// models are the folders under models/ that hold a manifest.
func models(source string) ([]part, error) {
	manifests, err := filepath.Glob(filepath.Join(source, "models", "*", "manifest.yaml"))
	if err != nil {
		return nil, err
	}
	var parts []part
	for _, path := range manifests {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var m struct {
			Name  string
			Model struct{ SHA256 string }
		}
		if err := yaml.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		parts = append(parts, part{name: m.Name, version: m.Model.SHA256[:12], kind: cdx.ComponentTypeMachineLearningModel, sha256: m.Model.SHA256})
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("no model in %s", filepath.Join(source, "models"))
	}
	return parts, nil
}

// runtimes are the builds of ONNX Runtime that the daemon knows by their hash, as its source says.
func runtimes(source string) ([]part, error) {
	known, err := os.ReadFile(filepath.Join(source, "infer", "onnx", "library.go"))
	if err != nil {
		return nil, err
	}
	var parts []part
	for _, m := range regexp.MustCompile(`"([0-9a-f]{64})": "(onnxruntime-node) ([\d.]+), (\w+)"`).FindAllStringSubmatch(string(known), -1) {
		parts = append(parts, part{
			name: "onnxruntime (" + m[4] + ")", version: m[3], purl: "pkg:npm/" + m[2] + "@" + m[3] + "?arch=" + m[4], kind: cdx.ComponentTypeLibrary,
			sha256: m[1], licences: []string{"MIT"}, optional: true,
		})
	}
	if len(parts) == 0 {
		return nil, errors.New("infer/onnx/library.go names no build of ONNX Runtime")
	}
	return parts, nil
}
