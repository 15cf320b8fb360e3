package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
)

// ErrNotRunning is matched where no daemon answers at the socket.
var ErrNotRunning = errors.New("the daemon does not run")

// Client speaks with the daemon that holds a spool.
type Client struct {
	http http.Client
}

// NewClient speaks with the daemon that holds the spool in a directory, if one
// does: the first call tells.
func NewClient(dir string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			address, folder, err := address(dir)
			if err != nil {
				return nil, err
			}
			if folder != nil {
				defer folder.Close()
			}
			return new(net.Dialer).DialContext(ctx, "unix", address)
		},
	}}}
}

// Status asks how the daemon is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Retry makes legs due at once.
func (c *Client) Retry(ctx context.Context, r Retry) (Changed, error) {
	var changed Changed
	return changed, c.call(ctx, http.MethodPost, "/v1/legs/retry", r, &changed)
}

// Park keeps legs back.
func (c *Client) Park(ctx context.Context, p Park) (Changed, error) {
	var changed Changed
	return changed, c.call(ctx, http.MethodPost, "/v1/legs/park", p, &changed)
}

// ActivateModels brings other models into service.
func (c *Client) ActivateModels(ctx context.Context, a Activate) (ModelChange, error) {
	var change ModelChange
	return change, c.call(ctx, http.MethodPost, "/v1/models/activate", a, &change)
}

// RollBackModels brings those before back.
func (c *Client) RollBackModels(ctx context.Context) (ModelChange, error) {
	var change ModelChange
	return change, c.call(ctx, http.MethodPost, "/v1/models/rollback", struct{}{}, &change)
}

// Relearn has the daemon forget what is usual of studies.
func (c *Client) Relearn(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/models/relearn", struct{}{}, &struct{}{})
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	rq, err := http.NewRequestWithContext(ctx, method, "http://ichwatch"+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	rsp, err := c.http.Do(rq)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return ErrNotRunning
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("speak with the daemon: %w (the socket is for root and the daemon's user: try sudo)", os.ErrPermission)
	case err != nil:
		return fmt.Errorf("speak with the daemon: %w", err)
	}
	defer rsp.Body.Close()
	d := json.NewDecoder(io.LimitReader(rsp.Body, maxBody))
	if rsp.StatusCode != http.StatusOK {
		var f fault
		if d.Decode(&f) != nil || f.Error == "" {
			f.Error = rsp.Status + ": is it another release?"
		}
		return fmt.Errorf("the daemon answered: %s", f.Error)
	}
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the daemon's answer cannot be read: %w", err)
	}
	return nil
}
