package app_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"ichwatch/alerts"
	"ichwatch/configs"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/console/consoletest"
	"ichwatch/daemon/console/users"
	"ichwatch/daemon/phantom"
	"ichwatch/dimse/dimsetest"
)

const pagePassword = "four words of mine"

// withPage adds a page with one user to a configuration.
func withPage(t *testing.T, cfg *configs.Config, role users.Role) {
	t.Helper()
	cfg.Console.Listen = "127.0.0.1:0"
	cfg.Console.UsersFile = filepath.Join(t.TempDir(), "users")
	u, err := users.New("anna", role, []byte(pagePassword))
	if err == nil {
		err = users.Add(cfg.Console.UsersFile, u)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPromise5_AnsweredOnThePage: the whole line, with nothing made up but the
// head. A scanner sends, the model suspects, the page shows it to a person in a
// browser without a reload, who looks at the slices and answers; the ledger and
// the trail have the answer.
func TestPromise5_AnsweredOnThePage(t *testing.T) {
	cfg, _, _ := wholeLine(t)
	withPage(t, cfg, users.Admin)
	files := writePhantom(t, phantom.Epidural, phantom.SetOptions{Seed: 2})
	d := start(t, cfg)
	base := "http://" + d.PageAddr().String()

	b := consoletest.Open(t)
	b.On(consoletest.Desktop, "dark")
	b.LogIn(base, "anna", pagePassword)
	b.Do("mark the page", chromedp.Evaluate(`window.samePage = true`, nil))
	d.scan(t, files...)
	b.Until("the alert is there without a reload", `window.samePage && document.querySelector(".alert.open h3")?.textContent.startsWith("Suspected epidural")`)
	b.Until("with its picture", `document.querySelector(".thumb img")?.naturalWidth > 0`)
	b.Shot("real-list-desktop-dark")
	b.Click(`.alert.open [data-act="open"]`)
	b.Until("the study is open", `document.querySelector("#panel")`)
	b.Until("the slice is drawn, with its sides and its score", `document.querySelector("#wait").hidden && document.querySelector("#canvas").dataset.slice
		&& document.querySelector(".side.left").textContent === "R" && document.querySelector("#c-score").textContent.startsWith("Epidural 0.")`)
	b.Until("the study is decided", `document.querySelector("#panel .outcome").textContent === "POSITIVE"`)
	b.Shot("real-study-desktop-dark")
	b.Click(`#panel [data-act="acknowledge"]`)
	b.Until("it is recorded", `document.querySelector("#panel .facts").textContent.includes("anna has it")`)
	b.Click(`#panel [data-act="confirmed"]`)
	b.Until("it is recorded", `document.querySelector('#panel [data-act="confirmed"]').getAttribute("aria-pressed") === "true"`)

	r := d.ledger(t)
	if len(r.Alerts) != 1 || r.Alerts[0].State != alerts.StateAcknowledged || r.Alerts[0].By != "anna" || r.Alerts[0].Via != "page" {
		t.Fatalf("the ledger has %+v", r.Alerts)
	}
	b.Do("the device", chromedp.Navigate(base+"/device"))
	b.Until("it knows who sent", `document.body.innerText.includes("STORESCU") && document.body.innerText.includes("resnet18-phantom")`)
	b.Do("the trail", chromedp.Navigate(base+"/trail"))
	b.Until("it is whole and has the answer", `document.body.innerText.includes("is whole") && document.body.innerText.includes("alert.verdict")`)
	if log := d.log.String(); strings.Contains(log, "PHANTOM^") || strings.Contains(log, pagePassword) {
		t.Error("the log has what it must not")
	}
	d.stop()
	f, err := os.Open(filepath.Join(d.spoolDir, audit.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	answered := 0
	if _, err := audit.Each(f, func(r audit.Record) error {
		if r.Result == audit.Done && (r.Event == audit.Acknowledge || r.Event == audit.Verdict) && r.By == "anna" {
			answered++
		}
		return nil
	}); err != nil || answered != 2 {
		t.Errorf("the trail has %d answers, %v", answered, err)
	}
}

// Over TLS, with a certificate that is replaced while the page is served.
func TestPageOverTLS(t *testing.T) {
	ca := dimsetest.NewCA(t, "site CA")
	cfg := config(t)
	withPage(t, cfg, users.Reader)
	first, firstKey := ca.Issue("127.0.0.1")
	dir := t.TempDir()
	cfg.Console.TLS = configs.ConsoleTLS{CertificateFile: filepath.Join(dir, "page.pem"), KeyFile: filepath.Join(dir, "page.key")}
	install := func(certificate, key string) {
		t.Helper()
		for from, to := range map[string]string{certificate: cfg.Console.TLS.CertificateFile, key: cfg.Console.TLS.KeyFile} {
			text, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	install(first, firstKey)
	d := start(t, cfg)

	text, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	ask := func() *http.Response {
		t.Helper()
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		c := http.Client{Transport: transport, Jar: jar}
		rs, err := c.PostForm("https://"+d.PageAddr().String()+"/login", url.Values{"name": {"anna"}, "password": {pagePassword}})
		if err != nil {
			t.Fatal(err)
		}
		defer rs.Body.Close()
		body, err := io.ReadAll(rs.Body)
		if err != nil || !strings.Contains(string(body), alerts.Disclaimer) || rs.StatusCode != http.StatusOK || rs.Request.URL.Path != "/" {
			t.Fatalf("%d at %s, %v", rs.StatusCode, rs.Request.URL, err)
		}
		if rs.ProtoMajor != 2 {
			t.Errorf("spoken was %s", rs.Proto)
		}
		return rs
	}
	before := ask().TLS.PeerCertificates[0]
	second, secondKey := ca.Issue("127.0.0.1")
	install(second, secondKey)
	if after := ask().TLS.PeerCertificates[0]; after.Equal(before) {
		t.Error("the new certificate was not taken")
	}
	rs, err := http.Get("http://" + d.PageAddr().String() + "/login")
	if err == nil {
		rs.Body.Close()
		if rs.StatusCode != http.StatusBadRequest {
			t.Errorf("in the clear: %d", rs.StatusCode)
		}
	}
}

// A page that cannot be served costs the page: the daemon receives, and says what
// is wrong.
func TestPromise3_ReceivingNeedsNoPage(t *testing.T) {
	for name, spoil := range map[string]func(c *configs.Console){
		"users": func(c *configs.Console) { c.UsersFile += ".none" },
		"certificate": func(c *configs.Console) {
			c.TLS = configs.ConsoleTLS{CertificateFile: c.UsersFile, KeyFile: c.UsersFile}
		},
		"address": func(c *configs.Console) { c.Listen = "192.0.2.1:9180" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			withPage(t, cfg, users.Reader)
			spoil(&cfg.Console)
			d := start(t, cfg)
			if d.PageAddr() != nil {
				t.Errorf("served at %v", d.PageAddr())
			}
			d.scan(t, writePhantom(t, phantom.Normal, phantom.SetOptions{Seed: 1, Rows: 64, Columns: 64, Slices: 1})...)
			if r := d.ledger(t); r.Durable != 1 {
				t.Errorf("received %+v", r)
			}
			if part := d.Status(t.Context()).Parts["page"]; part == "ok" || part == "" {
				t.Errorf("the page is said to be %q", part)
			}
		})
	}
}
