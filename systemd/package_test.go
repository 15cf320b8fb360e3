// Package systemd_test builds the package, looks at every file in it, and lives through its life on a machine that it boots
// for that: installed, upgraded, removed, purged.
package systemd_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// need returns the path of a program, and otherwise skips, or fails where every peer must be there.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, fmt.Sprintf("%s is missing: make peers", program))
	}
	return path
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("ICHWATCH_REQUIRE_PEERS") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// output runs a program and gives what it printed on standard output; it must succeed.
func output(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	c := exec.CommandContext(t.Context(), program, arguments...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(arguments, " "), err, out, stderr.String())
	}
	return string(out)
}

// build makes a package of this checkout.
func build(t *testing.T, arch, version string) string {
	t.Helper()
	for _, program := range []string{"dpkg-deb", "git", "gzip"} {
		need(t, program)
	}
	if arch == "arm64" && runtime.GOARCH != arch {
		need(t, "aarch64-linux-gnu-gcc")
	}
	dir := t.TempDir()
	output(t, "deb/build.sh", arch, version, dir)
	built, err := filepath.Glob(filepath.Join(dir, "*_"+arch+".deb"))
	if err != nil || len(built) != 1 {
		t.Fatalf("%s: %v, %v", arch, built, err)
	}
	return built[0]
}

// TestPackage looks at every file of the packages of both architectures.
func TestPackage(t *testing.T) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for arch, machine := range machines {
		t.Run(arch, func(t *testing.T) {
			deb := build(t, arch, "1.2.3-rc1")
			if got := strings.TrimSpace(output(t, "dpkg-deb", "--field", deb, "Architecture")); got != arch {
				t.Errorf("architecture %s", got)
			}
			// A candidate sorts before its release (deb-version(7)).
			if got := strings.TrimSpace(output(t, "dpkg-deb", "--field", deb, "Version")); got != "1.2.3~rc1" {
				t.Errorf("version %s", got)
			}
			root := t.TempDir()
			output(t, "dpkg-deb", "--extract", deb, root)
			checkFiles(t, deb)
			f, err := elf.Open(filepath.Join(root, "usr/bin/ichwatch"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Machine != machine || f.Type != elf.ET_DYN {
				t.Errorf("the program is %v %v, want %v, to be loaded anywhere", f.Machine, f.Type, machine)
			}
			checkDocumentation(t, root)
			checkUnits(t, root)
			if out, err := exec.CommandContext(t.Context(), need(t, "lintian"), "--fail-on", "error", "--allow-root", deb).CombinedOutput(); err != nil {
				t.Errorf("lintian: %v\n%s", err, out)
			}
		})
	}
}

// checkFiles holds the list of the package's files against what each may be.
func checkFiles(t *testing.T, deb string) {
	t.Helper()
	seen := map[string]bool{}
	for line := range strings.Lines(output(t, "dpkg-deb", "--contents", deb)) {
		fields := strings.Fields(line) // mode, owner, size, day, time, name
		mode, owner, name := fields[0], fields[1], strings.TrimPrefix(fields[5], ".")
		seen[name] = true
		want := "-rw-r--r--"
		switch {
		case name == "/usr/bin/ichwatch":
			want = "-rwxr-xr-x"
		case strings.HasSuffix(name, "/"):
			want = "drwxr-xr-x"
		}
		if mode != want || owner != "root/root" {
			t.Errorf("%s is %s of %s, want %s of root/root", name, mode, owner, want)
		}
		if strings.HasPrefix(name, "/etc/") || strings.HasPrefix(name, "/var/") {
			t.Errorf("%s belongs to the site, not to the package", name)
		}
	}
	for _, name := range []string{
		"/lib/systemd/system/ichwatch.service", "/lib/systemd/system/ichwatch.socket",
		"/usr/lib/sysusers.d/ichwatch.conf", "/usr/lib/tmpfiles.d/ichwatch.conf",
		"/usr/share/ichwatch/models/resnet18/model.onnx", "/usr/share/ichwatch/models/resnet18/manifest.yaml", "/usr/share/ichwatch/models/densenet121/MODEL_CARD.md",
		"/usr/share/man/man1/ichwatch.1.gz", "/usr/share/man/man1/ichwatch-queue-retry.1.gz",
		"/usr/share/bash-completion/completions/ichwatch", "/usr/share/zsh/vendor-completions/_ichwatch", "/usr/share/fish/vendor_completions.d/ichwatch.fish",
		"/usr/share/doc/ichwatch/README.md", "/usr/share/doc/ichwatch/copyright", "/usr/share/doc/ichwatch/LICENSES.gz", "/usr/share/doc/ichwatch/examples/ichwatch.yaml",
	} {
		if !seen[name] {
			t.Errorf("%s is not in the package", name)
		}
	}
}

// checkDocumentation reads the manual pages as man(1) does, and the bill of materials.
func checkDocumentation(t *testing.T, root string) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "usr/share/man/man1/*.1.gz"))
	if err != nil || len(pages) < 10 {
		t.Errorf("%d manual pages (%v)", len(pages), err)
	}
	for _, page := range pages {
		c := exec.CommandContext(t.Context(), need(t, "man"), "--warnings", "--local-file", page)
		c.Env = append(os.Environ(), "MANWIDTH=80", "LC_ALL=C.UTF-8", "MANROFFSEQ=")
		var stderr bytes.Buffer
		c.Stderr = &stderr
		if text, err := c.Output(); err != nil || stderr.Len() > 0 || !bytes.Contains(text, []byte("SYNOPSIS")) {
			t.Errorf("man %s: %v\n%s", filepath.Base(page), err, stderr.String())
		}
	}
	raw, err := os.ReadFile(filepath.Join(root, "usr/share/doc/ichwatch/ichwatch.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat, SpecVersion string
		Components             []struct {
			Type, Name, Version string
			Hashes              []struct{ Alg, Content string }
			Licenses            []struct{ License struct{ ID string } }
		}
	}
	if err := json.Unmarshal(raw, &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" {
		t.Errorf("%s %s", bom.BOMFormat, bom.SpecVersion)
	}
	kinds := map[string]int{}
	for _, c := range bom.Components {
		kinds[c.Type]++
		if c.Name != "std" && len(c.Hashes) == 0 || c.Type == "library" && len(c.Licenses) == 0 || c.Version == "" {
			t.Errorf("%s %s: no hash, licence or version", c.Name, c.Version)
		}
	}
	if kinds["library"] < 30 || kinds["machine-learning-model"] < 4 {
		t.Errorf("the bill of materials names %v", kinds)
	}
}

// checkUnits has systemd judge the units, as they lie in the package.
func checkUnits(t *testing.T, root string) {
	t.Helper()
	analyze := need(t, "systemd-analyze")
	units := filepath.Join(root, "lib/systemd/system")
	// The program is where the unit says, seen from the package's root.
	service, err := os.ReadFile(filepath.Join(units, "ichwatch.service"))
	if err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	moved := strings.ReplaceAll(string(service), "/usr/bin/ichwatch", "/bin/true")
	if err := os.WriteFile(filepath.Join(here, "ichwatch.service"), []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := os.ReadFile(filepath.Join(units, "ichwatch.socket"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(here, "ichwatch.socket"), socket, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", filepath.Join(here, "ichwatch.service"), filepath.Join(here, "ichwatch.socket"))
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// --threshold is in tenths: an exposure of 2.0 at most.
	c = exec.CommandContext(t.Context(), analyze, "security", "--no-pager", "--offline=true", "--threshold=20", filepath.Join(here, "ichwatch.service"))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
}

// TestPackageLife boots systemd on a copy of this machine and runs deb/lifecycle.sh there.
func TestPackageLife(t *testing.T) {
	nspawn := need(t, "systemd-nspawn")
	for _, program := range []string{"storescp", "echoscu", "man"} {
		need(t, program)
	}
	if os.Getuid() != 0 {
		t.Skip("a machine of its own is booted as root only")
	}
	library, err := filepath.Abs("../bin/libonnxruntime.so.1")
	if err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("ICHWATCH_ONNXRUNTIME"); path != "" {
		library = path
	}
	if _, err := os.Stat(library); err != nil {
		missing(t, "ONNX Runtime is missing: make runtime")
	}
	work := t.TempDir()
	for name, from := range map[string]string{
		"old.deb": build(t, runtime.GOARCH, "0.0.1"), "new.deb": build(t, runtime.GOARCH, "0.0.2"),
		"library.so": library, "lifecycle.sh": "deb/lifecycle.sh",
	} {
		output(t, "cp", from, filepath.Join(work, name))
	}
	machine := merged(t)
	const unit = `[Unit]
After=basic.target
Wants=basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/bash /package/lifecycle.sh /package/old.deb /package/new.deb /package/library.so
StandardOutput=append:/package/log
StandardError=append:/package/log
`
	if err := os.WriteFile(filepath.Join(machine, "etc/systemd/system/package-test.service"), []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(nspawn, "--directory="+machine, "--boot", "--quiet", "--register=no", "--keep-unit", "--private-network",
		"--bind="+work+":/package", "systemd.unit=package-test.service")
	var console bytes.Buffer
	c.Stdout, c.Stderr = &console, &console
	c.WaitDelay = 10 * time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	bound := time.AfterFunc(10*time.Minute, func() { _ = c.Process.Kill() })
	ended := c.Wait()
	bound.Stop()
	log, err := os.ReadFile(filepath.Join(work, "log"))
	if errors.Is(err, os.ErrNotExist) {
		missing(t, fmt.Sprintf("systemd does not boot in a container here (%v):\n%s", ended, console.String()))
	}
	t.Logf("%s", log)
	if !strings.HasSuffix(strings.TrimSpace(string(log)), "PASSED") {
		t.Errorf("the life of the package ended early (%v)", ended)
	}
}

// merged is this machine's file system with a layer over it that takes what is changed, and goes with the test.
func merged(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mount := func(arguments ...string) {
		t.Helper()
		output(t, "mount", arguments...)
		t.Cleanup(func() {
			if out, err := exec.Command("umount", arguments[len(arguments)-1]).CombinedOutput(); err != nil {
				t.Errorf("umount: %v\n%s", err, out)
			}
		})
	}
	layer, machine := filepath.Join(dir, "layer"), filepath.Join(dir, "machine")
	for _, d := range []string{layer, machine} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("-t", "tmpfs", "tmpfs", layer)
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(layer, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("-t", "overlay", "overlay", "-o", "lowerdir=/,upperdir="+filepath.Join(layer, "upper")+",workdir="+filepath.Join(layer, "work"), machine)
	// What makes dpkg start nothing here must not hold there (.ci/peers).
	if err := os.Remove(filepath.Join(machine, "usr/sbin/policy-rc.d")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return machine
}
