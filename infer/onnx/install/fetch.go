package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// release is where GitHub keeps the builds of a release: version, machine, version.
const release = "https://github.com/microsoft/onnxruntime/releases/download/v%s/onnxruntime-linux-%s-%s.tgz"

var releaseArch = map[string]string{"amd64": "x64", "arm64": "aarch64"}

// byHand is what a technician does where nothing can be fetched.
const byHand = "where there is no network, fetch `npm pack " + NPMPackage + "` elsewhere and name the file with --from"

// fetch brings a package into work and returns its path.
func fetch(ctx context.Context, work string, o Options) (string, error) {
	if npmArch[runtime.GOARCH] == "" {
		return "", fmt.Errorf("there is no build for %s; build ONNX Runtime %s from source and name it with --from", runtime.GOARCH, Version)
	}
	if npm, err := exec.LookPath("npm"); err == nil {
		return fromNPM(ctx, npm, work, o)
	}
	if o.SHA256 == "" {
		return "", fmt.Errorf("npm is not installed, which fetches %s; the release on GitHub would do, but its hash is not known here: install npm, or say --sha256; %s", NPMPackage, byHand)
	}
	return fromGitHub(ctx, work, o)
}

func fromNPM(ctx context.Context, npm, work string, o Options) (string, error) {
	o.Say("fetching the npm package %s (86 MB, takes a minute)", NPMPackage)
	c := exec.CommandContext(ctx, npm, "pack", "--silent", NPMPackage)
	c.Dir = work
	c.WaitDelay = time.Second
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm could not fetch %s: %w %.300s; %s", NPMPackage, err, out, byHand)
	}
	packed, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return "", fmt.Errorf("npm left %d packages of %s (%w)", len(packed), NPMPackage, err)
	}
	return packed[0], nil
}

func fromGitHub(ctx context.Context, work string, o Options) (_ string, err error) {
	url := fmt.Sprintf(release, Version, releaseArch[runtime.GOARCH], Version)
	o.Say("npm is not installed; fetching %s", url)
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	rs, err := http.DefaultClient.Do(rq)
	if err != nil {
		return "", fmt.Errorf("%w; %s", err, byHand)
	}
	defer rs.Body.Close()
	if rs.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s; %s", url, rs.Status, byHand)
	}
	f, err := os.Create(filepath.Join(work, "release.tgz"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	body := io.Reader(rs.Body)
	if o.Progress != nil {
		body = &counted{r: body, total: rs.ContentLength, tell: o.Progress}
	}
	if _, err := io.Copy(f, io.LimitReader(body, maxLibrary)); err != nil {
		return "", fmt.Errorf("%s broke off: %w; try again", url, err)
	}
	return f.Name(), nil
}

// counted tells how far a download is.
type counted struct {
	r           io.Reader
	done, total int64
	tell        func(done, total int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.tell(c.done, c.total)
	return n, err
}
