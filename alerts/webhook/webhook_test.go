package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ichwatch/alerts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	first  = []byte("0123456789abcdefghijklmn")
	second = []byte("nmlkjihgfedcba9876543210")
	entry  = alerts.Entry{ID: 1, Key: "s-key", Topic: alerts.TopicAlert, Payload: []byte(`{"alert_id":"a-1","seq":1}`), QoS: 1}
)

func line(secret []byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(secret) + "\n"
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// request is what a receiver got.
type request struct {
	header http.Header
	body   string
}

// verify checks a request as a receiver does, by the text of Standard Webhooks.
func (r request) verify(t *testing.T, secret []byte) {
	t.Helper()
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, r.header.Get("webhook-id")+"."+r.header.Get("webhook-timestamp")+"."+r.body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for signature := range strings.FieldsSeq(r.header.Get("webhook-signature")) {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return
		}
	}
	t.Errorf("%q holds no signature of this secret", r.header.Get("webhook-signature"))
}

// receiver answers over TLS with what status says, and hands on what it got.
func receiver(t *testing.T, status func() int) (w *Webhook, got <-chan request) {
	t.Helper()
	requests := make(chan request, 10)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		requests <- request{r.Header, string(body)}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status())
		_, _ = w.Write([]byte("you sent " + string(body)))
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	return &Webhook{URL: srv.URL + "/hook", CAFile: ca, SecretFile: write(t, "secrets", line(first)), Timeout: 5 * time.Second}, requests
}

func TestSignedAndDelivered(t *testing.T) {
	w, got := receiver(t, func() int { return http.StatusAccepted })
	w.SecretFile = write(t, "secrets", line(first)+line(second))
	now := time.Unix(1_700_000_000, 0)
	w.Now = func() time.Time { return now }
	if err := w.Check(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 2 {
		if err := w.Publish(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
		r := <-got
		r.verify(t, first)
		r.verify(t, second)
		if r.body != string(entry.Payload) || r.header.Get("Content-Type") != "application/json" || r.header.Get("Ichwatch-Topic") != "alert" {
			t.Errorf("got %+v", r)
		}
		ids = append(ids, r.header.Get("webhook-id")+r.header.Get("webhook-timestamp"))
		now = now.Add(time.Hour)
	}
	if ids[0] == ids[1] || ids[0][:36] != ids[1][:36] {
		t.Errorf("ids and times %v: want the same id at another time", ids)
	}
}

// Only 2xx delivers, and what the receiver says is not repeated.
func TestPromise5_WhatIsNotTakenIsNotDelivered(t *testing.T) {
	for status, says := range map[int]string{
		http.StatusMovedPermanently:    "redirects are not followed",
		http.StatusUnauthorized:        "compare the secret",
		http.StatusNotFound:            "compare its url",
		http.StatusTooManyRequests:     "overloaded or broken",
		http.StatusInternalServerError: "overloaded or broken",
	} {
		w, got := receiver(t, func() int { return status })
		err := w.Publish(t.Context(), entry)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "a-1") {
			t.Errorf("%d: %v", status, err)
		}
		if len(got) != 1 {
			t.Errorf("%d: %d requests, want one", status, len(got))
		}
	}
}

func TestPromise5_ReceiversThatCannotBeReached(t *testing.T) {
	good, _ := receiver(t, func() int { return http.StatusOK })
	for name, c := range map[string]struct {
		change func(*Webhook)
		says   string
	}{
		"nobody there":        {func(w *Webhook) { w.URL = "https://127.0.0.1:1/token" }, "cannot be reached"},
		"unknown authority":   {func(w *Webhook) { w.CAFile = "" }, "not to be trusted"},
		"another name":        {func(w *Webhook) { w.URL = strings.Replace(w.URL, "127.0.0.1", "localhost", 1) }, "not to be trusted"},
		"no secret":           {func(w *Webhook) { w.SecretFile += "x" }, "that the daemon can read"},
		"authorities missing": {func(w *Webhook) { w.CAFile += "x" }, "fit each other"},
	} {
		w := *good
		c.change(&w)
		if err := w.Publish(t.Context(), entry); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "token") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A receiver that hangs is given up, and so is one when we are told to stop.
func TestHangingReceiver(t *testing.T) {
	hang := make(chan struct{})
	w, got := receiver(t, func() int { <-hang; return http.StatusOK })
	t.Cleanup(func() { close(hang) })
	w.Timeout = 50 * time.Millisecond
	if err := w.Publish(t.Context(), entry); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer in time") {
		t.Errorf("err = %v", err)
	}
	w.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Publish(ctx, entry) }()
	<-got
	<-got
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
}

// TLS 1.1 and below is not spoken.
func TestOldTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	w := Webhook{URL: srv.URL, SecretFile: write(t, "secrets", line(first))}
	if err := w.Publish(t.Context(), entry); err == nil || !strings.Contains(err.Error(), "refused the TLS connection") {
		t.Errorf("err = %v", err)
	}
}

func TestCheck(t *testing.T) {
	good := Webhook{URL: "https://pager.example.org/hook?token=abc", SecretFile: write(t, "secrets", line(first))}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(*Webhook){
		"url must be https":     func(w *Webhook) { w.URL = "http://pager.example.org/abc" },
		"without a user":        func(w *Webhook) { w.URL = "https://me:abc@pager.example.org" },
		"no such file":          func(w *Webhook) { w.SecretFile += "x" },
		"must hold secrets":     func(w *Webhook) { w.SecretFile = write(t, "short", "whsec_YWJj\n") },
		"holds no secret":       func(w *Webhook) { w.SecretFile = write(t, "empty", "\n") },
		"no PEM certificate":    func(w *Webhook) { w.CAFile = w.SecretFile },
		"the certificate for":   func(w *Webhook) { w.CertificateFile = w.SecretFile },
		"webhook's authorities": func(w *Webhook) { w.CAFile = "none" },
	} {
		w := good
		change(&w)
		if err := w.Check(); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "abc") || strings.Contains(err.Error(), "YWJj") {
			t.Errorf("%s: %v", says, err)
		}
	}
}
