package demo

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"ichwatch/configs"
	"ichwatch/daemon/console/users"
)

// demoUser is who may log in to the page of a demo, with everything on it.
const demoUser = "demo"

// letIn gives the demo's page its one user, with a password that holds for this
// run alone, and an address: the usual one, so that a bookmark or a tunnel finds
// it again, or a free one where that is taken.
func (s *stage) letIn(cfg *configs.Config, dir string) error {
	password := strings.ToLower(rand.Text()[:12])
	u, err := users.New(demoUser, users.Admin, []byte(password))
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	cfg.Console.UsersFile = filepath.Join(dir, "users")
	if err := users.Add(cfg.Console.UsersFile, u); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	s.login = demoUser + " / " + password
	ln, err := net.Listen("tcp", cfg.Console.Listen)
	if err != nil {
		cfg.Console.Listen = "127.0.0.1:0"
		return nil
	}
	if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}
