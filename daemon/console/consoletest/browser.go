// Package consoletest drives the page in a real Chromium, as a person would.
package consoletest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"ichwatch/dimse/dimsetest"
)

// patience is how long a step may take on a slow machine.
const patience = time.Minute

// Browser is a Chromium that knows nothing of any other.
type Browser struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	faults []string
}

// Open starts a Chromium until the test ends, which fails on any error of the
// page's scripts and on any breach of its policy. Without Chromium the test is
// skipped, or fails where ICHWATCH_REQUIRE_PEERS is set.
func Open(t testing.TB) *Browser {
	t.Helper()
	path := dimsetest.Program(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1360, 900),
		chromedp.Flag("no-sandbox", true), // it may run as root, on a page of our own
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.WSURLReadTimeout(time.Minute),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &Browser{t: t, ctx: ctx}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for it to end
		cancel()
		stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, fault := range b.faults {
			t.Errorf("in the browser: %s", fault)
		}
	})
	chromedp.ListenTarget(ctx, b.listen)
	b.Do("start", log.Enable(), network.Enable())
	return b
}

func (b *Browser) listen(event any) {
	fault := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		fault = e.ExceptionDetails.Error()
	case *log.EventEntryAdded:
		if e.Entry.Source == log.SourceSecurity || e.Entry.Level == log.LevelError && e.Entry.Source != log.SourceNetwork {
			fault = e.Entry.Text
		}
	}
	if fault != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, fault)
	}
}

// Do does something on the page; the test ends where it cannot be done.
func (b *Browser) Do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	timer := time.AfterFunc(patience, func() { b.t.Logf("%s: takes longer than %v", what, patience) })
	defer timer.Stop()
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(b.ctx, actions...) }()
	select {
	case err := <-done:
		if err != nil {
			b.t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(2 * patience):
		b.Shot("stuck")
		b.t.Fatalf("%s: not done after %v", what, 2*patience)
	}
}

// Until waits until an expression of JavaScript is true, on whatever page a click
// has led to.
func (b *Browser) Until(what, expression string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		var is bool
		err := chromedp.Run(b.ctx, chromedp.Evaluate("Boolean("+expression+")", &is))
		if err == nil && is {
			return
		}
		select {
		case <-tick.C: // between two pages there is none to ask
		case <-late:
			b.Shot("stuck")
			b.t.Fatalf("%s: never %s: %v\n%s", what, expression, err, b.Text("body"))
		}
	}
}

// Click clicks on what a selector finds, once it can be clicked: while it is
// drawn anew there is nothing to hit.
func (b *Browser) Click(selector string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		err := chromedp.Run(ctx, chromedp.Click(selector, chromedp.ByQuery))
		cancel()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			b.Shot("stuck")
			b.t.Fatalf("click %s: %v\n%s", selector, err, b.Text("body"))
		}
	}
}

// Text is what a person reads in an element.
func (b *Browser) Text(selector string) string {
	b.t.Helper()
	var text string
	b.Do("read "+selector, chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector), &text))
	return strings.Join(strings.Fields(text), " ")
}

// Value evaluates an expression of JavaScript into a Go value.
func (b *Browser) Value(expression string, into any) {
	b.t.Helper()
	b.Do("evaluate "+expression, chromedp.Evaluate(expression, into))
}

// LogIn logs in at the page of an address.
func (b *Browser) LogIn(base, name, password string) {
	b.t.Helper()
	b.Do("log in", chromedp.Navigate(base+"/login"), chromedp.SetValue("#name", name), chromedp.SetValue("#password", password),
		chromedp.Submit("form"), chromedp.WaitVisible("#main.list"))
}

// Screen is what a page is looked at on.
type Screen struct {
	Name          string
	Width, Height int64
	Scale         float64
	Mobile        bool
}

// The screens that people have.
var (
	Desktop = Screen{"desktop", 1360, 900, 1, false}
	Phone   = Screen{"phone", 390, 844, 2, true}
	Tablet  = Screen{"tablet", 820, 1180, 1, true}
	Wall    = Screen{"wall", 1920, 1080, 1, false}
)

// On puts the page on a screen, light or dark.
func (b *Browser) On(s Screen, theme string) {
	b.t.Helper()
	b.Do("on a "+s.Name,
		emulation.SetDeviceMetricsOverride(s.Width, s.Height, s.Scale, s.Mobile),
		emulation.SetTouchEmulationEnabled(s.Mobile),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}))
}

// Shot saves what is on the screen in the folder that ICHWATCH_SHOTS names, if it
// does.
func (b *Browser) Shot(name string) {
	dir := os.Getenv("ICHWATCH_SHOTS")
	if dir == "" {
		return
	}
	var picture []byte
	err := chromedp.Run(b.ctx, chromedp.ActionFunc(func(ctx context.Context) (err error) {
		picture, err = page.CaptureScreenshot().Do(ctx)
		return err
	}))
	if err == nil {
		err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644))
	}
	if err != nil {
		b.t.Errorf("screenshot %s: %v", name, err)
	}
}
